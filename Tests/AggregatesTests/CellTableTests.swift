import Domain
import Testing

@testable import Aggregates

/// Sums must not depend on order, partitioning, restarts, or on facts that came and went.
@Suite struct CellTableTests {
  static let seeds: [UInt64] = Array(1...25)

  @Test(arguments: seeds) func theSumsAreThoseOfANaiveFold(_ seed: UInt64) {
    var generator = SeededGenerator(seed)
    let dimensions = Int(seed % 9)
    let facts = randomFacts(400, dimensions: dimensions, &generator)
    var table = CellTable(dimensionCount: dimensions)
    var naive: [CellKey: CellValues] = [:]
    for fact in facts {
      table.add(fact)
      fact.add(to: &naive)
    }
    let expected = naive.filter { !$0.value.isZero }.map { CellLine(key: $0.key, values: $0.value) }
      .sorted { $0.key < $1.key }
    #expect(table.lines == expected)
    #expect(table.count == naive.count)
  }

  @Test(arguments: seeds) func orderOfArrivalDoesNotMatter(_ seed: UInt64) {
    var generator = SeededGenerator(seed)
    let facts = randomFacts(300, dimensions: 3, &generator)
    var first = CellTable(dimensionCount: 3)
    for fact in facts { first.add(fact) }
    var second = CellTable(dimensionCount: 3)
    for fact in facts.shuffled(using: &generator) { second.add(fact) }
    #expect(first.lines == second.lines)
    #expect(first.digest == second.digest)
  }

  @Test(arguments: seeds) func anyPartitioningMergedIsTheSame(_ seed: UInt64) {
    var generator = SeededGenerator(seed)
    let facts = randomFacts(300, dimensions: 2, &generator)
    var whole = CellTable(dimensionCount: 2)
    for fact in facts { whole.add(fact) }
    let parts = Int.random(in: 2...7, using: &generator)
    var merged = CellTable(dimensionCount: 2)
    var stage = MergedCells()
    var partials: [CellPartial] = []
    for part in 0..<parts {
      var table = CellTable(dimensionCount: 2)
      let own = facts.enumerated().filter { $0.offset % parts == part }.map(\.element)
      // Told in two epochs: half of the facts, then all.
      for fact in own.prefix(own.count / 2) { table.add(fact) }
      for line in table.takeChanged() { partials.append(CellPartial(task: Int32(part), epoch: 1, line: line)) }
      for fact in own.dropFirst(own.count / 2) { table.add(fact) }
      for line in table.takeChanged() { partials.append(CellPartial(task: Int32(part), epoch: 2, line: line)) }
      merged.merge(table)
    }
    #expect(merged.lines == whole.lines)
    #expect(merged.digest == whole.digest)
    // The second stage: in any order, some of them more than once.
    let again = partials + partials.shuffled(using: &generator).prefix(partials.count / 3)
    for partial in again.shuffled(using: &generator) {
      stage.apply(
        task: partial.task, epoch: partial.epoch, key: partial.line.key, values: partial.line.values)
    }
    #expect(stage.lines.filter { !$0.values.isZero }.map { CellLine(key: $0.key, values: $0.values) } == whole.lines)
  }

  @Test(arguments: seeds) func whatIsTakenBackLeavesNothing(_ seed: UInt64) {
    var generator = SeededGenerator(seed)
    let kept = randomFacts(100, dimensions: 3, &generator)
    let dropped = randomFacts(100, dimensions: 3, &generator)
    var table = CellTable(dimensionCount: 3)
    for fact in kept { table.add(fact) }
    let (lines, digest) = (table.lines, table.digest)
    for fact in dropped { table.add(fact) }
    #expect(table.lines != lines)
    for fact in dropped.shuffled(using: &generator) { table.add(fact, sign: -1) }
    #expect(table.lines == lines)
    #expect(table.digest == digest)
    for fact in kept.shuffled(using: &generator) { table.add(fact, sign: -1) }
    #expect(table.lines.isEmpty)
    #expect(table.digest == 0)
  }

  @Test(arguments: seeds) func aRestartInBetweenChangesNothing(_ seed: UInt64) throws {
    var generator = SeededGenerator(seed)
    // Bounds that are hit, so that what is beyond them must survive too.
    let limits = CellTable.Limits(valuesPerDimension: 3, cells: 40)
    let facts = randomFacts(300, dimensions: 3, &generator)
    let cut = Int.random(in: 0...facts.count, using: &generator)
    var straight = CellTable(dimensionCount: 3, limits: limits)
    var first = CellTable(dimensionCount: 3, limits: limits)
    for fact in facts.prefix(cut) {
      straight.add(fact)
      first.add(fact)
    }
    if Bool.random(using: &generator) {
      _ = straight.takeChanged()
      _ = first.takeChanged()
    }
    var second = try restored(bytes(first), limits: limits)
    #expect(bytes(second) == bytes(first))
    for fact in facts.dropFirst(cut) {
      straight.add(fact)
      second.add(fact)
    }
    #expect(second.lines == straight.lines)
    #expect(second.overflow == straight.overflow)
    #expect(second.takeChanged() == straight.takeChanged())
    #expect(bytes(second) == bytes(straight))
    for fact in facts.shuffled(using: &generator) { second.add(fact, sign: -1) }
    #expect(second.lines.isEmpty)
    #expect(second.overflow.cells == 0 && second.overflow.byDimension.allSatisfy { $0 == 0 })
  }

  @Test(arguments: seeds) func cellsOverDimensionsAddUpToTheTotalsAlsoBeyondTheBounds(_ seed: UInt64) {
    var generator = SeededGenerator(seed)
    let facts = randomFacts(500, dimensions: 3, &generator)
    struct Total: Hashable {
      var currency: Currency
      var isBase: Bool
      var period: Int32
    }
    func totals(_ lines: [CellLine]) -> [Total: CellValues] {
      var sums: [Total: CellValues] = [:]
      for line in lines {
        let total = Total(currency: line.key.currency, isBase: line.key.isBase, period: line.key.period)
        sums[total, default: CellValues()] += line.values
      }
      return sums.filter { !$0.value.isZero }
    }
    var bare = CellTable(dimensionCount: 0)
    var roomy = CellTable(dimensionCount: 3)
    var tight = CellTable(dimensionCount: 3, limits: .init(valuesPerDimension: 2, cells: 10))
    for fact in facts {
      roomy.add(fact)
      tight.add(fact)
      bare.add(fact)
    }
    #expect(totals(roomy.lines) == totals(bare.lines))
    #expect(totals(tight.lines) == totals(bare.lines))
    #expect(roomy.overflow.cells == 0 && tight.overflow.cells > 0)
    #expect(roomy.overflow.byDimension == [0, 0, 0] && tight.overflow.byDimension.allSatisfy { $0 > 0 })
    #expect(tight.lines.contains { $0.key.dimensions.contains(CellKey.other) })
    #expect(tight.count <= 10 + CellTable.sparePeriodCells + CellTable.spareCurrencyCells)
  }

  /// What batches leave is what facts leave one by one, to the byte: also which values and cells were among the first.
  @Test(arguments: seeds) func batchesAreTheSameAsOneByOne(_ seed: UInt64) {
    var generator = SeededGenerator(seed)
    let limits = CellTable.Limits(valuesPerDimension: Int(seed % 5) + 1, cells: Int(seed % 7) * 5 + 1)
    var single = CellTable(dimensionCount: 3, limits: limits)
    var batched = CellTable(dimensionCount: 3, limits: limits)
    for fact in randomFacts(700, dimensions: 3, &generator) {
      let sign = Int.random(in: 0..<4, using: &generator) == 0 ? -1 : 1
      single.add(fact, sign: sign)
      fact.with { batched.addLater($0, sign: sign) }
      if Int.random(in: 0..<50, using: &generator) == 0 { batched.settle() }
    }
    batched.settle()
    #expect(bytes(batched) == bytes(single))
    #expect(batched.overflow == single.overflow)
  }

  @Test(arguments: seeds) func sumsBeyond64BitsAreExact(_ seed: UInt64) throws {
    var generator = SeededGenerator(seed)
    var table = CellTable(dimensionCount: 0)
    var naive: [CellKey: CellValues] = [:]
    var facts: [(fact: Fact, sign: Int)] = []
    var extremes: Set<Bool> = []
    for _ in 0..<200 {
      var fact = Fact()
      fact.role = Bool.random(using: &generator) ? .revenue : .cash
      fact.amount = [Int64.max, .min, .max - 1, .min + 1, 1, -1].randomElement(using: &generator)!
      let sign = Bool.random(using: &generator) ? 1 : -1
      facts.append((fact, sign))
      table.add(fact, sign: sign)
      fact.add(to: &naive, sign: Int128(sign))
      for line in table.lines {
        #expect(line.values == naive[line.key])
        for sum in line.values.sums where Int64(exactly: sum) == nil { extremes.insert(sum > 0) }
      }
    }
    #expect(!extremes.isEmpty)
    var merged = CellTable(dimensionCount: 0)
    merged.merge(table)
    let again = try restored(bytes(table))
    for other in [merged.lines, again.lines] { #expect(other == table.lines) }
    #expect(merged.digest == table.digest && again.digest == table.digest)
    for (fact, sign) in facts.shuffled(using: &generator) { table.add(fact, sign: -sign) }
    #expect(table.lines.isEmpty)
    #expect(table.digest == CellTable(dimensionCount: 0).digest)
  }

  @Test func beyondEveryBoundTheCurrencyStillAddsUp() {
    var table = CellTable(dimensionCount: 1, limits: .init(valuesPerDimension: 1, cells: 1))
    var fact = Fact()
    fact.dimensions = ["x"]
    fact.amount = 1
    for period in 0..<Int32(CellTable.sparePeriodCells + 500) {
      fact.currency = Currency(period % 2 == 0 ? "EUR" : "USD")!
      (fact.eventPeriod, fact.postingPeriod) = (period + 2, period + 2)
      table.add(fact)
    }
    for code in ["EUR", "USD"] {
      let sum = table.lines.filter { $0.key.currency.code == code }.reduce(Int128(0)) {
        $0 + $1.values[.receivable, .posting]
      }
      #expect(sum == Int128(CellTable.sparePeriodCells + 500) / 2)
    }
    #expect(table.lines.contains { $0.key.period == CellTable.overflowPeriod })
    #expect(table.count <= 1 + CellTable.sparePeriodCells + 2)
  }

  @Test func onlyWhatChangedIsTold() {
    var table = CellTable(dimensionCount: 1)
    var (a, b) = (Fact(), Fact())
    (a.dimensions, a.amount) = (["a"], 5)
    (b.dimensions, b.amount) = (["b"], 7)
    table.add(a)
    table.add(b)
    #expect(table.takeChanged().map(\.key.dimensions) == [["a"], ["b"]])
    #expect(!table.hasChanges && table.takeChanged().isEmpty)
    table.add(b)
    #expect(table.takeChanged().map { $0.values[.receivable, .posting] } == [14])
    // What has become zero is told once more.
    table.add(a, sign: -1)
    let told = table.takeChanged()
    #expect(told.count == 1 && told[0].values.isZero && told[0].key.dimensions == ["a"])
  }

  /// What is in dispute goes to the cell of the fact that is named, is told, kept in the state and merged like all else, and
  /// leaves nothing when it is taken back.
  @Test(arguments: seeds) func whatIsInDisputeIsASum(_ seed: UInt64) throws {
    var generator = SeededGenerator(seed)
    let limits = CellTable.Limits(valuesPerDimension: Int.random(in: 2...6, using: &generator), cells: 30)
    let facts = randomFacts(120, dimensions: 2, &generator)
    var table = CellTable(dimensionCount: 2, limits: limits)
    for fact in facts { table.add(fact) }
    let plain = table.digest
    let overflow = table.overflow
    _ = table.takeChanged()
    var right: [Currency: Int128] = [:]
    var charged: [(Fact, AccountRole, Int64?)] = []
    for _ in 0..<40 {
      let fact = facts.randomElement(using: &generator)!
      let role = AccountRole.allCases.randomElement(using: &generator)!
      let amount = Bool.random(using: &generator) ? Int64.random(in: 0...9_999, using: &generator) : Int64.max
      charged.append((fact, role, charged.isEmpty ? nil : amount))
      if charged.count > 1 { right[fact.currency, default: 0] += Int128(amount) }
      table.add(disputed: charged.last!.2, role, of: fact, sign: 1)
    }
    func sums(_ lines: [CellLine]) -> [Currency: Int128] {
      var sums: [Currency: Int128] = [:]
      for line in lines {
        for role in AccountRole.allCases { sums[line.key.currency, default: 0] += line.values[disputed: role] }
      }
      return sums.filter { $0.value != 0 }
    }
    #expect(sums(table.lines) == right.filter { $0.value != 0 } && table.overflow == overflow)
    #expect(table.lines.reduce(0) { $0 + $1.values[.unconverted] } == 1)
    #expect(table.lines.reduce(0) { $0 + $1.values[unconverted: charged[0].1] } == 1)
    for role in AccountRole.allCases {
      let counted = table.lines.reduce(Int128(0)) { $0 + $1.values.unconverted(of: [role]) }
      #expect(counted == (role == charged[0].1 ? 1 : 0))
    }
    let again = try restored(bytes(table), limits: limits)
    #expect(again.lines == table.lines && again.digest == table.digest && again.digest != plain)
    #expect(sums(table.takeChanged()) == sums(again.lines))
    var merged = CellTable(dimensionCount: 2)
    merged.merge(table)
    #expect(sums(merged.lines) == sums(table.lines))
    for (fact, role, amount) in charged.shuffled(using: &generator) {
      table.add(disputed: amount, role, of: fact, sign: -1)
    }
    #expect(table.digest == plain && sums(table.lines).isEmpty)
  }

  /// A state from before there were quantities, counts of postings or disputes, is that of a table without any.
  @Test(arguments: [62, 64, 65] as [UInt8]) func anEarlierStateIsRead(_ count: UInt8) throws {
    var generator = SeededGenerator(5)
    var table = CellTable(dimensionCount: 1)
    for var fact in randomFacts(60, dimensions: 1, &generator) {
      if count == 62 { fact.quantity_u = 0 }
      if count < 65 { fact.isUnrated = false }
      table.add(fact)
    }
    var old = bytes(table)
    #expect(old[2] == UInt8(CellValues.count))
    old[2] = count
    let read = try restored(old)
    #expect(read.lines == table.lines && read.digest == table.digest)
    let now = try restored(bytes(table))
    #expect(read.lacksDisputes && !now.lacksDisputes)
    old[2] = 61
    #expect(throws: ByteCodingError.self) { _ = try restored(old) }
  }

  /// Sums beyond the first 64 stand before the others; a cell without any is written as if there were none.
  @Test func sumsBeyondTheFirstAreWritten() throws {
    func written(_ values: CellValues) -> [UInt8] {
      var writer = ByteWriter()
      values.write(into: &writer)
      return writer.array
    }
    var values = CellValues()
    values[.events] = 3
    values[.receivable, .posting] = Int128(Int64.max) * 5
    let plain = written(values)
    values[.unrated] = 7
    #expect(written(values) == [0, 1, 1, 0, 14] + plain)
    for made in [values, CellValues()] {
      let bytes = written(made)
      let read = try bytes.withUnsafeBytes { bytes throws in
        var reader = ByteReader(bytes)
        return try CellValues(from: &reader)
      }
      #expect(read == made)
    }
    let beyond: [UInt8] = [0, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x08, 0, 14, 0, 0]
    for bad in [[0, 1, 0, 0, 0, 0], beyond, [0, 1, 1, 2, 14, 0, 0], [0, 2]] as [[UInt8]] {
      #expect(throws: ByteCodingError.self) {
        _ = try bad.withUnsafeBytes { bytes throws in
          var reader = ByteReader(bytes)
          return try CellValues(from: &reader)
        }
      }
    }
  }

  @Test func damagedStateIsRefused() throws {
    var generator = SeededGenerator(3)
    var table = CellTable(dimensionCount: 2)
    for fact in randomFacts(60, dimensions: 2, &generator) { table.add(fact) }
    let good = bytes(table)
    let lines = table.lines
    var refused = 0
    for at in 0..<good.count {
      var bad = good
      bad[at] ^= 1 << UInt8(at % 8)
      // Every byte counts: each change is found, or makes another state (flags and counters are not in the digest).
      do {
        let other = try restored(bad)
        #expect(other.lines == lines || bytes(other) != good)
      } catch { refused += 1 }
    }
    #expect(refused > good.count / 2)
    for length in 0..<good.count {
      #expect(throws: ByteCodingError.self) { _ = try restored(Array(good.prefix(length))) }
    }
  }

  @Test func textsThatAreNotUTF8OrTooLongBecomeOneValue() {
    var table = CellTable(dimensionCount: 1)
    func add(_ text: [UInt8]) {
      text.withUnsafeBufferPointer { buffer in
        var input = AggregateInput(
          kind: AggregateInput.postingKind, currency: Currency("EUR")!, eventPeriod: 199_607, postingPeriod: 199_607,
          amount: 1)
        input.dimensions[0] = ByteView(buffer)
        table.add(input, sign: 1)
      }
    }
    add([0x61, 0xff])
    add(Array("a\u{fffd}".utf8))
    add(Array(String(repeating: "é", count: 200).utf8))
    add(Array(String(repeating: "é", count: 300).utf8))
    add(Array("(other)".utf8))
    #expect(table.lines.map(\.key.dimensions[0].utf8.count).sorted() == [4, 7, 254])
    #expect(Set(table.lines.map(\.key)).count == table.lines.count)
    #expect(table.lines.map { $0.values[.receivable, .posting] }.reduce(0, +) == 5)
  }

  @Test func recordsBecomeFactsByTheirDates() {
    let calendar = PeriodCalendar.months
    for day in stride(from: Int32(-7_305), to: 72_000, by: 13) {
      #expect(calendar.period(ofDay: day) == calendarPeriod(ofDay: day))
    }
    #expect(calendar.period(ofDay: absentDate) == CellTable.unknownPeriod)
    #expect(calendar.period(ofDay: .max) == CellTable.unknownPeriod)
    var event = OrderEvent()
    event.time_ms = 837_993_600_000  // 1996-07-21
    #expect(AggregateInput(event, calendar: calendar).eventPeriod == 199_607)
    event.documentDate_d = 9_710  // 1996-08-02
    #expect(AggregateInput(event, calendar: calendar).eventPeriod == 199_608)
    var posting = Posting()
    posting.time_ms = 837_993_600_000
    #expect(AggregateInput(posting, calendar: calendar).postingPeriod == 199_607)
    posting.postingDate_d = 9_710
    #expect(AggregateInput(posting, calendar: calendar).postingPeriod == 199_608)
    posting.period = 199_609
    let input = AggregateInput(posting, calendar: calendar)
    #expect(input.postingPeriod == 199_609 && input.eventPeriod == 199_607)
  }
}

/// What a task tells, and when.
@Suite struct TaskAggregatesTests {
  func fact(_ amount: Int64, _ segment: String = "a") -> Fact {
    var fact = Fact()
    (fact.amount, fact.dimensions) = (amount, [segment])
    return fact
  }

  func settings(_ interval_ms: Int64) -> AggregateSettings {
    var settings = AggregateSettings()
    settings.interval_ms = interval_ms
    return settings
  }

  @Test func changesAreGatheredForTheInterval() {
    var task = TaskAggregates(dimensionCount: 1, settings: settings(1_000))
    let nothing = task.tell(now_ms: 0)
    #expect(nothing.lines.isEmpty)
    fact(5).with { task.add($0, sign: 1) }
    task.settle()
    let first = task.tell(now_ms: 10_000)
    #expect(first.lines.count == 1)
    fact(6).with { task.add($0, sign: 1) }
    task.settle()
    let early = task.tell(now_ms: 10_999)
    #expect(early.lines.isEmpty)
    let second = task.tell(now_ms: 11_000)
    #expect(second.lines.map { $0.values[.receivable, .posting] } == [11])
  }

  @Test func timesGoAlongAndOnceADay() {
    let day = millisecondsPerDay
    var task = TaskAggregates(dimensionCount: 1, settings: settings(1_000))
    var told = task.tell(now_ms: 0, times: [.min, .min])
    #expect(told.times == nil)
    told = task.tell(now_ms: 0, times: [5 * day, 6 * day])
    #expect(told.times == [5 * day, 6 * day])
    told = task.tell(now_ms: 0, times: [6 * day - 1, 7 * day])
    #expect(told.times == nil)
    fact(1).with { task.add($0, sign: 1) }
    task.settle()
    told = task.tell(now_ms: 0, times: [6 * day - 1, 7 * day])
    #expect(told.times == [6 * day - 1, 7 * day] && told.lines.count == 1)
    fact(1).with { task.add($0, sign: 1) }
    task.settle()
    told = task.tell(now_ms: 1_000, times: [6 * day - 1, 7 * day])
    #expect(told.times == nil && told.lines.count == 1)
    told = task.tell(now_ms: 1_000, times: [6 * day, 7 * day])
    #expect(told.times == [6 * day, 7 * day])
    task.untell()
    told = task.tell(now_ms: 1_000, times: [6 * day, 7 * day])
    #expect(told.times == [6 * day, 7 * day])
  }

  @Test func whatWasNotSentIsToldAgain() {
    var task = TaskAggregates(dimensionCount: 1, settings: settings(1_000))
    fact(5).with { task.add($0, sign: 1) }
    task.settle()
    let before = task.digest
    let first = task.tell(now_ms: 50, times: [7])
    let told = task.digest
    task.untell()
    let after = task.digest
    #expect(told != before && after == before && first.lines.count == 1)
    fact(1, "b").with { task.add($0, sign: 1) }
    task.settle()
    let second = task.tell(now_ms: 60, times: [7])
    #expect(second.lines.map(\.key.dimensions) == [["a"], ["b"]] && second.lines[0] == first.lines[0])
    // Only what was told last can be taken back.
    _ = task.tell(now_ms: 5_000, times: [7])
    task.untell()
    let third = task.tell(now_ms: 9_000, times: [7])
    #expect(third == TaskAggregates.Told())
  }

  @Test func aRestartTellsTheSame() throws {
    var task = TaskAggregates(dimensionCount: 1, settings: settings(1_000))
    fact(5).with { task.add($0, sign: 1) }
    task.settle()
    _ = task.tell(now_ms: 50, times: [9])
    fact(6, "b").with { task.add($0, sign: 1) }
    task.settle()
    var writer = ByteWriter()
    task.export(into: &writer)
    var again = TaskAggregates(dimensionCount: 1, settings: settings(1_000))
    var reader = ByteReader(writer.bytes)
    try again.restore(from: &reader, settings: settings(1_000))
    let digests = [again.digest, task.digest]
    #expect(reader.isAtEnd && digests[0] == digests[1])
    let early = again.tell(now_ms: 1_049, times: [9])
    let (one, other) = (again.tell(now_ms: 1_050, times: [9]), task.tell(now_ms: 1_050, times: [9]))
    #expect(early == TaskAggregates.Told() && one == other && one.lines.count == 1 && one.times == nil)
    var wider = TaskAggregates(dimensionCount: 2)
    var second = ByteReader(writer.bytes)
    var refused = false
    do { try wider.restore(from: &second, settings: AggregateSettings()) } catch { refused = true }
    #expect(refused)
  }
}
