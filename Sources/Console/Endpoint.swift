import Foundation
import HTTPTypes
import Hummingbird
import NIOCore

/// What Hummingbird hands from the connection to the handler.
struct ConsoleContext: RequestContext {
  var coreContext: CoreRequestContextStorage
  let channel: any Channel
  /// Who sends the request; nil on the few endpoints that are open.
  var principal: Principal?

  init(source: ApplicationRequestContextSource) {
    coreContext = .init(source: source)
    channel = source.channel
  }

  var address: String { channel.remoteAddress?.ipAddress ?? "" }
}

/// One operation of the API. The router, the checks of access and the OpenAPI description are all made from this table,
/// so that none of them can know of more or of less than the others.
struct Endpoint: Sendable {
  enum Access: Sendable, Equatable {
    /// Health, and beginning a session.
    case open
    case needs(Permission)
    /// What it says of others must not depend on rows: refused to whoever sees some rows only.
    case needsEverything(Permission)
  }

  struct Parameter: Sendable {
    var name: String
    var schema: JSON
    var help: String
    var isHeader = false
    /// `dimension.<name>`: a family of parameters.
    var isRequired = false
  }

  struct Answer: Sendable {
    var status: Int
    var help: String
    var type = "application/json"
    /// nil: no body, or no JSON.
    var schema: JSON?
    /// Operations that something in the answer leads to: their parameter, and where its value stands.
    var links: [(operation: String, parameter: String, at: String)] = []
  }

  struct Body: Sendable {
    var types: [String]
    var schema: JSON
    var help: String
  }

  var method: HTTPRequest.Method
  /// `/v1/breaks/{id}`.
  var path: String
  var operation: String
  var tag: String
  var help: String
  var access: Access
  var parameters: [Parameter] = []
  var body: Body?
  var answers: [Answer]
  /// Whether the answer goes on for as long as the client listens; such requests do not count as work in progress.
  var isStream = false
  var handle: @Sendable (Console, Request, ConsoleContext) async throws -> Response
}

/// The query of a request: only what the endpoint knows, each value decoded.
struct Query {
  private var values: [String: [String]] = [:]

  init(_ request: Request, _ endpoint: [Endpoint.Parameter], families: [String: [String]] = [:]) throws {
    guard let query = request.uri.query else { return }
    let known = endpoint.filter { !$0.isHeader }.map(\.name)
    for part in query.split(separator: "&") {
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard let name = Query.decode(pair[0]), let value = pair.count == 2 ? Query.decode(pair[1]) : "" else {
        throw Problem.badRequest("the query is not percent-encoded UTF-8")
      }
      guard !value.utf8.contains(0) else { throw Problem.badRequest("'\(name)' holds a null character") }
      let isOfFamily = families.contains {
        name.hasPrefix($0.key) && $0.value.contains(String(name.dropFirst($0.key.count)))
      }
      guard known.contains(name) || isOfFamily else {
        throw Problem.badRequest(
          "the parameter '\(name.prefix(64))' is not known; known are \(known.joined(separator: ", "))")
      }
      values[name, default: []].append(value)
    }
  }

  private static func decode(_ text: Substring) -> String? {
    guard text.utf8.contains(where: { $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "%") }) else { return String(text) }
    return text.replacing("+", with: " ").removingPercentEncoding
  }

  var names: [String] { Array(values.keys) }

  /// One value; a second one is an error.
  func text(_ name: String) throws -> String? {
    guard let all = values[name] else { return nil }
    guard all.count == 1 else { throw Problem.badRequest("'\(name)' is given more than once") }
    return all[0]
  }

  /// Values separated by commas, or given several times.
  func list(_ name: String, of known: [String]? = nil) throws -> [String] {
    let found = (values[name] ?? []).flatMap {
      $0.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    }
    guard found.count <= 100 else { throw Problem.badRequest("'\(name)' has more than 100 values") }
    if let known, let strange = found.first(where: { !known.contains($0) }) {
      throw Problem.badRequest("'\(name)': '\(strange.prefix(64))' is not one of \(known.joined(separator: ", "))")
    }
    return found
  }

  func integer(_ name: String, _ standard: Int, _ range: ClosedRange<Int>) throws -> Int {
    guard let text = try text(name) else { return standard }
    guard let value = Int(text), range.contains(value) else {
      throw Problem.badRequest("'\(name)': a whole number from \(range.lowerBound) to \(range.upperBound) is expected")
    }
    return value
  }

  func bool(_ name: String) throws -> Bool? {
    switch try text(name) {
    case nil: nil
    case "true": true
    case "false": false
    default: throw Problem.badRequest("'\(name)': true or false is expected")
    }
  }
}

extension ConsoleContext {
  /// A parameter of the path, decoded.
  func path(_ name: String) throws -> String {
    guard let raw = parameters.get(name), let text = raw.removingPercentEncoding, !text.utf8.contains(0) else {
      throw Problem.badRequest("the path is not percent-encoded UTF-8")
    }
    return text
  }
}

extension Request {
  /// The whole body, within the limit; a connection that has not sent it in time is closed.
  func wholeBody(limit: Int, timeout_ms: Int64, _ context: ConsoleContext) async throws -> ByteBuffer {
    if let length = headers[.contentLength].flatMap({ Int($0) }), length > limit { throw Request.tooLarge(limit) }
    let deadline = Deadline(context.channel, timeout_ms: timeout_ms)
    defer { deadline.cancel() }
    var whole = ByteBuffer()
    for try await part in body {
      guard whole.readableBytes + part.readableBytes <= limit else { throw Request.tooLarge(limit) }
      whole.writeImmutableBuffer(part)
    }
    return whole
  }

  static func tooLarge(_ limit: Int) -> Problem {
    var problem = Problem(.contentTooLarge, "too_large", "the body has more than \(limit) bytes")
    // What is left of the body is not waited for.
    problem.headers[.connection] = "close"
    return problem
  }

  /// The body as JSON of a type; what is wrong is told with its place.
  /// - Parameter keys: what the object may have; another one is an error, since it may be one of these misspelt. Empty: any.
  func decoded<T: Decodable>(
    _ type: T.Type, keys: [String] = [], limit: Int, timeout_ms: Int64, _ context: ConsoleContext
  ) async throws -> T {
    try requireType(["application/json"])
    let buffer = try await wholeBody(limit: limit, timeout_ms: timeout_ms, context)
    do {
      let data = Data(buffer: buffer)
      let value = try JSONDecoder().decode(type, from: data)
      if !keys.isEmpty {
        let names = try JSONDecoder().decode(ObjectKeys.self, from: data).names
        if let strange = names.first(where: { !keys.contains($0) }) {
          throw Problem(
            .badRequest, "bad_body",
            "the body cannot be read: '\(strange.prefix(64))' is not known; known are \(keys.joined(separator: ", "))")
        }
      }
      return value
    } catch let error as DecodingError {
      throw Problem(.badRequest, "bad_body", "the body cannot be read: \(Request.told(error))")
    }
  }

  func requireType(_ types: [String]) throws {
    let given = (headers[.contentType] ?? "").prefix { $0 != ";" }.trimmingCharacters(in: .whitespaces).lowercased()
    guard types.contains(given) else {
      throw Problem(
        .unsupportedMediaType, "unsupported_media_type", "Content-Type must be \(types.joined(separator: " or "))")
    }
  }

  static func told(_ error: DecodingError) -> String {
    func place(_ path: [any CodingKey]) -> String {
      path.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }.joined(separator: ".")
    }
    return switch error {
    case .keyNotFound(let key, let context): "'\(place(context.codingPath + [key]))' is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context):
      "'\(place(context.codingPath))' has another type"
    case .dataCorrupted(let context):
      context.codingPath.isEmpty ? "it is no JSON" : "'\(place(context.codingPath))': \(context.debugDescription)"
    @unknown default: "it is not understood"
    }
  }
}

/// The names in an object, in the order of the alphabet.
private struct ObjectKeys: Decodable {
  var names: [String]

  private struct Key: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  init(from decoder: any Decoder) throws {
    names = try decoder.container(keyedBy: Key.self).allKeys.map(\.stringValue).sorted()
  }
}

/// Closes a connection that keeps its request waiting.
final class Deadline: @unchecked Sendable {
  private let channel: any Channel
  private let task: Scheduled<Void>

  init(_ channel: any Channel, timeout_ms: Int64) {
    self.channel = channel
    task = channel.eventLoop.scheduleTask(in: .milliseconds(timeout_ms)) { channel.close(promise: nil) }
  }

  func cancel() { task.cancel() }
}
