import Domain

/// What histories of whole orders are made of.
public struct OrderToCashOptions: Sendable {
  /// The most orders of a history.
  public var orders = 3
  public var currencies = ["USD", "EUR", "JPY", "KWD"].compactMap { Currency($0) }
  /// By dimension: the values to choose from.
  public var dimensions: [[String]] = [["north", "south", ""], ["shop", "Öffentliche Hand"]]
  public var policy = BillingPolicy.pointInTime
  public var start_ms: Int64 = 1_768_204_800_000
  /// Event time between two events of an order, at the least; three times as much at the most.
  public var step_ms: Int64 = 4 * 86_400_000
  /// Journals in a hundred that are posted wrong.
  public var faultsPer100 = 20
  /// Whether orders are cancelled, or held, after they have been billed.
  public var stopsBilledOrders = true
  /// Whether records come twice, byte for byte.
  public var repeats = true
  /// Whether an id is used again: for another event, for a newer image of a line, with another dimension.
  public var reusesIDs = false
  /// Whether some records carry no dimension, or another one than their order.
  public var variesDimensions = true
  public var hasQuantities = true
  /// Whether some invoices have two lines, of which more is posted for one and less for the other now and then.
  public var hasLines = false
  /// Rates by which some journals tell base amounts.
  public var rates: NaiveRates?
  /// Accounting periods that a ledger may state, right or wrong.
  public var periods: [Int32] = []

  public init() {}
}

/// Random histories of whole orders from the order to the cash, with all kinds of events: booked, changed, cancelled, held,
/// delivered, shipped and invoiced in parts, credited, returned, paid with deposits, discounts, processors and write-offs.
/// What is posted for them is right, wrong, in parts, twice, in another period, with its reversal, or missing.
public struct OrderToCashGenerator: Sendable {
  private let options: OrderToCashOptions
  private var random: SeededRandom
  /// By itself, so that all else of a seed's history is the same with and without.
  private var dimensionRandom: SeededRandom
  private var history = History()
  private var journals = 0
  private var order = Order()

  private struct Order {
    var key = ""
    var currency = Currency.none
    var dimensions: [String] = []
    var time_ms: Int64 = 0
    var events = 0
    /// What the order events say is to be paid.
    var receivable: Int64 = 0
    var billed: [HistoryEvent] = []
    /// Journals of the invoices, for their reversals.
    var journals: [String: [String]] = [:]
  }

  public init(seed: UInt64, options: OrderToCashOptions = OrderToCashOptions()) {
    self.options = options
    random = SeededRandom(seed: seed, stream: 0x6f32_63)
    dimensionRandom = SeededRandom(seed: seed, stream: 0x6469_6d73)
  }

  /// Another history.
  public mutating func next() -> History {
    history = History()
    journals = 0
    for number in 0..<1 + random.below(options.orders) {
      order = Order()
      order.key = "O\(number)"
      order.currency = random.pick(options.currencies)
      order.dimensions = options.dimensions.map { random.pick($0) }
      order.time_ms = options.start_ms
      live()
    }
    if options.faultsPer100 > 0, random.below(8) == 0 {
      order = Order()
      order.key = "STRAY"
      order.currency = random.pick(options.currencies)
      order.dimensions = options.dimensions.map { _ in "" }
      post([(.receivable, 1_234), (.revenue, -1_234)], document: "S1", at: options.start_ms, as: .init())
    }
    if options.variesDimensions { history.varyDimensions(options.dimensions, &dimensionRandom) }
    if options.reusesIDs { reuse() }
    if options.repeats {
      for _ in 0..<random.below(3) where !history.events.isEmpty { history.events.append(random.pick(history.events)) }
      for _ in 0..<random.below(3) where !history.postings.isEmpty {
        history.postings.append(random.pick(history.postings))
      }
    }
    return history
  }

  // MARK: - The life of an order

  /// True once in so many times.
  private mutating func chance(_ count: Int) -> Bool { random.below(count) == 0 }

  /// An amount of the order's currency of some hundred units.
  private mutating func money(_ most: Int = 99_999) -> Int64 {
    let amount = Int64(1 + random.below(most))
    switch order.currency.exponent {
    case 0: return amount / 100 + 1
    case 3: return amount * 10 + Int64(random.below(10))
    default: return amount
    }
  }

  /// A whole number of pieces, in millionths.
  private mutating func pieces() -> Int64 { Int64(1 + random.below(9)) * 1_000_000 }

  private mutating func live() {
    let parts = (0..<1 + random.below(3)).map { _ in (net: money(), quantity_u: pieces()) }
    let ordered = parts.reduce((net: Int64(0), quantity_u: Int64(0))) {
      ($0.net + $1.net, $0.quantity_u + $1.quantity_u)
    }
    if !chance(8) { emit(.booked, [.net: ordered.net], quantity_u: ordered.quantity_u) }
    if chance(4) { emit(.changed, chance(5) ? [:] : [.net: money(999) - money(1_999)], quantity_u: 0) }
    if chance(6) {
      emit(.held, [:])
      if !options.stopsBilledOrders || !chance(5) { emit(.released, [:]) }
    }
    var deposit: Int64 = 0
    if chance(3) {
      deposit = money(9_999)
      emit(.depositReceived, [.deposit: deposit])
    }
    if chance(10) {
      emit(.cancelled, chance(4) ? [:] : [.net: ordered.net], quantity_u: ordered.quantity_u)
      if deposit > 0 { emit(.refunded, [.applied: deposit]) }
      return
    }
    for part in parts { supply(part.net, part.quantity_u) }
    if let document = order.billed.last, chance(3) { takeBack(document) }
    if deposit > 0, !chance(5) {
      let applied = chance(3) ? (deposit + 1) / 2 : deposit
      emit(.depositApplied, [.deposit: applied])
      order.receivable -= applied
    }
    collect()
    if options.stopsBilledOrders, chance(12) {
      emit(.cancelled, [.net: ordered.net], quantity_u: ordered.quantity_u)
      for document in order.billed { reverse(document.document) }
    }
    if chance(2) { emit(.completed, [:]) }
  }

  /// Delivers, ships and bills a part of the order.
  private mutating func supply(_ net: Int64, _ quantity_u: Int64) {
    if chance(2) { emit(.delivered, [:], quantity_u: quantity_u) }
    let isBilledFirst = chance(4)
    if isBilledFirst { bill(net, quantity_u) }
    emit(.shipped, chance(6) ? [.cost: net / 2 + 1, .net: net] : [.cost: net / 2 + 1], quantity_u: quantity_u)
    if !isBilledFirst { bill(net, quantity_u) }
  }

  private mutating func bill(_ net: Int64, _ quantity_u: Int64) {
    let tax = chance(2) ? net / 5 : 0
    let freight = chance(2) ? money(999) : 0
    let discount = chance(5) ? net / 10 : 0
    let amounts: [AmountComponent: Int64] = [
      .net: net, .tax: tax, .freight: freight, .discount: discount, .gross: net + tax + freight - discount,
    ]
    var service: ClosedRange<Int32>?
    if options.policy == .scheduled, !chance(6) {
      let first = day(ofMilliseconds: order.time_ms) + Int32(random.below(20))
      service = first...first + Int32(random.below(120))
    }
    let told = amounts.filter { $0.value != 0 || $0.key != .discount }
    let isByLine = options.hasLines && service == nil && chance(2)
    let made =
      isByLine
      ? billByLine(told, quantity_u) : emit(.invoiced, told, quantity_u: quantity_u, service: service)
    order.receivable += amounts[.gross]!
    order.billed.append(made)
    if chance(7) {
      // Cancelled as a whole, and mostly made again under another number.
      order.billed.removeLast()
      order.receivable -= amounts[.gross]!
      emit(.invoiceCancelled, told, document: made.document, quantity_u: quantity_u, service: service)
      reverse(made.document)
      if !chance(4) { bill(net, quantity_u) }
      return
    }
    if let service { release(made, over: service) }
    guard options.policy == .inAdvance || options.policy == .pointInTime && chance(8) else { return }
    // Released in parts, mostly all of it.
    var rest = net
    for _ in 0..<1 + random.below(3) where rest > 0 {
      let part = chance(2) ? rest : (rest + 1) / 2
      emit(.recognised, [.net: part])
      rest -= part
    }
  }

  /// Bills in two lines of one document.
  /// - Returns: the last of them.
  private mutating func billByLine(_ amounts: [AmountComponent: Int64], _ quantity_u: Int64) -> HistoryEvent {
    var part = amounts.mapValues { $0 / 3 }
    var gross: Int64 = 0
    for component in [AmountComponent.net, .tax, .freight] { gross += part[component] ?? 0 }
    part[.gross] = gross - (part[.discount] ?? 0)
    let rest = amounts.merging(part) { $0 - $1 }
    let first = emit(.invoiced, part, quantity_u: quantity_u, line: "10")
    let second = emit(.invoiced, rest, document: first.document, quantity_u: quantity_u, line: "20")
    guard random.below(40) < options.faultsPer100 else { return second }
    // More for one line and less for the other, in journals that balance as before.
    var places: [Int] = []
    for line in ["10", "20"] {
      let revenue = history.postings.lastIndex {
        $0.document == first.document && $0.documentLine == line && $0.role == .revenue
      }
      let receivable = revenue.flatMap { revenue in
        history.postings.lastIndex { $0.journal == history.postings[revenue].journal && $0.role == .receivable }
      }
      places += [receivable, revenue].compactMap { $0 }
    }
    guard places.count == 4 else { return second }
    let moved = money(99)
    for (place, sign) in zip(places, [1, -1, -1, 1] as [Int64]) {
      history.postings[place].amount += sign * moved
      history.postings[place].baseAmount = nil
    }
    return second
  }

  /// Posts the releases of a service, each on the last day of its month.
  private mutating func release(_ invoice: HistoryEvent, over service: ClosedRange<Int32>) {
    func month(_ day: Int32) -> Int32 { Int32(civilFromDays(Int(day)).year * 12 + civilFromDays(Int(day)).month) }
    var caughtUp: Int64 = 0
    for (period, amount) in NaiveBooks.releases(of: Int128(invoice.amounts[.net] ?? 0), over: service, month) {
      let last = service.last { month($0) == period } ?? service.upperBound
      var amount = Int64(amount) + caughtUp
      caughtUp = 0
      if random.below(300) < options.faultsPer100 {
        switch random.below(3) {
        case 0: continue
        case 1: amount += 10
        // A month later, with that month's.
        default:
          caughtUp = amount
          continue
        }
      }
      var posted = Posted(day_d: last)
      posted.tellsBase = options.rates != nil && chance(3)
      post(
        [(.deferred, amount), (.revenue, -amount)], document: invoice.document,
        at: Int64(last) * 86_400_000 + 72_000_000, as: posted)
    }
  }

  /// Credits a part of an invoice, with the goods or without.
  private mutating func takeBack(_ invoice: HistoryEvent) {
    let net = max(1, (invoice.amounts[.net] ?? 1) / 3)
    let tax = (invoice.amounts[.tax] ?? 0) / 3
    let freight = chance(3) ? (invoice.amounts[.freight] ?? 0) : 0
    let areGoodsBack = chance(2)
    let quantity_u = areGoodsBack && chance(2) ? 1_000_000 : nil as Int64?
    if areGoodsBack { emit(.returned, [.cost: net / 2 + 1], quantity_u: quantity_u) }
    emit(
      .credited, [.net: net, .tax: tax, .freight: freight, .gross: net + tax + freight], quantity_u: quantity_u)
    order.receivable -= net + tax + freight
  }

  /// Pays what is to be paid, in parts, less, more, or not at all; what goes wrong afterwards.
  private mutating func collect() {
    if chance(5) {
      let gross = money()
      let fee = gross / 40
      emit(.settled, [.gross: gross, .fee: fee, .net: gross - fee])
    }
    for _ in 0..<random.below(4) where order.receivable > 0 {
      if chance(4) {
        let taken = order.receivable / 50
        if taken > 0 {
          emit(.discountTaken, [.discount: taken])
          order.receivable -= taken
        }
      }
      let applied: Int64
      switch random.below(6) {
      case 0: applied = order.receivable + money(500)
      case 1: applied = (order.receivable + 1) / 2
      case 2: applied = max(1, order.receivable - money(99))
      default: applied = order.receivable
      }
      emit(.paid, [.applied: applied], document: chance(2) ? order.billed.last?.document : nil)
      order.receivable -= applied
    }
    if chance(8) {
      let amount = money(9_999)
      emit(chance(2) ? .refunded : .chargeback, [.applied: amount])
      order.receivable += amount
    }
    if order.receivable > 0, chance(4) {
      emit(.writtenOff, [.applied: order.receivable])
      order.receivable = 0
    }
  }

  // MARK: - Records

  /// Makes an event, and posts it.
  @discardableResult
  private mutating func emit(
    _ kind: OrderEventKind, _ amounts: [AmountComponent: Int64], document: String? = nil, quantity_u: Int64? = nil,
    service: ClosedRange<Int32>? = nil, line: String = ""
  ) -> HistoryEvent {
    order.events += 1
    // No two events of an order share a time.
    order.time_ms += options.step_ms + Int64(random.below(Int(options.step_ms) * 2))
    var event = HistoryEvent(
      order: order.key, id: "\(order.key)-E\(order.events)", kind: kind,
      document: document ?? "\(order.key)-D\(order.events)", currency: order.currency, time_ms: order.time_ms,
      amounts: amounts, dimensions: order.dimensions)
    event.service = service
    event.documentLine = line
    if chance(5) { event.documentDate_d = day(ofMilliseconds: order.time_ms) - Int32(random.below(3)) }
    if options.hasQuantities, let quantity_u, quantity_u != 0, !chance(6) { event.quantity_u = quantity_u }
    history.events.append(event)
    let lines = NaiveOracle.expectation(event, options.policy)
    if !lines.isEmpty { postMostly(lines, event) }
    return event
  }

  private typealias Lines = [(role: AccountRole, amount: Int64)]

  /// How the lines of a journal are posted.
  private struct Posted {
    var currency: Currency?
    var day_d: Int32?
    var period: Int32 = 0
    var dimensions: [String]?
    var quantity_u: Int64?
    var line = ""
    var reverses = ""
    var tellsBase = false
    /// A base amount that is wrong by one minor unit.
    var isBaseWrong = false
  }

  /// Posts a document: mostly right, else with one of the faults.
  private mutating func postMostly(_ right: Lines, _ event: HistoryEvent) {
    var lines = right
    var posted = Posted(day_d: event.day_d, quantity_u: event.quantity_u, line: event.documentLine)
    posted.tellsBase = options.rates != nil && chance(3)
    let time_ms = event.time_ms + 30_000
    let document = event.document
    guard random.below(100) < options.faultsPer100 else {
      if chance(8) {
        // In two journals that add up.
        var first = lines.map { ($0.role, $0.amount / 3) } as Lines
        first[0].amount -= first.reduce(0) { $0 + $1.amount }
        var part = posted
        part.quantity_u = nil
        post(first, document: document, at: time_ms, as: part)
        lines = zip(lines, first).map { ($0.role, $0.amount - $1.amount) }
      }
      post(lines, document: document, at: time_ms, as: posted)
      return
    }
    switch random.below(13) {
    case 0: return
    case 1: post(lines, document: document, at: time_ms + 1_000, as: posted)
    case 2: lines = lines.map { ($0.role, -$0.amount) }
    case 3: lines[0].amount += money(500)
    case 4: lines = lines.map { ($0.role, $0.amount * 10) }
    case 5: lines[lines.count - 1].role = .clearing
    case 6: posted.currency = order.currency == Currency("EUR")! ? Currency("USD")! : Currency("EUR")!
    case 7:
      // Wrong, reversed, and posted again below.
      let wrong = lines.map { ($0.role, $0.amount + ($0.amount < 0 ? -100 : 100)) } as Lines
      let journal = post(wrong, document: document, at: time_ms, as: posted)
      var reversal = posted
      reversal.reverses = journal
      post(wrong.map { ($0.role, -$0.amount) }, document: document, at: time_ms + 2_000, as: reversal)
    case 8:
      // Posted and taken back.
      let journal = post(lines, document: document, at: time_ms, as: posted)
      var reversal = posted
      reversal.reverses = journal
      post(lines.map { ($0.role, -$0.amount) }, document: document, at: time_ms + 2_000, as: reversal)
      return
    case 9: posted.day_d = event.day_d + 40
    case 10: posted.period = options.periods.isEmpty ? 0 : random.pick(options.periods)
    case 11: posted.dimensions = order.dimensions.map { _ in "elsewhere" }
    default:
      posted.quantity_u = posted.quantity_u.map { -$0 - 1_000_000 }
      posted.isBaseWrong = true
    }
    post(lines, document: document, at: time_ms, as: posted)
  }

  /// Takes the journals of a document back.
  private mutating func reverse(_ document: String) {
    for journal in order.journals[document] ?? [] {
      let own = history.postings.filter { $0.journal == journal && $0.reverses.isEmpty }
      guard let first = own.first, options.faultsPer100 == 0 || !chance(10) else { continue }
      var posted = Posted(
        currency: first.currency, day_d: day(ofMilliseconds: order.time_ms), dimensions: first.dimensions)
      posted.reverses = journal
      post(own.map { ($0.role, -$0.amount) }, document: document, at: order.time_ms + 40_000, as: posted)
    }
    order.journals[document] = nil
  }

  @discardableResult
  private mutating func post(_ lines: Lines, document: String, at time_ms: Int64, as posted: Posted) -> String {
    journals += 1
    let journal = "\(order.key)-J\(journals)"
    if posted.reverses.isEmpty { order.journals[document, default: []].append(journal) }
    for (index, line) in lines.enumerated() where line.amount != 0 {
      var posting = HistoryPosting(
        order: order.key, journal: journal, line: index + 1, document: document, role: line.role,
        currency: posted.currency ?? order.currency, amount: line.amount, time_ms: time_ms, reverses: posted.reverses)
      posting.postingDate_d = posted.day_d
      posting.period = posted.period
      posting.documentLine = posted.line
      posting.dimensions = posted.dimensions ?? order.dimensions
      if [.revenue, .returns, .deferred].contains(line.role) { posting.quantity_u = posted.quantity_u }
      if posted.tellsBase, let rates = options.rates,
        let base = rates.convert(line.amount, posting.currency, posting.day_d)
      {
        posting.baseAmount = Int64(base) + (posted.isBaseWrong ? 1 : 0)
      }
      history.postings.append(posting)
    }
    return journal
  }

  /// Ids come again with other content.
  private mutating func reuse() {
    if chance(2), var event = history.events.randomElement(using: &random) {
      switch random.below(3) {
      case 0: event.time_ms += 7_200_000
      case 1:
        event.time_ms += 3_600_000
        event.amounts = event.amounts.mapValues { $0 + 100 }
      default: event.dimensions = event.dimensions.map { $0 + "2" }
      }
      history.events.append(event)
    }
    if chance(2), var posting = history.postings.randomElement(using: &random) {
      switch random.below(4) {
      // The same line, read again a month later.
      case 0: posting.time_ms += 31 * 86_400_000
      case 1:
        posting.time_ms += 3_600_000
        posting.amount += 77
      case 2:
        posting.time_ms += 3_600_000
        posting.role = .clearing
      default: posting.dimensions = posting.dimensions.map { $0 + "2" }
      }
      history.postings.append(posting)
    }
  }
}

extension History: CustomStringConvertible {
  /// One line a record, for the report of a failure.
  public var description: String {
    let events = events.map { event in
      var text = "event \(event.order) \(event.id) \(event.kind.name) \(event.document) \(event.currency.code)"
      text += " at \(formatTimestamp(event.time_ms)) of \(formatDate(event.day_d))"
      for component in AmountComponent.allCases {
        if let amount = event.amounts[component] { text += " \(component.name)=\(amount)" }
      }
      if let quantity_u = event.quantity_u { text += " quantity=\(quantity_u)" }
      if !event.documentLine.isEmpty { text += " line \(event.documentLine)" }
      if let service = event.service {
        text += " service \(formatDate(service.lowerBound)) to \(formatDate(service.upperBound))"
      }
      return text + " \(event.dimensions)"
    }
    let postings = postings.map { posting in
      var text = "posting \(posting.order) \(posting.journal)-\(posting.line) \(posting.document)"
      text += " \(posting.role.name) \(posting.amount) \(posting.currency.code)"
      text += " at \(formatTimestamp(posting.time_ms)) of \(formatDate(posting.day_d))"
      if posting.period != 0 { text += " in \(posting.period)" }
      if !posting.reverses.isEmpty { text += " reverses \(posting.reverses)" }
      if let base = posting.baseAmount { text += " base=\(base)" }
      if let quantity_u = posting.quantity_u { text += " quantity=\(quantity_u)" }
      if !posting.documentLine.isEmpty { text += " line \(posting.documentLine)" }
      return text + " \(posting.dimensions)"
    }
    return (events + postings).joined(separator: "\n")
  }
}
