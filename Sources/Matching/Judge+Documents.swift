import Domain

/// Documents that one side has and the other does not: those of order events that nothing posted names, and those of
/// the ledger that no order event names.
extension Judge {
  /// What the records of one side that name one document put into the roles of a currency.
  struct DocumentSums {
    /// Empty where postings name none: then it is that of one journal.
    var name: ByteView
    /// By role.
    var sums: [Int128]
    /// Of the records, among the events or the postings that are judged.
    var places: [Int]

    func hasRoles(of other: DocumentSums) -> Bool {
      sums.indices.allSatisfy { sums[$0] != 0 || other.sums[$0] == 0 }
    }
    func sharesRole(with other: [Int128]) -> Bool { sums.indices.contains { sums[$0] != 0 && other[$0] != 0 } }
  }

  /// As many documents at most are looked through in all their combinations.
  private static let maximumCombined = 8

  // MARK: - What the ledger does not have

  /// Documents of order events of which nothing is posted. The others are then judged as if these were not there, until
  /// `restore` brings them back.
  ///
  /// That no posting names a document does not say that it is missing: the ledger may have a number of its own for it. So
  /// it is missing where it is, alone or with others, the whole difference of the roles that it touches; or where without
  /// it the difference of each of them is smaller, and no posting of another name could be it.
  /// - Returns: nil where there are none.
  mutating func judgeMissingDocuments(_ currency: Int) -> SetAside? {
    if !isDecided, isPartial(currency) { return nil }
    var open = unpostedDocuments(currency, orReversed: true)
    guard !open.isEmpty else { return nil }
    var strangers = unknownDocuments(currency)
    let all = open
    removeAnswered(&open, &strangers)
    let missing = takeDocuments(&open, unless: strangers, currency, sign: -1)
    guard !missing.isEmpty else { return nil }
    let base = currency * roleCount
    for (group, sums) in united(missing) {
      let kinds = group.flatMap { $0.places.map { dueEvents[$0].kind! } }
      let unposted = appliesCash ? typeOfUnposted(kinds) : nil
      var role = primaryRole(sums, 0)
      if isDecided, unposted != nil, sums[Int(AccountRole.cash.rawValue)] != 0 { role = .cash }
      let own = sums[Int(role.rawValue)]
      // Beside another difference of the role it tells what it is about, else all of the role.
      let isWhole = posted[base + Int(role.rawValue)] - expected[base + Int(role.rawValue)] == -own
      // Something missing is due only after window + grace.
      var finding = Finding(
        isDecided ? unposted ?? .missingInLedger : .partial, role, currencies[currency],
        expected: isWhole ? value(expected, currency, role) : Int64(clamping: own),
        posted: isWhole ? value(posted, currency, role) : 0,
        reason: reason(group, among: all, missing))
      finding.parts = parts(sums, currency, sign: -1)
      findings.append(finding)
    }
    let places = Set(missing.flatMap(\.places))
    let aside = SetAside(events: dueEvents, isVoid: isVoid, currency: currency, sums: total(missing))
    dueEvents = dueEvents.indices.filter { !places.contains($0) }.map { dueEvents[$0] }
    isVoid = isVoid.indices.filter { !places.contains($0) }.map { isVoid[$0] }
    for role in 0..<roleCount { expected[base + role] -= aside.sums[role] }
    return aside
  }

  private func reason(_ group: [DocumentSums], among all: [DocumentSums], _ missing: [DocumentSums]) -> TextBytes {
    let documents = names(group, among: all, missing)
    let named = group.count { isNamed($0.name) }
    if named == 0 { return "nothing is posted for \(documents)" }
    if named == group.count { return "what was posted for \(documents) is reversed" }
    return "nothing is posted for \(documents), or it is reversed"
  }

  /// What is not there while the rest is judged.
  struct SetAside {
    var events: [Fact]
    var isVoid: [Bool]
    var currency: Int
    var sums: [Int128]
  }

  mutating func restore(_ aside: SetAside) {
    (dueEvents, isVoid) = (aside.events, aside.isVoid)
    for role in 0..<roleCount { expected[aside.currency * roleCount + role] += aside.sums[role] }
  }

  // MARK: - What a cancellation has left

  /// Billing that was cancelled with its order and that the ledger still holds; what else differs (a refund that is missing, a
  /// stray document, a reversal that was made twice) is left to be judged for itself.
  ///
  /// Of a document that postings name, what they come to still stands. Of one that none names, as much of it as the ledger
  /// has too much. The receivable has the other side of both, and payments beside it.
  mutating func judgeUnreversed(_ currency: Int) {
    let base = currency * roleCount
    let receivable = Int(AccountRole.receivable.rawValue)
    let documents = eventDocuments(currency, areVoid: true) { _ in true }
    var standing = Judge.noAmounts
    for document in documents {
      var (own, isNamed) = (Judge.noAmounts, false)
      for posting in duePostings
      where !document.name.isEmpty && posting.currency == currencies[currency]
        && posting.document.elementsEqual(document.name)
      {
        isNamed = true
        own[Int(posting.code)] += Int128(posting.amount)
      }
      if !isNamed { own = document.sums }
      // What stands on the other side was reversed more than once.
      for role in 0..<roleCount where (own[role] < 0) != (document.sums[role] < 0) || document.sums[role] == 0 {
        own[role] = 0
      }
      // A payment may name the invoice: then the receivable says nothing of what stands of the rest.
      let others = document.sums.indices.filter { $0 != receivable && document.sums[$0] != 0 }
      if isNamed, document.sums[receivable] != 0, !others.isEmpty {
        own[receivable] = -others.reduce(0) { $0 + own[$1] }
      }
      for role in 0..<roleCount { standing[role] += own[role] }
    }
    if documents.isEmpty {
      // Posted in another currency than it was billed in.
      for posting in duePostings where posting.currency == currencies[currency] && !posting.document.isEmpty {
        let isOfVoid = dueEvents.indices.contains {
          isVoid[$0] && dueEvents[$0].document.elementsEqual(posting.document)
        }
        if isOfVoid { standing[Int(posting.code)] += Int128(posting.amount) }
      }
    }
    for role in 0..<roleCount {
      let open = residual[base + role]
      if (open < 0) != (standing[role] < 0) || open == 0 { standing[role] = 0 }
      if magnitude(standing[role]) > magnitude(open) { standing[role] = open }
    }
    guard standing.contains(where: { $0 != 0 }) else { return }
    let role = primaryRole(standing, 0)
    var finding = Finding(
      .unreversedCancel, role, currencies[currency], expected: value(expected, currency, role),
      posted: value(posted, currency, role), reason: "cancelled after billing and not reversed")
    finding.parts = parts(standing, currency, sign: 1)
    findings.append(finding)
    for role in 0..<roleCount { residual[base + role] -= standing[role] }
  }

  /// Of the cancelled documents of an order that goes on, those that the ledger still holds: they are just what it has too
  /// much of the roles that any of them touches.
  mutating func judgeStanding(_ currency: Int) {
    let documents = eventDocuments(currency, areVoid: true) { _ in true }
    let base = currency * roleCount
    let roles = (0..<roleCount).filter { role in documents.contains { $0.sums[role] != 0 } }
    guard roles.contains(where: { residual[base + $0] != 0 }) else { return }
    func sum(_ chosen: [Int], _ role: Int) -> Int128 { chosen.reduce(0) { $0 + documents[$1].sums[role] } }
    // All, each alone, all but one; of a few, all combinations.
    var choices = [Array(documents.indices)] + documents.indices.map { [$0] }
    if documents.count <= Judge.maximumCombined {
      choices += (1..<1 << documents.count).map { bits in documents.indices.filter { bits >> $0 & 1 != 0 } }
    } else {
      choices += documents.indices.map { left in documents.indices.filter { $0 != left } }
    }
    guard let chosen = choices.first(where: { chosen in roles.allSatisfy { residual[base + $0] == sum(chosen, $0) } })
    else { return }
    let standing = (0..<roleCount).map { sum(chosen, $0) }
    let role = primaryRole(standing, 0)
    var finding = Finding(
      .unreversedCancel, role, currencies[currency], expected: value(expected, currency, role),
      posted: value(posted, currency, role),
      reason: chosen.count == 1
        ? "a billing document was cancelled and is not reversed"
        : "billing documents were cancelled and are not reversed")
    finding.parts = parts(standing, currency, sign: 1)
    findings.append(finding)
    for role in 0..<roleCount { residual[base + role] -= standing[role] }
  }

  // MARK: - What the order does not have

  /// Documents of the ledger that no order event names, and that it has too much: the mirror of the above.
  /// - Returns: whether there are any.
  mutating func judgeUnknownDocuments(_ currency: Int) -> Bool {
    var strangers = unknownDocuments(currency)
    guard !strangers.isEmpty else { return false }
    var open = unpostedDocuments(currency)
    removeAnswered(&open, &strangers)
    let base = currency * roleCount
    let mustBalance = expected[base..<base + roleCount].reduce(0, +) == 0
    strangers.removeAll { document in
      func has(_ role: AccountRole) -> Bool { document.sums[Int(role.rawValue)] != 0 }
      return document.name.isEmpty || mustBalance && document.sums.reduce(0, +) != 0
        // These have been judged as what they are.
        || appliesCash && has(.cash) || mirrorsIntercompany && has(.intercompany)
        || schedules != nil && has(.deferred) && has(.revenue)
    }
    let unknown = takeDocuments(&strangers, unless: open, currency, sign: 1)
    for (group, sums) in united(unknown) {
      let role = primaryRole(sums, 0)
      let own = sums[Int(role.rawValue)]
      let isWhole = posted[base + Int(role.rawValue)] - expected[base + Int(role.rawValue)] == own
      var finding = Finding(
        .unknownReference, role, currencies[currency], expected: isWhole ? value(expected, currency, role) : 0,
        posted: isWhole ? value(posted, currency, role) : Int64(clamping: own),
        reason: "\(documentNames(group.flatMap(\.places))): posted, and no order event names it")
      finding.parts = parts(sums, currency, sign: 1)
      append(finding)
    }
    return !unknown.isEmpty
  }

  // MARK: - One in the place of another

  /// Documents of which nothing is posted, where one of the same amounts is posted as many times too often: the sums agree,
  /// and the ledger is wrong all the same.
  ///
  /// Each of its postings must name it, and each of its journals be all of it, so that one journal for several documents is
  /// none of this; nor is a document that may be posted under a number of the ledger's own, or under none.
  mutating func judgeReplacedDocuments() {
    guard dueEvents.count > 1, duePostings.count > 1 else { return }
    for currency in currencies.indices {
      var open = unpostedDocuments(currency)
      if open.isEmpty { continue }
      let all = open
      var strangers = unknownDocuments(currency)
      removeAnswered(&open, &strangers)
      for document in eventDocuments(currency, { _ in true }) where document.places.count == 1 {
        let alike = open.filter { isAlike($0, document) }
        if alike.isEmpty || isAccepted(document, currency) { continue }
        if strangers.contains(where: { $0.hasRoles(of: document) || document.hasRoles(of: $0) }) { continue }
        let journals = wholeJournals(of: document, currency)
        guard journals.count > 1, alike.count >= journals.count - 1 else { continue }
        // Something missing is due only after window + grace.
        guard isDecided else {
          awaitsDocument = true
          continue
        }
        let missing = Array(alike.prefix(journals.count - 1))
        open.removeAll { document in missing.contains { $0.name.elementsEqual(document.name) } }
        appendReplaced(missing, by: document, journals, among: all, currency)
      }
    }
  }

  private func isAlike(_ a: DocumentSums, _ b: DocumentSums) -> Bool {
    a.sums == b.sums && a.places.count == b.places.count && dueEvents[a.places[0]].kind == dueEvents[b.places[0]].kind
  }

  private func isAccepted(_ document: DocumentSums, _ currency: Int) -> Bool {
    (0..<roleCount).allSatisfy { role in
      policy.tolerances[role].accepts(
        expected: expected[currency * roleCount + role], delta: document.sums[role],
        exponent: currencies[currency].exponent)
    }
  }

  /// By place, the first posting of each journal that posts a document, where each posts all of it; else none.
  private func wholeJournals(of document: DocumentSums, _ currency: Int) -> [Int] {
    var journals: [(first: Int, sums: [Int128])] = []
    for place in duePostings.indices where duePostings[place].document.elementsEqual(document.name) {
      let posting = duePostings[place]
      guard posting.currency == currencies[currency], !posting.journal.isEmpty, !posting.isReversal else { return [] }
      let known = journals.firstIndex { duePostings[$0.first].isOfJournal(of: posting) }
      if known == nil { journals.append((place, Judge.noAmounts)) }
      journals[known ?? journals.count - 1].sums[Int(posting.code)] += Int128(posting.amount)
    }
    return journals.allSatisfy { $0.sums == document.sums } ? journals.map(\.first) : []
  }

  private mutating func appendReplaced(
    _ missing: [DocumentSums], by document: DocumentSums, _ journals: [Int], among all: [DocumentSums], _ currency: Int
  ) {
    let role = primaryRole(document.sums, 0)
    let (own, copies) = (
      Int64(clamping: document.sums[Int(role.rawValue)]), total(journals.dropFirst().map { _ in document })
    )
    let again = listed(journals.dropFirst().map { duePostings[$0].journal.string })
    var finding = Finding(
      .duplicatePosting, role, currencies[currency], expected: own,
      posted: Int64(clamping: document.sums[Int(role.rawValue)] * Int128(journals.count)),
      reason: "\(document.name) posted by \(duePostings[journals[0]].journal) and again by \(again)")
    finding.parts = parts(copies, currency, sign: 1)
    addAnother(finding)
    let sums = total(missing)
    let unposted = appliesCash ? typeOfUnposted(missing.map { dueEvents[$0.places[0]].kind! }) : nil
    let lacking = unposted != nil && sums[Int(AccountRole.cash.rawValue)] != 0 ? .cash : role
    var other = Finding(
      unposted ?? .missingInLedger, lacking, currencies[currency],
      expected: Int64(clamping: sums[Int(lacking.rawValue)]), posted: 0,
      reason: "nothing is posted for \(names(missing, among: all, missing))")
    other.parts = parts(sums, currency, sign: -1)
    addAnother(other)
  }

  /// Adds a finding about other documents than those that have been found in the same way: what is expected and posted of
  /// them comes together.
  private mutating func addAnother(_ finding: Finding) {
    guard let known = place(like: finding) else { return findings.append(finding) }
    func sum(_ a: Int64?, _ b: Int64?) -> Int64 { Int64(clamping: Int128(a ?? 0) + Int128(b ?? 0)) }
    findings[known].expected = sum(findings[known].expected, finding.expected)
    findings[known].posted = sum(findings[known].posted, finding.posted)
    findings[known].parts += finding.parts
    findings[known].reason += "; \(finding.reason)"
  }

  // MARK: - Posted in another currency

  /// A document that is billed in one currency and posted in another.
  private struct MovedDocument {
    var own: Int
    var foreign: Int
    var billed: DocumentSums
    var posted: DocumentSums
  }

  /// Documents that postings name, and have in another currency than it was billed in: each as if the order had no other.
  mutating func judgeDocumentCurrencies() {
    var moved: [[MovedDocument]] = []
    for own in currencies.indices {
      let billed = eventDocuments(own) { _ in true }
      for foreign in currencies.indices where foreign != own {
        let documents = billed.compactMap { document in
          postedDocument(document, own, foreign).map {
            MovedDocument(own: own, foreign: foreign, billed: document, posted: $0)
          }
        }
        if !documents.isEmpty { moved.append(documents) }
      }
    }
    // An invoice and its payment move the receivable to and fro, and two invoices may have changed places: all of them
    // together, else one by one.
    if !moved.isEmpty, takeCurrencies(moved) { return }
    for documents in moved where !takeCurrencies([documents]) {
      for document in documents { _ = takeCurrencies([[document]]) }
    }
  }

  /// What is posted of a document, where all of that is in one other currency. What has been found to be a second posting is
  /// none of it.
  private func postedDocument(_ document: DocumentSums, _ own: Int, _ foreign: Int) -> DocumentSums? {
    var made = DocumentSums(name: document.name, sums: Judge.noAmounts, places: [])
    for place in duePostings.indices where duePostings[place].document.elementsEqual(document.name) {
      guard duePostings[place].currency == currencies[foreign] else { return nil }
      let isAgain = surplus.contains {
        $0 == place
          || duePostings[$0].isOfJournal(of: duePostings[place])
            && duePostings[$0].document.elementsEqual(document.name)
      }
      if isAgain { continue }
      made.places.append(place)
      made.sums[Int(duePostings[place].code)] += Int128(duePostings[place].amount)
    }
    let isAlone = dueEvents.allSatisfy {
      $0.currency == currencies[own] || !$0.document.elementsEqual(document.name)
    }
    return isAlone && made.sums.contains { $0 != 0 } ? made : nil
  }

  /// Takes documents out of the difference, where it is smaller without them in every role.
  /// - Parameter moved: By the two currencies, a break each.
  private mutating func takeCurrencies(_ moved: [[MovedDocument]]) -> Bool {
    var change = [Int128](repeating: 0, count: residual.count)
    for document in moved.joined() {
      for role in 0..<roleCount {
        change[document.own * roleCount + role] -= document.billed.sums[role]
        change[document.foreign * roleCount + role] += document.posted.sums[role]
      }
    }
    let isNearer = change.indices.allSatisfy {
      change[$0] == 0 || magnitude(residual[$0] - change[$0]) < magnitude(residual[$0])
    }
    guard isNearer, change.contains(where: { $0 != 0 }) else { return false }
    for index in change.indices { residual[index] -= change[index] }
    for documents in moved {
      let (own, foreign) = (documents[0].own, documents[0].foreign)
      let (billed, posted) = (total(documents.map(\.billed)), total(documents.map(\.posted)))
      let both = Judge.primaryOrder.first { billed[Int($0.rawValue)] != 0 && posted[Int($0.rawValue)] != 0 }
      let role = both ?? primaryRole(posted, 0)
      var finding = Finding(
        .currencyMismatch, role, currencies[own], expected: Int64(clamping: billed[Int(role.rawValue)]),
        posted: Int64(clamping: posted[Int(role.rawValue)]),
        reason: """
          \(documentNames(documents.flatMap(\.posted.places))): expected in \(currencies[own].code), posted in \
          \(currencies[foreign].code)
          """)
      finding.postedCurrency = currencies[foreign]
      finding.parts = parts(billed, own, sign: -1) + parts(posted, foreign, sign: 1)
      findings.append(finding)
    }
    return true
  }

  // MARK: - Documents of a side

  /// Of order events in a currency whose document no posting names, by document, in the order of time.
  /// - Parameter orReversed: Those too of which all that is posted was reversed, so that nothing of it stands.
  private func unpostedDocuments(_ currency: Int, orReversed: Bool = false) -> [DocumentSums] {
    eventDocuments(currency) { name in !isNamed(name) || orReversed && isReversed(name) }
  }

  private func isNamed(_ document: ByteView) -> Bool {
    duePostings.contains { $0.document.elementsEqual(document) }
  }

  /// Whether the postings that name a document come to nothing, and a reversal is among them.
  private func isReversed(_ document: ByteView) -> Bool {
    guard duePostings.contains(where: { $0.isReversal && $0.document.elementsEqual(document) }) else { return false }
    var sums = [Int128](repeating: 0, count: residual.count)
    for posting in duePostings where posting.document.elementsEqual(document) {
      guard let currency = currencies.firstIndex(of: posting.currency) else { return false }
      sums[currency * roleCount + Int(posting.code)] += Int128(posting.amount)
    }
    return sums.allSatisfy { $0 == 0 }
  }

  /// What is expected in a currency, by document of order events, in the order of time.
  /// - Parameter areVoid: What was expected of those that were cancelled, in place of that; of those without a number too.
  private func eventDocuments(
    _ currency: Int, areVoid: Bool = false, _ isMeant: (ByteView) -> Bool
  ) -> [DocumentSums] {
    var documents: [DocumentSums] = []
    for (place, event) in dueEvents.enumerated() {
      guard event.currency == currencies[currency], isVoid[place] == areVoid, areVoid || !event.document.isEmpty else {
        continue
      }
      let entries = policy.entries(of: event)
      guard !entries.isEmpty, isMeant(event.document) else { continue }
      let at = index(of: event.document, in: &documents) { _ in true }
      documents[at].places.append(place)
      for entry in entries {
        documents[at].sums[Int(entry.role.rawValue)] += Int128(event.amount(entry.component)) * Int128(entry.sign)
      }
      let released = dueReleases(of: event)
      documents[at].sums[Int(AccountRole.deferred.rawValue)] += released
      documents[at].sums[Int(AccountRole.revenue.rawValue)] -= released
    }
    documents.removeAll { $0.sums.allSatisfy { $0 == 0 } }
    return documents
  }

  /// Of postings in a currency whose document no order event names, be it due or not; and those that name none, by journal.
  private func unknownDocuments(_ currency: Int) -> [DocumentSums] {
    var documents: [DocumentSums] = []
    for (place, posting) in duePostings.enumerated() where posting.currency == currencies[currency] {
      if !posting.document.isEmpty, events.contains(where: { $0.document.elementsEqual(posting.document) }) { continue }
      let at = index(of: posting.document, in: &documents) {
        !posting.document.isEmpty || duePostings[$0.places[0]].journal.elementsEqual(posting.journal)
      }
      documents[at].places.append(place)
      documents[at].sums[Int(posting.code)] += Int128(posting.amount)
    }
    documents.removeAll { $0.sums.allSatisfy { $0 == 0 } }
    return documents
  }

  private func index(
    of name: ByteView, in documents: inout [DocumentSums], _ isSame: (DocumentSums) -> Bool
  ) -> Int {
    if let found = documents.firstIndex(where: { $0.name.elementsEqual(name) && isSame($0) }) { return found }
    documents.append(DocumentSums(name: name, sums: [Int128](repeating: 0, count: roleCount), places: []))
    return documents.count - 1
  }

  /// Takes out what is on both sides under two names: a goods issue that has a number of its own in the ledger.
  private func removeAnswered(_ open: inout [DocumentSums], _ strangers: inout [DocumentSums]) {
    open.removeAll { document in
      guard let answer = strangers.firstIndex(where: { $0.sums == document.sums }) else { return false }
      strangers.remove(at: answer)
      return true
    }
  }

  // MARK: - Which of them explain the difference

  /// Takes out of the difference what documents explain of it, and these out of the documents.
  /// - Parameters:
  ///   - others: Of the other side: one that may be what a document is called there keeps it from being taken in part.
  ///   - sign: 1 where the ledger has them too much, −1 where it does not have them.
  private mutating func takeDocuments(
    _ documents: inout [DocumentSums], unless others: [DocumentSums], _ currency: Int, sign: Int128
  ) -> [DocumentSums] {
    var taken: [DocumentSums] = []
    while !documents.isEmpty {
      let chosen =
        exactSet(documents, currency, sign) ?? nearest(documents, unless: others, currency, sign).map { [$0] }
      guard let chosen else { break }
      for at in chosen.reversed() {
        let document = documents.remove(at: at)
        for role in 0..<roleCount { residual[currency * roleCount + role] -= sign * document.sums[role] }
        taken.append(document)
      }
    }
    return taken.sorted { $0.places[0] < $1.places[0] }
  }

  /// The fewest documents that together are the whole difference of every role that they touch; of as many, the earlier.
  private func exactSet(_ documents: [DocumentSums], _ currency: Int, _ sign: Int128) -> [Int]? {
    func explains(_ chosen: [Int]) -> Bool {
      var isAny = false
      for role in 0..<roleCount where chosen.contains(where: { documents[$0].sums[role] != 0 }) {
        let sum = chosen.reduce(Int128(0)) { $0 + documents[$1].sums[role] }
        guard residual[currency * roleCount + role] == sign * sum else { return false }
        isAny = isAny || sum != 0
      }
      return isAny
    }
    if documents.count > Judge.maximumCombined {
      return documents.indices.first { explains([$0]) }.map { [$0] }
        ?? (explains(Array(documents.indices)) ? Array(documents.indices) : nil)
    }
    for size in 1...documents.count {
      for mask in 1..<1 << documents.count where mask.nonzeroBitCount == size {
        let chosen = documents.indices.filter { mask >> $0 & 1 != 0 }
        if explains(chosen) { return chosen }
      }
    }
    return nil
  }

  /// The document without which the difference is smallest, where it is smaller in every role of it.
  private func nearest(
    _ documents: [DocumentSums], unless others: [DocumentSums], _ currency: Int, _ sign: Int128
  ) -> Int? {
    var best: (at: Int, gain: Int128)?
    for (at, document) in documents.enumerated() {
      var gain: Int128 = 0
      let isNearer = (0..<roleCount).allSatisfy { role in
        guard document.sums[role] != 0 else { return true }
        let open = residual[currency * roleCount + role]
        let own = magnitude(open) - magnitude(open - sign * document.sums[role])
        gain += own
        return own > 0
      }
      guard isNearer, gain > best?.gain ?? 0,
        !others.contains(where: { $0.hasRoles(of: document) || document.hasRoles(of: $0) })
      else { continue }
      best = (at, gain)
    }
    return best?.at
  }

  // MARK: - As findings

  /// Documents with a role in common go together: that one is missing from it and another is, too, is one break's matter.
  private func united(_ documents: [DocumentSums]) -> [(group: [DocumentSums], sums: [Int128])] {
    var groups: [(group: [DocumentSums], sums: [Bool])] = []
    for document in documents {
      var own = (group: [document], sums: document.sums.map { $0 != 0 })
      for at in groups.indices.reversed()
      where groups[at].sums.indices.contains(where: { groups[at].sums[$0] && own.sums[$0] }) {
        let other = groups.remove(at: at)
        own.group = other.group + own.group
        for role in own.sums.indices where other.sums[role] { own.sums[role] = true }
      }
      groups.append(own)
    }
    return groups.map { ($0.group.sorted { $0.places[0] < $1.places[0] }, total($0.group)) }
      .filter { $0.1.contains { $0 != 0 } }
  }

  private func total(_ documents: [DocumentSums]) -> [Int128] {
    var sums = [Int128](repeating: 0, count: roleCount)
    for document in documents { for role in 0..<roleCount { sums[role] += document.sums[role] } }
    return sums
  }

  private func parts(_ sums: [Int128], _ currency: Int, sign: Int128) -> [Finding.Part] {
    (0..<roleCount).filter { sums[$0] != 0 }.map {
      .init(
        currency: currencies[currency], role: AccountRole(rawValue: UInt8($0))!, delta: Int64(clamping: sign * sums[$0])
      )
    }
  }

  /// The documents that are missing; where others of the same amounts are there under an unknown name, these too.
  private func names(_ group: [DocumentSums], among all: [DocumentSums], _ missing: [DocumentSums]) -> String {
    let texts = group.map { document in
      let others = all.filter { other in
        other.sums == document.sums && !missing.contains { $0.name.elementsEqual(other.name) }
      }
      return ([document] + others.prefix(4)).map(\.name.string).joined(separator: " or ")
    }
    return listed(texts)
  }

  /// Documents with the journals that post them: `RE-1 (J17), RE-2 (J18, J19)`.
  /// - Parameter places: Of the postings.
  func documentNames(_ places: [Int]) -> TextBytes {
    func document(_ place: Int) -> ByteView { duePostings[place].document }
    func journal(_ place: Int) -> ByteView { duePostings[place].journal }
    // As a rule it is one journal of one document.
    if let first = places.first, !document(first).isEmpty, !journal(first).isEmpty,
      places.allSatisfy({
        document($0).elementsEqual(document(first)) && journal($0).elementsEqual(journal(first))
      })
    {
      return "\(document(first)) (\(journal(first)))"
    }
    var known: [(name: String, journals: [String])] = []
    for place in places {
      let (name, journal) = (document(place).string, journal(place).string)
      let at = known.firstIndex { $0.name == name } ?? known.count
      if at == known.count { known.append((name, [])) }
      if !journal.isEmpty, !known[at].journals.contains(journal) { known[at].journals.append(journal) }
    }
    let names = known.map { name, journals in
      if journals.isEmpty { return name.isEmpty ? "the posting" : name }
      return name.isEmpty ? listed(journals) : "\(name) (\(listed(journals)))"
    }
    return "\(listed(names))"
  }

  /// A few names say enough.
  private func listed(_ names: [String]) -> String {
    names.prefix(5).joined(separator: ", ") + (names.count > 5 ? " and \(names.count - 5) more" : "")
  }
}
