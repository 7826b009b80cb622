import Domain

/// How the records of a generated load look.
public enum WorkloadShape: String, Sendable, CaseIterable {
  /// Flat JSON of about 330 bytes, one receivable posting an order: `config/examples/flat.yaml`.
  case flat
  /// Nested orders and Debezium journal lines, two to five an order: `config/examples/northwind.yaml`.
  case northwind
}

public struct WorkloadOptions: Sendable {
  public var seed: UInt64 = 1
  public var orders = 10_000
  public var shape = WorkloadShape.flat
  /// Faulty orders in ten thousand.
  public var faultsPer10000 = 200
  /// A posting trails its order by up to this many orders.
  public var shuffle = 5_000
  /// Records in ten thousand that are delivered a second time, byte for byte.
  public var redeliveriesPer10000 = 0
  public var customers = 500
  public var start_ms: Int64 = 1_735_689_600_000
  /// Event time between two orders, microseconds.
  public var interval_us: Int64 = 1_000_000

  public init() {}
}

/// What must come out for one faulty order.
public struct TruthRow: Sendable, Equatable {
  public var order: String
  /// The break type, or the hint where that tells the fault.
  public var cause: String
  public var role: AccountRole
  public var expected: Int64?
  public var posted: Int64?
  public var isAccepted: Bool

  public init(order: String, cause: String, role: AccountRole, expected: Int64?, posted: Int64?, isAccepted: Bool) {
    self.order = order
    self.cause = cause
    self.role = role
    self.expected = expected
    self.posted = posted
    self.isAccepted = isAccepted
  }

  /// As a line of CSV: order, type, role, expected, posted.
  public var csv: String {
    func amount(_ value: Int64?) -> String { value.map { formatDecimal(Int128($0), decimals: 2) } ?? "" }
    return "\(order),\(cause),\(role.name),\(amount(expected)),\(amount(posted))"
  }
}

/// A generated record, in a buffer of the workload's.
public struct GeneratedRecord: Sendable {
  public var isOrder: Bool
  public var key: [UInt8]
  public var value: [UInt8]
}

/// A seeded load of orders and postings with labelled faults, in order of arrival, in bounded memory: only the
/// postings of the last `shuffle` orders are held back.
public struct Workload: Sendable {
  public let options: WorkloadOptions
  /// Every fault made so far.
  public private(set) var truth: [TruthRow] = []
  private var random: SeededRandom
  private var made = 0
  private var journal = 0
  private var ready: [GeneratedRecord] = []
  private var readyAt = 0
  /// Postings on their way: by the number of the order after which they come.
  private var pending: [[[GeneratedRecord]]]
  private var drained = 0

  static let faults = [
    "MISSING_IN_LEDGER", "MISSING_ORDER", "AMOUNT_MISMATCH", "SCALE_ERROR", "SIGN_FLIP", "TRANSPOSITION",
    "CURRENCY_MISMATCH", "WRONG_CUSTOMER", "CUTOFF", "DUPLICATE_POSTING",
  ]
  static let ledgerFaults = faults + ["FREIGHT_MISMATCH", "WRONG_ACCOUNT_ROLE", "UNBALANCED_DOCUMENT", "ROUNDING"]

  public init(_ options: WorkloadOptions) {
    self.options = options
    random = SeededRandom(seed: options.seed)
    pending = Array(repeating: [], count: options.shuffle + 1)
  }

  /// The next record in order of arrival, nil at the end.
  public mutating func next() -> GeneratedRecord? {
    while readyAt == ready.count {
      ready.removeAll(keepingCapacity: true)
      readyAt = 0
      let slot = (made + drained) % pending.count
      if made < options.orders {
        makeOrder()
        made += 1
      } else if drained <= options.shuffle {
        drained += 1
      } else {
        return nil
      }
      for records in pending[slot] { ready.append(contentsOf: records) }
      pending[slot].removeAll(keepingCapacity: true)
    }
    readyAt += 1
    let record = ready[readyAt - 1]
    if options.redeliveriesPer10000 > 0, random.below(10_000) < options.redeliveriesPer10000 { ready.append(record) }
    return record
  }

  private struct Order {
    var key: String
    var number: Int
    var customer: String
    var invoice: String
    var net: Int64
    var tax: Int64
    var freight: Int64
    var time_ms: Int64
    var gross: Int64 { net + tax + freight }
  }

  private mutating func makeOrder() {
    let number = made
    let key = "SO-\(1_000_000_000 + number)"
    let net = Int64(10_000 + random.below(9_000_000))
    let hasTax = random.below(4) > 0
    let tax = hasTax ? (net * 19 + 50) / 100 : 0
    let freight = Int64(100 + random.below(19_900))
    let time_ms = options.start_ms + Int64(number) * options.interval_us / 1_000
    let order = Order(
      key: key, number: number, customer: "C\(10_000 + random.below(options.customers))", invoice: "INV\(number)",
      net: net, tax: tax, freight: freight, time_ms: time_ms)
    var fault = ""
    if random.below(10_000) < options.faultsPer10000 {
      let kinds = options.shape == .flat ? Workload.faults : Workload.ledgerFaults
      fault = kinds[random.below(kinds.count)]
      if fault == "WRONG_ACCOUNT_ROLE", tax == 0 { fault = "AMOUNT_MISMATCH" }
    }
    if fault != "MISSING_ORDER" { ready.append(orderRecord(order)) }
    let delay = random.below(options.shuffle + 1)
    let slot = (made + delay) % pending.count
    for records in postings(order, fault) {
      if delay == 0 { ready.append(contentsOf: records) } else { pending[slot].append(records) }
    }
  }

  // MARK: - Ledger

  private typealias Line = (role: AccountRole, amount: Int64)

  private mutating func postings(_ order: Order, _ fault: String) -> [[GeneratedRecord]] {
    let isFlat = options.shape == .flat
    var lines: [Line] = [(.receivable, order.gross)]
    if !isFlat {
      lines.append((.revenue, -order.net))
      lines.append((.freight, -order.freight))
      if order.tax != 0 { lines.append((.tax, -order.tax)) }
    }
    var currency = "USD"
    var customer = order.customer
    var shiftDays = 0
    var copies = 1
    var row = TruthRow(
      order: order.key, cause: fault, role: .receivable, expected: order.gross, posted: order.gross, isAccepted: false)
    // A wrong net shows in revenue and, by the same sum, in the receivable.
    func changeNet(by delta: Int64) {
      lines[0].amount += delta
      row.posted = lines[0].amount
      guard !isFlat else { return }
      lines[1].amount -= delta
      row.role = .revenue
      row.expected = -order.net
      row.posted = lines[1].amount
    }
    switch fault {
    case "": break
    case "MISSING_IN_LEDGER":
      row.posted = nil
      truth.append(row)
      return []
    case "MISSING_ORDER": row.expected = nil
    case "AMOUNT_MISMATCH":
      // Neither a swap of digits nor a power of ten.
      changeNet(by: Int64(1_111 + random.below(7) * 1_111))
    case "SCALE_ERROR":
      for index in lines.indices { lines[index].amount *= 100 }
      row.posted = order.gross * 100
    case "SIGN_FLIP":
      for index in lines.indices { lines[index].amount = -lines[index].amount }
      row.posted = -order.gross
    case "TRANSPOSITION":
      if let swapped = Workload.swapped(isFlat ? order.gross : order.net) {
        changeNet(by: swapped - (isFlat ? order.gross : order.net))
      } else {
        row.cause = "AMOUNT_MISMATCH"
        changeNet(by: 1_111)
      }
    case "CURRENCY_MISMATCH": currency = "EUR"
    case "WRONG_CUSTOMER": customer = "ZZZZZ"
    case "CUTOFF":
      shiftDays = 35
      if !isFlat {
        row.role = .revenue
        row.expected = -order.net
        row.posted = -order.net
      }
    case "DUPLICATE_POSTING":
      copies = 2
      row.posted = order.gross * 2
    case "FREIGHT_MISMATCH":
      lines[0].amount -= order.freight
      lines.remove(at: 2)
      row.role = .freight
      row.expected = -order.freight
      row.posted = 0
    case "WRONG_ACCOUNT_ROLE":
      lines[1].amount -= order.tax
      lines.remove(at: 3)
      row.role = .tax
      row.expected = -order.tax
      row.posted = 0
    case "UNBALANCED_DOCUMENT":
      lines[0].amount += 1_000
      row.posted = order.gross + 1_000
    case "ROUNDING":
      lines[0].amount += 1
      lines.append((.rounding, -1))
      row.posted = order.gross + 1
      row.isAccepted = true
    default: preconditionFailure("unknown fault \(fault)")
    }
    if !fault.isEmpty { truth.append(row) }
    return (0..<copies).map { _ in
      journal += 1
      return lines.enumerated().map { index, line in
        postingRecord(order, line, number: index + 1, currency: currency, customer: customer, shiftDays: shiftDays)
      }
    }
  }

  /// Two neighbouring digits swapped, so that the result differs and is as long; nil if there are no such two.
  static func swapped(_ amount: Int64) -> Int64? {
    var digits = Array(String(amount).utf8)
    for index in 0..<digits.count - 1 where digits[index] != digits[index + 1] && digits[index + 1] != 0x30 {
      digits.swapAt(index, index + 1)
      return Int64(String(decoding: digits, as: UTF8.self))
    }
    return nil
  }

  private static let accounts: [AccountRole: String] = [
    .receivable: "1200", .cash: "1900", .tax: "2400", .revenue: "4000", .freight: "4100", .rounding: "6900",
  ]

  private func amount(_ value: Int64) -> String { formatDecimal(Int128(value), decimals: 2) }

  private static let regions = ["north", "south", "east", "west"]
  private static let channels = ["web", "store", "partner"]

  private func orderRecord(_ order: Order) -> GeneratedRecord {
    let time = formatTimestamp(order.time_ms)
    let text: String
    switch options.shape {
    case .flat:
      text =
        "{\"order_id\":\"\(order.key)\",\"event_id\":\"ev-\(order.number)\",\"event_type\":\"invoiced\",\"event_time\":\"\(time)\","
        + "\"customer_id\":\"\(order.customer)\",\"invoice_no\":\"\(order.invoice)\",\"currency\":\"USD\",\"net\":\"\(amount(order.net))\","
        + "\"tax\":\"\(amount(order.tax))\",\"freight\":\"\(amount(order.freight))\",\"gross\":\"\(amount(order.gross))\","
        + "\"region\":\"\(Workload.regions[order.number % 4])\",\"channel\":\"\(Workload.channels[order.number % 3])\","
        + "\"sales_rep\":\"rep-\(order.number % 97)\",\"note\":\"standard terms\"}"
    case .northwind:
      text =
        "{\"id\":\"\(order.key)\",\"event\":{\"id\":\"ev-\(order.number)\",\"type\":\"order.invoiced\",\"time\":\"\(time)\"},"
        + "\"account\":{\"id\":\"\(order.customer)\",\"country\":\"Germany\"},\"channel\":\"\(Workload.channels[order.number % 3])\","
        + "\"ordered_on\":\"\(time.prefix(10))\",\"invoice\":\"\(order.invoice)\",\"amounts\":{\"currency\":\"USD\",\"net\":\"\(amount(order.net))\","
        + "\"freight\":\"\(amount(order.freight))\",\"tax\":\"\(amount(order.tax))\",\"gross\":\"\(amount(order.gross))\"},"
        + "\"terms\":\"NET30\",\"line_count\":2}"
    }
    return GeneratedRecord(isOrder: true, key: Array(order.key.utf8), value: Array(text.utf8))
  }

  private func postingRecord(
    _ order: Order, _ line: Line, number: Int, currency: String, customer: String, shiftDays: Int
  ) -> GeneratedRecord {
    let posted_ms = order.time_ms + 60_000
    let date = formatDate(day(ofMilliseconds: order.time_ms) + Int32(shiftDays))
    let period = date.prefix(7)
    let account = Workload.accounts[line.role]!
    let text: String
    switch options.shape {
    case .flat:
      text =
        "{\"entry_id\":\"JE\(journal)-\(number)\",\"journal_id\":\"JE\(journal)\",\"order_id\":\"\(order.key)\","
        + "\"invoice_no\":\"\(order.invoice)\",\"account\":\"\(account)\",\"amount\":\"\(amount(line.amount))\",\"currency\":\"\(currency)\","
        + "\"posted_at\":\"\(formatTimestamp(posted_ms))\",\"posting_date\":\"\(date)\",\"period\":\"\(period)\","
        + "\"customer_id\":\"\(customer)\",\"cost_center\":\"CC-\(order.number % 40)\",\"user\":\"batch\",\"text\":\"sales invoice\"}"
    case .northwind:
      let (debit, credit) = line.amount >= 0 ? (line.amount, 0) : (0, -line.amount)
      text =
        "{\"before\":null,\"after\":{\"journal_id\":\"JE\(journal)\",\"line_no\":\(number),\"sales_order\":\"\(order.key)\","
        + "\"document_no\":\"\(order.invoice)\",\"account\":\"\(account)\",\"debit\":\"\(amount(debit))\",\"credit\":\"\(amount(credit))\","
        + "\"currency\":\"\(currency)\",\"customer_no\":\"\(customer)\",\"posting_date\":\"\(date)\",\"period\":\"\(period)\","
        + "\"text\":\"sales invoice\"},\"op\":\"c\",\"ts_ms\":\(posted_ms),\"source\":{\"connector\":\"postgresql\",\"db\":\"erp\","
        + "\"table\":\"gl_journal_line\",\"lsn\":\(journal * 10 + number)}}"
    }
    return GeneratedRecord(isOrder: false, key: Array(order.key.utf8), value: Array(text.utf8))
  }
}
