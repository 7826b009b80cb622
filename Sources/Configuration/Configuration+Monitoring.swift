import Yams

/// Where the daemon tells how it is: `/metrics`, `/healthz`, `/readyz`.
public struct MonitoringSettings: Sendable, Equatable {
  public var host: String
  public var port: Int
  /// What `/metrics` must be asked with; nil: nothing.
  public var token: Secret?

  public init(host: String, port: Int, token: Secret?) {
    self.host = host
    self.port = port
    self.token = token
  }
}

extension Configuration {
  mutating func readMonitoring(_ node: Node?, _ reader: ConfigurationReader) {
    let path = ["monitoring"]
    let nodes = reader.nodes(node, path)
    guard !nodes.isEmpty else { return }
    guard let listen = nodes["listen"] else {
      reader.problem(node, "monitoring: 'listen' is missing")
      return
    }
    let place = reader.address(listen, path + ["listen"], "")
    let isOpen = reader.bool(nodes["open"], path + ["open"], false)
    var token: Secret?
    if let tokenNode = nodes["token"] {
      reader.note(path + ["token"], "\"***\"")
      token = reader.secret(tokenNode, path + ["token"])
      if isOpen { reader.problem(nodes["open"], "monitoring: 'open' and 'token' exclude each other") }
    } else if let place, !isOpen, !["127.0.0.1", "::1", "localhost"].contains(place.host) {
      reader.problem(
        listen,
        "monitoring.listen: others than this machine reach \(place.host): /metrics needs a 'token', or 'open: true' where "
          + "the network keeps strangers out")
    }
    if let place { monitoring = MonitoringSettings(host: place.host, port: place.port, token: token) }
  }
}

extension ConfigurationReader {
  /// `HOST:PORT`; an IPv6 address stands in brackets.
  func address(_ node: Node?, _ path: [String], _ standard: String) -> (host: String, port: Int)? {
    let text = name(node, path, standard)
    guard let colon = text.lastIndex(of: ":"), colon != text.startIndex,
      let port = Int(text[text.index(after: colon)...]), (0...65_535).contains(port)
    else {
      problem(node, "\(dotted(path)): HOST:PORT is expected, not '\(text)'")
      return nil
    }
    return (text[..<colon].filter { $0 != "[" && $0 != "]" }, port)
  }
}
