import CShims
import Domain
import Foundation
import Testing

@testable import Decoding

/// The walk along learned layouts, and fields read at once, against the general way: the same records, or the same
/// fault. Streams of records whose shape changes, with mutated bytes, in memory that ends where the record ends or goes
/// on with bytes that would fit.
@Suite struct LayoutFuzzTests {
  /// Memory behind which nothing can be read.
  final class Fence {
    private let pages = 64
    private let page = Int(getpagesize())
    private let map: UnsafeMutableRawPointer

    init() {
      map = mmap(nil, page * (pages + 1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
      precondition(mprotect(map + page * pages, page, PROT_NONE) == 0)
    }

    deinit { munmap(map, page * (pages + 1)) }

    /// Puts a record so that `gap` bytes follow it before the fence, which repeat the end of a record.
    func place(_ bytes: [UInt8], gap: Int) -> ByteView {
      let end = map + page * pages
      let filler = Array("\"},\"b\":{\"c\":\"1.00\"}}".utf8)
      for at in 0..<gap {
        (end - gap + at).storeBytes(of: filler[at % filler.count], as: UInt8.self)
      }
      let base = end - gap - bytes.count
      base.copyMemory(from: bytes, byteCount: bytes.count)
      return ByteView(base: base.assumingMemoryBound(to: UInt8.self), count: bytes.count)
    }
  }

  struct Records {
    var random: FuzzTests.Generator

    mutating func amount() -> String {
      let plain = ["0.00", "12.50", "-7.05", "99999.99", "123456.78", "-1234567890.12", "5", "7.5", "0.5", "1000000"]
      let odd = ["1.005", "1e3", "", " 3.10 ", "abc", "1.2.3", ".5", "5.", "-", "--1.00", "1.0O", "12345678901234.56"]
      return random.below(60) == 0 ? random.pick(odd) : random.pick(plain)
    }

    mutating func currency() -> String {
      random.below(8) == 0 ? random.pick(["usd", "JPY", "KWD", "QQQ", "", "EU", "E1R"]) : random.pick(["USD", "EUR"])
    }

    mutating func scalar() -> String {
      switch random.below(16) {
      case 0: return "null"
      case 1: return random.pick(["true", "false"])
      case 2: return random.pick(["12", "-0.5", "1.25e2", "0", "1234567890123456789012345678901234567890.5"])
      case 3: return random.pick(["{}", "[]", "[1,{\"a\":[]}]", "{\"x\":{\"y\":\"z\"},\"w\":[1,2]}", "[\"\\\"\"]"])
      case 4: return random.string()
      default:
        let texts = [
          "north", "C10306", "delivered in full and accepted without remark, standard terms", "é", " a ", "",
        ]
        return "\"" + random.pick(texts) + "\""
      }
    }

    mutating func time() -> String {
      let plain = [
        "2025-01-01T00:00:00.000Z", "2025-01-31T23:59:59.999Z", "2024-02-29T12:00:00Z", "2025-03-01 08:00:00",
        "2025-03-01T08:00:00.123456Z", "2025-12-31", "2025-03-01T08:00:00+02:00",
      ]
      let odd = [
        "2025-02-29T12:00:00Z", "2025-03-01T24:00:00Z", "2025-03-01T08:60:00Z", "2025-03-01T08:59:60Z", "2025-3-1",
        "20250301", "2025-03-01T08:00", "2025-03-01T08:00:00,5Z", "2025-03-01t08:00:00.5z", "2025-13-01T00:00:00.000Z",
        "2025-03-01T08:00:00.1234567890Z", "2025-03-01T0:000:00Z", "2025-03-01T08:00:00.12", "2025-03-01T08:00:00ZZ",
      ]
      return random.below(20) == 0 ? random.pick(odd) : random.pick(plain)
    }

    /// A member of an object, or nothing where the key is left out.
    mutating func members(_ list: [(String, String)]) -> String {
      var list = list.filter { _ in random.below(100) != 0 }
      if random.below(60) == 0 { list.shuffle(using: &random) }
      if random.below(200) == 0, let twice = list.randomElement(using: &random) { list.append(twice) }
      let space = random.below(30) == 0
      return "{"
        + list.map { key, value in
          let key = space ? " \"\(key)\" : " : "\"\(key)\":"
          return key + value
        }.joined(separator: space ? " ,\n" : ",") + (space ? " }" : "}")
    }

    mutating func quoted(_ text: String) -> String { random.below(8) == 0 ? text.isEmpty ? "0" : text : "\"\(text)\"" }

    mutating func order() -> String {
      let kind = random.pick(["order.invoiced", "x", "order.viewed", "x"])
      let event = members([
        ("id", "\"ev-\(random.below(1_000))\""), ("type", "\"\(kind)\""), ("time", "\"\(time())\""),
        ("more", scalar()),
      ])
      let amounts = members([
        ("currency", scalar()), ("net", quoted(amount())), ("tax", quoted(amount())), ("deep", scalar()),
      ])
      let lines = (0..<random.below(4)).map { _ in
        members([("customer", scalar()), ("item", scalar()), ("qty", quoted(amount()))])
      }
      return members([
        ("id", "\"SO-\(1_000_000 + random.below(100_000))\""), ("event", event),
        ("cur", "\"\(currency())\""), ("spare", scalar()),
        ("amounts", amounts),
        ("count", quoted(random.pick(["1", "25", "25", "4", "7", "3.0", random.below(10) == 0 ? "x" : "2"]))),
        ("qty", quoted(amount())), ("day", "\"\(time())\""), ("lines", "[" + lines.joined(separator: ",") + "]"),
        ("note", scalar()),
      ])
    }

    mutating func row() -> String {
      members([
        ("je", "\"JE\(random.below(100_000))\""), ("line", "\(random.below(30))"),
        ("so", "\"SO-\(random.below(1_000))\""),
        (
          "account",
          "\"\(random.below(20) == 0 ? random.pick(["9999", "a rather long account name", ""]) : random.pick(["1200", "4000"]))\""
        ),
        ("dr", quoted(amount())), ("cr", quoted(amount())), ("cur", "\"\(currency())\""),
        ("date", "\"\(time())\""),
        ("period", "\"\(random.below(30) == 0 ? "13" : random.pick(["2025-01", "202502", "2025-13"]))\""),
        ("rev", random.below(30) == 0 ? "\"maybe\"" : random.pick(["true", "false", "\"X\"", "null"])),
        ("text", scalar()),
      ])
    }

    mutating func envelope() -> String {
      let source = members([("connector", "\"postgresql\""), ("lsn", "\(random.below(1_000_000))"), ("snap", scalar())])
      let before = random.below(3) == 0 ? row() : "null"
      let after = random.below(30) == 0 ? "null" : row()
      let ts = random.pick([
        "1735689909000", "837012960000", "-1", "\"1735689909000\"", "1735689909000.5", "99999999999999999",
      ])
      let text = members([
        ("before", before), ("after", after),
        ("op", "\"\(random.pick(["c", "c", "c", "u", "d", "r", "u", random.pick(["z", "t", "m", "m"])]))\""),
        ("ts_ms", ts), ("source", source),
      ])
      guard random.below(6) == 0 else { return text }
      let schema = "{\"type\":\"struct\",\"fields\":[\(String(repeating: "{\"field\":\"x\"},", count: 30))1]}"
      return members([("schema", schema), ("payload", text)])
    }

    mutating func mutated(_ text: String) -> [UInt8] {
      var bytes = Array(text.utf8)
      switch random.below(16) {
      case 0:
        for _ in 0...random.below(2) {
          bytes[random.below(bytes.count)] =
            random.below(2) == 0 ? UInt8(random.below(256)) : random.pick(Array("{}[]\",:\\0-e. ".utf8))
        }
      case 1: bytes.removeLast(random.below(min(bytes.count, 80)))
      case 2: bytes.insert(random.pick(Array("\"\\,0{}\u{1}".utf8)), at: random.below(bytes.count))
      case 3: bytes.remove(at: random.below(bytes.count))
      default: break
      }
      return bytes
    }
  }

  static var walks: [tieout_walk] {
    [tieout_best_walk(), tieout_avx2_walk(), tieout_baseline_walk(), tieout_portable_walk()]
  }

  func orders() throws -> MappingPlan {
    var time = path("event.time")
    time.timeFormat = .rfc3339
    return try MappingPlan(
      jsonOrders {
        $0.fields["event_time"] = time
        $0.fields["document_date"] = path("day")
        $0.fields["line_count"] = path("count")
        $0.fields["quantity"] = path("qty")
        $0.fields["freight"] = path("lines[0].qty")
        $0.fields["line"] = path("lines[0].item")
        $0.dimensions = [path("note"), path("amounts.currency")]
      })
  }

  func ledger() throws -> MappingPlan {
    var spec = FormatTests().ledger()
    spec.fields["reversal"] = path("rev")
    spec.fields["account"] = path("account")
    spec.fields["line"] = path("line")
    spec.dimensions = [path("$.source.snap"), path("text")]
    return try MappingPlan(spec)
  }

  @Test(arguments: 0..<4) func ordersAgree(walk: Int) throws {
    var quick = OrderDecoder(plan: try orders(), isQuick: true, walker: LayoutFuzzTests.walks[walk])
    var general = OrderDecoder(plan: try orders(), isQuick: false)
    var tally = Tally()
    let fence = Fence()
    for seed in 0..<6_000 as Range<UInt64> {
      var records = Records(random: FuzzTests.Generator(state: seed &* 7_919 &+ 5))
      let payload = fence.place(
        records.mutated(records.order()), gap: records.random.pick([0, 0, 1, 31, 95, 96, 4_096]))
      var a = RecordBuffer<OrderEvent>()
      var b = RecordBuffer<OrderEvent>()
      let first = outcome { () throws(DataFault) in
        try quick.decode(key: .empty, payload: payload, position: .start, into: &a)
      }
      let second = outcome { () throws(DataFault) in
        try general.decode(key: .empty, payload: payload, position: .start, into: &b)
      }
      #expect(first == second, "seed \(seed): \(payload.string)")
      #expect(a.count == b.count, "seed \(seed)")
      for index in 0..<min(a.count, b.count) {
        #expect(LayoutFuzzTests.text(a[index]) == LayoutFuzzTests.text(b[index]), "seed \(seed): \(payload.string)")
      }
      tally.add(second)
      quick.reset()
      general.reset()
    }
    tally.expectAll()
    #expect(quick.misses < 4_000, "fewer than a third were walked")
  }

  @Test(arguments: 0..<4) func postingsAgree(walk: Int) throws {
    var quick = PostingDecoder(plan: try ledger(), isQuick: true, walker: LayoutFuzzTests.walks[walk])
    var general = PostingDecoder(plan: try ledger(), isQuick: false)
    var tally = Tally()
    let fence = Fence()
    for seed in 0..<6_000 as Range<UInt64> {
      var records = Records(random: FuzzTests.Generator(state: seed &* 104_729 &+ 11))
      let payload = fence.place(
        records.mutated(records.envelope()), gap: records.random.pick([0, 0, 1, 31, 95, 96, 4_096]))
      var a = RecordBuffer<Posting>()
      var b = RecordBuffer<Posting>()
      let first = outcome { () throws(DataFault) in
        try quick.decode(key: .empty, payload: payload, position: .start, into: &a)
      }
      let second = outcome { () throws(DataFault) in
        try general.decode(key: .empty, payload: payload, position: .start, into: &b)
      }
      #expect(first == second, "seed \(seed): \(payload.string)")
      #expect(a.count == b.count, "seed \(seed)")
      for index in 0..<min(a.count, b.count) {
        #expect(LayoutFuzzTests.text(a[index]) == LayoutFuzzTests.text(b[index]), "seed \(seed): \(payload.string)")
      }
      tally.add(second)
      quick.reset()
      general.reset()
    }
    tally.expectAll()
    #expect(quick.misses < 4_000, "fewer than a third were walked")
  }

  enum Outcome: Equatable {
    case good(DecodeOutcome)
    case bad(DataFault)
  }

  func outcome(_ body: () throws(DataFault) -> DecodeOutcome) -> Outcome {
    do throws(DataFault) { return .good(try body()) } catch { return .bad(error) }
  }

  /// A test in which nothing is accepted, or nothing refused, would prove nothing.
  struct Tally {
    var appended = 0
    var skipped = 0
    var malformed = 0
    var faults = 0

    mutating func add(_ outcome: Outcome) {
      switch outcome {
      case .good(.appended): appended += 1
      case .good: skipped += 1
      case .bad(let fault) where fault.detail.hasPrefix("not valid JSON"): malformed += 1
      case .bad: faults += 1
      }
    }

    func expectAll() {
      #expect(appended > 1_500 && skipped > 200 && malformed > 500 && faults > 500, "\(self)")
    }
  }

  static func text(_ event: OrderEvent) -> String {
    var parts = [event.order, event.id, event.document, event.customer, event.line].map(\.string)
    for index in 0..<8 { parts.append(event.dimensions[index].string) }
    for component in AmountComponent.allCases {
      parts.append(event.amounts.contains(component) ? "\(event.amounts[component])" : "-")
    }
    parts += [
      "\(event.kind)", event.currency.code, "\(event.time_ms)", "\(event.documentDate_d)", "\(event.lineCount)",
      "\(event.quantity_u)", "\(event.quantityPresent)", "\(event.isDelete)", "\(event.isUpsert)", "\(event.position)",
    ]
    return parts.joined(separator: "|")
  }

  static func text(_ posting: Posting) -> String {
    var parts = [
      posting.order, posting.id, posting.journal, posting.document, posting.reverses, posting.customer, posting.account,
      posting.line,
    ].map(\.string)
    for index in 0..<8 { parts.append(posting.dimensions[index].string) }
    parts += [
      "\(posting.role)", posting.currency.code, "\(posting.amount)", "\(posting.time_ms)", "\(posting.postingDate_d)",
      "\(posting.period)", "\(posting.isReversal)", "\(posting.isDelete)", "\(posting.isUpsert)", "\(posting.position)",
    ]
    return parts.joined(separator: "|")
  }

  /// What is walked along, so that the tests above prove something: records of a known shape do not take the whole
  /// scanner, whatever their values are.
  @Test(arguments: 0..<4) func knownShapesAreWalked(walk: Int) throws {
    let plan = try orders()
    var scanner = JSONScanner(
      nodes: plan.nodes, slotCount: plan.slotCount, maximumDepth: 64, walker: LayoutFuzzTests.walks[walk])
    let fence = Fence()
    func scan(_ text: String, gap: Int = 200) throws {
      try scanner.scan(fence.place(Array(text.utf8), gap: gap), hasMargin: gap > 0)
    }
    func record(_ id: String, _ net: String, _ note: String, _ lines: String) -> String {
      #"{"id":"\#(id)","amounts":{"net":\#(net)},"note":\#(note),"spare":\#(lines),"last":true}"#
    }
    try scan(record("a", "1", "\"x\"", "[]"))
    #expect(scanner.misses == 0)
    let long = String(repeating: "long and longer ", count: 20)
    for (id, net, note, lines) in [
      ("b", "2.50", "null", "[1,2,3]"), ("", "\"3\"", "\"\(long)\"", "{\"a\":{}}"), ("é", "-1.5E3", "true", "\"\""),
      ("\\\"q\\\\", "0", "\"\\u00e9\"", "[[[]]]"), (long + long, "false", "12", "null"),
      (String(repeating: "x", count: 6_000), "1", "\"\\n\"", "[\"\\\"\"]"),
    ] { try scan(record(id, net, note, lines)) }
    #expect(scanner.misses == 0)
    // Another shape is learned at its first record.
    try scan(#"{"note":"x","id":"y"}"#)
    try scan(#"{"note":"z","id":"w"}"#)
    try scan(record("c", "3", "null", "1"))
    #expect(scanner.misses == 1)
  }

  /// Keys that are data fill the tree; then nothing is learned until it is forgotten, and a source that settles down is
  /// walked along again.
  @Test func fullTreesAreForgotten() throws {
    let plan = try orders()
    var scanner = JSONScanner(nodes: plan.nodes, slotCount: plan.slotCount, maximumDepth: 64)
    let fence = Fence()
    var random = FuzzTests.Generator(state: 3)
    var most = 0
    for number in 0..<4_000 {
      // First keys in any order, then keys that are data.
      let keys = "abcdefgh".map { "\"\($0)\":1" }.shuffled(using: &random).joined(separator: ",")
      let text = number > 2_000 ? #"{"id":"a","x\#(number)":{"a":1,"b":2,"c":3}}"# : "{\(keys)}"
      try scanner.scan(fence.place(Array(text.utf8), gap: 200), hasMargin: true)
      most = max(most, scanner.layouts.count)
      #expect(scanner.layouts.count <= RecordLayouts.maximumSteps)
    }
    #expect(scanner.misses > 3_000)
    #expect(most > RecordLayouts.maximumSteps - 32, "the tree was never full")
    for _ in 0..<5_000 { try scanner.scan(fence.place(Array(#"{"new":1,"id":"a"}"#.utf8), gap: 200), hasMargin: true) }
    let before = scanner.misses
    for _ in 0..<100 { try scanner.scan(fence.place(Array(#"{"new":2,"id":"b"}"#.utf8), gap: 200), hasMargin: true) }
    #expect(scanner.misses == before)
  }
}

extension RecordPosition {
  static var start: RecordPosition { RecordPosition(source: 0, partition: 0, offset: 1) }
}
