import Domain

/// Everything about one generated order, derived from the seed and the order's number alone. So nothing of an order is
/// kept while its postings are on their way: they are derived again when they arrive.
struct SimulatedOrder {
  var number: Int
  var fault: FaultKind?
  var customer: Int
  var country: Int
  var currency: Currency
  /// The currency of the postings.
  var postedCurrency: Currency
  var net: Int64
  var tax: Int64
  var freight: Int64
  var time_ms: Int64
  var lineCount: Int
  /// Days from order to invoice.
  var leadTime_d: Int32
  /// Receivable lines a journal.
  var parts: Int
  var invoices: Int
  var isLedgerFirst: Bool
  /// What the ledger says of the amounts, where the fault changes the net amount (gross in the flat shape).
  var delta: Int64 = 0

  var gross: Int64 { net + tax + freight }
  var isFlipped: Bool { fault == .signFlip }
  var factor: Int64 { fault == .scaleError ? 100 : 1 }
  /// Journals of an invoice, one behind the other.
  var copies: Int { fault == .duplicatePosting ? 2 : fault == .missingInLedger ? 0 : 1 }

  /// Countries with the VAT in percent that the load charges there; abroad is untaxed, as in the real data.
  static let countries: [(name: StaticString, vat: Int64)] = [
    ("Germany", 19), ("USA", 0), ("France", 20), ("Brazil", 0), ("UK", 20), ("Austria", 20), ("Mexico", 0),
    ("Italy", 22), ("Venezuela", 0), ("Canada", 0), ("Sweden", 25), ("Switzerland", 0),
  ]

  init(_ number: Int, _ options: WorkloadOptions, faults: [FaultKind]) {
    var random = SeededRandom(seed: options.seed, stream: UInt64(number))
    let isFlat = options.shape == .flat
    self.number = number
    let isHot = random.chance(per10000: options.hotKeysPer10000)
    invoices = isHot ? max(1, options.invoicesPerHotKey) : 1
    customer = 10_000 + random.below(options.customers)
    country = random.below(SimulatedOrder.countries.count)
    currency = SimulatedOrder.currency(options, &random)
    postedCurrency = currency
    net = Int64(10_000 + random.below(9_000_000))
    freight = Int64(100 + random.below(19_900))
    tax = (net * SimulatedOrder.countries[country].vat + 50) / 100
    // A part of exactly ten would make an unbalanced receivable look like that part's difference.
    if freight == 1_000 { freight = 1_001 }
    lineCount = 1 + random.below(5)
    leadTime_d = Int32(2 + random.below(7))
    time_ms = options.start_ms + Int64(number) * options.interval_us / 1_000
    let isSplit = random.chance(per10000: options.splitsPer10000)
    parts = max(isFlat ? options.postingsPerOrder : 1, isSplit ? 2 : 1)
    isLedgerFirst = random.chance(per10000: options.ledgerFirstPer10000)
    if random.chance(per10000: options.faultsPer10000), !isHot, !faults.isEmpty { fault = random.pick(faults) }
    if fault == .wrongAccountRole, tax == 0 { fault = .amountMismatch }
    // The net amount, where every role is posted; the flat shape knows gross only.
    let base = isFlat ? gross : net
    if fault == .transposition {
      if let swapped = SimulatedOrder.transposed(base, isTelling: isTelling, &random) {
        delta = swapped - base
      } else {
        fault = .amountMismatch
      }
    }
    if fault == .amountMismatch {
      // Two amounts that differ by a swap of digits differ by a multiple of nine: 1 111 × 1…7 is none.
      repeat { delta = Int64((1 + random.below(7)) * 1_111 * (random.below(2) == 0 ? 1 : -1)) } while !isTelling(delta)
    }
    if fault == .currencyMismatch {
      // Of the same exponent, so that the same digits are the same amount.
      let others =
        currency.exponent == 0 ? ["KRW", "JPY"] : currency.exponent == 3 ? ["KWD", "BHD"] : ["EUR", "USD"]
      postedCurrency = others.compactMap { Currency($0) }.first { $0 != currency } ?? currency
    }
  }

  /// Whether a difference is not by chance one of the order's own parts, which would be another break.
  private func isTelling(_ delta: Int64) -> Bool {
    let size = Int64(delta.magnitude)
    return size != 0 && size != tax && size != freight && size != tax + freight && size != 1_000
  }

  private static func currency(_ options: WorkloadOptions, _ random: inout SeededRandom) -> Currency {
    guard options.currencies.count > 1 else { return options.currencies.first?.currency ?? Currency("USD")! }
    var at = random.below(max(1, options.currencies.reduce(0) { $0 + $1.weight }))
    for (currency, weight) in options.currencies {
      if at < weight { return currency }
      at -= weight
    }
    return options.currencies[0].currency
  }

  /// Two neighbouring digits swapped: another amount, as long, neither a power of ten nor a part of the order away;
  /// nil if no two digits do.
  static func transposed(
    _ amount: Int64, isTelling: (Int64) -> Bool, _ random: inout SeededRandom
  ) -> Int64? {
    var found: [Int64] = []
    // The digit that weighs `high` and the one behind it.
    var high: Int64 = 10
    while high <= amount {
      let (first, second) = (amount / high % 10, amount / (high / 10) % 10)
      let swapped = amount + (second - first) * (high - high / 10)
      let isLeading = amount / high < 10
      if first != second, !(isLeading && second == 0), !isPowerOfTen(amount, swapped), isTelling(swapped - amount) {
        found.append(swapped)
      }
      high *= 10
    }
    return found.isEmpty ? nil : random.pick(found)
  }

  private static func isPowerOfTen(_ a: Int64, _ b: Int64) -> Bool {
    let (large, small) = (max(a, b), min(a, b))
    return small != 0 && large % small == 0 && [10, 100, 1_000, 10_000].contains(large / small)
  }

  // MARK: - Ledger

  struct Line {
    var role: AccountRole
    var amount: Int64
  }

  /// The lines of one of the order's journals, debit − credit. A stray journal (see `missingOrder`) is posted right.
  func lines(_ shape: WorkloadShape, isStray: Bool, into lines: inout [Line]) {
    lines.removeAll(keepingCapacity: true)
    let fault = isStray ? nil : fault
    var receivable = gross + delta
    switch fault {
    case .freightMismatch: receivable -= freight
    case .unbalancedDocument: receivable += 1_000
    case .rounding: receivable += 1
    default: break
    }
    receivable *= factor
    for part in 0..<Int64(parts) {
      let share = receivable / Int64(parts)
      lines.append(Line(role: .receivable, amount: part == 0 ? receivable - share * Int64(parts - 1) : share))
    }
    if shape == .northwind {
      let moved = fault == .wrongAccountRole ? tax : 0
      lines.append(Line(role: .revenue, amount: -(net + delta + moved) * factor))
      if fault != .freightMismatch { lines.append(Line(role: .freight, amount: -freight * factor)) }
      if tax != 0, moved == 0 { lines.append(Line(role: .tax, amount: -tax * factor)) }
      if fault == .rounding { lines.append(Line(role: .rounding, amount: -1)) }
    }
    if isFlipped { for index in lines.indices { lines[index].amount = -lines[index].amount } }
  }

  /// Postings of one journal.
  func lineCount(_ shape: WorkloadShape) -> Int {
    guard shape == .northwind else { return parts }
    return parts + 1 + (fault == .freightMismatch ? 0 : 1) + (tax != 0 && fault != .wrongAccountRole ? 1 : 0)
      + (fault == .rounding ? 1 : 0)
  }

  // MARK: - Truth

  /// What must come out for the order; nil where it ties out.
  func truth(_ shape: WorkloadShape) -> TruthRow? {
    guard let fault else { return nil }
    let isFlat = shape == .flat
    var row = TruthRow(
      order: "SO-\(1_000_000_000 + number)", cause: fault.rawValue, role: .receivable, expected: gross, posted: gross,
      isAccepted: fault == .rounding, currency: currency,
      postedCurrency: postedCurrency == currency ? .none : postedCurrency)
    switch fault {
    case .missingInLedger: row.posted = nil
    case .missingOrder:
      row.expected = nil
      if !isFlat { row.order = "NOSUCH-" + row.order }
    case .amountMismatch, .transposition:
      // A wrong net shows in revenue and, by the same sum, in the receivable: it is revenue's.
      row.posted = gross + delta
      if !isFlat { (row.role, row.expected, row.posted) = (.revenue, -net, -(net + delta)) }
    case .scaleError: row.posted = gross * 100
    case .signFlip: row.posted = -gross
    case .duplicatePosting: row.posted = gross * 2
    case .cutoff: if !isFlat { (row.role, row.expected, row.posted) = (.revenue, -net, -net) }
    case .freightMismatch: (row.role, row.expected, row.posted) = (.freight, -freight, 0)
    case .wrongAccountRole: (row.role, row.expected, row.posted) = (.tax, -tax, 0)
    case .unbalancedDocument: row.posted = gross + 1_000
    case .rounding: row.posted = gross + 1
    case .currencyMismatch, .wrongCustomer: break
    }
    return row
  }
}
