import Yams

/// Where the schemas of Avro records come from, and those of Avro outputs are registered.
public struct SchemaRegistrySettings: Sendable, Equatable {
  public var url = ""
  /// Basic authentication; empty for none.
  public var user = ""
  public var password: Secret?
  /// A token instead.
  public var bearer: Secret?
  public var timeout_ms: Int64 = 10_000

  public init() {}
}

extension Configuration {
  /// After the sources, which may need it.
  mutating func readSchemaRegistry(
    _ node: Node?, _ root: Node, outputs outputsNode: Node?, _ reader: ConfigurationReader
  ) {
    let path = ["schema_registry"]
    if let node {
      let nodes = reader.nodes(node, path)
      var settings = SchemaRegistrySettings()
      settings.url = reader.name(nodes["url"], path + ["url"], "")
      if !settings.url.hasPrefix("http://"), !settings.url.hasPrefix("https://") {
        reader.problem(nodes["url"] ?? node, "schema_registry.url: an address with http:// or https:// is expected")
      }
      settings.user = reader.text(nodes["user"], path + ["user"], "")
      func secret(_ key: String) -> Secret? {
        guard let node = nodes[key] else { return nil }
        reader.note(path + [key], "\"***\"")
        return reader.secret(node, path + [key])
      }
      (settings.password, settings.bearer) = (secret("password"), secret("bearer"))
      settings.timeout_ms = reader.duration_ms(
        nodes["timeout"], path + ["timeout"], settings.timeout_ms, atLeast: 1)
      if settings.user.isEmpty != (nodes["password"] == nil) {
        reader.problem(nodes["user"] ?? nodes["password"], "schema_registry: user and password belong together")
      }
      if nodes["bearer"] != nil, !settings.user.isEmpty {
        reader.problem(nodes["bearer"], "schema_registry: either a bearer token, or user and password")
      }
      schemaRegistry = settings
    } else if let source = sources.first(where: { $0.mapping.format.isAvro }) {
      reader.problem(
        root, "sources.\(source.name): the format \(source.mapping.format.rawValue) needs schema_registry.url")
    } else if outputs.hasAvro {
      reader.problem(outputsNode ?? root, "outputs: the format avro needs schema_registry.url")
    }
  }
}
