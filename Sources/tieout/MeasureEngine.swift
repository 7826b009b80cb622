import ArgumentParser
import Foundation
import Pipeline
import Simulation

struct MeasureEngine: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "engine",
    abstract: "Measures the engine on one thread, from bytes in memory to encoded breaks, stage by stage.",
    discussion: """
      Generates a seeded load, holds --ties ties open, and prints CPU nanoseconds per record by stage (thread CPU \
      time; generating is not on the clock). The breaks are held against the load's truth: exit code 1 if they differ.

      EXAMPLES
        tieout measure engine --records 2000000 --ties 1000000
        tieout measure engine --shape northwind --ties 10000000
      """)

  @Option(help: "Shape of the records: flat or northwind.") var shape: WorkloadShape = .flat
  @Option(help: "Records measured, after the table is full.") var records = 2_000_000
  @Option(help: "Ties that are open while it is measured.") var ties = 1_000_000
  @Option(help: "Postings trail their orders by up to this many orders.") var shuffle = 50_000
  @Option(help: "Faulty orders in ten thousand.") var faults = 200
  @Option(help: "Postings of an order (flat).") var postings = 1
  @Option(help: "Bytes of a flat record.") var recordBytes = 330
  @Option(help: "Records of a batch.") var batch = 10_000
  @Option(help: "Seed of the load.") var seed: UInt64 = 1
  @Flag(help: "Count quality by source and month as well.") var quality = false
  @Flag(help: "Add up by dimensions, currency and period as well.") var aggregates = false
  @Option(help: "Make the customer a third dimension, of so many (flat).") var customers: Int?
  @Flag(help: "One JSON line instead of the table.") var json = false
  @Flag(help: "Say on standard error how far it is.") var verbose = false

  func validate() throws {
    guard records > 0, ties > 0, shuffle >= 0, (0...10_000).contains(faults), (1...100).contains(postings), batch > 0
    else { throw ValidationError("--records, --ties, --postings and --batch must be at least 1.") }
    guard customers ?? 1 > 0, customers == nil || shape == .flat else {
      throw ValidationError("--customers must be at least 1, and needs --shape flat.")
    }
  }

  func run() throws {
    do {
      var options = EngineMeasurement.Options()
      options.workload.shape = shape
      options.workload.shuffle = shuffle
      options.workload.faultsPer10000 = faults
      options.workload.postingsPerOrder = postings
      options.workload.recordBytes = recordBytes
      options.workload.seed = seed
      options.records = records
      options.openTies = ties
      options.batch = batch
      options.countsQuality = quality
      options.addsUp = aggregates
      options.customers = customers
      let measurement = try EngineMeasurement(options)
      let result = measurement.run { if verbose { FileHandle.standardError.write(Data(($0 + "\n").utf8)) } }
      let comparison = result.comparison!
      // In use, and touched: what was freed in one size is kept for others of that size.
      let perTie = Double(result.liveBytes) / Double(max(1, result.ties))
      let touchedPerTie = Double(result.footprintBytes) / Double(max(1, result.ties))
      if json {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("shape")
        writer.string(shape.rawValue)
        for (name, value) in [
          ("records", result.records), ("all_records", result.allRecords), ("break_messages", result.breakMessages),
          ("ties", result.ties), ("bytes", result.bytes),
          ("records_per_second", Int(1e9 / result.nsPerRecord)), ("bytes_per_tie", Int(perTie)),
          ("touched_bytes_per_tie", Int(touchedPerTie)),
          ("index_bytes", result.liveParts.index), ("slot_bytes", result.liveParts.slots),
          ("body_bytes", result.liveParts.bodies), ("calendar_bytes", result.liveParts.calendar),
          ("breaks_found", comparison.found), ("breaks_missed", comparison.missed.count),
          ("breaks_false", comparison.wrong.count), ("dead_letters", result.deadLetters), ("cells", result.cells),
        ] {
          writer.key(name)
          writer.integer(value)
        }
        writer.key("ns_per_record")
        writer.beginObject()
        for stage in StageLaps.Stage.allCases {
          writer.key("\(stage)")
          writer.decimal(result.nsPerRecord(stage), decimals: 1)
        }
        writer.key("total")
        writer.decimal(result.nsPerRecord, decimals: 1)
        writer.endObject()
        writer.endObject()
        print(writer.text)
      } else {
        var table = TextTable(["stage", "ns CPU a record"], numeric: [1])
        for stage in StageLaps.Stage.allCases {
          table.add("\(stage)", String(format: "%.1f", result.nsPerRecord(stage)))
        }
        table.add("total", String(format: "%.1f", result.nsPerRecord))
        print(table.text)
        print(
          String(
            format:
              "%d records (%d orders, %.0f bytes each), %.2f million a second; %d ties, %.0f bytes of memory each "
              + "(%.0f with what is kept free)",
            result.records, result.orders, Double(result.bytes) / Double(max(1, result.records)),
            1_000 / result.nsPerRecord, result.ties, perTie, touchedPerTie))
        let ties = Double(max(1, result.ties))
        print(
          String(
            format: "of a tie's bytes: index %.1f, slot %.1f, body %.1f, calendar %.1f",
            Double(result.liveParts.index) / ties, Double(result.liveParts.slots) / ties,
            Double(result.liveParts.bodies) / ties, Double(result.liveParts.calendar) / ties))
        if aggregates { print("\(result.cells) cells of sums") }
        print(
          "breaks: \(comparison.found) found, \(comparison.missed.count) missed, \(comparison.wrong.count) false or "
            + "wrong; \(result.breaksInMeasurement) messages while measured; \(result.deadLetters) dead letters")
      }
      for line in (comparison.missed + comparison.wrong).prefix(5) {
        FileHandle.standardError.write(Data("  \(line)\n".utf8))
      }
      if !comparison.isPerfect || result.deadLetters > 0 { throw ExitCode(1) }
    } catch let code as ExitCode {
      throw code
    } catch { fail(error) }
  }
}
