import Domain

/// A writer's schema, compiled against the paths of a mapping: steps that are walked along a record, in plain memory.
///
/// What no path asks for is skipped by the same steps, with a slot of −1. Names decide: a field that the writer's schema
/// does not have is absent, one that it has and nobody maps is passed over, whatever its type.
final class AvroProgram {
  struct Step: BitwiseCopyable {
    var kind: AvroSchema.Kind
    var logical: Logical
    /// Where the value goes; −1 where nobody reads it.
    var slot: Int32 = -1
    var firstEdge: Int32 = 0
    /// Fields, branches, symbols; of arrays and maps the items that are mapped, behind which stands that of all others.
    var edgeCount: Int32 = 0
    /// Bytes of a fixed.
    var size: Int32 = 0
    var scale: Int32 = 0
  }

  enum Logical: UInt8, BitwiseCopyable {
    case none, decimal, date, timestampMillis, timestampMicros, localMillis, localMicros
  }

  struct Edge: BitwiseCopyable {
    var step: Int32
    /// Of an item of an array.
    var index: Int32 = 0
    /// Key of an item of a map, or a symbol.
    var name = ByteView.empty
  }

  private(set) var steps: [Step] = []
  private(set) var edges: [Edge] = []
  private let texts = PlanTexts()
  private let nodes: [PathNode]

  private struct Place: Hashable {
    var schema: ObjectIdentifier
    var node: Int
  }
  private var known: [Place: Int32] = [:]

  init(_ schema: AvroSchema, nodes: [PathNode]) {
    self.nodes = nodes
    _ = compile(schema, 0)
    known = [:]
  }

  private func child(_ node: Int, _ key: String) -> Int {
    guard node >= 0 else { return -1 }
    let view = texts.intern(key)
    guard let at = nodes[node].keys.firstIndex(where: { $0.elementsEqual(view) }) else { return -1 }
    return nodes[node].children[at]
  }

  /// A type that refers to itself comes back to a step that is known: below what nobody maps at the latest, because the
  /// paths have an end.
  private func compile(_ schema: AvroSchema, _ node: Int) -> Int32 {
    let place = Place(schema: ObjectIdentifier(schema), node: node)
    if let at = known[place] { return at }
    let at = Int32(steps.count)
    known[place] = at
    var step = Step(kind: schema.kind, logical: .none, size: Int32(schema.size))
    if node >= 0 { step.slot = Int32(nodes[node].slot) }
    switch schema.logical {
    case .none: break
    case .decimal(let scale): (step.logical, step.scale) = (.decimal, Int32(scale))
    case .date: step.logical = .date
    case .timestampMillis: step.logical = .timestampMillis
    case .timestampMicros: step.logical = .timestampMicros
    case .localTimestampMillis: step.logical = .localMillis
    case .localTimestampMicros: step.logical = .localMicros
    }
    steps.append(step)
    var made: [Edge] = []
    switch schema.kind {
    case .record: made = schema.fields.map { Edge(step: compile($0.type, child(node, $0.name))) }
    case .union: made = schema.branches.map { Edge(step: compile($0, node)) }
    case .enumeration: made = schema.symbols.map { Edge(step: -1, name: texts.intern($0)) }
    case .array:
      if node >= 0 {
        for (index, child) in zip(nodes[node].indexes, nodes[node].indexChildren) {
          made.append(Edge(step: compile(schema.branches[0], child), index: Int32(clamping: index)))
        }
      }
      made.append(Edge(step: compile(schema.branches[0], -1)))
    case .map:
      if node >= 0 {
        for (key, child) in zip(nodes[node].keys, nodes[node].children) {
          made.append(Edge(step: compile(schema.branches[0], child), name: key))
        }
      }
      made.append(Edge(step: compile(schema.branches[0], -1)))
    default: break
    }
    steps[Int(at)].firstEdge = Int32(edges.count)
    steps[Int(at)].edgeCount = Int32(made.count)
    edges += made
    return at
  }
}
