import Domain

@testable import Aggregates

/// SplitMix64, so that a failure can be repeated from its seed.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }
}

/// A fact with texts of its own, for tests and their naive counterpart.
struct Fact {
  var kind: OrderEventKind?
  var role = AccountRole.receivable
  var currency = Currency("EUR")!
  var eventPeriod: Int32 = 199_607
  var postingPeriod: Int32 = 199_607
  var amount: Int64 = 0
  var amounts: [AmountComponent: Int64] = [:]
  var dimensions: [String] = []
  var isBase = false
  var quantity_u: Int64 = 0
  var isUnrated = false

  func with<Result>(_ body: (borrowing AggregateInput) -> Result) -> Result {
    let bytes = dimensions.map { Array($0.utf8) }
    let flat = bytes.flatMap { $0 }
    return flat.withUnsafeBufferPointer { buffer in
      var input = AggregateInput(
        kind: kind?.rawValue ?? AggregateInput.postingKind, role: role, currency: currency, eventPeriod: eventPeriod,
        postingPeriod: postingPeriod, amount: amount)
      input.isBase = isBase
      input.quantity_u = quantity_u
      input.isUnrated = isUnrated
      for (component, value) in amounts { input.amounts[component] = value }
      var start = 0
      for (at, text) in bytes.enumerated() {
        if !text.isEmpty { input.dimensions[at] = ByteView(base: buffer.baseAddress! + start, count: text.count) }
        start += text.count
      }
      return body(input)
    }
  }

  /// What the fact means, by a route that shares nothing with the table: a switch over the domain's words.
  func add(to cells: inout [CellKey: CellValues], sign: Int128 = 1) {
    func cell(_ period: Int32, _ body: (inout CellValues) -> Void) {
      let key = CellKey(dimensions: dimensions, currency: currency, isBase: isBase, period: period)
      body(&cells[key, default: CellValues()])
    }
    guard let kind else {
      if isUnrated {
        cell(postingPeriod) { $0[.unrated] += sign }
        return
      }
      cell(eventPeriod) { $0[role, .event] += sign * Int128(amount) }
      cell(postingPeriod) {
        $0[role, .posting] += sign * Int128(amount)
        if [.revenue, .returns].contains(role) { $0[.posted] += sign * Int128(quantity_u) }
      }
      return
    }
    func value(_ component: AmountComponent) -> Int128 { sign * Int128(amounts[component] ?? 0) }
    cell(eventPeriod) {
      $0[.events] += sign
      if kind == .invoiced { $0[.billed] += sign * Int128(quantity_u) }
      if [.invoiceCancelled, .credited].contains(kind) { $0[.billed] -= sign * Int128(quantity_u) }
      let needed: [AmountComponent]
      switch kind {
      case .booked:
        $0[.bookedNew] += value(.net)
        needed = [.net]
      case .changed:
        $0[.bookedChanged] += value(.net)
        needed = [.net]
      case .cancelled:
        $0[.bookedCancelled] += value(.net)
        needed = [.net]
      case .invoiced, .invoiceCancelled:
        let turn: Int128 = kind == .invoiced ? 1 : -1
        $0[.billedNet] += turn * value(.net)
        $0[.billedFreight] += turn * value(.freight)
        $0[.billedTax] += turn * value(.tax)
        $0[.billedDiscount] += turn * value(.discount)
        $0[.billedGross] += turn * value(.gross)
        needed = [.net, .freight, .tax, .discount, .gross]
      case .credited:
        $0[.creditedNet] += value(.net)
        $0[.creditedFreight] += value(.freight)
        $0[.creditedTax] += value(.tax)
        $0[.creditedGross] += value(.gross)
        needed = [.net, .freight, .tax, .gross]
      case .shipped:
        $0[.shippedNet] += value(.net)
        $0[.shippedCost] += value(.cost)
        needed = [.net, .cost]
      case .returned:
        $0[.shippedCost] -= value(.cost)
        needed = [.cost]
      case .paid:
        $0[.paid] += value(.applied)
        needed = [.applied]
      case .discountTaken:
        $0[.discountTaken] += value(.discount)
        needed = [.discount]
      case .depositReceived:
        $0[.depositReceived] += value(.deposit)
        needed = [.deposit]
      case .depositApplied:
        $0[.depositApplied] += value(.deposit)
        needed = [.deposit]
      case .refunded, .chargeback:
        $0[.refunded] += value(.applied)
        needed = [.applied]
      case .writtenOff:
        $0[.writtenOff] += value(.applied)
        needed = [.applied]
      case .settled:
        $0[.settledNet] += value(.net)
        $0[.settledFee] += value(.fee)
        $0[.settledGross] += value(.gross)
        needed = [.net, .fee, .gross]
      case .recognised:
        $0[.released] += value(.net)
        needed = [.net]
      case .held, .released, .delivered, .completed: needed = []
      }
      if !needed.isEmpty, needed.allSatisfy({ amounts[$0] == nil }) { $0[.unvalued] += sign }
    }
  }
}

/// Random facts over few dimension values, so that cells are shared.
func randomFacts(_ count: Int, dimensions: Int, _ generator: inout SeededGenerator) -> [Fact] {
  let currencies = ["EUR", "USD", "JPY"].map { Currency($0)! }
  let periods: [Int32] = [0, 199_607, 199_608, 199_612, 199_701]
  return (0..<count).map { _ in
    var fact = Fact()
    fact.currency = currencies.randomElement(using: &generator)!
    fact.eventPeriod = periods.randomElement(using: &generator)!
    fact.dimensions = (0..<dimensions).map { at in
      let values = ["", "north", "south", "Österreich", "a rather long value of a dimension \(at)", "v\(at)"]
      return values.randomElement(using: &generator)!
    }
    fact.isBase = Int.random(in: 0..<5, using: &generator) == 0
    if Bool.random(using: &generator) { fact.quantity_u = Int64.random(in: -9_000_000...9_000_000, using: &generator) }
    if Bool.random(using: &generator) {
      fact.kind = OrderEventKind.allCases.randomElement(using: &generator)!
      fact.postingPeriod = fact.eventPeriod
      for component in AmountComponent.allCases where Bool.random(using: &generator) {
        fact.amounts[component] = Int64.random(in: -5_000...1_000_000, using: &generator)
      }
      if Int.random(in: 0..<20, using: &generator) == 0 { fact.amounts[.net] = .max }
    } else {
      fact.role = AccountRole.allCases.randomElement(using: &generator)!
      fact.postingPeriod = periods.randomElement(using: &generator)!
      fact.amount = Int64.random(in: -1_000_000...1_000_000, using: &generator)
      if Int.random(in: 0..<20, using: &generator) == 0 { fact.amount = .min }
      fact.isUnrated = fact.isBase && Bool.random(using: &generator)
    }
    return fact
  }
}

extension CellTable {
  mutating func add(_ fact: Fact, sign: Int = 1) { fact.with { add($0, sign: sign) } }
  mutating func add(disputed amount: Int64?, _ role: AccountRole, of fact: Fact, sign: Int) {
    fact.with { add(disputed: amount, role, of: $0, sign: sign) }
  }
}

func bytes(_ table: borrowing CellTable) -> [UInt8] {
  var writer = ByteWriter()
  table.export(into: &writer)
  return writer.array
}

func restored(_ bytes: [UInt8], limits: CellTable.Limits = .init()) throws -> CellTable {
  // Noncopyable values do not leave `withUnsafeBytes`: the copy lives as long as the table is being read.
  let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 16)
  defer { copy.deallocate() }
  copy.copyBytes(from: bytes)
  var reader = ByteReader(UnsafeRawBufferPointer(copy))
  let table = try CellTable.restored(from: &reader, limits: limits)
  guard reader.isAtEnd else { throw ByteCodingError("more bytes than the state has") }
  return table
}
