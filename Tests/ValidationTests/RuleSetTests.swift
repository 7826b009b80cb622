import Domain
import Testing

@testable import Validation

@Suite struct RuleSetTests {
  static let amounts = AmountComponent.allCases.map(\.name)

  static func amount(_ name: String) -> RuleField? {
    AmountComponent.allCases.first { $0.name == name }.map { RuleField(.component, index: $0.rawValue) }
  }

  func sum(_ text: String) throws -> RuleSum { try RuleSum(text, field: Self.amount, known: Self.amounts) }

  func event(_ currency: String = "EUR", _ amounts: [AmountComponent: Int64] = [:]) -> OrderEvent {
    var event = OrderEvent()
    event.kind = .invoiced
    event.currency = Currency(currency)!
    event.time_ms = 20_000 * millisecondsPerDay + 5
    for (component, value) in amounts { event.amounts[component] = value }
    return event
  }

  func holds(_ condition: RuleSpecification.Condition, _ event: OrderEvent) -> Bool {
    RuleSet([RuleSpecification(name: "r", subject: "s", condition: condition)]).check(event) == nil
  }

  // MARK: - Sums

  @Test func sumsAreRead() throws {
    let made = try sum("net + tax+freight - discount = gross")
    #expect(made.relation == .equal && made.constant_u == 0)
    #expect(
      made.terms.map(\.coefficient) == [1, 1, 1, -1, -1] && made.terms.map(\.isLeft) == [true, true, true, true, false])
    let other = try sum("-2 * fee >= - 1.5 + 3*cost - -0.25")
    #expect(other.terms.map(\.coefficient) == [-2, -3] && other.constant_u == 1_250_000 && other.relation == .atLeast)
  }

  @Test(arguments: [
    ("net + taxx = gross", 6, "did you mean 'tax'?"), ("net +", 5, "at the end"), ("net tax = gross", 4, "not 't'"),
    ("net = tax = gross", 10, "more than one"), ("net + tax", 9, "no comparison"), ("1 = 2", 0, "no amount"),
    ("net => 5", 4, "none of"), ("", 0, "at the end"), ("net * 2 = gross", 4, "not '*'"),
    ("2 * 3 = net", 4, "behind '*'"),
    ("net = 1.0000001", 6, "six decimals"), ("1.5 * net = gross", 0, "whole number"), ("net = ßgross", 6, "expected"),
  ]) func whatIsNoSumIsRefused(_ text: String, _ offset: Int, _ part: String) {
    do {
      _ = try sum(text)
      Issue.record("\(text) is taken")
    } catch let error as RuleSumError {
      #expect(error.offset == offset && error.message.contains(part), "\(text): \(error)")
    } catch { Issue.record("\(error)") }
  }

  @Test func sumsHoldOrNot() throws {
    var check = try sum("net + tax + freight - discount = gross")
    let good = event("EUR", [.net: 1_000, .tax: 190, .discount: 50, .gross: 1_140])
    #expect(holds(.sum(check), good))
    var bad = good
    bad.amounts[.gross] = 1_141
    #expect(!holds(.sum(check), bad))
    check.tolerance_u = 10_000  // one cent, inclusive
    #expect(holds(.sum(check), bad))
    bad.amounts[.gross] = 1_142
    #expect(!holds(.sum(check), bad))
    bad.currency = Currency("KWD")!  // two of a thousandth
    #expect(holds(.sum(check), bad))
    bad.currency = Currency("JPY")!
    #expect(!holds(.sum(check), bad))
    // Nothing on one side: nothing to compare.
    #expect(holds(.sum(check), event("EUR", [.net: 5])) && holds(.sum(check), event("EUR", [.gross: 5])))
    #expect(holds(.sum(check), event()))
    for (text, value, expected) in [
      ("net < 10", Int64(999), true), ("net < 10", 1_000, false), ("net <= 10", 1_000, true),
      ("net <= 10", 1_001, false),
      ("net >= 0", 0, true), ("net >= 0", -1, false), ("net > 0", 0, false), ("net > 0", 1, true),
      ("0 < net", 1, true), ("0 < net", 0, false), ("2 * net = 0.04", 2, true), ("2 * net = 0.04", 3, false),
    ] {
      let condition = RuleSpecification.Condition.sum(try sum(text))
      #expect(holds(condition, event("EUR", [.net: value])) == expected, "\(text) \(value)")
    }
    // The largest amounts do not overflow.
    let large = RuleSpecification.Condition.sum(try sum("1000000 * net = gross"))
    #expect(!holds(large, event("JPY", [.net: .max, .gross: .min])))
  }

  // MARK: - Conditions

  @Test func textsAndTables() throws {
    let text = Array("SO-123456".utf8)
    try text.withUnsafeBufferPointer { bytes in
      var made = event()
      made.order = ByteView(bytes)
      made.dimensions[2] = ByteView(bytes)
      let (order, dimension) = (RuleField(.order), RuleField(.dimension, index: 2))
      let (key, digits) = (try BytePattern("SO-[0-9]{6}"), try BytePattern("[0-9]+"))
      #expect(holds(.pattern(order, key), made) && !holds(.pattern(dimension, digits), made))
      #expect(
        holds(.oneOf(order, ["x", "SO-123456"]), made) && !holds(.oneOf(order, ["SO-12345", "SO-1234567"]), made))
      #expect(!holds(.oneOf(order, []), made))
      // Absent: only `required` minds.
      let customer = RuleField(.customer)
      #expect(
        holds(.oneOf(customer, ["x"]), made) && !holds(.required(customer), made) && holds(.required(order), made))
      #expect(holds(.oneOf(RuleField(.currency), ["USD", "EUR"]), made))
      #expect(!holds(.oneOf(RuleField(.currency), ["USD", "EU"]), made))
      let table = RuleSpecification.Condition.inTable(order, table: "orders", keys: (0..<5_000).map { "K\($0)" })
      let fault = RuleSet([RuleSpecification(name: "known", subject: "order", condition: table)]).check(made)
      #expect(
        fault
          == DataFault(
            .masterDataMissing, field: "order", detail: "rule 'known': order is not in the table 'orders'"))
      #expect(holds(.inTable(order, table: "t", keys: (0..<5_000).map { "K\($0)" } + ["SO-123456"]), made))
    }
  }

  @Test func rangesAndDates() {
    let net = RuleField(.component, index: AmountComponent.net.rawValue)
    let range = RuleSpecification.Condition.range(net, least: 0, most: 10_000_000)
    #expect(holds(range, event("EUR", [.net: 0])) && holds(range, event("EUR", [.net: 1_000])))
    #expect(!holds(range, event("EUR", [.net: -1])) && !holds(range, event("EUR", [.net: 1_001])))
    #expect(holds(range, event("JPY", [.net: 10])) && !holds(range, event("JPY", [.net: 11])) && holds(range, event()))
    var counted = event()
    counted.lineCount = 3
    (counted.quantity_u, counted.quantityPresent) = (1_500_000, true)
    #expect(!holds(.range(RuleField(.lineCount), least: 4, most: nil), counted))
    #expect(holds(.range(RuleField(.quantity), least: 1_500_000, most: 1_500_000), counted))
    #expect(!holds(.range(RuleField(.quantity), least: nil, most: 1_499_999), counted))
    func dated(_ day: Int32) -> OrderEvent {
      var made = event()
      made.documentDate_d = day
      return made
    }
    let dates = RuleSpecification.Condition.dates(RuleField(.date), first_d: 19_990, last_d: 20_005, fromEvent_d: 7)
    for (day, expected) in [
      (Int32(19_993), true), (19_992, false), (20_005, true), (20_006, false), (absentDate, true),
    ] { #expect(holds(dates, dated(day)) == expected, "\(day)") }
    #expect(!holds(.dates(RuleField(.time), first_d: 20_001, last_d: nil, fromEvent_d: nil), event()))
    #expect(holds(.dates(RuleField(.time), first_d: 20_000, last_d: 20_000, fromEvent_d: nil), event()))
  }

  @Test func severityKindsAndDeletes() {
    let invoices = UInt32(1) << UInt32(OrderEventKind.invoiced.rawValue)
    let rules = RuleSet([
      RuleSpecification(
        name: "counted", subject: "customer", severity: .count, condition: .required(RuleField(.customer))),
      RuleSpecification(
        name: "invoices", subject: "document", applies: invoices, condition: .required(RuleField(.document))),
      RuleSpecification(name: "late", subject: "customer", condition: .required(RuleField(.customer))),
    ])
    var made = event()
    #expect(rules.check(made)?.detail == "rule 'invoices': document is missing")
    #expect(rules.violationCounts == [1, 1, 0])
    made.kind = .booked
    #expect(rules.check(made)?.detail == "rule 'late': customer is missing" && rules.violationCounts == [2, 1, 1])
    made.isDelete = true
    #expect(rules.check(made) == nil && rules.violationCounts == [2, 1, 1])
    #expect(RuleSet([]).isEmpty && RuleSet([]).check(made) == nil)
  }

  @Test func postings() {
    let receivables = UInt32(1) << UInt32(AccountRole.receivable.rawValue)
    let rules = RuleSet([
      RuleSpecification(
        name: "debit", subject: "amount", applies: receivables,
        condition: .range(RuleField(.amount), least: 0, most: nil)),
      RuleSpecification(name: "journal", subject: "journal", condition: .required(RuleField(.journal))),
      RuleSpecification(
        name: "when", subject: "posting_date",
        condition: .dates(RuleField(.date), first_d: 100, last_d: nil, fromEvent_d: nil)),
    ])
    let name = Array("J1".utf8)
    name.withUnsafeBufferPointer { bytes in
      var posting = Posting()
      (posting.currency, posting.amount, posting.journal) = (Currency("EUR")!, -1, ByteView(bytes))
      #expect(rules.check(posting)?.field == "amount")
      posting.role = .revenue
      #expect(rules.check(posting) == nil)
      posting.postingDate_d = 99
      #expect(rules.check(posting)?.field == "posting_date")
      posting.postingDate_d = 100
      posting.journal = .empty
      #expect(rules.check(posting)?.field == "journal")
    }
  }

  /// A name that stands for a table and for something else has two bits, the second behind those of all names.
  @Test func unknownReferencesAreTellableApart() {
    func rule(_ name: String, _ severity: RuleSeverity, _ condition: RuleSpecification.Condition) -> RuleSpecification {
      RuleSpecification(name: name, subject: "s", severity: severity, condition: condition)
    }
    let table = RuleSpecification.Condition.inTable(RuleField(.customer), table: "t", keys: ["C"])
    let rules = [
      rule("both", .flag, table), rule("both", .flag, .required(RuleField(.document))), rule("table", .flag, table),
      rule("counted", .count, table), rule("other", .flag, .required(RuleField(.id))),
    ]
    #expect(rules.flagNames == ["both", "table", "other", "both"] && rules.missingFlags == 0b1010)
    let set = RuleSet(rules)
    "x".withCString { text in
      var event = event()
      event.customer = ByteView(base: UnsafeRawPointer(text).assumingMemoryBound(to: UInt8.self), count: 1)
      #expect(set.check(event) == nil && set.brokenRules == 0b1111 && set.lastBroken == [0, 1, 2, 3, 4])
      event.document = event.customer
      event.id = event.customer
      #expect(set.check(event) == nil && set.brokenRules == 0b1010 && set.lastBroken == [0, 2, 3])
      #expect(set.violationCounts == [2, 1, 2, 2, 1] && set.flagCount == 8)
      // It is checked another time.
      set.uncount(set.lastBroken)
      #expect(set.violationCounts == [1, 1, 1, 1, 1] && set.flagCount == 5)
    }
  }

  @Test func rulesThatFlagAreTellableApart() {
    func rule(_ name: String, _ severity: RuleSeverity, _ condition: RuleSpecification.Condition) -> RuleSpecification {
      RuleSpecification(name: name, subject: "s", severity: severity, condition: condition)
    }
    let rules = [
      rule("counted", .count, .required(RuleField(.customer))),
      rule("customer", .flag, .required(RuleField(.customer))),
      rule("ids", .flag, .required(RuleField(.document))),
      rule("ids", .flag, .required(RuleField(.id))),
    ]
    #expect(rules.flagNames == ["customer", "ids"])
    let set = RuleSet(rules)
    #expect(set.check(event()) == nil && set.brokenRules == 0b11 && set.violationCounts == [1, 1, 1, 1])
    "x".withCString { text in
      var good = event()
      good.customer = ByteView(base: UnsafeRawPointer(text).assumingMemoryBound(to: UInt8.self), count: 1)
      good.document = good.customer
      #expect(set.check(good) == nil && set.brokenRules == 0b10)
      good.id = good.customer
      #expect(set.check(good) == nil && set.brokenRules == 0)
    }
  }
}
