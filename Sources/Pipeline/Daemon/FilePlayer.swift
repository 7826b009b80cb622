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

  private struct Input {
    var file: InputFile
    var source: SourceSettings
    /// Whether a record without a key may lie with another task than its order does.
    var needsKeys: Bool
    var isAtStart = true
    var block = LineBlock()
    var isEnded = false
  }

  /// Plays the order files and the ledger files in turns of a thousand lines, so that both sides advance together. Each is a
  /// path, or `SOURCE=PATH`; where the configuration has several sources of the kind it must say which. Nothing is sent
  /// unless all of them can be, as far as their first lines say.
  ///
  /// The header of a CSV file is no record, and is not sent: it must name the columns by which the daemon reads the topic.
  /// - Returns: how many lines were sent.
  public func play(orders: [String], ledger: [String]) throws -> Int {
    var inputs: [Input] = []
    let partitions = try Admin(properties: configuration.clientProperties(.admin)).topics()
    for (kind, paths) in [(SourceKind.orders, orders), (.ledger, ledger)] {
      for argument in paths {
        let (at, path) = try configuration.source(of: argument, kind)
        let source = configuration.sources[at]
        let mapping = source.mapping
        if configuration.headerSources.contains(where: { $0.name == source.name }) {
          throw FileRunError("\(Configuration.headerProblem(source)). \(Configuration.headerAdvice)")
        }
        let file = try InputFile(
          path: path,
          style: mapping.format == .csv ? .csv(quote: mapping.csv.quote, delimiter: mapping.csv.delimiter) : .lines,
          maximumLineBytes: mapping.maximumRecordBytes)
        inputs.append(
          Input(
            file: file, source: source,
            needsKeys: !source.isRouted && partitions[source.originalTopic] ?? 1 > 1))
      }
    }
    for index in inputs.indices { try read(&inputs[index]) }
    var count = 0
    while inputs.contains(where: { !$0.isEnded }) {
      for index in inputs.indices.reversed() where !inputs[index].isEnded {
        count += try send(inputs[index])
        producer.poll()
        do {
          try read(&inputs[index])
        } catch {
          try producer.flush(timeout_ms: 60_000)
          throw FileRunError("\(error); \(count) records were sent before")
        }
      }
    }
    try producer.flush(timeout_ms: 60_000)
    return count
  }

  private static func split(_ line: ByteView, _ mapping: MappingSpecification) -> (key: ByteView, payload: ByteView) {
    // The TABs of such rows separate columns.
    let isTabbed = mapping.format == .csv && mapping.csv.delimiter == 0x09
    return isTabbed ? (.empty, line) : splitKey(line, isEnvelope: mapping.format.isEnvelope)
  }

  /// Reads the next thousand lines, and looks at them.
  private func read(_ input: inout Input) throws {
    input.block.removeAll()
    let mapping = input.source.mapping
    if input.isAtStart, mapping.format == .csv, mapping.csv.hasHeader {
      if try input.file.next(into: &input.block, records: 1) { try check(header: input.block, of: input) }
      input.block.removeAll()
    }
    input.isAtStart = false
    input.isEnded = try !input.file.next(into: &input.block, records: 1_000)
    guard input.needsKeys, !input.isEnded else { return }
    try input.block.bytes.withUnsafeBufferPointer { bytes in
      for line in input.block.lines {
        let text = ByteView(UnsafeBufferPointer(rebasing: bytes[line.start..<line.start + line.length]))
        guard FilePlayer.split(text, mapping).key.isEmpty else { continue }
        throw FileRunError(
          "\(input.file.path), line \(line.number): the record has no key, and the topic "
            + "'\(input.source.originalTopic)' has several partitions: records of one order would get to several tasks, "
            + "which know nothing of each other. Put the order and a TAB before each line, or give the source routed: true"
        )
      }
    }
  }

  /// The daemon reads a row by the places of its columns.
  private func check(header block: LineBlock, of input: Input) throws {
    let dialect = input.source.mapping.csv
    let names = try block.bytes.withUnsafeBufferPointer { bytes in
      let line = block.lines[0]
      let text = ByteView(UnsafeBufferPointer(rebasing: bytes[line.start..<line.start + line.length]))
      return try dialect.names(of: FilePlayer.split(text, input.source.mapping).payload)
    }
    guard names == dialect.columns else {
      throw FileRunError(
        "\(input.file.path), line 1: the header names the columns \(names.joined(separator: ", ")), and the topic of the source "
          + "'\(input.source.name)' has \(dialect.columns.joined(separator: ", ")) (csv.columns)")
    }
  }

  private func send(_ input: Input) throws -> Int {
    try input.block.bytes.withUnsafeBufferPointer { bytes in
      for line in input.block.lines {
        let text = ByteView(UnsafeBufferPointer(rebasing: bytes[line.start..<line.start + line.length]))
        let (key, payload) = FilePlayer.split(text, input.source.mapping)
        try producer.produce(
          topic: input.source.originalTopic, key: key.isEmpty ? nil : key.buffer,
          value: payload.isEmpty ? nil : payload.buffer)
      }
    }
    return input.block.count
  }
}
