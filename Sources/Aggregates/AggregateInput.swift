import Domain

/// One fact as the cell table takes it in: plain data, texts borrowed for the call.
@frozen
public struct AggregateInput {
  public static let postingKind: UInt8 = 0xff

  /// What of an order event is added.
  @frozen
  public enum Extent: UInt8, Sendable {
    case whole
    /// That it is one. What it comes to is told by others.
    case event
    /// What it comes to: the event itself has been counted.
    case amounts
  }

  public var extent = Extent.whole
  /// `OrderEventKind.rawValue`, or `postingKind`.
  public var kind: UInt8
  /// Of a posting.
  public var role: AccountRole = .receivable
  /// Whether the amounts are in the base currency: the same fact, converted, added a second time. The two views never
  /// mix in a cell.
  public var isBase = false
  public var currency: Currency
  /// Period of the event or document date; `CellTable.unknownPeriod` where there is none.
  public var eventPeriod: Int32
  /// Period in which it is posted; of an order event the same as `eventPeriod`.
  public var postingPeriod: Int32
  /// Debit − credit of a posting, in minor units.
  public var amount: Int64 = 0
  /// Of an order event.
  public var amounts = Amounts()
  /// A posting whose amount is not known in this view: it is counted as such, and adds nothing.
  public var isUnrated = false
  /// In millionths of the unit; 0 where none is counted. Of a posting with the sign of what is sold: + where the amount
  /// is a credit, − where it is a debit. Of an order event as it is told.
  public var quantity_u: Int64 = 0
  public var dimensions: InlineArray<8, ByteView>

  /// An order event: its document date decides the period, or its event time where it has none.
  @inlinable
  public init(_ event: borrowing OrderEvent, calendar: borrowing PeriodCalendar) {
    kind = event.kind.rawValue
    currency = event.currency
    let day = event.documentDate_d == absentDate ? day(ofMilliseconds: event.time_ms) : event.documentDate_d
    eventPeriod = calendar.period(ofDay: day)
    postingPeriod = eventPeriod
    amounts = event.amounts
    dimensions = event.dimensions
  }

  /// A posting: by event time, and by the accounting period it states, its posting date, or its event time.
  @inlinable
  public init(_ posting: borrowing Posting, calendar: borrowing PeriodCalendar) {
    kind = AggregateInput.postingKind
    role = posting.role
    currency = posting.currency
    eventPeriod = calendar.period(ofDay: day(ofMilliseconds: posting.time_ms))
    if posting.period != 0 {
      postingPeriod = calendar.period(entered: posting.period)
    } else if posting.postingDate_d != absentDate {
      postingPeriod = calendar.period(ofDay: posting.postingDate_d)
    } else {
      postingPeriod = eventPeriod
    }
    amount = posting.amount
    dimensions = posting.dimensions
  }

  /// For callers that keep facts in a form of their own.
  @inlinable
  public init(
    kind: UInt8, role: AccountRole = .receivable, currency: Currency, eventPeriod: Int32, postingPeriod: Int32,
    amount: Int64 = 0, amounts: Amounts = Amounts(), dimensions: InlineArray<8, ByteView> = .init(repeating: .empty)
  ) {
    self.kind = kind
    self.role = role
    self.currency = currency
    self.eventPeriod = eventPeriod
    self.postingPeriod = postingPeriod
    self.amount = amount
    self.amounts = amounts
    self.dimensions = dimensions
  }
}

/// Day → accounting period, by calendar month unless a fiscal calendar is given. A table, because taking a date apart
/// costs more than adding the fact up.
@frozen
public struct PeriodCalendar: Sendable {
  /// 1950-01-01 to 2169-06-06: longer than any ledger reaches, and 320 kB.
  @usableFromInline static let firstDay: Int32 = -7_305
  @usableFromInline static let dayCount = 80_000
  @usableFromInline let periods: [Int32]
  private let fiscal: FiscalCalendar?

  /// Calendar months, year × 100 + month.
  public static let months = PeriodCalendar(nil)

  /// By calendar month where there is no fiscal calendar.
  public init(_ fiscal: FiscalCalendar?) {
    self.init(fiscal) { day in fiscal.map { $0.period(ofDay: day) } ?? calendarPeriod(ofDay: day) }
  }

  /// By any rule, with special periods as of calendar months where there is no fiscal calendar.
  package init(_ fiscal: FiscalCalendar? = nil, _ period: (_ day: Int32) -> Int32) {
    self.fiscal = fiscal
    periods = (0..<PeriodCalendar.dayCount).map { period(PeriodCalendar.firstDay + Int32($0)) }
  }

  /// The period in which a posting counts that was entered into one: see `countedPeriod`.
  @inlinable @inline(__always)
  public func period(entered: Int32) -> Int32 { entered % 100 <= 12 ? entered : counted(entered) }

  @usableFromInline func counted(_ entered: Int32) -> Int32 { countedPeriod(entered, fiscal) }

  /// The period of a day; `CellTable.unknownPeriod` for `absentDate` and for days outside the table.
  @inlinable @inline(__always)
  public func period(ofDay day: Int32) -> Int32 {
    let at = Int(day) - Int(PeriodCalendar.firstDay)
    return at >= 0 && at < PeriodCalendar.dayCount ? periods[at] : 0
  }
}
