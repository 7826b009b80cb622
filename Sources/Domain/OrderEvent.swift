/// What happened to a sales order.
@frozen
public enum OrderEventKind: UInt8, CaseIterable, Sendable, Hashable {
  case booked = 0, changed, cancelled, held, released
  /// A delivery was created for the order; goods have not left yet.
  case delivered
  /// Goods issue: control of the goods passes.
  case shipped
  case invoiced
  /// A billing document was cancelled as a whole: what was billed counts as not billed.
  case invoiceCancelled
  case credited
  case returned
  case depositReceived, depositApplied
  case paid, discountTaken, settled, refunded
  /// Deferred revenue of a period was released.
  case recognised
  case writtenOff
  /// Nothing more will come for this order.
  case completed
  /// A payment was taken back by the customer's bank or card issuer.
  case chargeback

  /// The word in configuration, topics and documents.
  public var name: String {
    switch self {
    case .invoiceCancelled: "invoice_cancelled"
    case .depositReceived: "deposit_received"
    case .depositApplied: "deposit_applied"
    case .discountTaken: "discount_taken"
    case .writtenOff: "written_off"
    default: "\(self)"
    }
  }

  public init?(name: some StringProtocol) {
    guard let kind = OrderEventKind.allCases.first(where: { $0.name == name }) else { return nil }
    self = kind
  }
}

/// The amounts that an order event can carry, all in its currency.
@frozen
public enum AmountComponent: UInt8, CaseIterable, Sendable, Hashable {
  case net = 0, tax, freight, discount, gross, cost, deposit, fee
  /// What a payment, refund, credit or write-off settles.
  case applied

  public var name: String { "\(self)" }

  @inlinable
  public static var count: Int { 9 }
}

/// The amounts of one order event, in minor units, by component.
@frozen
public struct Amounts: Sendable {
  /// Bit `component.rawValue` is set where the record carried that component.
  public var present: UInt16 = 0
  @usableFromInline var values: InlineArray<9, Int64> = .init(repeating: 0)

  @inlinable
  public init() {}

  @inlinable
  public subscript(component: AmountComponent) -> Int64 {
    get { values[Int(component.rawValue)] }
    set {
      values[Int(component.rawValue)] = newValue
      present |= 1 << UInt16(component.rawValue)
    }
  }

  /// The amount at the place of a component's raw value, below `AmountComponent.count`.
  @inlinable @inline(__always)
  public subscript(unchecked place: Int) -> Int64 { values[unchecked: place] }

  @inlinable
  public func contains(_ component: AmountComponent) -> Bool { present & (1 << UInt16(component.rawValue)) != 0 }
}

/// The most dimensions (region, channel, segment…) that a configuration may name. Eight are as many as a finance team
/// slices by; each costs sixteen bytes in every decoded record.
public let maximumDimensions = 8

/// Where a record came from: the configured source and the place inside it.
@frozen
public struct RecordPosition: Sendable, Hashable {
  /// Index of the source in the configuration.
  public var source: UInt16
  /// Kafka partition; for a file, the file's index.
  public var partition: Int32
  /// Kafka offset; for a file, the line number, from 1.
  public var offset: Int64

  @inlinable
  public init(source: UInt16, partition: Int32, offset: Int64) {
    self.source = source
    self.partition = partition
    self.offset = offset
  }
}

/// One decoded order event. Plain data: text fields are borrowed from the message (see `ByteView`).
@frozen
public struct OrderEvent: Sendable {
  /// The order key by which orders and postings are joined.
  public var order: ByteView = .empty
  /// The event's own id; empty where the source has none, then the position identifies it.
  public var id: ByteView = .empty
  /// The billing, delivery or payment document this event is about.
  public var document: ByteView = .empty
  public var customer: ByteView = .empty
  public var kind: OrderEventKind = .booked
  public var currency: Currency = .none
  /// Event time, milliseconds since 1970-01-01T00:00:00Z.
  public var time_ms: Int64 = 0
  /// Document (invoice) date, days since 1970-01-01; decides the expected accounting period. `absentDate` if unknown.
  public var documentDate_d: Int32 = absentDate
  /// First and last day of the service that is billed, days since 1970-01-01; `absentDate` if unknown.
  public var serviceStart_d: Int32 = absentDate
  public var serviceEnd_d: Int32 = absentDate
  /// Order or invoice lines, 0 if unknown; decides how large a rounding difference may be.
  public var lineCount: Int32 = 0
  public var amounts = Amounts()
  /// Quantity in millionths of the unit; `quantityPresent` says whether the record carried one.
  public var quantity_u: Int64 = 0
  /// Bits of `Extra`: which of the fields that few records have this one carried.
  public var extras: UInt8 = 0
  /// A CDC delete: the event with this id is taken back.
  public var isDelete = false
  /// A CDC update or re-read of the same row: the newest image of the id counts, and another image is no fault.
  public var isUpsert = false
  /// The validation rules that it broke and that flag, one bit each.
  public var brokenRules: UInt16 = 0
  public var dimensions: InlineArray<8, ByteView> = .init(repeating: .empty)
  public var position = RecordPosition(source: 0, partition: 0, offset: 0)
  @usableFromInline var lineText: ByteView = .empty

  public enum Extra {
    public static let quantity: UInt8 = 1
    public static let line: UInt8 = 2
  }

  @inlinable
  public init() {}

  @inlinable public var quantityPresent: Bool {
    get { extras & Extra.quantity != 0 }
    set { extras = newValue ? extras | Extra.quantity : extras & ~Extra.quantity }
  }

  /// The line (item) of the document that the event is about; empty where the record carried none.
  @inlinable public var line: ByteView {
    get { extras & Extra.line != 0 ? lineText : .empty }
    set {
      lineText = newValue
      extras = newValue.isEmpty ? extras & ~Extra.line : extras | Extra.line
    }
  }
}

/// A service of as many days is refused: a slip in a date, and no contract.
public let maximumServiceDays = 36_525

/// The value of a date field that the record does not carry.
public let absentDate = Int32.min
