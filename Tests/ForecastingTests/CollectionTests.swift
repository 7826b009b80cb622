import Domain
import Testing

@testable import Forecasting

/// What is learned, and what is made of it.
@Suite struct CollectionTests {
  @Test func bucketsCoverEveryDay() {
    #expect(DaysSketch.bucket(.min) == 0 && DaysSketch.day(0) == -61)
    var previous: UInt16 = 0
    for day in Int32(-100)...1_400 {
      let bucket = DaysSketch.bucket(day)
      #expect(bucket == previous || bucket == previous + 1)
      previous = bucket
      if (-60...180).contains(day) { #expect(DaysSketch.day(bucket) == day) }
      if (181..<1_161).contains(day) { #expect(abs(DaysSketch.day(bucket) - day) <= 3) }
    }
    #expect(Int(DaysSketch.bucket(.max)) == DaysSketch.maximumBins - 1)
  }

  @Test(arguments: Array(1...20) as [UInt64]) func quantilesAreThoseOfTheSortedDays(_ seed: UInt64) throws {
    var generator = SeededGenerator(seed)
    let days = (0..<Int.random(in: 1...300, using: &generator)).map { _ in
      Int32.random(in: -60...180, using: &generator)
    }
    var whole = DaysSketch()
    for day in days { whole.add(days: day) }
    var parts = [DaysSketch](repeating: DaysSketch(), count: 4)
    for day in days.shuffled(using: &generator) { parts[Int.random(in: 0..<4, using: &generator)].add(days: day) }
    var merged = DaysSketch()
    for part in parts.shuffled(using: &generator) { merged.merge(part) }
    #expect(merged == whole && merged.count == Int64(days.count))
    let after = Int32.random(in: -70...100, using: &generator)
    let later = days.filter { $0 > after }.sorted()
    #expect(whole.count(after: after) == Int64(later.count))
    for fraction in [0.0, 0.1, 0.5, 0.9, 1.0] {
      let at = max(1, Int((Double(later.count) * fraction).rounded(.up))) - 1
      #expect(whole.quantile(fraction, after: after) == (later.isEmpty ? nil : later[at]))
    }
    var writer = ByteWriter()
    whole.write(into: &writer)
    var reader = ByteReader(writer.bytes)
    let again = try DaysSketch(from: &reader)
    #expect(again == whole)
  }

  @Test(arguments: Array(1...20) as [UInt64]) func sharesOfMoneyAddUp(_ seed: UInt64) {
    var generator = SeededGenerator(seed)
    for _ in 0..<200 {
      let shares = (0..<14).map { _ in
        Bool.random(using: &generator) ? 0 : Double.random(in: 0...1, using: &generator)
      }
      let bounds: [Int64] = [10, 1_000_000, .max / 2]
      let bound = bounds.randomElement(using: &generator)!
      let amount = Int64.random(in: -bound...bound, using: &generator)
      let parts = split(amount, by: shares)
      #expect(parts.reduce(Int64(0), +) == amount)
      let total = shares.reduce(0, +)
      guard total > 0, bound <= 1_000_000 else { continue }
      for (part, share) in zip(parts, shares) {
        #expect(abs(Double(part) - Double(amount) * share / total) < 1.000_001)
        if share == 0 { #expect(part == 0) }
      }
    }
    #expect(split(100, by: [1, 1, 1]) == [34, 33, 33] && split(-100, by: [1, 1, 1]) == [-34, -33, -33])
    #expect(split(7, by: [0.0, 0.0]) == [0, 7])
  }

  @Test(arguments: Array(1...10) as [UInt64]) func modelsOfPartsMergeIntoThatOfTheWhole(_ seed: UInt64) throws {
    var generator = SeededGenerator(seed)
    var items: [ReceivableItem] = []
    for number in 0..<200 {
      let invoiced = Int32.random(in: 0...500, using: &generator)
      let paid = invoiced + Int32.random(in: 0...90, using: &generator)
      items.append(
        item(
          "C\(number % 17)", segment: "S\(number % 3)", invoiced: invoiced, due: invoiced + 30, amount: 100,
          disputed: number % 11 == 0, paid: number % 7 == 0 ? [] : [(paid, Int64(100))]))
    }
    func bytes(_ model: CollectionModel) -> [UInt8] {
      var writer = ByteWriter()
      model.export(into: &writer)
      return writer.array
    }
    var whole = CollectionModel()
    whole.learn(items, until: 400)
    var parts = [CollectionModel](repeating: CollectionModel(), count: 3)
    for (at, item) in items.shuffled(using: &generator).enumerated() { parts[at % 3].learn([item], until: 400) }
    var merged = CollectionModel()
    for part in parts.shuffled(using: &generator) { merged.merge(part) }
    #expect(bytes(merged) == bytes(whole))
    let expected = items.filter { !$0.isDisputed && ($0.settled_d ?? .max) <= 400 }.count
    #expect(whole.learned == Int64(expected))
    var writer = ByteWriter()
    whole.export(into: &writer)
    var reader = ByteReader(writer.bytes)
    let again = try CollectionModel(from: &reader)
    #expect(bytes(again) == writer.array)
  }

  /// A customer's own history first, then its segment's, then everybody's, then the terms.
  @Test func theFallBacks() {
    var model = CollectionModel()
    model.prior = 0  // without blending the finest level that knows anything decides
    let open = { (customer: String, segment: String) in
      item(customer, segment: segment, invoiced: 1_000, due: 1_030, amount: 100)
    }
    let forecast = { (open: ReceivableItem, model: CollectionModel) in
      CashForecast([open], asOf_d: 1_000, currency: usd, method: .learned, model: model).expected
    }
    func week(_ day: Int32) -> Int { CashForecast.week(of: day, asOf_d: 1_000) }
    #expect(forecast(open("A", "s"), model)[week(1_030)] == 100)
    model.learn(customer: "B", segment: "t", daysLate: 40)
    #expect(forecast(open("A", "s"), model)[week(1_070)] == 100)
    model.learn(customer: "C", segment: "s", daysLate: 20)
    #expect(forecast(open("A", "s"), model)[week(1_050)] == 100)
    model.learn(customer: "A", segment: "s", daysLate: -10)
    #expect(forecast(open("A", "s"), model)[week(1_020)] == 100)
    #expect(model.payDay(open("A", "s"), at: 1_000, fraction: 0.5) == 1_020)
    // Blended: with four payments of its own and a prior of four, half of it is its own.
    model = CollectionModel()
    for _ in 0..<4 { model.learn(customer: "A", segment: "s", daysLate: -10) }
    let half = forecast(open("A", "s"), model)
    // The segment and all are the same four: half, then half of the rest, then half of that; an eighth by terms.
    #expect(half[week(1_020)] == 88 && half[week(1_030)] == 12 || half[week(1_020)] == 87 && half[week(1_030)] == 13)
  }

  /// What has not been paid by now can only be paid later.
  @Test func ageCounts() {
    var model = CollectionModel()
    model.prior = 0
    for late: Int32 in [-5, -5, -5, 33] { model.learn(customer: "A", segment: "", daysLate: late) }
    let open = item("A", invoiced: 0, due: 30, amount: 400)
    let early = CashForecast([open], asOf_d: 10, currency: usd, method: .learned, model: model)
    #expect(early.expected[CashForecast.week(of: 25, asOf_d: 10)] == 300)
    #expect(early.expected[CashForecast.week(of: 63, asOf_d: 10)] == 100)
    let later = CashForecast([open], asOf_d: 26, currency: usd, method: .learned, model: model)
    #expect(later.expected[CashForecast.week(of: 63, asOf_d: 26)] == 400)
    // Later than anybody ever paid: overdue by the terms, so next week.
    let last = CashForecast([open], asOf_d: 70, currency: usd, method: .learned, model: model)
    #expect(last.expected[0] == 400)
    // Backlog: what will be billed on day 20 is due on day 50.
    let backlog = item("A", invoiced: 20, due: 50, amount: 400)
    let future = CashForecast([backlog], asOf_d: 10, currency: usd, method: .learned, model: model)
    #expect(future.open == 400 && future.expected[CashForecast.week(of: 45, asOf_d: 10)] == 300)
  }

  @Test func weeksAndSums() {
    #expect(CashForecast.week(of: 101, asOf_d: 100) == 0 && CashForecast.week(of: 107, asOf_d: 100) == 0)
    #expect(CashForecast.week(of: 108, asOf_d: 100) == 1 && CashForecast.week(of: 90, asOf_d: 100) == 0)
    #expect(CashForecast.week(of: 191, asOf_d: 100) == 12 && CashForecast.week(of: 192, asOf_d: 100) == 13)
    let items = [
      item("A", invoiced: 90, due: 120, amount: 1_000, paid: [(99, 400), (110, 600)]),
      item("B", invoiced: 80, due: 95, amount: 700, disputed: true, paid: [(150, 700)]),
      item("C", invoiced: 80, due: 300, amount: 50),
      item("D", invoiced: 80, due: 110, amount: -200, paid: [(115, -200)]),
    ]
    for method in CashForecast.Method.allCases {
      let forecast = CashForecast(items, asOf_d: 100, currency: usd, method: method, model: CollectionModel())
      #expect(forecast.open == 600 + 700 + 50 - 200 && forecast.disputed == 700 && forecast.beyond == 50)
      #expect(forecast.expected.reduce(forecast.beyond + forecast.disputed, +) == forecast.open)
    }
    let actual = CashForecast.actual(items, asOf_d: 100, currency: usd)
    #expect(actual[1] == 600 && actual[2] == -200 && actual.reduce(0, +) == 400)
  }

  @Test func errorsOfForecasts() throws {
    var error = ForecastError()
    #expect(error.mape == nil && error.bias == nil)
    error.add(forecast: 150, actual: 100)
    error.add(forecast: 100, actual: 200)
    error.add(forecast: 50, actual: 0)
    error.add(forecast: 0, actual: 0)
    #expect(error.mape == 0.5 && error.pairs == 2 && error.withoutActual == 1)
    #expect(error.weighted == 200.0 / 300 && error.bias == 0)
  }

  @Test func ageingAndRatios() {
    for (overdue, bucket) in [
      (-40, Ageing.Bucket.current), (0, .current), (1, .days1to30), (30, .days1to30), (31, .days31to60),
      (60, .days31to60), (61, .days61to90), (90, .days61to90), (91, .over90),
    ] { #expect(Ageing.Bucket(overdue_d: Int32(overdue)) == bucket) }
    // Opening 100, sales 300 in 90 days, closing 120 of which 80 is not due.
    let items = [
      item("A", invoiced: 0, due: 30, amount: 100, paid: [(50, 100)]),
      item("A", invoiced: 40, due: 70, amount: 180, paid: [(80, 180)]),
      item("A", invoiced: 45, due: 75, amount: 40), item("A", invoiced: 95, due: 125, amount: 80),
    ]
    let ratios = CollectionRatios(items, from: 10, to: 100)
    #expect(ratios == CollectionRatios(opening: 100, sales: 300, closing: 120, closingCurrent: 80, days: 90))
    #expect(ratios.dso_u == 36_000_000 && ratios.bestPossibleDSO_u == 24_000_000 && ratios.add_u == 12_000_000)
    #expect(ratios.cei_u == 875_000)
    #expect(CollectionRatios([], from: 0, to: 10).dso_u == nil)
    #expect(Ageing.of(items, at: 100)[0].amounts == [80, 40, 0, 0, 0])
  }

  /// A credit note or a write-off settles an item, but nobody paid: nothing is learned of it, and it is no actual cash.
  @Test func whatSettlesWithoutMoneyIsNoCash() {
    var noted = item("a", invoiced: 0, due: 30, amount: 100)
    noted.applications = [.init(day: 40, amount: 60), .init(day: 50, amount: 40, isCash: false)]
    var paid = noted
    paid.applications = [.init(day: 40, amount: 60, isCash: false), .init(day: 50, amount: 40)]
    #expect(noted.settled_d == 50 && noted.open(at: 45) == 40 && noted.open(at: 50) == 0)
    var model = CollectionModel()
    model.learn([noted], until: 60)
    #expect(model.learned == 0)
    model.learn([paid], until: 60)
    #expect(model.learned == 1 && model.payDay(item("a", invoiced: 60, due: 90, amount: 1), at: 60, fraction: 1) == 110)
    #expect(CashForecast.actual([noted], asOf_d: 35, currency: usd).reduce(0, +) == 60)
    #expect(CashForecast.actual([paid], asOf_d: 35, currency: usd).reduce(0, +) == 40)
  }

  /// What settles an item is what nothing takes back, and what is learned on a day is what was known on it.
  @Test func whatIsTakenBackSettlesNothing() {
    let bounced = item("a", invoiced: 0, due: 30, amount: 100, paid: [(5, 100), (7, -100)])
    let again = item("a", invoiced: 0, due: 30, amount: 100, paid: [(50, 60), (5, 100), (7, -100), (40, 40)])
    let tooMuch = item("a", invoiced: 0, due: 30, amount: 100, paid: [(20, 60), (35, 90), (60, -50)])
    let note = item("a", invoiced: 0, due: 30, amount: -100, paid: [(20, -60), (35, -90)])
    #expect(bounced.settled_d == nil && again.settled_d == 50 && tooMuch.settled_d == 35 && note.settled_d == 35)
    #expect(bounced.settlement(by: 6)?.day == 5 && again.settlement(by: 45) == nil)
    for (item, until, learned) in [(bounced, 6, 1), (bounced, 7, 0), (again, 45, 0), (again, 50, 1), (tooMuch, 40, 1)] {
      var model = CollectionModel()
      model.learn([item], until: Int32(until))
      #expect(model.learned == Int64(learned), "\(item.applications) by \(until)")
    }
    // What was paid too much is owed: it is not over before that has gone back.
    #expect(!tooMuch.isOver(before: 50, asOf: 55) && !tooMuch.isOver(before: 60, asOf: 70))
    #expect(tooMuch.isOver(before: 61, asOf: 70) && !bounced.isOver(before: 900, asOf: 900))
  }

  /// With more customers than may have sketches of their own the figures do not depend on the order of the items.
  @Test(arguments: Array(1...10) as [UInt64]) func whoHasASketchDoesNotDependOnTheOrder(_ seed: UInt64) {
    var generator = SeededGenerator(seed)
    let items = (0..<200).map { number in
      item(
        "C\(number % 23)", segment: "S\(number % 3)", invoiced: 0, due: 30, amount: 100,
        paid: [(Int32.random(in: 10...90, using: &generator), Int64(100))])
    }
    func learned(_ items: [ReceivableItem], _ maximum: Int) -> [UInt8] {
      var model = CollectionModel()
      model.maximumCustomers = maximum
      model.learn(items, until: 60)
      model.learn(items.reversed(), until: 40)
      var writer = ByteWriter()
      model.export(into: &writer)
      return writer.array
    }
    for maximum in [1, 7, 22, 23, 100] {
      let reference = learned(items, maximum)
      for _ in 0..<5 { #expect(learned(items.shuffled(using: &generator), maximum) == reference) }
    }
  }
}
