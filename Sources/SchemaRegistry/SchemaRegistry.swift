import Decoding
import Foundation
import Synchronization

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// The registry does not answer, or not in a way that a schema could be had from. What waits for the schema must wait.
public struct SchemaRegistryError: Error, Sendable, Equatable, CustomStringConvertible {
  public var description: String
}

/// A schema registry that speaks Confluent's HTTP interface, asked when an id is first seen. Ids are given once and for
/// ever, so what has been heard is kept for the life of the process. From any thread; calls wait for the answer.
public final class SchemaRegistry: AvroSchemas {
  public struct Settings: Hashable, Sendable {
    /// Without a slash at the end.
    public var url: String
    /// Value of the header `Authorization`; never printed.
    public var authorization: String?
    /// For one request.
    public var timeout_ms: Int64 = 10_000

    public init(url: String, authorization: String? = nil, timeout_ms: Int64 = 10_000) {
      self.url = url.hasSuffix("/") ? String(url.dropLast()) : url
      self.authorization = authorization
      self.timeout_ms = timeout_ms
    }

    public static func basic(user: String, password: String) -> String {
      "Basic " + Data("\(user):\(password)".utf8).base64EncodedString()
    }
  }

  private enum Entry {
    case schema(AvroSchema)
    /// The registry has no such id, or what it has is no Avro.
    case none
  }

  public let settings: Settings
  private let entries = Mutex<[UInt32: Entry]>([:])
  /// By subject and text of the schema.
  private let ids = Mutex<[[String]: UInt32]>([:])
  private let session: URLSession
  /// Milliseconds between the attempts of one request.
  private static let pauses_ms: [UInt32] = [200, 1_000]

  public init(_ settings: Settings) {
    self.settings = settings
    let configuration = URLSessionConfiguration.ephemeral
    configuration.timeoutIntervalForRequest = Double(settings.timeout_ms) / 1_000
    session = URLSession(configuration: configuration)
  }

  private static let shared = Mutex<[Settings: SchemaRegistry]>([:])

  /// The one of this process: all its decoders hear from the same.
  public static func shared(_ settings: Settings) -> SchemaRegistry {
    shared.withLock { known in
      if let made = known[settings] { return made }
      let made = SchemaRegistry(settings)
      known[settings] = made
      return made
    }
  }

  public func known(_ id: UInt32) -> AvroSchema? {
    entries.withLock { if case .schema(let schema) = $0[id] { schema } else { nil } }
  }

  /// Makes sure that it is known what the registry says of an id.
  public func load(_ id: UInt32) throws(SchemaRegistryError) {
    if entries.withLock({ $0[id] != nil }) { return }
    let entry: Entry
    if let answer = try ask("/schemas/ids/\(id)") {
      entry = try parse(answer, id)
    } else {
      entry = .none
    }
    entries.withLock { $0[id] = entry }
  }

  private func parse(_ answer: [String: Any], _ id: UInt32) throws(SchemaRegistryError) -> Entry {
    // Avro is what an answer without a type means.
    guard answer["schemaType"] as? String ?? "AVRO" == "AVRO", let text = answer["schema"] as? String else {
      return .none
    }
    var parser = AvroSchemaParser()
    var seen: Set<String> = []
    try take(answer["references"], &parser, &seen)
    do {
      return .schema(try parser.parse(text))
    } catch {
      throw SchemaRegistryError(description: "schema \(id) of the schema registry at \(settings.url): \(error)")
    }
  }

  /// The id of a schema under a subject.
  /// - Parameter registers: whether the schema is registered where the subject does not have it.
  /// - Returns: nil where the subject does not have it, and must not get it from here.
  public func id(subject: String, schema: String, registers: Bool) throws(SchemaRegistryError) -> UInt32? {
    if let known = ids.withLock({ $0[[subject, schema]] }) { return known }
    let body: Data
    do {
      body = try JSONSerialization.data(withJSONObject: ["schema": schema])
    } catch { throw SchemaRegistryError(description: "the schema of '\(subject)' cannot be written: \(error)") }
    let path = "/subjects/\(SchemaRegistry.escaped(subject))"
    // One that is there already is left alone, so that reading rights are enough for it.
    var answer = try ask(path, body)
    if answer == nil, registers { answer = try ask(path + "/versions", body, subject: subject) }
    guard let answer else { return nil }
    guard let number = answer["id"] as? Int, let id = UInt32(exactly: number) else {
      throw SchemaRegistryError(
        description: "the schema registry at \(settings.url) answers for the subject '\(subject)' without an id")
    }
    ids.withLock { $0[[subject, schema]] = id }
    return id
  }

  /// The newest version of a subject; nil where there is no such subject.
  public func latest(subject: String) throws(SchemaRegistryError) -> (id: Int, version: Int)? {
    guard let answer = try ask("/subjects/\(SchemaRegistry.escaped(subject))/versions/latest") else { return nil }
    return (answer["id"] as? Int ?? 0, answer["version"] as? Int ?? 0)
  }

  /// Whether the registry would take a schema as the next version of a subject; nil where the subject is new.
  public func takes(subject: String, schema: String) throws(SchemaRegistryError) -> Bool? {
    let body: Data
    do {
      body = try JSONSerialization.data(withJSONObject: ["schema": schema])
    } catch { throw SchemaRegistryError(description: "the schema of '\(subject)' cannot be written: \(error)") }
    let path = "/compatibility/subjects/\(SchemaRegistry.escaped(subject))/versions/latest"
    return try ask(path, body).flatMap { $0["is_compatible"] as? Bool }
  }

  private static func escaped(_ subject: String) -> String {
    let unreserved = CharacterSet(charactersIn: "-._~").union(.alphanumerics)
    return subject.addingPercentEncoding(withAllowedCharacters: unreserved) ?? subject
  }

  /// Types that a schema refers to, those that they refer to before them.
  private func take(
    _ references: Any?, _ parser: inout AvroSchemaParser, _ seen: inout Set<String>
  ) throws(SchemaRegistryError) {
    for reference in references as? [[String: Any]] ?? [] {
      guard let subject = reference["subject"] as? String, let version = reference["version"] as? Int else { continue }
      guard seen.insert("\(subject)/\(version)").inserted else { continue }
      guard let answer = try ask("/subjects/\(SchemaRegistry.escaped(subject))/versions/\(version)"),
        let text = answer["schema"] as? String
      else {
        throw SchemaRegistryError(
          description: "the schema registry at \(settings.url) does not have version \(version) of '\(subject)', which "
            + "another schema refers to")
      }
      try take(answer["references"], &parser, &seen)
      do {
        _ = try parser.parse(text)
      } catch {
        throw SchemaRegistryError(description: "version \(version) of '\(subject)' in the schema registry: \(error)")
      }
    }
  }

  // MARK: - HTTP

  /// GET, or POST where there is a body.
  /// - Parameter subject: whose new schema the body is, for the error where the registry refuses it.
  /// - Returns: nil where the registry says that it has no such thing.
  private func ask(
    _ path: String, _ body: Data? = nil, subject: String? = nil
  ) throws(SchemaRegistryError) -> [String: Any]? {
    guard let url = URL(string: settings.url + path) else {
      throw SchemaRegistryError(description: "'\(settings.url)' is no address of a schema registry")
    }
    var request = URLRequest(url: url)
    request.setValue("application/vnd.schemaregistry.v1+json, application/json", forHTTPHeaderField: "Accept")
    if let body {
      request.httpMethod = "POST"
      request.httpBody = body
      request.setValue("application/vnd.schemaregistry.v1+json", forHTTPHeaderField: "Content-Type")
    }
    if let authorization = settings.authorization {
      request.setValue(authorization, forHTTPHeaderField: "Authorization")
    }
    var attempt = 0
    while true {
      let (status, data, problem) = send(request)
      let object = data.flatMap { try? JSONSerialization.jsonObject(with: $0) } as? [String: Any]
      let said = object.flatMap { $0["message"] as? String } ?? ""
      switch status {
      case 200:
        guard let object else {
          throw SchemaRegistryError(description: "\(url) answers with something that is no JSON object")
        }
        return object
      // 40401 to 40403: subject, version, schema not found. Another 404 is that of another server.
      case 404 where (40_401...40_403).contains(object?["error_code"] as? Int ?? 0): return nil
      case 409, 422:
        throw SchemaRegistryError(
          description: "the schema registry at \(settings.url) refuses the schema"
            + (subject.map { " of the subject '\($0)'" } ?? "") + " (\(status)\(said.isEmpty ? "" : ": " + said))")
      case 401, 403:
        throw SchemaRegistryError(
          description:
            "the schema registry at \(settings.url) refuses the access (\(status)\(said.isEmpty ? "" : ": " + said)): "
            + "look at schema_registry.user, password or bearer")
      default:
        let isPassing = problem != nil || status == 429 || status >= 500
        guard isPassing, attempt < SchemaRegistry.pauses_ms.count else {
          throw SchemaRegistryError(
            description: problem.map { "the schema registry at \(settings.url) does not answer: \($0)" }
              ?? "\(url) answers \(status)\(said.isEmpty ? "" : ": " + said)")
        }
        usleep(SchemaRegistry.pauses_ms[attempt] * 1_000)
        attempt += 1
      }
    }
  }

  private func send(_ request: URLRequest) -> (status: Int, data: Data?, problem: String?) {
    final class Box: @unchecked Sendable { var answer: (status: Int, data: Data?, problem: String?) = (0, nil, nil) }
    let box = Box()
    let done = DispatchSemaphore(value: 0)
    let task = session.dataTask(with: request) { data, response, error in
      if let error {
        box.answer = (0, nil, error.localizedDescription)
      } else {
        box.answer = ((response as? HTTPURLResponse)?.statusCode ?? 0, data, nil)
      }
      done.signal()
    }
    task.resume()
    done.wait()
    return box.answer
  }
}
