import Domain
import Foundation
import Simulation
import Testing

@testable import Pipeline

@Suite struct EncoderTests {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path

  func parse(_ bytes: [UInt8]) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any])
  }

  func example() -> Break {
    var made = Break(
      id: "O:CURRENCY_MISMATCH:receivable", order: "O\"\\\n\u{1}é😀", type: .currencyMismatch, role: .receivable,
      currency: Currency("USD")!, expected: 106_81, posted: 107, state: .open, isProvisional: false, revision: 3,
      firstEventTime_ms: 841_741_200_000, deadline_ms: 842_432_400_000, asOf_ms: 842_432_400_000)
    made.postedCurrency = Currency("JPY")!
    made.hints = [.scaleError]
    made.dimensions = ["DE", "web"]
    made.roles = [.init(role: .tax, currency: Currency("KWD")!, expected: -1, posted: 0)]
    made.events = ["e1"]
    made.journals = ["j1", "j2"]
    made.quantities = [1_667_000, 0, -1_000_000]
    made.lines = [
      .init(
        document: "I\"1", line: "10", currency: Currency("USD")!, expectedQuantity: 3_000_000, postedQuantity: 0,
        expected: -10_00, posted: 0),
      .init(
        document: "", line: "20", currency: Currency("USD")!, expectedQuantity: 10_000_000, postedQuantity: -500_000,
        expected: -50_00, posted: 7_50),
    ]
    made.lineCount = 7
    return made
  }

  @Test func breakHasTheFieldsOfTheSchema() throws {
    let encoder = BreakEncoder(dimensionNames: ["country", "channel"], task: 3)
    var decided = example()
    decided.decision = BreakDecision(action: "a1", actor: "token:ann", reasonCode: "timing", approver: "bob")
    let message = try parse(encoder.encode(decided))
    #expect(message["task"] as? Int == 3)
    #expect(
      message["decision"] as? [String: String]
        == ["action": "a1", "actor": "token:ann", "reason_code": "timing", "approver": "bob"])
    #expect(message["order"] as? String == "O\"\\\n\u{1}é😀")
    #expect(message["expected"] as? String == "106.81")
    #expect(message["posted"] as? String == "107")
    #expect(message["posted_currency"] as? String == "JPY")
    #expect(message["delta"] is NSNull && message["affected"] == nil)
    #expect(message["dimensions"] as? [String: String] == ["country": "DE", "channel": "web"])
    #expect(message["deadline"] as? String == "1996-09-11T09:00:00.000Z")
    let evidence = try #require(message["evidence"] as? [String: Any])
    #expect((evidence["roles"] as? [[String: String]])?.first?["delta"] == "0.001")
    #expect((evidence["quantities"] as? [String: String])?["delivered"] == "1.667000")
    #expect(evidence["line_count"] as? Int == 7)
    let lines = try #require(evidence["lines"] as? [[String: Any]])
    #expect(lines[0]["expected_price"] as? String == "3.333333" && lines[0]["posted_price"] is NSNull)
    #expect(lines[0]["document"] as? String == "I\"1" && lines[0]["expected_quantity"] as? String == "3.000000")
    #expect(lines[1]["expected_price"] as? String == "5.00" && lines[1]["posted_price"] as? String == "15.00")
    #expect(lines[1]["posted"] as? String == "7.50" && lines[1]["posted_quantity"] as? String == "-0.500000")
    let schema = try parse(Array(TopicSchemas.breaks.utf8))
    let properties = try #require(schema["properties"] as? [String: Any])
    for name in try #require(schema["required"] as? [String]) { #expect(message[name] != nil, "\(name)") }
    for name in message.keys { #expect(properties[name] != nil, "\(name) is not in the schema") }
    var missing = example()
    missing.posted = nil
    missing.postedCurrency = .none
    missing.affected = -3_50
    let other = try parse(encoder.encode(missing))
    #expect(other["posted"] is NSNull)
    #expect(other["delta"] as? String == "-106.81")
    #expect(other["posted_currency"] == nil)
    #expect(other["affected"] as? String == "-3.50")
  }

  /// Whatever a break holds, the bytes are those of the plain encoder.
  @Test func breaksAreWrittenAsThePlainEncoderWritesThem() throws {
    var random = SeededRandom(seed: 7, stream: 1)
    let pieces = [
      "a", "SO-1000000123", "\"", "\\", "\n", "\r", "\t", "\u{1}", "\u{1f}", "\u{7f}", "é", "😀", "12345678", " ",
    ]
    func text() -> String { (0..<random.below(6)).map { _ in random.pick(pieces) }.joined() }
    func amount() -> Int64 {
      switch random.below(6) {
      case 0: .max
      case 1: .min + 1
      case 2: Int64(random.below(200)) - 100
      case 3: 0
      default: Int64(random.below(1 << 40)) - 1 << 39
      }
    }
    let currencies = ["USD", "JPY", "KWD", "CLF"].map { Currency($0)! } + [.none]
    let names = ["country", "cha\"nnel", "third"]
    let encoder = BreakEncoder(dimensionNames: names)
    var plain = PlainBreakEncoder(dimensionNames: names)
    for number in 0..<2_000 {
      var made = Break(
        id: text(), order: text(), type: random.pick(BreakType.allCases), role: random.pick(AccountRole.allCases),
        currency: random.pick(currencies), expected: random.below(4) == 0 ? nil : amount(),
        posted: random.below(4) == 0 ? nil : amount(), state: random.pick(BreakState.allCases),
        isProvisional: random.below(2) == 0, revision: random.below(3_000),
        firstEventTime_ms: random.pick([.min, .max, -1, 0, 253_402_300_799_999, -62_167_219_200_000, 841_741_200_007]),
        deadline_ms: Int64(random.below(1 << 42)), asOf_ms: -Int64(random.below(1 << 40)))
      made.postedCurrency = random.pick(currencies)
      if random.below(2) == 0 { made.affected = amount() }
      made.hints = BreakHint.allCases.filter { _ in random.below(3) == 0 }
      made.severity = random.pick(Severity.allCases)
      made.customer = text()
      made.reason = text() + text()
      made.dimensions = (0..<random.below(5)).map { _ in text() }
      made.roles = (0..<random.below(5)).map { _ in
        Break.RoleEvidence(
          role: random.pick(AccountRole.allCases), currency: random.pick(currencies), expected: amount(),
          posted: amount(), affected: random.below(3) == 0 ? amount() : nil)
      }
      made.events = (0..<random.below(5)).map { _ in text() }
      made.journals = (0..<random.below(70)).map { _ in text() }
      if random.below(2) == 0 { made.quantities = (0..<2 + random.below(2)).map { _ in amount() } }
      if random.below(2) == 0 {
        made.decision = BreakDecision(action: text(), actor: text(), reasonCode: text(), approver: text())
      }
      plain.task = number % 2 == 0 ? nil : Int32(number)
      let own = BreakEncoder(dimensionNames: names, task: plain.task)
      let (a, b) = ((plain.task == nil ? encoder : own).encode(made), plain.encode(made))
      #expect(a == b, "\(String(decoding: a, as: UTF8.self)) instead of \(String(decoding: b, as: UTF8.self))")
      try AvroOutputTests.checkRoundTrip(TopicSchemas.breakSchema, a)
    }
  }

  @Test func deadLettersKeepTheBytes() throws {
    var encoder = DeadLetterEncoder()
    var letter = DeadLetter(
      source: "orders", origin: "t", isFile: false, partition: 3, offset: 17, key: Array("k".utf8),
      payload: Array("{\"a\":".utf8), fault: DataFault(.schemaInvalid, field: "a", detail: "why"), payloadBytes: 5,
      receivedAt_ms: 0)
    let text = try parse(encoder.encode(letter))
    #expect(text["payload"] as? String == "{\"a\":")
    #expect(text["offset"] as? Int == 17)
    #expect(letter.place == "topic t, partition 3, offset 17, key 'k'")
    letter.payload = [0xff, 0x00, 0xfe]
    letter.key = nil
    let binary = try parse(encoder.encode(letter))
    #expect(binary["payload_base64"] as? String == Data([0xff, 0, 0xfe]).base64EncodedString())
    #expect(binary["key"] is NSNull)
    letter.isFile = true
    let file = try parse(encoder.encode(letter))
    #expect(file["line"] as? Int == 17 && file["file"] as? String == "t")
    let schema = try parse(Array(TopicSchemas.deadLetters.utf8))
    let properties = try #require(schema["properties"] as? [String: Any])
    for message in [text, binary, file] {
      for name in message.keys { #expect(properties[name] != nil, "\(name) is not in the schema") }
    }
  }

  @Test func generatedDocumentsAreCurrent() throws {
    for (path, text) in ReferenceDocuments.all() {
      let target = Self.root + "/" + path
      if ProcessInfo.processInfo.environment["TIEOUT_UPDATE_DOCS"] != nil {
        try FileManager.default.createDirectory(
          atPath: (target as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try text.write(toFile: target, atomically: true, encoding: .utf8)
      }
      let committed = try? String(contentsOfFile: target, encoding: .utf8)
      #expect(committed == text, "\(path) is out of date: run `tieout docs`")
    }
  }

  @Test func tables() {
    var table = TextTable(["name", "n"], numeric: [1])
    table.add("a", "1")
    table.add("long name", "1000")
    #expect(table.text == "name          n\n─────────  ────\na             1\nlong name  1000")
  }
}
