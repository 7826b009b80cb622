import Aggregates
import Domain

extension Matcher {
  /// Adds a fact to the aggregates, or takes it back.
  mutating func aggregate(_ fact: UnsafePointer<Fact>, sign: Int) {
    var input = AggregateInput(
      kind: fact.pointee.isPosting ? AggregateInput.postingKind : fact.pointee.code, currency: fact.pointee.currency,
      eventPeriod: 0,
      postingPeriod: 0)
    let timeDay = day(ofMilliseconds: fact.pointee.time_ms)
    let datedDay = fact.pointee.date_d == absentDate ? timeDay : fact.pointee.date_d
    if fact.pointee.isPosting {
      input.role = fact.pointee.role
      input.amount = fact.pointee.amount
    } else {
      var place = 0
      for component in AmountComponent.allCases where fact.pointee.mask & 1 << UInt16(component.rawValue) != 0 {
        input.amounts[component] = fact.pointee.amounts[place]
        place += 1
      }
    }
    if let quantity_u = fact.pointee.quantity_u {
      // The sign of a posted quantity says nothing; the side of the amount does.
      input.quantity_u = !fact.pointee.isPosting ? quantity_u : signed(quantity_u, against: fact.pointee.amount)
    }
    var offset = 0
    var dimension = 0
    while offset < fact.pointee.dimensionBytes.count, dimension < dimensionCount {
      let count = Int(fact.pointee.dimensionBytes.base![offset])
      if count > 0 {
        input.dimensions[dimension] = ByteView(base: fact.pointee.dimensionBytes.base! + offset + 1, count: count)
      }
      offset += 1 + count
      dimension += 1
    }
    // An order event counts in the period of its document; a posting by event time, and by posting date.
    aggregates!.add(
      &input, eventDay: fact.pointee.isPosting ? timeDay : datedDay, postingDay: datedDay,
      statedPeriod: fact.pointee.isPosting ? fact.pointee.statedPeriod : 0, sign: sign)
    if hasExchange { aggregateInBase(fact, input, day: datedDay, sign: sign) }
  }

  /// At the end of every step that takes facts in or takes them back.
  @inline(__always)
  mutating func settleAggregates() {
    if aggregates != nil { aggregates!.settle() }
  }

  private func signed(_ quantity_u: Int64, against amount: Int64) -> Int64 {
    let size = Int64(clamping: quantity_u.magnitude)
    return amount > 0 ? -size : size
  }

  /// Of the aggregates and of what has been told of them; 0 where there are none.
  public var aggregatesDigest: UInt64 {
    guard aggregates != nil else { return 0 }
    return aggregates!.makeDigest()
  }

  public var hasAggregates: Bool { aggregates != nil }

  /// Writes the aggregates as a checkpoint keeps them, where there are any.
  public func exportAggregates(into writer: inout ByteWriter) {
    if aggregates != nil { aggregates!.export(into: &writer) }
  }

  /// Adds the cells to a table, where there are any.
  public func mergeAggregates(into table: inout CellTable) {
    if aggregates != nil { aggregates!.merge(into: &table) }
  }
}
