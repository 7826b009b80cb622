import Foundation

/// A connection that sends what no client library would.
enum RawConnection {
  private static func open(_ port: Int) -> Int32 {
    let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(file, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    precondition(result == 0, "cannot connect")
    return file
  }

  private static func write(_ file: Int32, _ text: String) -> Bool {
    let bytes = Array(text.utf8)
    return send(file, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
  }

  /// Everything that comes until the server closes, or nothing more comes for twenty seconds: a bound, not a wait, for
  /// a request that says `Connection: close`.
  static func answer(port: Int, _ request: String) async -> String {
    await onThread {
      let file = open(port)
      defer { close(file) }
      var timeout = timeval(tv_sec: 20, tv_usec: 0)
      setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
      guard write(file, request) else { return "" }
      var all: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 65_536)
      while true {
        let count = recv(file, &buffer, buffer.count, 0)
        if count <= 0 { break }
        all += buffer[..<count]
      }
      return String(decoding: all, as: UTF8.self)
    }
  }

  /// Sends the start, then a little every 200 ms, and tells whether the server has had enough within the time.
  static func isClosedByServer(port: Int, start: String, drip: String, patience_s: Int) async -> Bool {
    await onThread {
      let file = open(port)
      defer { close(file) }
      guard write(file, start) else { return true }
      let until = Date().addingTimeInterval(TimeInterval(patience_s))
      var buffer = [UInt8](repeating: 0, count: 4_096)
      while Date() < until {
        usleep(200_000)
        let count = recv(file, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        if count == 0 || (count < 0 && errno != EAGAIN) { return true }
        if !write(file, drip) { return true }
      }
      return false
    }
  }

  private static func onThread<T: Sendable>(_ body: @escaping @Sendable () -> T) async -> T {
    await withCheckedContinuation { done in
      Thread.detachNewThread { done.resume(returning: body()) }
    }
  }
}
