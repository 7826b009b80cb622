import Aggregates
import Configuration
import Decoding
import Dispatch
import Domain
import Foundation
import Matching

/// What a file run takes.
public struct FileRunOptions: Sendable {
  /// Paths, or `SOURCE=PATH` where the configuration has several sources of the kind; `-` is standard input.
  public var orders: [String]
  public var ledger: [String]
  public var directory: String
  public var threads: Int
  /// The wall clock, for the future-dating guard.
  public var now_ms: Int64
  /// What had happened by then is judged: records of later event times are left out, and ties whose deadline lies behind
  /// this time are left alone as not due; nil: all records, and everything is due at the end.
  public var asOf_ms: Int64?

  public init(
    orders: [String], ledger: [String], directory: String, threads: Int, now_ms: Int64, asOf_ms: Int64? = nil
  ) {
    self.orders = orders
    self.ledger = ledger
    self.directory = directory
    self.threads = max(1, threads)
    self.now_ms = now_ms
    self.asOf_ms = asOf_ms
  }

  /// The last millisecond of a day (`2026-01-31`, UTC), or an RFC 3339 time; nil for any other text.
  public static func asOf_ms(_ text: String) -> Int64? {
    if text.utf8.count == 10, let day = DateStyle.iso.day(text) { return (Int64(day) + 1) * 86_400_000 - 1 }
    return Timestamps.parse(text)
  }
}

public struct FileRunError: Error, CustomStringConvertible {
  public var description: String
  public init(_ description: String) { self.description = description }
}

/// Reconciles files with the same decoders and the same matcher as the daemon.
///
/// The inputs are read in rounds, always from the one whose event time is furthest behind, so that orders and ledger
/// advance together and only a window of ties is held. Each round is decoded in slices and matched by key in
/// `FileReconciler.taskCount` fixed tasks; how many threads share that work changes nothing in what comes out.
public final class FileReconciler {
  /// Fixed, so that the result does not depend on the number of threads.
  static let taskCount = 16
  /// Records of one round: enough to share out, little enough to stay in cache.
  static let roundRecords = 16_384

  private final class Task {
    var matcher: Matcher
    var outputs = MatchOutputs()
    var orders = RecordBuffer<OrderEvent>()
    var postings = RecordBuffer<Posting>()
    var quarantined: [Int64] = []

    init(_ configuration: Configuration) {
      var policy = configuration.policy
      // One answer at the end: nothing provisional is of use to a reader of files.
      policy.reportsProvisional = false
      matcher = Matcher(policy: policy, dimensionCount: configuration.dimensions.count)
      matcher.periods = configuration.periods ?? .months
      matcher.tracksPeriods = true
      matcher.judgesParts = false
      matcher.tellSources(configuration.sources.count)
      if let settings = configuration.aggregates {
        matcher.inheritedDimensions = settings.inheritedDimensions(of: configuration.dimensions.count)
        matcher.aggregates = TaskAggregates(
          dimensionCount: configuration.dimensions.count, settings: settings, calendar: configuration.periods ?? .months
        )
      }
    }
  }

  private struct Input {
    var file: InputFile
    var source: Int
    var partition: Int32
    var largest_ms = Int64.min
    var isEnded = false
    var needsHeader: Bool
    /// Lines of the files that were read before it where files are read one after the other: its places are behind theirs.
    var linesBefore: Int64 = 0
    var lastLine: Int64 = 0
    var records = 0
    /// Records that lie so far behind one before them that their tie may have been judged, and how far at the most.
    var behind = 0
    var mostBehind_ms: Int64 = 0
  }

  private let configuration: Configuration
  private let options: FileRunOptions
  private var lanes: [[Lane]]
  private var tasks: [Task]
  private var inputs: [Input] = []
  private let spool: BreakSpool
  private var encoder: BreakEncoder
  private var deadLetterEncoder = DeadLetterEncoder()
  private var deadLetters: [UInt8] = []
  private var deadLetterFile: Int32 = -1
  /// By input: what reads the values that must be unique.
  private var uniqueReaders: [UniqueReader?] = []
  private var unique: UniqueValues
  public private(set) var summary = RunSummary()
  /// Of a run that is made once more, with time enough: the files that want it.
  private var disorder: [FileDisorder] = []
  /// Called after each round with (records so far, fraction of the bytes read if known).
  public var onProgress: ((Int, Double?) -> Void)?

  public init(configuration: Configuration, options: FileRunOptions) throws {
    self.configuration = configuration
    self.options = options
    if let table = configuration.topicTables.first {
      throw FileRunError(
        "\(table.words) comes from the topic \(table.topic!), which a run over files does not read: give it a file")
    }
    if let topic = configuration.variance?.budgetTopic {
      throw FileRunError(
        "the budget comes from the topic \(topic), which a run over files does not read: give it a file")
    }
    let plans = try configuration.sources.map { try MappingPlan($0.mapping) }
    lanes = (0..<options.threads).map { _ in
      zip(plans, configuration.sources).map { Lane($0, rules: $1.rules) }
    }
    let latest_ms = options.now_ms.addingReportingOverflow(configuration.policy.maximumFuture_ms).partialValue
    if let asOf_ms = options.asOf_ms, asOf_ms < latest_ms {
      for lane in lanes { for lane in lane { lane.leaveOut(asOf_ms + 1...latest_ms) } }
    }
    tasks = (0..<FileReconciler.taskCount).map { _ in Task(configuration) }
    try FileReconciler.makeDirectory(options.directory)
    spool = try BreakSpool(directory: options.directory)
    encoder = BreakEncoder(dimensionNames: configuration.dimensions)
    unique = UniqueValues(maximum: configuration.maximumUnique)
    for (kind, paths) in [(SourceKind.orders, options.orders), (.ledger, options.ledger)] {
      for path in paths { try addInput(path, kind) }
    }
    guard !inputs.isEmpty else { throw FileRunError("no input files") }
  }

  deinit { if deadLetterFile >= 0 { close(deadLetterFile) } }

  /// What a run writes.
  static let results = ["breaks.jsonl", "dead-letters.jsonl", "summary.json", "revenue.jsonl", "variance.jsonl"]

  /// Removes what an earlier run has left: a run that fails leaves no results, and none that look like its own.
  public static func removeResults(in directory: String) throws {
    for name in results where unlink(directory + "/" + name) != 0 && errno != ENOENT && errno != ENOTDIR {
      throw FileRunError(
        "\(directory)/\(name): the result of an earlier run cannot be removed: \(String(cString: strerror(errno)))")
    }
  }

  /// Makes the directory for the results, and those above it.
  private static func makeDirectory(_ path: String) throws {
    var made = path.hasPrefix("/") ? "" : "."
    for part in path.split(separator: "/") {
      made += "/" + part
      guard mkdir(made, 0o777) != 0 else { continue }
      let code = errno
      var status = stat()
      if stat(made, &status) == 0, status.st_mode & S_IFMT == S_IFDIR { continue }
      let reason = code == EEXIST ? "it is no directory" : String(cString: strerror(code))
      throw FileRunError("\(made): the directory for the results cannot be made: \(reason)")
    }
    guard access(path, W_OK) == 0 else {
      throw FileRunError("\(path): the results cannot be written there: \(String(cString: strerror(errno)))")
    }
  }

  private func addInput(_ argument: String, _ kind: SourceKind) throws {
    let (source, path) = try configuration.source(of: argument, kind)
    let mapping = configuration.sources[source].mapping
    guard mapping.format.isText else {
      throw FileRunError(
        "'\(argument)': the source '\(configuration.sources[source].name)' has the format \(mapping.format.rawValue), "
          + "which is read from topics alone")
    }
    let isCSV = mapping.format == .csv
    let file = try InputFile(
      path: path, style: isCSV ? .csv(quote: mapping.csv.quote, delimiter: mapping.csv.delimiter) : .lines,
      maximumLineBytes: mapping.maximumRecordBytes)
    let partition = Int32(inputs.filter { $0.source == source }.count)
    inputs.append(
      Input(
        file: file, source: source, partition: partition,
        needsHeader: isCSV && mapping.csv.hasHeader))
    uniqueReaders.append(
      UniqueReader(
        configuration.sources[source], dimensionCount: configuration.dimensions.count, file: file.path))
    for task in tasks {
      task.matcher.watermarks.register(source: UInt16(source), partition: partition, now_ms: options.now_ms)
    }
  }

  /// Sources that no file was given for, in the order of the configuration.
  public var sourcesWithoutFiles: [String] {
    configuration.sources.indices.filter { at in !inputs.contains { $0.source == at } }.map {
      configuration.sources[$0].name
    }
  }

  /// Reads everything, writes `breaks.jsonl`, `dead-letters.jsonl` and `summary.json`, and returns the summary.
  public func run() throws -> RunSummary {
    do {
      return try reconcile()
    } catch {
      // Nothing of it is to be taken for a result.
      for name in FileReconciler.results { unlink(options.directory + "/" + name) }
      throw error
    }
  }

  private func reconcile() throws -> RunSummary {
    let deadLetterPath = options.directory + "/dead-letters.jsonl"
    deadLetterFile = open(deadLetterPath, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard deadLetterFile >= 0 else { throw FileRunError("\(deadLetterPath): \(String(cString: strerror(errno)))") }
    var block = LineBlock()
    while let at = inputs.indices.filter({ isReadable($0) }).min(by: {
      inputs[$0].largest_ms < inputs[$1].largest_ms
    }) {
      if inputs[at].needsHeader { try readHeader(at) }
      block.removeAll()
      guard try inputs[at].file.next(into: &block, records: FileReconciler.roundRecords) else {
        inputs[at].isEnded = true
        if configuration.sources[inputs[at].source].mapping.tellsRowTimes {
          for later in inputs.indices where later > at && inputs[later].source == inputs[at].source {
            inputs[later].linesBefore = inputs[at].linesBefore + inputs[at].lastLine
          }
        }
        for task in tasks {
          task.matcher.watermarks.end(
            source: UInt16(inputs[at].source), partition: inputs[at].partition, now_ms: options.now_ms)
        }
        continue
      }
      try round(at, block)
      let state = tasks.reduce(0) { $0 + $1.matcher.liveBytes }
      summary.peakStateBytes = max(summary.peakStateBytes, state)
      guard state <= configuration.memoryLimit else {
        if disorder.contains(where: \.isWaitedFor) { throw StateLimitError() }
        throw FileRunError(
          "the state of open ties reached \(state >> 20) MiB, the limit is \(configuration.memoryLimit >> 20) MiB: "
            + "raise limits.memory, or shorten matching.window or matching.retention")
      }
      onProgress?(summary.decode.records + block.count, progress)
    }
    if let again = try inOrder() {
      do {
        summary = try again.run()
      } catch is StateLimitError {
        summary = try asItCame().run()
      }
      return summary
    }
    try finish()
    try writeAll(deadLetterFile, deadLetters, deadLetterPath)
    try spool.finish(to: options.directory + "/breaks.jsonl")
    collect()
    try writeRevenue()
    let summaryPath = options.directory + "/summary.json"
    guard FileManager.default.createFile(atPath: summaryPath, contents: Data(summary.json(configuration).utf8)) else {
      throw FileRunError("\(summaryPath): cannot be written")
    }
    return summary
  }

  /// Whether an input is to be read now. Of a change feed that tells by its order which image of a row is the newest, the
  /// files are read one after the other.
  private func isReadable(_ at: Int) -> Bool {
    if inputs[at].isEnded { return false }
    guard configuration.sources[inputs[at].source].mapping.tellsRowTimes else { return true }
    return !inputs[..<at].contains { $0.source == inputs[at].source && !$0.isEnded }
  }

  /// A file of which one record in so many is that far behind is in another order than that of event time.
  private static let disorderedShare = 100

  /// The run that is to take this one's place, where a file turns out to be in another order than that of event time: one
  /// whose watermark trails so far that nothing of it is late. A file that cannot be read twice is only told of.
  private func inOrder() throws -> FileReconciler? {
    summary.disorder = disorder
    // Where no record was late, no order would have been better.
    guard disorder.isEmpty, tasks.contains(where: { $0.matcher.counters.late > 0 }) else { return nil }
    let found = inputs.filter { $0.behind > 0 }.map { input in
      FileDisorder(
        file: input.file.path, records: input.behind, mostBehind_ms: input.mostBehind_ms,
        isWaitedFor: input.file.isRereadable && input.behind * FileReconciler.disorderedShare >= input.records)
    }
    summary.disorder = found
    guard let most = found.filter(\.isWaitedFor).map(\.mostBehind_ms).max() else { return nil }
    guard inputs.allSatisfy(\.file.isRereadable) else {
      for at in found.indices { summary.disorder[at].isWaitedFor = false }
      return nil
    }
    var configuration = configuration
    configuration.policy.outOfOrderness_ms = most
    return try another(configuration, isWaitedFor: { $0 <= most })
  }

  /// The run once more as it was, where waiting takes more memory than there may be.
  private func asItCame() throws -> FileReconciler { try another(configuration, isWaitedFor: { _ in false }) }

  private func another(
    _ configuration: Configuration, isWaitedFor: (Int64) -> Bool
  ) throws -> FileReconciler {
    (tasks, lanes) = ([], [])
    unique = UniqueValues(maximum: 0)
    let another = try FileReconciler(configuration: configuration, options: options)
    another.disorder = summary.disorder.map {
      var found = $0
      found.isWaitedFor = isWaitedFor(found.mostBehind_ms)
      return found
    }
    another.onProgress = onProgress
    return another
  }

  /// More ties would have to be held than there is memory for.
  private struct StateLimitError: Error {}

  private var progress: Double? {
    var read: Int64 = 0
    var total: Int64 = 0
    for input in inputs {
      guard let size = input.file.size else { return nil }
      read += input.file.bytesRead
      total += size
    }
    return total == 0 ? nil : Double(read) / Double(total)
  }

  private func readHeader(_ at: Int) throws {
    var block = LineBlock()
    inputs[at].needsHeader = false
    guard try inputs[at].file.next(into: &block, records: 1) else { return }
    for lane in lanes {
      do throws(DataFault) {
        try block.bytes.withUnsafeBufferPointer { bytes throws(DataFault) in
          try lane[inputs[at].source].readHeader(
            ByteView(UnsafeBufferPointer(rebasing: bytes[0..<block.lines[0].length])))
        }
      } catch {
        throw FileRunError(
          "\(inputs[at].file.path), line 1: \(error.field.isEmpty ? "" : "'\(error.field)': ")\(error.detail)")
      }
    }
  }

  /// Decodes a block in slices, routes it to the tasks by order key, and moves the time of all of them.
  private func round(_ at: Int, _ block: LineBlock) throws {
    let source = inputs[at].source
    let partition = inputs[at].partition
    let mapping = configuration.sources[source].mapping
    let threads = options.threads
    let isCSV = mapping.format == .csv
    let isEnvelope = mapping.format.isEnvelope
    let linesBefore = inputs[at].linesBefore
    inputs[at].lastLine = block.lines.last?.number ?? inputs[at].lastLine
    let faults = Slots<[(Int, DataFault)]>(repeating: [], count: threads)
    let largest = Slots<Int64>(repeating: .min, count: threads)
    let routes = Slots<[UInt8]>(repeating: [], count: threads)
    let later = Slots<Int>(repeating: 0, count: threads)
    let asOf_ms = options.asOf_ms ?? .max
    let now_ms = options.now_ms
    let lanes = SendableBox(self.lanes)
    let tasks = SendableBox(self.tasks)
    let latest = now_ms.addingReportingOverflow(configuration.policy.maximumFuture_ms).partialValue
    block.bytes.withUnsafeBufferPointer { bytes in
      let base = SendableBox(bytes.baseAddress)
      DispatchQueue.concurrentPerform(iterations: threads) { thread in
        let lane = lanes.value[thread][source]
        let slice = block.count * thread / threads..<block.count * (thread + 1) / threads
        for index in slice {
          let line = block.lines[index]
          guard line.fullLength <= mapping.maximumRecordBytes else {
            faults[thread].append(
              (
                index,
                DataFault(
                  .schemaInvalid,
                  detail:
                    "the record has \(line.fullLength) bytes, more than the limit of \(mapping.maximumRecordBytes)")
              ))
            continue
          }
          let view = ByteView(base: base.value.map { $0 + line.start }, count: line.length)
          let (key, payload) = isCSV ? (.empty, view) : splitKey(view, isEnvelope: isEnvelope)
          let position = RecordPosition(
            source: UInt16(source), partition: partition, offset: linesBefore + line.number)
          if let fault = lane.decode(key: key, payload: payload, position: position) {
            faults[thread].append((index, fault))
          }
        }
        later[thread] += lane.takeLeftOut()
        func note(_ key: ByteView, _ time_ms: Int64) {
          let isLater = time_ms > asOf_ms && time_ms <= latest
          if isLater { later[thread] += 1 }
          routes[thread].append(isLater ? FileReconciler.noTask : UInt8(FileReconciler.task(of: key)))
          if time_ms <= latest, time_ms > largest[thread] { largest[thread] = min(time_ms, asOf_ms) }
        }
        switch lane {
        case .orders(let lane):
          let records = lane.records.buffer
          for index in records.indices { note(records[index].order, records[index].time_ms) }
        case .ledger(let lane):
          let records = lane.records.buffer
          for index in records.indices { note(records[index].order, records[index].time_ms) }
        }
      }
      noteOrder(at, latest_ms: min(latest, asOf_ms))
      let roundLargest = (0..<threads).map { largest[$0] }.max()!
      DispatchQueue.concurrentPerform(iterations: threads) { thread in
        for number in stride(from: thread, to: FileReconciler.taskCount, by: threads) {
          let task = tasks.value[number]
          for thread in 0..<threads {
            switch lanes.value[thread][source] {
            case .orders(let lane):
              for (index, route) in routes[thread].enumerated() where route == number {
                task.orders.append(lane.records[index])
              }
            case .ledger(let lane):
              for (index, route) in routes[thread].enumerated() where route == number {
                task.postings.append(lane.records[index])
              }
            }
          }
          if task.orders.count > 0 {
            task.matcher.apply(orders: task.orders.buffer, now_ms: now_ms, outputs: &task.outputs)
            task.quarantined.append(contentsOf: task.outputs.quarantined.map { task.orders[$0].position.offset })
          }
          if task.postings.count > 0 {
            task.matcher.apply(postings: task.postings.buffer, now_ms: now_ms, outputs: &task.outputs)
            task.quarantined.append(contentsOf: task.outputs.quarantined.map { task.postings[$0].position.offset })
          }
          task.orders.removeAll()
          task.postings.removeAll()
          task.matcher.watermarks.observe(
            source: UInt16(source), partition: partition, largest_ms: roundLargest, now_ms: now_ms)
          while task.matcher.advance(now_ms: now_ms, outputs: &task.outputs) {}
        }
      }
      inputs[at].largest_ms = max(inputs[at].largest_ms, roundLargest)
    }
    if options.asOf_ms != nil { summary.later = (summary.later ?? 0) + (0..<threads).reduce(0) { $0 + later[$1] } }
    if let reader = uniqueReaders[at] { takeValues(source, reader, latest_ms: min(latest, asOf_ms)) }
    for lane in self.lanes { lane[source].reset() }
    try deadLetter(at, block, (0..<threads).flatMap { faults[$0] })
    try drain()
    summary.decode.records = self.lanes.reduce(0) { $0 + $1.reduce(0) { $0 + $1.counters.records } }
  }

  /// How far the records of a round lie behind those before them, in the order of the file.
  private func noteOrder(_ at: Int, latest_ms: Int64) {
    let policy = configuration.policy
    let bound = [policy.outOfOrderness_ms, policy.window_ms, policy.grace_ms].reduce(Int64(0)) {
      let (sum, overflow) = $0.addingReportingOverflow($1)
      return overflow ? .max : sum
    }
    var largest = inputs[at].largest_ms
    var (records, behind, most) = (0, 0, Int64(0))
    func note(_ time_ms: Int64) {
      if time_ms > latest_ms { return }
      records += 1
      if time_ms >= largest {
        largest = time_ms
      } else if largest.subtractingReportingOverflow(time_ms).partialValue > bound {
        behind += 1
        most = max(most, largest - time_ms)
      }
    }
    for lane in lanes {
      switch lane[inputs[at].source] {
      case .orders(let lane): for record in lane.records.buffer { note(record.time_ms) }
      case .ledger(let lane): for record in lane.records.buffer { note(record.time_ms) }
      }
    }
    inputs[at].records += records
    inputs[at].behind += behind
    inputs[at].mostBehind_ms = max(inputs[at].mostBehind_ms, most)
  }

  /// The values of a round that must be unique, in the order of the lines.
  private func takeValues(_ source: Int, _ reader: UniqueReader, latest_ms: Int64) {
    func take(_ key: UniqueKey, _ record: UniqueRecord) {
      if record.time_ms <= latest_ms { unique.apply(.record(key, record), partition: 0) }
    }
    for lane in lanes {
      switch lane[source] {
      case .orders(let lane): for at in 0..<lane.records.count { reader.read(lane.records[at], take) }
      case .ledger(let lane): for at in 0..<lane.records.count { reader.read(lane.records[at], take) }
      }
    }
  }

  /// Breaks of the values that more than one record has.
  private func tellDuplicates() throws {
    for output in unique.take(asOf_ms: .min) {
      guard case .aBreak(let made) = output else { continue }
      try spool.append(id: made.id, isReported: true, encoder.encode(made))
      summary.duplicateValues += 1
    }
    summary.droppedValues = unique.counts.dropped
  }

  /// Of a record that is left out.
  private static let noTask = UInt8.max

  @inline(__always)
  static func task(of key: ByteView) -> Int { Int(truncatingIfNeeded: Fingerprint(key).low >> 32) & (taskCount - 1) }

  private func deadLetter(_ at: Int, _ block: LineBlock, _ faults: [(Int, DataFault)]) throws {
    var all = faults
    for task in tasks where !task.quarantined.isEmpty {
      for line in task.quarantined {
        guard let index = block.lines.firstIndex(where: { $0.number + inputs[at].linesBefore == line }) else {
          continue
        }
        let fault = DataFault(
          .futureDated, field: "event_time", detail: "the event time lies further ahead of the clock than allowed")
        all.append((index, fault))
        summary.quarantined += 1
      }
      task.quarantined.removeAll()
    }
    guard !all.isEmpty else { return }
    all.sort { $0.0 < $1.0 }
    let mapping = configuration.sources[inputs[at].source].mapping
    var previous = -1
    for (index, found) in all where index != previous || found.reason != .futureDated {
      previous = index
      let fault = found.named(configuration.dimensions)
      let line = block.lines[index]
      let bytes = Array(block.bytes[line.start..<line.start + line.length])
      var key: [UInt8]?
      var payload = bytes
      if mapping.format != .csv {
        bytes.withUnsafeBufferPointer { buffer in
          let (keyView, payloadView) = splitKey(ByteView(buffer), isEnvelope: mapping.format.isEnvelope)
          if !keyView.isEmpty {
            key = Array(keyView.buffer)
            payload = Array(payloadView.buffer)
          }
        }
      }
      if line.fullLength > mapping.maximumRecordBytes { summary.oversized += 1 }
      let isRaw = configuration.writesRaw(of: configuration.sources[inputs[at].source])
      deadLetters.append(
        contentsOf: deadLetterEncoder.encode(
          DeadLetter(
            source: configuration.sources[inputs[at].source].name, origin: inputs[at].file.path, isFile: true,
            partition: inputs[at].partition, offset: line.number, key: isRaw ? key : nil,
            payload: isRaw ? payload : nil, fault: fault,
            payloadBytes: line.fullLength, receivedAt_ms: nil)))
      deadLetters.append(0x0a)
      summary.deadLetters[fault.reason.rawValue, default: 0] += 1
    }
    if deadLetters.count > 1 << 22 {
      try writeAll(deadLetterFile, deadLetters, "dead-letters.jsonl")
      deadLetters.removeAll(keepingCapacity: true)
    }
  }

  /// Spools what the tasks found, in the order of the tasks.
  private func drain() throws {
    for task in tasks {
      for made in task.outputs.breaks {
        try spool.append(
          id: made.id, isReported: made.state.isOpen || made.state == .accepted, encoder.encode(made))
      }
      task.outputs.removeAll()
    }
  }

  private func finish() throws {
    let tasks = SendableBox(self.tasks)
    let threads = options.threads
    let asOf_ms = options.asOf_ms
    DispatchQueue.concurrentPerform(iterations: threads) { thread in
      for number in stride(from: thread, to: FileReconciler.taskCount, by: threads) {
        let task = tasks.value[number]
        if let asOf_ms {
          task.matcher.finish(asOf_ms: asOf_ms, outputs: &task.outputs)
        } else {
          task.matcher.finish(outputs: &task.outputs)
        }
      }
    }
    try drain()
    try tellDuplicates()
  }

  /// The cells of all tasks, where aggregates are wanted: `revenue.jsonl`, one message a line, by key; and their
  /// comparison with a budget, where there is one: `variance.jsonl`.
  private func writeRevenue() throws {
    guard let settings = configuration.aggregates else { return }
    // Each task has its bounds; what they hold together is bounded by that.
    var table = CellTable(
      dimensionCount: configuration.dimensions.count, limits: settings.limits.of(tasks: FileReconciler.taskCount))
    for task in tasks { task.matcher.mergeAggregates(into: &table) }
    let latest = configuration.sources.indices.map { source in
      (
        source: configuration.sources[source].name,
        time_ms: inputs.filter { $0.source == source }.map(\.largest_ms).max() ?? .min
      )
    }
    var encoder = FinanceEncoder(dimensionNames: configuration.dimensions)
    var bytes: [UInt8] = []
    let lines = table.lines
    var start = 0
    while start < lines.count {
      let series = lines[start].key.series
      let end = lines[start...].firstIndex { $0.key.series != series } ?? lines.count
      let messages = RevenueMessage.of(series: Array(lines[start..<end])) { _ in
        // A bounded input is told once.
        MessageStatus(revision: 1, asOf_ms: asOf_ms, watermarks: latest, isProvisional: options.asOf_ms != nil)
      }
      for message in messages { bytes += encoder.encode(message) + [0x0a] }
      start = end
    }
    try write(bytes, to: "revenue.jsonl")
    guard let settings = configuration.variance else { return }
    encoder = FinanceEncoder(dimensionNames: settings.by)
    bytes = []
    let figures = VarianceFigures(settings: settings, dimensions: configuration.dimensions)
    let status = MessageStatus(
      revision: 1, asOf_ms: asOf_ms, watermarks: latest, isProvisional: options.asOf_ms != nil)
    for message in figures.messages(lines, budget: settings.budget, status: { _ in status }) {
      bytes += encoder.encode(message) + [0x0a]
    }
    try write(bytes, to: "variance.jsonl")
  }

  private func write(_ bytes: [UInt8], to name: String) throws {
    let path = options.directory + "/" + name
    guard FileManager.default.createFile(atPath: path, contents: Data(bytes)) else {
      throw FileRunError("\(path): cannot be written")
    }
  }

  /// The input ends with its latest event.
  private var asOf_ms: Int64 { options.asOf_ms ?? inputs.map(\.largest_ms).max() ?? .min }

  private func collect() {
    for task in tasks {
      summary.match.add(task.matcher.counters)
      summary.totals.merge(task.matcher.totals)
      summary.periods.merge(task.matcher.periodTotals)
      let controls = task.matcher.sourceControls
      if summary.sources.isEmpty { summary.sources = Array(repeating: QualityControl(), count: controls.count) }
      for (source, control) in controls.enumerated() { summary.sources[source] += control }
      summary.tiesHeld += task.matcher.tieCount
    }
    summary.asOf_ms = asOf_ms
    var decode = DecodeCounters()
    for lane in lanes { for lane in lane { decode.add(lane.counters) } }
    for (rule, count) in unique.duplicatesByRule { decode.violations[rule, default: 0] += count }
    summary.decode = decode
    summary.match.open[BreakType.dataQuality.index] += summary.duplicateValues
    summary.decode.records += summary.oversized
  }
}

/// One element for each of the threads of a round; each thread touches only its own.
final class Slots<Element>: @unchecked Sendable {
  private let storage: UnsafeMutablePointer<Element>
  private let count: Int

  init(repeating element: Element, count: Int) {
    storage = .allocate(capacity: count)
    storage.initialize(repeating: element, count: count)
    self.count = count
  }

  deinit {
    storage.deinitialize(count: count)
    storage.deallocate()
  }

  subscript(index: Int) -> Element {
    get { storage[index] }
    _modify { yield &storage[index] }
  }
}

/// Carries a value to the threads of one `concurrentPerform`, which share out the work so that no two touch the same
/// lane or task.
struct SendableBox<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}
