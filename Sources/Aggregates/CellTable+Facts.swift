import CShims
import Domain

/// What one fact adds to one cell, until the cell has been brought close.
struct Addition {
  /// Cells looked up together, so that the cache misses of one overlap with those of the others.
  static let batch = 32
  /// The effects of an order event, the quantity, that it is one, and that it could not be valued.
  static let maximumTerms = FlowEffect.maximum + 3

  /// The key of the cell, as in its header.
  var low: UInt64 = 0
  var high: UInt64 = 0
  var hash: UInt64 = 0
  var period: Int32 = 0
  var currency: UInt16 = 0
  var isBase: UInt8 = 0
  var count: UInt8 = 0
  /// Of the fact: +1 or −1.
  var sign: Int64 = 0
  /// A bit for each term that is taken off.
  var negative: UInt64 = 0
  var sums: InlineArray<8, UInt8> = .init(repeating: 0)
  var amounts: InlineArray<8, Int64> = .init(repeating: 0)
}

extension UnsafeMutablePointer<Addition> {
  @inline(__always)
  func add(_ amount: Int64, sign: Int64, to sum: Int) {
    let at = Int(pointee.count)
    pointee.sums[at] = UInt8(truncatingIfNeeded: sum)
    pointee.amounts[at] = amount
    if sign < 0 { pointee.negative |= 1 << UInt64(at) }
    pointee.count = UInt8(truncatingIfNeeded: at &+ 1)
  }
}

/// Facts, added up in batches: a fact's dimensions become numbers when it comes, and its cell's place in the index is
/// asked for; a batch of them later the cells are asked for, then all are added. In the order in which they came, so
/// that cells come to be as if each fact had been added by itself.
extension CellTable {
  /// Adds a fact (`sign` +1), or takes it back (−1). Taking back names the same fact as adding did.
  public mutating func add(_ fact: borrowing AggregateInput, sign: Int) {
    addLater(fact, sign: sign)
    settle()
  }

  /// As `add`; nothing may be read of the table before it has been settled.
  public mutating func addLater(_ fact: borrowing AggregateInput, sign: Int) {
    let sign = Int64(sign)
    let (low, high) = numbers(fact, sign: fact.extent == .amounts ? 0 : sign)
    if fact.kind == AggregateInput.postingKind {
      takePosting(fact, low, high, sign)
    } else {
      takeEvent(fact, low, high, sign)
    }
  }

  /// Releases of deferred revenue that follow from a fact, each in the cell of its period. The fact itself has been counted
  /// where its values are beyond the bounds.
  mutating func addLater(
    releases: [(period: Int32, amount: Int64)], of fact: borrowing AggregateInput, sign: Int
  ) {
    let (low, high) = numbers(fact, sign: 0)
    for release in releases where release.amount != 0 {
      let terms = next(fact, low, high, release.period, 0)
      terms.add(release.amount, sign: Int64(sign), to: OrderFlow.released.rawValue)
      close()
    }
  }

  /// Adds what of a role is in dispute to a cell (`sign` +1), or takes it back (−1). The fact names the cell: dimensions,
  /// currency, view and event period; it has been counted where its values are beyond the bounds.
  /// - Parameter amount: Σ |posted − expected| in minor units; nil for one that no rate converts, which is counted.
  mutating func add(disputed amount: Int64?, _ role: AccountRole, of fact: borrowing AggregateInput, sign: Int) {
    settle()
    let (low, high) = numbers(fact, sign: 0)
    let (currency, isBase, period) = (fact.currency.rawValue, UInt8(fact.isBase ? 1 : 0), fact.eventPeriod)
    let hash = CellTable.hash(low, high, currency, isBase, period)
    let cell = cell(low, high, currency, isBase, period, hash: hash, sign: 0)
    markChanged(cell)
    if let amount {
      add(Int128(sign) * Int128(amount), to: cell, CellValues.index(disputed: role))
    } else {
      add(Int128(sign), to: cell, CellValues.index(DisputeCount.unconverted))
      add(Int128(sign), to: cell, CellValues.index(unconverted: role))
    }
  }

  /// The numbers of a fact's dimensions, as the header of its cell has them.
  @inline(__always)
  private mutating func numbers(_ fact: borrowing AggregateInput, sign: Int64) -> (low: UInt64, high: UInt64) {
    var (low, high): (UInt64, UInt64) = (0, 0)
    for at in 0..<dimensionCount {
      let number = UInt64(dimensions.number(at, fact.dimensions[at], sign: sign))
      if at < 4 { low |= number << UInt64(16 * at) } else { high |= number << UInt64(16 * (at - 4)) }
    }
    return (low, high)
  }

  @inline(__always)
  private mutating func takePosting(_ fact: borrowing AggregateInput, _ low: UInt64, _ high: UInt64, _ sign: Int64) {
    let role = fact.role
    let sum = CellValues.index(role, .event)
    if fact.isUnrated {
      let terms = next(fact, low, high, fact.postingPeriod, sign)
      terms.add(1, sign: sign, to: CellValues.index(.unrated))
      close()
      return
    }
    var terms = next(fact, low, high, fact.eventPeriod, sign)
    terms.add(fact.amount, sign: sign, to: sum)
    if fact.postingPeriod != fact.eventPeriod {
      close()
      terms = next(fact, low, high, fact.postingPeriod, sign)
    }
    terms.add(fact.amount, sign: sign, to: sum + 1)
    if fact.quantity_u != 0, role == .revenue || role == .returns {
      terms.add(fact.quantity_u, sign: sign, to: CellValues.index(.posted))
    }
    close()
  }

  @inline(__always)
  private mutating func takeEvent(_ fact: borrowing AggregateInput, _ low: UInt64, _ high: UInt64, _ sign: Int64) {
    let terms = next(fact, low, high, fact.eventPeriod, fact.extent == .amounts ? 0 : sign)
    if fact.extent == .event {
      terms.add(1, sign: sign, to: OrderFlow.events.rawValue)
      close()
      return
    }
    let count = Int(effectCounts[Int(fact.kind)])
    var isValued = count == 0
    for position in 0..<count {
      let effect = effects[Int(fact.kind) * FlowEffect.maximum + position]
      guard fact.amounts.present & 1 << UInt16(effect.component) != 0 else { continue }
      isValued = true
      let amount = fact.amounts[AmountComponent(rawValue: effect.component).unsafelyUnwrapped]
      terms.add(amount, sign: sign * Int64(effect.sign), to: Int(effect.flow))
    }
    if fact.quantity_u != 0 {
      let turn = CellTable.billingSign(fact.kind)
      if turn != 0 { terms.add(fact.quantity_u, sign: sign * turn, to: CellValues.index(.billed)) }
    }
    if fact.extent == .whole { terms.add(1, sign: sign, to: OrderFlow.events.rawValue) }
    if !isValued, fact.extent == .whole { terms.add(1, sign: sign, to: OrderFlow.unvalued.rawValue) }
    close()
  }

  /// How an order event counts in the billed quantity.
  @inline(__always)
  private static func billingSign(_ kind: UInt8) -> Int64 {
    switch kind {
    case OrderEventKind.invoiced.rawValue: 1
    case OrderEventKind.invoiceCancelled.rawValue, OrderEventKind.credited.rawValue: -1
    default: 0
    }
  }

  /// The next place of the batch, for a cell.
  @inline(__always)
  private func next(
    _ fact: borrowing AggregateInput, _ low: UInt64, _ high: UInt64, _ period: Int32, _ sign: Int64
  ) -> UnsafeMutablePointer<Addition> {
    let addition = pending + pendingCount
    let (currency, isBase) = (fact.currency.rawValue, UInt8(fact.isBase ? 1 : 0))
    addition.pointee.low = low
    addition.pointee.high = high
    addition.pointee.period = period
    addition.pointee.currency = currency
    addition.pointee.isBase = isBase
    addition.pointee.count = 0
    addition.pointee.sign = sign
    addition.pointee.negative = 0
    let hash = CellTable.hash(low, high, currency, isBase, period)
    addition.pointee.hash = hash
    tieout_prefetch_read(index + (Int(truncatingIfNeeded: hash) & indexMask))
    return addition
  }

  @inline(__always)
  private mutating func close() {
    pendingCount &+= 1
    if pendingCount == Addition.batch { settle() }
  }

  /// Adds up what has been taken in.
  public mutating func settle() {
    guard pendingCount > 0 else { return }
    for at in 0..<pendingCount { bring(pending + at) }
    for at in 0..<pendingCount {
      let addition = pending + at
      let cell = cell(
        addition.pointee.low, addition.pointee.high, addition.pointee.currency, addition.pointee.isBase,
        addition.pointee.period, hash: addition.pointee.hash, sign: addition.pointee.sign)
      markChanged(cell)
      let seed = header(cell).pointee.content
      for term in 0..<Int(addition.pointee.count) {
        add(
          addition.pointee.amounts[term], isNegative: addition.pointee.negative & 1 << UInt64(term) != 0, to: cell,
          Int(addition.pointee.sums[term]), seed: seed)
      }
    }
    pendingCount = 0
  }

  /// Asks for the lines of the cell that an addition most likely belongs to: by the tag alone.
  @inline(__always)
  private func bring(_ addition: UnsafePointer<Addition>) {
    let tag = addition.pointee.hash >> 32
    var at = Int(truncatingIfNeeded: addition.pointee.hash) & indexMask
    while index[at] != 0, index[at] >> 32 != tag { at = (at + 1) & indexMask }
    guard index[at] != 0 else { return }
    let base = pointer(Int(index[at] & 0xffff_ffff) - 1)
    tieout_prefetch(base)
    var last = 0
    for term in 0..<Int(addition.pointee.count) {
      let place = CellTable.place(Int(addition.pointee.sums[term]))
      let offset = (CellTable.headerBytes + place * MemoryLayout<Int64>.stride) & ~63
      if offset != last { tieout_prefetch(base + offset) }
      last = offset
    }
  }
}
