import Configuration
import Decoding
import Domain
import Foundation
import Simulation
import Testing

@testable import Pipeline

/// Values that no two records of a source may have.
@Suite struct UniqueValuesTests {
  static func digest(_ text: String) -> ValueDigest {
    var text = text
    return text.withUTF8 { ValueDigest(UnsafeRawBufferPointer($0)) }
  }

  static func record(
    _ id: String, at time_ms: Int64, within_ms: Int64 = 100, order: String? = nil, document: String? = nil,
    flags: Bool = true
  ) -> UniqueRecord {
    UniqueRecord(
      identity: digest(id), document: digest(document ?? id), time_ms: time_ms, within_ms: within_ms, flags: flags,
      source: "orders", rule: "payment", subject: "document", place: "topic t, partition 0, offset \(id)",
      order: order ?? "O\(id)", id: id, isOrder: true, customer: "C", currency: Currency("EUR")!, dimensions: ["north"])
  }

  static func key(_ value: String, _ record: UniqueRecord) -> UniqueKey {
    UniqueKey(value: digest(value), identity: record.identity)
  }

  /// The topic of partials as the stage sees it: what it writes comes back to it.
  struct World {
    var log: [(key: [UInt8], value: [UInt8]?)] = []
    var read = 0
    var values = UniqueValues(maximum: 1_000)
    var breaks: [Break] = []

    mutating func tell(_ value: String, _ record: UniqueRecord) {
      log += UniqueMessage.record(UniqueValuesTests.key(value, record), record).messages
    }

    mutating func catchUp() throws {
      while read < log.count {
        let (key, value) = log[read]
        try key.withUnsafeBufferPointer { key in
          #expect(UniqueMessage.isKey(key))
          if let value {
            try value.withUnsafeBufferPointer {
              values.apply(try UniqueMessage(key: key, value: $0), partition: 0)
            }
          } else {
            values.apply(try UniqueMessage(key: key, value: nil), partition: 0)
          }
        }
        read += 1
      }
    }

    mutating func take(asOf_ms: Int64 = .min) throws {
      try catchUp()
      for output in values.take(asOf_ms: asOf_ms) {
        switch output {
        case .aBreak(let made): breaks.append(made)
        case .message(let message, let partition):
          #expect(partition == 0)
          log += message.messages
        case .opened(let count, let partition): #expect(partition == 0 && count == values.opened[0])
        }
      }
    }

    /// Another process, that reads what compaction has left.
    mutating func restart() {
      var last: [[UInt8]: Int] = [:]
      for (at, message) in log.enumerated() { last[message.key] = at }
      log = log.enumerated().filter { last[$0.element.key] == $0.offset && $0.element.value != nil }.map(\.element)
      read = 0
      values = UniqueValues(maximum: values.maximum)
    }
  }

  @Test func theLaterOfTwoIsTheDuplicate() throws {
    var world = World()
    world.tell("P1", Self.record("a", at: 50))
    world.tell("P2", Self.record("b", at: 60))
    try world.take()
    #expect(world.breaks.isEmpty && world.values.counts.records == 2)
    // Comes later, and was earlier.
    world.tell("P1", Self.record("c", at: 10))
    try world.take()
    #expect(world.breaks.map(\.order) == ["Oa"] && world.values.counts.duplicates == 1)
    let made = world.breaks[0]
    #expect(made.type == .dataQuality && made.state == .open && made.revision == 1 && made.events == ["a"])
    #expect(made.customer == "C" && made.dimensions == ["north"] && made.expected == nil && made.posted == nil)
    #expect(
      made.reason
        == "rule 'payment': document of topic t, partition 0, offset a is that of topic t, partition 0, offset c already, "
        + "of order Oc")
    #expect(UniqueValues.isUnique(id: made.id, order: "Oa"))
    #expect(!UniqueValues.isUnique(id: Break.id(order: "Oa", type: .dataQuality, role: .receivable), order: "Oa"))
    #expect(
      !UniqueValues.isUnique(
        id: Break.id(order: "Oa", type: .dataQuality, role: .receivable, otherCurrency: Currency("EUR")!), order: "Oa"))
    // An earlier one yet: both are duplicates of it, the one for the first time.
    world.tell("P1", Self.record("d", at: 5))
    try world.take()
    #expect(world.breaks.dropFirst().map { "\($0.order) \($0.revision)" } == ["Oc 1", "Oa 2"])
    #expect(world.breaks.dropFirst().allSatisfy { $0.reason.hasSuffix("offset d already, of order Od") })
    // A record that comes again is none, nor is what is told told again, here or anywhere else.
    world.tell("P1", Self.record("a", at: 50))
    try world.take()
    world.restart()
    try world.take()
    #expect(world.breaks.count == 3)
    #expect(world.values.opened == [0: 2])
  }

  @Test func farApartAndOfOneDocumentIsNoDuplicate() throws {
    var world = World()
    world.tell("P1", Self.record("a", at: 0))
    world.tell("P1", Self.record("b", at: 101))
    world.tell("P2", Self.record("c", at: 0, document: "J"))
    world.tell("P2", Self.record("d", at: 1, document: "J"))
    try world.take()
    #expect(world.breaks.isEmpty)
    world.tell("P1", Self.record("e", at: 100))
    world.tell("P2", Self.record("f", at: 2, document: "K"))
    try world.take()
    #expect(Set(world.breaks.map(\.order)) == ["Oe", "Ob", "Of"])
    // What only counts opens nothing.
    world.tell("P3", Self.record("g", at: 0, flags: false))
    world.tell("P3", Self.record("h", at: 0, flags: false))
    try world.take()
    #expect(world.breaks.count == 3 && world.values.counts.duplicates == 4 && world.values.opened == [0: 3])
    #expect(world.values.duplicatesByRule == ["orders: payment": 4])
  }

  /// What is too old is forgotten, and deleted; breaks that were told stay as they are.
  @Test func recordsAreForgottenBehindTheWatermark() throws {
    let day = millisecondsPerDay
    var world = World()
    world.tell("P1", Self.record("a", at: 0, within_ms: 2 * day))
    world.tell("P1", Self.record("b", at: day, within_ms: 2 * day))
    try world.take(asOf_ms: 3 * day - 1)
    #expect(world.breaks.count == 1 && world.values.counts.records == 2)
    try world.take(asOf_ms: 3 * day)
    #expect(world.values.counts.records == 1)
    try world.take(asOf_ms: 4 * day)
    #expect(world.values.counts.records == 0)
    world.restart()
    #expect(world.log.count == 1, "the number of breaks alone is left")
    try world.take(asOf_ms: 4 * day)
    #expect(world.breaks.count == 1 && world.values.opened == [0: 1])
    // A new one is told with the next number of breaks.
    world.tell("P1", Self.record("c", at: 9 * day, within_ms: 2 * day))
    world.tell("P1", Self.record("d", at: 9 * day, within_ms: 2 * day))
    try world.take(asOf_ms: 4 * day)
    #expect(world.breaks.count == 2 && world.values.opened == [0: 2])
  }

  /// What is sent once more when it is too old is deleted, and told no second time.
  @Test func whatIsTooOldIsNotTakenIn() throws {
    let day = millisecondsPerDay
    var values = UniqueValues(maximum: 10)
    for (id, time_ms) in [("a", Int64(0)), ("b", 1)] {
      let record = Self.record(id, at: time_ms, within_ms: day)
      values.apply(.record(Self.key("P", record), record), partition: 3, asOf_ms: 2 * day)
      let outputs = values.take(asOf_ms: 2 * day)
      guard case .message(.forgotten(let key), let partition) = outputs.first else {
        Issue.record("it is held")
        continue
      }
      #expect(outputs.count == 1 && key == Self.key("P", record) && partition == 3 && values.counts.records == 0)
    }
    let record = Self.record("c", at: day, within_ms: day)
    values.apply(.record(Self.key("P", record), record), partition: 3, asOf_ms: 2 * day)
    #expect(values.counts.records == 1)
  }

  @Test func memoryIsBounded() throws {
    var world = World()
    world.values = UniqueValues(maximum: 10)
    for number in 0..<30 { world.tell("P\(number)", Self.record("\(number)", at: Int64(number) * millisecondsPerDay)) }
    try world.take()
    #expect(world.values.counts.records == 10 && world.values.counts.dropped == 20)
    // Those that matter longest have stayed.
    for number in [5, 25] {
      world.tell("P\(number)", Self.record("again\(number)", at: Int64(number) * millisecondsPerDay + 1))
    }
    try world.take()
    #expect(world.breaks.map(\.order) == ["Oagain25"])
    world.restart()
    try world.take()
    #expect(world.values.counts.records == 10 && world.values.counts.dropped == 0)
  }

  /// Of a value that very many records have, every one but the first is told, whichever came first, at a cost that does not
  /// rise with their number.
  @Test func aValueThatEverybodyHas() throws {
    let count = 20_000
    var random = SeededRandom(seed: 5)
    // In two orders of arrival: as they happened but for a few, and the last of them first.
    for isReversed in [false, true] {
      var numbers = Array(0..<count)
      for _ in 0..<200 { numbers.swapAt(random.below(count), random.below(count)) }
      if isReversed { numbers = numbers.suffix(count / 2) + numbers.prefix(count / 2) }
      var crowd = World()
      crowd.values = UniqueValues(maximum: 100_000)
      for (at, number) in numbers.enumerated() {
        crowd.tell("P", Self.record("\(number)", at: Int64(number), within_ms: 1 << 40))
        if at % (count / 8) == 0 { try crowd.take() }
      }
      try crowd.take()
      var newest: [String: String] = [:]
      for made in crowd.breaks { newest[made.events[0]] = made.reason }
      #expect(newest.count == count - 1 && newest["0"] == nil)
      #expect(newest.values.allSatisfy { $0.hasSuffix("offset 0 already, of order O0") })
      #expect(crowd.values.counts.records == count && crowd.values.counts.dropped == 0)
    }
  }

  /// A duplicate whose original has been forgotten is told no second time as that of another one.
  @Test func aForgottenOriginalStaysTheOriginal() throws {
    let day = millisecondsPerDay
    var world = World()
    for (id, days) in [("a", 0), ("b", 1), ("c", 2)] as [(String, Int64)] {
      world.tell("P", Self.record(id, at: days * day, within_ms: 2 * day))
    }
    try world.take(asOf_ms: 3 * day)
    #expect(world.breaks.map { "\($0.order) \($0.reason.suffix(2))" } == ["Ob Oa", "Oc Oa"])
    world.tell("P", Self.record("d", at: 2 * day, within_ms: 2 * day, order: "A"))
    try world.take(asOf_ms: 3 * day)
    #expect(world.breaks.dropFirst(2).map { "\($0.order) \($0.reason.suffix(2))" } == ["A Ob"])
  }

  /// Whatever the order, the repetitions, the steps and the restarts: the same duplicates, of the same records, each with
  /// revisions that rise by one.
  @Test(arguments: 0..<100 as Range<UInt64>) func theSetOfRecordsDecides(seed: UInt64) throws {
    var random = SeededRandom(seed: seed, stream: 0x756e_6971)
    var records: [(value: String, record: UniqueRecord)] = []
    for number in 0..<30 {
      records.append(
        (
          "P\(random.below(6))",
          Self.record(
            "\(number)", at: Int64(random.below(400)), order: "O\(random.below(12))",
            document: random.below(4) == 0 ? "J\(random.below(3))" : nil)
        ))
    }
    // By plain comparison of each with each.
    var right: [String: String] = [:]
    for (value, record) in records {
      let before = records.filter {
        $0.value == value && $0.record.precedes(record) && $0.record.document != record.document
          && record.time_ms - $0.record.time_ms <= record.within_ms
      }
      guard let original = before.min(by: { $0.record.precedes($1.record) })?.record else { continue }
      right[record.id] = original.place
    }
    for _ in 0..<3 {
      var arriving = records + records.filter { _ in random.below(4) == 0 }
      arriving.shuffle(using: &random)
      var world = World()
      for (value, record) in arriving {
        world.tell(value, record)
        switch random.below(6) {
        case 0: try world.take()
        case 1:
          try world.catchUp()
          if random.below(3) == 0 { world.restart() }
        default: break
        }
      }
      try world.take()
      var newest: [String: Break] = [:]
      for made in world.breaks {
        #expect(made.revision == (newest[made.id]?.revision ?? 0) + 1)
        newest[made.id] = made
      }
      let found = Dictionary(uniqueKeysWithValues: newest.values.map { ($0.events[0], $0.reason) })
      #expect(Set(found.keys) == Set(right.keys), "seed \(seed)")
      for (id, place) in right { #expect(found[id]?.contains("is that of \(place) already") == true, "seed \(seed)") }
      #expect(world.values.opened[0] ?? 0 == Int64(right.count))
    }
  }
}
