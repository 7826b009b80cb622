import Aggregates
import Checkpoints
import Configuration
import Domain
import Kafka
import Matching
import Testing

@testable import Pipeline

/// A task that comes back under another `aggregates.inherit`: the figures of the orders that it holds move.
@Suite struct InheritedDimensionsRestoreTests {
  static func configuration(_ aggregates: String) throws -> Configuration {
    try Configuration.parse(
      yaml: """
        version: 1
        name: inherited
        dimensions: [region]
        \(aggregates)
        sources:
          orders:
            kind: orders
            fields: {order: o, event_id: i, event: e, event_time: {path: t, format: epoch_ms}, document: d, currency: c,
              net: net, gross: net}
            dimensions: {region: region}
          ledger:
            kind: ledger
            fields: {order: o, line_id: i, journal: j, document: d, role: r, currency: c,
              event_time: {path: t, format: epoch_ms}}
            amount: a
        matching: {window: 1h, grace: 0s, retention: 4000d, open_retention: 4000d, out_of_orderness: 0s}
        """, file: "inherited", directory: ".", environment: [:])
  }

  static let t0: Int64 = 1_768_204_800_000
  static let orders = [
    #"{"o":"A","i":"A1","e":"invoiced","t":\#(t0),"d":"D1","c":"EUR","net":"100.00","region":"north"}"#,
    #"{"o":"A","i":"A2","e":"invoiced","t":\#(t0 + 1),"d":"D2","c":"EUR","net":"50.00","region":"south"}"#,
    #"{"o":"B","i":"B1","e":"invoiced","t":\#(t0 + 2),"d":"D3","c":"EUR","net":"7.00","region":"south"}"#,
  ]
  static let ledger = ["A D1 100.00", "A D2 45.00", "B D3 7.00"].flatMap { text in
    let parts = text.split(separator: " ")
    return [("receivable", ""), ("revenue", "-")].map { role, sign in
      #"{"o":"\#(parts[0])","i":"\#(parts[1])-\#(role)","j":"J\#(parts[1])","d":"\#(parts[1])","r":"\#(role)","c":"EUR","#
        + #""t":\#(t0 + 10),"a":"\#(sign)\#(parts[2])"}"#
    }
  }

  private func take(_ texts: [String], source: Int, _ engine: TaskEngine) {
    let bytes = texts.map { Array($0.utf8) }
    engine.beginRun(source: source, now_ms: Self.t0 + 1_000)
    var kept: [UnsafeMutableBufferPointer<UInt8>] = []
    for (at, text) in bytes.enumerated() {
      let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.count)
      _ = copy.initialize(from: text)
      kept.append(copy)
      engine.take(
        ConsumedMessage(
          topic: source, partition: 0, offset: Int64(at), timestamp_ms: 0, key: UnsafeBufferPointer(copy),
          value: UnsafeBufferPointer(copy)))
    }
    engine.endRun()
    for copy in kept { copy.deallocate() }
  }

  private func engine(_ configuration: Configuration) throws -> TaskEngine {
    let engine = TaskEngine(try DecodeStage(configuration), partition: 0)
    engine.begin(now_ms: Self.t0)
    return engine
  }

  private func filled(_ configuration: Configuration) throws -> TaskEngine {
    let engine = try engine(configuration)
    take(Self.orders, source: 0, engine)
    take(Self.ledger, source: 1, engine)
    engine.matcher.finish(asOf_ms: Self.t0 + 100 * 3_600_000, outputs: &engine.outputs)
    return engine
  }

  private func lines(_ engine: TaskEngine) -> [CellLine] {
    var table = CellTable(dimensionCount: 1)
    engine.matcher.mergeAggregates(into: &table)
    return table.lines
  }

  @Test func figuresOfWhatIsHeldMove() throws {
    let settings = [
      "aggregates: {enabled: true}", "aggregates: {enabled: true, inherit: none}", "aggregates: {enabled: false}",
    ]
    for before in settings {
      let first = try filled(Self.configuration(before))
      #expect(first.deadLetterCount == 0 && first.matcher.counters.postings == 6)
      let checkpointer = Checkpointer(task: 0, sources: ["orders", "ledger"], tiesPerShard: 1)
      var contents = CheckpointContents()
      checkpointer.begin(first.matcher, epoch: 1, epochsOffset: 1)
      let (writes, _) = checkpointer.advance(
        first.matcher, epoch: 1, incarnation: 9, next: [3, 6], configuration: 1, most: 100)
      for write in writes { contents.put(write.key, write.value) }
      let manifest = try #require(contents.manifests(upTo: 1).usable.first)
      #expect(manifest == checkpointer.newest)
      #expect(manifest.inheritedDimensions == (before == settings[0] ? 1 : 0))
      // An earlier version reads no state that it would not understand.
      #expect(manifest.stateVersion == Matcher.stateVersions.upperBound)
      for after in settings.dropLast() {
        let right = try filled(Self.configuration(after))
        let second = TaskEngine(try DecodeStage(Self.configuration(after)), partition: 0)
        try second.beginRestore(manifest)
        for shard in manifest.shards.indices {
          _ = try second.importShard(shard, bits: manifest.bits, bytes: contents.shard(shard, of: manifest))
        }
        try second.endRestore(manifest, aggregates: contents.aggregates(of: manifest))
        #expect(lines(second) == lines(right), "from \(before) to \(after)")
        #expect(second.matcher.aggregatesDigest != 0)
        let regions = Set(lines(second).filter { $0.values[.revenue, .posting] != 0 }.map(\.key.dimensions))
        #expect(regions == (after == settings[0] ? [["north"], ["south"]] : [[""]]))
        let disputed = lines(second).filter { $0.values[disputed: .revenue] != 0 }
        #expect(disputed.map { $0.values[disputed: .revenue] } == [500])
      }
    }
  }
}
