import Domain
import Testing

@testable import Matching

/// Quantities that were ordered, delivered, billed, and returned.
@Suite struct QuantityTests {
  let r = Records()

  @Test func quantities() {
    var policy = testPolicy { $0.quantities.isEnabled = true }
    func flow(_ delivered: Int64?, _ shipped: Int64?, _ billed: Int64?) -> [String] {
      var events: [OrderEvent] = []
      if let delivered { events.append(r.event("O1", .delivered, quantity: delivered)) }
      if let shipped { events.append(r.event("O1", .shipped, quantity: shipped)) }
      if let billed { events.append(r.event("O1", .invoiced, quantity: billed)) }
      return verdicts(events, [], policy: policy)
    }
    #expect(flow(2, 2, 2) == [])
    #expect(flow(2, 2, nil) == ["UNBILLED_SHIPMENT:unbilled"])
    #expect(flow(nil, nil, 2) == ["BILLED_NOT_SHIPPED:revenue"])
    #expect(flow(2, 2, 1) == ["QUANTITY_MISMATCH:revenue"])
    #expect(flow(2, 1, 2) == ["QUANTITY_MISMATCH:inventory"])
    // A goods issue without a delivery is one of the two that differ; where issues are the basis, all is well.
    #expect(flow(nil, 2, nil) == ["QUANTITY_MISMATCH:inventory"])
    policy.quantities.basis = .shipped
    #expect(flow(nil, 2, 2) == [])
    #expect(flow(nil, 2, nil) == ["UNBILLED_SHIPMENT:unbilled"])
  }

  /// A cancelled document takes its quantity back whole and once, as it does its amounts.
  @Test func cancelledQuantitiesAreTakenBackOnce() {
    let policy = testPolicy { $0.quantities.isEnabled = true }
    func event(_ kind: OrderEventKind, _ document: String, _ quantity: Int64?, after hours: Int64) -> OrderEvent {
      r.event("O1", kind, at: t0 + hours * hour, document: document, quantity: quantity)
    }
    let supplied = [event(.delivered, "L1", 10, after: 0), event(.shipped, "L1", 10, after: 0)]
    let sale = event(.invoiced, "D1", 10, after: 1)
    let again = event(.invoiced, "D2", 10, after: 5)
    let cancelled = event(.invoiceCancelled, "D1", 10, after: 2)
    let twice = event(.invoiceCancelled, "D1", 10, after: 3)
    func found(_ events: [OrderEvent]) -> [String] { verdicts(supplied + events, [], policy: policy) }
    #expect(found([sale, cancelled, again]) == [])
    #expect(found([sale, cancelled, twice, again]) == [])
    #expect(found([sale, cancelled, twice]) == ["UNBILLED_SHIPMENT:unbilled"])
    // Its own record may tell none, or another.
    #expect(found([sale, event(.invoiceCancelled, "D1", nil, after: 2), again]) == [])
    #expect(found([sale, event(.invoiceCancelled, "D1", 3, after: 2), again]) == [])
    // Under its number billed again.
    #expect(found([sale, cancelled, event(.invoiced, "D1", 10, after: 4)]) == [])
    // Of what is not known it takes back what it says.
    #expect(found([again, event(.invoiceCancelled, "D3", 4, after: 6)]) == ["QUANTITY_MISMATCH:revenue"])
  }

  /// No more than was ordered, where that is asked for and orders tell quantities; less may still follow.
  @Test(arguments: QuantityChecks.Basis.allCases) func noMoreThanOrdered(_ basis: QuantityChecks.Basis) {
    func flow(
      _ ordered: Int64?, changed: Int64? = nil, cancelled: Int64? = nil, supplied: Int64, returned: Int64? = nil,
      billed: Int64, asked: Bool = true
    ) -> [String] {
      let policy = testPolicy {
        $0.quantities.isEnabled = true
        $0.quantities.basis = basis
        $0.quantities.comparesOrdered = asked
      }
      var events = [r.event("O1", .booked, quantity: ordered)]
      if let changed { events.append(r.event("O1", .changed, quantity: changed)) }
      events += [
        r.event("O1", .delivered, quantity: supplied), r.event("O1", .shipped, quantity: supplied),
        r.event("O1", .invoiced, quantity: billed),
      ]
      if let returned { events.append(r.event("O1", .returned, quantity: returned)) }
      if let cancelled { events.insert(r.event("O1", .cancelled, quantity: cancelled), at: 1) }
      return verdicts(events, [], policy: policy)
    }
    #expect(flow(10, supplied: 10, billed: 10) == [])
    #expect(flow(10, supplied: 4, billed: 4) == [])
    #expect(flow(10, supplied: 15, billed: 15) == ["QUANTITY_MISMATCH:revenue"])
    #expect(flow(10, supplied: 15, billed: 15, asked: false) == [])
    #expect(flow(10, changed: 5, supplied: 15, billed: 15) == [])
    #expect(flow(10, changed: -3, supplied: 10, billed: 10) == ["QUANTITY_MISMATCH:revenue"])
    #expect(flow(10, cancelled: 4, supplied: 10, billed: 10) == ["QUANTITY_MISMATCH:revenue"])
    // What came back may be sent again.
    #expect(flow(10, supplied: 12, returned: 2, billed: 10) == [])
    #expect(flow(nil, supplied: 15, billed: 15) == [])
    // A booking without a quantity is not held against it, whatever was cancelled.
    #expect(flow(nil, cancelled: 5, supplied: 0, billed: 0) == [])
    #expect(flow(nil, changed: 5, supplied: 15, billed: 15) == [])
    // Another break of the same parties says more.
    #expect(flow(10, supplied: 15, billed: 12) == ["QUANTITY_MISMATCH:revenue"])
  }

  /// What comes back and is credited is neither delivered nor billed any more, by whatever the flow is measured.
  @Test(arguments: QuantityChecks.Basis.allCases) func returnsTieOut(_ basis: QuantityChecks.Basis) {
    let policy = testPolicy {
      $0.quantities.isEnabled = true
      $0.quantities.basis = basis
    }
    func flow(returned: Int64?, credited: Int64?, hasCredit: Bool = true) -> [String] {
      var events = [
        r.event("O1", .delivered, quantity: 10), r.event("O1", .shipped, quantity: 10),
        r.event("O1", document: "INV1", net: 100_00, gross: 100_00, quantity: 10),
      ]
      var lines = [
        r.posting("O1", .receivable, 100_00, document: "INV1"), r.posting("O1", .revenue, -100_00, document: "INV1"),
      ]
      if let returned { events.append(r.event("O1", .returned, document: "R1", quantity: returned)) }
      if hasCredit {
        events.append(r.event("O1", .credited, document: "C1", net: 20_00, gross: 20_00, quantity: credited))
        lines += [
          r.posting("O1", .receivable, -20_00, journal: "JE2", document: "C1"),
          r.posting("O1", .returns, 20_00, journal: "JE2", document: "C1"),
        ]
      }
      return verdicts(events, lines, policy: policy)
    }
    #expect(flow(returned: 2, credited: 2) == [])
    // A credit for the price has no quantity.
    #expect(flow(returned: nil, credited: nil) == [])
    #expect(flow(returned: 2, credited: nil, hasCredit: false) == ["QUANTITY_MISMATCH:revenue"])
    #expect(flow(returned: nil, credited: 2) == ["QUANTITY_MISMATCH:revenue"])
    #expect(flow(returned: 3, credited: 2) == ["QUANTITY_MISMATCH:revenue"])
    // A return for an order that began elsewhere.
    #expect(
      verdicts(
        [r.event("O1", .returned, quantity: 2), r.event("O1", .credited, quantity: 2)], [], policy: policy) == [])
  }
}
