import Yams

/// How messages of the output topics are written.
public enum MessageFormat: String, Sendable, CaseIterable {
  case json
  /// With Confluent's framing: a zero and the id of the schema in the registry.
  case avro
}

/// A topic that is written for people and systems to read.
public enum Output: String, Sendable, CaseIterable {
  case breaks
  case deadLetters = "dead_letters"
  case totals, revenue, cashflow, receivables, quality, variance
}

public struct OutputSettings: Sendable, Equatable {
  /// Those that are not there are JSON.
  public var formats: [Output: MessageFormat] = [:]
  /// Whether schemas are registered that the registry does not have yet.
  public var registers = true

  public init() {}

  public func format(_ output: Output) -> MessageFormat { formats[output] ?? .json }
  public var hasAvro: Bool { formats.values.contains(.avro) }
}

extension Configuration {
  public func topic(_ output: Output) -> String {
    switch output {
    case .breaks: breaksTopic
    case .deadLetters: deadLettersTopic
    case .totals: totalsTopic
    case .revenue: revenueTopic
    case .cashflow: cashflowTopic
    case .receivables: receivablesTopic
    case .quality: qualityTopic
    case .variance: varianceTopic
    }
  }

  mutating func readOutputs(_ node: Node?, _ reader: ConfigurationReader) {
    let path = ["outputs"]
    let nodes = reader.nodes(node, path)
    let format = reader.choice(nodes["format"], path + ["format"], MessageFormat.json)
    for output in Output.allCases { outputs.formats[output] = format }
    let names = Output.allCases.map(\.rawValue)
    for (name, value, keyNode) in reader.mapping(nodes["formats"], path + ["formats"]) {
      guard let output = Output(rawValue: name) else {
        reader.problem(keyNode, "outputs.formats: there is no output '\(name)'\(reader.hint(name, names))")
        continue
      }
      outputs.formats[output] = reader.choice(value, path + ["formats", name], format)
    }
    outputs.registers = reader.bool(nodes["auto_register"], path + ["auto_register"], true)
  }
}
