import Domain

/// Learns from settled items when customers pay, and says when open ones will be paid.
///
/// For each customer, for each segment and for all together, a sketch of the days between due date and payment. An open
/// item that is already `n` days past due can only be paid later, so only the part of a sketch behind `n` counts. The
/// levels are blended: a customer's own history weighs `n / (n + prior)` with `n` payments of its own that far behind
/// the due date, the segment's the same share of the rest, then all together; what is left follows the terms. So a
/// customer without a history is forecast by its segment, and one with a long history by itself alone.
///
/// Adding is commutative; models of parts merge into that of the whole.
public struct CollectionModel: Sendable {
  /// Payments of its own from which a level weighs as much as all coarser levels together.
  public var prior: Double = 4
  /// Customers with sketches of their own; further ones are forecast by their segment and counted. 100,000 customers
  /// with thirty payments each take about 20 MB.
  public var maximumCustomers = 100_000
  public private(set) var overflowCustomers: Int64 = 0

  private var all = DaysSketch()
  private var segments: [String: DaysSketch] = [:]
  private var customers: [String: DaysSketch] = [:]

  public init() {}

  public var learned: Int64 { all.count }
  public func sketch(customer: String) -> DaysSketch? { customers[customer] }
  public func sketch(segment: String) -> DaysSketch? { segments[segment] }

  /// Learns from an item that was settled so many days after its due date (negative: before).
  public mutating func learn(customer: String, segment: String, daysLate: Int32) {
    all.add(days: daysLate)
    segments[segment, default: DaysSketch()].add(days: daysLate)
    if customers[customer] != nil || customers.count < maximumCustomers {
      customers[customer, default: DaysSketch()].add(days: daysLate)
    } else {
      overflowCustomers += 1
    }
  }

  /// Learns from every item that was settled with money at the end of a day, by what was known then. Disputed items tell
  /// about the dispute, not about the customer, and are left out; so is what a credit note or a write-off settled.
  ///
  /// Where there are more customers than have sketches of their own, those first in the alphabet have them, whatever the
  /// order of the items.
  public mutating func learn(_ items: some Collection<ReceivableItem>, until day: Int32) {
    learnWhateverTheOrder(items, of: \.customer) { model, item in
      guard !item.isDisputed, item.amount > 0, let settled = item.settlement(by: day), settled.isCash else { return }
      model.learn(customer: item.customer, segment: item.segment, daysLate: settled.day - item.due_d)
    }
  }

  /// Learns from items one by one; again, in the order of customers, where there turn out to be too many of these.
  mutating func learnWhateverTheOrder<Item>(
    _ items: some Collection<Item>, of customer: KeyPath<Item, String>, _ learn: (inout CollectionModel, Item) -> Void
  ) {
    let (before, wereBeyond) = (customers.count < maximumCustomers ? self : nil, overflowCustomers)
    for item in items { learn(&self, item) }
    guard let before, overflowCustomers != wereBeyond else { return }
    self = before
    for item in items.sorted(by: {
      $0[keyPath: customer].utf8.lexicographicallyPrecedes($1[keyPath: customer].utf8)
    }) {
      learn(&self, item)
    }
  }

  public mutating func merge(_ other: CollectionModel) {
    all.merge(other.all)
    for (name, sketch) in other.segments { segments[name, default: DaysSketch()].merge(sketch) }
    for name in other.customers.keys.sorted() {
      if customers[name] != nil || customers.count < maximumCustomers {
        customers[name, default: DaysSketch()].merge(other.customers[name]!)
      } else {
        overflowCustomers += other.customers[name]!.count
      }
    }
    overflowCustomers += other.overflowCustomers
  }

  /// The chance of payment by day after the due date, for an item that is `overdue_d` days past it (negative: not due
  /// yet) and open: calls `body` with days > `overdue_d` and chances that add up to what the histories know; the rest,
  /// returned, follows the terms.
  func chances(
    customer: String, segment: String, overdue_d: Int32, _ body: (_ daysLate: Int32, _ chance: Double) -> Void
  ) -> Double {
    var rest = 1.0
    for sketch in [customers[customer], segments[segment], all] {
      guard let sketch else { continue }
      let known = sketch.count(after: overdue_d)
      guard known > 0 else { continue }
      let share = rest * Double(known) / (Double(known) + prior)
      sketch.forEach(after: overdue_d) { day, count in body(day, share * Double(count) / Double(known)) }
      rest -= share
    }
    return rest
  }

  /// The day by which an open item will be paid with a chance of at least `fraction`; nil where nothing is known.
  public func payDay(_ item: ReceivableItem, at day: Int32, fraction: Double) -> Int32? {
    var byDay: [Int32: Double] = [:]
    let rest = chances(customer: item.customer, segment: item.segment, overdue_d: day - item.due_d) {
      byDay[$0, default: 0] += $1
    }
    guard rest < 1 else { return nil }
    var sum = 0.0
    for late in byDay.keys.sorted() {
      sum += byDay[late]! / (1 - rest)
      if sum >= fraction - 1e-9 { return item.due_d + late }
    }
    return nil
  }

  // MARK: - State

  static let stateVersion: UInt8 = 1

  /// The bytes are a pure function of what was learned, not of the order in which it came.
  public func export(into writer: inout ByteWriter) {
    writer.write(CollectionModel.stateVersion)
    writer.write(overflowCustomers)
    all.write(into: &writer)
    for group in [segments, customers] {
      writer.writeVarint(UInt64(group.count))
      for (name, sketch) in group.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
        writer.write(text: name)
        sketch.write(into: &writer)
      }
    }
  }

  public init(from reader: inout ByteReader) throws(ByteCodingError) {
    guard try reader.read(UInt8.self) == CollectionModel.stateVersion else {
      throw ByteCodingError("a collection model of another version")
    }
    overflowCustomers = try reader.read()
    all = try DaysSketch(from: &reader)
    segments = try CollectionModel.group(&reader)
    customers = try CollectionModel.group(&reader)
  }

  private static func group(_ reader: inout ByteReader) throws(ByteCodingError) -> [String: DaysSketch] {
    var group: [String: DaysSketch] = [:]
    for _ in 0..<(try reader.readCount(atMost: reader.count - reader.offset)) {
      let name = try reader.readText()
      group[name] = try DaysSketch(from: &reader)
    }
    return group
  }
}
