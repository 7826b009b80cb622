import Benchmark
import Foundation
import Kafka
import Pipeline
import Simulation

/// Bytes in memory → decode → match → judge → encoded breaks, one thread; the breaks must be the truth.
@Sendable func engine(_ benchmark: Benchmark, _ shape: WorkloadShape, ties: Int, records: Int) {
  for _ in benchmark.scaledIterations {
    var options = EngineMeasurement.Options()
    options.workload.shape = shape
    options.workload.shuffle = min(50_000, ties / 4)
    options.openTies = ties
    options.records = records
    let measurement = try! EngineMeasurement(options)
    var before: UInt = 0
    var allocations: UInt = 0
    let result = measurement.run(onClock: { isOn in
      if isOn {
        benchmark.startMeasurement()
        before = tieout_allocations()
      } else {
        allocations += tieout_allocations() - before
        benchmark.stopMeasurement()
      }
    })
    benchmark.measurement(mallocs, Int(allocations) * 1_000 / result.records)
    precondition(result.comparison!.isPerfect && result.deadLetters == 0)
  }
}

/// What a consumer of this client library costs on the thread that consumes: a topic of the embedded broker, in this
/// process, read to its end. The library's own threads are not in it; `tieout load` measures whole processes.
@Sendable func drain(_ benchmark: Benchmark, records: Int) {
  let broker = try! EmbeddedBroker()
  try! broker.createTopic("drain", partitions: 8)
  let properties = [KafkaProperty("bootstrap.servers", broker.bootstrap)]
  let producer = try! Producer(properties: properties)
  var options = WorkloadOptions()
  options.orders = records
  var load = Workload(options)
  var record = GeneratedRecord()
  for _ in 0..<records {
    guard load.next(into: &record) else { break }
    try! producer.produce(topic: "drain", key: record.key, value: record.value)
  }
  try! producer.flush(timeout_ms: 60_000)
  for iteration in benchmark.scaledIterations {
    let consumer = try! Consumer(
      properties: properties + [KafkaProperty("group.id", "drain-\(iteration)")], topics: ["drain"])
    var count = 0
    var bytes = 0
    // Joined and assigned before the clock runs.
    while consumer.pendingRebalance == nil { _ = try! consumer.consumeRuns(timeout_ms: 10, { _ in }, finish: {}) }
    try! consumer.answerRebalance(start: .beginning)
    benchmark.measure(records: records) {
      while count < records {
        _ = try! consumer.consumeRuns(
          timeout_ms: 10,
          { run in
            count += run.messages.count
            for message in run.messages { bytes += message.value?.count ?? 0 }
          }, finish: {})
      }
    }
    consumer.close()
    precondition(bytes > records * 100)
  }
  withExtendedLifetime(broker) {}
}
