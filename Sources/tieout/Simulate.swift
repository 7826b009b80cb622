import ArgumentParser
import Configuration
import Foundation
import Pipeline
import Simulation
import Synchronization

extension Defect: ExpressibleByArgument {}
extension Delivery: ExpressibleByArgument {}

struct Simulate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Runs the workers over a simulated cluster that tries to break them.",
    discussion: """
      Each seed is one run: crashes between any two calls, processes stopped beyond their session, lost requests and \
      answers, rebalances, broker restarts, clock jumps, damaged checkpoints. Afterwards the topics are held against \
      an oracle. A failure prints the seed, what happened, and the command that repeats it.

      EXAMPLES
        tieout simulate --seeds 100000
        tieout simulate --first 4711 --seeds 1 --trace
        tieout simulate --defect zombieNotFenced
      """)

  @Option(help: "How many seeds to run.") var seeds = 1_000
  @Option(help: "The first seed.") var first: UInt64 = 1
  @Option(help: "exactly_once or at_least_once; by the seed if not given.") var delivery: Delivery?
  @Option(help: "Plants a defect, and expects it to be found.") var defect: Defect?
  @Option(help: "Seeds that run at the same time; the number of processors if not given.") var jobs: Int?
  @Flag(help: "Print what happened in each run.") var trace = false

  func validate() throws {
    guard seeds > 0, jobs ?? 1 > 0 else { throw ValidationError("--seeds and --jobs must be at least 1.") }
  }

  func run() throws {
    struct Sum {
      var next: UInt64
      var done = 0
      var records = 0
      var epochs = 0
      var crashes = 0
      var pauses = 0
      var rebalances = 0
      var withheld = 0
      var duplicates = 0
      var early = 0
      var recoveries = 0
      var failed: ClusterSimulation.Outcome?
      var error: (any Error)?
    }
    let end = first &+ UInt64(seeds)
    let sum = Mutex(Sum(next: first))
    var options = SimulationOptions()
    options.delivery = delivery
    options.defect = defect
    options.isTracing = trace
    let started = Date()
    let finished = DispatchSemaphore(value: 0)
    let count = min(seeds, jobs ?? ProcessInfo.processInfo.activeProcessorCount)
    for _ in 0..<count {
      let options = options
      let thread = Thread {
        while true {
          let seed = sum.withLock { sum -> UInt64? in
            guard sum.next < end, sum.failed == nil, sum.error == nil else { return nil }
            sum.next += 1
            return sum.next - 1
          }
          guard let seed else { break }
          do {
            let outcome = try ClusterSimulation(seed: seed, options: options).run()
            sum.withLock {
              $0.done += 1
              $0.records += outcome.records
              $0.epochs += outcome.epochs
              $0.crashes += outcome.crashes
              $0.pauses += outcome.pauses
              $0.rebalances += outcome.rebalances
              $0.withheld += outcome.withheld
              $0.duplicates += outcome.duplicates
              $0.early += outcome.early
              $0.recoveries += outcome.recoveries
              if !outcome.failures.isEmpty, seed < $0.failed?.seed ?? .max { $0.failed = outcome }
            }
            if options.isTracing { for line in outcome.trace { print(line) } }
          } catch { sum.withLock { $0.error = error } }
        }
        finished.signal()
      }
      thread.stackSize = 4 << 20
      thread.start()
    }
    for _ in 0..<count { finished.wait() }
    let total = sum.withLock { $0 }
    if let error = total.error { fail(error) }
    let seconds = String(format: "%.1f", Date().timeIntervalSince(started))
    print(
      "\(total.done) seeds in \(seconds) s: \(total.records) records, \(total.epochs) epochs, \(total.crashes) crashes, "
        + "\(total.pauses) stops, \(total.rebalances) rebalances, \(total.withheld) waits for a source behind, "
        + "\(total.recoveries) recoveries, \(total.duplicates) duplicate values, "
        + "\(total.early) records before their master data"
    )
    guard let failed = total.failed else {
      if let defect {
        print("the planted defect \(defect.rawValue) was not found")
        throw ExitCode(1)
      }
      print("no failure")
      return
    }
    if let defect {
      print("the planted defect \(defect.rawValue) was found by seed \(failed.seed): \(failed.failures[0])")
      return
    }
    print("FAILED: seed \(failed.seed)")
    for failure in failed.failures { print("  " + failure) }
    if !trace {
      options.isTracing = true
      let again = try ClusterSimulation(seed: failed.seed, options: options).run()
      print("what happened:")
      for line in again.trace { print("  " + line) }
    }
    let mode = delivery.map { " --delivery \($0.rawValue)" } ?? ""
    print("repeat: tieout simulate --first \(failed.seed) --seeds 1 --trace\(mode)")
    throw ExitCode(1)
  }
}
