import Aggregates
import Domain
import Testing

@testable import Matching

struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }
}

@Suite struct StructureTests {
  @Test func kindsAreTheirPlaces() {
    for (at, type) in BreakType.allCases.enumerated() { #expect(type.index == at) }
    for (at, state) in BreakState.allCases.enumerated() { #expect(state.index == at) }
    for (at, severity) in Severity.allCases.enumerated() { #expect(severity.index == at) }
  }

  /// What goes into the digest of an epoch must not tell whether the process was restored on the way: an amount that
  /// is taken back leaves the sums as if it had never been there.
  @Test func sumsThatGoBackToZeroAreTheSameAfterARestore() throws {
    let records = Records()
    let there = Input.posting(records.posting("A", .cogs, 11_369, currency: "EUR"))
    let back = Input.posting(records.posting("B", .cogs, -11_369, currency: "EUR"))
    func sums(_ matcher: borrowing Matcher) -> [UInt8] {
      var writer = ByteWriter()
      matcher.exportSums(into: &writer)
      return writer.array
    }
    var outputs = MatchOutputs()
    var undisturbed = Matcher(policy: testPolicy(), dimensionCount: 0)
    undisturbed.take([there], into: &outputs)
    let half = sums(undisturbed)
    undisturbed.take([back], into: &outputs)

    var restored = Matcher(policy: testPolicy(), dimensionCount: 0)
    try half.withUnsafeBytes {
      var reader = ByteReader($0)
      try restored.importSums(from: &reader)
    }
    #expect(sums(restored) == half)
    restored.take([back], into: &outputs)
    #expect(sums(restored) == sums(undisturbed))
    #expect(undisturbed.totals.lines.isEmpty)
  }

  /// Records are one where their ids are: however short and alike those are, each counts by itself.
  @Test(arguments: ["", "L", "000", "100000"]) func idsThatAreAlikeAreNotOne(prefix: String) {
    let records = Records()
    var inputs: [Input] = []
    for number in 1...300 {
      let id = prefix + String(number)
      inputs.append(.order(records.event("A", id: id, document: id, net: Int64(number), gross: Int64(number))))
      var posting = records.posting("A", .revenue, -Int64(number), document: id)
      posting.id = records.view(id)
      inputs.append(.posting(posting))
    }
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take(inputs, into: &outputs)
    matcher.finish(outputs: &outputs)
    // Nothing is posted to the receivable: the full judgement has looked at it.
    #expect(outputs.breaks.map(\.role) == [.receivable])
    let revenue = matcher.totals.lines.first { $0.role == .revenue }
    #expect(revenue?.posted == -45_150 && revenue?.expected == -45_150)
    #expect(matcher.counters.duplicates == 0 && matcher.counters.superseded == 0)
  }

  /// Two records with one id that say the same but for their dimensions: one of them counts, whichever came first.
  @Test func dimensionsOfARepetitionDoNotDependOnTheOrderOfArrival() {
    let records = Records()
    func event(_ region: String) -> Input {
      var event = records.event("A", id: "E", net: 100, gross: 100)
      event.dimensions[0] = records.view(region)
      return .order(event)
    }
    func line(_ region: String) -> Input {
      var posting = records.posting("A", .revenue, -100, line: 1)
      posting.dimensions[0] = records.view(region)
      return .posting(posting)
    }
    func cells(_ inputs: [Input]) -> [CellLine] {
      var matcher = Matcher(policy: testPolicy(), dimensionCount: 1)
      matcher.aggregates = TaskAggregates(dimensionCount: 1)
      var outputs = MatchOutputs()
      matcher.take(inputs, into: &outputs)
      matcher.finish(outputs: &outputs)
      return matcher.aggregates!.tell(now_ms: t0).lines.filter { !$0.values.isZero }
    }
    let once = cells([event("north"), line("north")])
    #expect(once.map(\.key.dimensions) == [["north"]])
    for inputs in [
      [event("north"), event("south"), line("south"), line("north")],
      [line("north"), line("south"), event("south"), event("north")],
    ] { #expect(cells(inputs) == once) }
  }

  /// Ties with these fingerprints, as the index asks for them when it grows.
  private func makeRoom(_ index: inout TieIndex, _ fingerprints: (Int) -> Fingerprint) {
    _ = index.makeRoom(for: 1, fingerprint: fingerprints, bring: { _ in }, bringKey: { _ in })
  }

  /// Few distinct addresses, so that lines are chained to others, or all that there are; with and without few tags.
  @Test(arguments: [(UInt64.max, UInt64.max), (0x0300_0000_0000_0000, .max), (0x0f03_0000_0000_ffff, 0xff), (0, 0x700)])
  func indexAgreesWithADictionary(highBits: UInt64, lowBits: UInt64) {
    var generator = SeededGenerator(state: 7)
    var index = TieIndex()
    var model: [Int: Fingerprint] = [:]
    var most = 300
    for step in 1...20_000 {
      if Bool.random(using: &generator) || model.isEmpty {
        let fingerprint = Fingerprint(high: generator.next() & highBits, low: generator.next() & lowBits)
        let slots = model
        makeRoom(&index) { slots[$0]! }
        if step % 3 == 0 {
          index.insert(fingerprint, slot: step)
        } else {
          var place = index.nowhere
          let found = index.find(fingerprint, place: &place) { _ in false }
          let before = index.isFree(place)
          index.insert(fingerprint, slot: step, at: place)
          let after = index.isFree(place)
          #expect(found == 0 && before && !after)
        }
        model[step] = fingerprint
      } else {
        let slot = model.keys.sorted().randomElement(using: &generator)!
        index.remove(model[slot]!, slot: slot)
        model[slot] = nil
      }
      if step % 500 == 0 {
        #expect(index.count == model.count)
        for (slot, fingerprint) in model {
          let found = index.find(fingerprint) { $0 == slot }
          #expect(found == slot)
        }
        let slots = model
        for bits in [0, 1, 3, 9, 17] {
          var seen: [Int] = []
          for head in Set(model.values.map { bits == 0 ? 0 : Int($0.high >> UInt64(64 - bits)) }) {
            index.forEachSlot(headOf: head, bits: bits, head: { slots[$0]!.high }) {
              seen.append($0)
              if bits > 0 { #expect(Int(slots[$0]!.high >> UInt64(64 - bits)) == head) }
            }
          }
          #expect(seen.sorted() == model.keys.sorted())
        }
      }
      if model.count > most {
        for (slot, fingerprint) in model { index.remove(fingerprint, slot: slot) }
        #expect(index.longestChain == 1, "what is empty is not chained to anything")
        model = [:]
        most += 100
      }
    }
  }

  /// It takes the same few bytes a tie whatever their number, in lines that are hardly ever chained.
  @Test func indexSpreadsItsEntries() {
    var generator = SeededGenerator(state: 3)
    var index = TieIndex()
    var fingerprints = [Fingerprint(high: 0, low: 0)]
    for slot in 1...100_000 {
      fingerprints.append(Fingerprint(high: generator.next(), low: generator.next()))
      let known = fingerprints
      makeRoom(&index) { known[$0] }
      index.insert(fingerprints[slot], slot: slot)
      if slot > 1_000, slot % 997 == 0 { #expect(index.footprintBytes < slot * 13) }
    }
    var steps = 0
    for _ in 0..<100_000 {
      _ = index.find(Fingerprint(high: generator.next(), low: generator.next())) { _ in
        steps += 1; return false
      }
    }
    #expect(index.longestChain <= 3)
    #expect(steps < 500, "tags of 12 bits hardly ever agree by chance")
    let known = fingerprints
    var seen = 0
    for shard in 0..<8 {
      index.forEachSlot(headOf: shard, bits: 3, head: { known[$0].high }) {
        seen += 1
        #expect(Int(known[$0].high >> 61) == shard)
      }
    }
    #expect(seen == 100_000)
    var room = TieIndex()
    room.reserve(100_000)
    makeRoom(&room) { _ in fatalError("there is room") }
    #expect(room.footprintBytes <= index.footprintBytes)
    for slot in 1...100_000 { room.insert(fingerprints[slot], slot: slot) }
    for slot in 1...100_000 {
      let found = room.find(fingerprints[slot]) { $0 == slot }
      #expect(found == slot)
    }
  }

  @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64], [true, false])
  func timersAgreeWithASortedList(seed: UInt64, adapts: Bool) {
    var generator = SeededGenerator(state: seed)
    var queue = TimerQueue(quantum_ms: 50, adapts: adapts)
    var watermark: Int64 = 1_000_000
    let ties = UnsafeMutablePointer<Tie>.allocate(capacity: 3_001)
    defer { ties.deallocate() }
    ties.initialize(to: Tie(body: 0, bodyLength: 0, head: 0))
    var model: [(deadline: Int64, head: UInt16, high: UInt64, slot: Int)] = []
    var highs: [UInt64] = [0]
    func due(before watermark: Int64) -> [Int] {
      let due = model.filter { $0.deadline < watermark }.sorted {
        ($0.deadline, $0.head, $0.high) < ($1.deadline, $1.head, $1.high)
      }
      model.removeAll { $0.deadline < watermark }
      return due.map(\.slot)
    }
    func popped(before watermark: Int64) -> [Int] {
      var slots: [Int] = []
      while let entry = queue.pop(
        TimerQueue.Due(before: watermark, upTo: .none), ties: ties,
        fingerprint: { Fingerprint(high: highs[$0], low: 0) })
      {
        // As the matcher does: what does not agree with the tie's own timer moves on to that, or is passed over.
        let slot = Int(entry.slot)
        guard ties[slot].timer_ms == entry.deadline_ms else {
          queue.again(entry, ties) { Fingerprint(high: highs[$0], low: 0) }
          continue
        }
        ties[slot].timer_ms = Tie.noTimer_ms
        slots.append(slot)
      }
      return slots
    }
    for slot in 1...3_000 {
      // Few heads, so that many are due at the same time by the same head.
      let high = UInt64.random(in: 0..<3, using: &generator) << 48 | UInt64.random(in: 0..<1 << 40, using: &generator)
      highs.append(high)
      (ties + slot).initialize(to: Tie(body: 0, bodyLength: 0, head: UInt16(high >> 48)))
      // Some are moved to an earlier time, and leave an entry behind that does not count.
      let reach: Int64 = [10, 1_000, 300_000, 5_000_000].randomElement(using: &generator)!
      var deadlines = [watermark + Int64.random(in: -100...reach, using: &generator)]
      if slot % 4 == 0 {
        // Many meet in the buckets at which the calendar turns, from near and from far.
        let turn = Int64(TimerQueue.ringSize) << Int64(queue.quantumBits)
        let turns = watermark / turn + Int64.random(in: 1...2, using: &generator)
        deadlines = [turns * turn + Int64.random(in: 0..<50, using: &generator)]
      }
      if slot % 5 == 0 { deadlines.append(deadlines[0] - Int64.random(in: 1...400, using: &generator)) }
      for deadline in deadlines {
        ties[slot].timer_ms = deadline
        queue.push(deadline_ms: deadline, slot: slot, head: ties[slot].head) { Fingerprint(high: highs[$0], low: 0) }
      }
      model.append((deadlines.last!, ties[slot].head, high, slot))
      if slot % 3 == 0, let at = model.indices.randomElement(using: &generator) {
        // Some are moved back, and what stands in the calendar moves on by itself.
        let reach: Int64 = [10, 1_000, 300_000, 5_000_000].randomElement(using: &generator)!
        model[at].deadline += Int64.random(in: 0...reach, using: &generator)
        ties[model[at].slot].timer_ms = model[at].deadline
      }
      if slot % 7 == 0 {
        watermark += Int64.random(in: 0...([5, 700, 400_000].randomElement(using: &generator)!), using: &generator)
        #expect(popped(before: watermark) == due(before: watermark), "seed \(seed) slot \(slot)")
      }
    }
    #expect(popped(before: .max) == due(before: .max))
    #expect(queue.count == 0)
  }

  /// The bucket at which the calendar turns may hold what was pushed when it was near already, while others that are due
  /// in it were still beyond the calendar when they came.
  @Test func theBucketWhereTheCalendarTurnsIsOpenedWhole() {
    let turn = Int64(TimerQueue.ringSize) * 64
    for place in [Int64(0), 3, 63] {
      var queue = TimerQueue(quantum_ms: 64, adapts: false)
      let ties = UnsafeMutablePointer<Tie>.allocate(capacity: 6)
      defer { ties.deallocate() }
      ties.initialize(to: Tie(body: 0, bodyLength: 0, head: 0))
      func push(_ slot: Int, at deadline_ms: Int64) {
        (ties + slot).initialize(to: Tie(body: 0, bodyLength: 0, head: 0))
        ties[slot].timer_ms = deadline_ms
        queue.push(deadline_ms: deadline_ms, slot: slot, head: 0) { Fingerprint(high: 0, low: UInt64($0)) }
      }
      func popped(before watermark_ms: Int64) -> [Int] {
        var slots: [Int] = []
        while let entry = queue.pop(
          TimerQueue.Due(before: watermark_ms, upTo: .none), ties: ties,
          fingerprint: { Fingerprint(high: 0, low: UInt64($0)) })
        {
          slots.append(Int(entry.slot))
        }
        return slots
      }
      push(1, at: turn - 5_000)
      #expect(popped(before: turn - 4_000) == [1])
      // More than a turn ahead; and one between, so that nothing is jumped over.
      push(2, at: 2 * turn + place)
      push(5, at: turn * 3 / 2)
      #expect(popped(before: 2 * turn - 5_000) == [5])
      push(3, at: 2 * turn + 20)
      push(4, at: 2 * turn + 70)
      #expect(popped(before: 2 * turn + 100) == (place <= 20 ? [2, 3, 4] : [3, 2, 4]))
      #expect(queue.count == 0)
    }
  }

  /// What moves on from the last bucket of a turn is not passed over by the jump to what is far.
  @Test func whatMovesOnAtTheEndOfATurnIsPopped() {
    var queue = TimerQueue(quantum_ms: 1, adapts: false)
    let ties = UnsafeMutablePointer<Tie>.allocate(capacity: 3)
    defer { ties.deallocate() }
    ties.initialize(repeating: Tie(body: 0, bodyLength: 0, head: 0), count: 3)
    func push(_ slot: Int, at deadline_ms: Int64) {
      ties[slot].timer_ms = deadline_ms
      queue.push(deadline_ms: deadline_ms, slot: slot, head: 0) { Fingerprint(high: 0, low: UInt64($0)) }
    }
    func pop(before watermark_ms: Int64) -> Int? {
      queue.pop(
        TimerQueue.Due(before: watermark_ms, upTo: .none), ties: ties,
        fingerprint: { Fingerprint(high: 0, low: UInt64($0)) }
      ).map { Int($0.slot) }
    }
    push(1, at: 0)
    #expect(pop(before: 1) == 1)
    let last = Int64(TimerQueue.ringSize) - 1
    push(2, at: last)
    ties[2].timer_ms = last + 5
    #expect(pop(before: last + 5_000) == 2)
    #expect(queue.count == 0)
  }

  /// Quanta grow where ties are few and shrink where they are many; what is popped stays the same, also of what lies in
  /// the buckets at the seam, beyond the calendar, or has moved.
  @Test(arguments: [1, 2, 3, 4] as [UInt64]) func quantaFollowTheTies(seed: UInt64) {
    var generator = SeededGenerator(state: seed)
    var queue = TimerQueue(quantum_ms: 4)
    let most = 200_000
    let ties = UnsafeMutablePointer<Tie>.allocate(capacity: most)
    defer { ties.deallocate() }
    ties.initialize(repeating: Tie(body: 0, bodyLength: 0, head: 0), count: most)
    func fingerprint(_ slot: Int) -> Fingerprint { Fingerprint(high: 0, low: UInt64(slot)) }
    var used = 1
    var pending: [(deadline: Int64, slot: Int)] = []
    func push(_ deadline: Int64) {
      for time in used % 6 == 0 ? [deadline + 3_000, deadline] : [deadline] {
        ties[used].timer_ms = time
        queue.push(deadline_ms: time, slot: used, head: 0, fingerprint: fingerprint)
      }
      // Some are moved back after that, without an entry of their own.
      let last = used % 5 == 0 ? deadline + Int64(used % 1_000) * 7 : deadline
      ties[used].timer_ms = last
      pending.append((last, used))
      used += 1
    }
    func pass(to watermark: Int64) {
      var popped: [Int] = []
      while let entry = queue.pop(
        TimerQueue.Due(before: watermark, upTo: .none), ties: ties, fingerprint: fingerprint)
      {
        guard ties[Int(entry.slot)].timer_ms == entry.deadline_ms else {
          queue.again(entry, ties, fingerprint: fingerprint)
          continue
        }
        ties[Int(entry.slot)].timer_ms = Tie.noTimer_ms
        popped.append(Int(entry.slot))
      }
      let due = pending.filter { $0.deadline < watermark }.sorted { ($0.deadline, $0.slot) < ($1.deadline, $1.slot) }
      pending.removeAll { $0.deadline < watermark }
      #expect(popped == due.map(\.slot), "seed \(seed), before \(watermark)")
    }
    var time: Int64 = -20_000
    let finest = queue.quantumBits
    func live(_ steps: Int, every: Int64, perStep: Int, reach: Int64) {
      for _ in 0..<steps {
        for _ in 0..<perStep { push(time + Int64.random(in: 0...reach, using: &generator)) }
        if used % 50 == 0 { push(time + 4 << 16 + Int64.random(in: 0...1_000_000, using: &generator)) }
        time += every
        pass(to: time)
      }
    }
    live(300, every: 100, perStep: 2, reach: 20_000)
    let coarse = queue.quantumBits
    #expect(coarse > finest)
    live(200, every: 100, perStep: 300, reach: 4_000)
    #expect(queue.quantumBits < coarse)
    live(400, every: 400, perStep: 1, reach: 20_000)
    #expect(queue.quantumBits >= coarse)
    pass(to: .max)
    #expect(pending.isEmpty && queue.count == 0)
  }

  @Test func storeReusesWhatWasFreed() {
    var store = RecordStore()
    var refs: [(StoreRef, Int)] = []
    for size in [1, 8, 9, 64, 100, 2_048, 2_049, 5_000] {
      let ref = store.allocate(size)
      store.pointer(ref).initializeMemory(as: UInt8.self, repeating: UInt8(size & 255), count: size)
      refs.append((ref, size))
    }
    for (ref, size) in refs {
      for at in 0..<size { #expect(store.pointer(ref).load(fromByteOffset: at, as: UInt8.self) == UInt8(size & 255)) }
    }
    for (ref, size) in refs { store.free(ref, granules: RecordStore.granules(size)) }
    #expect(store.liveBytes == 0)
    let footprint = store.footprintBytes
    for (_, size) in refs { _ = store.allocate(size) }
    #expect(store.footprintBytes == footprint)
  }

  @Test func storeTakesWhatIsNearlyAsWanted() {
    var store = RecordStore()
    let sizes = [10, 12, 16, 17]
    let refs = sizes.map { store.allocate(exact: $0) }
    for (ref, size) in zip(refs, sizes) { store.free(ref, exact: size) }
    let footprint = store.footprintBytes
    func take(_ wanted: Int, _ least: Int, _ most: Int) -> Int {
      store.allocate(wanted: wanted, least: least, most: most).granules
    }
    #expect(take(12, 8, 20) == 12)
    #expect(take(12, 8, 16) == 16, "a larger one")
    #expect(take(12, 8, 16) == 10, "else a smaller one")
    #expect(store.footprintBytes == footprint)
    #expect(take(12, 8, 16) == 12, "else a new one")
    #expect(store.footprintBytes == footprint + 12 * 8)
    #expect(store.liveBytes == (12 + 16 + 10 + 12) * 8)
  }

  @Test func sizesAreExpectedAsTheyCome() {
    var expected = ExpectedSize()
    #expect(expected.wanted(7) == 7, "nothing is known")
    var generator = SeededGenerator(state: 5)
    for _ in 0..<10_000 { expected.learn(Int.random(in: 21...24, using: &generator)) }
    #expect((23...24).contains(expected.wanted(15)), "three of four are no larger: \(expected.wanted(15))")
    #expect(expected.wanted(30) == 30)
    #expect(expected.wanted(2) == 2 + Tie.mostRoom)
    for _ in 0..<10_000 { expected.learn(12) }
    #expect(expected.wanted(5) == 12)
  }

  @Test func patternsOfDifferences() {
    #expect(DifferencePattern.scalePower(expected: 2106_47, posted: 210647_00) == 2)
    #expect(DifferencePattern.scalePower(expected: 123_45, posted: 1_23) == -2)
    #expect(DifferencePattern.scalePower(expected: 100, posted: 100) == nil)
    #expect(DifferencePattern.scalePower(expected: 100, posted: -1000) == nil)
    #expect(DifferencePattern.isTransposition(expected: 718_08, posted: 178_08))
    #expect(!DifferencePattern.isTransposition(expected: 123, posted: 312))
    #expect(!DifferencePattern.isTransposition(expected: 100, posted: 100))
    #expect(DifferencePattern.isTransposition(expected: -589_00, posted: -859_00))
  }
}
