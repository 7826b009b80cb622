import Configuration
import Domain
import Forecasting
import Foundation
import Kafka
import KafkaTesting
import Matching
import Pipeline
import Synchronization
import Testing

/// `tieout flows` over the wire.
@Suite(.serialized) struct FlowTests {
  let support = EndToEndTests()

  func prepare(_ example: String, _ cluster: TestCluster, partitions: Int) throws -> Configuration {
    try support.prepare(example, cluster, partitions: partitions, workers: 1, flows: FlowSettings())
  }

  /// The newest message under each key.
  func newest(_ topic: String, _ cluster: TestCluster, partitions: Int) throws -> [String: [String: Any]] {
    var found: [String: [String: Any]] = [:]
    for record in try cluster.readAll(topic, partitions: partitions) {
      let message = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
      let revision = message["revision"] as! Int
      #expect(revision > found[record.key!]?["revision"] as? Int ?? 0, "\(record.key!)")
      found[record.key!] = message
    }
    return found
  }

  func money(_ amount: Int64) -> String { formatDecimal(Int128(amount), decimals: 2) }

  func ratio(_ value: Double?) -> String? {
    value.map { formatDecimal(Int128(($0 * 1_000_000).rounded(.toNearestOrEven)), decimals: 6) }
  }

  /// 2,466 real invoices through the topics give what `tieout forecast` makes of the file; a restart tells nothing, and
  /// a payment one revision more.
  @Test func topicsSayWhatTheFileSays() throws {
    guard let data = sharedData else {
      print("skipped: there is no ../shared/data")
      return
    }
    var tableOptions = ReceivablesTable.Options()
    tableOptions.currency = Currency("USD")!
    let table = try ReceivablesTable(path: data + "/receivables/ar.csv", options: tableOptions)
    let cluster = try TestCluster()
    let configuration = try prepare("receivables.yaml", cluster, partitions: 3)
    var records = InvoiceRecords()
    for item in table.items {
      let (year, month, day) = civilFromDays(Int(item.due_d))
      records.invoice(
        item.id, customer: item.customer, country: item.segment, amount: money(item.amount), day: item.invoiced_d,
        due: "\(month)/\(day)/\(year)")
      records.payment(item.id, customer: item.customer, amount: money(item.amount), day: item.settled_d!)
    }
    try records.send(configuration, cluster)
    // A break that was open and is cleared is none.
    let disputed = table.items.filter(\.isDisputed).map(\.id)
    try cluster.produce(
      configuration.breaksTopic,
      disputed.map { ($0, receivableBreak($0, state: .open), nil) }
        + [BreakState.open, .autoCleared].enumerated().map { at, state in
          let id = table.items.first { !$0.isDisputed }!.id
          return (id, receivableBreak(id, state: state, revision: at + 1), nil)
        })
    // In the middle of the history, so that something is open; then at its end.
    for asOf in ["2013-08-31", nil] {
      let day = asOf.map { Int32(daysFromCivil(year: Int($0.prefix(4))!, month: 8, day: 31)) } ?? table.lastDay!
      let status = try runFlows(configuration, asOf_d: asOf == nil ? nil : day)
      #expect(status.messages == 2 && status.asOf_d == day)
      let key = "USD|transaction"
      let cash = try newest(configuration.cashflowTopic, cluster, partitions: 3)
      let ageing = try newest(configuration.receivablesTopic, cluster, partitions: 3)
      #expect(Array(cash.keys) == [key] && Array(ageing.keys) == [key])
      try check(cash[key]!, ageing[key]!, table, day)
      // Again: everything is read, nothing is told.
      #expect(try runFlows(configuration, asOf_d: asOf == nil ? nil : day).messages == 0)
    }
    // One more invoice: both messages change, and their revisions go on.
    var more = InvoiceRecords()
    more.invoice("new", customer: "c", country: "x", amount: "100.00", day: table.lastDay!, due: nil)
    try more.send(configuration, cluster)
    #expect(try runFlows(configuration).messages == 2)
    let last = try newest(configuration.receivablesTopic, cluster, partitions: 3)["USD|transaction"]!
    #expect(last["revision"] as? Int == 3 && last["items"] as? Int == 1 && last["open"] as? String == "100.00")
    #expect((last["completeness"] as? [String: Any])?["assumed_due_dates"] as? Int == 1)
  }

  /// Against what the file job computes for the same day.
  func check(_ cash: [String: Any], _ ageing: [String: Any], _ table: ReceivablesTable, _ day: Int32) throws {
    let usd = Currency("USD")!
    let report = ReceivablesReport(table.items, currency: usd, asOf_d: day, knownUntil_d: day, days: 90)
    let (learned, plain) = (report.forecast(.learned), report.forecast(.dueDate))
    #expect(cash["as_of_date"] as? String == formatDate(day) && cash["currency"] as? String == "USD")
    let weeks = cash["weeks"] as! [[String: Any]]
    #expect(weeks.map { $0["expected"] as! String } == learned.expected.map(money))
    #expect(weeks.map { $0["by_due_date"] as! String } == plain.expected.map(money))
    #expect(cash["open"] as? String == money(learned.open) && cash["disputed"] as? String == money(learned.disputed))
    #expect(cash["later"] as? String == money(learned.beyond))
    // The weeks that are over: the file job's forecast of 13 weeks before, and its actual column.
    let begin = day - 91
    let before = ReceivablesReport(table.items, currency: usd, asOf_d: begin, knownUntil_d: day, days: 90)
    let past = cash["past_weeks"] as! [[String: Any]]
    #expect(past.map { $0["expected"] as! String } == before.forecast(.learned).expected.map(money))
    #expect(past.map { $0["by_due_date"] as! String } == before.forecast(.dueDate).expected.map(money))
    let open = table.items.filter { $0.invoiced_d <= begin }
    #expect(
      past.map { $0["actual"] as! String }
        == CashForecast.actual(open, asOf_d: begin, currency: usd).map(money))
    for (at, week) in past.enumerated() {
      let from = begin + 1 + 7 * Int32(at)
      let cents = table.items.reduce(Int64(0)) {
        $0 + ((from..<from + 7).contains($1.settled_d!) ? $1.amount : 0)
      }
      #expect(week["received"] as? String == money(cents) && week["from"] as? String == formatDate(from))
    }
    let known = table.items.filter { $0.invoiced_d <= day }
    let cutoff = Backtest.cutoff(known, fraction: 0.7)!
    for (name, method) in [("expected", CashForecast.Method.learned), ("by_due_date", .dueDate)] {
      let test = Backtest(known, currency: usd, cutoff_d: cutoff, end_d: day, method: method)
      let told = (cash["backtest"] as! [String: Any])[name] as! [String: Any]
      #expect(test.all.pairs > 10 && told["weeks"] as? Int == test.all.pairs)
      #expect(told["mape"] as? String == ratio(test.all.mape) && told["bias"] as? String == ratio(test.all.bias))
      #expect(told["weighted"] as? String == ratio(test.all.weighted))
    }
    let buckets = ageing["ageing"] as! [String: String]
    let expected = Ageing.of(known, at: day).first ?? Ageing(day: day, currency: usd)
    #expect(
      ["current", "days_1_30", "days_31_60", "days_61_90", "over_90"].map { buckets[$0]! }
        == expected.amounts.map(money))
    #expect(ageing["disputed"] as? String == money(expected.disputed))
    let ratios = CollectionRatios(known, from: day - 90, to: day)
    for (name, value) in [
      ("dso", ratios.dso_u), ("best_possible_dso", ratios.bestPossibleDSO_u), ("average_days_delinquent", ratios.add_u),
      ("collection_effectiveness", ratios.cei_u),
    ] { #expect(ageing[name] as? String == value.map { formatDecimal($0, decimals: 6) }, "\(name)") }
    let completeness = ageing["completeness"] as! [String: Any]
    #expect(completeness["complete"] as? Bool == true && completeness["assumed_due_dates"] as? Int == 0)
    #expect(Set((ageing["watermarks"] as! [String: Any]).keys) == ["billing", "ledger"])
    let tied = ratio_u(Int128(expected.total - expected.disputed), Int128(expected.total))
    #expect(ageing["tied_out"] as? String == tied.map { formatDecimal($0, decimals: 6) })
  }

  /// The daemon's own breaks hold items out: real orders and journal lines, the daemon, then the flows; against sums of
  /// the files' own lines.
  @Test func breaksOfTheDaemonAreDisputes() throws {
    guard let data = sharedData else {
      print("skipped: there is no ../shared/data")
      return
    }
    let (orders, ledger) = (data + "/northwind/orders.jsonl", data + "/northwind/ledger.jsonl")
    let cluster = try TestCluster()
    var configuration = try prepare("northwind.yaml", cluster, partitions: 2)
    configuration.flows!.by = ["country"]
    let sent = try FilePlayer(configuration).play(orders: [orders], ledger: [ledger])
    let breaks = try support.reconcile(configuration, records: sent)
    #expect(breaks.count == 69)
    _ = try runFlows(configuration)
    // By hand: what stands on account 1200, by the country of the order.
    func json(_ line: Substring) throws -> [String: Any] {
      try JSONSerialization.jsonObject(with: Data(line.split(separator: "\t")[1].utf8)) as! [String: Any]
    }
    func lines(_ path: String) throws -> [Substring] {
      try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    }
    var countries: [String: String] = [:]
    for line in try lines(orders) {
      let order = try json(line)
      countries[order["id"] as! String] = (order["account"] as! [String: Any])["country"] as? String
    }
    let times: Set = ["CUTOFF", "LATE_POSTING", "EARLY_POSTING", "LATE_ARRIVAL"]
    let disputed = Set(
      breaks.values.filter { made in
        ["open", "reopened"].contains(made.state) && !times.contains(made.type)
          && (made.role == "receivable"
            || made.evidence.roles.contains { $0.role == "receivable" && $0.expected != $0.posted })
      }.map(\.order))
    #expect(disputed.count > 20)
    var open: [String: (all: Int, disputed: Int)] = [:]
    for line in try lines(ledger) {
      let row = try json(line)["after"] as! [String: Any]
      guard row["account"] as? String == "1200" else { continue }
      func cents(_ name: String) -> Int { Int((Double(row[name] as! String)! * 100).rounded()) }
      let order = row["sales_order"] as! String
      let country = "\(countries[order] ?? "")|\(row["currency"] as! String)"
      open[country, default: (0, 0)].all += cents("debit") - cents("credit")
      if disputed.contains(order) { open[country]!.disputed += cents("debit") - cents("credit") }
    }
    let told = try newest(configuration.receivablesTopic, cluster, partitions: 2)
    #expect(Set(told.keys) == Set(open.keys.map { $0 + "|transaction" }))
    for (country, sums) in open {
      let message = told[country + "|transaction"]
      #expect(message?["open"] as? String == money(Int64(sums.all)), "\(country)")
      #expect(message?["disputed"] as? String == money(Int64(sums.disputed)), "\(country)")
    }
  }

  /// With a base currency every series comes a second time, and a restart tells nothing of either.
  @Test func theBaseCurrencyComesToo() throws {
    let cluster = try TestCluster()
    var configuration = try prepare("receivables.yaml", cluster, partitions: 2)
    let euro = Currency("EUR")!
    var checks = configuration.policy.checks ?? FinanceChecks()
    checks.exchange = ExchangeChecks(
      rates: try ExchangeRates(
        base: euro,
        [(20_000, 8_000), (20_090, 9_000)].map {
          .init(
            day: $0.0, from: Currency("USD")!, to: euro, rate: DecimalText(mantissa: Int64($0.1), scale: 4))
        }, maximumAge_d: 30))
    configuration.policy.checks = checks
    var records = InvoiceRecords()
    for (name, day) in [("a", 20_001), ("b", 20_060)] as [(String, Int32)] {
      records.invoice(name, customer: "c", country: "x", amount: "100.01", day: day, due: nil)
    }
    records.payment("a", customer: "c", amount: "100.01", day: 20_050)
    try records.send(configuration, cluster)
    #expect(try runFlows(configuration, asOf_d: 20_095).messages == 4)
    func told(_ key: String) throws -> (cash: [String: Any], ageing: [String: Any]) {
      let (cash, ageing) = try (
        newest(configuration.cashflowTopic, cluster, partitions: 2),
        newest(configuration.receivablesTopic, cluster, partitions: 2)
      )
      #expect(Set(cash.keys) == ["USD|transaction", "EUR|base"] && Set(ageing.keys) == Set(cash.keys))
      return (try #require(cash[key]), try #require(ageing[key]))
    }
    let (cash, ageing) = try told("EUR|base")
    #expect(ageing["open"] as? String == "90.01" && ageing["sales"] as? String == "90.01")
    #expect(cash["open"] as? String == "90.01" && cash["view"] as? String == "base")
    let past = cash["past_weeks"] as! [[String: Any]]
    #expect(past.compactMap { $0["received"] as? String }.filter { $0 != "0.00" } == ["90.01"])
    #expect((cash["completeness"] as? [String: Any])?["unvalued_items"] as? Int == 0)
    #expect(try told("USD|transaction").ageing["open"] as? String == "100.01")
    #expect(try runFlows(configuration, asOf_d: 20_095).messages == 0)
    // A day on which no rate stands any more: it is said how much is missing.
    #expect(try runFlows(configuration, asOf_d: 20_130).messages == 4)
    let late = try told("EUR|base").cash
    let completeness = try #require(late["completeness"] as? [String: Any])
    #expect(late["open"] as? String == "0.00" && completeness["unvalued_items"] as? Int == 2)
    #expect(completeness["complete"] as? Bool == false)
  }

  /// Without an end the job follows: as of the last day that is over, and with every record that comes.
  @Test func aRunningJobFollows() throws {
    let cluster = try TestCluster()
    var configuration = try prepare("receivables.yaml", cluster, partitions: 2)
    configuration.flows!.interval_ms = 50
    configuration.policy.outOfOrderness_ms = 0
    configuration.policy.idleTimeout_ms = 1_000
    let today = day(ofMilliseconds: wallClock_ms())
    var records = InvoiceRecords()
    records.invoice("a", customer: "c", country: "x", amount: "10.00", day: today - 40, due: nil)
    try records.send(configuration, cluster)
    let job = try FlowsJob.prepared(configuration, options: .init(), stop: StopFlag(), log: silent)
    let ended = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      job.run()
      ended.signal()
    }
    func wait(messages: Int) {
      let until = Date().addingTimeInterval(30)
      while job.status.messages < messages, Date() < until { Thread.sleep(forTimeInterval: 0.02) }
      #expect(job.status.messages >= messages)
    }
    // Everything is idle: the clock says what day is over.
    let until = Date().addingTimeInterval(30)
    while job.status.asOf_d != today - 1, Date() < until { Thread.sleep(forTimeInterval: 0.02) }
    let before = job.status.messages
    #expect(job.status.asOf_d == today - 1 && before >= 2)
    var more = InvoiceRecords()
    more.invoice("b", customer: "c", country: "x", amount: "5.00", day: today - 20, due: nil)
    try more.send(configuration, cluster)
    // The lines of one invoice may be told one after the other: then it waits for quiet.
    wait(messages: before + 2)
    Thread.sleep(forTimeInterval: 1)
    let then = job.status.messages
    try cluster.produce(configuration.breaksTopic, [("a", receivableBreak("a", state: .open), nil)])
    wait(messages: then + 2)
    job.stop.stop()
    #expect(ended.wait(timeout: .now() + 30) == .success)
    let last = try newest(configuration.receivablesTopic, cluster, partitions: 2)["USD|transaction"]!
    #expect(last["open"] as? String == "15.00" && last["disputed"] as? String == "10.00")
    #expect(last["as_of_date"] as? String == formatDate(today - 1) && last["status"] as? String == "provisional")
    let ageing = last["ageing"] as! [String: String]
    #expect(ageing["days_1_30"] == "10.00" && ageing["current"] == "5.00")
  }

  /// Receivables in one partition, told every 50 ms; the cluster knows transactions.
  private func quickReceivables(_ cluster: TestCluster) throws -> Configuration {
    #expect(cluster.knowsTransactions)
    var configuration = try prepare("receivables.yaml", cluster, partitions: 1)
    configuration.flows!.interval_ms = 50
    configuration.policy.idleTimeout_ms = 500
    configuration.policy.outOfOrderness_ms = 0
    return configuration
  }

  /// Runs a job beside the test, until it has told both views or has ended.
  /// - Returns: what is signalled when it has ended.
  private func runUntilTold(_ job: FlowsJob) -> DispatchSemaphore {
    let ended = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      job.run()
      ended.signal()
    }
    let until = Date().addingTimeInterval(60)
    while job.status.messages < 2, !job.stop.isStopped, Date() < until { Thread.sleep(forTimeInterval: 0.02) }
    return ended
  }

  /// Where retention has left nothing of a source, its first record that is missing does not come to tell it.
  @Test func aSourceThatWasEmptiedIsTold() throws {
    let cluster = try TestCluster()
    let configuration = try quickReceivables(cluster)
    let today = day(ofMilliseconds: wallClock_ms())
    var records = InvoiceRecords()
    records.invoice("one", customer: "c", country: "x", amount: "10.00", day: today - 40, due: nil)
    try records.send(configuration, cluster)
    let orders = try #require(configuration.sources.first { $0.mapping.kind == .orders })
    let admin = try Admin(properties: cluster.properties)
    try admin.deleteRecords(TopicPartition(orders.topic, 0), before: 1)
    _ = try TopicCheck(configuration).run(log: silent)
    let job = try FlowsJob(configuration: configuration, stop: StopFlag(), log: silent)
    let ended = runUntilTold(job)
    job.stop.stop()
    #expect(ended.wait(timeout: .now() + 30) == .success)
    let told = try #require(try newest(configuration.receivablesTopic, cluster, partitions: 1)["USD|transaction"])
    #expect(told["open"] as? String == "10.00")
    let completeness = try #require(told["completeness"] as? [String: Any])
    #expect(completeness["trimmed_partitions"] as? Int == 1 && completeness["complete"] as? Bool == false)
  }

  /// A broker that ends a transaction which took too long is no other job: the figures are told again.
  @Test func aTransactionThatTookTooLongIsBegunAgain() throws {
    let cluster = try TestCluster()
    var configuration = try quickReceivables(cluster)
    // The client gives up on what it cannot send in that time too.
    let isReal = cluster.kind == .real
    configuration.kafka.producer.append(("transaction.timeout.ms", .plain(isReal ? "3000" : "1000")))
    let today = day(ofMilliseconds: wallClock_ms())
    var records = InvoiceRecords()
    records.invoice("one", customer: "c", country: "x", amount: "10.00", day: today - 40, due: nil)
    try records.send(configuration, cluster)
    let environment = SlowEnvironment(commits: 1, for_s: isReal ? 20 : 4)
    let job = try FlowsJob(
      configuration: configuration, stop: StopFlag(), log: silent, environment: environment)
    _ = try TopicCheck(configuration).run(log: silent)
    let ended = runUntilTold(job)
    #expect(job.failure == nil && job.status.messages >= 2)
    #expect(environment.producers == 2, "the first one could not go on")
    job.stop.stop()
    #expect(ended.wait(timeout: .now() + 30) == .success)
    let told = try newest(configuration.receivablesTopic, cluster, partitions: 1)["USD|transaction"]
    #expect(told?["open"] as? String == "10.00")
  }

  /// A second job of the same group takes over: the first one ends when it would tell next, and tells nothing.
  @Test func aSecondJobEndsTheFirst() throws {
    let cluster = try TestCluster()
    let configuration = try quickReceivables(cluster)
    let today = day(ofMilliseconds: wallClock_ms())
    func send(_ name: String) throws {
      var records = InvoiceRecords()
      records.invoice(name, customer: "c", country: "x", amount: "10.00", day: today - 40, due: nil)
      try records.send(configuration, cluster)
    }
    func start() throws -> (job: FlowsJob, ended: DispatchSemaphore) {
      let job = try FlowsJob.prepared(configuration, options: .init(), stop: StopFlag(), log: silent)
      let ended = DispatchSemaphore(value: 0)
      Thread.detachNewThread {
        job.run()
        ended.signal()
      }
      let until = Date().addingTimeInterval(30)
      while job.status.asOf_d != today - 1, Date() < until { Thread.sleep(forTimeInterval: 0.02) }
      #expect(job.status.asOf_d == today - 1)
      return (job, ended)
    }
    try send("first")
    let first = try start()
    #expect(first.job.status.messages >= 2)
    let second = try start()
    #expect(second.job.status.messages == 0)
    // Whichever of the two sees an invoice first: the first job's figures are not taken any more.
    var isEnded = false
    for number in 0..<40 where !isEnded {
      try send("more\(number)")
      isEnded = first.ended.wait(timeout: .now() + 0.5) == .success
    }
    #expect(isEnded && first.job.failure is FlowsJob.TakenOver)
    #expect(second.job.failure == nil && !second.job.stop.isStopped)
    second.job.stop.stop()
    #expect(second.ended.wait(timeout: .now() + 30) == .success)
    _ = try newest(configuration.cashflowTopic, cluster, partitions: 1)
  }

  /// A look at another day is printed alone: the topics stay as they are, and the job that runs goes on.
  @Test func aLookWritesNothing() throws {
    let cluster = try TestCluster()
    let configuration = try quickReceivables(cluster)
    let today = day(ofMilliseconds: wallClock_ms())
    func send(_ name: String, _ amount: String, _ day: Int32) throws {
      var records = InvoiceRecords()
      records.invoice(name, customer: "c", country: "x", amount: amount, day: day, due: nil)
      try records.send(configuration, cluster)
    }
    try send("old", "10.00", today - 40)
    try send("new", "5.00", today - 20)
    let job = try FlowsJob.prepared(configuration, options: .init(), stop: StopFlag(), log: silent)
    let ended = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      job.run()
      ended.signal()
    }
    func wait(_ isDone: () -> Bool) {
      let until = Date().addingTimeInterval(30)
      while !isDone(), Date() < until { Thread.sleep(forTimeInterval: 0.02) }
      #expect(isDone())
    }
    wait { job.status.asOf_d == today - 1 }
    func stands() throws -> [String] {
      try [configuration.cashflowTopic, configuration.receivablesTopic].flatMap {
        try cluster.readAll($0, partitions: 1).map { $0.value! }
      }
    }
    // Until it has nothing more to tell.
    var before: [String] = []
    for _ in 0..<20 {
      let now = try stands()
      if !now.isEmpty, now == before { break }
      before = now
      Thread.sleep(forTimeInterval: 1)
    }
    let shown = Mutex<[(output: Output, message: [UInt8])]>([])
    var options = FlowsJob.Options()
    options.endsAtEnd = true
    options.asOf_d = today - 30
    options.show = { output, message in shown.withLock { $0.append((output, message)) } }
    let look = try FlowsJob.prepared(configuration, options: options, stop: StopFlag(), log: silent)
    look.run()
    #expect(look.failure == nil)
    let messages = shown.withLock { $0 }
    #expect(messages.map(\.output) == [.cashflow, .receivables])
    let receivables = try JSONSerialization.jsonObject(with: Data(messages[1].message)) as! [String: Any]
    #expect(receivables["as_of_date"] as? String == formatDate(today - 30) && receivables["open"] as? String == "10.00")
    #expect(try stands() == before)
    try send("newest", "1.00", today - 10)
    let told = job.status.messages
    wait { job.status.messages > told || job.stop.isStopped }
    #expect(job.failure == nil)
    job.stop.stop()
    #expect(ended.wait(timeout: .now() + 30) == .success)
    let last = try newest(configuration.receivablesTopic, cluster, partitions: 1)["USD|transaction"]
    #expect(last?["as_of_date"] as? String == formatDate(today - 1))
  }
}

/// Kafka, with producers whose first commits come late.
private final class SlowEnvironment: WorkerEnvironment, @unchecked Sendable {
  private let kafka = KafkaEnvironment()
  private var commits: Int
  private let for_s: TimeInterval
  private(set) var producers = 0

  init(commits: Int, for_s: TimeInterval) {
    self.commits = commits
    self.for_s = for_s
  }

  private final class SlowProducer: RecordProducer {
    let producer: any RecordProducer
    let environment: SlowEnvironment

    init(_ producer: any RecordProducer, _ environment: SlowEnvironment) {
      self.producer = producer
      self.environment = environment
    }

    func produce(
      topic: String, partition: Int32?, key: UnsafeBufferPointer<UInt8>?, value: UnsafeBufferPointer<UInt8>?
    ) throws(KafkaError) {
      try producer.produce(topic: topic, partition: partition, key: key, value: value)
    }
    func flush(timeout_ms: Int) throws(KafkaError) { try producer.flush(timeout_ms: timeout_ms) }
    func poll() { producer.poll() }
    var queued: Int { producer.queued }
    func initTransactions(timeout_ms: Int) throws(KafkaError) { try producer.initTransactions(timeout_ms: timeout_ms) }
    func beginTransaction() throws(KafkaError) { try producer.beginTransaction() }
    func sendOffsets(
      _ offsets: [TopicPartition: CommittedOffset], group: GroupMetadata, timeout_ms: Int
    ) throws(KafkaError) {
      try producer.sendOffsets(offsets, group: group, timeout_ms: timeout_ms)
    }
    func commitTransaction(timeout_ms: Int) throws(KafkaError) {
      if environment.commits > 0 {
        // The coordinator knows the transaction from here on.
        try producer.flush(timeout_ms: timeout_ms)
        environment.commits -= 1
        Thread.sleep(forTimeInterval: environment.for_s)
      }
      try producer.commitTransaction(timeout_ms: timeout_ms)
    }
    func abortTransaction(timeout_ms: Int) throws(KafkaError) { try producer.abortTransaction(timeout_ms: timeout_ms) }
  }

  func makeConsumer(
    _ configuration: Configuration, group: String, topics: [String], member: String
  ) throws -> any GroupConsumer {
    try kafka.makeConsumer(configuration, group: group, topics: topics, member: member)
  }
  func makeProducer(_ configuration: Configuration, transactionalID: String?) throws -> any RecordProducer {
    producers += 1
    return SlowProducer(try kafka.makeProducer(configuration, transactionalID: transactionalID), self)
  }
  func makeReader(_ configuration: Configuration) throws -> any LogReader { try kafka.makeReader(configuration) }
  var files: any CheckpointFiles { kafka.files }
  func wallClock_ms() -> Int64 { kafka.wallClock_ms() }
  func monotonic_ms() -> Int64 { kafka.monotonic_ms() }
  func monotonic_us() -> Int64 { kafka.monotonic_us() }
  func sleep(ms: Int64) { kafka.sleep(ms: ms) }
  func identity() -> UInt64 { kafka.identity() }
}
