import Domain

/// Everything known of one order key: where its body (key and facts) and its breaks are, and its clock.
///
/// Thirty-two bytes, so that a slot never straddles a cache line. Times have 48 bits (milliseconds, ±4,460 years round
/// 1970; later and earlier ones are taken for the last of these), which leaves space for the flags and the body's room
/// (12 and 4 bits), the body's length and the head of the fingerprint beside them.
struct Tie {
  var body: StoreRef
  var breaks: StoreRef
  private var deadlineAndFlags: UInt64
  private var timerAndLength: UInt64
  private var quietAndHead: UInt64

  init(body: StoreRef, bodyLength: UInt16, head: UInt16) {
    self.body = body
    breaks = 0
    deadlineAndFlags = UInt64(Flag.live)
    timerAndLength = UInt64(bodyLength)
    quietAndHead = UInt64(head)
    deadline_ms = .min
    timer_ms = Tie.noTimer_ms
    quiet_ms = .min
  }

  /// One that a first fact has come for. Times as a slot can hold them.
  @inline(__always)
  init(
    body: StoreRef, bodyLength: UInt16, room: Int, head: UInt16, flags: UInt16, deadline_ms: Int64, timer_ms: Int64,
    quiet_ms: Int64
  ) {
    self.body = body
    breaks = 0
    deadlineAndFlags =
      UInt64(bitPattern: deadline_ms) << 16 | UInt64(truncatingIfNeeded: room) << Tie.roomShift | UInt64(flags)
    timerAndLength = UInt64(bitPattern: timer_ms) << 16 | UInt64(bodyLength)
    quietAndHead = UInt64(bitPattern: quiet_ms) << 16 | UInt64(head)
  }

  /// Sets flags, room and times at once. Times as a slot can hold them.
  @inline(__always)
  mutating func set(flags: UInt16, room: Int, deadline_ms: Int64, quiet_ms: Int64) {
    deadlineAndFlags =
      UInt64(bitPattern: deadline_ms) << 16 | UInt64(truncatingIfNeeded: room) << Tie.roomShift | UInt64(flags)
    quietAndHead = UInt64(bitPattern: quiet_ms) << 16 | quietAndHead & 0xffff
  }

  /// Sets the body of a length that can be said here, and the timer that stands. A time as a slot can hold it.
  @inline(__always)
  mutating func set(timer_ms: Int64, bodyLength: Int) {
    timerAndLength = UInt64(bitPattern: timer_ms) << 16 | UInt64(truncatingIfNeeded: bodyLength)
  }

  static let lastTime_ms: Int64 = 1 << 47 - 2
  static let firstTime_ms: Int64 = -(1 << 47)
  /// What `timer_ms` is where none stands: behind every time.
  static let noTimer_ms: Int64 = 1 << 47 - 1

  /// A time as a slot can hold it.
  @inline(__always)
  static func clamped(_ time_ms: Int64) -> Int64 { max(firstTime_ms, min(lastTime_ms, time_ms)) }

  @inline(__always)
  private static func time(_ word: UInt64) -> Int64 { Int64(bitPattern: word) >> 16 }

  @inline(__always)
  private static func join(_ time_ms: Int64, _ word: UInt64) -> UInt64 {
    UInt64(bitPattern: max(firstTime_ms, min(noTimer_ms, time_ms))) << 16 | word & 0xffff
  }

  /// The latest event time of its facts plus window and grace.
  var deadline_ms: Int64 {
    @inline(__always) get { Tie.time(deadlineAndFlags) }
    @inline(__always) set { deadlineAndFlags = Tie.join(newValue, deadlineAndFlags) }
  }

  /// The earliest timer that stands for this tie.
  var timer_ms: Int64 {
    @inline(__always) get { Tie.time(timerAndLength) }
    @inline(__always) set { timerAndLength = Tie.join(newValue, timerAndLength) }
  }

  /// Until when facts may still be on their way together (event time).
  var quiet_ms: Int64 {
    @inline(__always) get { Tie.time(quietAndHead) }
    @inline(__always) set { quietAndHead = Tie.join(newValue, quietAndHead) }
  }

  var flags: UInt16 {
    @inline(__always) get { UInt16(truncatingIfNeeded: deadlineAndFlags) & 0xfff }
    @inline(__always) set { deadlineAndFlags = deadlineAndFlags & ~0xfff | UInt64(newValue) }
  }

  /// Granules of the body's space that lie behind those that its length takes (`RecordStore.exactClasses`): what is
  /// expected to come is written there.
  var room: Int {
    @inline(__always) get { Int(truncatingIfNeeded: deadlineAndFlags &>> Tie.roomShift & Tie.roomMask) }
    @inline(__always) set {
      deadlineAndFlags =
        deadlineAndFlags & ~(Tie.roomMask << Tie.roomShift) | UInt64(truncatingIfNeeded: newValue) << Tie.roomShift
    }
  }
  private static let roomShift: UInt64 = 12
  private static let roomMask: UInt64 = 0xf
  /// The most that `room` can say.
  static let mostRoom = 15

  /// Bytes of the body; `isLong` where that is more than can be said here, and a table of the matcher's has it.
  var bodyLength: UInt16 {
    @inline(__always) get { UInt16(truncatingIfNeeded: timerAndLength) }
    @inline(__always) set { timerAndLength = timerAndLength & ~0xffff | UInt64(newValue) }
  }
  static let isLong: UInt16 = 0xffff

  /// The first 16 bits of the key's fingerprint: they order what is due at the same time.
  var head: UInt16 {
    @inline(__always) get { UInt16(truncatingIfNeeded: quietAndHead) }
  }

  enum Flag {
    static let live: UInt16 = 1
    static let hasOrder: UInt16 = 2
    static let hasPosting: UInt16 = 4
    /// Facts came since the last judgement.
    static let dirty: UInt16 = 8
    /// Its deadline has passed and it has been counted as closed.
    static let closed: UInt16 = 16
    /// Counted as tied out.
    static let tiedOut: UInt16 = 32
    /// The last judgement found nothing at all.
    static let agreed: UInt16 = 64
    /// Has a break in an open state.
    static let open: UInt16 = 128
    /// The body ends with the size of the tie as last judged (`TieValue`).
    static let valued: UInt16 = 256
    /// People have acted on its breaks (`TieDecisions`).
    static let decided: UInt16 = 512
    /// Schedules of its events have releases that are not due yet: it is remembered until they are.
    static let scheduled: UInt16 = 1_024
    /// Ahead of a revision of the posting policies that is running: its sums are those of the new ones already.
    static let revised: UInt16 = 2_048
  }

  /// No record has come for it: people's actions wait in it.
  @inline(__always)
  var isEmpty: Bool { flags & (Flag.hasOrder | Flag.hasPosting) == 0 }

  /// What is open, and what people have decided about, is remembered longer.
  @inline(__always)
  var isKeptLonger: Bool { flags & (Flag.open | Flag.decided) != 0 }

  @inline(__always)
  func has(_ flag: UInt16) -> Bool { flags & flag == flag }
  @inline(__always)
  mutating func set(_ flag: UInt16, _ on: Bool = true) { flags = on ? flags | flag : flags & ~flag }
}

/// Slots that no tie has, a stack of them.
struct FreeSlots {
  private var slots: UnsafeMutablePointer<UInt32>
  private var count = 0
  private var capacity = 1_024

  init() { slots = .allocate(capacity: capacity) }

  func deallocate() { slots.deallocate() }

  @inline(__always)
  mutating func take() -> Int? {
    guard count > 0 else { return nil }
    count &-= 1
    return Int(slots[count])
  }

  /// One of those to be taken soon; 0, which is no tie's, where so many are not there.
  @inline(__always)
  var upcoming: Int { count >= RecordStore.ahead ? Int(slots[count &- RecordStore.ahead]) : 0 }

  @inline(__always)
  mutating func add(_ slot: Int) {
    if count == capacity { grow() }
    slots[count] = UInt32(truncatingIfNeeded: slot)
    count &+= 1
  }

  @inline(never)
  private mutating func grow() {
    let larger = UnsafeMutablePointer<UInt32>.allocate(capacity: capacity * 2)
    larger.update(from: slots, count: count)
    slots.deallocate()
    (slots, capacity) = (larger, capacity * 2)
  }
}

/// Size of the main role when the tie was last judged, minor units. Stands at the end of a body: the amount in as few
/// bytes as it needs, the currency unless it is that of the tie's first fact, and a byte that says how many bytes the amount
/// takes, and whether the currency is that.
struct TieValue: Equatable {
  var amount: Int64 = 0
  var currency = Currency.none

  private var width: Int { (71 &- UInt64(bitPattern: amount).leadingZeroBitCount) >> 3 }
  private static let widthMask: UInt8 = 0xf
  private static let isOfFirst: UInt8 = 0x40
  static let mostBytes = 11

  /// - Parameter first: The currency of the tie's first fact (`Matcher.firstCurrency`).
  @inline(__always)
  func size(first: Currency?) -> Int { width &+ (currency == first ? 1 : 3) }

  init(amount: Int64 = 0, currency: Currency = .none) {
    self.amount = amount
    self.currency = currency
  }

  /// Reads the value that a body ends with; in front of it are eight bytes and more of other things.
  @inline(__always)
  init(endingAt end: UnsafePointer<UInt8>, of body: UnsafePointer<UInt8>) {
    let last = end[-1]
    let width = Int(last & TieValue.widthMask)
    let size = TieValue.size(endingAt: end)
    if last & TieValue.isOfFirst != 0 {
      currency = Matcher.writtenCurrency(body)
    } else {
      currency = Currency(rawValue: UInt16(end[-3]) | UInt16(end[-2]) << 8)
    }
    let bits = UInt64(littleEndian: (UnsafeRawPointer(end) - (size &- width) - 8).loadUnaligned(as: UInt64.self))
    amount = width == 0 ? 0 : Int64(bitPattern: bits &>> UInt64(truncatingIfNeeded: 64 &- 8 &* width))
  }

  /// Bytes of the value that a body ends with.
  @inline(__always)
  static func size(endingAt end: UnsafePointer<UInt8>) -> Int {
    Int(end[-1] & widthMask) &+ (end[-1] & isOfFirst != 0 ? 1 : 3)
  }

  /// Whether a value can end with such a byte.
  /// - Parameter first: As of `size(first:)`.
  static func isSound(last: UInt8, first: Currency?) -> Bool {
    last & widthMask <= 8 && last & ~(widthMask | isOfFirst) == 0 && (last & isOfFirst == 0 || first != nil)
  }

  /// - Parameter first: As of `size(first:)`.
  @inline(__always)
  func write(at start: UnsafeMutablePointer<UInt8>, first: Currency?) {
    let width = width
    storeShort(UInt64(bitPattern: amount), width: width, at: start)
    if currency == first {
      start[width] = UInt8(truncatingIfNeeded: width) | TieValue.isOfFirst
    } else {
      start[width] = UInt8(truncatingIfNeeded: currency.rawValue)
      start[width &+ 1] = UInt8(truncatingIfNeeded: currency.rawValue >> 8)
      start[width &+ 2] = UInt8(truncatingIfNeeded: width)
    }
  }
}

/// What a tie remembers of a break that it has reported, followed in the store by the parts of the difference.
struct BreakRecord {
  var next: StoreRef
  var granules: UInt16
  /// Index in `BreakType.allCases`, or `voidType`.
  var type: UInt8
  var role: UInt8
  var currency: UInt16
  /// Not `none` where the break's id carries its currency.
  var idCurrency: UInt16
  /// Index in `BreakState.allCases`.
  var state: UInt8
  var isProvisional: Bool
  var partCount: UInt16
  var revision: UInt32
  /// Where quality is counted: since when it has been open, in seconds since 1970 of event time; else 0.
  var opened_s: UInt32 = 0
  /// Of everything that makes a new revision worth sending.
  var content: UInt64

  var stateValue: BreakState { BreakState.allCases[Int(state)] }

  /// No break: what cancellations took back from Σ expected.
  static let voidType: UInt8 = 0xff
  /// No break: what the open ones have put into the aggregates (`ChargeList`).
  static let chargeType: UInt8 = 0xfe

  struct Part {
    var delta: Int64
    var currency: UInt16
    var role: UInt8
    var period: Int32
  }

  static let partStride = 16
  /// As many as the granules of a record can be counted for: those of a state that another version has written, too.
  static let mostParts = (32_768 * 8 - 64) / partStride
}

extension RecordStore {
  /// - Parameter parts: `Finding.bounded`, or no more than `BreakRecord.mostParts` that were kept.
  mutating func appendBreak(_ record: BreakRecord, parts: [Finding.Part]) -> StoreRef {
    let bytes = MemoryLayout<BreakRecord>.size.roundedUpTo8 + parts.count * BreakRecord.partStride
    let ref = allocate(bytes)
    var record = record
    record.granules = UInt16(RecordStore.granules(bytes))
    record.partCount = UInt16(parts.count)
    let base = pointer(ref)
    base.assumingMemoryBound(to: BreakRecord.self).initialize(to: record)
    var slot = base + MemoryLayout<BreakRecord>.size.roundedUpTo8
    for part in parts {
      slot.assumingMemoryBound(to: BreakRecord.Part.self).initialize(
        to: .init(
          delta: part.delta, currency: part.currency.rawValue, role: part.role.rawValue, period: part.period))
      slot += BreakRecord.partStride
    }
    return ref
  }

  func breakRecord(_ ref: StoreRef) -> BreakRecord { pointer(ref).load(as: BreakRecord.self) }

  func breakParts(_ ref: StoreRef) -> [Finding.Part] {
    let record = breakRecord(ref)
    let base = pointer(ref) + MemoryLayout<BreakRecord>.size.roundedUpTo8
    return (0..<Int(record.partCount)).map { index in
      let part = (base + index * BreakRecord.partStride).load(as: BreakRecord.Part.self)
      return Finding.Part(
        currency: Currency(rawValue: part.currency), role: AccountRole(rawValue: part.role)!, delta: part.delta,
        period: part.period)
    }
  }
}

extension Int {
  var roundedUpTo8: Int { (self + 7) & ~7 }
}
