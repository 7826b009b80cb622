import Configuration
import Kafka

/// Which client the properties are for.
public enum ClientRole: Sendable {
  /// `member`: the static member's name, empty for a dynamic one.
  case consumer(group: String, member: String)
  case producer
  case admin
}

extension Configuration {
  /// The librdkafka properties of a client, in the order in which later ones win.
  public func clientProperties(_ role: ClientRole) -> [KafkaProperty] {
    func convert(_ properties: [(String, PropertyValue)]) -> [KafkaProperty] {
      properties.map { name, value in
        if case .secret = value { return KafkaProperty(name, value.reveal, isSecret: true) }
        return KafkaProperty(name, value.reveal)
      }
    }
    var all = [KafkaProperty("bootstrap.servers", kafka.bootstrap), KafkaProperty("client.id", "tieout-\(name)")]
    switch role {
    case .consumer(let group, let member):
      all.append(KafkaProperty("group.id", group))
      all.append(KafkaProperty("isolation.level", "read_committed"))
      all += convert(kafka.properties) + convert(kafka.consumer)
      if !member.isEmpty { all.append(KafkaProperty("group.instance.id", member)) }
      // The worker says itself where it reads. Where Kafka has nothing there, it wants to know: to be taken elsewhere
      // in silence would be to lose records in silence.
      all.append(KafkaProperty("auto.offset.reset", "error"))
    case .producer: all += convert(kafka.properties) + convert(kafka.producer)
    case .admin: all += convert(kafka.properties)
    }
    return all
  }

  /// Of a producer that delivers exactly once under the id; nil for one without transactions.
  func producerProperties(transactionalID: String?) -> [KafkaProperty] {
    let properties = clientProperties(.producer)
    guard let transactionalID else { return properties }
    return [KafkaProperty("transaction.timeout.ms", "\(transactionTimeout_ms)")] + properties
      + [KafkaProperty("transactional.id", transactionalID)]
  }

  /// Throws where the client library would not make the daemon's clients.
  public func checkClients() throws(KafkaError) {
    func named(_ section: String, _ check: () throws(KafkaError) -> Void) throws(KafkaError) {
      do throws(KafkaError) {
        try check()
      } catch {
        throw KafkaError("\(error.context): \(error.message)", context: "kafka.properties and \(section)")
      }
    }
    let id = kafka.delivery == .exactlyOnce ? kafka.group : nil
    try named("kafka.producer") { () throws(KafkaError) in
      try ClientSettings.check(producer: producerProperties(transactionalID: id))
    }
    try named("kafka.consumer") { () throws(KafkaError) in
      try ClientSettings.check(consumer: clientProperties(.consumer(group: kafka.group, member: "")))
    }
  }

  /// Fewer fetches by consumers that have nothing to read, unless something else is configured: a broker answers as soon as
  /// something comes, but for the embedded one, which waits out the time.
  mutating func letFetchesWait() {
    guard !(kafka.properties + kafka.consumer).contains(where: { $0.0 == Consumer.fetchWait.name }) else { return }
    kafka.consumer.append((Consumer.fetchWait.name, .plain(Consumer.fetchWait.value)))
  }

  /// How long the broker lets a transaction be open. Short unless it is configured, so that whoever takes over from a
  /// killed process soon sees what it left undone resolved.
  var transactionTimeout_ms: Int {
    (kafka.properties + kafka.producer).last { $0.0 == "transaction.timeout.ms" }.flatMap { Int($0.1.reveal) } ?? 10_000
  }

  /// Bytes of key and value that a producer takes in one message, with room for what goes around them.
  var producerMessageLimit: Int {
    let set = (kafka.properties + kafka.producer).last { $0.0 == "message.max.bytes" }.flatMap { Int($0.1.reveal) }
    // librdkafka's default, which is also below Kafka's.
    return max(64 << 10, (set ?? 1_000_000) - (4 << 10))
  }
}
