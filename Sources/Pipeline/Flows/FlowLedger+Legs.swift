import Domain

extension FlowLedger {
  /// What the journals of an order hold beside its receivables.
  struct Legs {
    private struct Key: Hashable {
      var journal: UInt64
      var currency: Currency
    }
    private struct Sums {
      var hasCash = false
      var cash: Int128 = 0
      var other: Int128 = 0
      /// Of receivables: debits and credits, and those that cash has been put to already.
      var debits: Int128 = 0
      var credits: Int128 = 0
      var debitsSeen: Int128 = 0
      var creditsSeen: Int128 = 0
    }
    /// By journal, in whatever currency.
    private var known: [UInt64: (hasCash: Bool, hasOther: Bool)] = [:]
    private var sums: [Key: Sums] = [:]
    /// By journal and day.
    private var ofDay: Set<UInt64> = []
    private let moves: Set<UInt64>

    init(_ moves: Set<UInt64>) { self.moves = moves }

    mutating func add(_ fact: Fact) {
      guard fact.journal != 0 else { return }
      let key = Key(journal: fact.journal, currency: fact.currency)
      if fact.isLeg, !moves.isEmpty { ofDay.insert(FlowLedger.journalOfDay(fact)) }
      switch fact.kind {
      case .cashLeg:
        known[fact.journal, default: (false, false)].hasCash = true
        sums[key, default: Sums()].hasCash = true
        sums[key]!.cash += Int128(fact.amount)
      case .otherLeg:
        known[fact.journal, default: (false, false)].hasOther = true
        sums[key, default: Sums()].other += Int128(fact.amount)
      case .receivable where fact.amount > 0: sums[key, default: Sums()].debits += Int128(fact.amount)
      case .receivable: sums[key, default: Sums()].credits += Int128(fact.amount)
      case .gone, .invoice, .booking, .unbilling, .ending: break
      }
    }

    /// Whether it moves what is owed: see `moves`.
    func isMove(_ fact: Fact) -> Bool {
      fact.journal != 0 && !moves.isEmpty && moves.contains(FlowLedger.move(fact))
        && !ofDay.contains(FlowLedger.journalOfDay(fact))
    }

    /// How much of a line on a receivable is cash. Where the journal has other lines too, no more than what stands on cash
    /// against it, and than what the others leave; of several lines each has its share.
    mutating func cash(of fact: Fact) -> Int64 {
      if isMove(fact) { return 0 }
      guard let all = known[fact.journal] else { return fact.amount < 0 && !fact.isReversal ? fact.amount : 0 }
      guard all.hasCash else { return 0 }
      let key = Key(journal: fact.journal, currency: fact.currency)
      guard all.hasOther, var own = sums[key], own.hasCash else { return fact.amount }
      let isDebit = fact.amount > 0
      let whole = Int128((isDebit ? own.debits : own.credits).magnitude)
      let before = isDebit ? own.debitsSeen : own.creditsSeen
      if isDebit { own.debitsSeen += Int128(fact.amount) } else { own.creditsSeen += Int128(fact.amount) }
      sums[key] = own
      let (against, other) = isDebit ? (-own.cash, -own.other) : (own.cash, own.other)
      let cash = min(against, whole - max(0, other))
      guard cash > 0 else { return 0 }
      guard cash < whole else { return fact.amount }
      func share(_ part: Int128) -> Int128? {
        let (product, isOver) = part.multipliedReportingOverflow(by: cash)
        return isOver ? nil : product / whole
      }
      guard let from = share(before), let to = share(before + Int128(fact.amount)) else { return fact.amount }
      return Int64(to - from)
    }
  }
}
