extension Configuration {
  /// The keys whose values in effect differ from those of another reading of the file: `serve.limits.rate`, in order of
  /// the alphabet. Values are not told, so that no secret is; a secret that differs is named as its key.
  public func changedKeys(since old: Configuration) -> [String] {
    func table(_ effective: [(path: [String], text: String)]) -> [String: String] {
      Dictionary(effective.map { ($0.path.joined(separator: "."), $0.text) }) { $1 }
    }
    let (before, after) = (table(old.effective), table(effective))
    var changed = Set(before.keys).union(after.keys).filter { before[$0] != after[$0] }
    func properties(_ path: String, _ before: [(String, PropertyValue)], _ after: [(String, PropertyValue)]) {
      for (name, value) in after where before.contains(where: { $0.0 == name && $0.1 != value }) {
        changed.insert("\(path).\(name)")
      }
    }
    properties("kafka.properties", old.kafka.properties, kafka.properties)
    properties("kafka.consumer", old.kafka.consumer, kafka.consumer)
    properties("kafka.producer", old.kafka.producer, kafka.producer)
    for webhook in serve.webhooks
    where old.serve.webhooks.contains(where: { $0.name == webhook.name && $0.secret != webhook.secret }) {
      changed.insert("serve.webhooks.\(webhook.name).secret")
    }
    if old.serve.store?.password != serve.store?.password { changed.insert("serve.store.password") }
    return changed.sorted()
  }

  /// This configuration with the values in effect of `newer` for the keys that `isTaken` names, for the next comparison.
  /// Settings themselves are not touched.
  public mutating func noteEffective(of newer: Configuration, where isTaken: (String) -> Bool) {
    func taken(_ entry: (path: [String], text: String)) -> Bool { isTaken(entry.path.joined(separator: ".")) }
    effective = effective.filter { !taken($0) } + newer.effective.filter(taken)
  }
}
