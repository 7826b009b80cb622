import Configuration
import Domain
import Foundation
import Kafka

/// A break as its topic tells it; the fields that a reader of the newest state needs.
public struct BreakMessage: Decodable, Sendable, Equatable {
  public var id: String
  public var order: String
  public var type: String
  public var role: String
  public var currency: String
  public var expected: String?
  public var posted: String?
  public var state: String
  public var provisional: Bool
  public var revision: Int
  public var hints: [String]
  public var severity: String
  public var evidence: Evidence
  public var postedCurrency: String?
  /// The decision that the state rests on.
  public var decision: Decision?
  /// The task that takes actions on it in.
  public var task: Int32?

  public struct Decision: Decodable, Sendable, Equatable {
    public var action: String
    public var actor: String
    public var reasonCode: String?
    public var approver: String?

    public init(action: String, actor: String, reasonCode: String?, approver: String?) {
      self.action = action
      self.actor = actor
      self.reasonCode = reasonCode
      self.approver = approver
    }

    enum CodingKeys: String, CodingKey {
      case action, actor, approver
      case reasonCode = "reason_code"
    }
  }

  enum CodingKeys: String, CodingKey {
    case id, order, type, role, currency, expected, posted, state, provisional, revision, hints, severity, evidence
    case decision, task
    case postedCurrency = "posted_currency"
  }

  /// What a person's decision is about: `Break.basis`.
  public var basis: String { "\(expected ?? "")|\(posted ?? "")|\(postedCurrency ?? currency)" }

  public struct Evidence: Decodable, Sendable, Equatable {
    public var roles: [Role]
    public var events: [String]
    public struct Role: Decodable, Sendable, Equatable {
      public var role: String
      public var currency: String
      public var expected: String
      public var posted: String
    }
  }

  /// Whether the order does not tie out because of it.
  public var isOpen: Bool { BreakState(rawValue: state)?.isOpen ?? false }
  /// Whether the difference is there, open or settled.
  public var isReported: Bool { BreakState(rawValue: state).map { $0.isOpen || $0.isSettled } ?? false }
}

/// Reads a breaks topic from its beginning and keeps the last revision of each break. For one thread.
public final class BreakReader {
  private let consumer: Consumer
  private var ended: Set<Int32> = []
  private var assigned: Set<Int32> = []
  /// By break id.
  public private(set) var breaks: [String: BreakMessage] = [:]
  public private(set) var messages = 0
  /// Called for each message in the order read.
  public var onMessage: ((BreakMessage) -> Void)?

  private let outputs: OutputReader

  /// - Parameter outputs: Reads what is not JSON.
  public init(properties: [KafkaProperty], topic: String, outputs: OutputReader = OutputReader()) throws {
    self.outputs = outputs
    consumer = try Consumer(
      properties: properties + [
        KafkaProperty("group.id", "tieout-reader-\(UInt64.random(in: 0 ... .max))"),
        KafkaProperty("isolation.level", "read_committed"),
      ], topics: [topic])
  }

  /// Reads what is there, waiting at most `timeout_ms`.
  public func poll(timeout_ms: Int) throws {
    var failure: (any Error)?
    _ = try consumer.consume(timeout_ms: timeout_ms) { message in
      messages += 1
      guard let value = message.value else { return }
      ended.remove(message.partition)
      do {
        let made = try JSONDecoder().decode(BreakMessage.self, from: Data(outputs.json(value)))
        breaks[made.id] = made
        onMessage?(made)
      } catch { failure = error }
    }
    for end in consumer.ended { ended.insert(end.place.partition) }
    if let places = try consumer.answerRebalance(start: .beginning) {
      assigned = Set(places.map(\.partition))
      ended = []
    }
    if let failure { throw failure }
  }

  /// Whether every partition has been read to its end at least once.
  public var isAtEnd: Bool { !assigned.isEmpty && assigned.isSubset(of: ended) }

  public func close() { consumer.close() }
}
