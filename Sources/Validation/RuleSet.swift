import Domain

/// The rules of one source, compiled: plain data that is walked for every record, without an allocation, a reference
/// count or an indirect call. For one thread.
public struct RuleSet: ~Copyable {
  private enum Code: UInt8 { case required, pattern, oneOf, range, dates, sum, lines }

  private struct Rule {
    var code: Code
    var isReject: Bool
    /// The bit of a rule that flags, else 0.
    var flag: UInt16 = 0
    var field: RuleField
    var applies: UInt32
    var least: Int64 = .min
    var most: Int64 = .max
    /// Of dates: days from the event, −1 for any.
    var fromEvent: Int64 = -1
    // A pattern.
    var masks: UnsafePointer<UInt64>?
    var scalars = UnsafeBufferPointer<BytePattern.ScalarMask>(start: nil, count: 0)
    var loops: UInt64 = 0
    var optional: UInt64 = 0
    var positions = 0
    // A set of texts.
    var entries: UnsafePointer<SetEntry>?
    var mask = 0
    // A sum.
    var terms: UnsafePointer<Term>?
    var termCount = 0
    /// Of a sum with lines: the place of its first one in `lineSums`.
    var firstLine = 0
    var constant_u: Int64 = 0
    var relation = RuleSum.Relation.equal
    var tolerance_u: Int64 = 0
  }

  private struct SetEntry {
    var fingerprint = Fingerprint(high: 0, low: 0)
    var text: UnsafePointer<UInt8>?
    var count = 0
  }

  private struct Term {
    var field: RuleField
    var coefficient: Int64
    var isLeft: Bool
  }

  public let specifications: [RuleSpecification]
  /// Of the rules that flag, those by which a table does not know a record's reference: bits of `brokenRules`.
  public let missingFlags: UInt16
  private let rules: UnsafeMutablePointer<Rule>
  private let ruleCount: Int
  private let violations: UnsafeMutablePointer<Int>
  /// One number: violations of rules that do not reject.
  private let flags: UnsafeMutablePointer<Int>
  /// One number: the rules that flag which the last record broke.
  private let broken: UnsafeMutablePointer<UInt16>
  /// Places of the rules that the last record broke, and before them how many those are.
  private let marks: UnsafeMutablePointer<Int>
  /// By path of `linePaths`: what the lines of the record add up to that is checked next; to be filled by whoever has it.
  public let lineSums: UnsafeMutablePointer<LineSum>
  /// Where the amounts of nested lines stand, of all rules.
  public let linePaths: [LinePath]
  /// Three letters of a currency, to be looked at like any text.
  private let letters: UnsafeMutablePointer<UInt8>
  private var owned: [UnsafeMutableRawPointer] = []

  public init(_ specifications: [RuleSpecification]) {
    self.specifications = specifications
    ruleCount = specifications.count
    missingFlags = specifications.missingFlags
    rules = .allocate(capacity: max(1, ruleCount))
    violations = .allocate(capacity: max(1, ruleCount))
    violations.initialize(repeating: 0, count: max(1, ruleCount))
    flags = .allocate(capacity: 1)
    flags.initialize(to: 0)
    broken = .allocate(capacity: 1)
    broken.initialize(to: 0)
    linePaths = specifications.flatMap(\.condition.lines)
    lineSums = .allocate(capacity: max(1, linePaths.count))
    lineSums.initialize(repeating: LineSum(), count: max(1, linePaths.count))
    marks = .allocate(capacity: 1 + ruleCount)
    marks.initialize(repeating: 0, count: 1 + ruleCount)
    letters = .allocate(capacity: 4)
    precondition(
      specifications.flagNames.count <= RuleSpecification.maximumFlags, "more rules flag than a record can tell apart")
    var lines = 0
    for (at, specification) in specifications.enumerated() {
      var rule = compile(specification)
      rule.firstLine = lines
      lines += specification.condition.lines.count
      rule.flag = specifications.flag(of: specification)
      (rules + at).initialize(to: rule)
    }
  }

  deinit {
    rules.deallocate()
    violations.deallocate()
    flags.deallocate()
    broken.deallocate()
    marks.deallocate()
    lineSums.deallocate()
    letters.deallocate()
    for memory in owned { memory.deallocate() }
  }

  public var isEmpty: Bool { ruleCount == 0 }
  /// Violations of rules that do not reject, of all of them together: where it rises, a record broke one.
  public var flagCount: Int { flags.pointee }
  /// The rules that flag which the record checked last broke: a bit each, in the order of `flagNames`.
  public var brokenRules: UInt16 { broken.pointee }
  /// By rule: records that broke it.
  public var violationCounts: [Int] { (0..<ruleCount).map { violations[$0] } }

  /// Places of the rules that the record checked last broke.
  public var lastBroken: [Int] { (0..<marks[0]).map { marks[1 + $0] } }

  /// Takes a record's violations back, which is not taken in now: it is checked another time.
  public func uncount(_ broken: [Int]) {
    for at in broken {
      violations[at] -= 1
      if !rules[at].isReject { flags.pointee -= 1 }
    }
  }

  private mutating func own<Element>(_ values: [Element]) -> UnsafePointer<Element> {
    let memory = UnsafeMutablePointer<Element>.allocate(capacity: max(1, values.count))
    memory.initialize(from: values, count: values.count)
    owned.append(UnsafeMutableRawPointer(memory))
    return UnsafePointer(memory)
  }

  private mutating func compile(_ specification: RuleSpecification) -> Rule {
    let isReject = specification.severity == .reject
    func rule(_ code: Code, _ field: RuleField) -> Rule {
      Rule(code: code, isReject: isReject, field: field, applies: specification.applies)
    }
    switch specification.condition {
    case .required(let field): return rule(.required, field)
    case .pattern(let field, let pattern):
      var made = rule(.pattern, field)
      made.masks = own(pattern.masks)
      made.scalars = UnsafeBufferPointer(start: own(pattern.scalars), count: pattern.scalars.count)
      (made.loops, made.optional, made.positions) = (pattern.loops, pattern.optional, pattern.count)
      return made
    case .oneOf(let field, let texts), .inTable(let field, _, let texts):
      var made = rule(.oneOf, field)
      (made.entries, made.mask) = set(of: texts)
      return made
    case .range(let field, let least, let most):
      var made = rule(.range, field)
      (made.least, made.most) = (least ?? .min, most ?? .max)
      return made
    case .dates(let field, let first, let last, let fromEvent):
      var made = rule(.dates, field)
      made.least = first.map(Int64.init) ?? .min
      made.most = last.map(Int64.init) ?? .max
      made.fromEvent = fromEvent.map(Int64.init) ?? -1
      return made
    case .sum(let sum):
      var made = rule(sum.lines.isEmpty ? .sum : .lines, RuleField(.amount))
      made.terms = own(
        sum.terms.map { Term(field: $0.field, coefficient: $0.coefficient, isLeft: $0.isLeft) })
      made.termCount = sum.terms.count
      (made.constant_u, made.relation, made.tolerance_u) = (sum.constant_u, sum.relation, sum.tolerance_u)
      return made
    }
  }

  /// An open-addressed set, half empty.
  private mutating func set(of texts: [String]) -> (UnsafePointer<SetEntry>, Int) {
    var size = 8
    while size < texts.count * 2 { size *= 2 }
    var entries = [SetEntry](repeating: SetEntry(), count: size)
    for text in texts {
      let bytes = own(Array(text.utf8))
      let count = text.utf8.count
      let fingerprint = Fingerprint(ByteView(base: bytes, count: count))
      var at = Int(truncatingIfNeeded: fingerprint.low) & (size - 1)
      while entries[at].text != nil { at = (at + 1) & (size - 1) }
      entries[at] = SetEntry(fingerprint: fingerprint, text: bytes, count: count)
    }
    return (own(entries), size - 1)
  }

  // MARK: - Records

  /// Checks an order event.
  /// - Returns: the fault of the first rule it breaks that rejects; the others are counted, and those that flag are in
  ///   `brokenRules`.
  public func check(_ event: borrowing OrderEvent) -> DataFault? {
    // A delete takes a row back; what it still says of it is nobody's concern.
    if ruleCount == 0 { return nil }
    guard !event.isDelete else { return nil }
    return walk(event, bit: 1 << UInt32(event.kind.rawValue))
  }

  /// Checks a posting; see `check(_:)` of order events.
  public func check(_ posting: borrowing Posting) -> DataFault? {
    if ruleCount == 0 { return nil }
    guard !posting.isDelete else { return nil }
    return walk(posting, bit: 1 << UInt32(posting.role.rawValue))
  }

  @inline(__always)
  private func walk<Record: RuleRecord>(_ record: borrowing Record, bit: UInt32) -> DataFault? {
    broken.pointee = 0
    marks[0] = 0
    for at in 0..<ruleCount where rules[at].applies & bit != 0 {
      let field = rules[at].field
      let holds: Bool
      switch rules[at].code {
      case .required: holds = record.isPresent(field)
      case .pattern, .oneOf: holds = fits(at, field.name == .currency ? code(record.currency) : record.text(field))
      case .range: holds = isInRange(at, record.value(field), record.currency)
      case .dates: holds = areDatesRight(at, record.date_d, record.time_ms)
      case .sum: holds = adds(at, record)
      case .lines: holds = addsLines(at, record)
      }
      if !holds, let fault = note(at) { return fault }
    }
    return nil
  }

  private func note(_ at: Int) -> DataFault? {
    violations[at] += 1
    marks[0] += 1
    marks[marks[0]] = at
    guard rules[at].isReject else {
      flags.pointee += 1
      broken.pointee |= rules[at].flag
      return nil
    }
    let specification = specifications[at]
    var reason = DataFaultReason.schemaInvalid
    let why: String
    switch specification.condition {
    case .required: why = "is missing"
    case .pattern(_, let pattern): why = "does not match \(pattern.text)"
    case .oneOf: why = "is none of the values allowed"
    case .inTable(_, let table, _):
      why = "is not in the table '\(table)'"
      reason = .masterDataMissing
    case .range, .dates: why = "is out of range"
    case .sum: why = "does not hold"
    }
    return DataFault(
      reason, field: specification.subject, detail: "rule '\(specification.name)': \(specification.subject) \(why)")
  }

  // MARK: - Conditions

  /// A text that is absent breaks `required` alone.
  private func fits(_ at: Int, _ text: ByteView) -> Bool {
    guard text.count > 0 else { return true }
    let rule = rules + at
    if rule.pointee.code == .pattern {
      return BytePattern.matches(
        text.buffer, masks: rule.pointee.masks!, scalars: rule.pointee.scalars, loops: rule.pointee.loops,
        optional: rule.pointee.optional, count: rule.pointee.positions)
    }
    let fingerprint = Fingerprint(text)
    var place = Int(truncatingIfNeeded: fingerprint.low) & rule.pointee.mask
    while let known = rule.pointee.entries![place].text {
      let entry = rule.pointee.entries![place]
      if entry.fingerprint == fingerprint, ByteView(base: known, count: entry.count).elementsEqual(text) { return true }
      place = (place + 1) & rule.pointee.mask
    }
    return false
  }

  /// Millionths of an amount in minor units.
  @inline(__always)
  private func micros(_ amount: Int64, _ currency: Currency) -> Int128 {
    var value = Int128(amount)
    for _ in currency.exponent..<6 { value *= 10 }
    return value
  }

  private func isInRange(_ at: Int, _ value: Int64?, _ currency: Currency) -> Bool {
    guard let value else { return true }
    let rule = rules + at
    let exact = rule.pointee.field.kind == .amount ? micros(value, currency) : Int128(value)
    return (rule.pointee.least == .min || exact >= Int128(rule.pointee.least))
      && (rule.pointee.most == .max || exact <= Int128(rule.pointee.most))
  }

  private func areDatesRight(_ at: Int, _ date_d: Int32, _ time_ms: Int64) -> Bool {
    let rule = rules + at
    let eventDay = day(ofMilliseconds: time_ms)
    if rule.pointee.field.name == .date, date_d == absentDate { return true }
    let day = Int64(rule.pointee.field.name == .date ? date_d : eventDay)
    return day >= rule.pointee.least && day <= rule.pointee.most
      && (rule.pointee.fromEvent < 0 || abs(day - Int64(eventDay)) <= rule.pointee.fromEvent)
  }

  /// Amounts that are absent count as nothing; where none of a side that has amounts is there, there is nothing to
  /// compare.
  @inline(__always)
  private func adds<Record: RuleRecord>(_ at: Int, _ record: borrowing Record) -> Bool {
    let rule = rules + at
    var sum: Int128 = 0
    var (left, right, leftSeen, rightSeen) = (false, false, false, false)
    for place in 0..<rule.pointee.termCount {
      let term = rule.pointee.terms![place]
      if term.isLeft { left = true } else { right = true }
      guard let amount = record.value(term.field) else { continue }
      if term.isLeft { leftSeen = true } else { rightSeen = true }
      sum += Int128(amount) * Int128(term.coefficient)
    }
    if left && !leftSeen || right && !rightSeen { return true }
    for _ in record.currency.exponent..<6 { sum *= 10 }
    return compares(at, sum)
  }

  /// The same where sums over nested lines are among the terms. What is no amount breaks the rule.
  @inline(never)
  private func addsLines<Record: RuleRecord>(_ at: Int, _ record: borrowing Record) -> Bool {
    let rule = rules + at
    var sum: Int128 = 0
    var (left, right, leftSeen, rightSeen) = (false, false, false, false)
    for place in 0..<rule.pointee.termCount {
      let term = rule.pointee.terms![place]
      if term.isLeft { left = true } else { right = true }
      if term.field.name == .lines {
        let lines = lineSums[rule.pointee.firstLine + Int(term.field.index)]
        if lines.isBroken { return false }
        // Whatever else the check compares, without the lines it is not the comparison that was meant.
        guard lines.isPresent else { return true }
        let (product, over) = lines.rounded_u(record.currency).multipliedReportingOverflow(by: Int128(term.coefficient))
        if over { return false }
        sum += product
      } else {
        guard let amount = record.value(term.field) else { continue }
        sum += micros(amount, record.currency) * Int128(term.coefficient)
      }
      if term.isLeft { leftSeen = true } else { rightSeen = true }
    }
    if left && !leftSeen || right && !rightSeen { return true }
    return compares(at, sum)
  }

  @inline(__always)
  private func compares(_ at: Int, _ amounts: Int128) -> Bool {
    let rule = rules + at
    let sum = amounts + Int128(rule.pointee.constant_u)
    let tolerance = Int128(rule.pointee.tolerance_u)
    switch rule.pointee.relation {
    case .equal: return sum.magnitude <= tolerance.magnitude
    case .atMost: return sum <= tolerance
    case .atLeast: return sum >= -tolerance
    case .less: return sum < tolerance
    case .more: return sum > -tolerance
    }
  }

  private func code(_ currency: Currency) -> ByteView {
    guard currency != .none else { return .empty }
    letters[0] = UInt8(currency.rawValue >> 10 & 31) + 0x40
    letters[1] = UInt8(currency.rawValue >> 5 & 31) + 0x40
    letters[2] = UInt8(currency.rawValue & 31) + 0x40
    return ByteView(base: UnsafePointer(letters), count: 3)
  }
}

/// What rules see of a record, whatever its kind.
private protocol RuleRecord {
  var currency: Currency { get }
  var time_ms: Int64 { get }
  var date_d: Int32 { get }
  /// Empty where the field is absent or no text.
  func text(_ field: RuleField) -> ByteView
  /// nil where the field is absent or no number.
  func value(_ field: RuleField) -> Int64?
}

extension RuleRecord {
  fileprivate func isPresent(_ field: RuleField) -> Bool {
    switch field.kind {
    case .text: field.name == .currency ? currency != .none : text(field).count > 0
    case .date: date_d != absentDate
    case .time: true
    case .amount, .quantity, .count: value(field) != nil
    }
  }
}

extension OrderEvent: RuleRecord {
  fileprivate var date_d: Int32 { documentDate_d }

  fileprivate func text(_ field: RuleField) -> ByteView {
    switch field.name {
    case .order: order
    case .id: id
    case .document: document
    case .customer: customer
    case .line: line
    case .dimension: dimensions[Int(field.index)]
    default: .empty
    }
  }

  fileprivate func value(_ field: RuleField) -> Int64? {
    switch field.name {
    case .component:
      let component = AmountComponent(rawValue: field.index)!
      return amounts.contains(component) ? amounts[component] : nil
    case .quantity: return quantityPresent ? quantity_u : nil
    case .lineCount: return lineCount > 0 ? Int64(lineCount) : nil
    default: return nil
    }
  }
}

extension Posting: RuleRecord {
  fileprivate var date_d: Int32 { postingDate_d }

  fileprivate func text(_ field: RuleField) -> ByteView {
    switch field.name {
    case .order: order
    case .id: id
    case .document: document
    case .customer: customer
    case .journal: journal
    case .reverses: reverses
    case .account: account
    case .line: line
    case .dimension: dimensions[Int(field.index)]
    default: .empty
    }
  }

  fileprivate func value(_ field: RuleField) -> Int64? { field.name == .amount ? amount : nil }
}

extension OrderEvent {
  /// A text as rules see it; empty where the field is absent or no text.
  public func ruleText(_ field: RuleField) -> ByteView { text(field) }
}

extension Posting {
  /// A text as rules see it; empty where the field is absent or no text.
  public func ruleText(_ field: RuleField) -> ByteView { text(field) }
}
