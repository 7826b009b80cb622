import Foundation

/// A schema registry of a few lines in this process: answers on 127.0.0.1, one connection after the other. Schemas
/// are registered under subjects, without a look at whether they are compatible.
public final class TinyRegistry: @unchecked Sendable {
  public let port: UInt16
  private let listener: Int32
  private let lock = NSLock()
  private var answers: [String: (status: Int, body: String)] = [:]
  private var seen: [String] = []
  /// By subject: the texts of its schemas, with their ids.
  private var subjects: [String: [(id: UInt32, schema: String)]] = [:]
  private var lastID: UInt32 = 100
  /// Value that `Authorization` must have; nil for none.
  private let authorization: String?

  public var url: String { "http://127.0.0.1:\(port)" }
  /// Schemas of a subject in the order in which they were registered.
  public func schemas(of subject: String) -> [(id: UInt32, schema: String)] {
    lock.withLock { subjects[subject] ?? [] }
  }

  /// Paths that were asked for, in order.
  public var requests: [String] { lock.withLock { seen } }

  public init(authorization: String? = nil) throws {
    self.authorization = authorization
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listener = listener
    let bound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
        bind(listener, raw, length) == 0 && listen(listener, 16) == 0 && getsockname(listener, raw, &length) == 0
      }
    }
    guard bound else { throw POSIXError(.EADDRNOTAVAIL) }
    port = UInt16(bigEndian: address.sin_port)
    Thread { [weak self] in
      while true {
        let connection = accept(listener, nil, nil)
        guard connection >= 0 else { return }
        self?.answer(connection)
        close(connection)
      }
    }.start()
  }

  public func stop() {
    shutdown(listener, Int32(SHUT_RDWR))
    close(listener)
  }

  public func put(_ path: String, status: Int = 200, _ body: String) {
    lock.withLock { answers[path] = (status, body) }
  }

  /// Takes a fixed answer back.
  public func forget(_ path: String) { lock.withLock { _ = answers.removeValue(forKey: path) } }

  /// Registers an Avro schema under an id.
  public func put(_ id: UInt32, _ schema: String, more: [String: Any] = [:]) throws {
    let body = try JSONSerialization.data(withJSONObject: more.merging(["schema": schema]) { $1 })
    put("/schemas/ids/\(id)", String(decoding: body, as: UTF8.self))
  }

  private func answer(_ connection: Int32) {
    var request = ""
    var buffer = [UInt8](repeating: 0, count: 4_096)
    while !request.contains("\r\n\r\n") {
      let count = read(connection, &buffer, buffer.count)
      guard count > 0 else { return }
      request += String(decoding: buffer[..<count], as: UTF8.self)
    }
    let parts = request.components(separatedBy: "\r\n\r\n")
    var content = Array(parts.dropFirst().joined(separator: "\r\n\r\n").utf8)
    let length = parts[0].lowercased().components(separatedBy: "content-length: ").dropFirst().first
    let size = length.flatMap { Int($0.prefix { $0.isNumber }) } ?? 0
    while content.count < size {
      let count = read(connection, &buffer, buffer.count)
      guard count > 0 else { return }
      content += buffer[..<count]
    }
    let path = String(request.split(separator: " ")[1])
    let (status, body) = lock.withLock { () -> (Int, String) in
      seen.append(path)
      if let authorization, !request.lowercased().contains("authorization: \(authorization.lowercased())\r\n") {
        return (401, #"{"error_code":401,"message":"who are you"}"#)
      }
      if let answer = answers[path] { return answer }
      if size > 0, let answer = post(path, content) { return answer }
      return (404, #"{"error_code":40403,"message":"Schema not found"}"#)
    }
    let text =
      "HTTP/1.1 \(status) X\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\nConnection: close\r\n\r\n"
      + body
    _ = Array(text.utf8).withUnsafeBytes { write(connection, $0.baseAddress, $0.count) }
  }

  /// `/subjects/S` looks a schema up, `/subjects/S/versions` registers it.
  private func post(_ path: String, _ content: [UInt8]) -> (Int, String)? {
    let names = path.split(separator: "/").map { $0.removingPercentEncoding ?? String($0) }
    guard names.count >= 2, names[0] == "subjects",
      let body = try? JSONSerialization.jsonObject(with: Data(content)) as? [String: String],
      let schema = body["schema"]
    else { return nil }
    if let known = subjects[names[1]]?.first(where: { $0.schema == schema }) { return (200, #"{"id":\#(known.id)}"#) }
    guard names.count == 3 else { return nil }
    lastID += 1
    subjects[names[1], default: []].append((lastID, schema))
    guard let answer = try? JSONSerialization.data(withJSONObject: ["schema": schema]) else { return nil }
    answers["/schemas/ids/\(lastID)"] = (200, String(decoding: answer, as: UTF8.self))
    return (200, #"{"id":\#(lastID)}"#)
  }
}
