import Aggregates
import Domain
import Matching
import Testing

@testable import Checkpoints

/// A matcher with a number of open ties, without the decoder.
private func filled(_ orders: Range<Int>, into matcher: inout Matcher, outputs: inout MatchOutputs) {
  var bytes: [[UInt8]] = []
  for order in orders { bytes.append(Array("order-\(order)".utf8)) }
  for (index, order) in orders.enumerated() {
    bytes[index].withUnsafeBufferPointer { key in
      var event = OrderEvent()
      event.order = ByteView(key)
      event.id = ByteView(key)
      event.kind = .invoiced
      event.currency = Currency("USD")!
      event.time_ms = 1_000_000 + Int64(order)
      event.amounts[.gross] = Int64(order)
      event.amounts[.net] = Int64(order)
      event.position = RecordPosition(source: 0, partition: 0, offset: Int64(order))
      withUnsafePointer(to: &event) {
        matcher.apply(orders: UnsafeBufferPointer(start: $0, count: 1), now_ms: 2_000_000, outputs: &outputs)
      }
    }
  }
}

/// A matcher with a thousand open ties, in its first epoch.
private func ofAThousand(_ outputs: inout MatchOutputs) -> Matcher {
  var matcher = Matcher(policy: MatchingPolicy(), dimensionCount: 0)
  matcher.epoch = 1
  filled(0..<1_000, into: &matcher, outputs: &outputs)
  return matcher
}

@Suite struct CheckpointTests {
  private func record(number: UInt64 = 7) -> EpochRecord {
    var record = EpochRecord(
      task: 3, number: number, incarnation: 0xabc, previousIncarnation: 0xdef, configuration: 99,
      next: [5, -1, 1 << 40])
    record.events = [
      .begin(now_ms: 1_768_000_000_000), .run(source: 1, first: 10, last: 25, count: 9, now_ms: 1_768_000_000_100),
      .time(now_ms: 1_767_999_999_000, waiting: 5, bound: .none),
      .time(now_ms: 1_768_000_000_200, waiting: 0, bound: ExpiryBound(deadline_ms: -77, tag: 12)),
    ]
    record.outputCount = 3
    record.outputDigest = 1
    record.timeDigest = 2
    record.sumsDigest = 3
    record.shards = [ShardDigest(bits: 4, shard: 15, digest: .max)]
    return record
  }

  @Test func epochRecordsComeBack() throws {
    let record = record()
    let again = try record.bytes.withUnsafeBytes { try EpochRecord(bytes: $0) }
    #expect(again == record)
    #expect(again.records == 9)
    #expect(again.clock_ms == 1_768_000_000_200)
  }

  /// The next action makes the record one of version 2, digests of shards one of version 3; without both the bytes are those of
  /// version 1.
  @Test func epochRecordsKnowTheNextAction() throws {
    var record = record()
    #expect(record.bytes[4] == 3)
    let digests = record.shards
    record.shards = []
    #expect(record.bytes[4] == 1)
    record.actionsNext = 17
    record.events.append(.run(source: EpochEvent.actions, first: 3, last: 16, count: 5, now_ms: 1_768_000_000_300))
    #expect(record.bytes[4] == 2)
    #expect(try record.bytes.withUnsafeBytes { try EpochRecord(bytes: $0) } == record)
    record.shards = digests
    #expect(record.bytes[4] == 3)
    #expect(try record.bytes.withUnsafeBytes { try EpochRecord(bytes: $0) } == record)
    var newer = Array(record.bytes.dropLast(8))
    newer[4] = 4
    newer += newer.withUnsafeBytes { withUnsafeBytes(of: Checksum.of($0).littleEndian) { Array($0) } }
    let error = #expect(throws: ByteCodingError.self) { try newer.withUnsafeBytes { _ = try EpochRecord(bytes: $0) } }
    #expect("\(error!)".contains("version 4; this program reads up to 3"))
  }

  /// What an earlier version says of its shards is of other bytes: it is passed over.
  @Test func digestsOfEarlierVersionsAreNotCompared() throws {
    var record = record()
    // An earlier version wrote the digests into a record of version 1: the same bytes, without the one that says whether
    // there is a next action.
    var earlier = Array(record.bytes.dropLast(9))
    earlier[4] = 1
    earlier += earlier.withUnsafeBytes { withUnsafeBytes(of: Checksum.of($0).littleEndian) { Array($0) } }
    record.shards = []
    #expect(try earlier.withUnsafeBytes { try EpochRecord(bytes: $0) } == record)
  }

  /// Every single damaged bit and every shortening is noticed.
  @Test func damageIsNoticed() throws {
    let bytes = record().bytes
    for at in bytes.indices {
      for bit in 0..<8 {
        var damaged = bytes
        damaged[at] ^= 1 << UInt8(bit)
        #expect(throws: ByteCodingError.self) { try damaged.withUnsafeBytes { _ = try EpochRecord(bytes: $0) } }
      }
      #expect(throws: ByteCodingError.self) {
        try Array(bytes[0..<at]).withUnsafeBytes { _ = try EpochRecord(bytes: $0) }
      }
    }
  }

  @Test func marksComeBack() {
    for mark in [
      EpochMark(number: 0, incarnation: 1), EpochMark(number: .max, incarnation: .max, isSent: false),
      EpochMark(number: 17, incarnation: 0xbeef),
    ] { #expect(EpochMark(mark.text) == mark) }
    for text in ["", "e1", "e1:x:1", "e2:1:1", "e1:1:zz", "e1:1:1:x", "e1:1:1:s:s"] { #expect(EpochMark(text) == nil) }
  }

  /// A state written shard by shard and read back has the same digests, and judges the same.
  @Test func shardsHoldTheWholeState() throws {
    var matcher = Matcher(policy: MatchingPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    filled(0..<5_000, into: &matcher, outputs: &outputs)
    let bits = matcher.shardBits(tiesPerShard: 100)
    #expect(bits == 6)
    var copy = Matcher(policy: MatchingPolicy(), dimensionCount: 0)
    var ties = 0
    for shard in 0..<1 << bits {
      var writer = ByteWriter()
      let summary = matcher.exportShard(shard, bits: bits, into: &writer)
      ties += summary.ties
      try writer.array.withUnsafeBytes {
        var reader = ByteReader($0)
        try copy.importShard(shard, bits: bits, from: &reader)
      }
      var again = ByteWriter()
      #expect(copy.exportShard(shard, bits: bits, into: &again) == summary)
    }
    #expect(ties == 5_000)
    #expect(copy.tieCount == 5_000)
    // The watermarks and sums go their own way.
    var time = ByteWriter()
    matcher.watermarks.export(into: &time)
    matcher.exportSums(into: &time)
    try time.array.withUnsafeBytes {
      var reader = ByteReader($0)
      try copy.watermarks.restore(from: &reader)
      try copy.importSums(from: &reader)
      #expect(reader.isAtEnd)
    }
    var (first, second) = (MatchOutputs(), MatchOutputs())
    matcher.finish(outputs: &first)
    copy.finish(outputs: &second)
    #expect(first.breaks.count == 4_999)
    #expect(first.breaks.map(\.id).sorted() == second.breaks.map(\.id).sorted())
    #expect(matcher.counters == copy.counters)
    #expect(matcher.totals.lines == copy.totals.lines)
  }

  @Test func damagedShardsAreRefused() throws {
    var matcher = Matcher(policy: MatchingPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    filled(0..<20, into: &matcher, outputs: &outputs)
    var writer = ByteWriter()
    matcher.exportShard(0, bits: 0, into: &writer)
    let bytes = writer.array
    for end in stride(from: 1, to: bytes.count - 1, by: 7) {
      var copy = Matcher(policy: MatchingPolicy(), dimensionCount: 0)
      do {
        try Array(bytes[0..<end]).withUnsafeBytes {
          var reader = ByteReader($0)
          try copy.importShard(0, bits: 0, from: &reader)
        }
        // Cut between two ties, which only the manifest's digest shows.
        #expect(copy.tieCount < 20)
      } catch { #expect(error is ByteCodingError) }
    }
  }

  /// Rounds are spread over epochs, unchanged shards are not written again, two checkpoints stay.
  /// Aggregates ride along with the manifest, in chunks of their own that are deleted with it.
  @Test func aggregatesAreKept() throws {
    var matcher = Matcher(policy: MatchingPolicy(), dimensionCount: 0)
    matcher.aggregates = TaskAggregates(dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.epoch = 1
    let checkpointer = Checkpointer(task: 0, sources: ["a"])
    var contents = CheckpointContents()
    var digests: [UInt64] = []
    for epoch in 1...3 as ClosedRange<UInt64> {
      filled(Int(epoch) * 100..<Int(epoch) * 100 + 50, into: &matcher, outputs: &outputs)
      checkpointer.begin(matcher, epoch: epoch, epochsOffset: 0)
      let (writes, _) = checkpointer.advance(
        matcher, epoch: epoch, incarnation: 9, next: [1], configuration: 1, most: 100)
      for write in writes { contents.put(write.key, write.value) }
      digests.append(matcher.aggregatesDigest)
    }
    let (usable, problems) = contents.manifests(upTo: .max)
    #expect(usable.map(\.epoch) == [3, 2] && problems.isEmpty && contents.unneeded(by: usable).now == [])
    for manifest in usable {
      let bytes = try #require(try contents.aggregates(of: manifest))
      var restored = TaskAggregates(dimensionCount: 0)
      try bytes.withUnsafeBytes {
        var reader = ByteReader($0)
        try restored.restore(from: &reader, settings: AggregateSettings())
      }
      let digest = restored.digest
      #expect(digest == digests[Int(manifest.epoch) - 1])
    }
    #expect(Set(digests).count == 3)
    let key = usable[0].aggregateKey(0)
    contents.values[key] = nil
    let missing = #expect(throws: ByteCodingError.self) { try contents.aggregates(of: usable[0]) }
    #expect(missing?.description.contains("\(key) is missing") == true)
  }

  @Test func checkpointsAreIncrementalAndTrimmed() throws {
    var outputs = MatchOutputs()
    var matcher = ofAThousand(&outputs)
    let checkpointer = Checkpointer(task: 0, sources: ["a"], tiesPerShard: 100)
    var contents = CheckpointContents()
    var epoch: UInt64 = 0
    func round() {
      epoch += 1
      checkpointer.begin(matcher, epoch: epoch, epochsOffset: Int64(epoch))
      while checkpointer.isWriting {
        let (writes, _) = checkpointer.advance(
          matcher, epoch: epoch, incarnation: 9, next: [1], configuration: 1, most: 3)
        for write in writes { contents.put(write.key, write.value) }
        epoch += 1
        matcher.epoch = UInt32(epoch)
      }
    }
    round()
    #expect(checkpointer.finished == 1)
    #expect(checkpointer.newest?.shards.count == 16)
    let (first, whole) = (checkpointer.writtenBytes, checkpointer.newest!)
    #expect(Set(whole.shards.map(\.asOf)).count > 1)
    round()
    #expect(checkpointer.reusedShards == 16)
    #expect(checkpointer.writtenBytes == first)
    // One tie more changes one shard.
    filled(1_000..<1_001, into: &matcher, outputs: &outputs)
    round()
    #expect(checkpointer.reusedShards == 31)
    let (usable, problems) = contents.manifests(upTo: .max)
    #expect(usable.count == 2 && problems.isEmpty)
    #expect(contents.unneeded(by: usable).now == [] && contents.unneeded(by: usable).later == [])
    // What is newer than the newest manifest that is known may belong to one that cannot be seen yet.
    let (now, later) = contents.unneeded(by: [usable[1]])
    #expect(now == [] && later.contains(usable[0].key) && !later.contains(usable[1].key))
    for manifest in usable {
      for shard in manifest.shards.indices { _ = try contents.shard(shard, of: manifest) }
      #expect(manifest == (try manifest.bytes.withUnsafeBytes { try CheckpointManifest(bytes: $0) }))
    }
    #expect(contents.manifests(upTo: usable[1].epoch).usable == [usable[1]])
    // A missing and a damaged chunk are named.
    let key = usable[0].chunkKey(3, 0)
    var broken = contents
    broken.values[key] = nil
    let missing = #expect(throws: ByteCodingError.self) { try broken.shard(3, of: usable[0]) }
    #expect(missing?.description.contains("\(key) is missing") == true)
    broken = contents
    broken.values[key]![20] ^= 4
    let damaged = #expect(throws: ByteCodingError.self) { try broken.shard(3, of: usable[0]) }
    #expect(damaged?.description.contains("checksum") == true)
  }

  /// A round of the whole state takes the place of a running one, whose pieces go with the next checkpoint; where it cannot
  /// be finished, the running one goes on. What could not be stored counts for nothing.
  @Test func runningRoundsAreInterrupted() throws {
    var outputs = MatchOutputs()
    var matcher = ofAThousand(&outputs)
    let checkpointer = Checkpointer(task: 0, sources: ["a"], tiesPerShard: 100)
    var contents = CheckpointContents()
    func advance(_ epoch: UInt64, _ most: Int) {
      checkpointer.save()
      let (writes, _) = checkpointer.advance(
        matcher, epoch: epoch, incarnation: 9, next: [1], configuration: 1, most: most)
      for write in writes { contents.put(write.key, write.value) }
    }
    checkpointer.begin(matcher, epoch: 1, epochsOffset: 0)
    advance(1, 3)
    checkpointer.interrupt()
    checkpointer.begin(matcher, epoch: 2, epochsOffset: 0)
    advance(2, 2)
    checkpointer.resume()
    #expect(checkpointer.isWriting && checkpointer.finished == 0)
    advance(3, 4)
    checkpointer.interrupt()
    checkpointer.begin(matcher, epoch: 4, epochsOffset: 0)
    advance(4, .max)
    checkpointer.resume()
    #expect(!checkpointer.isWriting && checkpointer.finished == 1)
    let newest = try #require(checkpointer.newest)
    #expect(newest.from == 4 && newest.epoch == 4)
    let (usable, _) = contents.manifests(upTo: .max)
    #expect(usable == [newest] && contents.unneeded(by: usable).now == [])

    // Of a checkpoint that could not be stored nothing is left, and the next one removes what it has written.
    filled(1_000..<1_500, into: &matcher, outputs: &outputs)
    matcher.epoch = 5
    filled(1_500..<2_000, into: &matcher, outputs: &outputs)
    checkpointer.begin(matcher, epoch: 5, epochsOffset: 0)
    let bytes = checkpointer.writtenBytes
    advance(5, .max)
    #expect(checkpointer.finished == 2)
    checkpointer.abandon()
    #expect(checkpointer.finished == 1 && checkpointer.newest == newest && checkpointer.writtenBytes == bytes)
    checkpointer.begin(matcher, epoch: 6, epochsOffset: 0)
    advance(6, .max)
    let left = contents.manifests(upTo: .max).usable
    #expect(left.map(\.epoch) == [6, 4] && contents.unneeded(by: left).now == [])
  }
}
