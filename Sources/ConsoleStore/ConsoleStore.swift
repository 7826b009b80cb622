import Foundation
import Pipeline

/// Where a record stood.
public struct StorePlace: Hashable, Sendable {
  public var topic: String
  public var partition: Int32

  public init(_ topic: String, _ partition: Int32) {
    self.topic = topic
    self.partition = partition
  }
}

/// What a topic carries, as far as the store is concerned.
public enum StoreTopicKind: String, Sendable, CaseIterable {
  case breaks, actions
  case deadLetters = "dead_letters"
  /// Cells of totals and aggregates: the newest value by key, and a series.
  case cells
  /// Order events and postings as their sources sent them, under their order key.
  case records
}

/// One record of a topic, with its bytes.
public struct StoreRecord: Sendable {
  public var kind: StoreTopicKind
  public var place: StorePlace
  public var offset: Int64
  public var timestamp_ms: Int64
  public var key: [UInt8]?
  public var value: [UInt8]?

  public init(
    kind: StoreTopicKind, place: StorePlace, offset: Int64, timestamp_ms: Int64, key: [UInt8]?, value: [UInt8]?
  ) {
    self.kind = kind
    self.place = place
    self.offset = offset
    self.timestamp_ms = timestamp_ms
    self.key = key
    self.value = value
  }
}

/// What a batch did.
public struct StoreChange: Sendable, Equatable {
  /// The number of the newest change in the store.
  public var sequence: Int64
  public var breaks = 0
  public var actions = 0
  public var deadLetters = 0
  public var cells = 0
  /// Records that another process had brought before.
  public var known = 0
  /// Records that could not be read: `topic partition offset: what`, at most a few; all are counted.
  public var faults: [String] = []
  public var faultCount = 0

  public init(sequence: Int64) { self.sequence = sequence }

  /// What came after it, together with it.
  mutating func add(_ later: StoreChange) {
    sequence = later.sequence
    breaks += later.breaks
    actions += later.actions
    deadLetters += later.deadLetters
    cells += later.cells
    known += later.known
    faultCount += later.faultCount
    faults = Array((faults + later.faults).prefix(StoreLimits.maximumFaults))
  }
}

/// How a list of breaks is ordered. Ties are broken by the break's number in the store.
public enum BreakSort: String, Sendable, CaseIterable {
  /// Largest first.
  case amount = "-amount"
  case amountUp = "amount"
  /// Oldest first.
  case age = "-age"
  case ageUp = "age"
  /// Last changed first.
  case updated = "-updated"
  case updatedUp = "updated"

  var isDescending: Bool { [.amount, .ageUp, .updated].contains(self) }
  var column: String {
    switch self {
    case .amount, .amountUp: "amount_u"
    case .age, .ageUp: "opened_ms"
    case .updated, .updatedUp: "seq"
    }
  }
}

/// The rows that somebody may see: by dimension, the allowed values. No entry: all.
public struct RowScope: Sendable, Hashable {
  public var dimensions: [String: Set<String>]
  public init(_ dimensions: [String: Set<String>] = [:]) { self.dimensions = dimensions }
  public var isEverything: Bool { dimensions.isEmpty }
}

/// Which breaks. Entries of one list are alternatives, lists must all hold.
public struct BreakFilter: Sendable, Equatable {
  public var types: [String] = []
  public var states: [String] = []
  public var severities: [String] = []
  public var roles: [String] = []
  public var currencies: [String] = []
  public var customers: [String] = []
  public var assignees: [String] = []
  public var orders: [String] = []
  public var ids: [String] = []
  public var dimensions: [String: [String]] = [:]
  /// |difference| in millionths of the major unit, inclusive.
  public var minimum_u: Int64?
  public var maximum_u: Int64?
  /// First event not before, and before.
  public var openedFrom_ms: Int64?
  public var openedBefore_ms: Int64?
  /// Words of the order key, break id, customer or documents; the newest `searchDepth` finds count.
  public var text: String?
  /// Changed after this change.
  public var after: Int64?
  public var pendingApproval: Bool?

  public init() {}

  /// Finds of a text search that the other filters are applied to.
  public static let searchDepth = 10_000
}

/// A place in a list: the sort value and the number of the last row.
public struct PageCursor: Sendable, Equatable {
  public var value: Int64
  public var number: Int64

  public init(value: Int64, number: Int64) {
    self.value = value
    self.number = number
  }
}

/// Some rows of a list, each a JSON object.
public struct BreakPage: Sendable {
  /// The rows with commas between them: what stands inside of a JSON array. They go from the database to the client as
  /// they are.
  public private(set) var bytes: [UInt8] = []
  private var ends: [Int] = []
  public var count: Int { ends.count }
  public var rows: [String] {
    zip([0] + ends.map { $0 + 1 }, ends).map { String(decoding: bytes[$0..<$1], as: UTF8.self) }
  }
  /// Where the next page starts; nil at the end.
  public var next: PageCursor?
  /// The number of the newest change on this page.
  public var sequence: Int64 = 0

  /// - Parameter write: appends the row, one JSON object.
  mutating func append(_ write: (inout [UInt8]) -> Void) {
    if !ends.isEmpty { bytes.append(UInt8(ascii: ",")) }
    write(&bytes)
    ends.append(bytes.count)
  }
}

/// One break with everything known of it.
public struct BreakDetail: Sendable {
  public var number: Int64
  public var summary: String
  /// The newest message, as it came.
  public var message: String
  public var document: BreakDocument
  public var state: String
  public var workflow: Workflow
  public var revisions: [Revision]
  public var actions: [Action]

  public struct Revision: Sendable, Equatable {
    public var revision: Int
    public var state: String
    public var isProvisional: Bool
    public var severity: String
    public var expected: String?
    public var posted: String?
    public var delta: String?
    public var reason: String
    public var asOf_ms: Int64?
    public var at_ms: Int64
  }
}

extension BreakDetail {
  /// The write-off that the ERP has been asked for and that is about the difference of now. One that took effect before the
  /// difference was another in between is settled, whatever has brought the old one back.
  public var standingWriteOff: String? {
    guard let id = workflow.proposed, workflow.proposedBasis == document.basis else { return nil }
    let isOvertaken = revisions.contains {
      $0.revision > workflow.proposedRevision ?? 0
        && ($0.expected != document.expected || $0.posted != document.posted)
    }
    return isOvertaken ? nil : id
  }

  /// Write-offs of the difference of now that wait for a second person.
  public var pendingWriteOffs: [String] {
    workflow.pending.filter { id in
      actions.contains { $0.id == id && $0.kind == .writeOff && $0.basis == document.basis }
    }
  }
}

/// Count and value of open breaks of one kind.
public struct Tally: Sendable, Equatable {
  public var type: String
  public var state: String
  public var severity: String
  public var currency: String
  public var ageBucket: Int
  public var count: Int
  /// Sum of |difference| in millionths of the major unit, as text: it may not fit in 64 bits.
  public var amount_u: Int128
}

/// The newest value of a cell, or one of its series.
public struct Cell: Sendable, Equatable {
  public var topic: String
  public var key: String
  public var at_ms: Int64
  public var body: String
}

/// A record of a source, as it came.
public struct SourceRecord: Sendable, Equatable {
  public var topic: String
  public var partition: Int32
  public var offset: Int64
  public var at_ms: Int64
  /// Its text, up to `maximumBytes`.
  public var body: String

  /// Longer ones are kept in part.
  public static let maximumBytes = 16 << 10
}

/// A record that could not be taken in.
public struct StoredDeadLetter: Sendable, Equatable {
  public var number: Int64
  public var body: String
}

/// Age buckets of breaks, in calendar days (UTC): 0–1, 2–3, 4–7, 8–14, 15–30, over 30.
public enum AgeBucket {
  public static let names = ["0-1", "2-3", "4-7", "8-14", "15-30", "30+"]
  /// First day of each bucket.
  public static let firstDays: [Int64] = [0, 2, 4, 8, 15, 31]

  static let day_ms: Int64 = 86_400_000

  /// Days since 1970-01-01.
  static func day(_ time_ms: Int64) -> Int64 { (time_ms - (time_ms % day_ms + day_ms) % day_ms) / day_ms }

  public static func index(opened_ms: Int64, now_ms: Int64) -> Int {
    let days = max(0, day(now_ms) - day(opened_ms))
    return firstDays.lastIndex { $0 <= days } ?? 0
  }

  /// The times at which a break of this bucket has opened: not before, and before.
  public static func range(_ index: Int, now_ms: Int64) -> (from_ms: Int64?, before_ms: Int64?) {
    let today = day(now_ms)
    let before = index == 0 ? nil : (today - firstDays[index] + 1) * day_ms
    let from = index == names.count - 1 ? nil : (today - firstDays[index + 1] + 1) * day_ms
    return (from, before)
  }
}

/// What the console keeps: a projection of the output topics that can be made anew from them at any time.
///
/// Everything of a batch, and the offsets behind it, becomes visible together or not at all; so each record takes effect
/// exactly once, however often the process is killed.
public protocol ConsoleStore: Sendable {
  /// Takes records in, in their order within each partition.
  func apply(_ records: [StoreRecord], now_ms: Int64) throws -> StoreChange
  /// The next record to read of each partition that has been read from.
  func positions() throws -> [StorePlace: Int64]
  /// Forgets everything.
  func clear() throws
  /// Looks whether another process has made the store anew; throws `StoreMadeAnew` once where it has.
  func refresh() throws
  /// Names this filling of the store; another one after `clear`.
  var generation: String { get throws }
  var dimensionNames: [String] { get }

  func breaks(
    _ filter: BreakFilter, scope: RowScope, sort: BreakSort, after: PageCursor?, limit: Int
  ) async throws -> BreakPage
  /// The same where it is answered at once, on the thread that asks; nil where it is not.
  func quickBreaks(
    _ filter: BreakFilter, scope: RowScope, sort: BreakSort, after: PageCursor?, limit: Int
  ) throws -> BreakPage?
  /// Whether only this process changes what is in it.
  var isOwn: Bool { get }
  func detail(id: String, scope: RowScope) async throws -> BreakDetail?
  /// The newest message of every break of an order.
  func order(_ key: String, scope: RowScope) async throws -> [BreakDetail]
  /// What the sources have sent of an order, in the order of time; nothing where it is not kept.
  func records(order key: String, limit: Int) async throws -> [SourceRecord]
  func tallies(scope: RowScope, now_ms: Int64) async throws -> [Tally]
  func cells(topic: String, prefix: String, after: String?, limit: Int) async throws -> [Cell]
  func series(topic: String, key: String, from_ms: Int64, limit: Int) async throws -> [Cell]
  func deadLetters(source: String?, reason: String?, before: Int64?, limit: Int) async throws -> [StoredDeadLetter]
  func action(id: String) async throws -> Action?
  /// The number of the newest change.
  func sequence() async throws -> Int64
}

extension ConsoleStore {
  /// A store of one process alone is made anew by nobody else.
  public func refresh() throws {}
  public func quickBreaks(
    _ filter: BreakFilter, scope: RowScope, sort: BreakSort, after: PageCursor?, limit: Int
  ) throws -> BreakPage? { nil }
  public var isOwn: Bool { false }
}
