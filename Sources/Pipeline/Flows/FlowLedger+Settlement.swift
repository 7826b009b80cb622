import Domain
import Forecasting

/// What settles what: credits, refunds and reversals against the items of an order.
extension FlowLedger {
  /// Where the drafts of a document stand, in their order: looked for one by one, but for orders with so many that this
  /// would take long.
  struct Places {
    private var byName: [Draft.Name: [Int]]?

    init(_ drafts: [Draft] = [], isWide: Bool) {
      byName = isWide ? [:] : nil
      for at in drafts.indices { add(drafts[at].name, at) }
    }

    mutating func add(_ name: Draft.Name, _ at: Int) { byName?[name, default: []].append(at) }

    func places(of name: Draft.Name, in drafts: [Draft]) -> [Int] {
      guard let byName else { return drafts.indices.filter { drafts[$0].name == name } }
      return byName[name] ?? []
    }

    func last(of name: Draft.Name, in drafts: [Draft], where isMeant: (Draft) -> Bool) -> Int? {
      guard let byName else { return drafts.lastIndex { $0.name == name && isMeant($0) } }
      return byName[name]?.last { isMeant(drafts[$0]) }
    }
  }

  /// A line on a receivable that is no invoice.
  struct Credit {
    var fact: Fact
    var isCash: Bool
    /// Moved to another order or document: nothing that was sold is taken back.
    var isMove = false
    /// Money that went back to the customer, or a payment that bounced without a word of it.
    var isRefund: Bool { isCash && fact.amount > 0 && !fact.isReversal }
    var isTakenBack: Bool { !isCash && fact.isReversal }
  }

  /// What stands on account of an order: by document, and the oldest first. What has been used up is passed over.
  private struct OnAccount {
    private var byDocument: [Draft.Name: [Int]] = [:]
    /// Invoices that were taken back although they had been paid.
    private var reversed: [Draft.Name: [Int]] = [:]
    private var byCurrency: [Currency: [Int]] = [:]

    mutating func add(_ draft: Draft, _ at: Int) {
      guard draft.rest < 0 else { return }
      byCurrency[draft.currency, default: []].append(at)
      guard draft.document != 0 else { return }
      let name = Draft.Name(key: FlowLedger.text(draft.document), currency: draft.currency)
      byDocument[name, default: []].append(at)
      if draft.reversed > 0 { reversed[name, default: []].append(at) }
    }

    /// Takes off what a debit is put to.
    /// - Parameters:
    ///   - left: What is to be taken off, below zero; what could not be stays.
    ///   - takesAll: Also what stands there of other documents.
    mutating func take(_ left: inout Int64, _ credit: Credit, takesAll: Bool, _ drafts: inout [Draft]) {
      let fact = credit.fact
      if fact.document != 0 {
        let name = Draft.Name(key: FlowLedger.text(fact.document), currency: fact.currency)
        // The reversal of a reversal is about that one, and not about money that stands there.
        if credit.isTakenBack { OnAccount.take(&left, credit, &reversed[name], named: fact.document, &drafts) }
        OnAccount.take(&left, credit, &byDocument[name], named: fact.document, &drafts)
      }
      if takesAll { OnAccount.take(&left, credit, &byCurrency[fact.currency], &drafts) }
    }

    /// - Parameter named: Only what this number names; 0 for all.
    private static func take(
      _ left: inout Int64, _ credit: Credit, _ places: inout [Int]?, named: UInt64 = 0, _ drafts: inout [Draft]
    ) {
      guard left < 0, let all = places else { return }
      var used = 0
      for at in all {
        guard left < 0 else { break }
        if named != 0, !FlowLedger.names(named, drafts[at].document) { continue }
        let part = max(left, drafts[at].rest)
        if part < 0 { drafts[at].apply(part, credit.fact, credit.isCash) }
        left -= part
        if drafts[at].rest == 0 { used += 1 } else { break }
      }
      if named == 0 { places!.removeFirst(used) } else { places!.removeAll { drafts[$0].rest == 0 } }
    }
  }

  /// Puts credits to the items that they name, the rest to the oldest; what is left stands as an item of its own.
  func settle(_ drafts: inout [Draft], _ credits: [Credit], _ places: Places) {
    var unnamed: [Credit] = []
    var onAccount = OnAccount()
    let invoices = drafts.count
    func stand(_ left: Int64, _ credit: Credit, of invoice: Int? = nil) {
      let fact = credit.fact
      // Nothing is due for money on account: it is there, or owed back, at once.
      var draft = Draft(
        key: fact.identity, currency: fact.currency, amount: -left, day: fact.day, due: fact.day,
        customer: fact.customer, labels: fact.labels, rest: -left, document: fact.document, isOnAccount: true,
        received: credit.isCash ? left : 0)
      if credit.isTakenBack { draft.reversed = left }
      if credit.isMove { draft.credited = left }
      if let invoice {
        // A credit note that names an invoice settles, and is no sale that was taken back.
        if !fact.isReversal, !credit.isCash { draft.credited = left }
        // What came for an invoice is its customer's, and counts where it does.
        if !names[drafts[invoice].customer].isEmpty { draft.customer = drafts[invoice].customer }
        if drafts[invoice].labels >= 0 { draft.labels = drafts[invoice].labels }
      }
      onAccount.add(draft, drafts.count)
      drafts.append(draft)
    }
    for credit in credits {
      let number = credit.fact.document
      let name = Draft.Name(key: FlowLedger.text(number), currency: credit.fact.currency)
      let named =
        number == 0
        ? []
        : places.places(of: name, in: drafts).filter { $0 < invoices && FlowLedger.names(number, drafts[$0].key) }
      guard let last = named.last else {
        unnamed.append(credit)
        continue
      }
      var left = -credit.fact.amount
      onAccount.take(&left, credit, takesAll: credit.isRefund, &drafts)
      apply(&left, credit, to: named, &drafts)
      if left > 0 { stand(left, credit, of: last) }
    }
    var first = 0
    for credit in unnamed {
      let fact = credit.fact
      var left = -fact.amount
      while first < invoices, drafts[first].rest <= 0 { first += 1 }
      for at in first..<invoices where left > 0 && drafts[at].currency == fact.currency && drafts[at].rest > 0 {
        let part = min(left, drafts[at].rest)
        drafts[at].apply(part, fact, credit.isCash)
        left -= part
      }
      onAccount.take(&left, credit, takesAll: true, &drafts)
      if left < 0, let at = (0..<invoices).last(where: { drafts[$0].currency == fact.currency }) {
        drafts[at].apply(left, fact, credit.isCash)
        left = 0
        first = min(first, at)
      }
      if left != 0 { stand(left, credit) }
    }
  }

  /// The items of one document are settled the oldest first, and opened again the youngest first. What they are opened by
  /// beyond what they came to is the oldest one's; what is left of a credit is left.
  private func apply(_ left: inout Int64, _ credit: Credit, to named: [Int], _ drafts: inout [Draft]) {
    let order = left > 0 ? named : named.reversed()
    for at in order where left != 0 {
      let draft = drafts[at]
      var part = min(left, max(0, draft.rest))
      if left < 0 { part = at == order.last ? left : max(left, min(0, draft.rest.subtractingSaturating(draft.amount))) }
      if part == 0 { continue }
      drafts[at].apply(part, credit.fact, credit.isCash)
      left -= part
    }
  }
}

extension FlowLedger.Draft {
  fileprivate mutating func apply(_ amount: Int64, _ fact: FlowLedger.Fact, _ isCash: Bool) {
    let isReversal = fact.isReversal && !isCash
    if isReversal { hasReversal = true }
    applications.append(.init(day: fact.day, amount: amount, isCash: isCash, isReversal: isReversal))
    rest = rest.subtractingSaturating(amount)
  }

  /// A reversal on the credit side takes the invoice back. One on the debit side takes back what settled it, which makes
  /// no sale; but where the invoice had been taken back, it stands again.
  mutating func settleReversals() {
    var reversed = reversed
    for at in applications.indices.sorted(by: {
      (applications[$0].day, -applications[$0].amount, $0) < (applications[$1].day, -applications[$1].amount, $1)
    }) where applications[at].isReversal {
      let sum = reversed.addingSaturating(applications[at].amount)
      if sum >= 0 {
        reversed = sum
      } else {
        applications[at].isReversal = false
      }
    }
  }
}
