import Domain

@testable import Decoding

extension String {
  /// Calls `body` with the bytes of this text as a view.
  func withView<R>(_ body: (ByteView) throws -> R) rethrows -> R {
    var copy = self
    return try copy.withUTF8 { try body($0.isEmpty ? ByteView(base: Self.anchor, count: 0) : ByteView($0)) }
  }

  private static var anchor: UnsafePointer<UInt8> { UnsafePointer(bitPattern: 8)! }
}

func path(_ text: String) -> FieldMapping { FieldMapping(.path(text)) }

func jsonOrders(_ change: (inout MappingSpecification) -> Void = { _ in }) -> MappingSpecification {
  var spec = MappingSpecification(sourceName: "orders", sourceIndex: 0, kind: .orders, format: .json)
  spec.fields = [
    "order": path("id"), "event_id": path("event.id"), "event_time": path("event.time"), "currency": path("cur"),
    "net": path("amounts.net"), "tax": path("amounts.tax"), "customer": path("lines[1].customer"),
  ]
  var event = path("event.type")
  event.table = ValueTable(name: "events", entries: ["order.invoiced": "invoiced", "x": "paid"], unlisted: .skip)
  spec.fields["event"] = event
  change(&spec)
  return spec
}

/// The first decoded order event of a record, or the outcome or fault as text.
func decode(_ text: String, _ spec: MappingSpecification, key: String = "", header: String? = nil) throws
  -> [OrderEventText]
{
  var decoder = OrderDecoder(plan: try MappingPlan(spec))
  if let header { try header.withView { try decoder.readHeader($0) } }
  var events = RecordBuffer<OrderEvent>()
  return try text.withView { payload in
    try key.withView { key in
      let outcome = try decoder.decode(
        key: key, payload: payload, position: RecordPosition(source: 0, partition: 0, offset: 1), into: &events)
      guard case .appended(let count) = outcome else { return [] }
      return (0..<count).map { OrderEventText(events[$0]) }
    }
  }
}

struct OrderEventText: Equatable {
  var order: String
  var id: String
  var kind: OrderEventKind
  var customer: String
  var currency: String
  var time_ms: Int64
  var net: Int64?
  var tax: Int64?
  var quantity_u: Int64?
  var line: String
  var isDelete: Bool

  init(_ event: OrderEvent) {
    order = event.order.string
    id = event.id.string
    kind = event.kind
    customer = event.customer.string
    currency = event.currency.code
    time_ms = event.time_ms
    net = event.amounts.contains(.net) ? event.amounts[.net] : nil
    tax = event.amounts.contains(.tax) ? event.amounts[.tax] : nil
    quantity_u = event.quantityPresent ? event.quantity_u : nil
    line = event.line.string
    isDelete = event.isDelete
  }
}

func fault(_ text: String, _ spec: MappingSpecification, header: String? = nil) -> DataFault? {
  do {
    _ = try decode(text, spec, header: header)
    return nil
  } catch { return error as? DataFault }
}
