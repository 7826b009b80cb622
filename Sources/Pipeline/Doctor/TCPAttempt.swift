import Foundation
import Glibc

/// A TCP connection that is made and closed, to see whether it can be.
enum TCPAttempt {
  /// - Parameter address: `host:port`, `[::1]:9092`.
  /// - Returns: why no connection came about; nil where one did.
  static func failure(_ address: String, timeout_ms: Int) -> String? {
    guard let colon = address.lastIndex(of: ":") else { return "'\(address)' is not HOST:PORT" }
    let host = address[..<colon].filter { $0 != "[" && $0 != "]" }
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, String(address[address.index(after: colon)...]), &hints, &list)
    guard code == 0 else { return String(cString: gai_strerror(code)) }
    defer { freeaddrinfo(list) }
    var failure = "the name has no address"
    var next = list
    while let info = next?.pointee {
      guard let problem = attempt(info, timeout_ms: timeout_ms) else { return nil }
      failure = problem
      next = info.ai_next
    }
    return failure
  }

  private static func attempt(_ info: addrinfo, timeout_ms: Int) -> String? {
    let number = socket(info.ai_family, info.ai_socktype | Int32(SOCK_NONBLOCK.rawValue), info.ai_protocol)
    guard number >= 0 else { return String(cString: strerror(errno)) }
    defer { close(number) }
    if connect(number, info.ai_addr, info.ai_addrlen) == 0 { return nil }
    guard errno == EINPROGRESS else { return String(cString: strerror(errno)) }
    var waiting = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
    guard poll(&waiting, 1, Int32(timeout_ms)) == 1 else { return "no answer within \(timeout_ms) ms" }
    var error: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    getsockopt(number, SOL_SOCKET, SO_ERROR, &error, &size)
    return error == 0 ? nil : String(cString: strerror(error))
  }
}
