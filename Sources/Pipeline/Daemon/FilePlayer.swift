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
    var inputs: [(file: InputFile, topic: String)] = []
    for (kind, paths) in [(SourceKind.orders, orders), (.ledger, ledger)] {
      for argument in paths {
        let (at, path) = try configuration.source(of: argument, kind)
        let source = configuration.sources[at]
        inputs.append(
          (
            try InputFile(path: path, style: .lines, maximumLineBytes: source.mapping.maximumRecordBytes),
            source.originalTopic
          ))
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
        try block.bytes.withUnsafeBufferPointer { bytes in
          for line in block.lines {
            let (key, payload) = splitKey(
              ByteView(UnsafeBufferPointer(rebasing: bytes[line.start..<line.start + line.length])))
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
