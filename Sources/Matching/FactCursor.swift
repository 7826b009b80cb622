import Domain

/// Reads the facts of a tie's body one after the other, and says how one more is written behind them.
///
/// A body is the order key followed by the facts in the order of arrival. A fact is written in terms of those before
/// it: what is the same as last time (currency, source, date, document, customer, dimensions, journal) costs a bit, an
/// id that continues the journal's, the document's or the order's number costs its tail, times are differences and
/// amounts take the bytes that they need. Four postings of one journal so take about ten bytes each.
///
///     heads   UInt32: code(5) isPosting(1) sameCurrency(1) hasMore(1)
///                     document(2) customer(2) dimensions(2) id(2)
///                     date(2) period(2) sameSource(1) isAbsolute(1) journal(2), for order events hasLines(1)
///                     width of the time's difference(4), of each amount(4), in bytes
///     more    UInt8:  flags(5) hasReverses(1), where hasMore
///     mask    UInt16  order events
///     currency UInt16, source UInt16, lines UInt16, offset Int64, identity UInt64: each where it is wanted
///     time, date Int32, period Int32, amounts
///     texts   document, customer, dimensions, journal, id, reverses: UInt8 length (255: UInt16 follows), bytes
///
/// An absolute fact refers to nothing before it: what a large body ends with, so that appending never reads it all.
struct FactCursor {
  private(set) var at: UnsafePointer<UInt8>
  private(set) var end: UnsafePointer<UInt8>
  let key: ByteView

  // The fact that was read last.
  private(set) var isPosting = false
  private(set) var code: UInt8 = 0
  private(set) var flags: UInt16 = 0
  private(set) var mask: UInt16 = 0
  private(set) var lineCount: UInt16 = 0
  private(set) var amountWidth = 0
  private(set) var amountsAt: UnsafePointer<UInt8>
  private(set) var period: Int32 = 0
  private(set) var identity: UInt64 = 0
  private(set) var document: ByteView = .empty
  private(set) var customer: ByteView = .empty
  private(set) var dimensions: ByteView = .empty
  private(set) var journal: ByteView = .empty
  private(set) var idBase: ByteView = .empty
  private(set) var idTail: ByteView = .empty
  private(set) var reverses: ByteView = .empty

  // What the next one may refer to.
  private(set) var currency = Currency.none
  private(set) var source: UInt16 = 0
  private(set) var time_ms: Int64 = 0
  private(set) var date_d: Int32 = absentDate
  private(set) var offset: Int64 = 0
  private(set) var hasSource = false
  private var lastPeriod: Int32 = 0
  private var lastDocument: ByteView = .empty
  private var lastCustomer: ByteView = .empty
  private var lastDimensions: ByteView = .empty
  private var lastJournal: ByteView = .empty

  /// - Parameters:
  ///   - start: The first fact; 64 bytes behind `end` may be read, whatever they hold.
  @inline(__always)
  init(_ start: UnsafePointer<UInt8>, end: UnsafePointer<UInt8>, key: ByteView) {
    at = start
    amountsAt = start
    self.end = end
    self.key = key
  }

  enum Text {
    static let none: UInt32 = 0
    static let literal: UInt32 = 1
    static let same: UInt32 = 2
    /// Ids only: the journal or document, and a tail; the order key, and a tail.
    static let continues: UInt32 = 2
    static let continuesKey: UInt32 = 3
  }

  enum Date {
    static let same: UInt32 = 0
    static let ofTime: UInt32 = 1
    static let literal: UInt32 = 2
    static let absent: UInt32 = 3
  }

  enum Period {
    static let none: UInt32 = 0
    static let same: UInt32 = 1
    static let literal: UInt32 = 2
  }

  @inline(__always)
  private mutating func load<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type) -> Value {
    let value = UnsafeRawPointer(at).loadUnaligned(as: Value.self)
    at += MemoryLayout<Value>.size
    return Value(littleEndian: value)
  }

  @inline(__always)
  private static func number(_ place: UnsafePointer<UInt8>, width: Int) -> Int64 {
    let raw = UInt64(littleEndian: UnsafeRawPointer(place).loadUnaligned(as: UInt64.self))
    let bits = raw & ((UInt64(1) << UInt64(8 * width)) &- 1)
    return Int64(bitPattern: bits >> 1) ^ -Int64(bitPattern: bits & 1)
  }

  @inline(__always)
  private mutating func literal() -> ByteView {
    var count = Int(at.pointee)
    at += 1
    if count == 255 { count = Int(load(UInt16.self)) }
    let text = ByteView(base: at, count: count)
    at += count
    return text
  }

  /// One of the amounts, by its place among those that there are.
  @inline(__always)
  func amount(at place: Int) -> Int64 { FactCursor.number(amountsAt + place * amountWidth, width: amountWidth) }

  /// The amount of a component of an order event, 0 where it has none.
  @inline(__always)
  func amount(_ component: AmountComponent) -> Int64 {
    let bit = UInt16(1) << UInt16(component.rawValue)
    guard mask & bit != 0 else { return 0 }
    return amount(at: (mask & (bit - 1)).nonzeroBitCount)
  }

  /// Reads the next fact. False at the end, and where the bytes are no facts.
  @inline(__always)
  mutating func next() -> Bool {
    guard at < end else { return false }
    let heads = load(UInt32.self)
    if heads & 1 << 21 != 0 { forget() }
    code = UInt8(truncatingIfNeeded: heads & 31)
    isPosting = heads & 1 << 5 != 0
    var hasReverses = false
    flags = 0
    if heads & 1 << 7 != 0 {
      let more = load(UInt8.self)
      flags = UInt16(more & 31)
      hasReverses = more & 32 != 0
    }
    mask = isPosting ? 1 : load(UInt16.self)
    if heads & 1 << 6 == 0 { currency = Currency(rawValue: load(UInt16.self) & 0x7fff) }
    if heads & 1 << 20 == 0 {
      source = load(UInt16.self)
      hasSource = true
    }
    lineCount = !isPosting && heads & 1 << 22 != 0 ? load(UInt16.self) : 0
    let idMode = heads >> 14 & 3
    if idMode == Text.none || flags & (Fact.Flag.upsert | Fact.Flag.delete) != 0 { offset = load(Int64.self) }
    identity = idMode == Text.none ? load(UInt64.self) : 0
    let timeWidth = Int(heads >> 24 & 15)
    time_ms = time_ms &+ FactCursor.number(at, width: timeWidth)
    at += timeWidth
    switch heads >> 16 & 3 {
    case Date.same: break
    case Date.ofTime: date_d = day(ofMilliseconds: time_ms)
    case Date.literal: date_d = load(Int32.self)
    default: date_d = absentDate
    }
    switch heads >> 18 & 3 {
    case Period.none: period = 0
    case Period.same: period = lastPeriod
    default:
      period = load(Int32.self)
      lastPeriod = period
    }
    amountWidth = Int(heads >> 28 & 15)
    amountsAt = at
    at += amountWidth * mask.nonzeroBitCount
    switch heads >> 8 & 3 {
    case Text.literal:
      document = literal()
      lastDocument = document
    case Text.same: document = lastDocument
    default: document = .empty
    }
    switch heads >> 10 & 3 {
    case Text.literal:
      customer = literal()
      lastCustomer = customer
    case Text.same: customer = lastCustomer
    default: customer = .empty
    }
    switch heads >> 12 & 3 {
    case Text.literal:
      dimensions = literal()
      lastDimensions = dimensions
    case Text.same: dimensions = lastDimensions
    default: dimensions = .empty
    }
    journal = .empty
    if isPosting {
      switch heads >> 22 & 3 {
      case Text.literal:
        journal = literal()
        lastJournal = journal
      case Text.same: journal = lastJournal
      default: break
      }
    }
    switch idMode {
    case Text.none:
      idBase = .empty
      idTail = .empty
    case Text.literal:
      idBase = .empty
      idTail = literal()
    case Text.continues:
      idBase = isPosting ? journal : document
      idTail = literal()
    default:
      idBase = key
      idTail = literal()
    }
    reverses = hasReverses ? literal() : .empty
    return at <= end
  }

  /// More has been written.
  mutating func extend(to end: UnsafePointer<UInt8>) { self.end = end }

  /// As before the first fact.
  private mutating func forget() {
    currency = .none
    hasSource = false
    time_ms = 0
    date_d = absentDate
    lastPeriod = 0
    lastDocument = .empty
    lastCustomer = .empty
    lastDimensions = .empty
    lastJournal = .empty
  }

  // MARK: - Writing

  /// How a fact is written.
  struct Plan {
    fileprivate var heads: UInt32 = 0
    fileprivate var timeDelta: UInt64 = 0
    fileprivate var idTail: ByteView = .empty
    /// Bytes that it takes.
    fileprivate(set) var size = 4
  }

  @inline(__always)
  private static func zigzag(_ value: Int64) -> UInt64 { UInt64(bitPattern: value << 1 ^ value >> 63) }

  @inline(__always)
  private static func width(_ value: UInt64) -> Int { (71 - value.leadingZeroBitCount) >> 3 }

  @inline(__always)
  private static func literalSize(_ text: ByteView) -> Int { text.count + (text.count < 255 ? 1 : 3) }

  @inline(__always)
  private func textMode(_ text: ByteView, _ last: ByteView, _ plan: inout Plan) -> UInt32 {
    if text.isEmpty { return Text.none }
    if text.elementsEqual(last) { return Text.same }
    plan.size += FactCursor.literalSize(text)
    return Text.literal
  }

  /// How a fact is written behind the one that was read last, or, absolute, behind anything.
  @inline(__always)
  func plan(_ fact: Fact, isAbsolute: Bool) -> Plan {
    var plan = Plan()
    var heads = UInt32(fact.code & 31)
    if fact.isPosting { heads |= 1 << 5 } else { plan.size += 2 }
    if fact.currency == currency { heads |= 1 << 6 } else { plan.size += 2 }
    if fact.flags != 0 || !fact.reverses.isEmpty {
      heads |= 1 << 7
      plan.size += 1
      if !fact.reverses.isEmpty { plan.size += FactCursor.literalSize(fact.reverses) }
    }
    if hasSource, fact.source == source { heads |= 1 << 20 } else { plan.size += 2 }
    if isAbsolute { heads |= 1 << 21 }
    if !fact.isPosting, fact.lineCount != 0 {
      heads |= 1 << 22
      plan.size += 2
    }
    heads |= textMode(fact.document, lastDocument, &plan) << 8
    heads |= textMode(fact.customer, lastCustomer, &plan) << 10
    heads |= textMode(fact.dimensionBytes, lastDimensions, &plan) << 12
    if fact.isPosting { heads |= textMode(fact.journal, lastJournal, &plan) << 22 }
    if fact.id.isEmpty {
      plan.size += 16
    } else {
      let base = fact.isPosting ? fact.journal : fact.document
      plan.idTail = fact.id
      if !base.isEmpty, fact.id.starts(with: base) {
        heads |= Text.continues << 14
        plan.idTail = fact.id.dropped(base.count)
      } else if !key.isEmpty, fact.id.starts(with: key) {
        heads |= Text.continuesKey << 14
        plan.idTail = fact.id.dropped(key.count)
      } else {
        heads |= Text.literal << 14
      }
      plan.size += FactCursor.literalSize(plan.idTail)
      if fact.isChange { plan.size += 8 }
    }
    plan.timeDelta = FactCursor.zigzag(fact.time_ms &- time_ms)
    let timeWidth = FactCursor.width(plan.timeDelta)
    heads |= UInt32(timeWidth) << 24
    plan.size += timeWidth
    if fact.date_d == absentDate {
      heads |= Date.absent << 16
    } else if fact.date_d == date_d {
      heads |= Date.same << 16
    } else if fact.date_d == day(ofMilliseconds: fact.time_ms) {
      heads |= Date.ofTime << 16
    } else {
      heads |= Date.literal << 16
      plan.size += 4
    }
    if fact.statedPeriod != 0 {
      if fact.statedPeriod == lastPeriod {
        heads |= Period.same << 18
      } else {
        heads |= Period.literal << 18
        plan.size += 4
      }
    }
    let amountCount = fact.amountCount
    var all: UInt64 = 0
    for place in 0..<amountCount { all |= FactCursor.zigzag(fact.amounts[place]) }
    let amountWidth = FactCursor.width(all)
    heads |= UInt32(amountWidth) << 28
    plan.size += amountWidth * amountCount
    plan.heads = heads
    return plan
  }

  /// Writes a fact as planned, and nothing behind it.
  @inline(__always)
  static func write(_ fact: Fact, _ plan: Plan, at start: UnsafeMutablePointer<UInt8>) {
    var at = start
    func put<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value) {
      UnsafeMutableRawPointer(at).storeBytes(of: value.littleEndian, as: Value.self)
      at += MemoryLayout<Value>.size
    }
    func put(_ text: ByteView) {
      if text.count < 255 {
        put(UInt8(text.count))
      } else {
        put(UInt8(255))
        put(UInt16(text.count))
      }
      if text.count > 0 { at.update(from: text.base!, count: text.count) }
      at += text.count
    }
    let end = start + plan.size
    func put(_ value: UInt64, width: Int) {
      if end - at >= 8 {
        // What it writes too much is written over by what follows.
        UnsafeMutableRawPointer(at).storeBytes(of: value.littleEndian, as: UInt64.self)
      } else {
        for place in 0..<width { at[place] = UInt8(truncatingIfNeeded: value >> UInt64(8 * place)) }
      }
      at += width
    }
    let heads = plan.heads
    put(heads)
    if heads & 1 << 7 != 0 { put(UInt8(fact.flags & 31) | (fact.reverses.isEmpty ? 0 : 32)) }
    if !fact.isPosting { put(fact.mask) }
    if heads & 1 << 6 == 0 { put(fact.currency.rawValue) }
    if heads & 1 << 20 == 0 { put(fact.source) }
    if !fact.isPosting, heads & 1 << 22 != 0 { put(fact.lineCount) }
    if fact.id.isEmpty || fact.isChange { put(fact.offset) }
    if fact.id.isEmpty { put(fact.idHash) }
    put(plan.timeDelta, width: Int(heads >> 24 & 15))
    if heads >> 16 & 3 == Date.literal { put(fact.date_d) }
    if heads >> 18 & 3 == Period.literal { put(fact.statedPeriod) }
    let amountWidth = Int(heads >> 28 & 15)
    for place in 0..<fact.amountCount { put(zigzag(fact.amounts[place]), width: amountWidth) }
    if heads >> 8 & 3 == Text.literal { put(fact.document) }
    if heads >> 10 & 3 == Text.literal { put(fact.customer) }
    if heads >> 12 & 3 == Text.literal { put(fact.dimensionBytes) }
    if fact.isPosting, heads >> 22 & 3 == Text.literal { put(fact.journal) }
    if heads >> 14 & 3 != Text.none { put(plan.idTail) }
    if !fact.reverses.isEmpty { put(fact.reverses) }
    assert(at - start == plan.size)
  }
}

extension ByteView {
  @inline(__always)
  func starts(with other: ByteView) -> Bool { count >= other.count && prefix(other.count).elementsEqual(other) }

  @inline(__always)
  func dropped(_ count: Int) -> ByteView { ByteView(base: base.map { $0 + count }, count: self.count - count) }
}

extension Fact {
  /// The fact that a cursor has read. Its texts are views of the body, but for an id that is in two parts, which is
  /// put together in `texts`.
  init(_ cursor: FactCursor, number: Int32, texts: inout TextArena) {
    isPosting = cursor.isPosting
    code = cursor.code
    flags = cursor.flags
    currency = cursor.currency
    source = cursor.source
    lineCount = cursor.lineCount
    mask = cursor.mask
    self.number = number
    time_ms = cursor.time_ms
    date_d = cursor.date_d
    statedPeriod = cursor.period
    idHash = cursor.identity
    for place in 0..<amountCount { amounts[place] = cursor.amount(at: place) }
    document = cursor.document
    customer = cursor.customer
    dimensionBytes = cursor.dimensions
    journal = cursor.journal
    id = cursor.idBase.isEmpty ? cursor.idTail : texts.joined(cursor.idBase, cursor.idTail)
    reverses = cursor.reverses
    if id.isEmpty || isChange { offset = cursor.offset }
    hash()
  }
}

/// Space for texts that live as long as one judgement. Blocks never move.
struct TextArena: ~Copyable {
  private var blocks: [UnsafeMutableBufferPointer<UInt8>] = []
  private var current = 0
  private var used = 0
  private static let blockBytes = 1 << 14

  deinit { for block in blocks { block.deallocate() } }

  mutating func reset() {
    // One oversized tie must not hold its memory for ever.
    while blocks.count > 8 { blocks.removeLast().deallocate() }
    current = 0
    used = 0
  }

  /// Room for `count` bytes.
  mutating func take(_ count: Int) -> UnsafeMutablePointer<UInt8> {
    while true {
      if current == blocks.count { blocks.append(.allocate(capacity: max(count, TextArena.blockBytes))) }
      if blocks[current].count - used >= count {
        defer { used += count }
        return blocks[current].baseAddress! + used
      }
      current += 1
      used = 0
    }
  }

  mutating func joined(_ a: ByteView, _ b: ByteView) -> ByteView {
    let target = take(a.count + b.count)
    if let base = a.base { target.update(from: base, count: a.count) }
    if let base = b.base { (target + a.count).update(from: base, count: b.count) }
    return ByteView(base: target, count: a.count + b.count)
  }
}
