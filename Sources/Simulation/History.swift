import Domain

/// An order event as a plain value, for histories that an oracle reads too.
public struct HistoryEvent: Sendable, Equatable {
  public var order: String
  public var id: String
  public var kind: OrderEventKind
  public var document: String
  public var currency: Currency
  public var time_ms: Int64
  /// Minor units by component; what is not there is not carried by the record.
  public var amounts: [AmountComponent: Int64]
  /// Days since 1970-01-01; nil where it is the day of the event.
  public var documentDate_d: Int32?
  /// Millionths of the unit; nil where the record tells none.
  public var quantity_u: Int64?
  /// By index of the configured dimension; empty where the record carries none.
  public var dimensions: [String]
  /// First and last day of the service that is billed, days since 1970-01-01; nil where the record tells none.
  public var service: ClosedRange<Int32>?
  /// Line of the document; empty where the record tells none.
  public var documentLine = ""

  public init(
    order: String, id: String, kind: OrderEventKind, document: String, currency: Currency, time_ms: Int64,
    amounts: [AmountComponent: Int64], documentDate_d: Int32? = nil, quantity_u: Int64? = nil,
    dimensions: [String] = []
  ) {
    self.order = order
    self.id = id
    self.kind = kind
    self.document = document
    self.currency = currency
    self.time_ms = time_ms
    self.amounts = amounts
    self.documentDate_d = documentDate_d
    self.quantity_u = quantity_u
    self.dimensions = dimensions
  }

  /// The day that decides its period and its rate.
  public var day_d: Int32 { documentDate_d ?? day(ofMilliseconds: time_ms) }
}

/// A ledger line as a plain value.
public struct HistoryPosting: Sendable, Equatable {
  public var order: String
  public var journal: String
  public var line: Int
  public var document: String
  public var role: AccountRole
  public var currency: Currency
  /// Debit − credit, minor units.
  public var amount: Int64
  public var time_ms: Int64
  /// The journal that this line reverses; empty if none.
  public var reverses: String
  /// Days since 1970-01-01; nil where it is the day of the event.
  public var postingDate_d: Int32?
  /// The accounting period that the ledger states; 0 where it states none.
  public var period: Int32 = 0
  /// Minor units of the base currency, where the ledger tells them.
  public var baseAmount: Int64?
  /// Millionths of the unit; nil where the record tells none.
  public var quantity_u: Int64?
  /// As of `HistoryEvent`.
  public var dimensions: [String] = []
  public var documentLine = ""

  public init(
    order: String, journal: String, line: Int, document: String, role: AccountRole, currency: Currency, amount: Int64,
    time_ms: Int64, reverses: String = ""
  ) {
    self.order = order
    self.journal = journal
    self.line = line
    self.document = document
    self.role = role
    self.currency = currency
    self.amount = amount
    self.time_ms = time_ms
    self.reverses = reverses
  }

  /// The day that decides its period, where none is stated, and its rate.
  public var day_d: Int32 { postingDate_d ?? day(ofMilliseconds: time_ms) }
}

/// What happened to a few orders, and what was posted for them; the order in the arrays means nothing.
public struct History: Sendable, Equatable {
  public var events: [HistoryEvent] = []
  public var postings: [HistoryPosting] = []

  public init() {}

  /// What is left where each record counts once: of the events with one id the first, of the lines with one id the newest
  /// image. Where the times are the same too, what was delivered first, or the least by its dimensions.
  public var counted: History {
    func precede(_ a: [String], _ b: [String]) -> Bool {
      a.joined(separator: "\u{1}").utf8.lexicographicallyPrecedes(b.joined(separator: "\u{1}").utf8)
    }
    var counted = History()
    var places: [[String]: Int] = [:]
    for event in events {
      let id = [event.order, event.id]
      guard let at = places[id] else {
        places[id] = counted.events.count
        counted.events.append(event)
        continue
      }
      let known = counted.events[at]
      if event.time_ms < known.time_ms
        || event.time_ms == known.time_ms && precede(event.dimensions, known.dimensions)
      {
        counted.events[at] = event
      }
    }
    places.removeAll()
    for posting in postings {
      let id = [posting.order, posting.journal, "\(posting.line)"]
      guard let at = places[id] else {
        places[id] = counted.postings.count
        counted.postings.append(posting)
        continue
      }
      let known = counted.postings[at]
      if posting.time_ms > known.time_ms
        || posting.time_ms == known.time_ms && precede(posting.dimensions, known.dimensions)
      {
        counted.postings[at] = posting
      }
    }
    return counted
  }
}

extension History {
  /// Takes from some records a dimension, and gives others another one: events mostly name those of their order, a ledger
  /// more often knows none.
  public mutating func varyDimensions(_ values: [[String]], _ random: inout SeededRandom) {
    func vary(_ own: [String], none: Int) -> [String] {
      values.enumerated().map { at, values in
        let draw = random.below(12)
        if draw < none { return "" }
        if draw == 11 { return random.pick(values) }
        return at < own.count ? own[at] : ""
      }
    }
    for at in events.indices { events[at].dimensions = vary(events[at].dimensions, none: 3) }
    for at in postings.indices { postings[at].dimensions = vary(postings[at].dimensions, none: 7) }
  }
}

/// Small random histories: orders that are booked, shipped, invoiced, credited, paid and cancelled, posted right,
/// wrong, in parts, twice, with their reversals, or not at all; some records are delivered twice.
public struct HistoryGenerator: Sendable {
  private var random: SeededRandom
  private var history = History()
  private var journals = 0
  private let start_ms: Int64

  /// - Parameter start_ms: Time of the first event; all of them lie within a day of it.
  public init(seed: UInt64, start_ms: Int64) {
    random = SeededRandom(seed: seed, stream: 0x6869_7374)
    self.start_ms = start_ms
  }

  /// Another history of one to four orders with up to six events each.
  public mutating func next() -> History {
    history = History()
    journals = 0
    for order in 0..<1 + random.below(4) {
      let key = "H\(order)"
      for number in 0..<random.below(7) { make(key, number) }
    }
    if random.below(8) == 0 {
      post("STRAY", document: "S1", [(.receivable, 1_234), (.revenue, -1_234)], Currency("USD")!, start_ms)
    }
    for _ in 0..<random.below(3) where !history.events.isEmpty { history.events.append(random.pick(history.events)) }
    for _ in 0..<random.below(3) where !history.postings.isEmpty {
      history.postings.append(random.pick(history.postings))
    }
    return history
  }

  private typealias Lines = [(role: AccountRole, amount: Int64)]

  private mutating func make(_ key: String, _ number: Int) {
    let kinds: [OrderEventKind] = [.booked, .invoiced, .invoiced, .invoiced, .credited, .paid, .shipped, .cancelled]
    var kind = random.pick(kinds)
    // Most orders are never cancelled.
    if kind == .cancelled, random.below(2) == 0 { kind = .invoiced }
    let currency = Currency("USD")!
    let (net, tax, freight) = (
      Int64(1 + random.below(99_999)), Int64(random.below(2) * random.below(19_999)),
      Int64(random.below(2) * random.below(999))
    )
    let gross = net + tax + freight
    // An hour apart, so that no two events of an order share a time.
    let time_ms = start_ms + Int64(number) * 3_600_000 + Int64(random.below(60_000))
    let document = "\(key)-D\(number)"
    var amounts: [AmountComponent: Int64] = [:]
    var lines: Lines = []
    switch kind {
    case .invoiced:
      amounts = [.net: net, .tax: tax, .freight: freight, .gross: gross]
      lines = [(.receivable, gross), (.revenue, -net), (.tax, -tax), (.freight, -freight)]
    case .credited:
      amounts = [.net: net, .tax: tax, .freight: freight, .gross: gross]
      lines = [(.receivable, -gross), (.returns, net), (.tax, tax), (.freight, freight)]
    case .paid:
      amounts = [.applied: gross]
      lines = [(.cash, gross), (.receivable, -gross)]
    case .shipped:
      amounts = [.cost: net]
      lines = [(.cogs, net), (.inventory, -net)]
    default: amounts = [.net: net]
    }
    history.events.append(
      HistoryEvent(
        order: key, id: document, kind: kind, document: document, currency: currency, time_ms: time_ms,
        amounts: amounts))
    lines.removeAll { $0.amount == 0 }
    if !lines.isEmpty { post(key, kind, document: document, lines, currency, time_ms + 30_000) }
  }

  /// Posts a document: mostly right, else with one of the faults.
  private mutating func post(
    _ key: String, _ kind: OrderEventKind, document: String, _ right: Lines, _ currency: Currency, _ time_ms: Int64
  ) {
    var lines = right
    var currency = currency
    switch random.below(24) {
    case 0: return
    case 1: post(key, document: document, lines, currency, time_ms + 1_000)
    case 2: lines = lines.map { ($0.role, -$0.amount) }
    case 3: lines[0].amount += Int64(1 + random.below(500))
    case 4: lines = lines.map { ($0.role, $0.amount * 10) }
    case 5: lines[lines.count - 1].role = .clearing
    case 6: currency = Currency("EUR")!
    case 7:
      // Wrong, reversed, and posted again below.
      let wrong = lines.map { ($0.role, $0.amount + ($0.amount < 0 ? -100 : 100)) } as Lines
      let journal = post(key, document: document, wrong, currency, time_ms)
      post(
        key, document: document, wrong.map { ($0.role, -$0.amount) }, currency, time_ms + 2_000, reverses: journal)
    case 8:
      // Posted and taken back.
      let journal = post(key, document: document, lines, currency, time_ms)
      post(key, document: document, lines.map { ($0.role, -$0.amount) }, currency, time_ms + 2_000, reverses: journal)
      return
    case 9:
      // In two documents that add up.
      let first = lines.map { ($0.role, $0.amount / 3) } as Lines
      post(key, document: document, first, currency, time_ms)
      lines = zip(lines, first).map { ($0.role, $0.amount - $1.amount) }
    default: break
    }
    post(key, document: document, lines, currency, time_ms)
  }

  @discardableResult
  private mutating func post(
    _ key: String, document: String, _ lines: Lines, _ currency: Currency, _ time_ms: Int64, reverses: String = ""
  ) -> String {
    journals += 1
    let journal = "\(key)-J\(journals)"
    for (index, line) in lines.enumerated() where line.amount != 0 {
      history.postings.append(
        HistoryPosting(
          order: key, journal: journal, line: index + 1, document: document, role: line.role, currency: currency,
          amount: line.amount, time_ms: time_ms, reverses: reverses))
    }
    return journal
  }
}

/// Keeps the bytes alive that the domain's records of a history borrow: they are valid as long as this object is.
public final class HistoryStorage {
  private var blocks: [UnsafeMutableBufferPointer<UInt8>] = []
  private var known: [String: ByteView] = [:]
  private var offset: Int64 = 0

  public init() {}

  deinit { for block in blocks { block.deallocate() } }

  private func view(_ text: String) -> ByteView {
    if text.isEmpty { return .empty }
    if let view = known[text] { return view }
    let block = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
    _ = block.initialize(from: text.utf8)
    blocks.append(block)
    let view = ByteView(UnsafeBufferPointer(block))
    known[text] = view
    return view
  }

  /// Every call gives another source position, as every delivery of a record has its own.
  public func record(_ event: HistoryEvent) -> OrderEvent {
    var out = OrderEvent()
    out.order = view(event.order)
    out.id = view(event.id)
    out.document = view(event.document)
    out.kind = event.kind
    out.currency = event.currency
    out.time_ms = event.time_ms
    out.documentDate_d = event.day_d
    out.line = view(event.documentLine)
    if let quantity_u = event.quantity_u {
      out.quantity_u = quantity_u
      out.quantityPresent = true
    }
    for (at, value) in event.dimensions.enumerated() { out.dimensions[at] = view(value) }
    if let service = event.service {
      out.serviceStart_d = service.lowerBound
      out.serviceEnd_d = service.upperBound
    }
    for component in AmountComponent.allCases {
      if let amount = event.amounts[component] { out.amounts[component] = amount }
    }
    out.position = RecordPosition(source: 0, partition: 0, offset: nextOffset())
    return out
  }

  public func record(_ posting: HistoryPosting) -> Posting {
    var out = Posting()
    out.order = view(posting.order)
    out.id = view("\(posting.journal)-\(posting.line)")
    out.journal = view(posting.journal)
    out.document = view(posting.document)
    out.reverses = view(posting.reverses)
    out.isReversal = !posting.reverses.isEmpty
    out.role = posting.role
    out.currency = posting.currency
    out.amount = posting.amount
    out.time_ms = posting.time_ms
    out.postingDate_d = posting.day_d
    out.period = posting.period
    out.line = view(posting.documentLine)
    if let baseAmount = posting.baseAmount {
      out.baseAmount = baseAmount
      out.extras |= Posting.Extra.baseAmount
    }
    if let quantity_u = posting.quantity_u {
      out.quantity_u = quantity_u
      out.extras |= Posting.Extra.quantity
    }
    for (at, value) in posting.dimensions.enumerated() { out.dimensions[at] = view(value) }
    out.position = RecordPosition(source: 1, partition: 0, offset: nextOffset())
    return out
  }

  private func nextOffset() -> Int64 {
    offset += 1
    return offset
  }
}
