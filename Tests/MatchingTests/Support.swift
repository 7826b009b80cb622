import Aggregates
import Domain
import Testing

@testable import Matching

/// Keeps the bytes of test records alive, and builds records from plain texts.
final class Records {
  private var blocks: [UnsafeMutableBufferPointer<UInt8>] = []
  private var nextOffset: Int64 = 0
  private var known: [String: ByteView] = [:]

  deinit { for block in blocks { block.deallocate() } }

  func view(_ text: String) -> ByteView {
    if text.isEmpty { return .empty }
    if let view = known[text] { return view }
    let bytes = Array(text.utf8)
    let block = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: bytes.count)
    _ = block.initialize(from: bytes)
    blocks.append(block)
    let view = ByteView(UnsafeBufferPointer(block))
    known[text] = view
    return view
  }

  func event(
    _ order: String, _ kind: OrderEventKind = .invoiced, id: String? = nil, at time_ms: Int64 = t0,
    currency: String = "USD", customer: String = "C1", document: String = "", net: Int64? = nil, tax: Int64? = nil,
    freight: Int64? = nil, gross: Int64? = nil, applied: Int64? = nil, quantity: Int64? = nil, lines: Int32 = 0
  ) -> OrderEvent {
    var event = OrderEvent()
    nextOffset += 1
    event.order = view(order)
    event.id = view(id ?? "ev-\(order)-\(kind.name)-\(document)-\(time_ms)")
    event.document = view(document)
    event.customer = view(customer)
    event.kind = kind
    event.currency = Currency(currency)!
    event.time_ms = time_ms
    event.documentDate_d = day(ofMilliseconds: time_ms)
    event.lineCount = lines
    if let net { event.amounts[.net] = net }
    if let tax { event.amounts[.tax] = tax }
    if let freight { event.amounts[.freight] = freight }
    if let gross { event.amounts[.gross] = gross }
    if let applied { event.amounts[.applied] = applied }
    if let quantity {
      event.quantity_u = quantity * 1_000_000
      event.quantityPresent = true
    }
    event.position = RecordPosition(source: 0, partition: 0, offset: nextOffset)
    return event
  }

  func posting(
    _ order: String, _ role: AccountRole, _ amount: Int64, journal: String = "JE1", line: Int = 0,
    at time_ms: Int64 = t0 + 1_000, currency: String = "USD", customer: String = "C1", document: String = "",
    date: Int32? = nil, period: Int32 = 0, reverses: String = "", isReversal: Bool = false
  ) -> Posting {
    var posting = Posting()
    nextOffset += 1
    posting.order = view(order)
    posting.id = view("\(journal)-\(line == 0 ? Int(role.rawValue) : line)")
    posting.journal = view(journal)
    posting.document = view(document)
    posting.customer = view(customer)
    posting.reverses = view(reverses)
    posting.isReversal = isReversal
    posting.role = role
    posting.currency = Currency(currency)!
    posting.amount = amount
    posting.time_ms = time_ms
    posting.postingDate_d = date ?? day(ofMilliseconds: time_ms)
    posting.period = period
    posting.position = RecordPosition(source: 1, partition: 0, offset: nextOffset)
    return posting
  }

  /// The postings of a balanced invoice journal.
  func invoice(
    _ order: String, net: Int64, tax: Int64 = 0, freight: Int64 = 0, journal: String = "JE1",
    at time_ms: Int64 = t0 + 1_000,
    currency: String = "USD", customer: String = "C1", document: String = "", date: Int32? = nil
  ) -> [Posting] {
    [
      (AccountRole.receivable, net + tax + freight), (.revenue, -net), (.freight, -freight), (.tax, -tax),
    ].filter { $0.1 != 0 }.map {
      posting(
        order, $0.0, $0.1, journal: journal, at: time_ms, currency: currency, customer: customer, document: document,
        date: date)
    }
  }
}

/// 2026-03-10T09:00:00Z
let t0: Int64 = 1_773_133_200_000
let hour: Int64 = 3_600_000

enum Input {
  case order(OrderEvent)
  case posting(Posting)

  var time_ms: Int64 {
    switch self {
    case .order(let event): event.time_ms
    case .posting(let posting): posting.time_ms
    }
  }
}

func testPolicy(_ change: (inout MatchingPolicy) -> Void = { _ in }) -> MatchingPolicy {
  var policy = MatchingPolicy()
  policy.window_ms = 24 * hour
  policy.grace_ms = hour
  policy.settle_ms = 60_000
  policy.outOfOrderness_ms = 0
  change(&policy)
  return policy
}

extension Matcher {
  mutating func take(_ inputs: [Input], now_ms: Int64 = t0 + 1_000 * hour, into outputs: inout MatchOutputs) {
    for input in inputs {
      switch input {
      case .order(let event):
        withUnsafePointer(to: event) {
          apply(orders: UnsafeBufferPointer(start: $0, count: 1), now_ms: now_ms, outputs: &outputs)
        }
      case .posting(let posting):
        withUnsafePointer(to: posting) {
          apply(postings: UnsafeBufferPointer(start: $0, count: 1), now_ms: now_ms, outputs: &outputs)
        }
      }
    }
  }
}

/// What a matcher writes down of itself, in one shard, as a checkpoint has it.
struct WrittenState: ~Copyable {
  private(set) var policies = ByteWriter()
  private(set) var shard = ByteWriter()
  private(set) var sums = ByteWriter()
  private(set) var cells = ByteWriter()

  init(_ matcher: borrowing Matcher) {
    matcher.exportPolicies(into: &policies)
    matcher.exportShard(0, bits: 0, into: &shard)
    matcher.exportSums(into: &sums)
    matcher.exportAggregates(into: &cells)
  }
}

extension Matcher {
  mutating func read(shard state: borrowing ByteWriter) throws {
    var reader = ByteReader(state.bytes)
    try importShard(0, bits: 0, from: &reader)
  }
  mutating func read(sums state: borrowing ByteWriter) throws {
    var reader = ByteReader(state.bytes)
    try importSums(from: &reader)
  }
  mutating func read(policies state: borrowing ByteWriter) throws {
    var reader = ByteReader(state.bytes)
    try importPolicies(from: &reader)
  }
  /// Into aggregates that are there.
  mutating func read(cells state: borrowing ByteWriter) throws {
    var reader = ByteReader(state.bytes)
    try aggregates!.restore(from: &reader, settings: AggregateSettings())
  }
}

/// The last revision of each break, by id, after everything has been closed.
func finalBreaks(_ inputs: [Input], policy: MatchingPolicy = testPolicy()) -> [String: Break] {
  var matcher = Matcher(policy: policy, dimensionCount: 0)
  var outputs = MatchOutputs()
  matcher.take(inputs, into: &outputs)
  matcher.finish(outputs: &outputs)
  expectControlTotals(matcher.totals)
  var last: [String: Break] = [:]
  for made in outputs.breaks { last[made.id] = made }
  return last
}

/// `TYPE:role` of the open and accepted breaks of one order's inputs; accepted ones in brackets.
func verdicts(
  _ events: [OrderEvent], _ postings: [Posting], policy: MatchingPolicy = testPolicy()
) -> [String] {
  let inputs = events.map { Input.order($0) } + postings.map { Input.posting($0) }
  return finalBreaks(inputs, policy: policy).values.filter { $0.state.isOpen || $0.state == .accepted }.map {
    let hints = $0.hints.map { "+\($0.rawValue)" }.joined()
    let text = "\($0.type.rawValue):\($0.role.name)\(hints)"
    return $0.state == .accepted ? "(\(text))" : text
  }.sorted()
}
