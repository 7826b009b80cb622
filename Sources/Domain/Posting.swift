/// One decoded line of a general-ledger document. Plain data: text fields are borrowed from the message.
@frozen
public struct Posting: Sendable {
  /// The order key by which orders and postings are joined.
  public var order: ByteView = .empty
  /// The line's own id (journal and line number); empty where the source has none.
  public var id: ByteView = .empty
  /// The ledger document (journal entry) that the line belongs to; its lines must sum to zero.
  public var journal: ByteView = .empty
  /// The billing, delivery or payment document that the line refers to.
  public var document: ByteView = .empty
  /// The journal that this line reverses; empty if it reverses none.
  public var reverses: ByteView = .empty
  public var customer: ByteView = .empty
  public var account: ByteView = .empty
  public var role: AccountRole = .receivable
  public var currency: Currency = .none
  /// Debit − credit in minor units.
  public var amount: Int64 = 0
  /// Event time, milliseconds since 1970-01-01T00:00:00Z.
  public var time_ms: Int64 = 0
  /// Posting date, days since 1970-01-01, `absentDate` if unknown.
  public var postingDate_d: Int32 = absentDate
  /// Accounting period as year × 100 + period (199607); 0 if unknown, then the posting date's month counts.
  public var period: Int32 = 0
  /// Whether the source marks this line as part of a reversal document.
  public var isReversal = false
  /// Bits of `Extra`: which of the fields below the record carried.
  public var extras: UInt8 = 0
  /// Debit − credit in minor units of the base currency, as the ledger has converted it.
  public var baseAmount: Int64 = 0
  /// Quantity in millionths of the unit. The side of the amount says whether it was sold or taken back, not its sign.
  public var quantity_u: Int64 = 0
  /// A CDC delete: the line with this id is taken back.
  public var isDelete = false
  /// A CDC update or re-read of the same row: the newest image of the id counts, and another image is no fault.
  public var isUpsert = false
  /// See `OrderEvent.brokenRules`.
  public var brokenRules: UInt16 = 0
  public var dimensions: InlineArray<8, ByteView> = .init(repeating: .empty)
  public var position = RecordPosition(source: 0, partition: 0, offset: 0)
  @usableFromInline var lineText: ByteView = .empty

  public enum Extra {
    public static let baseAmount: UInt8 = 1
    public static let quantity: UInt8 = 2
    public static let line: UInt8 = 4
  }

  @inlinable
  public init() {}

  /// The line (item) of the document that is posted; empty where the record carried none.
  @inlinable public var line: ByteView {
    get { extras & Extra.line != 0 ? lineText : .empty }
    set {
      lineText = newValue
      extras = newValue.isEmpty ? extras & ~Extra.line : extras | Extra.line
    }
  }
}
