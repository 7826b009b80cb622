import Configuration
import Foundation
import Histogram
import Kafka
import Pipeline
import Simulation

/// Sends a load at a rate on a thread of its own, and notes when the last record of each order was handed to the client.
final class SteadySender: @unchecked Sendable {
  private let options: WorkloadOptions
  private let rate: Int
  private let producer: Producer
  private let orders: String
  private let ledger: String
  private let stop: StopFlag
  private let lock = NSLock()
  private var state = (sent: 0, isDone: false, ended_ms: Int64(0), elapsed_us: Int64(1), failure: (any Error)?.none)
  /// Written by the sending thread, read when it is done.
  private(set) var truth: [TruthRow] = []
  /// By number of the order: the wall clock, microseconds.
  private(set) var produced_us: [Int64]

  init(
    _ options: WorkloadOptions, rate: Int, producer: Producer, orders: String, ledger: String, stop: StopFlag
  ) {
    self.options = options
    self.rate = rate
    self.producer = producer
    self.orders = orders
    self.ledger = ledger
    self.stop = stop
    produced_us = Array(repeating: 0, count: options.orders)
  }

  var sent: Int { lock.withLock { state.sent } }
  var isDone: Bool { lock.withLock { state.isDone } }
  var ended_ms: Int64 { lock.withLock { state.ended_ms } }
  var failure: (any Error)? { lock.withLock { state.failure } }
  /// Records a second that were really sent.
  var achievedRate: Int { lock.withLock { Int(Int64(state.sent) * 1_000_000 / state.elapsed_us) } }

  func start() {
    Thread { [self] in
      do { try send() } catch { lock.withLock { state.failure = error } }
      lock.withLock {
        state.isDone = true
        state.ended_ms = monotonic_ms()
      }
    }.start()
  }

  private func send() throws {
    var load = Workload(options)
    var record = GeneratedRecord()
    let started = ProcessUsage.clock_us()
    var count = 0
    while !stop.isStopped {
      // A burst every millisecond at most.
      let due = Int((ProcessUsage.clock_us() - started) * Int64(rate) / 1_000_000)
      if count >= due {
        usleep(1_000)
        continue
      }
      let now_us = wallClock_us()
      var isOver = false
      while count < due {
        guard load.next(into: &record) else {
          isOver = true
          break
        }
        if let number = orderNumber(record.key) { produced_us[number] = now_us }
        try producer.produce(topic: record.isOrder ? orders : ledger, key: record.key, value: record.value)
        count += 1
      }
      producer.poll()
      lock.withLock {
        state.sent = count
        state.elapsed_us = max(1, ProcessUsage.clock_us() - started)
      }
      if isOver { break }
    }
    try producer.flush(timeout_ms: 60_000)
    truth = load.truth
  }

  /// The number in `SO-1000000123`, or in `NOSUCH-SO-…`; nil beyond the load.
  func orderNumber(_ key: some Collection<UInt8>) -> Int? {
    var number = 0
    for byte in key.suffix(10) {
      guard (0x30...0x39).contains(byte) else { return nil }
      number = number * 10 + Int(byte - 0x30)
    }
    number -= 1_000_000_000
    return options.orders > number && number >= 0 ? number : nil
  }
}

func wallClock_us() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
}

/// A consumer of the breaks as any other, which notes when each was seen.
final class BreakWatch {
  private let reader: BreakReader
  /// Every message: order, when it was seen.
  private var seen: [(order: String, at_us: Int64)] = []

  init(_ configuration: Configuration) throws {
    reader = try BreakReader(
      properties: configuration.clientProperties(.admin), topic: configuration.breaksTopic,
      outputs: OutputReader(configuration))
    reader.onMessage = { [unowned self] message in
      seen.append((message.order, wallClock_us()))
    }
  }

  var isReady: Bool { reader.isAtEnd }
  var breaks: [String: BreakMessage] { reader.breaks }
  func poll() throws { try reader.poll(timeout_ms: 2) }
  func close() { reader.close() }

  /// From the last record of an order handed to the producer to the first sight of a break of that order. What is
  /// missing has no last record: those breaks come when the window has passed, and are left out.
  func latency(_ sender: SteadySender) -> Histogram<UInt64> {
    var histogram = Histogram<UInt64>(highestTrackableValue: 600_000_000, numberOfSignificantValueDigits: .three)
    var wanted = Set(sender.truth.lazy.filter { !$0.cause.hasPrefix("MISSING") }.map(\.order))
    for (order, at_us) in seen where wanted.contains(order) {
      guard let number = sender.orderNumber(Array(order.utf8)), at_us >= sender.produced_us[number] else { continue }
      histogram.record(UInt64(at_us - sender.produced_us[number]))
      wanted.remove(order)
    }
    return histogram
  }
}

/// How a process's memory went, sampled once a second.
struct MemorySeries {
  private(set) var samples: [(at_ms: Int64, bytes: Int)] = []
  private var isOver = false

  mutating func sample(_ pid: Int32) {
    let now = monotonic_ms()
    guard !isOver, samples.last.map({ now - $0.at_ms >= 1_000 }) ?? true else { return }
    samples.append((now, ProcessUsage.memory("VmRSS", pid: pid)))
  }

  mutating func end() { isOver = true }

  private func median(_ range: Range<Int>) -> Int {
    let sorted = samples[range].map(\.bytes).sorted()
    return sorted.isEmpty ? 0 : sorted[sorted.count / 2]
  }

  /// Medians of the second and of the last quarter: the first fills the window.
  var early: Int { median(samples.count / 4..<samples.count / 2) }
  var late: Int { median(samples.count * 3 / 4..<samples.count) }
  /// Bytes an hour, between the middles of the two quarters.
  var growthPerHour: Int {
    guard let first = samples.first, let last = samples.last, last.at_ms > first.at_ms else { return 0 }
    return Int(Double(late - early) / (Double(last.at_ms - first.at_ms) / 2) * 3_600_000)
  }
}
