import Checkpoints
import Configuration
import Domain
import Foundation
import Kafka

/// Looks at everything that a reconciliation needs, and says what is wrong and what to do. Changes nothing: what can
/// only be found out by trying is tried in transactions that are aborted, and in files that are removed.
public struct Doctor {
  let configuration: Configuration
  /// nil where no client could be made; `probeProblem` says why.
  let probe: (any ClusterProbe)?
  let probeProblem: String
  let machine: MachineFacts
  let timeout_ms: Int
  /// Whether writing and committing is tried in aborted transactions.
  let triesTransactions: Bool

  /// - Parameter timeout_ms: The most that is waited for one answer of the cluster.
  public init(
    configuration: Configuration, probe: (any ClusterProbe)?, probeProblem: String = "",
    machine: MachineFacts = .read(), timeout_ms: Int = 10_000, triesTransactions: Bool = true
  ) {
    self.configuration = configuration
    self.probe = probe
    self.probeProblem = probeProblem
    self.machine = machine
    self.timeout_ms = timeout_ms
    self.triesTransactions = triesTransactions
  }

  /// Everything about a configuration file.
  /// - Parameter bootstrap: Bootstrap servers instead of the configured ones.
  public static func examine(
    path: String, bootstrap: String? = nil, timeout_ms: Int = 10_000, triesTransactions: Bool = true
  ) -> (report: DoctorReport, configuration: Configuration?) {
    var report = DoctorReport()
    var configuration: Configuration
    do {
      configuration = try Configuration.load(path: path)
    } catch let error as ConfigurationError {
      for problem in error.problems {
        let place = problem.line > 0 ? "\(problem.file):\(problem.line):\(problem.column)" : problem.file
        report.add(
          DoctorFinding(
            .failed, "configuration", place, problem.message,
            advice: "Correct the file; docs/reference/configuration.md has every key."))
      }
      return (report, nil)
    } catch {
      report.add(DoctorFinding(.failed, "configuration", path, "\(error)", advice: "Correct the file."))
      return (report, nil)
    }
    if let bootstrap { configuration.kafka.bootstrap = bootstrap }
    var probe: KafkaProbe?
    var problem = ""
    do {
      probe = try KafkaProbe(configuration)
    } catch { problem = "\(error)" }
    let doctor = Doctor(
      configuration: configuration, probe: probe, probeProblem: problem, timeout_ms: timeout_ms,
      triesTransactions: triesTransactions)
    report.add(
      DoctorFinding(
        .ok, "configuration", path, "\(DoctorText.count(configuration.sources.count, "source")), all keys known"))
    report.add(doctor.run())
    return (report, configuration)
  }

  /// Whether there is to be a console, so that it is worth a look.
  public static func servesConsole(_ configuration: Configuration) -> Bool { configuration.isServed }

  public func run() -> [DoctorFinding] {
    let started = (wall_ms: wallClock_ms(), steady_ms: monotonic_ms())
    var findings = settings()
    let (cluster, reachability) = reach()
    findings += reachability
    var newest: [(place: TopicPartition, stamp: RecordStamp)] = []
    if let probe, let cluster {
      findings += topics(probe, cluster)
      findings += periods(probe, cluster)
      findings += rights(probe, cluster, &newest)
      findings += state(probe, cluster)
    }
    findings += messageSizes()
    findings += data(now_ms: wallClock_ms())
    let drift_ms = (wallClock_ms() - started.wall_ms) - (monotonic_ms() - started.steady_ms)
    findings += clock(now_ms: wallClock_ms(), drift_ms: drift_ms, newest: newest)
    if case .directory(let path) = configuration.checkpoints {
      findings.append(FolderFacts.read(path).finding("disk", "checkpoints"))
    }
    findings += resources(brokers: cluster?.brokers.count ?? 1, partitions: cluster.map(partitions))
    return findings
  }

  private func partitions(_ cluster: ClusterDescription) -> Int {
    TopicPlan(configuration, known: cluster.topics.mapValues(\.partitions.count)).tasks
  }

  // MARK: - Settings that are allowed, and seldom wanted

  private func settings() -> [DoctorFinding] {
    var findings: [DoctorFinding] = []
    if configuration.kafka.delivery == .atLeastOnce {
      findings.append(
        DoctorFinding(
          .warning, "configuration", "kafka.delivery", "at_least_once",
          advice: "After a crash the outputs of an epoch may come twice. Where the brokers know transactions, use "
            + "exactly_once."))
    }
    if configuration.checkpoints == .off {
      findings.append(
        DoctorFinding(
          .warning, "configuration", "checkpoints.store", "off",
          advice: "A restart reads all epochs anew, as far as their topics go back. Use topic, or directory."))
    }
    do throws(KafkaError) {
      try configuration.checkClients()
    } catch {
      findings.append(
        DoctorFinding(
          .failed, "configuration", error.context, error.message,
          advice: "The client library does not take these properties together: the daemon does not start."))
    }
    findings += configuration.mappingWarnings.map {
      DoctorFinding(.warning, "configuration", "sources", $0, advice: "Correct the mapping.")
    }
    return findings
  }

  // MARK: - The way to the cluster

  private func reach() -> (ClusterDescription?, [DoctorFinding]) {
    let bootstrap = configuration.kafka.bootstrap
    guard let probe else {
      return (
        nil,
        [
          DoctorFinding(
            .failed, "broker", bootstrap, probeProblem,
            advice: "A property of kafka.properties is not accepted by the client library: correct or remove it.")
        ]
      )
    }
    let cluster: ClusterDescription
    do throws(KafkaError) {
      cluster = try probe.describe(timeout_ms: timeout_ms)
    } catch {
      let explained = KafkaTrouble.explain(probe.complaints)
      return (
        nil,
        [
          DoctorFinding(
            .failed, "broker", bootstrap, explained.map { "\(error.message): \($0.complaint)" } ?? "\(error)",
            advice: explained?.advice ?? KafkaTrouble.advice(error, configuration))
        ]
      )
    }
    let count = cluster.brokers.count
    var findings: [DoctorFinding] = []
    if cluster.isEmbedded {
      findings.append(
        DoctorFinding(
          .warning, "broker", bootstrap, "the embedded broker",
          advice: "For trying things out: 5 MiB a partition, nothing on disk, no transactions. Settings of topics and "
            + "rights cannot be asked for here."))
    } else {
      findings.append(
        DoctorFinding(
          .ok, "broker", bootstrap,
          "reached, cluster \(cluster.id.isEmpty ? "without an id" : cluster.id), " + DoctorText.count(count, "broker"))
      )
    }
    for (number, address) in cluster.brokers.sorted(by: { $0.key < $1.key }) {
      guard let problem = probe.reach(address, timeout_ms: timeout_ms) else { continue }
      findings.append(
        DoctorFinding(
          .failed, "broker", "broker \(number)", "\(address), where it says that it is, cannot be reached: \(problem)",
          advice: "Correct the broker's advertised.listeners, or let this machine reach that address."))
    }
    return (cluster, findings)
  }

  // MARK: - Messages

  private func messageSizes() -> [DoctorFinding] {
    let limit = configuration.producerMessageLimit
    let need = Checkpointer.largestMessage
    let subject = "message.max.bytes"
    let says = "the producer sends messages of up to \(DoctorText.bytes(limit))"
    guard limit < need else {
      return [DoctorFinding(.ok, "messages", subject, "\(says); a piece of a checkpoint has \(DoctorText.bytes(need))")]
    }
    let advice =
      "Set message.max.bytes in kafka.producer to 1000000 or more, and max.message.bytes of the topics no smaller."
    guard configuration.checkpoints == .topic else {
      return [
        DoctorFinding(
          .warning, "messages", subject, says,
          advice: "Breaks with much evidence, and dead letters, may not fit. " + advice)
      ]
    }
    return [
      DoctorFinding(
        .failed, "messages", subject, "\(says); a piece of a checkpoint may have \(DoctorText.bytes(need))",
        advice: "Checkpoints could not be written, and the worker would start again and again. " + advice)
    ]
  }

  // MARK: - Clocks

  /// Clocks of machines that are kept right differ by less.
  static let clockTolerance_ms: Int64 = 2_000

  func clock(
    now_ms: Int64, drift_ms: Int64, newest: [(place: TopicPartition, stamp: RecordStamp)]
  ) -> [DoctorFinding] {
    let advice = "Have the clock kept right (chrony, systemd-timesyncd): idle inputs, due dates and retention go by it."
    // This program was not there before.
    guard now_ms > 1_735_689_600_000 else {
      return [DoctorFinding(.failed, "clock", "this machine", formatTimestamp(now_ms), advice: advice)]
    }
    var findings: [DoctorFinding] = []
    if abs(drift_ms) > 500 {
      findings.append(
        DoctorFinding(
          .warning, "clock", "this machine", "was set by \(DoctorText.duration(drift_ms)) while this ran",
          advice: advice)
      )
    } else if machine.isClockSynchronised == false {
      findings.append(
        DoctorFinding(
          .warning, "clock", "this machine", "\(formatTimestamp(now_ms)), and nobody keeps it right", advice: advice))
    } else {
      let known = machine.isClockSynchronised == nil ? "the kernel does not say whether it is kept right" : "kept right"
      findings.append(DoctorFinding(.ok, "clock", "this machine", "\(formatTimestamp(now_ms)), \(known)"))
    }
    for (place, stamp) in newest where stamp.timestamp_ms > 0 {
      let ahead_ms = stamp.timestamp_ms - now_ms
      guard ahead_ms > Doctor.clockTolerance_ms else { continue }
      let whose = stamp.isOfBroker ? "the broker's" : "the sender's"
      findings.append(
        DoctorFinding(
          .warning, "clock", "\(place) offset \(stamp.offset)",
          "the record comes from the future: by \(whose) clock \(DoctorText.duration(ahead_ms)) ahead of this one",
          advice: "One of the two clocks is wrong. " + advice))
    }
    if let latest = newest.map(\.stamp.timestamp_ms).max(), findings.count == 1 {
      findings.append(
        DoctorFinding(
          .ok, "clock", "newest record", "\(formatTimestamp(latest)), \(DoctorText.duration(now_ms - latest)) ago"))
    }
    return findings
  }
}
