import ArgumentParser
import Checkpoints
import Domain
import Foundation
import Matching
import Pipeline

struct Measure: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measures parts of the program on this machine.", shouldDisplay: false,
    subcommands: [MeasureCheckpoints.self, MeasureEngine.self], defaultSubcommand: MeasureCheckpoints.self)
}

struct MeasureCheckpoints: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "checkpoints",
    abstract: "Measures what checkpoints cost: pauses, size, restore, memory.",
    discussion: """
      Fills one task with open ties, writes a checkpoint as the daemon does (a few shards an epoch), reads it back, and \
      prints the times of this machine.

      EXAMPLE
        tieout measure --ties 5000000
      """)

  @Option(help: "Open ties.") var ties = 1_000_000
  @Option(help: "Postings of each tie.") var postings = 0
  @Option(help: "Milliseconds in which the checkpoint is to be written, in epochs of 100 ms.") var interval = 60_000

  func validate() throws {
    guard ties > 0, (0...4).contains(postings), interval >= 100 else {
      throw ValidationError("--ties must be at least 1, --postings from 0 to 4, --interval at least 100.")
    }
  }

  private func microseconds() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
  }

  func run() throws {
    do {
      var matcher = Matcher(policy: MatchingPolicy(), dimensionCount: 0)
      fill(&matcher)
      let perTie = Double(matcher.footprintBytes) / Double(ties)
      print("\(matcher.tieCount) open ties, \(postings) postings each: \(Int(perTie)) bytes of memory a tie")

      let checkpointer = Checkpointer(task: 0, sources: ["orders", "ledger"])
      var contents = CheckpointContents()
      matcher.epoch = 1
      let begun = microseconds()
      checkpointer.begin(matcher, epoch: 1, epochsOffset: 0)
      let most = max(1, (checkpointer.shardCount * 100 * 2 + interval - 1) / interval)
      var pauses = [microseconds() - begun]
      var epoch: UInt64 = 1
      while checkpointer.isWriting {
        let started = microseconds()
        let (writes, _) = checkpointer.advance(
          matcher, epoch: epoch, incarnation: 1, next: [0, 0], configuration: 0, most: most)
        pauses.append(microseconds() - started)
        for write in writes { contents.put(write.key, write.value) }
        epoch += 1
      }
      let manifest = checkpointer.newest!
      pauses.sort()
      func percentile(_ share: Double) -> Double {
        Double(pauses[min(pauses.count - 1, Int(share * Double(pauses.count)))]) / 1_000
      }
      let raw = manifest.shards.reduce(0) { $0 + $1.bytes }
      print(
        String(
          format:
            "checkpoint: %d shards, %d an epoch; pause p50 %.2f ms, p99 %.2f ms, longest %.2f ms; %.1f bytes a tie "
            + "stored, %.1f before compression", manifest.shards.count, most, percentile(0.5), percentile(0.99),
          percentile(1), Double(checkpointer.writtenBytes) / Double(ties), Double(raw) / Double(ties)))

      let started = microseconds()
      let opener = ShardOpener()
      var copy = Matcher(policy: MatchingPolicy(), dimensionCount: 0)
      copy.beginRestore(bits: manifest.bits, ties: manifest.ties)
      for shard in manifest.shards.indices {
        try contents.shard(shard, of: manifest, opener).withUnsafeBytes {
          var reader = ByteReader($0)
          try copy.importShard(shard, bits: manifest.bits, from: &reader)
        }
      }
      copy.endRestore()
      let seconds = Double(microseconds() - started) / 1e6
      print(String(format: "restore: %.2f s, %.2f million ties a second", seconds, Double(ties) / seconds / 1e6))
      guard copy.tieCount == matcher.tieCount else { throw RecoveryError("the restored state is not whole") }
    } catch { fail(error) }
  }

  private func fill(_ matcher: inout Matcher) {
    var outputs = MatchOutputs()
    var key = Array("SO-2026-00000000".utf8)
    let document = Array("INV-00000000".utf8)
    let roles: [AccountRole] = [.receivable, .revenue, .tax, .freight]
    document.withUnsafeBufferPointer { document in
      for number in 0..<ties {
        var rest = number
        for at in stride(from: 15, through: 8, by: -1) {
          key[at] = UInt8(0x30 + rest % 10)
          rest /= 10
        }
        key.withUnsafeBufferPointer { key in
          var event = OrderEvent()
          event.order = ByteView(key)
          event.id = ByteView(key)
          event.document = ByteView(document)
          event.kind = .invoiced
          event.currency = Currency("USD")!
          event.time_ms = 1_768_000_000_000 + Int64(number)
          event.amounts[.gross] = Int64(number)
          event.amounts[.net] = Int64(number)
          event.position = RecordPosition(source: 0, partition: 0, offset: Int64(number))
          withUnsafePointer(to: &event) {
            matcher.apply(
              orders: UnsafeBufferPointer(start: $0, count: 1), now_ms: 1_768_100_000_000, outputs: &outputs)
          }
          for at in 0..<postings {
            var posting = Posting()
            posting.order = ByteView(key)
            posting.document = ByteView(document)
            posting.role = roles[at]
            posting.currency = event.currency
            posting.amount = Int64(number)
            posting.time_ms = event.time_ms
            posting.position = RecordPosition(source: 1, partition: 0, offset: Int64(number * 4 + at))
            withUnsafePointer(to: &posting) {
              matcher.apply(
                postings: UnsafeBufferPointer(start: $0, count: 1), now_ms: 1_768_100_000_000, outputs: &outputs)
            }
          }
        }
      }
    }
  }
}
