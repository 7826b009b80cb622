import CShims
import Domain

/// The bodies of ties: the order key, the facts, and at the end the value as last judged.
extension Matcher {
  /// Facts behind so many bytes are written absolute, so that taking one in never reads more than this.
  static let absoluteFrom = 1_024
  /// In a body of no more bytes a change of a row takes the place of the image before when it comes, although all has to
  /// be read for it. In a larger one that waits until it has grown, or is judged.
  static let siftedUpTo = 4_096

  @inline(__always)
  func bodyLength(_ slot: Int) -> Int {
    let length = ties[slot].bodyLength
    return length == Tie.isLong ? longBodies[UInt32(slot)]! : Int(length)
  }

  @inline(__always)
  mutating func setBodyLength(_ slot: Int, _ length: Int) {
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
    if body[2] < 255 { return ByteView(base: body + 3, count: Int(body[2])) }
    return ByteView(base: body + 5, count: Int(body[3]) | Int(body[4]) << 8)
  }

  /// Bytes of the balance and the key.
  @inline(__always)
  static func keySize(_ count: Int) -> Int { count < 255 ? count + 3 : count + 5 }

  /// Zero where posted − expected may be zero in every role and currency.
  @inline(__always)
  func balance(_ slot: Int) -> UInt16 { UnsafeRawPointer(bodyStart(slot)).load(as: UInt16.self) }

  /// The facts of a tie; valid until the store next allocates.
  @inline(__always)
  func facts(_ slot: Int) -> FactCursor {
    Matcher.facts(bodyStart(slot), length: bodyLength(slot), isValued: ties[slot].has(Tie.Flag.valued))
  }

  @inline(__always)
  static func facts(
    _ body: UnsafePointer<UInt8>, length: Int, isValued: Bool, firstTime_ms: Int64 = ShortForm.time_ms
  ) -> FactCursor {
    let key = key(body)
    let end = body + length
    return FactCursor(
      body + keySize(key.count), end: isValued ? end - TieValue.size(endingAt: end) : end, key: key,
      firstTime_ms: firstTime_ms)
  }

  /// A body with nothing but the key.
  @inline(__always)
  mutating func makeBody(_ key: ByteView) -> (ref: StoreRef, length: Int) {
    let length = Matcher.keySize(key.count)
    let ref = store.allocate(length)
    Matcher.write(key, balance: 0, at: store.pointer(ref))
    return (ref, length)
  }

  /// A body with the key and one fact.
  @inline(__always)
  mutating func makeBody(
    _ key: ByteView, with fact: UnsafePointer<Fact>, balance: UInt16
  ) -> (ref: StoreRef, length: Int) {
    let start = UnsafePointer(dimensionSpace)
    var nothing = FactCursor(start, end: start, key: key)
    let plan = FactPlan(fact, after: &nothing, isAbsolute: false)
    let keyBytes = Matcher.keySize(key.count)
    let ref = store.allocate(keyBytes &+ plan.size)
    let body = store.pointer(ref)
    Matcher.write(key, balance: balance, at: body)
    plan.write(fact, at: body.assumingMemoryBound(to: UInt8.self) + keyBytes)
    return (ref, keyBytes &+ plan.size)
  }

  @inline(__always)
  static func write(_ key: ByteView, balance: UInt16, at start: UnsafeMutableRawPointer) {
    start.storeBytes(of: balance, as: UInt16.self)
    var at = start.assumingMemoryBound(to: UInt8.self)
    if key.count < 255 {
      at[2] = UInt8(truncatingIfNeeded: key.count)
      at += 3
    } else {
      at[2] = 255
      at[3] = UInt8(truncatingIfNeeded: key.count)
      at[4] = UInt8(truncatingIfNeeded: key.count >> 8)
      at += 5
    }
    copyShort(from: key, to: at)
  }

  /// Granules of the space of a body that is so long.
  @inline(__always)
  func bodyGranules(_ slot: Int, _ length: Int) -> Int { RecordStore.granules(length) &+ ties[slot].room }

  /// Makes a body as long as wanted; what there was stays as far as there is room.
  /// - Returns: whether it is large and has grown: time to look for what was delivered twice.
  @inline(__always)
  @discardableResult
  mutating func resizeBody(_ slot: Int, from length: Int, to wanted: Int) -> Bool {
    let (old, new) = (bodyGranules(slot, length), RecordStore.granules(wanted))
    setBodyLength(slot, wanted)
    let room = old &- new
    if room == 0 || room > 0 && room <= Tie.mostRoom && old <= RecordStore.exactClasses {
      ties[slot].room = room
      return false
    }
    let ref = store.allocate(wanted)
    let body = ties[slot].body
    store.pointer(ref).copyMemory(from: store.pointer(body), byteCount: min(length, wanted))
    store.free(body, granules: old)
    ties[slot].body = ref
    ties[slot].room = 0
    return new > old && new > RecordStore.exactClasses
  }

  /// Writes a fact behind those of a tie.
  /// - Parameter isMeeting: It is the first of its side: the others find their counterpart, and are counted.
  /// - Returns: as `resizeBody`; also where the fact is one that has come before, or another image of it, and the body is
  ///   not too large to be looked through for each.
  @inline(__always)
  mutating func append(_ fact: UnsafePointer<Fact>, to slot: Int, balance: UInt16, isMeeting: Bool = false) -> Bool {
    let length = bodyLength(slot)
    let isAbsolute = length > Matcher.absoluteFrom
    let start = bodyStart(slot)
    let isValued = ties[slot].has(Tie.Flag.valued)
    let trailer = isValued ? TieValue.size(endingAt: start + length) : 0
    let key = Matcher.key(start)
    var cursor = FactCursor(start + Matcher.keySize(key.count), end: start + (length - trailer), key: key)
    var watch = IdWatch(fact)
    if isAbsolute {
      if isMeeting { countMeetings(cursor, at: fact.pointee.time_ms) }
    } else if isMeeting {
      while cursor.next() {
        quality!.meet(source: cursor.source, time_ms: cursor.time_ms, at: fact.pointee.time_ms)
        countMatched(cursor)
      }
    } else {
      while cursor.next() { watch.look(at: &cursor) }
    }
    let plan = FactPlan(fact, after: &cursor, isAbsolute: isAbsolute)
    let hasGrown = write(fact, plan, to: slot, balance: balance, length: length, trailer: trailer)
    return hasGrown || watch.isFound || isAbsolute && fact.pointee.isChange && length <= Matcher.siftedUpTo
  }

  /// - Parameters:
  ///   - length: Of the body before.
  ///   - trailer: How much of it is the value.
  /// - Returns: as `resizeBody`.
  @inline(__always)
  @discardableResult
  mutating func write(
    _ fact: UnsafePointer<Fact>, _ plan: FactPlan, to slot: Int, balance: UInt16, length: Int, trailer: Int
  ) -> Bool {
    let hasGrown = resizeBody(slot, from: length, to: length + plan.size)
    let body = bodyStart(slot)
    let place = body + (length - trailer)
    if trailer > 0 {
      UnsafeMutableRawPointer(place + plan.size).copyMemory(from: place, byteCount: trailer)
    }
    plan.write(fact, at: place)
    Matcher.rebalance(body, by: balance)
    return hasGrown
  }

  @inline(__always)
  static func rebalance(_ body: UnsafeMutablePointer<UInt8>, by change: UInt16) {
    let raw = UnsafeMutableRawPointer(body)
    raw.storeBytes(of: raw.load(as: UInt16.self) &+ change, as: UInt16.self)
  }

  /// Writes the facts of a tie anew: those of `gathered` that were not dropped. Their texts must not be views of the
  /// store. The value is gone with them.
  mutating func rewriteBody(_ slot: Int, _ facts: [Fact], where isKept: (Int) -> Bool) {
    if !longVoices.isEmpty { longVoices[UInt32(slot)] = nil }
    let length = bodyLength(slot)
    let keyBytes = Matcher.keySize(key(slot).count)
    var room = keyBytes + 64
    for fact in facts {
      room +=
        192 + fact.document.count + fact.customer.count + fact.dimensionBytes.count + fact.journal.count
        + fact.id.count + fact.reverses.count + fact.line.count
    }
    let space = texts.take(room)
    space.update(from: bodyStart(slot), count: keyBytes)
    let key = Matcher.key(space)
    var end = space + keyBytes
    var cursor = FactCursor(end, end: end, key: key)
    var balance: UInt16 = 0
    for (at, fact) in facts.enumerated() where isKept(at) {
      let isAbsolute = end - space > Matcher.absoluteFrom
      if isAbsolute { cursor = FactCursor(end, end: end, key: key) }
      withUnsafePointer(to: fact) {
        let plan = FactPlan($0, after: &cursor, isAbsolute: isAbsolute)
        precondition(end - space + plan.size <= room, "a fact takes more room than was thought")
        plan.write($0, at: end)
        end += plan.size
        if fact.flags & Fact.Flag.rejected == 0 { balance &+= self.balance(of: $0) }
      }
      cursor.extend(to: end)
      _ = cursor.next()
    }
    UnsafeMutableRawPointer(space).storeBytes(of: balance, as: UInt16.self)
    ties[slot].set(Tie.Flag.valued, false)
    resizeBody(slot, from: length, to: end - space)
    bodyStart(slot).update(from: space, count: end - space)
  }

  /// What a fact adds to the balance, as `account` returns it.
  private func balance(of fact: UnsafePointer<Fact>) -> UInt16 {
    guard fact.pointee.flags & Fact.Flag.delete == 0 else { return 0 }
    if fact.pointee.isPosting { return Matcher.balance(fact.pointee.amount, fact.pointee.code, fact.pointee.currency) }
    var balance: UInt16 = 0
    for entry in expectations(of: fact) {
      balance &-= Matcher.balance(
        Int64(entry.sign) &* fact.amount(entry.component), entry.role.rawValue, fact.pointee.currency)
    }
    return balance
  }

  // MARK: - The value

  /// The size of the tie as last judged; zero where it has not been. Inlined: a call would copy the matcher.
  @inline(__always)
  func value(_ slot: Int) -> TieValue {
    guard ties[slot].has(Tie.Flag.valued) else { return TieValue() }
    let body = bodyStart(slot)
    return TieValue(endingAt: body + bodyLength(slot), of: body)
  }

  /// The currency that the first fact of a body is written with; nil where there is no fact, or it has none.
  /// - Parameter factsEnd: Where the facts end.
  @inline(__always)
  static func firstCurrency(_ body: UnsafePointer<UInt8>, factsEnd: Int) -> Currency? {
    let first = body + keySize(key(body).count)
    guard first < body + factsEnd,
      UnsafeRawPointer(first).loadUnaligned(as: UInt32.self) & FactCursor.Bit.sameCurrency == 0
    else { return nil }
    return writtenCurrency(body)
  }

  /// As `firstCurrency`, of a body of which that is known to be there.
  @inline(__always)
  static func writtenCurrency(_ body: UnsafePointer<UInt8>) -> Currency {
    var at = body + keySize(key(body).count)
    let heads = FactCursor.load(&at, UInt32.self)
    if heads & FactCursor.Bit.hasMore != 0 { at += 2 }
    if heads & FactCursor.Bit.isPosting == 0 { at += 2 &+ Int(heads >> 23 & 1) }
    return Currency(rawValue: FactCursor.load(&at, UInt16.self) & 0x7fff)
  }

  /// Writes the value at the end of the body.
  mutating func setValue(_ slot: Int, _ value: TieValue) {
    let length = bodyLength(slot)
    var old = 0
    if ties[slot].has(Tie.Flag.valued) { old = TieValue.size(endingAt: bodyStart(slot) + length) }
    let first = Matcher.firstCurrency(bodyStart(slot), factsEnd: length - old)
    resizeBody(slot, from: length, to: length - old + value.size(first: first))
    value.write(at: bodyStart(slot) + (length - old), first: first)
    ties[slot].set(Tie.Flag.valued)
  }
}
