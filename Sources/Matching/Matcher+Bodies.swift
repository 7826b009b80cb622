import CShims
import Domain

/// The bodies of ties: the order key, the facts, and at the end the value as last judged.
extension Matcher {
  /// Facts behind so many bytes are written absolute, so that taking one in never reads more than this.
  static let absoluteFrom = 1_024

  @inline(__always)
  func bodyLength(_ slot: Int) -> Int {
    let length = ties[slot].bodyLength
    return length == Tie.isLong ? longBodies[UInt32(slot)]! : Int(length)
  }

  @inline(__always)
  private mutating func setBodyLength(_ slot: Int, _ length: Int) {
    if length < Int(Tie.isLong) {
      if ties[slot].bodyLength == Tie.isLong { longBodies[UInt32(slot)] = nil }
      ties[slot].bodyLength = UInt16(length)
    } else {
      ties[slot].bodyLength = Tie.isLong
      longBodies[UInt32(slot)] = length
    }
  }

  @inline(__always)
  func bodyStart(_ slot: Int) -> UnsafeMutablePointer<UInt8> {
    store.pointer(ties[slot].body).assumingMemoryBound(to: UInt8.self)
  }

  /// The key of a tie; valid until the store next allocates.
  @inline(__always)
  func key(_ slot: Int) -> ByteView { Matcher.key(bodyStart(slot)) }

  @inline(__always)
  static func key(_ body: UnsafePointer<UInt8>) -> ByteView {
    if body[0] < 255 { return ByteView(base: body + 1, count: Int(body[0])) }
    return ByteView(base: body + 3, count: Int(body[1]) | Int(body[2]) << 8)
  }

  static func keySize(_ count: Int) -> Int { count < 255 ? count + 1 : count + 3 }

  /// The facts of a tie; valid until the store next allocates.
  @inline(__always)
  func facts(_ slot: Int) -> FactCursor {
    Matcher.facts(bodyStart(slot), length: bodyLength(slot), isValued: ties[slot].has(Tie.Flag.valued))
  }

  @inline(__always)
  static func facts(_ body: UnsafePointer<UInt8>, length: Int, isValued: Bool) -> FactCursor {
    let key = key(body)
    let end = body + length
    return FactCursor(
      body + keySize(key.count), end: isValued ? end - TieValue.size(endingAt: end) : end, key: key)
  }

  /// A body with nothing but the key.
  mutating func makeBody(_ key: ByteView) -> (ref: StoreRef, length: Int) {
    let length = Matcher.keySize(key.count)
    let ref = store.allocate(length)
    var at = store.pointer(ref).assumingMemoryBound(to: UInt8.self)
    if key.count < 255 {
      at[0] = UInt8(key.count)
      at += 1
    } else {
      at[0] = 255
      at[1] = UInt8(truncatingIfNeeded: key.count)
      at[2] = UInt8(truncatingIfNeeded: key.count >> 8)
      at += 3
    }
    if key.count > 0 { at.update(from: key.base!, count: key.count) }
    return (ref, length)
  }

  /// Makes a body as long as wanted; what there was stays as far as there is room.
  /// - Returns: whether it is large and has grown: time to look for what was delivered twice.
  @inline(__always)
  @discardableResult
  mutating func resizeBody(_ slot: Int, from length: Int, to wanted: Int) -> Bool {
    let (old, new) = (RecordStore.granules(length), RecordStore.granules(wanted))
    setBodyLength(slot, wanted)
    guard old != new else { return false }
    let ref = store.allocate(wanted)
    let body = ties[slot].body
    store.pointer(ref).copyMemory(from: store.pointer(body), byteCount: min(length, wanted))
    store.free(body, granules: old)
    ties[slot].body = ref
    return new > old && new > RecordStore.exactClasses
  }

  /// Writes a fact behind those of a tie.
  /// - Returns: as `resizeBody`.
  @inline(__always)
  mutating func append(_ fact: Fact, to slot: Int) -> Bool {
    let length = bodyLength(slot)
    let isAbsolute = length > Matcher.absoluteFrom
    let start = bodyStart(slot)
    let isValued = ties[slot].has(Tie.Flag.valued)
    let trailer = isValued ? TieValue.size(endingAt: start + length) : 0
    var cursor = Matcher.facts(start, length: length, isValued: isValued)
    if isAbsolute {
      cursor = FactCursor(start, end: start, key: cursor.key)
    } else {
      while cursor.next() {}
    }
    let plan = cursor.plan(fact, isAbsolute: isAbsolute)
    let hasGrown = resizeBody(slot, from: length, to: length + plan.size)
    let place = bodyStart(slot) + (length - trailer)
    if trailer > 0 {
      UnsafeMutableRawPointer(place + plan.size).copyMemory(from: place, byteCount: trailer)
    }
    FactCursor.write(fact, plan, at: place)
    return hasGrown
  }

  /// Writes the facts of a tie anew: those of `gathered` that were not dropped. Their texts must not be views of the
  /// store. The value is gone with them.
  mutating func rewriteBody(_ slot: Int, _ facts: [Fact], where isKept: (Int) -> Bool) {
    let length = bodyLength(slot)
    let keyBytes = Matcher.keySize(key(slot).count)
    var room = keyBytes + 64
    for fact in facts {
      room +=
        192 + fact.document.count + fact.customer.count + fact.dimensionBytes.count + fact.journal.count
        + fact.id.count + fact.reverses.count
    }
    let space = texts.take(room)
    space.update(from: bodyStart(slot), count: keyBytes)
    let key = Matcher.key(space)
    var end = space + keyBytes
    var cursor = FactCursor(end, end: end, key: key)
    for (at, fact) in facts.enumerated() where isKept(at) {
      let isAbsolute = end - space > Matcher.absoluteFrom
      if isAbsolute { cursor = FactCursor(end, end: end, key: key) }
      let plan = cursor.plan(fact, isAbsolute: isAbsolute)
      FactCursor.write(fact, plan, at: end)
      end += plan.size
      cursor.extend(to: end)
      _ = cursor.next()
    }
    ties[slot].set(Tie.Flag.valued, false)
    resizeBody(slot, from: length, to: end - space)
    bodyStart(slot).update(from: space, count: end - space)
  }

  // MARK: - The value

  /// The size of the tie as last judged; zero where it has not been.
  func value(_ slot: Int) -> TieValue {
    ties[slot].has(Tie.Flag.valued) ? TieValue(endingAt: bodyStart(slot) + bodyLength(slot)) : TieValue()
  }

  /// Writes the value at the end of the body.
  mutating func setValue(_ slot: Int, _ value: TieValue) {
    let length = bodyLength(slot)
    var old = 0
    if ties[slot].has(Tie.Flag.valued) { old = TieValue.size(endingAt: bodyStart(slot) + length) }
    resizeBody(slot, from: length, to: length - old + value.size)
    value.write(at: bodyStart(slot) + (length - old))
    ties[slot].set(Tie.Flag.valued)
  }
}
