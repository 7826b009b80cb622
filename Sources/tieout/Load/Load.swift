import ArgumentParser
import Configuration
import Foundation
import Simulation

struct Load: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measures the daemon under load, against reading and dropping the same topics.",
    discussion: """
      Fills topics with a seeded load of known truth, reads and drops them, then runs the daemon over them, each in a \
      process of its own, and compares the CPU time (user and system, all threads) of the two. The breaks are held \
      against the truth. Prints a table and one line of JSON. The broker is the embedded one in a process of its own, \
      the one with transactions (tieout broker --transactions), or the cluster that --bootstrap or TIEOUT_TEST_BOOTSTRAP names; topics have unique names and are deleted there.

      With --rate the load is sent while the daemon runs, with event times of now, and the time from producing a \
      record to seeing its break is measured; --soak does the same and watches the memory.

      EXIT CODES
        0  the breaks are the truth
        1  they are not
        2  the run failed

      EXAMPLES
        tieout load --records 2000000
        tieout load --shape northwind --codec zstd --workers 1
        tieout load --transactions --records 2000000
        tieout load --rate 50000 --seconds 30
        tieout load --soak 600 --rate 20000
        tieout load --bootstrap 127.0.0.1:9092 --records 10000000 --delivery exactly_once
      """)

  enum Codec: String, ExpressibleByArgument, CaseIterable {
    case none, lz4, zstd

    /// The most that a generated record takes of a partition, in hundredths of its bytes: what was seen, and a quarter
    /// more.
    var sizeInHundredths: Int {
      switch self {
      case .none: 110
      case .lz4: 50
      case .zstd: 30
      }
    }
  }

  struct ConsumerProperty: ExpressibleByArgument {
    var name: String
    var value: String

    init?(argument: String) {
      let parts = argument.split(separator: "=", maxSplits: 1)
      guard parts.count == 2 else { return nil }
      (name, value) = (String(parts[0]), String(parts[1]))
    }
  }

  @Option(help: "Records to send, about.") var records = 1_000_000
  @Option(help: "Order keys, instead of as many as the records need.") var keys: Int?
  @Option(help: "Partitions of each topic; as many as the embedded broker needs to hold the records, or 8.")
  var partitions: Int?
  @Option(help: "Workers of the daemon, and consumers that read and drop.") var workers = 2
  @Option(help: "Shape of the records: flat or northwind.") var shape: WorkloadShape = .flat
  @Option(help: "Bytes of a flat record.") var recordBytes = 330
  @Option(help: "How the records are compressed: none, lz4 or zstd.") var codec: Codec = .lz4
  @Option(help: "Faulty orders in ten thousand.") var faults = 200
  @Option(help: "Postings of an order (flat).") var postings = 1
  @Option(help: "Keys in ten thousand that carry many invoices: the skew.") var hotKeys = 0
  @Option(help: "Invoices of such a key.") var invoicesPerHotKey = 64
  @Option(help: "Postings trail their orders by up to this many orders; 50000, or 1000 with --rate.")
  var shuffle: Int?
  @Option(help: "Ties held open at a time; a quarter of the orders, or what two seconds bring with --rate.")
  var ties: Int?
  @Option(help: "at_least_once or exactly_once; what the broker can do if not given.") var delivery: Delivery?
  @Option(help: "Milliseconds of an epoch.") var epoch = 100
  @Option(help: "Most records of an epoch.") var epochRecords = 50_000
  @Flag(help: "Without checkpoints.") var noCheckpoints = false
  @Option(help: "Seconds within which the state is written once.") var checkpointInterval = 60
  @Option(help: "Seed of the load.") var seed: UInt64 = 1
  @Option(help: "Records a second, sent while the daemon runs.") var rate = 0
  @Option(help: "Seconds of --rate.") var seconds = 20
  @Option(help: "Sends --rate (20000) for so many seconds and reports how the daemon's memory grows.") var soak = 0
  @Option(name: .customLong("consumer"), help: "A property of the consumers, name=value; for both that are compared.")
  var consumer: [ConsumerProperty] = []
  @Option(help: "A real cluster.") var bootstrap: String?
  @Option(help: "Directory for configuration and logs; a temporary one if not given.") var directory: String?
  @Flag(help: "Only the line of JSON.") var json = false
  @Flag(help: "On the broker that knows transactions, exactly once, instead of the embedded one.")
  var transactions = false

  /// Records a second where the load is sent at a rate.
  var steadyRate: Int { rate > 0 ? rate : soak > 0 ? 20_000 : 0 }
  var steadySeconds: Int { soak > 0 ? soak : seconds }

  func validate() throws {
    guard records > 0, keys ?? 1 > 0, partitions ?? 1 > 0, workers > 0, (0...10_000).contains(faults),
      (1...100).contains(postings), (0...10_000).contains(hotKeys), (1...60_000).contains(invoicesPerHotKey),
      shuffle ?? 0 >= 0, ties ?? 1 > 0, epoch > 0, epochRecords > 0, rate >= 0, seconds > 0, soak >= 0,
      checkpointInterval > 0
    else { throw ValidationError("Counts must be at least 1; --faults and --hot-keys at most 10000.") }
  }

  var workload: WorkloadOptions {
    var options = WorkloadOptions()
    options.shape = shape
    options.seed = seed
    options.recordBytes = recordBytes
    options.faultsPer10000 = faults
    options.postingsPerOrder = postings
    options.hotKeysPer10000 = hotKeys
    options.invoicesPerHotKey = invoicesPerHotKey
    let skew = 1 + Double(hotKeys) / 10_000 * Double(invoicesPerHotKey - 1)
    let perOrder = (shape == .flat ? Double(1 + postings) : 4.75) * skew
    if steadyRate > 0 {
      options.orders = keys ?? max(1, Int(Double(steadyRate * steadySeconds) / perOrder))
      options.interval_us = max(1, Int64(perOrder * 1_000_000 / Double(steadyRate)))
      options.shuffle = shuffle ?? 1_000
      options.postsAtArrival = true
      options.postingLag_ms = 0
    } else {
      options.orders = keys ?? max(1, Int(Double(records) / perOrder))
      options.shuffle = min(shuffle ?? 50_000, max(1, options.orders / 4))
      // Within a year, so that nothing lies in the future.
      options.interval_us = min(1_000_000, 300 * 86_400_000_000 / Int64(options.orders))
      options.start_ms = 1_704_067_200_000
    }
    return options
  }

  func run() throws {
    do {
      let run = try LoadRun(self)
      defer { run.endAll() }
      let report: LoadReport
      do { report = try run.run() } catch { throw run.explained(error) }
      if !json { print(report.table) }
      print(report.json)
      if !report.isGood { throw ExitCode(1) }
    } catch let code as ExitCode {
      throw code
    } catch { fail(error) }
  }
}
