import Configuration
import Decoding
import Foundation
import SchemaRegistry

extension Output {
  /// The contract of its messages.
  var schema: TopicSchema {
    switch self {
    case .breaks: TopicSchemas.breakSchema
    case .deadLetters: TopicSchemas.deadLetterSchema
    case .totals: TopicSchemas.totalSchema
    case .revenue: TopicSchemas.revenue
    case .cashflow: TopicSchemas.cashflow
    case .receivables: TopicSchemas.receivables
    case .quality: TopicSchemas.quality
    case .variance: TopicSchemas.variance
    }
  }
}

/// Why outputs cannot be written or read.
public struct OutputFormatError: Error, Sendable, Equatable, CustomStringConvertible {
  public var description: String

  public init(description: String) { self.description = description }
}

/// Writes messages in the format of their topic: the ids of the schemas are known before the first of them.
public struct OutputEncoding: Sendable {
  private struct Avro: Sendable {
    var header: [UInt8]
    var encoder: AvroMessageEncoder
  }

  /// By output; nil for JSON.
  private var encoders: [Output: Avro] = [:]

  /// The subject of a topic's values (TopicNameStrategy).
  public static func subject(_ topic: String) -> String { topic + "-value" }

  /// Registers the schemas of outputs, or looks them up.
  /// - Returns: nil where all of the outputs are JSON.
  /// - Throws: `OutputFormatError` where the registry does not have a schema and is not to get it, or refuses it;
  ///   `SchemaRegistryError` where it does not answer.
  public init?(_ configuration: Configuration, _ outputs: [Output]) throws {
    let avro = outputs.filter { configuration.outputs.format($0) == .avro }
    guard !avro.isEmpty else { return nil }
    guard let settings = configuration.schemaRegistry else {
      throw OutputFormatError(description: "outputs: the format avro needs schema_registry.url")
    }
    let registry = SchemaRegistry.shared(settings)
    for output in avro {
      let (topic, schema) = (configuration.topic(output), output.schema)
      let subject = OutputEncoding.subject(topic)
      let id: UInt32?
      do {
        id = try registry.id(subject: subject, schema: schema.avro, registers: configuration.outputs.registers)
      } catch { throw OutputFormatError(description: "topic \(topic), subject \(subject): \(error)") }
      guard let id else {
        throw OutputFormatError(
          description:
            "topic \(topic): the schema registry at \(settings.url) does not have its schema under the subject "
            + "'\(subject)': register config/schemas/avro/\(schema.name).avsc there, or set outputs.auto_register")
      }
      encoders[output] = Avro(
        header: [0] + (0..<4).map { UInt8(truncatingIfNeeded: id >> (24 - 8 * UInt32($0))) },
        encoder: AvroMessageEncoder(schema))
    }
  }

  /// Calls `body` with a message as it goes to its topic; its bytes are valid inside the call.
  func with<Failure: Error>(
    _ output: Output, _ json: UnsafeBufferPointer<UInt8>,
    _ body: (UnsafeBufferPointer<UInt8>) throws(Failure) -> Void
  ) throws(Failure) {
    guard let avro = encoders[output] else { return try body(json) }
    var bytes = avro.header
    bytes.reserveCapacity(json.count)
    avro.encoder.encode(json, into: &bytes)
    var failure: Failure?
    bytes.withUnsafeBufferPointer { buffer in
      do throws(Failure) { try body(buffer) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// A message as it goes to its topic.
  public func bytes(_ output: Output, _ json: [UInt8]) -> [UInt8] {
    guard let avro = encoders[output] else { return json }
    var bytes = avro.header
    json.withUnsafeBufferPointer { avro.encoder.encode($0, into: &bytes) }
    return bytes
  }
}

/// Reads messages of the output topics, JSON or Avro, whichever each of them is: a topic may have been written in both.
public final class OutputReader: Sendable {
  private let registry: SchemaRegistry?

  public init(_ configuration: Configuration) { registry = configuration.schemaRegistry.map { .shared($0) } }

  /// For topics of which nothing is known but that they are there: messages in Avro cannot be read.
  public init() { registry = nil }

  /// The JSON form of a message, which it was made of.
  /// - Throws: `SchemaRegistryError` where the registry does not answer, which passes; `AvroMessageError` and
  ///   `OutputFormatError` where the message cannot be read.
  public func json(_ message: UnsafeBufferPointer<UInt8>) throws -> [UInt8] {
    guard let id = AvroFraming.schemaID(message) else { return Array(message) }
    guard let registry else {
      throw OutputFormatError(
        description: "the message is Avro with schema \(id), and the configuration has no schema_registry")
    }
    try registry.load(id)
    guard let schema = registry.known(id) else {
      throw OutputFormatError(description: "the schema registry has no schema \(id)")
    }
    return try AvroMessageReader.json(
      UnsafeBufferPointer(rebasing: message[AvroFraming.headerBytes...]), schema)
  }
}
