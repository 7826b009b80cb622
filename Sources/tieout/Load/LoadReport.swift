import Foundation
import Histogram
import Kafka
import Pipeline
import Simulation

/// What a load run has found, as a table and as a line of JSON.
struct LoadReport {
  let run: LoadRun
  var records = 0
  var bytes = 0
  /// Of both runs of the reader that drops: CPU and wall time, records.
  var drop: (cpu_us: Int64, wall_us: Int64, records: Int)?
  /// From the assignment to all records taken in and committed; and to every tie judged, its breaks delivered.
  var caughtUp: (cpu_us: Int64, wall_us: Int64) = (0, 0)
  var settled: (cpu_us: Int64, wall_us: Int64) = (0, 0)
  /// CPU time before that, and where the time to the first record went.
  var startCPU_us: Int64 = 0
  var coldStart_us: (toStarted: Int64, toAssigned: Int64, toFirstRecord: Int64) = (0, 0, 0)
  var peakBytes = 0
  var part = PartReport("none")
  var comparison = TruthComparison(truth: [], breaks: [])
  var latency: Histogram<UInt64>?
  var memory: MemorySeries?
  var sentRate = 0
  private var launched_us: Int64 = 0

  init(_ run: LoadRun) { self.run = run }

  mutating func take(started: PartReport, assigned: PartReport, launched_us: Int64) {
    self.launched_us = launched_us
    startCPU_us = assigned.cpu_us
    coldStart_us.toStarted = started.at_us - launched_us
    coldStart_us.toAssigned = assigned.at_us - launched_us
  }

  mutating func take(caughtUp: PartReport, settled: PartReport, assigned: PartReport) {
    self.caughtUp = (caughtUp.cpu_us - assigned.cpu_us, caughtUp.at_us - assigned.at_us)
    self.settled = (settled.cpu_us - assigned.cpu_us, settled.at_us - assigned.at_us)
    coldStart_us.toFirstRecord = settled.firstRecord_us - launched_us
    peakBytes = settled.peakBytes
    part = settled
  }

  /// Everything was taken in, and the breaks are the truth.
  var isGood: Bool {
    comparison.isPerfect && part.deadLetters == 0 && part.restarts == 0
  }

  private func perRecord(_ us: Int64) -> Double { Double(us) / Double(max(1, records)) }
  private var dropPerRecord: Double? { drop.map { Double($0.cpu_us) / Double(max(1, $0.records)) } }
  private func perSecond(_ count: Int, _ us: Int64) -> Int { Int(Double(count) * 1e6 / Double(max(1, us))) }
  private var delivery: String { run.configuration.kafka.delivery.rawValue }

  var table: String {
    var table = TextTable(["", "value"], numeric: [1])
    func number(_ value: Double) -> String { String(format: "%.3f", value) }
    func ms(_ us: Int64) -> String { String(format: "%.1f ms", Double(us) / 1_000) }
    table.add("records", "\(records)")
    table.add(
      "shape, codec, delivery", "\(run.options.shape.rawValue), \(run.options.codec.rawValue), \(delivery)")
    table.add("partitions a topic, workers", "\(run.partitions), \(run.options.workers)")
    if let drop, let limit = dropPerRecord {
      table.add("read and drop: CPU µs a record", number(limit))
      table.add("read and drop: records a second", "\(perSecond(drop.records, drop.wall_us))")
      table.add("daemon: CPU µs a record, all judged", number(perRecord(settled.cpu_us)))
      table.add("daemon: CPU µs a record, all read", number(perRecord(caughtUp.cpu_us)))
      table.add("daemon: records a second", "\(perSecond(records, caughtUp.wall_us))")
      table.add("ratio to read and drop", number(perRecord(settled.cpu_us) / limit))
    } else {
      table.add("records a second sent", "\(sentRate)")
      table.add("daemon: CPU µs a record", number(perRecord(settled.cpu_us)))
    }
    table.add("peak memory", String(format: "%.1f MiB", Double(peakBytes) / 1_048_576))
    table.add("start: CPU", ms(startCPU_us))
    table.add("start: topics checked, threads there", ms(coldStart_us.toStarted))
    table.add("start: partitions assigned", ms(coldStart_us.toAssigned))
    table.add("start: first record", ms(coldStart_us.toFirstRecord))
    table.add("epochs, checkpoints", "\(part.epochs), \(part.checkpoints)")
    table.add("longest pause for a checkpoint", ms(Int64(part.longestPause_us)))
    if let latency {
      for (name, percentile) in [("p50", 50.0), ("p95", 95), ("p99", 99), ("longest", 100)] {
        table.add("produce to break seen: \(name)", ms(Int64(latency.valueAtPercentile(percentile))))
      }
      table.add("breaks timed", "\(latency.totalCount)")
    }
    if let memory, run.options.soak > 0 {
      table.add("memory, second quarter", String(format: "%.1f MiB", Double(memory.early) / 1_048_576))
      table.add("memory, last quarter", String(format: "%.1f MiB", Double(memory.late) / 1_048_576))
      table.add("memory, growth an hour", String(format: "%.1f MiB", Double(memory.growthPerHour) / 1_048_576))
    }
    table.add(
      "breaks found, missed, false",
      "\(comparison.found), \(comparison.missed.count), \(comparison.wrong.count)")
    if part.deadLetters + part.restarts > 0 {
      table.add("dead letters, restarts of workers", "\(part.deadLetters), \(part.restarts)")
    }
    let examples = (comparison.missed + comparison.wrong).prefix(5).map { "\n  \($0)" }.joined()
    return table.text + examples
  }

  var json: String {
    var writer = JSONWriter()
    func integer(_ name: String, _ value: Int) {
      writer.key(name)
      writer.integer(value)
    }
    func decimal(_ name: String, _ value: Double?, _ decimals: Int = 3) {
      writer.key(name)
      if let value { writer.decimal(value, decimals: decimals) } else { writer.null() }
    }
    func text(_ name: String, _ value: String) {
      writer.key(name)
      writer.string(value)
    }
    writer.beginObject()
    integer("records", records)
    integer("bytes", bytes)
    text("shape", run.options.shape.rawValue)
    text("codec", run.options.codec.rawValue)
    text("delivery", delivery)
    text(
      "broker", run.isReal ? "cluster" : run.options.transactions ? "memory" : "embedded")
    text("checkpoints", run.options.noCheckpoints ? "off" : "topic")
    integer("epoch_ms", run.options.epoch)
    integer("partitions", run.partitions)
    integer("workers", run.options.workers)
    decimal("drop_cpu_us_per_record", dropPerRecord)
    integer("drop_records_per_second", drop.map { perSecond($0.records, $0.wall_us) } ?? 0)
    decimal("cpu_us_per_record", perRecord(settled.cpu_us))
    decimal("cpu_us_per_record_read", perRecord(caughtUp.cpu_us))
    decimal("ratio", dropPerRecord.map { perRecord(settled.cpu_us) / $0 })
    integer("records_per_second", perSecond(records, caughtUp.wall_us))
    integer("rate", sentRate)
    integer("peak_memory_bytes", peakBytes)
    integer("start_cpu_us", Int(startCPU_us))
    integer("start_us", Int(coldStart_us.toStarted))
    integer("assigned_us", Int(coldStart_us.toAssigned))
    integer("first_record_us", Int(coldStart_us.toFirstRecord))
    integer("epochs", part.epochs)
    integer("longest_checkpoint_pause_us", part.longestPause_us)
    writer.key("latency_us")
    if let latency {
      writer.beginObject()
      for (name, percentile) in [("p50", 50.0), ("p95", 95), ("p99", 99), ("max", 100)] {
        integer(name, Int(latency.valueAtPercentile(percentile)))
      }
      integer("count", Int(latency.totalCount))
      writer.endObject()
    } else {
      writer.null()
    }
    if let memory, run.options.soak > 0 {
      integer("memory_early_bytes", memory.early)
      integer("memory_late_bytes", memory.late)
      integer("memory_growth_bytes_per_hour", memory.growthPerHour)
    }
    integer("breaks_found", comparison.found)
    integer("breaks_missed", comparison.missed.count)
    integer("breaks_false", comparison.wrong.count)
    integer("dead_letters", part.deadLetters)
    integer("restarts", part.restarts)
    writer.endObject()
    return writer.text
  }
}
