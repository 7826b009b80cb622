import Configuration
import ConsoleStore
import Crypto
import Decoding
import Domain
import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import Pipeline

extension Console {
  /// Errors that are told one by one; all are counted.
  static let maximumRecordErrors = 1_000
  /// A streamed intake is sent to Kafka in pieces of so many records or bytes, of which two are on their way at once.
  static let intakePiece = 2_000
  static let intakePieceBytes = 1 << 20

  static func intakeEndpoints(_ configuration: Configuration) -> [Endpoint] {
    func endpoint(_ path: String, _ operation: String, _ kind: SourceKind, _ help: String) -> Endpoint {
      let names = configuration.sources.filter {
        $0.mapping.kind == kind && $0.mapping.format != .csv && $0.mapping.format.isText
      }.map(\.name)
      let parameters: [Endpoint.Parameter] = [
        .init(
          name: "source", schema: names.isEmpty ? Schemas.text : Schemas.words(names),
          help: "The source whose mapping the records follow; may be left out where there is one."),
        .init(
          name: "key", schema: ["type": "string", "minLength": 1, "maxLength": 1024],
          help: "Record key of a single record, for mappings that use `$key`."),
        .init(
          name: "Idempotency-Key", schema: ["type": "string", "minLength": 1, "maxLength": 200],
          help: "The same key and the same body are sent to Kafka once; the answer is kept for a day.", isHeader: true),
      ]
      return Endpoint(
        method: .post, path: path, operation: operation, tag: "intake", help: help, access: .needs(.intake),
        parameters: parameters,
        body: .init(
          types: ["application/json", "application/x-ndjson"],
          schema: [
            "oneOf": [
              // What is in a list is judged one by one: what is no record is told as an error of its own.
              ["type": "object"], ["type": "array"],
            ]
          ],
          help: "One record, a list of records, or a record a line (`application/x-ndjson`, streamed; a line may begin "
            + "with a record key and a tab), as the mapping of the source expects them."),
        answers: [
          .init(
            status: 200, help: "Kafka has the accepted records; the others are told one by one.",
            schema: Schemas.reference("IntakeResult")),
          .init(status: 409, help: "The same key is being worked on."),
          .init(status: 413, help: "The body is too large."), .init(status: 415, help: "Another content type."),
          .init(status: 422, help: "The record is refused, or the source is not clear."),
        ], isStream: false, handle: { try await $0.take($1, $2, kind, parameters) })
    }
    return [
      endpoint("/v1/orders", "postOrders", .orders, "Takes order events in."),
      endpoint("/v1/postings", "postPostings", .ledger, "Takes ledger postings in."),
    ]
  }

  /// What became of the records of a request.
  struct IntakeResult: Sendable {
    var accepted = 0
    /// Of those that are accepted.
    var waiting = 0
    var skipped = 0
    var rejected = 0
    var errors: [(index: Int, fault: DataFault)] = []

    mutating func refuse(_ index: Int, _ fault: DataFault) {
      rejected += 1
      if errors.count < Console.maximumRecordErrors { errors.append((index, fault)) }
    }

    var errorsJSON: JSON {
      .array(
        errors.map { index, fault in
          [
            "index": .int(index), "reason": .string(fault.reason.rawValue), "field": .string(fault.field),
            "detail": .string(fault.detail),
          ]
        })
    }

    func json(_ source: String, isReplayed: Bool) -> JSON {
      [
        "source": .string(source), "accepted": .int(accepted), "waiting": .int(waiting), "skipped": .int(skipped),
        "rejected": .int(rejected),
        "errors": errorsJSON, "replayed": .bool(isReplayed),
      ]
    }
  }

  private func take(
    _ request: Request, _ context: ConsoleContext, _ kind: SourceKind, _ parameters: [Endpoint.Parameter]
  ) async throws -> Response {
    let query = try Query(request, parameters)
    try request.requireType(["application/json", "application/x-ndjson"])
    let source = try intake.source(kind, named: try query.text("source"))
    let recordKey = try query.text("key")
    if let recordKey, recordKey.isEmpty || recordKey.utf8.count > 1_024 {
      throw Problem.badRequest("'key': 1 to 1024 bytes are expected")
    }
    let isStream = request.headers[.contentType]!.lowercased().hasPrefix("application/x-ndjson")
    let key = try Console.idempotencyKey(request).map { "\(context.principal!.name)|\(source.name)|\($0)" }
    let work: @Sendable (Bool) async throws -> (digest: String, body: String) = { isReplay in
      isStream
        ? try await self.takeStream(request, context, source, sends: !isReplay)
        : try await self.takeWhole(request, context, source, recordKey, sends: !isReplay)
    }
    guard let key else { return try await work(false).body.jsonResponse }
    switch try await state.begin(key, now_ms: wallClock_ms()) {
    case .new:
      do {
        let (digest, body) = try await state.holding(key) { try await work(false) }
        try await state.finish(key, digest: digest, body: body)
        return body.jsonResponse
      } catch {
        // Nothing is kept of what failed: the same key may be tried again.
        try await state.forget(key)
        throw error
      }
    case .running: throw Problem(.conflict, "in_progress", "a request with this Idempotency-Key is being worked on")
    case .done(let digest, let body):
      let (again, _) = try await work(true)
      guard again == digest else {
        throw Problem.unprocessable("the Idempotency-Key was used for another request")
      }
      return String(body.dropLast("false}".count) + "true}").jsonResponse
    }
  }

  /// One record or a list of them.
  private func takeWhole(
    _ request: Request, _ context: ConsoleContext, _ source: Intake.Source, _ key: String?, sends: Bool
  ) async throws -> (digest: String, body: String) {
    let buffer = try await request.wholeBody(
      limit: settings.bodyLimit, timeout_ms: settings.requestTimeout_ms, context)
    let digest = hexadecimal(SHA256.hash(data: Data(buffer: buffer)))
    guard sends else { return (digest, "") }
    var result = IntakeResult()
    var isSingle = false
    let latest_ms = wallClock_ms() + intake.maximumFuture_ms
    let messages = try buffer.withUnsafeReadableBytes { raw -> [Gateway.Message] in
      let bytes = raw.bindMemory(to: UInt8.self)
      let first = bytes.first { $0 > 0x20 }
      isSingle = first != UInt8(ascii: "[")
      if !isSingle, key != nil { throw Problem.badRequest("'key' goes with a single record") }
      let parts = isSingle ? [0..<bytes.count] : try splitArray(bytes)
      return intake.withChecker(source) { checker in
        check(parts.lazy.map { UnsafeBufferPointer(rebasing: bytes[$0]) }, key, source, checker, latest_ms, &result)
      }
    }
    try await gateway.send(messages)
    result.accepted = messages.count
    try noteIntake(result, source, context)
    if isSingle, let error = result.errors.first {
      var problem = Problem.unprocessable(
        "the record is refused: \(error.fault.field.isEmpty ? "" : error.fault.field + ": ")\(error.fault.detail)")
      problem.extra = [("errors", result.errorsJSON)]
      throw problem
    }
    return (digest, result.json(source.name, isReplayed: false).text)
  }

  private func check(
    _ records: some Sequence<UnsafeBufferPointer<UInt8>>, _ key: String?, _ source: Intake.Source,
    _ checker: RecordChecker, _ latest_ms: Int64, _ result: inout IntakeResult
  ) -> [Gateway.Message] {
    var messages: [Gateway.Message] = []
    for (index, record) in records.enumerated() {
      let outcome =
        if let key {
          Array(key.utf8).withUnsafeBufferPointer { checker.check(record, key: $0, latest_ms: latest_ms) }
        } else {
          checker.check(record, key: nil, latest_ms: latest_ms)
        }
      switch outcome {
      case .good(let key): messages.append(.init(topic: source.topic, key: key, value: Array(record)))
      case .waiting(let key):
        messages.append(.init(topic: source.topic, key: key, value: Array(record)))
        result.waiting += 1
      case .skipped: result.skipped += 1
      case .bad(let fault): result.refuse(index, fault)
      }
    }
    return messages
  }

  private func noteIntake(_ result: IntakeResult, _ source: Intake.Source, _ context: ConsoleContext) throws {
    metrics.add("tieout_serve_intake_records_total{source=\"\(Metrics.label(source.name))\"}", result.accepted)
    metrics.add("tieout_serve_intake_faults_total{source=\"\(Metrics.label(source.name))\"}", result.rejected)
    try audit.write(
      AuditLog.Entry(
        actor: context.principal!.name, event: "intake \(source.name)", outcome: .done, address: context.address,
        detail: [("accepted", .int(result.accepted)), ("rejected", .int(result.rejected))]))
  }

  // MARK: - A stream

  /// A record a line. Memory holds three pieces, however long the stream is; Kafka's pace is the sender's.
  private func takeStream(
    _ request: Request, _ context: ConsoleContext, _ source: Intake.Source, sends: Bool
  ) async throws -> (digest: String, body: String) {
    var lines = LineSplitter(maximumBytes: intake.maximumRecordBytes)
    var hash = SHA256()
    var result = IntakeResult()
    var taken = 0
    var piece: [Gateway.Message] = []
    var pieceBytes = 0
    var index = 0
    var onWay: [Task<Int, any Error>] = []
    let latest_ms = wallClock_ms() + intake.maximumFuture_ms
    let gateway = gateway
    /// Waits for the oldest piece.
    func settle() async throws {
      let task = onWay.removeFirst()
      result.accepted += try await task.value
    }
    func send() async throws {
      guard !piece.isEmpty else { return }
      let messages = piece
      piece = []
      pieceBytes = 0
      onWay.append(
        Task {
          try await gateway.send(messages)
          return messages.count
        })
      if onWay.count > 1 { try await settle() }
    }
    func take(_ line: UnsafeBufferPointer<UInt8>, _ checker: RecordChecker) {
      defer { index += 1 }
      var record = line
      if record.last == 0x0d { record = UnsafeBufferPointer(rebasing: record.dropLast()) }
      guard record.contains(where: { $0 > 0x20 }) else { return }
      var key: UnsafeBufferPointer<UInt8>?
      if record.first != UInt8(ascii: "{"), let tab = record.firstIndex(of: 0x09) {
        key = UnsafeBufferPointer(rebasing: record[..<tab])
        record = UnsafeBufferPointer(rebasing: record[(tab + 1)...])
      }
      switch checker.check(record, key: key, latest_ms: latest_ms) {
      case .good(let key):
        piece.append(.init(topic: source.topic, key: key, value: Array(record)))
        pieceBytes += record.count
      case .waiting(let key):
        piece.append(.init(topic: source.topic, key: key, value: Array(record)))
        pieceBytes += record.count
        result.waiting += 1
      case .skipped: result.skipped += 1
      case .bad(let fault): result.refuse(index, fault)
      }
    }
    do {
      var deadline = Deadline(context.channel, timeout_ms: settings.requestTimeout_ms)
      defer { deadline.cancel() }
      for try await part in request.body {
        // Every piece in its time; and not a byte at a time for ever.
        deadline.cancel()
        taken += part.readableBytes
        guard taken <= settings.streamLimit else { throw Request.tooLarge(settings.streamLimit) }
        part.withUnsafeReadableBytes { hash.update(bufferPointer: $0) }
        if sends {
          intake.withChecker(source) { checker in lines.take(part) { take($0, checker) } }
          if lines.isTooLong {
            throw Problem(
              .contentTooLarge, "too_large", "line \(index + 1) has more than \(intake.maximumRecordBytes) bytes")
          }
          if piece.count >= Console.intakePiece || pieceBytes >= Console.intakePieceBytes { try await send() }
        }
        deadline = Deadline(context.channel, timeout_ms: settings.requestTimeout_ms)
      }
      deadline.cancel()
      if sends {
        intake.withChecker(source) { checker in lines.finish { take($0, checker) } }
        try await send()
        while !onWay.isEmpty { try await settle() }
      }
    } catch {
      // What is on its way is waited for, so that the count that is told is right.
      for task in onWay { if let count = try? await task.value { result.accepted += count } }
      try noteIntake(result, source, context)
      var problem = (error as? Problem) ?? .busy("the stream broke off: \(error)")
      problem.detail += "; \(result.accepted) records before that are in Kafka"
      throw problem
    }
    let digest = hexadecimal(hash.finalize())
    guard sends else { return (digest, "") }
    try noteIntake(result, source, context)
    return (digest, result.json(source.name, isReplayed: false).text)
  }
}

/// Cuts a stream into lines without copying those that lie within one piece.
struct LineSplitter {
  private var rest: [UInt8] = []
  private let maximumBytes: Int
  private(set) var isTooLong = false

  init(maximumBytes: Int) { self.maximumBytes = maximumBytes }

  mutating func take(_ part: ByteBuffer, _ body: (UnsafeBufferPointer<UInt8>) -> Void) {
    part.withUnsafeReadableBytes { raw in
      var bytes = raw.bindMemory(to: UInt8.self)[...]
      while let end = bytes.firstIndex(of: 0x0a) {
        if rest.isEmpty {
          body(UnsafeBufferPointer(rebasing: bytes[..<end]))
        } else {
          rest += bytes[..<end]
          rest.withUnsafeBufferPointer(body)
          rest.removeAll(keepingCapacity: true)
        }
        bytes = bytes[(end + 1)...]
      }
      rest += bytes
      if rest.count > maximumBytes { isTooLong = true }
    }
  }

  mutating func finish(_ body: (UnsafeBufferPointer<UInt8>) -> Void) {
    if !rest.isEmpty { rest.withUnsafeBufferPointer(body) }
    rest = []
  }
}

extension String {
  fileprivate var jsonResponse: Response { .json(.raw(self)) }
}
