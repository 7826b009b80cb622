import Domain

/// Looks for a fact with the id, the side and the source of a record that is on its way in, while the facts of its tie are
/// read for it anyway. As good as all are told by their last byte.
struct IdWatch {
  private let id: ByteView
  private let end: UInt8
  private let isPosting: Bool
  private let source: UInt16
  private(set) var isFound = false

  @inline(__always)
  init(_ id: ByteView, source: UInt16, isPosting: Bool) {
    (self.id, self.source, self.isPosting) = (id, source, isPosting)
    end = id.isEmpty ? 0 : id.base.unsafelyUnwrapped[id.count &- 1]
  }

  @inline(__always)
  init(_ fact: UnsafePointer<Fact>) {
    self.init(fact.pointee.id, source: fact.pointee.source, isPosting: fact.pointee.isPosting)
  }

  @inline(__always)
  mutating func look(at fact: inout FactCursor) {
    let end = fact.idEnd
    if end != self.end, end != 0 { return }
    if fact.isPosting != isPosting || !fact.hasId || fact.source != source { return }
    let (base, tail) = (fact.idBase, fact.idTail)
    guard base.count &+ tail.count == id.count else { return }
    isFound = isFound || id.starts(with: base) && id.dropped(base.count).elementsEqual(tail)
  }
}
