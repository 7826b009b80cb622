import Configuration
import Kafka
import Logging
import SchemaRegistry

/// A job beside the daemon that makes figures of what topics hold and tells those that have changed.
///
/// Its state is what the topics hold, its own among them: it reads them from the beginning, and tells nothing before it
/// has come to their end. A second one of the same group takes over from the first, which ends.
public class TellingStage: Stage, @unchecked Sendable {
  /// Somebody else runs the same job.
  public struct TakenOver: Error, CustomStringConvertible {
    public var description: String { "another tieout flows of the same group has taken over" }
  }

  /// Making figures may take a tenth of the time: the more there is, the less often it happens.
  static let restFactor: Int64 = 9

  struct Message {
    enum Place {
      case output(Output)
      /// An internal topic, partition 0.
      case topic(String)
    }
    var place: Place
    var key: [UInt8]
    var value: [UInt8]

    init(output: Output, key: [UInt8], value: [UInt8]) {
      (place, self.key, self.value) = (.output(output), key, value)
    }

    init(topic: String, key: [UInt8], value: [UInt8]) { (place, self.key, self.value) = (.topic(topic), key, value) }
  }

  /// Why the job ended by itself; nil while it has not, or was told to.
  public private(set) var failure: (any Error)?
  var consumer: (any GroupConsumer)!
  private var producer: (any RecordProducer)!
  private var transactionalID: String?
  /// Gets the messages in place of the topics; nil: they are sent.
  private let show: (@Sendable (Output, [UInt8]) -> Void)?
  /// The formats of its outputs; nil where all are JSON.
  private let outputs: OutputEncoding?
  private let outputReader: OutputReader
  /// A registry of schemas that did not answer.
  var schemaProblem: SchemaRegistryError?

  /// - Parameter show: Gets the messages in place of the topics: then nothing is written, and no other job ended.
  /// - Throws: where the registry does not take the schemas of its topics.
  init(
    _ name: String, outputs: [Output], configuration: Configuration, stop: StopFlag, log: Logger,
    environment: any WorkerEnvironment, show: (@Sendable (Output, [UInt8]) -> Void)? = nil
  ) throws {
    self.show = show
    self.outputs = try OutputEncoding(configuration, show == nil ? outputs : [])
    outputReader = OutputReader(configuration)
    super.init(name, configuration: configuration, stop: stop, log: log, environment: environment)
  }

  /// The JSON form of a message of an output topic. A registry that does not answer holds all back.
  func json(_ value: UnsafeBufferPointer<UInt8>) throws -> [UInt8] {
    do {
      return try outputReader.json(value)
    } catch let problem as SchemaRegistryError {
      schemaProblem = problem
      throw problem
    }
  }

  func end(_ error: (any Error)?) {
    failure = error
    stop.stop()
  }

  /// Makes the clients. The consumer is alone in a group of its own: it needs every partition.
  /// - Parameter role: Behind the group's name; of the transactional id too, so that a second job fences the first.
  func open(role: String, topics: [String]) throws {
    transactionalID = isExactlyOnce ? "\(configuration.kafka.group)-\(role)" : nil
    if show == nil { try openProducer() }
    let group = "\(configuration.kafka.group)-\(role)-\(String(environment.identity(), radix: 36))"
    consumer = try environment.makeConsumer(configuration, group: group, topics: topics, member: "")
  }

  private func openProducer() throws {
    producer = nil
    producer = try environment.makeProducer(configuration, transactionalID: transactionalID)
    if isExactlyOnce {
      try retrying { () throws(KafkaError) in try producer.initTransactions(timeout_ms: 30_000) }
    }
  }

  func close() {
    consumer?.close()
    consumer = nil
    producer = nil
  }

  /// Sends messages, all of them or, with `exactly_once`, none.
  /// - Returns: whether they are there. What is not is told the next time.
  func send(_ messages: [Message]) throws -> Bool {
    guard !messages.isEmpty else { return true }
    if let show {
      for message in messages {
        if case .output(let output) = message.place { show(output, message.value) }
      }
      return true
    }
    let began_ms = environment.monotonic_ms()
    do throws(KafkaError) {
      if isExactlyOnce { try producer.beginTransaction() }
      for message in messages { try produce(message) }
      if isExactlyOnce {
        try retrying { () throws(KafkaError) in try producer.commitTransaction(timeout_ms: 30_000) }
      } else {
        try retrying { () throws(KafkaError) in try producer.flush(timeout_ms: 60_000) }
      }
    } catch {
      if error.isFencing {
        // A transaction that is open for too long is ended by the broker, which looks just like another job's takeover.
        guard (environment.monotonic_ms() - began_ms) * 10 >= Int64(configuration.transactionTimeout_ms) * 9 else {
          end(TakenOver())
          return false
        }
        // Where it was another job after all, that one is fenced now, in a transaction that is none of the long ones.
        log.warning("a transaction took too long, and is begun again", metadata: ["error": "\(error)"])
        try openProducer()
        return false
      }
      if error.isFatal { throw error }
      log.warning("figures not told, and tried again", metadata: ["error": "\(error)"])
      if isExactlyOnce {
        try retrying { () throws(KafkaError) in try producer.abortTransaction(timeout_ms: 30_000) }
      }
      return false
    }
    return true
  }

  private func produce(_ message: Message) throws(KafkaError) {
    switch message.place {
    case .topic(let topic):
      try producer.produce(topic: topic, partition: 0, key: message.key, value: message.value)
    case .output(let output):
      try producer.produce(
        topic: configuration.topic(output), key: message.key,
        value: outputs?.bytes(output, message.value) ?? message.value)
    }
  }

  /// The configuration as it holds for the cluster that is there, with the topics looked at: so many tasks, and the
  /// embedded broker is told at least once.
  static func settled(
    _ configuration: Configuration, createsOutputs: Bool = true, log: Logger
  ) throws -> Configuration {
    let check = TopicCheck(configuration)
    var settled = configuration
    let counts = try check.run(log: log, createsOutputs: createsOutputs)
    guard createsOutputs || counts[configuration.breaksTopic] != nil else {
      throw FileRunError("there is no topic '\(configuration.breaksTopic)' yet: `tieout run` makes it")
    }
    settled.setTaskCount(counts)
    let isEmbedded = try check.isEmbeddedBroker()
    if !isEmbedded { settled.letFetchesWait() }
    guard configuration.kafka.delivery == .exactlyOnce, isEmbedded else { return settled }
    log.warning("the embedded broker knows no transactions: delivery is at least once")
    settled.kafka.delivery = .atLeastOnce
    return settled
  }
}

extension KafkaError {
  /// Somebody else has taken the transactional id.
  fileprivate var isFencing: Bool { name == "_FENCED" || name == "PRODUCER_FENCED" || name == "INVALID_PRODUCER_EPOCH" }
}
