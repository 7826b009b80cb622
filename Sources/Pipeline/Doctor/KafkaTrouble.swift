import Configuration
import Foundation
import Kafka
import Synchronization

/// The last things that a Kafka client complained of in its log: where a connection fails they say why, which the
/// error of the call does not.
public final class ClientComplaints: Sendable {
  private static let most = 32
  private let lines = Mutex<[String]>([])

  public init() {}

  public var handler: KafkaLogHandler {
    { [self] level, _, message in
      // A connection that the other side closes is told of as a mere notice.
      guard level <= 6, !message.contains("brokers are down") else { return }
      lines.withLock { lines in
        if lines.count == ClientComplaints.most { lines.removeFirst() }
        lines.append(ClientComplaints.cleaned(message))
      }
    }
  }

  /// Without the thread at its beginning, and how long the client had been at it.
  static func cleaned(_ message: String) -> String {
    var text = message
    if text.hasPrefix("[thrd:"), let end = text.range(of: "]: ") { text = String(text[end.upperBound...]) }
    if let end = text.range(of: " (after ", options: .backwards) { text = String(text[..<end.lowerBound]) }
    return text
  }

  public var all: [String] { lines.withLock { $0 } }
}

/// What an error of a broker, or of the way to it, means, and what to do.
enum KafkaTrouble {
  /// Of a connection, by what the client's log says of it.
  private static let connection: [(sign: String, advice: String)] = [
    (
      "failed to resolve",
      "The name is not known to this machine: check kafka.bootstrap, the resolver, and the brokers' advertised.listeners."
    ),
    (
      "broker certificate could not be verified",
      "The broker's certificate is signed by nobody that this machine trusts: set kafka.properties ssl.ca.location to the "
        + "authority's PEM file."
    ),
    (
      "hostname mismatch",
      "The broker's certificate is for another name: use the name that it was made for in kafka.bootstrap and in the "
        + "broker's advertised.listeners."
    ),
    (
      "ip address mismatch",
      "The broker's certificate does not name this address: use the host's name in kafka.bootstrap, not its address."
    ),
    (
      "certificate verify failed",
      "The broker's certificate is for another name, or signed by nobody that this machine trusts: use the name that it was "
        + "made for in kafka.bootstrap, and set kafka.properties ssl.ca.location to the authority's PEM file."
    ),
    (
      "bad certificate",
      "The broker wants a certificate of the client: set ssl.certificate.location and ssl.key.location in kafka.properties."
    ),
    (
      "certificate required",
      "The broker wants a certificate of the client: set ssl.certificate.location and ssl.key.location in kafka.properties."
    ),
    (
      "plaintext broker listener",
      "The port does not speak TLS: set kafka.properties security.protocol to PLAINTEXT or SASL_PLAINTEXT, or use the "
        + "port of the TLS listener."
    ),
    (
      "wrong version number",
      "The port does not speak TLS: set kafka.properties security.protocol to PLAINTEXT or SASL_PLAINTEXT, or use the "
        + "port of the TLS listener."
    ),
    (
      "ssl handshake failed",
      "TLS could not be agreed: check that the port is a TLS listener, and ssl.ca.location, ssl.certificate.location and "
        + "ssl.key.location in kafka.properties."
    ),
    (
      "sasl handshake not supported",
      "This listener asks nobody to sign in: set kafka.properties security.protocol to PLAINTEXT or SSL, or use the port "
        + "of the SASL listener."
    ),
    (
      "unsupported sasl mechanism",
      "The broker does not offer this way to sign in: set sasl.mechanism in kafka.properties to one of those it names."
    ),
    (
      "sasl authentication",
      "The broker does not take the user and password: check sasl.username, sasl.password and sasl.mechanism in "
        + "kafka.properties."
    ),
    (
      "authentication failed",
      "The broker does not take the user and password: check sasl.username, sasl.password and sasl.mechanism in "
        + "kafka.properties."
    ),
    (
      "incorrect security.protocol",
      "The listener speaks something else: a TLS or SASL listener needs security.protocol SSL, SASL_SSL or SASL_PLAINTEXT "
        + "in kafka.properties."
    ),
    (
      "connection refused",
      "Nothing listens there: check that the broker runs, and the port in kafka.bootstrap."
    ),
    (
      "disconnected",
      "The other side hangs up: a TLS or SASL listener needs security.protocol SSL, SASL_SSL or SASL_PLAINTEXT in "
        + "kafka.properties; or it is no Kafka broker."
    ),
    ("no route to host", "The network has no way there: check the address, routes and firewalls."),
    (
      "timed out",
      "Nothing answers: check the address in kafka.bootstrap, firewalls, and that the broker is not overloaded."
    ),
  ]

  /// The complaint that explains most, with what to do.
  static func explain(_ complaints: [String]) -> (complaint: String, advice: String)? {
    for (sign, advice) in connection {
      if let complaint = complaints.last(where: { $0.lowercased().contains(sign) }) { return (complaint, advice) }
    }
    return complaints.last.map {
      ($0, "Check kafka.bootstrap and kafka.properties (security.protocol, ssl.*, sasl.*).")
    }
  }

  /// By the error's name; nil where nothing better can be said than the error itself says.
  static func advice(_ error: KafkaError, _ configuration: Configuration) -> String {
    let group = configuration.kafka.group
    return switch error.name {
    case "TOPIC_AUTHORIZATION_FAILED":
      "The client may not do this. It needs Read on the source topics, and Read and Write on those that it writes "
        + "(docs/operations.md, Rights)."
    case "GROUP_AUTHORIZATION_FAILED":
      "The client needs Read on the groups \(group), \(group)-router and \(group)-totals."
    case "TRANSACTIONAL_ID_AUTHORIZATION_FAILED":
      "The client needs Write and Describe on transactional ids that begin with '\(group)-'; without, set kafka.delivery "
        + "to at_least_once."
    case "CLUSTER_AUTHORIZATION_FAILED":
      "The client needs Create (for topics that are missing) and Describe on the cluster."
    case "UNSUPPORTED_VERSION", "_UNSUPPORTED_FEATURE":
      "The broker is too old for this: exactly_once needs Kafka 2.5 or newer; else set kafka.delivery to at_least_once."
    case "INVALID_TRANSACTION_TIMEOUT":
      "The broker's transaction.max.timeout.ms is below the transaction.timeout.ms of the client (10 s unless "
        + "kafka.producer sets it)."
    case "INVALID_REPLICATION_FACTOR":
      "The cluster has fewer brokers than default.replication.factor asks for: start more, or lower it."
    case "POLICY_VIOLATION":
      "A policy of the cluster forbids the topic as it would be made: have its operators make it, with the settings of "
        + "docs/reference/topics.md."
    case "NOT_ENOUGH_REPLICAS", "NOT_ENOUGH_REPLICAS_AFTER_APPEND":
      "Fewer replicas are in sync than min.insync.replicas asks for: bring the missing brokers back."
    case "INVALID_TIMESTAMP":
      "The broker finds this machine's time impossible: set the clocks right."
    case "_TIMED_OUT", "_TIMED_OUT_QUEUE", "_MSG_TIMED_OUT", "_TRANSPORT", "_ALL_BROKERS_DOWN":
      "No answer in time: the broker is slow, cannot be reached at its advertised address, or does not know the request. "
        + "Try again with a longer --timeout."
    case "COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR":
      "The broker that coordinates is not ready: look at its log (the internal topics need "
        + "offsets.topic.replication.factor and transaction.state.log.replication.factor no larger than the number of brokers)."
    default: "Look the error up in the broker's log at this time."
    }
  }
}
