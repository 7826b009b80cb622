import Domain

/// Writes generated records as JSON.
struct WorkloadEncoder: Sendable {
  /// Which posting of an order it is.
  struct Place {
    var invoice: Int
    /// Second and later journals of the same document.
    var copy: Int
    var isStray: Bool
    /// Orders by which the journal trails its own.
    var delay: Int
  }

  private let shape: WorkloadShape
  private let interval_us: Int64
  private let postsAtArrival: Bool
  private let postingLag_ms: Int64
  private let recordBytes: Int

  init(_ options: WorkloadOptions) {
    shape = options.shape
    interval_us = options.interval_us
    postsAtArrival = options.postsAtArrival
    postingLag_ms = options.postingLag_ms
    recordBytes = options.recordBytes
  }

  private static let filler: StaticString =
    "delivered in full and accepted without remark, standard terms of sale apply, no partial shipment, goods as ordered"

  // MARK: - Orders

  func order(_ order: SimulatedOrder, invoice: Int, into record: inout GeneratedRecord) {
    record.isOrder = true
    // The invoices of a hot key follow each other by milliseconds.
    record.time_ms = order.time_ms + Int64(invoice)
    key(order, isStray: false, &record.key)
    record.value.removeAll(keepingCapacity: true)
    if shape == .flat {
      flatOrder(order, invoice, record.time_ms, &record.value)
    } else {
      nestedOrder(order, invoice, record.time_ms, &record.value)
    }
  }

  private func key(_ order: SimulatedOrder, isStray: Bool, _ out: inout [UInt8]) {
    out.removeAll(keepingCapacity: true)
    appendKey(order, isStray: isStray, &out)
  }

  private func appendKey(_ order: SimulatedOrder, isStray: Bool, _ out: inout [UInt8]) {
    if isStray { out.text("NOSUCH-") }
    out.text("SO-")
    out.number(1_000_000_000 + order.number)
  }

  private func event(_ order: SimulatedOrder, _ invoice: Int, _ out: inout [UInt8]) {
    out.text("ev-")
    out.number(order.number)
    suffix(invoice, &out)
  }

  private func document(_ order: SimulatedOrder, _ invoice: Int, isStray: Bool = false, _ out: inout [UInt8]) {
    out.text(isStray ? "XINV" : "INV")
    out.number(order.number)
    suffix(invoice, &out)
  }

  private func suffix(_ invoice: Int, _ out: inout [UInt8]) {
    guard invoice > 0 else { return }
    out.append(UInt8(ascii: "-"))
    out.number(invoice)
  }

  private func customer(_ number: Int, _ out: inout [UInt8]) {
    out.append(UInt8(ascii: "C"))
    out.number(number)
  }

  private static let regions: [StaticString] = ["north", "south", "east", "west"]
  private static let channels: [StaticString] = ["web", "store", "partner"]

  private func flatOrder(_ order: SimulatedOrder, _ invoice: Int, _ time_ms: Int64, _ out: inout [UInt8]) {
    let decimals = order.currency.exponent
    out.text("{\"order_id\":\"")
    appendKey(order, isStray: false, &out)
    out.text("\",\"event_id\":\"")
    event(order, invoice, &out)
    out.text("\",\"event_type\":\"invoiced\",\"event_time\":\"")
    out.timestamp(time_ms)
    out.text("\",\"customer_id\":\"")
    customer(order.customer, &out)
    out.text("\",\"invoice_no\":\"")
    document(order, invoice, &out)
    out.text("\",\"currency\":\"")
    out.code(order.currency)
    out.text("\",\"net\":\"")
    out.amount(order.net, decimals: decimals)
    out.text("\",\"tax\":\"")
    out.amount(order.tax, decimals: decimals)
    out.text("\",\"freight\":\"")
    out.amount(order.freight, decimals: decimals)
    out.text("\",\"gross\":\"")
    out.amount(order.gross, decimals: decimals)
    out.text("\",\"region\":\"")
    out.text(WorkloadEncoder.regions[order.number % 4])
    out.text("\",\"channel\":\"")
    out.text(WorkloadEncoder.channels[order.number % 3])
    out.text("\",\"sales_rep\":\"rep-")
    out.number(order.number % 97)
    out.text("\",\"note\":\"")
    fill(&out)
  }

  private func nestedOrder(_ order: SimulatedOrder, _ invoice: Int, _ time_ms: Int64, _ out: inout [UInt8]) {
    let decimals = order.currency.exponent
    out.text("{\"id\":\"")
    appendKey(order, isStray: false, &out)
    out.text("\",\"event\":{\"id\":\"")
    event(order, invoice, &out)
    out.text("\",\"type\":\"order.invoiced\",\"time\":\"")
    out.timestamp(time_ms)
    out.text("\"},\"account\":{\"id\":\"")
    customer(order.customer, &out)
    out.text("\",\"country\":\"")
    out.text(SimulatedOrder.countries[order.country].name)
    out.text("\"},\"channel\":\"")
    out.text(WorkloadEncoder.channels[order.number % 3])
    out.text("\",\"ordered_on\":\"")
    out.date(day(ofMilliseconds: time_ms) - order.leadTime_d)
    out.text("\",\"invoice\":\"")
    document(order, invoice, &out)
    out.text("\",\"amounts\":{\"currency\":\"")
    out.code(order.currency)
    out.text("\",\"net\":\"")
    out.amount(order.net, decimals: decimals)
    out.text("\",\"freight\":\"")
    out.amount(order.freight, decimals: decimals)
    out.text("\",\"tax\":\"")
    out.amount(order.tax, decimals: decimals)
    out.text("\",\"gross\":\"")
    out.amount(order.gross, decimals: decimals)
    out.text("\"},\"terms\":\"NET30\",\"line_count\":")
    out.number(order.lineCount)
    out.text("}")
  }

  /// Fills the last text of a flat record up to the wanted size, and ends the record.
  private func fill(_ out: inout [UInt8]) {
    var missing = recordBytes - out.count - 2
    let filler = UnsafeBufferPointer(
      start: WorkloadEncoder.filler.utf8Start, count: WorkloadEncoder.filler.utf8CodeUnitCount)
    while missing > 0 {
      let count = min(missing, filler.count)
      out.append(contentsOf: UnsafeBufferPointer(rebasing: filler[0..<count]))
      missing -= count
    }
    out.text("\"}")
  }

  // MARK: - Ledger

  private static func account(_ role: AccountRole) -> StaticString {
    switch role {
    case .receivable: "1200"
    case .tax: "2400"
    case .revenue: "4000"
    case .freight: "4100"
    case .rounding: "6900"
    default: preconditionFailure("a generated journal has no \(role.name)")
    }
  }

  /// A CDC connector sees a journal when it is posted: minutes after its order, and three days at the most.
  private func posted_ms(_ order: SimulatedOrder, _ place: Place) -> Int64 {
    let base = order.time_ms + Int64(place.invoice) + postingLag_ms
    guard postsAtArrival else { return base }
    return base + min(Int64(place.delay) * interval_us / 1_000, 71 * 3_600_000)
  }

  /// The day by which the period is decided: the invoice's, or the second of the following month.
  private func postingDay(_ order: SimulatedOrder, isStray: Bool) -> Int32 {
    let date = day(ofMilliseconds: order.time_ms)
    guard order.fault == .cutoff, !isStray else { return date }
    let (year, month, _) = civilFromDays(Int(date))
    return Int32(daysFromCivil(year: month == 12 ? year + 1 : year, month: month == 12 ? 1 : month + 1, day: 2))
  }

  /// The ledger document; another one for a second posting of the same invoice and for a stray one.
  private func journal(_ order: SimulatedOrder, _ place: Place, _ out: inout [UInt8]) {
    out.text("JE")
    out.number(order.number * 2 + 1 + (place.copy > 0 || place.isStray ? 1 : 0), width: 7)
    suffix(place.invoice, &out)
  }

  func posting(
    _ order: SimulatedOrder, _ place: Place, _ line: SimulatedOrder.Line, number: Int,
    into record: inout GeneratedRecord
  ) {
    record.isOrder = false
    record.time_ms = posted_ms(order, place)
    key(order, isStray: place.isStray, &record.key)
    record.value.removeAll(keepingCapacity: true)
    if shape == .flat {
      flatPosting(order, place, line, number, record.time_ms, &record.value)
    } else {
      journalLine(order, place, line, number, record.time_ms, &record.value)
    }
  }

  private func postedCustomer(_ order: SimulatedOrder, _ out: inout [UInt8]) {
    if order.fault == .wrongCustomer { out.text("ZZZZZ") } else { customer(order.customer, &out) }
  }

  private func flatPosting(
    _ order: SimulatedOrder, _ place: Place, _ line: SimulatedOrder.Line, _ number: Int, _ time_ms: Int64,
    _ out: inout [UInt8]
  ) {
    let date = postingDay(order, isStray: place.isStray)
    out.text("{\"entry_id\":\"")
    journal(order, place, &out)
    out.text("-")
    out.number(number)
    out.text("\",\"journal_id\":\"")
    journal(order, place, &out)
    out.text("\",\"order_id\":\"")
    appendKey(order, isStray: place.isStray, &out)
    out.text("\",\"invoice_no\":\"")
    document(order, place.invoice, isStray: place.isStray, &out)
    out.text("\",\"account\":\"")
    out.text(WorkloadEncoder.account(line.role))
    out.text("\",\"amount\":\"")
    out.amount(line.amount, decimals: order.currency.exponent)
    out.text("\",\"currency\":\"")
    out.code(order.postedCurrency)
    out.text("\",\"posted_at\":\"")
    out.timestamp(time_ms)
    out.text("\",\"posting_date\":\"")
    out.date(date)
    out.text("\",\"period\":\"")
    out.month(date)
    out.text("\",\"customer_id\":\"")
    postedCustomer(order, &out)
    out.text("\",\"cost_center\":\"CC-")
    out.number(order.number % 40)
    out.text("\",\"user\":\"batch\",\"text\":\"")
    fill(&out)
  }

  private func journalLine(
    _ order: SimulatedOrder, _ place: Place, _ line: SimulatedOrder.Line, _ number: Int, _ time_ms: Int64,
    _ out: inout [UInt8]
  ) {
    let date = postingDay(order, isStray: place.isStray)
    let decimals = order.currency.exponent
    out.text("{\"before\":null,\"after\":{\"journal_id\":\"")
    journal(order, place, &out)
    out.text("\",\"line_no\":")
    out.number(number)
    out.text(",\"sales_order\":\"")
    appendKey(order, isStray: place.isStray, &out)
    out.text("\",\"document_no\":\"")
    document(order, place.invoice, isStray: place.isStray, &out)
    out.text("\",\"account\":\"")
    out.text(WorkloadEncoder.account(line.role))
    out.text("\",\"debit\":\"")
    out.amount(max(0, line.amount), decimals: decimals)
    out.text("\",\"credit\":\"")
    out.amount(max(0, -line.amount), decimals: decimals)
    out.text("\",\"currency\":\"")
    out.code(order.postedCurrency)
    out.text("\",\"customer_no\":\"")
    postedCustomer(order, &out)
    out.text("\",\"posting_date\":\"")
    out.date(date)
    out.text("\",\"period\":\"")
    out.month(date)
    out.text("\",\"text\":\"sales invoice\"},\"op\":\"c\",\"ts_ms\":")
    out.number(Int(time_ms))
    out.text(",\"source\":{\"connector\":\"postgresql\",\"db\":\"erp\",\"table\":\"gl_journal_line\",\"lsn\":")
    out.number(1_000 + order.number * 32 + max(0, place.copy) * 16 + number)
    out.text("}}")
  }
}
