import CZstd
import Domain
import Matching

/// The table of contents of a checkpoint: which chunks hold which shard, as of which epoch.
///
/// The shards are written one after the other while the task goes on, each as of its own epoch between `from` and
/// `epoch`. A restore begins with the time state of `from`, replays the epochs after it, takes each shard in when the
/// replay has come to its epoch, and has the whole state at `epoch`.
public struct CheckpointManifest: Sendable, Equatable {
  public static let version: UInt8 = 2
  static let magic: UInt32 = 0x4d50_4954  // "TIPM"

  public struct Shard: Sendable, Equatable {
    /// The bytes show the shard as it was at the end of this epoch.
    public var asOf: UInt64
    /// The epoch and the incarnation that wrote them: part of the chunks' keys.
    public var writtenAt: UInt64
    public var writer: UInt64
    public var chunks: Int
    public var ties: Int
    /// Of the chunks together, uncompressed.
    public var bytes: Int
    public var digest: UInt64
  }

  public var task: Int32
  public var epoch: UInt64
  public var incarnation: UInt64
  public var from: UInt64
  /// Where in the epochs topic the records after `from` begin, or before that.
  public var epochsOffset: Int64
  public var configuration: UInt64
  /// Names of the sources in their order: facts carry the index.
  public var sources: [String]
  public var bits: Int
  public var shards: [Shard]
  /// Watermarks at `from`; watermarks, sums and next offsets at `epoch`.
  public var timeAtStart: [UInt8]
  public var time: [UInt8]
  public var sums: [UInt8]
  public var next: [Int64]
  /// The next action at `epoch`; nil where actions are not read.
  public var actionsNext: Int64?
  /// Records that waited for their master data at `from`, in the order in which they came.
  public var held: [HeldPlace] = []
  /// By which posting policies the sums were made at `from` (`Matcher.exportPolicies`); empty where a version from before
  /// that has written it.
  public var policies: [UInt8] = []
  /// Dimensions that postings have from their orders in the aggregates and in what is in dispute, a bit each.
  public var inheritedDimensions: UInt8 = 0
  /// Names of the dimensions in their order; nil where an earlier version has written it.
  public var dimensions: [String]?
  /// Format of the shards and the sums.
  public var stateVersion = Matcher.stateVersions.lowerBound
  /// The aggregates at `epoch`, in chunks of their own; 0 chunks where there are none.
  public var aggregateChunks = 0
  public var aggregateBytes = 0

  public var key: String { "m.\(hex(epoch)).\(hex(incarnation))" }

  public func chunkKey(_ shard: Int, _ chunk: Int) -> String {
    let entry = shards[shard]
    return CheckpointManifest.chunkKey(
      bits: bits, shard: shard, epoch: entry.writtenAt, incarnation: entry.writer, chunk: chunk)
  }

  static func chunkKey(bits: Int, shard: Int, epoch: UInt64, incarnation: UInt64, chunk: Int) -> String {
    "s.\(bits).\(shard).\(hex(epoch)).\(hex(incarnation)).\(chunk)"
  }

  public func aggregateKey(_ chunk: Int) -> String { "a.\(hex(epoch)).\(hex(incarnation)).\(chunk)" }

  /// The epoch in which what stands under a key was written; nil for a key of another kind.
  static func epoch(ofKey key: String) -> UInt64? {
    let parts = key.split(separator: ".")
    switch (parts.first, parts.count) {
    case ("m", 3), ("a", 4): return UInt64(parts[1], radix: 16)
    case ("s", 6): return UInt64(parts[3], radix: 16)
    default: return nil
    }
  }

  /// Every key that the checkpoint needs.
  public var keys: [String] {
    CheckpointManifest.chunkKeys(shards, bits: bits) + (0..<aggregateChunks).map { aggregateKey($0) } + [key]
  }

  static func chunkKeys(_ shards: [Shard], bits: Int) -> [String] {
    shards.enumerated().flatMap { shard, entry in
      (0..<entry.chunks).map {
        chunkKey(bits: bits, shard: shard, epoch: entry.writtenAt, incarnation: entry.writer, chunk: $0)
      }
    }
  }

  public var ties: Int { shards.reduce(0) { $0 + $1.ties } }

  public var bytes: [UInt8] {
    var writer = ByteWriter()
    writer.write(CheckpointManifest.magic)
    writer.write(CheckpointManifest.version)
    writer.write(stateVersion)
    writer.write(task)
    for value in [epoch, incarnation, from, configuration] { writer.write(value) }
    writer.write(epochsOffset)
    writer.writeVarint(UInt64(sources.count))
    for source in sources { writer.write(text: source) }
    writer.write(UInt8(bits))
    for shard in shards {
      writer.writeVarint(shard.asOf)
      writer.writeVarint(shard.writtenAt)
      writer.write(shard.writer)
      writer.writeVarint(UInt64(shard.chunks))
      writer.writeVarint(UInt64(shard.ties))
      writer.writeVarint(UInt64(shard.bytes))
      writer.write(shard.digest)
    }
    for part in [timeAtStart, time, sums] {
      writer.writeVarint(UInt64(part.count))
      writer.write(bytes: part)
    }
    writer.writeVarint(UInt64(next.count))
    for offset in next { writer.writeSigned(offset) }
    writer.writeVarint(UInt64(aggregateChunks))
    writer.writeVarint(UInt64(aggregateBytes))
    if stateVersion >= 3 {
      writer.write(UInt8(actionsNext == nil ? 0 : 1))
      if let actionsNext { writer.writeSigned(actionsNext) }
    }
    if !held.isEmpty || !policies.isEmpty || stateVersion >= 5 {
      writer.writeVarint(UInt64(held.count))
      for place in held {
        writer.write(place.source)
        writer.write(place.offset)
        writer.write(place.since_ms)
      }
    }
    if !policies.isEmpty || stateVersion >= 5 {
      writer.writeVarint(UInt64(policies.count))
      writer.write(bytes: policies)
    }
    if stateVersion >= 5 { writer.write(inheritedDimensions) }
    // Earlier versions do not read on.
    if stateVersion >= 5, let dimensions {
      writer.writeVarint(UInt64(dimensions.count))
      for dimension in dimensions { writer.write(text: dimension) }
    }
    writer.write(Checksum.of(writer.bytes))
    return writer.array
  }

  public init(bytes: UnsafeRawBufferPointer) throws(ByteCodingError) {
    let content = try Checksum.verified(bytes, "the checkpoint's manifest")
    var reader = ByteReader(content)
    guard try reader.read(UInt32.self) == CheckpointManifest.magic else { throw ByteCodingError("not a manifest") }
    let version: UInt8 = try reader.read()
    stateVersion = try reader.read()
    guard version == CheckpointManifest.version, Matcher.stateVersions.contains(stateVersion) else {
      throw ByteCodingError("a checkpoint of version \(version).\(stateVersion), which this program does not read")
    }
    task = try reader.read()
    epoch = try reader.read()
    incarnation = try reader.read()
    from = try reader.read()
    configuration = try reader.read()
    epochsOffset = try reader.read()
    sources = []
    for _ in 0..<(try reader.readCount(atMost: content.count)) { sources.append(try reader.readText()) }
    bits = Int(try reader.read(UInt8.self))
    guard bits <= 20 else { throw ByteCodingError("\(bits) bits of shards cannot be") }
    shards = []
    for _ in 0..<1 << bits {
      shards.append(
        Shard(
          asOf: try reader.readVarint(), writtenAt: try reader.readVarint(), writer: try reader.read(),
          chunks: try reader.readCount(atMost: 1 << 20), ties: try reader.readCount(atMost: .max),
          bytes: try reader.readCount(atMost: .max), digest: try reader.read()))
    }
    func part() throws(ByteCodingError) -> [UInt8] {
      Array(try reader.readRaw(try reader.readCount(atMost: content.count)))
    }
    timeAtStart = try part()
    time = try part()
    sums = try part()
    next = []
    for _ in 0..<(try reader.readCount(atMost: content.count)) { next.append(try reader.readSigned()) }
    aggregateChunks = try reader.readCount(atMost: 1 << 20)
    aggregateBytes = try reader.readCount(atMost: 1 << 32)
    if stateVersion >= 3, try reader.read(UInt8.self) != 0 { actionsNext = try reader.readSigned() }
    if !reader.isAtEnd {
      for _ in 0..<(try reader.readCount(atMost: HeldPlace.most)) {
        held.append(HeldPlace(source: try reader.read(), offset: try reader.read(), since_ms: try reader.read()))
      }
    }
    if !reader.isAtEnd { policies = try part() }
    if stateVersion >= 5 { inheritedDimensions = try reader.read() }
    if !reader.isAtEnd {
      var names: [String] = []
      for _ in 0..<(try reader.readCount(atMost: content.count)) { names.append(try reader.readText()) }
      dimensions = names
    }
  }

  init(
    task: Int32, epoch: UInt64, incarnation: UInt64, from: UInt64, epochsOffset: Int64, configuration: UInt64,
    sources: [String], bits: Int, shards: [Shard], timeAtStart: [UInt8], time: [UInt8], sums: [UInt8], next: [Int64]
  ) {
    self.task = task
    self.epoch = epoch
    self.incarnation = incarnation
    self.from = from
    self.epochsOffset = epochsOffset
    self.configuration = configuration
    self.sources = sources
    self.bits = bits
    self.shards = shards
    self.timeAtStart = timeAtStart
    self.time = time
    self.sums = sums
    self.next = next
  }
}

/// Where a record stands that waits for its master data.
public struct HeldPlace: Sendable, Equatable {
  public var source: UInt16
  /// In the partition of the task.
  public var offset: Int64
  /// The clock reading with which it was taken in.
  public var since_ms: Int64
  /// As many fit into a manifest, which is one message.
  public static let most = 20_000

  public init(source: UInt16, offset: Int64, since_ms: Int64) {
    self.source = source
    self.offset = offset
    self.since_ms = since_ms
  }
}

private func hex(_ value: UInt64) -> String { String(value, radix: 16) }

/// One thing to be stored: nil deletes the key.
public struct CheckpointWrite: Sendable, Equatable {
  public var key: String
  public var value: [UInt8]?

  public init(key: String, value: [UInt8]?) {
    self.key = key
    self.value = value
  }
}

/// A part of a shard as it is stored: a zstd frame between a head and a checksum.
enum Chunk {
  static let magic: UInt32 = 0x4350_4954  // "TIPC"
  static let version: UInt8 = 1
  /// Compresses state at 500 to 530 MB/s into a sixth more than level 1 does at 300.
  static let level: Int32 = -3

  static func encode(_ bytes: UnsafeRawBufferPointer, context: OpaquePointer) -> [UInt8] {
    let bound = ZSTD_compressBound(bytes.count)
    var writer = ByteWriter(capacity: bound + 32)
    writer.write(magic)
    writer.write(version)
    writer.write(UInt32(bytes.count))
    writer.write(atMost: bound) {
      let size = ZSTD_compressCCtx(context, $0, bound, bytes.baseAddress, bytes.count, level)
      precondition(ZSTD_isError(size) == 0, "zstd does not compress into its own bound")
      return size
    }
    writer.write(Checksum.of(writer.bytes))
    return writer.array
  }

  /// Puts the bytes of a chunk where a buffer begins.
  /// - Returns: how many they are.
  static func decode(
    _ bytes: [UInt8], into target: UnsafeMutableRawBufferPointer, _ context: OpaquePointer
  ) throws(ByteCodingError) -> Int {
    var failure: ByteCodingError?
    var written = 0
    bytes.withUnsafeBytes { raw in
      do throws(ByteCodingError) {
        let content = try Checksum.verified(raw, "the chunk")
        var reader = ByteReader(content)
        guard try reader.read(UInt32.self) == magic, try reader.read(UInt8.self) == version else {
          throw ByteCodingError("not a chunk of this version")
        }
        let size = Int(try reader.read(UInt32.self))
        guard size <= target.count else {
          throw ByteCodingError("a chunk of \(size) bytes, where \(target.count) are missing")
        }
        let frame = try reader.readRaw(content.count - reader.offset)
        written = ZSTD_decompressDCtx(context, target.baseAddress, size, frame.baseAddress, frame.count)
        guard ZSTD_isError(written) == 0, written == size else {
          throw ByteCodingError("the chunk does not decompress")
        }
      } catch { failure = error }
    }
    if let failure { throw failure }
    return written
  }
}

/// Writes checkpoints of one task, a few shards after every epoch, so that no pause grows with the state.
public final class Checkpointer {
  /// Ties in a shard, about: a shard is exported and compressed in well under 10 ms.
  public static let tiesPerShard = 1_024
  private let tiesPerShard: Int
  /// Uncompressed bytes of a chunk; compressed, and even if they do not compress, they stay under Kafka's default
  /// message limit of 1 MiB.
  public static let chunkBytes = 768 << 10
  /// Uncompressed bytes that are written between two batches.
  public static let epochBytes = 1 << 19
  /// The most bytes that a message with a chunk has: one that does not compress, with its frame and its key.
  public static var largestMessage: Int { ZSTD_compressBound(chunkBytes) + 512 }

  private let task: Int32
  private let sources: [String]
  private let dimensions: [String]
  private let context: OpaquePointer
  private var scratch = ByteWriter(capacity: 1 << 16)

  /// The round that is being written.
  private struct Round {
    var from: UInt64
    var epochsOffset: Int64
    var timeAtStart: [UInt8]
    var held: [HeldPlace]
    var policies: [UInt8]
    var bits: Int
    var shards: [CheckpointManifest.Shard] = []

    var keys: [String] { CheckpointManifest.chunkKeys(shards, bits: bits) }
  }

  /// How far it is; taken back where nothing of it has been stored.
  private struct Progress {
    var round: Round?
    /// The round that was running when one of the whole state began.
    var interrupted: Round?
    /// Finished checkpoints that are kept, the older first.
    var kept: [CheckpointManifest] = []
    /// Keys of rounds that were given up, to be deleted with the next checkpoint.
    var dropped: Set<String> = []
    var finished = 0
    var writtenBytes = 0
  }
  private var progress = Progress()
  private var saved = Progress()
  private var round: Round? {
    get { progress.round }
    _modify { yield &progress.round }
  }
  private var kept: [CheckpointManifest] {
    get { progress.kept }
    _modify { yield &progress.kept }
  }
  public var finished: Int { progress.finished }
  public var writtenBytes: Int { progress.writtenBytes }
  /// Epochs by which shards are said to be older than they are. Only the simulator plants this defect.
  public var plantedShift: UInt64 = 0
  public private(set) var reusedShards = 0

  /// - Parameter kept: Checkpoints found in the store, so that they are deleted when newer ones take their place.
  public init(
    task: Int32, sources: [String], dimensions: [String] = [], kept: [CheckpointManifest] = [],
    tiesPerShard: Int = Checkpointer.tiesPerShard
  ) {
    self.tiesPerShard = tiesPerShard
    self.task = task
    self.sources = sources
    self.dimensions = dimensions
    progress.kept = kept.sorted { $0.epoch < $1.epoch }
    context = ZSTD_createCCtx()
  }

  deinit { ZSTD_freeCCtx(context) }

  /// Whether a round is being written; a new one wants to know where the epochs topic ends.
  public var isWriting: Bool { round != nil }
  public var newest: CheckpointManifest? { kept.last }
  /// Shards of the running round.
  public var shardCount: Int { round.map { 1 << $0.bits } ?? 0 }

  /// Remembers how far the checkpoint is, for `rollback`.
  public func save() { saved = progress }

  /// Whether a checkpoint has become complete since `save`.
  public var isFinishedSinceSave: Bool { finished > saved.finished }

  /// What was written since `save` has not been stored: it is as if it had not been written.
  public func rollback() { progress = saved }

  /// What was written since `save` could not be stored, and the epoch is committed all the same: the round is given up.
  public func abandon() {
    let lost = isFinishedSinceSave ? kept.last?.keys : round?.keys
    progress = saved
    for keys in [lost, round?.keys, progress.interrupted?.keys] { progress.dropped.formUnion(keys ?? []) }
    progress.round = nil
    progress.interrupted = nil
  }

  /// A running round, whose first shards are of earlier epochs, waits for one that begins now.
  public func interrupt() {
    progress.interrupted = round
    round = nil
  }

  /// The round that has waited goes on, where the one for which it did is not finished.
  public func resume() {
    guard let interrupted = progress.interrupted else { return }
    progress.dropped.formUnion(round?.keys ?? [])
    progress.round = interrupted
    progress.interrupted = nil
  }

  /// Begins a round with the state at the end of an epoch.
  /// - Parameter held: Records that wait for their master data then.
  public func begin(_ matcher: borrowing Matcher, epoch: UInt64, epochsOffset: Int64, held: [HeldPlace] = []) {
    var policies = ByteWriter(capacity: 16)
    matcher.exportPolicies(into: &policies)
    round = Round(
      from: epoch, epochsOffset: epochsOffset, timeAtStart: timeBytes(matcher), held: held, policies: policies.array,
      bits: matcher.shardBits(tiesPerShard: tiesPerShard))
  }

  /// What changes: called before epoch `epoch` is committed, with the state at its end.
  /// - Parameters:
  ///   - incarnation: The one that the epoch's record carries.
  ///   - most: How many shards to look at.
  ///   - bytes: Stops after as many uncompressed bytes.
  /// - Returns: what is to be stored, and the digests of the shards that were written.
  public func advance(
    _ matcher: borrowing Matcher, epoch: UInt64, incarnation: UInt64, next: [Int64], actionsNext: Int64? = nil,
    configuration: UInt64, most: Int,
    bytes limit: Int = Checkpointer.epochBytes
  ) -> (writes: [CheckpointWrite], digests: [ShardDigest]) {
    guard round != nil else { return ([], []) }
    var writes: [CheckpointWrite] = []
    var digests: [ShardDigest] = []
    var exported = 0
    var looked = 0
    while looked < most, exported < limit, round!.shards.count < 1 << round!.bits {
      looked += 1
      let shard = round!.shards.count
      let bits = round!.bits
      if let last = kept.last, last.bits == bits, last.shards[shard].asOf <= UInt64(UInt32.max),
        !matcher.isChanged(shard: shard, bits: bits, since: UInt32(last.shards[shard].asOf))
      {
        var same = last.shards[shard]
        same.asOf = epoch
        round!.shards.append(same)
        reusedShards += 1
        continue
      }
      scratch.removeAll()
      let summary = matcher.exportShard(shard, bits: bits, into: &scratch)
      var chunks = 0
      for value in encodeChunks() {
        writes.append(
          CheckpointWrite(
            key: CheckpointManifest.chunkKey(
              bits: bits, shard: shard, epoch: epoch, incarnation: incarnation, chunk: chunks), value: value))
        chunks += 1
      }
      exported += scratch.count
      round!.shards.append(
        .init(
          asOf: max(round!.from, epoch - plantedShift), writtenAt: epoch, writer: incarnation, chunks: chunks,
          ties: summary.ties, bytes: scratch.count,
          digest: summary.digest))
      digests.append(ShardDigest(bits: bits, shard: shard, digest: summary.digest))
    }
    if let done = round, done.shards.count == 1 << done.bits {
      var sums = ByteWriter()
      matcher.exportSums(into: &sums)
      var manifest = CheckpointManifest(
        task: task, epoch: epoch, incarnation: incarnation, from: done.from, epochsOffset: done.epochsOffset,
        configuration: configuration, sources: sources, bits: done.bits, shards: done.shards,
        timeAtStart: done.timeAtStart, time: timeBytes(matcher), sums: sums.array, next: next)
      manifest.actionsNext = actionsNext
      manifest.held = done.held
      manifest.policies = done.policies
      manifest.dimensions = dimensions
      manifest.inheritedDimensions = matcher.inheritedDimensions
      manifest.stateVersion = Matcher.stateVersion
      if matcher.hasAggregates {
        scratch.removeAll()
        matcher.exportAggregates(into: &scratch)
        manifest.aggregateBytes = scratch.count
        for value in encodeChunks() {
          writes.append(CheckpointWrite(key: manifest.aggregateKey(manifest.aggregateChunks), value: value))
          manifest.aggregateChunks += 1
        }
      }
      writes.append(CheckpointWrite(key: manifest.key, value: manifest.bytes))
      kept.append(manifest)
      progress.dropped.formUnion(progress.interrupted?.keys ?? [])
      progress.interrupted = nil
      writes += trim()
      round = nil
      progress.finished += 1
    }
    return (writes, digests)
  }

  /// What the scratch space holds, cut and compressed.
  private func encodeChunks() -> [[UInt8]] {
    var chunks: [[UInt8]] = []
    var start = 0
    while start < scratch.count {
      let end = min(scratch.count, start + Checkpointer.chunkBytes)
      chunks.append(Chunk.encode(UnsafeRawBufferPointer(rebasing: scratch.bytes[start..<end]), context: context))
      progress.writtenBytes += chunks.last!.count
      start = end
    }
    return chunks
  }

  /// Keeps the two newest checkpoints, deletes what only older ones and rounds that were given up need.
  private func trim() -> [CheckpointWrite] {
    var gone = progress.dropped
    for old in kept.dropLast(2) { gone.formUnion(old.keys) }
    guard !gone.isEmpty else { return [] }
    let needed = Set(kept.suffix(2).flatMap(\.keys))
    kept = kept.suffix(2)
    progress.dropped = []
    return gone.subtracting(needed).sorted().map { CheckpointWrite(key: $0, value: nil) }
  }

  private func timeBytes(_ matcher: borrowing Matcher) -> [UInt8] {
    var writer = ByteWriter(capacity: 256)
    matcher.watermarks.export(into: &writer)
    return writer.array
  }
}

/// Opens shards one after the other: what zstd needs for it is set up once. For one thread.
public final class ShardOpener {
  /// A shard is of some thousand ties; damaged bytes must not ask for more memory than there is.
  static let mostBytes = 1 << 30
  let context: OpaquePointer

  public init() { context = ZSTD_createDCtx() }

  deinit { ZSTD_freeDCtx(context) }
}

/// What a store holds of one task.
public struct CheckpointContents: Sendable {
  /// The newest value of each key.
  public var values: [String: [UInt8]] = [:]
  /// What of the store could not be read.
  public var problems: [String] = []

  public init() {}

  public mutating func put(_ key: String, _ value: [UInt8]?) { values[key] = value }

  /// The manifests that can be read and lie at or before an epoch, the newest first; and what is wrong with others.
  public func manifests(upTo epoch: UInt64) -> (usable: [CheckpointManifest], problems: [String]) {
    var usable: [CheckpointManifest] = []
    var problems = problems
    for (key, value) in values.sorted(by: { $0.key < $1.key }) where key.hasPrefix("m.") {
      do throws(ByteCodingError) {
        var failure: ByteCodingError?
        var manifest: CheckpointManifest?
        value.withUnsafeBytes { bytes in
          do throws(ByteCodingError) { manifest = try CheckpointManifest(bytes: bytes) } catch { failure = error }
        }
        if let failure { throw failure }
        if manifest!.epoch <= epoch { usable.append(manifest!) }
      } catch {
        problems.append("checkpoint \(key): \(error)")
      }
    }
    usable.sort { $0.epoch > $1.epoch }
    return (usable, problems)
  }

  /// The bytes of a shard, put together and checked against the manifest.
  public func shard(
    _ shard: Int, of manifest: CheckpointManifest, _ opener: ShardOpener = ShardOpener()
  ) throws(ByteCodingError) -> [UInt8] {
    let entry = manifest.shards[shard]
    return try bytes(
      (0..<entry.chunks).map { manifest.chunkKey(shard, $0) }, count: entry.bytes, "shard \(shard)", opener)
  }

  /// The bytes of the aggregates; nil where the checkpoint has none.
  public func aggregates(of manifest: CheckpointManifest) throws(ByteCodingError) -> [UInt8]? {
    guard manifest.aggregateChunks > 0 else { return nil }
    return try bytes(
      (0..<manifest.aggregateChunks).map { manifest.aggregateKey($0) }, count: manifest.aggregateBytes,
      "the aggregates", ShardOpener())
  }

  private func bytes(
    _ keys: [String], count wanted: Int, _ what: String, _ opener: ShardOpener
  ) throws(ByteCodingError) -> [UInt8] {
    guard wanted <= ShardOpener.mostBytes else { throw ByteCodingError("\(what) of \(wanted) bytes cannot be") }
    var failure: ByteCodingError?
    let bytes = [UInt8](unsafeUninitializedCapacity: wanted) { buffer, count in
      do throws(ByteCodingError) {
        for key in keys {
          guard let value = values[key] else { throw ByteCodingError("chunk \(key) is missing") }
          do throws(ByteCodingError) {
            let rest = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[count...])
            count += try Chunk.decode(value, into: rest, opener.context)
          } catch {
            throw ByteCodingError("chunk \(key): \(error)")
          }
        }
      } catch { failure = error }
    }
    if let failure { throw failure }
    guard bytes.count == wanted else {
      throw ByteCodingError("\(what) has \(bytes.count) bytes instead of \(wanted)")
    }
    return bytes
  }

  /// Keys that none of these checkpoints needs. `later` are those written after the newest of them: whoever wrote them
  /// may have finished a checkpoint in its very last epoch, whose manifest cannot be seen yet. They must stay until there
  /// is a newer one.
  public func unneeded(by manifests: [CheckpointManifest]) -> (now: [String], later: [String]) {
    let needed = Set(manifests.flatMap(\.keys))
    let newest = manifests.map(\.epoch).max() ?? 0
    var (now, later): ([String], [String]) = ([], [])
    for key in values.keys.sorted() where !needed.contains(key) {
      if CheckpointManifest.epoch(ofKey: key) ?? 0 > newest { later.append(key) } else { now.append(key) }
    }
    return (now, later)
  }
}
