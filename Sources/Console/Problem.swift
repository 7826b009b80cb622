import HTTPTypes
import Hummingbird

/// A request that is refused, and why (RFC 9457, `application/problem+json`). The detail never repeats a secret.
struct Problem: Error {
  var status: HTTPResponse.Status
  /// A word for programs.
  var code: String
  /// A sentence for people.
  var detail: String
  var headers: HTTPFields = [:]
  /// More fields of the body.
  var extra: [(String, JSON)] = []

  init(_ status: HTTPResponse.Status, _ code: String, _ detail: String) {
    self.status = status
    self.code = code
    self.detail = detail
  }

  static func badRequest(_ detail: String) -> Problem { Problem(.badRequest, "bad_request", detail) }
  static func notFound(_ detail: String) -> Problem { Problem(.notFound, "not_found", detail) }
  static func forbidden(_ detail: String) -> Problem { Problem(.forbidden, "forbidden", detail) }

  static func unauthorized(_ detail: String) -> Problem {
    var problem = Problem(.unauthorized, "unauthorized", detail)
    problem.headers[.wwwAuthenticate] = "Bearer realm=\"tieout\""
    return problem
  }

  static func busy(_ detail: String, retryAfter_s: Int = 1) -> Problem {
    var problem = Problem(.serviceUnavailable, "busy", detail)
    problem.headers[.retryAfter] = "\(retryAfter_s)"
    return problem
  }

  var response: Response {
    let body: JSON = .object(
      [
        ("type", "about:blank"), ("title", .string(status.reasonPhrase)), ("status", .int(status.code)),
        ("code", .string(code)), ("detail", .string(detail)),
      ] + extra)
    var headers = headers
    headers[.contentType] = "application/problem+json"
    return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: body.bytes)))
  }
}

extension Response {
  static func json(_ value: JSON, status: HTTPResponse.Status = .ok, headers: HTTPFields = [:]) -> Response {
    var headers = headers
    headers[.contentType] = "application/json"
    return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: value.bytes)))
  }

  static func text(_ text: String, type: String, status: HTTPResponse.Status = .ok) -> Response {
    Response(
      status: status, headers: [.contentType: type], body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
  }
}
