import CRdKafka

/// An error of the Kafka client, with what was being done.
public struct KafkaError: Error, CustomStringConvertible, Sendable, Equatable {
  /// librdkafka's name of the code, `_TRANSPORT`, `UNKNOWN_TOPIC_OR_PART`.
  public var name: String
  public var code: Int
  public var message: String
  public var context: String
  /// The client instance can no longer be used.
  public var isFatal = false
  /// The same call may succeed if it is made again.
  public var isRetriable = false
  /// The transaction cannot be committed any more, only aborted.
  public var requiresAbort = false
  /// The partition that it is about, where it is about one.
  public var place: TopicPartition?

  public var description: String { "\(context): \(message) (\(name))" }

  init(
    _ code: rd_kafka_resp_err_t, _ context: String, message: String? = nil, place: TopicPartition? = nil
  ) {
    name = String(cString: rd_kafka_err2name(code))
    self.code = Int(code.rawValue)
    self.message = message ?? String(cString: rd_kafka_err2str(code))
    self.context = context
    self.place = place
    // Nothing can be done with the client any more: an idempotent producer that lost count, a member whose name somebody
    // else has taken (FENCED_INSTANCE_ID), a producer whose transactional id somebody else has taken.
    isFatal = code == RD_KAFKA_RESP_ERR__FATAL || code == RD_KAFKA_RESP_ERR__FENCED
    isRetriable = KafkaError.passing.contains(name)
  }

  /// The offset that was to be read lies outside of what the partition has.
  public var isOutOfRange: Bool { name == "_AUTO_OFFSET_RESET" }

  /// Conditions of a broker or of the network that pass by themselves.
  private static let passing: Set<String> = [
    "_TIMED_OUT", "_TRANSPORT", "_WAIT_COORD", "_ALL_BROKERS_DOWN", "REQUEST_TIMED_OUT", "UNSTABLE_OFFSET_COMMIT",
    "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "LEADER_NOT_AVAILABLE",
    "NOT_LEADER_FOR_PARTITION", "BROKER_NOT_AVAILABLE", "NETWORK_EXCEPTION", "OFFSET_NOT_AVAILABLE",
    "FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH", "KAFKA_STORAGE_ERROR", "NOT_ENOUGH_REPLICAS",
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    // A topic that was just created is not known to every broker at once.
    "UNKNOWN_TOPIC_OR_PART",
  ]

  public init(_ message: String, context: String) {
    name = "CONFIG"
    code = 0
    self.message = message
    self.context = context
  }

  /// An error by its name in librdkafka (`_FENCED`, `ILLEGAL_GENERATION`).
  public init(
    name: String, _ message: String, context: String, isFatal: Bool = false, isRetriable: Bool = false,
    requiresAbort: Bool = false
  ) {
    self.name = name
    code = 0
    self.message = message
    self.context = context
    self.isFatal = isFatal
    self.isRetriable = isRetriable
    self.requiresAbort = requiresAbort
  }

  /// Takes an error object of the library over; nothing where there is none.
  static func check(_ error: OpaquePointer?, _ context: String) throws(KafkaError) {
    guard let error else { return }
    defer { rd_kafka_error_destroy(error) }
    var made = KafkaError(
      rd_kafka_error_code(error), context, message: String(cString: rd_kafka_error_string(error)))
    made.isFatal = made.isFatal || rd_kafka_error_is_fatal(error) != 0
    made.isRetriable = rd_kafka_error_is_retriable(error) != 0
    made.requiresAbort = rd_kafka_error_txn_requires_abort(error) != 0
    throw made
  }

  static func check(_ code: rd_kafka_resp_err_t, _ context: String) throws(KafkaError) {
    guard code == RD_KAFKA_RESP_ERR_NO_ERROR else { throw KafkaError(code, context) }
  }
}

/// A client property; the value of a secret one never shows in descriptions.
public struct KafkaProperty: Sendable, CustomStringConvertible, CustomDebugStringConvertible {
  public var name: String
  public var value: String
  public var isSecret: Bool

  public init(_ name: String, _ value: String, isSecret: Bool = false) {
    self.name = name
    self.value = value
    self.isSecret = isSecret
  }

  public var description: String { "\(name)=\(isSecret ? "***" : value)" }
  public var debugDescription: String { description }
}

/// Receives what the client library logs: syslog level (0–7), facility, message.
public typealias KafkaLogHandler = @Sendable (_ level: Int, _ facility: String, _ message: String) -> Void

/// What the C callbacks of one client lead back to.
final class ClientContext: @unchecked Sendable {
  let log: KafkaLogHandler
  /// Only touched on the thread that polls the client.
  var onDelivery: ((UnsafePointer<rd_kafka_message_t>) -> Void)?
  var onRebalance: ((rd_kafka_resp_err_t, UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?) -> Void)?

  init(log: @escaping KafkaLogHandler) { self.log = log }
}

/// Creates a client. The context must outlive it.
func makeClient(
  _ type: rd_kafka_type_t, properties: [KafkaProperty], context: ClientContext
) throws(KafkaError) -> OpaquePointer {
  let conf = rd_kafka_conf_new()!
  var space = [CChar](repeating: 0, count: 512)
  let standard = type == RD_KAFKA_CONSUMER && FetchWaker.isBuiltIn ? [FetchWaker.builtIn] : []
  for property in standard + properties {
    let result = rd_kafka_conf_set(conf, property.name, property.value, &space, space.count)
    if result != RD_KAFKA_CONF_OK {
      rd_kafka_conf_destroy(conf)
      // The library's message repeats the value, which may be a secret.
      let message = property.isSecret ? "the value is not accepted" : text(space)
      throw KafkaError(message, context: "property \(property.name)")
    }
  }
  rd_kafka_conf_set_opaque(conf, Unmanaged.passUnretained(context).toOpaque())
  rd_kafka_conf_set_log_cb(conf) { client, level, facility, message in
    guard let opaque = rd_kafka_opaque(client), let facility, let message else { return }
    let context = Unmanaged<ClientContext>.fromOpaque(opaque).takeUnretainedValue()
    context.log(Int(level), String(cString: facility), String(cString: message))
  }
  if type == RD_KAFKA_PRODUCER {
    rd_kafka_conf_set_dr_msg_cb(conf) { _, message, opaque in
      guard let opaque, let message else { return }
      Unmanaged<ClientContext>.fromOpaque(opaque).takeUnretainedValue().onDelivery?(message)
    }
  } else {
    rd_kafka_conf_set_rebalance_cb(conf) { _, code, partitions, opaque in
      guard let opaque else { return }
      Unmanaged<ClientContext>.fromOpaque(opaque).takeUnretainedValue().onRebalance?(code, partitions)
    }
  }
  guard let client = rd_kafka_new(type, conf, &space, space.count) else {
    rd_kafka_conf_destroy(conf)
    throw KafkaError(text(space), context: "creating a client")
  }
  return client
}

/// Whether the client library takes settings; no broker is asked, and no file is read, which may be on another machine.
public enum ClientSettings {
  public static func check(producer properties: [KafkaProperty]) throws(KafkaError) {
    try check(RD_KAFKA_PRODUCER, Producer.defaults + properties)
  }

  public static func check(consumer properties: [KafkaProperty]) throws(KafkaError) {
    try check(RD_KAFKA_CONSUMER, Consumer.defaults + properties)
  }

  private static func check(_ type: rd_kafka_type_t, _ properties: [KafkaProperty]) throws(KafkaError) {
    let context = ClientContext { _, _, _ in }
    // Without an address it connects to nobody.
    let client = try makeClient(
      type, properties: properties.filter { $0.name != "bootstrap.servers" && !$0.name.hasSuffix(".location") },
      context: context)
    rd_kafka_destroy(client)
    withExtendedLifetime(context) {}
  }
}

func text(_ space: [CChar]) -> String {
  String(decoding: space.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
