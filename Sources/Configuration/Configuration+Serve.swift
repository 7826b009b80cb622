import Domain
import Yams

extension Configuration {
  /// Reads `serve`.
  mutating func readServe(_ node: Node?, _ reader: ConfigurationReader, prefix: String) {
    let nodes = reader.nodes(node, ["serve"])
    serve.presence.isThere = node != nil
    if let place = reader.address(nodes["listen"], ["serve", "listen"], "127.0.0.1:8080") {
      (serve.host, serve.port) = place
    }
    serve.directory = reader.name(nodes["directory"], ["serve", "directory"], serve.directory)
    readStore(nodes["store"], reader, prefix: prefix)
    serve.approvalLimit_u = reader.micros(
      nodes["approval_limit"], ["serve", "approval_limit"], serve.approvalLimit_u)
    if nodes["reason_codes"] != nil {
      serve.reasonCodes = reader.names(nodes["reason_codes"], ["serve", "reason_codes"])
    }
    serve.isMetricsOpen = reader.bool(nodes["metrics_open"], ["serve", "metrics_open"], false)
    serve.keepsRecords = reader.bool(nodes["records"], ["serve", "records"], false)
    let standard = ["revenue", "cashflow", "receivables", "variance", "quality"]
    for name in standard { serve.aggregates[name] = "\(prefix).\(name)" }
    for (name, value, _) in reader.mapping(nodes["aggregates"], ["serve", "aggregates"]) {
      serve.aggregates[name] = reader.name(value, ["serve", "aggregates", name], "")
    }
    readTLS(nodes["tls"], reader)
    for (name, value, keyNode) in reader.mapping(nodes["tokens"], ["serve", "tokens"]) {
      readToken(name, value, keyNode, reader)
    }
    readJWT(nodes["jwt"], reader)
    for (name, value, keyNode) in reader.mapping(nodes["webhooks"], ["serve", "webhooks"]) {
      readWebhook(name, value, keyNode, reader)
    }
    let limits = reader.nodes(nodes["limits"], ["serve", "limits"])
    func path(_ key: String) -> [String] { ["serve", "limits", key] }
    serve.bodyLimit = reader.size(limits["body"], path("body"), serve.bodyLimit)
    serve.streamLimit = reader.size(limits["stream"], path("stream"), serve.streamLimit)
    serve.requestRate = reader.integer(limits["rate"], path("rate"), serve.requestRate, 1...1_000_000)
    serve.requestBurst = reader.integer(limits["burst"], path("burst"), serve.requestRate * 2, 1...1_000_000)
    serve.connections = reader.integer(limits["connections"], path("connections"), serve.connections, 1...100_000)
    serve.concurrency = reader.integer(limits["concurrency"], path("concurrency"), serve.concurrency, 1...10_000)
    serve.requestTimeout_ms = reader.duration_ms(
      limits["timeout"], path("timeout"), serve.requestTimeout_ms, atLeast: 100)
    let session = reader.nodes(nodes["session"], ["serve", "session"])
    serve.sessionLifetime_ms = reader.duration_ms(
      session["lifetime"], ["serve", "session", "lifetime"], serve.sessionLifetime_ms, atLeast: 60_000)
    serve.sessionIdle_ms = reader.duration_ms(
      session["idle"], ["serve", "session", "idle"], serve.sessionIdle_ms, atLeast: 60_000)
  }

  private func required(
    _ nodes: [String: Node], _ key: String, _ path: [String], _ place: Node?, _ reader: ConfigurationReader
  ) -> String {
    guard let node = nodes[key] else {
      reader.problem(place, "\(reader.dotted(path)): '\(key)' is missing")
      return ""
    }
    return reader.name(node, path + [key], "")
  }

  private mutating func readStore(_ node: Node?, _ reader: ConfigurationReader, prefix: String) {
    let path = ["serve", "store"]
    let nodes = reader.nodes(node, path)
    guard !nodes.isEmpty else { return }
    guard let urlNode = nodes["url"] else {
      reader.problem(node, "serve.store: 'url' is missing")
      return
    }
    guard let url = reader.scalar(urlNode, path + ["url"]) else { return }
    // It is told in messages, and printed: the password has a place of its own.
    let authority = url.split(separator: "/", omittingEmptySubsequences: true).dropFirst().first ?? ""
    let user = authority.lastIndex(of: "@").map { authority[..<$0] } ?? ""
    let hasPassword = user.contains(":") || url.lowercased().contains("password=")
    if !["postgresql://", "postgres://"].contains(where: { url.hasPrefix($0) }) {
      reader.problem(urlNode, "serve.store.url: postgresql://user@host/database is expected")
    } else if hasPassword {
      reader.problem(
        urlNode, "serve.store.url: the password belongs into serve.store.password, {env: NAME} or {file: path}")
    }
    reader.note(path + ["url"], reader.quote(hasPassword ? "***" : url))
    let name = String(prefix.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? Character($0.lowercased()) : "_" })
    var store = ServeStore(
      url: url, schema: reader.name(nodes["schema"], path + ["schema"], String("tieout_\(name)".prefix(63))))
    if store.schema.utf8.count > 63 {
      reader.problem(nodes["schema"], "serve.store.schema: PostgreSQL's names have at most 63 bytes")
    }
    if let password = nodes["password"] {
      reader.note(path + ["password"], "\"***\"")
      store.password = reader.secret(password, path + ["password"])
    }
    serve.store = store
  }

  private mutating func readTLS(_ node: Node?, _ reader: ConfigurationReader) {
    let path = ["serve", "tls"]
    let nodes = reader.nodes(node, path)
    guard !nodes.isEmpty else { return }
    let certificate = required(nodes, "certificate", path, node, reader)
    let key = required(nodes, "key", path, node, reader)
    serve.tls = ServeTLS(certificate: reader.resolve(certificate), key: reader.resolve(key))
    if let authorities = nodes["client_ca"] {
      serve.tls?.clientAuthorities = reader.resolve(reader.name(authorities, path + ["client_ca"], ""))
    }
  }

  private func readScope(_ node: Node?, _ path: [String], _ reader: ConfigurationReader) -> [String: Set<String>] {
    var scope: [String: Set<String>] = [:]
    for (name, value, keyNode) in reader.mapping(node, path) {
      if !dimensions.contains(name) {
        reader.problem(
          keyNode, "\(reader.dotted(path)): '\(name)' is no configured dimension\(reader.hint(name, dimensions))")
      }
      scope[name] = Set(reader.names(value, path + [name]))
    }
    return scope
  }

  private mutating func readToken(_ name: String, _ node: Node, _ keyNode: Node, _ reader: ConfigurationReader) {
    let path = ["serve", "tokens", name]
    let nodes = reader.nodes(node, path)
    let hash = required(nodes, "sha256", path, keyNode, reader).lowercased()
    if nodes["sha256"] != nil, hash.utf8.count != 64 || !hash.utf8.allSatisfy({ "0123456789abcdef".utf8.contains($0) })
    {
      reader.problem(
        nodes["sha256"],
        "\(reader.dotted(path)).sha256: 64 hexadecimal digits are expected; `tieout-serve token` makes a "
          + "token and prints its hash")
    }
    let roles = readNames(nodes["roles"], path + ["roles"], ServeRole.allCases.map(\.rawValue), reader)
    if roles.isEmpty {
      reader.problem(nodes["roles"] ?? keyNode, "\(reader.dotted(path)): at least one role is needed")
    }
    serve.tokens.append(
      ServeToken(
        name: name, hash: hash, roles: Set(roles.compactMap(ServeRole.init(rawValue:))),
        scope: readScope(nodes["scope"], path + ["scope"], reader)))
  }

  private func readNames(
    _ node: Node?, _ path: [String], _ known: [String], _ reader: ConfigurationReader
  ) -> [String] {
    let names = reader.names(node, path)
    for name in names where !known.contains(name) && !name.isEmpty {
      reader.problem(
        node,
        "\(reader.dotted(path)): '\(name)' is not one of \(known.joined(separator: ", "))\(reader.hint(name, known))")
    }
    return names
  }

  private mutating func readJWT(_ node: Node?, _ reader: ConfigurationReader) {
    let path = ["serve", "jwt"]
    let nodes = reader.nodes(node, path)
    guard !nodes.isEmpty else { return }
    var jwks = required(nodes, "jwks", path, node, reader)
    if jwks.hasPrefix("http://") {
      reader.problem(nodes["jwks"], "serve.jwt.jwks: keys are fetched over https only")
    } else if !jwks.hasPrefix("https://"), !jwks.isEmpty {
      jwks = reader.resolve(jwks)
    }
    var jwt = ServeJWT(
      jwks: jwks, issuer: required(nodes, "issuer", path, node, reader),
      audience: required(nodes, "audience", path, node, reader))
    jwt.rolesClaim = reader.name(nodes["roles_claim"], path + ["roles_claim"], jwt.rolesClaim)
    jwt.scopeClaim = reader.name(nodes["scope_claim"], path + ["scope_claim"], jwt.scopeClaim)
    jwt.leeway_s = reader.duration_ms(nodes["leeway"], path + ["leeway"], jwt.leeway_s * 1_000) / 1_000
    serve.jwt = jwt
  }

  private mutating func readWebhook(_ name: String, _ node: Node, _ keyNode: Node, _ reader: ConfigurationReader) {
    let path = ["serve", "webhooks", name]
    let nodes = reader.nodes(node, path)
    let url = required(nodes, "url", path, keyNode, reader)
    let isLocal = ["http://127.0.0.1", "http://localhost", "http://[::1]"].contains { url.hasPrefix($0) }
    if !url.isEmpty, !url.hasPrefix("https://"), !isLocal {
      reader.problem(nodes["url"], "\(reader.dotted(path)).url: https is expected, or http to this machine")
    }
    guard let secretNode = nodes["secret"] else {
      reader.problem(keyNode, "\(reader.dotted(path)): 'secret' is missing")
      return
    }
    reader.note(path + ["secret"], "\"***\"")
    var webhook = ServeWebhook(
      name: name, url: url, secret: reader.secret(secretNode, path + ["secret"]) ?? Secret(""))
    webhook.types = readNames(nodes["types"], path + ["types"], BreakType.allCases.map(\.rawValue), reader)
    if nodes["states"] != nil {
      webhook.states = readNames(nodes["states"], path + ["states"], BreakState.allCases.map(\.rawValue), reader)
    }
    webhook.severities = readNames(
      nodes["severities"], path + ["severities"], Severity.allCases.map(\.rawValue), reader)
    webhook.minimum_u = reader.micros(nodes["minimum"], path + ["minimum"], 0)
    webhook.scope = readScope(nodes["scope"], path + ["scope"], reader)
    serve.webhooks.append(webhook)
  }
}
