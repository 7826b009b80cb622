import Domain
import Testing

@testable import Matching

/// The written form of facts: whatever goes in comes out, in any sequence, also beyond the bounds that change the form.
@Suite struct BodyTests {
  /// Texts from a small set, so that "the same as before" and "continues" come up often; now and then a long one.
  func text(_ r: Records, _ generator: inout SeededGenerator, _ key: String, long: Bool) -> ByteView {
    switch Int.random(in: 0..<8, using: &generator) {
    case 0: return .empty
    case 1: return r.view(key)
    case 2: return r.view(key + "-\(Int.random(in: 0..<3, using: &generator))")
    case 3 where long:
      return r.view(
        String(repeating: "x", count: [254, 255, 256, 1_024].randomElement(using: &generator)!))
    default: return r.view("T\(Int.random(in: 0..<4, using: &generator))")
    }
  }

  func fact(_ r: Records, _ generator: inout SeededGenerator, _ key: String, long: Bool, scratch: inout [UInt8]) -> Fact
  {
    let numbers: [Int64] = [0, 1, -1, 127, 128, -129, 99_999, 1 << 40, -(1 << 61), 1 << 62 - 1]
    if Bool.random(using: &generator) {
      var event = OrderEvent()
      event.kind = OrderEventKind.allCases.randomElement(using: &generator)!
      event.id = text(r, &generator, key, long: long)
      event.document = text(r, &generator, key, long: long)
      event.customer = text(r, &generator, key, long: long)
      event.currency = [.none, Currency("USD")!, Currency("JPY")!].randomElement(using: &generator)!
      event.time_ms = t0 &+ numbers.filter { $0.magnitude < 1 << 41 }.randomElement(using: &generator)!
      event.documentDate_d =
        [absentDate, day(ofMilliseconds: event.time_ms), 20_000, -5].randomElement(using: &generator)!
      event.lineCount = [0, 0, 3, 70_000].randomElement(using: &generator)!
      for component in AmountComponent.allCases where Bool.random(using: &generator) {
        event.amounts[component] = numbers.randomElement(using: &generator)!
      }
      if Bool.random(using: &generator) {
        event.quantity_u = numbers.randomElement(using: &generator)!
        event.quantityPresent = true
      }
      if Int.random(in: 0..<3, using: &generator) == 0 {
        (event.serviceStart_d, event.serviceEnd_d) = (-20_000, 40_000)
      }
      if Int.random(in: 0..<3, using: &generator) == 0 { event.line = text(r, &generator, key, long: long) }
      event.isUpsert = Int.random(in: 0..<4, using: &generator) == 0
      event.dimensions[0] = text(r, &generator, key, long: long)
      event.position = RecordPosition(
        source: UInt16.random(in: 0...2, using: &generator) * 300, partition: 1,
        offset: numbers.randomElement(using: &generator)!)
      var fact = Fact()
      withUnsafePointer(to: event) { event in
        withUnsafeMutablePointer(to: &fact) { fact in
          scratch.withUnsafeMutableBufferPointer { fact.fill(event, dimensionCount: 2, scratch: $0.baseAddress!) }
        }
      }
      return fact
    }
    var posting = Posting()
    posting.role = AccountRole.allCases.randomElement(using: &generator)!
    posting.id = text(r, &generator, key, long: long)
    posting.journal = text(r, &generator, key, long: long)
    posting.document = text(r, &generator, key, long: long)
    posting.customer = text(r, &generator, key, long: long)
    posting.reverses = Int.random(in: 0..<4, using: &generator) == 0 ? text(r, &generator, key, long: long) : .empty
    posting.isReversal = Int.random(in: 0..<4, using: &generator) == 0
    posting.currency = [Currency("USD")!, Currency("EUR")!].randomElement(using: &generator)!
    posting.amount = numbers.randomElement(using: &generator)!
    posting.time_ms = t0 &- numbers.filter { $0.magnitude < 1 << 41 }.randomElement(using: &generator)!
    posting.postingDate_d = [absentDate, day(ofMilliseconds: posting.time_ms), 19_999].randomElement(using: &generator)!
    posting.period = [0, 202_603, 202_613, 999_916].randomElement(using: &generator)!
    posting.isDelete = Int.random(in: 0..<6, using: &generator) == 0
    if Int.random(in: 0..<3, using: &generator) == 0 {
      posting.extras = UInt8.random(in: 0...3, using: &generator)
      posting.baseAmount = numbers.randomElement(using: &generator)!
      posting.quantity_u = numbers.randomElement(using: &generator)!
    }
    if Int.random(in: 0..<3, using: &generator) == 0 { posting.line = text(r, &generator, key, long: long) }
    posting.dimensions[1] = text(r, &generator, key, long: long)
    posting.position = RecordPosition(source: 1, partition: 0, offset: numbers.randomElement(using: &generator)!)
    var fact = Fact()
    withUnsafePointer(to: posting) { posting in
      withUnsafeMutablePointer(to: &fact) { fact in
        scratch.withUnsafeMutableBufferPointer { fact.fill(posting, dimensionCount: 2, scratch: $0.baseAddress!) }
      }
    }
    return fact
  }

  /// What of a fact must survive, in words.
  func described(_ fact: Fact) -> String {
    let dimensions = Fact.dimensionValues(fact.dimensionBytes).joined(separator: "|")
    return
      "\(fact.isPosting) \(fact.code) \(fact.flags) \(fact.currency) \(fact.source) \(fact.lineCount) \(fact.mask) "
      + "\(fact.time_ms) \(fact.date_d) \(fact.statedPeriod) \(fact.offset) "
      + "\((0..<fact.amountCount).map { fact.amounts[$0] }) <\(fact.document.string)> <\(fact.customer.string)> "
      + "<\(dimensions)> <\(fact.journal.string)> <\(fact.id.string)> <\(fact.reverses.string)> <\(fact.line.string)>"
  }

  @Test(arguments: 0..<200 as Range<UInt64>) func factsComeOutAsTheyWentIn(seed: UInt64) {
    var generator = SeededGenerator(state: seed)
    let r = Records()
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 2)
    let keys = (0..<3).map { seed % 11 == 0 && $0 == 0 ? String(repeating: "k", count: 300) : "ORDER-\($0)" }
    var slots: [String: Int] = [:]
    for key in keys { slots[key] = matcher.insert(Fingerprint(r.view(key)), r.view(key)) }
    var model: [String: [String]] = [:]
    var hashes: [String: [UInt64]] = [:]
    var scratch = [UInt8](repeating: 0, count: 4_096)
    // Some seeds write bodies that need the long form of the length.
    let count = seed % 20 == 0 ? 2_000 : Int.random(in: 1...60, using: &generator)
    for step in 0..<count {
      let key = keys.randomElement(using: &generator)!
      let slot = slots[key]!
      var fact = fact(r, &generator, key, long: seed % 5 == 0, scratch: &scratch)
      withUnsafePointer(to: &fact) { _ = matcher.append($0, to: slot, balance: 0) }
      fact.hashIdentity()
      model[key, default: []].append(described(fact))
      hashes[key, default: []].append(fact.contentHash ^ fact.idHash)
      if step % 7 == 0 {
        matcher.setValue(slot, TieValue(amount: Int64(step) << Int64(step % 50), currency: Currency("EUR")!))
      }
      if count < 100 || step == count - 1 {
        var texts = TextArena()
        var facts = matcher.facts(slot)
        var read: [String] = []
        var readHashes: [UInt64] = []
        while facts.next() {
          let fact = Fact(facts, number: 0, texts: &texts)
          read.append(described(fact))
          readHashes.append(fact.contentHash ^ fact.idHash)
        }
        #expect(facts.at == facts.end)
        #expect(read == model[key]!, "seed \(seed) step \(step)")
        #expect(readHashes == hashes[key]!, "seed \(seed) step \(step)")
        #expect(matcher.key(slot).string == key)
      }
    }
    for (key, slot) in slots where model[key] != nil {
      // Writing anew keeps what is kept.
      let before = matcher.value(slot)
      matcher.gather(slot)
      #expect(matcher.value(slot) == before)
      let all = matcher.read
      matcher.rewriteBody(slot, all) { $0 % 2 == 0 }
      var texts = TextArena()
      var facts = matcher.facts(slot)
      var read: [String] = []
      while facts.next() { read.append(described(Fact(facts, number: 0, texts: &texts))) }
      #expect(read == all.indices.filter { $0 % 2 == 0 }.map { described(all[$0]) }, "seed \(seed) \(key)")
    }
  }

  /// What earlier versions have left in checkpoints is read, and kept in the bytes in which it would stand had it come now.
  @Test(arguments: 0..<100 as Range<UInt64>) func earlierBodiesAreWrittenAnew(seed: UInt64) throws {
    var generator = SeededGenerator(state: seed)
    let r = Records()
    let key = seed % 11 == 0 ? String(repeating: "k", count: 300) : "ORDER-1"
    var scratch = [UInt8](repeating: 0, count: 4_096)
    var now = Matcher(policy: testPolicy(), dimensionCount: 2)
    let slot = now.insert(Fingerprint(r.view(key)), r.view(key))
    var earlier = EarlierBody(key: r.view(key))
    var written: [String] = []
    for _ in 0..<(seed % 20 == 0 ? 2_000 : Int.random(in: 1...60, using: &generator)) {
      var fact = fact(r, &generator, key, long: seed % 5 == 0, scratch: &scratch)
      earlier.append(fact)
      withUnsafePointer(to: &fact) { _ = now.append($0, to: slot, balance: 0) }
      written.append(described(fact))
    }
    var flags = Tie.Flag.live | Tie.Flag.hasOrder | Tie.Flag.hasPosting
    if seed % 3 != 0 {
      let value = TieValue(
        amount: Int64(seed) << Int64(seed % 50), currency: [Currency("USD")!, Currency("EUR")!][Int(seed % 2)])
      earlier.end(value)
      now.setValue(slot, value)
      flags |= Tie.Flag.valued
    }
    var shard = ByteWriter()
    shard.write(flags)
    for time_ms in [t0, t0 + hour, t0] { shard.write(time_ms) }
    shard.writeVarint(UInt64(earlier.bytes.count))
    for byte in earlier.bytes { shard.write(byte) }
    shard.writeVarint(0)
    var restored = Matcher(policy: testPolicy(), dimensionCount: 2)
    try restored.read(shard: shard)
    let held = try #require(slots(restored).first)
    var texts = TextArena()
    var facts = restored.facts(held)
    var read: [String] = []
    while facts.next() { read.append(described(Fact(facts, number: 0, texts: &texts))) }
    #expect(read == written, "seed \(seed)")
    #expect(restored.value(held) == now.value(slot))
    #expect(body(restored, held) == body(now, slot), "seed \(seed)")
    #expect(restored.ties[held].deadline_ms == t0 && restored.ties[held].timer_ms == t0 + hour)
    // As it is written now it comes back as it is.
    var state = ByteWriter()
    restored.exportShard(0, bits: 0, into: &state)
    var again = Matcher(policy: testPolicy(), dimensionCount: 2)
    try again.read(shard: state)
    let other = try #require(slots(again).first)
    #expect(body(again, other) == body(now, slot))
  }

  /// A state that is damaged is refused, or read as what it then says; nothing in it leads beyond it.
  @Test(arguments: 0..<300 as Range<UInt64>) func damagedBodiesAreRefused(seed: UInt64) throws {
    var generator = SeededGenerator(state: seed)
    let r = Records()
    var written = Matcher(policy: testPolicy(), dimensionCount: 2)
    let slot = written.insert(Fingerprint(r.view("ORDER-1")), r.view("ORDER-1"))
    var scratch = [UInt8](repeating: 0, count: 4_096)
    for _ in 0..<Int.random(in: 1...12, using: &generator) {
      var fact = fact(r, &generator, "ORDER-1", long: seed % 5 == 0, scratch: &scratch)
      withUnsafePointer(to: &fact) { _ = written.append($0, to: slot, balance: 0) }
    }
    if seed % 3 != 0 { written.setValue(slot, TieValue(amount: Int64(seed) << 20, currency: Currency("EUR")!)) }
    let whole = body(written, slot)
    let flags = written.ties[slot].flags | (seed % 7 == 0 ? 0 : 1 << 15)
    var refused = 0
    for _ in 0..<100 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        // The key stays: another one belongs into another shard, or is none.
        bytes[Int.random(in: 10..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      if Int.random(in: 0..<4, using: &generator) == 0 {
        bytes.removeLast(Int.random(in: 1..<bytes.count, using: &generator))
      }
      var restored = Matcher(policy: testPolicy(), dimensionCount: 2)
      do {
        try restored.readBody(bytes, flags: flags)
      } catch {
        refused += 1
        continue
      }
      for held in slots(restored) {
        var texts = TextArena()
        var facts = restored.facts(held)
        while facts.next() {
          let fact = Fact(facts, number: 0, texts: &texts)
          _ = described(fact)
          _ = fact.service
        }
        restored.gather(held)
      }
    }
    #expect(refused > 0)
  }

  /// Bodies that say more than there is: keys, parts of a fact that belong together, dimensions.
  @Test func bodiesThatSayTooMuchAreRefused() {
    let r = Records()
    func isTaken(_ bytes: [UInt8]) -> Bool {
      var matcher = Matcher(policy: testPolicy(), dimensionCount: 2)
      do {
        try matcher.readBody(bytes, flags: Tie.Flag.live | 1 << 15)
        return true
      } catch { return false }
    }
    let key: [UInt8] = [0, 0, 1, 65]
    #expect(isTaken(key))
    for count in 0..<key.count { #expect(!isTaken(Array(key.prefix(count)))) }
    for bytes: [UInt8] in [[0, 0, 255], [0, 0, 255, 1, 0, 65], [0, 0, 255, 0, 1, 65], [0, 0, 200, 65, 65]] {
      #expect(!isTaken(bytes))
    }
    var event = r.event("A", net: 100, gross: 100)
    (event.serviceStart_d, event.serviceEnd_d) = (1, 2)
    event.dimensions[0] = r.view("north")
    var written = Matcher(policy: testPolicy(), dimensionCount: 2)
    var outputs = MatchOutputs()
    written.take([.order(event)], into: &outputs)
    let whole = body(written, 1)
    #expect(isTaken(whole))
    // Behind the heads stands what amounts there are.
    let heads = UnsafeRawPointer(written.bodyStart(1) + 4).loadUnaligned(as: UInt32.self)
    let mask = 4 + (heads & FactCursor.Bit.hasMore != 0 ? 6 : 4)
    for bit in [UInt8(1 << 2), 1 << 3] {
      var bytes = whole
      bytes[mask + 1] &= ~bit
      #expect(!isTaken(bytes))
    }
    let place = whole.indices.first { whole[$0...].starts(with: [7, 5] + Array("north".utf8)) }!
    for count: UInt8 in [4, 7, 200] {
      var bytes = whole
      bytes[place + 1] = count
      #expect(!isTaken(bytes))
    }
  }

  func slots(_ matcher: borrowing Matcher) -> [Int] {
    var slots: [Int] = []
    matcher.forEachSlot(shard: 0, bits: 0) { slots.append($0) }
    return slots
  }

  func body(_ matcher: borrowing Matcher, _ slot: Int) -> [UInt8] {
    Array(UnsafeBufferPointer(start: matcher.bodyStart(slot), count: matcher.bodyLength(slot)))
  }

  /// Lines may be long texts: what is written anew has room for all of them.
  @Test func longLinesAreWrittenAnew() {
    let r = Records()
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    var postings: [Input] = []
    for line in 1...100 {
      var posting = r.posting("A", .revenue, -1, line: line)
      posting.extras |= Posting.Extra.line
      posting.line = r.view("\(line)" + String(repeating: "x", count: 1_000))
      postings.append(.posting(posting))
    }
    matcher.take(postings, into: &outputs)
    matcher.gather(1)
    let all = matcher.read
    matcher.rewriteBody(1, all) { _ in true }
    var (count, facts) = (0, matcher.facts(1))
    while facts.next() {
      count += 1
      #expect(facts.line.count > 1_000)
    }
    #expect(count == 100)
  }

  /// Amounts that follow from others, and those that are posted as the order has them, take no bytes.
  @Test func whatFollowsIsNotWritten() {
    let r = Records()
    func length(net: Int64, tax: Int64, posted: Int64, period: Int32) -> Int {
      var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
      var outputs = MatchOutputs()
      matcher.take(
        [
          .order(r.event("A", document: "D", net: net, tax: tax, freight: 0, gross: 300_00)),
          .posting(r.posting("A", .receivable, posted, document: "D", period: period)),
        ], into: &outputs)
      return matcher.bodyLength(1)
    }
    let month = calendarPeriod(ofDay: day(ofMilliseconds: t0))
    let least = length(net: 300_00, tax: 0, posted: 300_00, period: month)
    // Two bytes an amount of less than 327.68.
    #expect(length(net: 299_00, tax: 0, posted: 300_00, period: month) == least + 2)
    #expect(length(net: 200_00, tax: 100_00, posted: 300_00, period: month) == least + 2)
    #expect(length(net: 300_00, tax: 0, posted: 300_00, period: month + 1) > least)
    #expect(length(net: 300_00, tax: 0, posted: 301_00, period: month) == least + 2)
  }

  @Test func aPostingOfTheSameJournalTakesFewBytes() {
    let r = Records()
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    let event = r.event(
      "SO-2026-00012345", id: "EV-00012345", customer: "C10347", document: "INV-0012345", net: 100_00, tax: 20_00,
      freight: 5_00, gross: 125_00)
    matcher.take([.order(event)], into: &outputs)
    let alone = matcher.bodyLength(1)
    var lengths: [Int] = []
    for posting in r.invoice(
      "SO-2026-00012345", net: 100_00, tax: 20_00, freight: 5_00, journal: "JE-0012345", customer: "C10347",
      document: "INV-0012345")
    {
      matcher.take([.posting(posting)], into: &outputs)
      lengths.append(matcher.bodyLength(1))
    }
    #expect(alone <= 88)
    #expect(lengths[0] - alone <= 30)
    #expect(lengths[3] - lengths[0] <= 3 * 11)
  }
}

extension Matcher {
  /// Takes a tie in of which a state has this body.
  fileprivate mutating func readBody(_ bytes: [UInt8], flags: UInt16) throws {
    var shard = ByteWriter()
    shard.write(flags)
    for time_ms in [t0, t0 + hour, t0] { shard.write(time_ms) }
    shard.writeVarint(UInt64(bytes.count))
    for byte in bytes { shard.write(byte) }
    shard.writeVarint(0)
    try read(shard: shard)
  }
}
