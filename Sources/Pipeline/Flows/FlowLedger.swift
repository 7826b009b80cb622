import Configuration
import Domain
import Forecasting

/// An item of a customer's account, and the values of the dimensions that flows are about.
struct FlowItem {
  var item: ReceivableItem
  /// By `FlowLedger.labelDimensions`.
  var labels: [String]
  /// No source says when it is due.
  var isDueAssumed = false
}

/// The receivables that a ledger holds, put together from its postings: invoices are debits of receivable accounts,
/// what settles them are credits.
///
/// A posting belongs to the invoice whose document it names; what is posted of one on another day is an item of its own. A
/// credit settles the oldest items of its document, one that names none those of its order; what goes beyond stands on
/// account. A debit that is no invoice (a refund, money that bounced) takes that off first. A credit is cash as far as its
/// journal has lines on cash or clearing accounts, and where no other line of it is known; otherwise (returns, write-offs,
/// reversals) it settles without money. A journal with nothing but receivables that come to nothing moves what is owed: no
/// cash, and no sale; one of the same number on another day is another journal there. The order side gives what the ledger
/// does not carry: the due date, the customer, the dimensions. What is made of the facts does not depend on the order in
/// which they came: of those with one id the one counts that the
/// matcher lets count.
struct FlowLedger {
  /// A line of the ledger, or an invoice of the order side: 64 bytes, plain.
  struct Fact {
    /// `gone` is a row that was deleted, or is of no interest now: an older image of it must not come back.
    enum Kind: UInt8 { case gone, receivable, cashLeg, otherLeg, invoice, booking, unbilling, ending }
    var identity: UInt64
    /// The number of the document, or of the journal that is reversed; 0 where none is named.
    var document: UInt64
    /// 0 where it has none.
    var journal: UInt64
    var amount: Int64
    /// Event time: which of two images of a row is the newer one.
    var time_ms: Int64
    /// Posting date; of an order event its document date.
    var day: Int32
    /// Of a booking the place of its terms, −1 for none.
    var due: Int32
    /// The next fact of the order; −1 behind the last.
    var next: Int32 = -1
    var customer: Int32
    var labels: Int32
    var currency: Currency
    var kind: Kind
    var flags: UInt8

    static let reversal: UInt8 = 1
    /// `due` was found by terms.
    static let byTerms: UInt8 = 2
    /// The event does not say what it comes to.
    static let unvalued: UInt8 = 4
    /// A change of a row of a change feed, and one that deletes it.
    static let change: UInt8 = 8
    static let delete: UInt8 = 16
    var isReversal: Bool { flags & Fact.reversal != 0 }
    var isChange: Bool { flags & Fact.change != 0 }
    var isDelete: Bool { flags & Fact.delete != 0 }
    /// Whether it is a line of a journal that is on no receivable.
    var isLeg: Bool { kind == .cashLeg || kind == .otherLeg }

    /// Some order of what two facts say, whichever came first.
    func isLess(_ other: Fact) -> Bool {
      if (amount, document, journal) != (other.amount, other.document, other.journal) {
        return (amount, document, journal) < (other.amount, other.document, other.journal)
      }
      return (day, due, kind.rawValue, flags) < (other.day, other.due, other.kind.rawValue, other.flags)
    }

    /// Terms give a day; what is said to be due on a day is.
    func due(_ days: BusinessDays) -> Int32 {
      flags & Fact.byTerms != 0 && due != absentDate ? days.rolled(due) : due
    }
  }

  /// A fact more than the configured limit.
  struct Full: Error, CustomStringConvertible {
    var limit: Int
    var description: String {
      "there are more than \(limit) facts (lines of the ledger on any account, invoices, with flows.backlog all that is "
        + "ordered and ended, and deleted rows): raise flows.facts, or let the source topics keep less of what has long been "
        + "settled. A shorter flows.history has a job that runs forget more, and changes nothing at a start, at which the "
        + "topics are read from the beginning"
    }
  }

  /// Indexes of the configured dimensions whose values are kept.
  let labelDimensions: [Int]
  private(set) var settings: FlowSettings
  /// By source: event times are columns of its rows, and do not tell the newest image (`MatchingPolicy.positioned`).
  private let positioned: [Bool]
  private(set) var facts: [Fact] = []
  /// First fact of each order.
  private(set) var orders: [Fingerprint: Int32] = [:]
  private var byIdentity: [UInt64: Int32] = [:]
  private(set) var names = Interner()
  private(set) var labelSets: [[String]] = []
  private var labelNumbers: [Fingerprint: Int32] = [:]
  private var key: [UInt8] = []
  private(set) var knownTerms: [PaymentTerms] = []
  private var termNumbers: [PaymentTerms: Int32] = [:]
  /// Open breaks of a receivable: break → order; and how many an order has.
  private var openBreaks: [Fingerprint: Fingerprint] = [:]
  private var disputes: [Fingerprint: Int32] = [:]
  private(set) var isChanged = false

  init(settings: FlowSettings, dimensions: [String], positioned: [Bool] = []) {
    self.settings = settings
    self.positioned = positioned
    labelDimensions = (settings.by + [settings.segment]).compactMap { dimensions.firstIndex(of: $0) }
  }

  var factCount: Int { facts.count }

  /// Goes on with another calendar: days that terms give are found anew when items are.
  mutating func use(_ days: BusinessDays) { settings.businessDays = days }

  // MARK: - Facts

  private static func hash(_ text: ByteView) -> UInt64 { text.isEmpty ? 0 : Fingerprint(text).low | 1 }

  /// Of a journal's number: which source it is of.
  private static let ofJournal: UInt64 = 1 << 16
  private static let sourceBits: UInt64 = 1 << 17 - 1

  /// The number of a document: of whatever source it is, it is the same.
  private static func document(_ text: ByteView) -> UInt64 {
    text.isEmpty ? 0 : Fingerprint(text).low & ~sourceBits | 1 << 17
  }

  /// The number of a journal is its source's own: two ledgers may both count from 1.
  private static func journal(_ text: ByteView, _ source: UInt16) -> UInt64 {
    text.isEmpty ? 0 : document(text) | ofJournal | UInt64(source)
  }

  /// What a number reads, of whatever it is.
  static func text(_ number: UInt64) -> UInt64 { number & ~sourceBits }

  /// Whether a number names an item: where both are of journals, their source is one.
  static func names(_ number: UInt64, _ item: UInt64) -> Bool {
    text(number) == text(item)
      && (number & ofJournal == 0 || item & ofJournal == 0 || number & sourceBits == item & sourceBits)
  }

  private static func mix(_ parts: UInt64...) -> UInt64 {
    parts.reduce(0x9e37_79b9_7f4a_7c15) {
      let product = ($0 ^ $1).multipliedFullWidth(by: 0xbf58_476d_1ce4_e5b9)
      return product.high ^ product.low
    }
  }

  private static func identity(_ order: Fingerprint, _ id: ByteView, _ position: RecordPosition) -> UInt64 {
    let own =
      id.isEmpty
      ? UInt64(bitPattern: Int64(position.partition) << 44 | position.offset & (1 << 44 - 1)) << 1 : hash(id)
    return mix(order.high, order.low, UInt64(position.source), own)
  }

  /// An invoice of the order side; other events say nothing about receivables that the ledger does not.
  mutating func add(_ event: OrderEvent, due: Int32, terms: PaymentTerms?) throws(Full) {
    let order = Fingerprint(event.order)
    let identity = FlowLedger.identity(order, event.id, event.position)
    let flags = FlowLedger.flags(isUpsert: event.isUpsert, isDelete: event.isDelete)
    guard !event.isDelete, let kind = kind(event) else {
      // An update may have made another event of what was an invoice.
      if flags != 0 { try putGone(identity, event.time_ms, flags, order, event.position, isFirst: true) }
      return
    }
    let day = event.documentDate_d == absentDate ? day(ofMilliseconds: event.time_ms) : event.documentDate_d
    var fact = Fact(
      identity: identity, document: FlowLedger.document(event.document), journal: 0, amount: 0,
      time_ms: event.time_ms, day: day, due: due == absentDate ? terms?.dueDay(from: day) ?? absentDate : due,
      customer: names.number(event.customer), labels: labels(event.dimensions), currency: event.currency, kind: kind,
      flags: flags | (due == absentDate ? Fact.byTerms : 0))
    if kind != .invoice { fact.due = number(terms) }
    if let component = settings.backlog?.amount {
      if event.amounts.contains(component) {
        let amount = max(event.amounts[component], -.max)
        fact.amount = event.kind == .cancelled ? -amount : amount
      } else {
        fact.flags |= Fact.unvalued
      }
    }
    try put(fact, order, event.position, isFirst: true)
  }

  private static func flags(isUpsert: Bool, isDelete: Bool) -> UInt8 {
    (isUpsert || isDelete ? Fact.change : 0) | (isDelete ? Fact.delete : 0)
  }

  /// What an order event says here; nil for nothing.
  private func kind(_ event: OrderEvent) -> Fact.Kind? {
    if event.kind == .invoiced { return .invoice }
    guard let backlog = settings.backlog else { return nil }
    switch event.kind {
    case .booked, .changed: return .booking
    // Without an amount the whole order is cancelled.
    case .cancelled: return event.amounts.contains(backlog.amount) ? .booking : .ending
    case .invoiceCancelled: return .unbilling
    case .completed: return .ending
    default: return nil
    }
  }

  private mutating func number(_ terms: PaymentTerms?) -> Int32 {
    guard let terms else { return -1 }
    if let known = termNumbers[terms] { return known }
    termNumbers[terms] = Int32(knownTerms.count)
    knownTerms.append(terms)
    return Int32(knownTerms.count - 1)
  }

  mutating func add(_ posting: Posting, due: Int32, terms: PaymentTerms?) throws(Full) {
    let order = Fingerprint(posting.order)
    let source = posting.position.source
    let journal = FlowLedger.journal(posting.journal, source)
    let own = FlowLedger.identity(order, posting.id, posting.position)
    let flags = FlowLedger.flags(isUpsert: posting.isUpsert, isDelete: posting.isDelete)
    if posting.isDelete {
      try putGone(own, posting.time_ms, flags, order, posting.position, isFirst: false)
      return
    }
    let day =
      posting.postingDate_d == absentDate ? day(ofMilliseconds: posting.time_ms) : posting.postingDate_d
    var fact = Fact(
      identity: own,
      document: posting.document.isEmpty
        ? FlowLedger.journal(posting.reverses, source) : FlowLedger.document(posting.document), journal: journal,
      amount: max(posting.amount, -.max), time_ms: posting.time_ms, day: day, due: absentDate, customer: -1, labels: -1,
      currency: posting.currency, kind: .receivable,
      flags: flags | (posting.isReversal || !posting.reverses.isEmpty ? Fact.reversal : 0))
    if posting.role == .receivable {
      fact.due = due == absentDate ? terms?.dueDay(from: day) ?? absentDate : due
      if due == absentDate { fact.flags |= Fact.byTerms }
      fact.customer = names.number(posting.customer)
      fact.labels = labels(posting.dimensions)
    } else {
      fact.kind = posting.role == .cash || posting.role == .clearing ? .cashLeg : .otherLeg
    }
    try put(fact, order, posting.position, isFirst: false)
  }

  private mutating func putGone(
    _ identity: UInt64, _ time_ms: Int64, _ flags: UInt8, _ order: Fingerprint, _ position: RecordPosition,
    isFirst: Bool
  ) throws(Full) {
    let fact = Fact(
      identity: identity, document: 0, journal: 0, amount: 0, time_ms: time_ms, day: day(ofMilliseconds: time_ms),
      due: absentDate, customer: -1, labels: -1, currency: .none, kind: .gone, flags: flags)
    try put(fact, order, position, isFirst: isFirst)
  }

  /// - Parameter isFirst: Of two order events with one id the first by event time counts, of two postings the last.
  private mutating func put(
    _ fact: Fact, _ order: Fingerprint, _ position: RecordPosition, isFirst: Bool
  ) throws(Full) {
    if let known = byIdentity[fact.identity] {
      guard isNewer(fact, facts[Int(known)], position, isFirst: isFirst) else { return }
      let next = facts[Int(known)].next
      facts[Int(known)] = fact
      facts[Int(known)].next = next
      isChanged = true
      return
    }
    guard facts.count < settings.maximumFacts else { throw Full(limit: settings.maximumFacts) }
    var fact = fact
    fact.next = orders[order] ?? -1
    orders[order] = Int32(facts.count)
    byIdentity[fact.identity] = Int32(facts.count)
    facts.append(fact)
    isChanged = true
  }

  /// Whether a fact counts instead of the one of its id that came before: as `Matcher.resolve` has it.
  private func isNewer(_ fact: Fact, _ known: Fact, _ position: RecordPosition, isFirst: Bool) -> Bool {
    guard fact.isChange || known.isChange else {
      if fact.time_ms != known.time_ms { return (fact.time_ms < known.time_ms) == isFirst }
      return isFirst ? fact.isLess(known) : known.isLess(fact)
    }
    let source = Int(position.source)
    if fact.time_ms != known.time_ms, !(source < positioned.count && positioned[source]) {
      return fact.time_ms > known.time_ms
    }
    // A creation is newer only where the row had been deleted: otherwise it comes again.
    return fact.isChange || known.isDelete
  }

  private mutating func labels(_ dimensions: InlineArray<8, ByteView>) -> Int32 {
    guard !labelDimensions.isEmpty else { return -1 }
    key.removeAll(keepingCapacity: true)
    for at in labelDimensions { appendKey(dimensions[at].buffer) }
    return knownLabels() ?? addLabels(labelDimensions.map { dimensions[$0].string })
  }

  private mutating func labels(_ texts: [String]) -> Int32 {
    key.removeAll(keepingCapacity: true)
    for text in texts { Array(text.utf8).withUnsafeBufferPointer { appendKey($0) } }
    return knownLabels() ?? addLabels(texts)
  }

  private mutating func appendKey(_ text: UnsafeBufferPointer<UInt8>) {
    withUnsafeBytes(of: UInt32(text.count)) { key.append(contentsOf: $0) }
    key.append(contentsOf: text)
  }

  /// Number of the labels whose bytes stand in `key`.
  private func knownLabels() -> Int32? { key.withUnsafeBufferPointer { labelNumbers[Fingerprint(ByteView($0))] } }

  private mutating func addLabels(_ texts: [String]) -> Int32 {
    labelNumbers[key.withUnsafeBufferPointer { Fingerprint(ByteView($0)) }] = Int32(labelSets.count)
    labelSets.append(texts)
    return Int32(labelSets.count - 1)
  }

  // MARK: - Disputes

  /// A break of an order is open on its receivable, or no longer.
  mutating func setDispute(id: String, order: String, isOpen: Bool) {
    let (id, order) = (FlowLedger.fingerprint(id), FlowLedger.fingerprint(order))
    if isOpen {
      guard openBreaks.updateValue(order, forKey: id) == nil else { return }
      disputes[order, default: 0] += 1
    } else {
      guard let order = openBreaks.removeValue(forKey: id) else { return }
      disputes[order, default: 1] -= 1
      if disputes[order] == 0 { disputes[order] = nil }
    }
    isChanged = true
  }

  private static func fingerprint(_ text: String) -> Fingerprint {
    var text = text
    return text.withUTF8 { Fingerprint(ByteView($0)) }
  }

  // MARK: - Items

  /// All items, in no particular order, without those of which nothing is open and nothing has been heard for longer
  /// before `asOf_d` than history is kept, or looked back upon.
  /// Orders of which nothing is left and nothing has been heard since then are forgotten.
  mutating func items(asOf_d: Int32) -> [FlowItem] {
    isChanged = false
    let oldest = asOf_d - max(settings.history_d, settings.days, FlowReport.past_d)
    let moves = moves()
    var items: [FlowItem] = []
    var forgotten: [Fingerprint] = []
    var forgottenFacts = 0
    var chain: [Int32] = []
    for (order, first) in orders {
      chain.removeAll(keepingCapacity: true)
      var (at, length) = (first, 0)
      var latest = Int32.min
      while at >= 0 {
        length += 1
        if facts[Int(at)].kind != .gone { chain.append(at) }
        latest = max(latest, facts[Int(at)].day)
        at = facts[Int(at)].next
      }
      let before = items.count
      append(chain, moves, isDisputed: disputes[order] != nil, oldest: oldest, asOf_d: asOf_d, to: &items)
      if items.count == before, latest < oldest, !hasBacklog(chain) {
        forgotten.append(order)
        forgottenFacts += length
      }
    }
    if forgottenFacts > facts.count / 4 { forget(withAllSides(forgotten, moves)) }
    return items
  }

  /// A journal's number and its day: numbers begin anew, with a year say.
  static func journalOfDay(_ fact: Fact) -> UInt64 { mix(fact.journal, UInt64(UInt32(bitPattern: fact.day))) }

  static func move(_ fact: Fact) -> UInt64 { mix(journalOfDay(fact), UInt64(fact.currency.rawValue)) }

  /// Journals of a day and currencies (`move`) with nothing but receivables, which come to nothing over all orders: they move
  /// what is owed from order to order, or from document to document. Where an order has other lines of the journal too,
  /// which balance its receivables, those are a matter of their own; other lines that do not (the bank's, of no order) are
  /// what the receivables stand against.
  private func moves() -> Set<UInt64> {
    var sums: [UInt64: (journal: UInt64, sum: Int128)] = [:]
    var legs: Set<UInt64> = []
    for first in orders.values {
      legs.removeAll(keepingCapacity: true)
      var (at, hasBare) = (first, false)
      while at >= 0 {
        let fact = facts[Int(at)]
        if fact.isLeg { legs.insert(FlowLedger.journalOfDay(fact)) }
        hasBare = hasBare || fact.kind == .receivable && fact.journal != 0
        at = fact.next
      }
      at = hasBare ? first : -1
      while at >= 0 {
        let fact = facts[Int(at)]
        at = fact.next
        guard fact.kind == .receivable, fact.journal != 0 else { continue }
        let journal = FlowLedger.journalOfDay(fact)
        if !legs.contains(journal) { sums[FlowLedger.move(fact), default: (journal, 0)].sum += Int128(fact.amount) }
      }
    }
    var moves: [UInt64: [UInt64]] = [:]
    for (move, entry) in sums where entry.sum == 0 { moves[entry.journal, default: []].append(move) }
    if moves.isEmpty { return [] }
    for first in orders.values {
      // By currency: what the lines of a journal come to here, and whether there is a receivable among them.
      var own: [UInt64: (journal: UInt64, sum: Int128, hasReceivable: Bool, hasLeg: Bool)] = [:]
      var at = first
      while at >= 0 {
        let fact = facts[Int(at)]
        at = fact.next
        guard fact.isLeg || fact.kind == .receivable, fact.journal != 0 else { continue }
        let journal = FlowLedger.journalOfDay(fact)
        guard moves[journal] != nil else { continue }
        var entry = own[FlowLedger.move(fact)] ?? (journal, 0, false, false)
        entry.sum += Int128(fact.amount)
        if fact.isLeg { entry.hasLeg = true } else { entry.hasReceivable = true }
        own[FlowLedger.move(fact)] = entry
      }
      for entry in own.values where entry.hasLeg && (entry.sum != 0 || !entry.hasReceivable) {
        moves[entry.journal] = nil
      }
    }
    return Set(moves.values.joined())
  }

  /// Of orders that can be forgotten those of which no move has another side in one that stays: that one would pass for a
  /// payment, or for a sale.
  private func withAllSides(_ forgotten: [Fingerprint], _ moves: Set<UInt64>) -> [Fingerprint] {
    if moves.isEmpty { return forgotten }
    func moved(_ order: Fingerprint) -> [UInt64] {
      var found: [UInt64] = []
      var at = orders[order] ?? -1
      while at >= 0 {
        let fact = facts[Int(at)]
        at = fact.next
        if fact.kind == .receivable, fact.journal != 0, moves.contains(FlowLedger.move(fact)) {
          found.append(FlowLedger.move(fact))
        }
      }
      return found
    }
    var gone = Set(forgotten)
    var staying = Set(orders.keys.lazy.filter { !gone.contains($0) }.flatMap(moved))
    var isChanged = true
    while isChanged {
      isChanged = false
      for order in forgotten where gone.contains(order) {
        let own = moved(order)
        guard own.contains(where: staying.contains) else { continue }
        gone.remove(order)
        staying.formUnion(own)
        isChanged = true
      }
    }
    return forgotten.filter(gone.contains)
  }

  private mutating func forget(_ gone: [Fingerprint]) {
    for order in gone { orders[order] = nil }
    var kept: [Fact] = []
    byIdentity.removeAll(keepingCapacity: true)
    for order in orders.keys {
      var at = orders[order]!
      var next: Int32 = -1
      while at >= 0 {
        var fact = facts[Int(at)]
        at = fact.next
        fact.next = next
        next = Int32(kept.count)
        byIdentity[fact.identity] = next
        kept.append(fact)
      }
      orders[order] = next
    }
    facts = kept
  }

  /// An item while it is put together.
  struct Draft {
    struct Name: Hashable {
      var key: UInt64
      var currency: Currency
    }
    var key: UInt64
    var currency: Currency
    var name: Name { Name(key: FlowLedger.text(key), currency: currency) }
    var amount: Int64 = 0
    var day: Int32 = .max
    var due: Int32
    var customer: Int32 = -1
    var labels: Int32 = -1
    var rest: Int64 = 0
    var isDueAssumed = false
    var document: UInt64
    /// What is put to no invoice, and what of it is money that came in.
    var isOnAccount = false
    var received: Int64 = 0
    /// No sale, or none that was taken back: a credit note for what was paid, what was moved from elsewhere (below zero).
    var credited: Int64 = 0
    /// Of what stands on account, an invoice that was taken back, although it had been paid.
    var reversed: Int64 = 0
    var hasReversal = false
    var applications: [ReceivableItem.Application] = []
  }

  private mutating func append(
    _ chain: [Int32], _ moves: Set<UInt64>, isDisputed: Bool, oldest: Int32, asOf_d: Int32, to items: inout [FlowItem]
  ) {
    // By identity first: what is made of them must not depend on how they came.
    let own = chain.map { facts[Int($0)] }.sorted { ($0.day, $0.identity) < ($1.day, $1.identity) }
    guard own.contains(where: { $0.kind == .receivable }) else { return }
    var legs = Legs(moves)
    var invoices: [UInt64: Fact] = [:]
    for fact in own {
      legs.add(fact)
      if fact.kind == .invoice, invoices[fact.document] == nil { invoices[fact.document] = fact }
    }
    var drafts: [Draft] = []
    var places = Places(isWide: own.count > 32)
    var credits: [Credit] = []
    for var fact in own where fact.kind == .receivable && fact.amount != 0 {
      let cash = legs.cash(of: fact)
      if cash != 0 {
        let rest = fact.amount - cash
        fact.amount = cash
        credits.append(Credit(fact: fact, isCash: true))
        fact.amount = rest
        if rest == 0 { continue }
      }
      let isMove = legs.isMove(fact)
      guard fact.amount > 0, !fact.isReversal else {
        credits.append(Credit(fact: fact, isCash: false, isMove: isMove))
        continue
      }
      let key = fact.document != 0 ? fact.document : fact.journal != 0 ? fact.journal : fact.identity
      let name = Draft.Name(key: FlowLedger.text(key), currency: fact.currency)
      let known = places.last(of: name, in: drafts) { $0.key == key }
      // What is posted on another day is owed from then on: an item of its own. Facts come by day.
      let at = known.flatMap { drafts[$0].day == fact.day ? $0 : nil } ?? drafts.count
      if at == drafts.count {
        drafts.append(Draft(key: key, currency: fact.currency, due: absentDate, document: fact.document))
        places.add(drafts[at].name, at)
      }
      drafts[at].amount = drafts[at].amount.addingSaturating(fact.amount)
      drafts[at].rest = drafts[at].rest.addingSaturating(fact.amount)
      if isMove { drafts[at].credited = drafts[at].credited.subtractingSaturating(fact.amount) }
      drafts[at].day = fact.day
      if drafts[at].due == absentDate { drafts[at].due = fact.due(settings.businessDays) }
      if drafts[at].customer < 0 { drafts[at].customer = fact.customer }
      if drafts[at].labels < 0 { drafts[at].labels = fact.labels }
    }
    // An order with one invoice is about that one, whatever the documents are called on the two sides.
    let only = invoices.count == 1 ? invoices.first?.value : nil
    for at in drafts.indices {
      let invoice = invoices[FlowLedger.text(drafts[at].key)] ?? only
      if drafts[at].due == absentDate { drafts[at].due = invoice?.due(settings.businessDays) ?? absentDate }
      guard drafts[at].due == absentDate else { continue }
      drafts[at].due = settings.businessDays.rolled(settings.terms.dueDay(from: invoice?.day ?? drafts[at].day))
      drafts[at].isDueAssumed = true
    }
    drafts.sort { ($0.due, $0.day, $0.key) < ($1.due, $1.day, $1.key) }
    settle(&drafts, credits, Places(drafts, isWide: own.count > 32))
    for at in drafts.indices where drafts[at].hasReversal { drafts[at].settleReversals() }
    for at in drafts.indices {
      guard let invoice = invoices[FlowLedger.text(drafts[at].document)] ?? only else { continue }
      if names[drafts[at].customer].isEmpty { drafts[at].customer = invoice.customer }
      drafts[at].labels = merged(drafts[at].labels, invoice.labels)
    }
    for draft in drafts {
      var item = ReceivableItem(
        id: "", customer: names[draft.customer], segment: segment(draft.labels), currency: draft.currency,
        invoiced_d: draft.day, due_d: draft.due, amount: draft.amount, isDisputed: isDisputed,
        applications: draft.applications)
      (item.isOnAccount, item.received, item.credited) = (draft.isOnAccount, draft.received, draft.credited)
      if item.isOver(before: oldest, asOf: asOf_d) { continue }
      items.append(
        FlowItem(
          item: item, labels: draft.labels < 0 ? labelDimensions.map { _ in "" } : labelSets[Int(draft.labels)],
          isDueAssumed: draft.isDueAssumed))
    }
  }

  private mutating func merged(_ own: Int32, _ other: Int32) -> Int32 {
    guard own != other, other >= 0 else { return own }
    guard own >= 0 else { return other }
    let (a, b) = (labelSets[Int(own)], labelSets[Int(other)])
    let texts = zip(a, b).map { $0.isEmpty ? $1 : $0 }
    return texts == b ? other : texts == a ? own : labels(texts)
  }

  func segment(_ labels: Int32) -> String {
    guard !settings.segment.isEmpty, labels >= 0 else { return "" }
    return labelSets[Int(labels)].last ?? ""
  }
}
