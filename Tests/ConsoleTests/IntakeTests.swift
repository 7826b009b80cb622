import Configuration
import ConsoleStore
import Domain
import Foundation
import HTTPTypes
import Logging
import Pipeline
import Testing

@testable import Console

@Suite(.serialized) struct IntakeTests {
  private static func order(_ id: String, gross: String = "10.10", at: String = "2025-03-01T10:00:00Z") -> String {
    #"{"id":"\#(id)","event":"E-\#(id)","at":"\#(at)","customer":"C","currency":"EUR","gross":\#(gross),"country":"NO"}"#
  }

  @Test func theBytesThatWereSentReachKafka() async throws {
    let test = try TestConsole()
    let one = Self.order("A", gross: "1234567890123.10")
    let list =
      "[ \(Self.order("B")) ,\n \(Self.order("C", gross: "1e2")), {\"id\":\"x ] } \\\" ,\",\"at\":\"2025-03-01T10:00:00Z\"} ]"
    try await test.run { client in
      let single = try await client.send(.post, "/v1/orders", as: "feed", body: one)
      #expect(single.status == 200, "\(single.body)")
      #expect(single.json["accepted"]?.numberValue == 1 && single.json["source"]?.stringValue == "orders")
      let many = try await client.send(.post, "/v1/orders?source=orders", as: "feed", body: list)
      #expect(many.json["accepted"]?.numberValue == 3, "\(many.body)")
      let posting = try await client.send(
        .post, "/v1/postings", as: "feed",
        body: #"{"order":"A","role":"revenue","currency":"EUR","at":"2025-03-01T10:00:00Z","amount":"-10.00"}"#)
      #expect(posting.json["accepted"]?.numberValue == 1)
    }
    let records = try test.cluster.readAll(test.configuration.sources[0].topic, partitions: 3)
    #expect(records.count == 4)
    #expect(records.contains { $0.key == "A" && $0.value == one }, "not a byte is another")
    #expect(records.contains { $0.key == "C" && $0.value?.contains("\"gross\":1e2") == true })
    #expect(records.contains { $0.key == "x ] } \" ," })
    #expect(try test.cluster.readAll(test.configuration.sources[1].topic, partitions: 3).map(\.key) == ["A"])
  }

  /// A source whose order is hashed in what is written gets its records under the key that its other senders use.
  @Test func recordsOfMaskedSourcesGoUnderTheirClearKey() throws {
    let configuration = try Configuration.parse(
      yaml: """
        masking: {key: {env: KEY}}
        sources:
          orders: {kind: orders, fields: {order: {path: id, mask: hash}, event: {constant: booked}, event_time: at}}
          ledger:
            kind: ledger
            fields: {order: {path: o, mask: hash}, role: {constant: cash}, currency: c, event_time: t}
            amount: a
        """, file: "m.yaml", directory: ".", environment: ["KEY": "sixteen bytes or more"])
    let intake = try Intake(configuration)
    let outcome = try intake.withChecker(try intake.source(.orders, named: nil)) { checker in
      Array(Self.order("SO-1").utf8).withUnsafeBufferPointer { checker.check($0, key: nil, latest_ms: .max) }
    }
    guard case .good(let key) = outcome else {
      Issue.record("\(outcome)")
      return
    }
    #expect(String(decoding: key, as: UTF8.self) == "SO-1")
  }

  /// A dimension that a table of a file decides.
  private static func tabled(_ folder: String, hold: String = "") throws -> Configuration {
    try Configuration.parse(
      yaml: """
        dimensions: [channel, country]
        master_data: {enabled: true\(hold)}
        tables: {countries: {file: countries.csv}}
        calendar: {topic: shop.days}
        sources:
          orders:
            kind: orders
            fields: {order: id, event: {constant: invoiced}, event_time: at, currency: currency, gross: gross}
            dimensions: {country: {path: country, table: countries}}
          ledger: {kind: ledger, fields: {order: o, role: {constant: cash}, currency: c, event_time: t}, amount: a}
        """, file: "t.yaml", directory: folder, environment: [:])
  }

  private static func outcome(_ configuration: Configuration, _ record: String) throws -> RecordChecker.Outcome {
    let intake = try Intake(configuration)
    return try intake.withChecker(try intake.source(.orders, named: nil)) { checker in
      Array(record.utf8).withUnsafeBufferPointer { checker.check($0, key: nil, latest_ms: .max) }
    }
  }

  /// What a table does not know is refused under the name of the field, or accepted where the reconciler waits for it; and
  /// goes by the file as it is now.
  @Test func whatATableDoesNotKnow() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    func write(_ rows: String) throws {
      try ("from,to\n" + rows).write(toFile: folder + "/countries.csv", atomically: true, encoding: .utf8)
    }
    try write("SE,Sweden\n")
    let record = Self.order("A")
    let configuration = try Self.tabled(folder)
    guard case .bad(let fault) = try Self.outcome(configuration, record) else {
      Issue.record("it is not refused")
      return
    }
    #expect(fault.reason == .masterDataMissing && fault.field == "country")
    let holding = try Self.tabled(folder, hold: ", hold: {time: 1m}")
    guard case .waiting(let key) = try Self.outcome(holding, record) else {
      Issue.record("it does not wait")
      return
    }
    #expect(String(decoding: key, as: UTF8.self) == "A")
    guard case .bad(let other) = try Self.outcome(holding, Self.order("A", gross: "\"ten\"")) else {
      Issue.record("what is wrong otherwise does not wait")
      return
    }
    #expect(other.field == "gross")
    let log = LogKeeper()
    let tables = try #require(
      TableFiles(configuration, log: Logger(label: "test") { _ in LogKeeper.Handler(keeper: log) }))
    #expect(!tables.refresh() && log.text.isEmpty, "what comes from topics is not looked at: \(log.text)")
    try write("SE,Sweden\nNO,Norway\n")
    #expect(tables.refresh())
    guard case .good = try Self.outcome(tables.configuration, record) else {
      Issue.record("the file knows it now")
      return
    }
    try FileManager.default.removeItem(atPath: folder + "/countries.csv")
    #expect(!tables.refresh() && log.text.contains("a table stays as it is"))
  }

  /// What the reconciler would make a dead letter of is refused under the same words.
  @Test func rulesThatReject() throws {
    func configuration(_ rules: String, masterData: String = "") throws -> Configuration {
      try Configuration.parse(
        yaml: """
          dimensions: [country]
          \(masterData)
          sources:
            orders:
              kind: orders
              fields: {order: id, event_id: event, event: kind, event_time: at, currency: currency, gross: gross, net: net, customer: customer}
              dimensions: {country: country}
              rules: [\(rules)]
            ledger:
              kind: ledger
              fields: {order: o, role: {constant: cash}, currency: c, event_time: t, account: account}
              amount: a
              rules: [{field: account, one_of: ['1000']}, {field: amount, maximum: 100}]
          """, file: "t.yaml", directory: ".", environment: [:])
    }
    func record(_ more: String, _ kind: String = "invoiced") -> String {
      #"{"id":"A","event":"E","kind":"\#(kind)","at":"2025-03-01T10:00:00Z","customer":"C-1","currency":"EUR",\#(more)}"#
    }
    func refusal(_ configuration: Configuration, _ record: String) throws -> DataFault? {
      switch try Self.outcome(configuration, record) {
      case .good: return nil
      case .bad(let fault): return fault
      case let other:
        Issue.record("\(other)")
        return nil
      }
    }
    let sums = try configuration(
      "{check: 'net = gross', when: [invoiced]}, {field: customer, pattern: 'C-[0-9]+'}, "
        + "{field: customer, pattern: 'D.*', severity: flag, name: other}, {check: 'sum(lines[].net) = net'}")
    #expect(try refusal(sums, record(#""net":1,"gross":1"#)) == nil, "a rule that flags refuses nothing")
    #expect(try refusal(sums, record(#""net":1,"gross":2"#, "booked")) == nil)
    let broken = try #require(try refusal(sums, record(#""net":1,"gross":2"#)))
    #expect(broken.reason == .schemaInvalid && broken.field == "net = gross" && broken.detail.contains("does not hold"))
    #expect(try refusal(sums, record(#""net":3,"gross":3,"lines":[{"net":1},{"net":2}]"#)) == nil)
    #expect(
      try refusal(sums, record(#""net":4,"gross":4,"lines":[{"net":1},{"net":2}]"#))?.field == "sum(lines[].net) = net")
    #expect(try refusal(sums, record(#""net":3,"gross":3"#)) == nil, "the sums of the record before are gone")

    let intake = try Intake(sums)
    func posting(_ account: String, _ amount: String) throws -> RecordChecker.Outcome {
      try intake.withChecker(try intake.source(.ledger, named: nil)) { checker in
        Array(#"{"o":"A","c":"EUR","t":"2025-03-01","account":"\#(account)","a":\#(amount)}"#.utf8)
          .withUnsafeBufferPointer { checker.check($0, key: nil, latest_ms: .max) }
      }
    }
    guard case .good = try posting("1000", "100"), case .bad(let account) = try posting("1001", "1"),
      case .bad(let amount) = try posting("1000", "100.01")
    else {
      Issue.record("postings")
      return
    }
    #expect(account.field == "account" && amount.field == "amount")
  }

  /// Tables of files are known here, those of topics are not; where the reconciler waits, nothing is refused for a table.
  @Test func rulesWithTables() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try "id,name\nC,Customer\n".write(toFile: folder + "/customers.csv", atomically: true, encoding: .utf8)
    func outcome(_ tables: String, severity: String = "reject", hold: String = "", _ customer: String) throws -> String
    {
      let configuration = try Configuration.parse(
        yaml: """
          master_data: {enabled: true\(hold)}
          tables: {customers: {\(tables)}}
          sources:
            orders:
              kind: orders
              fields: {order: id, event: {constant: invoiced}, event_time: at, currency: currency, gross: gross, customer: customer}
              rules: [{field: customer, table: customers, severity: \(severity)}, {field: gross, maximum: 100}]
            ledger: {kind: ledger, fields: {order: o, role: {constant: cash}, currency: c, event_time: t}, amount: a}
          """, file: "t.yaml", directory: folder, environment: [:])
      let record = Self.order("A", gross: customer == "much" ? "101" : "1")
        .replacingOccurrences(of: #""customer":"C""#, with: #""customer":"\#(customer)""#)
      switch try Self.outcome(configuration, record) {
      case .good: return "good"
      case .waiting: return "waiting"
      case .skipped: return "skipped"
      case .bad(let fault): return "\(fault.reason) \(fault.field)"
      }
    }
    let file = "file: customers.csv, key: id, value: name"
    let topic = "topic: customers, value: name"
    let hold = ", hold: {time: 1m}"
    #expect(try outcome(file, "C") == "good")
    #expect(try outcome(file, "D") == "masterDataMissing customer")
    #expect(try outcome(file, severity: "flag", "D") == "good")
    #expect(try outcome(file, hold: hold, "C") == "good")
    #expect(try outcome(file, hold: hold, "D") == "waiting")
    #expect(try outcome(file, severity: "flag", hold: hold, "D") == "waiting")
    #expect(try outcome(file, severity: "count", hold: hold, "D") == "good")
    #expect(try outcome(file, hold: hold, "much") == "schemaInvalid gross")
    #expect(try outcome(topic, "D") == "good", "the reconciler alone knows what the topic holds")
    #expect(try outcome(topic, "much") == "schemaInvalid gross")
  }

  @Test func recordsThatWaitAreCounted() {
    var result = Console.IntakeResult()
    (result.accepted, result.waiting) = (3, 1)
    let json = result.json("orders", isReplayed: false)
    #expect(json["accepted"]?.numberValue == 3 && json["waiting"]?.numberValue == 1)
  }

  @Test func everyRecordIsJudgedByItself() async throws {
    let test = try TestConsole()
    try await test.run { client in
      let answer = try await client.send(
        .post, "/v1/orders", as: "feed",
        body:
          "[\(Self.order("A")),\(Self.order("B", gross: "10.101")),{\"id\":\"C\"},\(Self.order("D", at: "2099-01-01T00:00:00Z")),7]"
      )
      #expect(answer.status == 200)
      #expect(answer.json["accepted"]?.numberValue == 1 && answer.json["rejected"]?.numberValue == 4)
      let errors = answer.json["errors"]?.arrayValue ?? []
      #expect(errors.map { $0["index"]?.numberValue } == [1, 2, 3, 4])
      #expect(
        errors.map { $0["reason"]?.stringValue }
          == ["NON_DECIMAL_AMOUNT", "SCHEMA_INVALID", "FUTURE_DATED", "SCHEMA_INVALID"])
      let single = try await client.send(.post, "/v1/orders", as: "feed", body: Self.order("B", gross: "\"ten\""))
      #expect(single.status == 422)
      #expect(single.json["errors"]?.arrayValue?.first?["field"]?.stringValue == "gross")
      for body in ["", "[", "[1,", "[{}", "[{}]x", "[,]", "{", "nonsense", "[[}]]"] {
        let status = try await client.send(.post, "/v1/orders", as: "feed", body: body).status
        #expect(status == 400 || status == 422 || (status == 200 && body == "[1,"), "\(body): \(status)")
      }
      #expect(try await client.send(.post, "/v1/orders?source=ledger", as: "feed", body: "{}").status == 422)
      #expect(try await client.send(.post, "/v1/orders", as: "feed", body: "a,b", type: "text/csv").status == 415)
    }
    #expect(try test.cluster.readAll(test.configuration.sources[0].topic, partitions: 3).map(\.key) == ["A"])
  }

  @Test func aStreamOfLines() async throws {
    let test = try TestConsole()
    let count = 12_345
    var lines = (0..<count).map { Self.order("S-\($0)") }
    lines[77] = "{broken"
    lines[99] = ""
    lines[100] = "K-100\t" + Self.order("S-100")
    let body = lines.joined(separator: "\r\n")
    try await test.run { client in
      let answer = try await client.send(
        .post, "/v1/orders", as: "feed", body: body, type: "application/x-ndjson")
      #expect(answer.status == 200, "\(answer.body.prefix(300))")
      #expect(answer.json["accepted"]?.numberValue == Double(count - 2))
      #expect(answer.json["errors"]?.arrayValue?.map { $0["index"]?.numberValue } == [77])
    }
    let records = try test.cluster.readAll(test.configuration.sources[0].topic, partitions: 3)
    #expect(records.count == count - 2)
    #expect(Set(records.map(\.key)).count == count - 2)
    #expect(records.contains { $0.key == "K-100" }, "a key before a tab is the record's")
  }

  @Test func theSameKeyIsTheSameRequest() async throws {
    let test = try TestConsole()
    try await test.run { client in
      for (type, key) in [("application/json", "k"), ("application/x-ndjson", "n")] {
        let headers = [("Idempotency-Key", key)]
        let body = Self.order("I-\(key)")
        let first = try await client.send(.post, "/v1/orders", as: "feed", body: body, type: type, headers: headers)
        #expect(first.json["replayed"]?.boolValue == false, "\(first.body)")
        let again = try await client.send(.post, "/v1/orders", as: "feed", body: body, type: type, headers: headers)
        #expect(again.status == 200)
        #expect(again.json["replayed"]?.boolValue == true)
        #expect(again.json["accepted"]?.numberValue == 1)
        let other = try await client.send(
          .post, "/v1/orders", as: "feed", body: Self.order("other"), type: type, headers: headers)
        #expect(other.status == 422)
        let admin = try await client.send(.post, "/v1/orders", as: "admin", body: body, type: type, headers: headers)
        #expect(admin.json["replayed"]?.boolValue == false, "keys are each principal's own")
      }
      // What was refused may be sent again under the same key.
      let headers = [("Idempotency-Key", "refused")]
      #expect(try await client.send(.post, "/v1/orders", as: "feed", body: "{}", headers: headers).status == 422)
      let good = try await client.send(.post, "/v1/orders", as: "feed", body: Self.order("R"), headers: headers)
      #expect(good.status == 200)
    }
    #expect(try test.cluster.readAll(test.configuration.sources[0].topic, partitions: 3).count == 5)
  }

  @Test func whatKafkaDoesNotHaveIsNotAccepted() async throws {
    let test = try TestConsole(on: .embedded)
    guard let embedded = test.cluster.embedded else {
      print("skipped: only the embedded broker refuses what a test names")
      return
    }
    try await test.run { client in
      embedded.failNext(apiKey: 0, codes: Array(repeating: 29, count: 20))
      let answer = try await client.send(
        .post, "/v1/orders", as: "feed", body: Self.order("A"), headers: [("Idempotency-Key", "x")])
      #expect(answer.status == 503, "\(answer.body)")
      embedded.failNext(apiKey: 0, codes: [])
      var status = 503
      for _ in 0..<30 where status == 503 {
        status = try await client.send(
          .post, "/v1/orders", as: "feed", body: Self.order("A"), headers: [("Idempotency-Key", "x")]
        ).status
      }
      #expect(status == 200, "the key was not used up")
    }
  }
}

@Suite struct SplitTests {
  private func split(_ text: String) -> [String]? {
    Array(text.utf8).withUnsafeBufferPointer { bytes in
      (try? splitArray(bytes))?.map { String(decoding: bytes[$0], as: UTF8.self) }
    }
  }

  @Test func arrays() {
    #expect(split("[]") == [])
    #expect(split(" [ ] ") == [])
    #expect(split("[1, {\"a\":[1,2]} ,\"x,]\"]") == ["1", "{\"a\":[1,2]}", "\"x,]\""])
    #expect(split(#"["\\",{"a":"\""}]"#) == [#""\\""#, #"{"a":"\""}"#])
    for broken in ["", "{}", "[", "[1", "[1,", "[1,]", "[,1]", "[1]]", "[1] 2", "[\"a]", "[{]", "[}]"] {
      #expect(split(broken) == nil, "\(broken)")
    }
  }
}
