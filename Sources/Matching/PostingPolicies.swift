import Domain

/// Posting policies by the date of an event's document: what `MatchingPolicy.entries` say, changed from given days on.
///
/// A change is about one role and one component of one kind of event, and holds until the next one about the same. What
/// no change is about stays as the base has it. So the order in which changes come makes no difference.
public struct PostingPolicies: Sendable, Equatable {
  public struct Change: Sendable, Equatable {
    public var event: OrderEventKind
    public var role: AccountRole
    public var component: AmountComponent
    /// +1 debit, −1 credit, 0: nothing is expected.
    public var sign: Int
    /// First day of the documents that it is for; nil from the beginning.
    public var from_d: Int32?

    public init(
      _ event: OrderEventKind, _ role: AccountRole, _ component: AmountComponent, sign: Int, from_d: Int32? = nil
    ) {
      (self.event, self.role, self.component, self.sign, self.from_d) = (event, role, component, sign, from_d)
    }
  }

  /// What a source says of a kind of event in place of `policy`, for all days: no change is about it.
  public struct OfSource: Sendable, Equatable {
    public var source: UInt16
    public var event: OrderEventKind
    public var entries: [PolicyEntry]

    public init(source: UInt16, _ event: OrderEventKind, _ entries: [PolicyEntry]) {
      (self.source, self.event, self.entries) = (source, event, entries)
    }
  }

  /// The most days on which something may change: a table of them all is part of every checkpoint.
  public static let maximumDays = 200

  /// In rising order; the first is the smallest there is.
  public private(set) var starts_d: [Int32]
  /// For each of these days, by `OrderEventKind.rawValue`: what holds from then on.
  public private(set) var entries: [[[PolicyEntry]]]
  /// By source and kind of event, each once.
  public private(set) var ofSources: [OfSource]

  /// - Returns: nil where more changes than `maximumDays` say.
  public init?(base: [[PolicyEntry]], changes: [Change] = [], ofSources: [OfSource] = []) {
    self.ofSources = ofSources.sorted { ($0.source, $0.event.rawValue) < ($1.source, $1.event.rawValue) }
    let days = Set(changes.compactMap(\.from_d)).sorted()
    guard days.count <= PostingPolicies.maximumDays else { return nil }
    (starts_d, entries) = ([], [])
    for day in [.min] + days {
      let table = PostingPolicies.table(base, changes, on: day)
      // A day on which nothing changes is none.
      if entries.last == table { continue }
      starts_d.append(day)
      entries.append(table)
    }
  }

  private static func table(_ base: [[PolicyEntry]], _ changes: [Change], on day: Int32) -> [[PolicyEntry]] {
    struct Place: Hashable {
      var event: UInt8
      var role: UInt8
      var component: UInt8
    }
    var newest: [Place: Change] = [:]
    for change in changes where change.from_d ?? .min <= day {
      let place = Place(
        event: change.event.rawValue, role: change.role.rawValue, component: change.component.rawValue)
      if let known = newest[place], known.from_d ?? .min > change.from_d ?? .min { continue }
      newest[place] = change
    }
    return base.enumerated().map { event, entries in
      let own = newest.values.filter { Int($0.event.rawValue) == event }
      let kept = entries.filter { entry in !own.contains { $0.role == entry.role && $0.component == entry.component } }
      let made = own.filter { $0.sign != 0 }.sorted {
        ($0.role.rawValue, $0.component.rawValue) < ($1.role.rawValue, $1.component.rawValue)
      }
      return kept + made.map { PolicyEntry($0.role, $0.sign, $0.component) }
    }
  }

  /// What an event of a source and of a document of that day must put into the ledger.
  func entries(_ code: UInt8, of source: UInt16, on day: Int32) -> [PolicyEntry] {
    if !ofSources.isEmpty,
      let own = ofSources.firstIndex(where: { $0.source == source && $0.event.rawValue == code })
    {
      return ofSources[own].entries
    }
    var at = starts_d.count - 1
    while starts_d[at] > day { at -= 1 }
    return entries[at][Int(code)]
  }

  // MARK: - As bytes

  /// Of the second format are those that sources have of their own.
  private static let (format, formatOfSources): (UInt8, UInt8) = (1, 2)
  /// More than there are sources and kinds of events.
  private static let maximumOfSources = 1 << 20

  /// The same policies, the same bytes. A kind in which nothing changes takes a byte.
  public var bytes: [UInt8] {
    var writer = ByteWriter(capacity: 1 << 9)
    writer.write(ofSources.isEmpty ? PostingPolicies.format : PostingPolicies.formatOfSources)
    writer.writeVarint(UInt64(starts_d.count))
    writer.writeVarint(UInt64(entries[0].count))
    for (at, start) in starts_d.enumerated() {
      writer.write(start)
      for (code, list) in entries[at].enumerated() {
        if at > 0, entries[at - 1][code] == list {
          writer.writeVarint(0)
          continue
        }
        PostingPolicies.write(list, into: &writer)
      }
    }
    if !ofSources.isEmpty {
      writer.writeVarint(UInt64(ofSources.count))
      for own in ofSources {
        writer.write(own.source)
        writer.write(own.event.rawValue)
        PostingPolicies.write(own.entries, into: &writer)
      }
    }
    return writer.array
  }

  private static func write(_ list: [PolicyEntry], into writer: inout ByteWriter) {
    writer.writeVarint(UInt64(list.count + 1))
    for entry in list {
      writer.write(entry.role.rawValue)
      writer.write(UInt8(truncatingIfNeeded: entry.sign))
      writer.write(entry.component.rawValue)
    }
  }

  /// - Parameter count: One more than there are.
  private static func read(_ count: Int, from reader: inout ByteReader) throws(ByteCodingError) -> [PolicyEntry] {
    var list: [PolicyEntry] = []
    for _ in 1..<count {
      let role = AccountRole(rawValue: try reader.read())
      let sign = Int(Int8(bitPattern: try reader.read()))
      let component = AmountComponent(rawValue: try reader.read())
      guard let role, let component else {
        throw ByteCodingError("a posting policy of an unknown role or component")
      }
      list.append(PolicyEntry(role, sign, component))
    }
    return list
  }

  /// The most entries that a list of them may have when it is read.
  private static let maximumEntries = 1 << 12

  init(from reader: inout ByteReader) throws(ByteCodingError) {
    (starts_d, entries, ofSources) = ([], [], [])
    let format = try reader.read(UInt8.self)
    guard [PostingPolicies.format, PostingPolicies.formatOfSources].contains(format) else {
      throw ByteCodingError("posting policies of another format")
    }
    let days = try reader.readCount(atMost: PostingPolicies.maximumDays + 1)
    let kinds = try reader.readCount(atMost: 32)
    for at in 0..<days {
      starts_d.append(try reader.read())
      var table: [[PolicyEntry]] = []
      for code in 0..<kinds {
        let count = try reader.readCount(atMost: PostingPolicies.maximumEntries)
        guard count > 0 else {
          guard at > 0 else { throw ByteCodingError("posting policies without a beginning") }
          table.append(entries[at - 1][code])
          continue
        }
        table.append(try PostingPolicies.read(count, from: &reader))
      }
      // Kinds that a later version has added expect nothing.
      while table.count < OrderEventKind.allCases.count { table.append([]) }
      entries.append(table)
    }
    guard starts_d.first == .min, zip(starts_d, starts_d.dropFirst()).allSatisfy(<) else {
      throw ByteCodingError("posting policies whose days are in no order")
    }
    guard format == PostingPolicies.formatOfSources else { return }
    for _ in 0..<(try reader.readCount(atMost: PostingPolicies.maximumOfSources)) {
      let source = try reader.read(UInt16.self)
      let event = OrderEventKind(rawValue: try reader.read())
      let count = try reader.readCount(atMost: PostingPolicies.maximumEntries)
      guard let event, count > 0 else { throw ByteCodingError("a posting policy of a source for an unknown event") }
      ofSources.append(OfSource(source: source, event, try PostingPolicies.read(count, from: &reader)))
    }
  }
}

extension MatchingPolicy {
  /// Those of the rows; where there are none, `entries` for all days.
  var effectivePolicies: PostingPolicies { postingPolicies ?? PostingPolicies(base: entries)! }

  /// All that a kind of event must put into the ledger at some time, each with the first day of the documents for which it
  /// does so; nil from the beginning.
  public func entries(of kind: OrderEventKind) -> [(from_d: Int32?, entry: PolicyEntry)] {
    guard let dated = postingPolicies else { return entries[Int(kind.rawValue)].map { (nil, $0) } }
    var before: [PolicyEntry] = []
    var all: [(from_d: Int32?, entry: PolicyEntry)] = []
    for (start, table) in zip(dated.starts_d, dated.entries) {
      let now = table[Int(kind.rawValue)]
      all += now.filter { !before.contains($0) }.map { (start == .min ? nil : start, $0) }
      before = now
    }
    return all
  }

  /// The same of one source; nil for one without a policy of its own.
  public func entries(of kind: OrderEventKind, source: Int?) -> [(from_d: Int32?, entry: PolicyEntry)] {
    let own = postingPolicies?.ofSources.first { source == Int($0.source) && $0.event == kind }
    return own?.entries.map { (nil, $0) } ?? entries(of: kind)
  }

  /// What an order event must put into the ledger. Inlined: the call would copy the fact.
  @inline(__always)
  func entries(of event: Fact) -> [PolicyEntry] {
    guard let postingPolicies else { return entries[Int(event.code)] }
    return postingPolicies.entries(event.code, of: event.source, on: event.documentDay)
  }
}

extension Fact {
  /// The day that decides which policy holds: that of the document, else that of the event.
  var documentDay: Int32 { date_d == absentDate ? day(ofMilliseconds: time_ms) : date_d }
}

/// The posting policy as one table, so that reading it counts no references. Whoever makes one deallocates it.
struct Expectations {
  private let entries: UnsafeMutablePointer<PolicyEntry>
  private let starts: UnsafeMutablePointer<Int>
  private let days: UnsafeMutablePointer<Int32>
  private let dayCount: Int
  /// By source, the kinds of events of which it has policies of its own, a bit each. Their tables stand behind those of
  /// the days.
  private let ownKinds: UnsafeMutablePointer<UInt32>
  private let sourceCount: Int
  /// False where events of all sources and documents of all days are alike: then the first table is the only one.
  private let isVaried: Bool

  /// Codes are five bits: what no event kind has, expects nothing.
  private static let stride = 33

  init(_ policies: PostingPolicies) {
    let starts_d = policies.starts_d.dropFirst()
    sourceCount = policies.ofSources.last.map { Int($0.source) + 1 } ?? 0
    ownKinds = .allocate(capacity: max(1, sourceCount))
    ownKinds.initialize(repeating: 0, count: max(1, sourceCount))
    var tables = policies.entries
    let none = [[PolicyEntry]](repeating: [], count: OrderEventKind.allCases.count)
    tables += Array(repeating: none, count: sourceCount)
    for own in policies.ofSources {
      ownKinds[Int(own.source)] |= 1 &<< UInt32(own.event.rawValue)
      tables[policies.entries.count + Int(own.source)][Int(own.event.rawValue)] = own.entries
    }
    let all = tables.flatMap { $0.flatMap { $0 } }
    entries = .allocate(capacity: max(all.count, 1))
    for (at, entry) in all.enumerated() { (entries + at).initialize(to: entry) }
    starts = .allocate(capacity: tables.count * Expectations.stride)
    var start = 0
    for (at, table) in tables.enumerated() {
      for code in 0..<Expectations.stride {
        (starts + at * Expectations.stride + code).initialize(to: start)
        if code < table.count { start += table[code].count }
      }
    }
    dayCount = starts_d.count
    isVaried = dayCount + sourceCount != 0
    days = .allocate(capacity: max(1, dayCount))
    for (at, day) in starts_d.enumerated() { (days + at).initialize(to: day) }
  }

  func deallocate() {
    entries.deallocate()
    starts.deallocate()
    days.deallocate()
    ownKinds.deallocate()
  }

  /// Whether documents of different days may have different policies.
  @inline(__always) var isDated: Bool { dayCount != 0 }

  /// What an event of this kind must put into the ledger.
  /// - Parameters:
  ///   - date_d: Of its document; `absentDate` where there is none.
  ///   - time_ms: Of the event.
  ///   - source: That tells it.
  @inline(__always)
  func of(_ code: UInt8, date_d: Int32, time_ms: Int64, source: UInt16) -> UnsafeBufferPointer<PolicyEntry> {
    var at = Int(code)
    if isVaried { at &+= table(code, date_d, time_ms, source) }
    let start = starts[at]
    return UnsafeBufferPointer(start: entries + start, count: starts[at &+ 1] &- start)
  }

  /// Where the table begins that holds for a source on a day.
  @inline(never)
  private func table(_ code: UInt8, _ date_d: Int32, _ time_ms: Int64, _ source: UInt16) -> Int {
    var at = dayCount
    if Int(source) < sourceCount, ownKinds[Int(source)] & 1 &<< UInt32(code) != 0 {
      at += 1 + Int(source)
    } else if at > 0 {
      let day = date_d == absentDate ? day(ofMilliseconds: time_ms) : date_d
      while at > 0, days[at - 1] > day { at -= 1 }
    }
    return at * Expectations.stride
  }
}
