import Configuration
import Decoding
import Kafka
import SchemaRegistry

/// Asks the schema registry for what a run of records needs, before they are decoded: a registry that does not answer holds
/// the source back, with an error that says so, and makes no dead letter of a good record.
struct SchemaLookup {
  let registry: SchemaRegistry
  /// By source: whether its records are Avro, and whether they come in the envelope of a router.
  private let isAvro: [Bool]
  private let isRouted: [Bool]

  /// nil where no source is Avro.
  init?(_ configuration: Configuration) {
    isAvro = configuration.sources.map(\.mapping.format.isAvro)
    isRouted = configuration.sources.map(\.isRouted)
    guard isAvro.contains(true), let settings = configuration.schemaRegistry else { return nil }
    registry = .shared(settings)
  }

  /// What keeps one message that is not routed from being decoded now; nil where its schema is there.
  func problem(source: Int, _ message: ConsumedMessage) -> SchemaRegistryError? {
    do throws(SchemaRegistryError) {
      try prepare(source: source, CollectionOfOne(message), isRouted: false)
      return nil
    } catch { return error }
  }

  /// - Parameter isRouted: Where it is known better: a router reads what is not routed yet.
  func prepare(
    source: Int, _ messages: some Sequence<ConsumedMessage>, isRouted known: Bool? = nil
  ) throws(SchemaRegistryError) {
    guard source < isAvro.count, isAvro[source] else { return }
    let isRouted = known ?? isRouted[source]
    var last: UInt32?
    for message in messages {
      guard let payload = message.content(isRouted: isRouted)?.payload,
        let id = AvroFraming.schemaID(payload.buffer), id != last
      else { continue }
      try registry.load(id)
      last = id
    }
  }
}

extension SchemaRegistry {
  /// The one of this process.
  static func shared(_ settings: SchemaRegistrySettings) -> SchemaRegistry {
    var authorization = settings.bearer.map { "Bearer " + $0.reveal }
    if let password = settings.password {
      authorization = Settings.basic(user: settings.user, password: password.reveal)
    }
    return shared(Settings(url: settings.url, authorization: authorization, timeout_ms: settings.timeout_ms))
  }
}
