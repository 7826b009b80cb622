import Aggregates
import Checkpoints
import Configuration
import Domain
import Matching

/// Bringing a task back from a checkpoint; the epochs after it come in as they did first.
extension TaskEngine {
  /// - Parameter forgetsPolicies: Only the simulator plants this defect.
  func beginRestore(_ manifest: CheckpointManifest, forgetsPolicies: Bool = false) throws(ByteCodingError) {
    mark = EpochMark(number: manifest.from, incarnation: 0)
    // What is replayed next counts as changed since.
    matcher.epoch = UInt32(truncatingIfNeeded: manifest.from + 1)
    matcher.beginRestore(bits: manifest.bits, ties: manifest.ties, version: manifest.stateVersion)
    if manifest.policies.isEmpty {
      matcher.beginWithoutPolicies()
    } else if !forgetsPolicies {
      try withReader(manifest.policies) { (reader: inout ByteReader) throws(ByteCodingError) in
        try matcher.importPolicies(from: &reader)
      }
    }
    // Until the sums are there, what is found is in dispute where the state has it.
    matcher.inheritedDimensions = manifest.inheritedDimensions
    try restoreTime(manifest.timeAtStart)
    sealedWatermark_ms = matcher.watermarks.current_ms
  }

  /// - Returns: the digest of what came in.
  func importShard(_ shard: Int, bits: Int, bytes: [UInt8]) throws(ByteCodingError) -> UInt64 {
    var digest: UInt64 = 0
    try withReader(bytes) { (reader: inout ByteReader) throws(ByteCodingError) in
      digest = try matcher.importShard(shard, bits: bits, from: &reader).digest
    }
    return digest
  }

  /// Every shard is in, and the replay has come to the checkpoint's epoch.
  /// - Parameters:
  ///   - aggregates: The checkpoint's; nil where it has none. Then they begin with the ties that are held.
  ///   - countsQuantities: False for a planted defect.
  ///   - forgetsSources: True for a planted defect.
  func endRestore(
    _ manifest: CheckpointManifest, aggregates: [UInt8]? = nil, countsQuantities: Bool = true,
    forgetsSources: Bool = false
  ) throws(ByteCodingError) {
    matcher.endRestore()
    beginAggregates(countsQuantities: countsQuantities)
    var knowsDisputes = false
    let hasAggregates = aggregates != nil && configuration.aggregates != nil
    if let aggregates, let settings = configuration.aggregates {
      try withReader(aggregates) { (reader: inout ByteReader) throws(ByteCodingError) in
        knowsDisputes = try matcher.aggregates!.restore(from: &reader, settings: settings)
      }
    }
    var writer = ByteWriter()
    matcher.watermarks.export(into: &writer)
    guard writer.array == manifest.time else {
      throw ByteCodingError("the replay did not lead to the watermarks that the checkpoint states")
    }
    try withReader(manifest.sums) { (reader: inout ByteReader) throws(ByteCodingError) in
      try matcher.importSums(from: &reader)
    }
    if forgetsSources { matcher.forgetSources() }
    next = manifest.next + next.dropFirst(manifest.next.count)
    if let offset = manifest.actionsNext { next[actionsInput] = offset }
    mark = EpochMark(number: manifest.epoch, incarnation: manifest.incarnation)
    matcher.epoch = UInt32(truncatingIfNeeded: manifest.epoch + 1)
    if hasAggregates {
      matcher.inheritedDimensions = manifest.inheritedDimensions
      matcher.inherit(inheritedDimensions, movesDisputes: knowsDisputes)
      matcher.takeBackCancelled()
    } else {
      matcher.addHeldFacts()
    }
    // Where they begin now, or are of an earlier version, the breaks that are open are in dispute all the same.
    if !knowsDisputes { matcher.chargeOpenBreaks() }
    toldOpen = matcher.counters.open
    sealedWatermark_ms = matcher.watermarks.current_ms
  }

  private func restoreTime(_ bytes: [UInt8]) throws(ByteCodingError) {
    try withReader(bytes) { (reader: inout ByteReader) throws(ByteCodingError) in
      try matcher.watermarks.restore(from: &reader)
    }
  }

  private func withReader(
    _ bytes: [UInt8], _ body: (inout ByteReader) throws(ByteCodingError) -> Void
  ) throws(ByteCodingError) {
    var failure: ByteCodingError?
    bytes.withUnsafeBytes { raw in
      var reader = ByteReader(raw)
      do throws(ByteCodingError) { try body(&reader) } catch { failure = error }
    }
    if let failure { throw failure }
  }
}
