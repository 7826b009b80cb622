import CShims
import Domain

/// A value of a record that the scanner passed, as its layout will know it. Offsets are from the record's start.
struct LayoutNote: BitwiseCopyable {
  /// First byte of the value (the quote of a string), and the byte behind it.
  var first: Int
  var end: Int
  var slot: Int
  var depth: Int
  /// `TIEOUT_STEP_…`
  var kind: Int
}

/// The notes of one record.
struct LayoutNotes: ~Copyable {
  /// Records of more values are not learned; a layout so long would not repeat.
  static let maximumCount = 512
  /// Unmapped objects up to this many bytes are walked value by value, which is faster than skipping while their shape
  /// repeats. Longer ones (the schema inside a Debezium message has thousands of bytes) would fill the tree.
  static let maximumInlined = 256

  private let notes: UnsafeMutablePointer<LayoutNote>
  /// May run beyond the maximum while the inside of something large is passed.
  var count = 0
  private(set) var isTaking = false

  init() { notes = .allocate(capacity: LayoutNotes.maximumCount) }
  deinit { notes.deallocate() }

  mutating func begin(_ isTaking: Bool) {
    self.isTaking = isTaking
    count = 0
  }

  @inline(__always)
  mutating func add(_ note: LayoutNote) {
    if count < LayoutNotes.maximumCount { (notes + count).initialize(to: note) }
    count += 1
  }

  var isComplete: Bool { count <= LayoutNotes.maximumCount }

  subscript(index: Int) -> LayoutNote {
    precondition(index < count && index < LayoutNotes.maximumCount)
    return notes[index]
  }
}

/// The layouts learned from the records of one source: see `RecordLayout.h`.
struct RecordLayouts: ~Copyable {
  /// 64 KiB a source and worker: some forty layouts of flat records that share nothing, hundreds that share a start.
  static let maximumSteps = 1_024
  /// Children of one step. More come of keys that are data, and looking through them costs more than scanning.
  static let maximumSiblings = 8
  /// Where a step has no room for another child, so many misses are not learned: trying costs more than it brings.
  static let pausedMisses = 64
  /// A full tree is forgotten where it missed more than half of so many records: the source has changed.
  static let reviewedRecords = 1_024

  let steps: UnsafeMutablePointer<tieout_step>
  private(set) var count = 0
  private var isFull = false
  /// Misses until the next record is learned.
  private var pause = 0
  private var records = 0
  private var misses = 0
  /// Records since the start that took the whole scanner though layouts had been learned.
  private(set) var totalMisses = 0
  private let isUsed: Bool
  /// The new steps of the record that is being learned.
  private var chain: [tieout_step] = []

  init(isUsed: Bool) {
    self.isUsed = isUsed
    let memory = UnsafeMutableRawPointer.allocate(
      byteCount: RecordLayouts.maximumSteps * MemoryLayout<tieout_step>.stride, alignment: 64)
    steps = memory.bindMemory(to: tieout_step.self, capacity: RecordLayouts.maximumSteps)
  }

  deinit { UnsafeMutableRawPointer(steps).deallocate() }

  var isEmpty: Bool { count == 0 }
  /// Whether the record that is about to be scanned should be learned.
  var wantsMore: Bool { isUsed && !isFull && pause == 0 }

  /// Counts a record that took the whole scanner though there were layouts.
  mutating func missed() {
    misses += 1
    totalMisses += 1
    if pause > 0 { pause -= 1 }
    guard isFull else { return }
    if misses * 2 > RecordLayouts.reviewedRecords {
      count = 0
      isFull = false
      misses = 0
      records = 0
    }
  }

  @inline(__always)
  mutating func walked() {
    records &+= 1
    if records == RecordLayouts.reviewedRecords {
      records = 0
      misses = 0
    }
  }

  /// Adds the layout of a record that the scanner has found well-formed.
  mutating func learn(_ notes: borrowing LayoutNotes, _ start: UnsafePointer<UInt8>, _ total: Int) {
    chain.removeAll(keepingCapacity: true)
    var from = 0
    for index in 0..<notes.count {
      let note = notes[index]
      addLiteral(start + from, note.first - from, note)
      from = note.end
    }
    addLiteral(
      start + from, total - from, LayoutNote(first: from, end: total, slot: 0, depth: 0, kind: TIEOUT_STEP_END))
    insert()
  }

  private mutating func addLiteral(_ base: UnsafePointer<UInt8>, _ count: Int, _ note: LayoutNote) {
    var base = base
    var count = count
    while count > Int(TIEOUT_LITERAL_BYTES) {
      chain.append(step(base, Int(TIEOUT_LITERAL_BYTES), TIEOUT_STEP_PART, note))
      base += Int(TIEOUT_LITERAL_BYTES)
      count -= Int(TIEOUT_LITERAL_BYTES)
    }
    chain.append(step(base, count, note.kind, note))
  }

  private func step(_ base: UnsafePointer<UInt8>, _ count: Int, _ kind: Int, _ note: LayoutNote) -> tieout_step {
    var step = tieout_step()
    withUnsafeMutableBytes(of: &step.literal) { $0.copyMemory(from: UnsafeRawBufferPointer(start: base, count: count)) }
    step.mask = UInt32(truncatingIfNeeded: UInt64(1) << UInt64(count) &- 1)
    step.count = UInt8(count)
    step.kind = UInt8(kind)
    step.slot_bytes = UInt32(note.slot * MemoryLayout<CapturedValue>.stride)
    step.opening = kind <= TIEOUT_STEP_SPARE ? UInt16(UInt8(ascii: "\"")) : .max
    step.depth = UInt32(note.depth)
    step.quotes = UInt8(UnsafeBufferPointer(start: base, count: count).count { $0 == UInt8(ascii: "\"") })
    return step
  }

  private mutating func insert() {
    var at = 0
    var shared = 0
    var last = -1
    // Walk along what is known.
    while shared < chain.count, count > 0 {
      var siblings = 1
      while !RecordLayouts.isSame(steps + at, chain[shared]), steps[at].sibling != 0 {
        at = Int(steps[at].sibling)
        siblings += 1
      }
      guard RecordLayouts.isSame(steps + at, chain[shared]) else {
        guard siblings < RecordLayouts.maximumSiblings else {
          pause = RecordLayouts.pausedMisses
          return
        }
        last = at
        break
      }
      at += 1
      shared += 1
    }
    guard shared < chain.count else { return }
    guard chain.count - shared <= RecordLayouts.maximumSteps - count else {
      isFull = true
      return
    }
    if last >= 0 { steps[last].sibling = UInt32(count) }
    for index in shared..<chain.count {
      (steps + count).initialize(to: chain[index])
      count += 1
    }
  }

  private static func isSame(_ known: UnsafePointer<tieout_step>, _ step: tieout_step) -> Bool {
    guard known.pointee.count == step.count, known.pointee.kind == step.kind,
      known.pointee.slot_bytes == step.slot_bytes,
      known.pointee.depth == step.depth
    else { return false }
    return withUnsafeBytes(of: step.literal) { new in
      withUnsafeBytes(of: known.pointee.literal) { $0.elementsEqual(new) }
    }
  }
}

extension JSONScanner {
  var misses: Int { layouts.totalMisses }

  /// Pages are at least as large on every system; what a payload shares a page with can be read.
  private static let pageBytes: UInt = 4_096

  /// Whether bytes that a walk looks at behind the text might lie on another page than its last byte.
  @inline(__always)
  static func endsAtPage(_ text: ByteView) -> Bool {
    let last = UInt(bitPattern: text.base) &+ UInt(bitPattern: text.count) &- 1
    return last & (pageBytes - 1) + UInt(TIEOUT_OVERREAD_BYTES) >= pageBytes
  }

  /// Walks along a learned layout. Returns false where the whole scanner has to decide.
  @inline(__always)
  mutating func walk() -> Bool {
    guard !layouts.isEmpty else { return false }
    layouts.walked()
    clear()
    place.pointee.start = start
    place.pointee.cursor = start
    place.pointee.end = end
    place.pointee.step = 0
    while true {
      let outcome = walker(layouts.steps, values, place)
      if outcome == TIEOUT_WALK_DONE {
        isObject = true
        return true
      }
      guard outcome == TIEOUT_WALK_HELP, help() else {
        layouts.missed()
        return false
      }
    }
  }

  /// Scans one value for the walk with all that the grammar allows; false where it is no such value.
  @inline(never)
  private mutating func help() -> Bool {
    guard place.pointee.cursor < end else { return false }
    let step = layouts.steps + Int(place.pointee.step)
    cursor = place.pointee.cursor
    do throws(JSONFault) {
      switch cursor.pointee {
      case UInt8(ascii: "\""):
        cursor += 1
        let first = cursor
        let isEscaped = try scanString()
        tieout_slot(values, step).pointee = CapturedValue(
          base: first, count: cursor - 1 - first, kind: isEscaped ? .escapedString : .string)
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        try scanValue(node: -1, depth: Int(step.pointee.depth))
      default:
        let first = cursor
        try scanNumber()
        tieout_slot(values, step).pointee = CapturedValue(base: first, count: cursor - first, kind: .number)
      }
    } catch {
      return false
    }
    place.pointee.cursor = cursor
    place.pointee.step += 1
    return true
  }

  mutating func learn() {
    guard notes.isComplete, layouts.wantsMore else { return }
    layouts.learn(notes, start, end - start)
  }
}
