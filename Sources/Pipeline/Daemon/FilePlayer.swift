import Configuration
import Decoding
import Domain
import Kafka

/// Sends the lines of files into the topics of a configuration, for tests and backfills.
public final class FilePlayer {
  private let configuration: Configuration
  private let producer: Producer

  public init(_ configuration: Configuration) throws {
    self.configuration = configuration
    producer = try Producer(properties: configuration.clientProperties(.producer))
  }

  /// Plays the order files and the ledger files in turns of a thousand lines, so that both sides advance together. Each is a
  /// path, or `SOURCE=PATH`; where the configuration has several sources of the kind it must say which. Nothing is sent
  /// unless all of them can be.
  /// - Returns: how many lines were sent.
  public func play(orders: [String], ledger: [String]) throws -> Int {
    var inputs: [(file: InputFile, topic: String, mapping: MappingSpecification)] = []
    for (kind, paths) in [(SourceKind.orders, orders), (.ledger, ledger)] {
      for argument in paths {
        let (at, path) = try configuration.source(of: argument, kind)
        let source = configuration.sources[at]
        let mapping = source.mapping
        let file = try InputFile(path: path, style: .lines, maximumLineBytes: mapping.maximumRecordBytes)
        inputs.append((file, source.originalTopic, mapping))
      }
    }
    var count = 0
    var block = LineBlock()
    while !inputs.isEmpty {
      for index in inputs.indices.reversed() {
        block.removeAll()
        guard try inputs[index].file.next(into: &block, records: 1_000) else {
          inputs.remove(at: index)
          continue
        }
        let mapping = inputs[index].mapping
        try block.bytes.withUnsafeBufferPointer { bytes in
          for line in block.lines {
            let text = ByteView(UnsafeBufferPointer(rebasing: bytes[line.start..<line.start + line.length]))
            // The TABs of such rows separate columns.
            let isTabbed = mapping.format == .csv && mapping.csv.delimiter == 0x09
            let (key, payload) = isTabbed ? (.empty, text) : splitKey(text, isEnvelope: mapping.format.isEnvelope)
            try producer.produce(
              topic: inputs[index].topic, key: key.isEmpty ? nil : key.buffer,
              value: payload.isEmpty ? nil : payload.buffer)
            count += 1
          }
        }
        producer.poll()
      }
    }
    try producer.flush(timeout_ms: 60_000)
    return count
  }
}
