import Decoding
import Yams

/// Which dead letters carry the key and the bytes of their record.
public enum RawDeadLetters: String, Sendable, CaseIterable {
  /// Those of sources without masked fields (default).
  case unmasked
  case always
  case never
}

/// Masked fields: their key, and what must be masked together.
extension Configuration {
  /// Before the sources.
  mutating func readMasking(_ node: Node?, _ reader: ConfigurationReader) {
    let path = ["masking", "key"]
    guard let key = reader.nodes(node, ["masking"])["key"] else { return }
    reader.note(path, "\"***\"")
    guard let secret = reader.secret(key, path) else { return }
    maskKey = MaskKey(secret.reveal)
    if maskKey == nil {
      reader.problem(key, "\(reader.dotted(path)): the key has fewer than \(MaskKey.minimumBytes) bytes")
      // One problem, not one more for every field.
      maskKey = MaskKey(String(repeating: "0", count: MaskKey.minimumBytes))
    }
  }

  func readMask(
    _ node: Node, _ path: [String], _ possible: [FieldMask], _ reader: ConfigurationReader
  ) -> FieldMask {
    let mask = reader.choice(node, path, FieldMask.none)
    guard mask != .none else { return .none }
    guard possible.contains(mask) else {
      reader.problem(
        node,
        possible.isEmpty
          ? "\(reader.dotted(path)): this field is computed with, it cannot be masked"
          : "\(reader.dotted(path)): this field joins records or tells them apart, it can be hashed, not redacted")
      return .none
    }
    if mask == .hash, maskKey == nil {
      reader.problem(node, "\(reader.dotted(path)): a field is hashed, and masking.key is missing")
      return .none
    }
    return mask
  }

  /// What a masked field reads must not come through another field in the clear. Fields that are computed with (amounts,
  /// dates) and those that become words of the reconciler (events, roles) show nothing.
  private func checkLeaks(_ node: Node?, _ reader: ConfigurationReader) {
    for source in sources where source.mapping.isMasked {
      let isOrders = source.mapping.kind == .orders
      var fields = source.mapping.fields.sorted { $0.key < $1.key }.map { (name: $0.key, field: $0.value) }
      fields.removeAll {
        (isOrders ? OrderField(rawValue: $0.name)?.masks : PostingField(rawValue: $0.name)?.masks)?.isEmpty ?? true
      }
      for (name, field) in zip(dimensions, source.mapping.dimensions) {
        if let field { fields.append((name, field)) }
      }
      for masked in fields where masked.field.mask != .none {
        for path in masked.field.value.paths {
          guard
            let other = fields.first(where: {
              $0.name != masked.name && $0.field.mask == .none && $0.field.value.paths.contains(path)
            })
          else { continue }
          reader.problem(
            node,
            "sources.\(source.name): '\(other.name)' reads '\(path)' in the clear, which '\(masked.name)' masks: mask "
              + "both, or read something else")
        }
      }
    }
  }

  /// What is compared with each other must be masked in the same way.
  func checkMasks(_ node: Node?, _ reader: ConfigurationReader) {
    typealias Place = (source: SourceSettings, field: String, mask: FieldMask)
    func places(_ names: [String]) -> [Place] {
      sources.flatMap { source in
        names.compactMap { name in source.mapping.fields[name].map { (source, name, $0.mask) } }
      }
    }
    var groups: [(what: String, places: [Place])] = [
      ("the order", places(["order"])), ("the customer", places(["customer"])),
      ("document numbers", places(["document", "journal", "reverses"])),
    ]
    for (at, name) in dimensions.enumerated() {
      groups.append(
        (
          "the dimension '\(name)'",
          sources.compactMap { source in
            guard at < source.mapping.dimensions.count, let field = source.mapping.dimensions[at] else { return nil }
            return (source, name, field.mask)
          }
        ))
    }
    for (what, places) in groups {
      guard let masked = places.first(where: { $0.mask != .none }),
        let other = places.first(where: { $0.mask != masked.mask })
      else { continue }
      reader.problem(
        node,
        "sources: \(what) must be masked in all sources in the same way: \(masked.field) of '\(masked.source.name)' has "
          + "'\(masked.mask.rawValue)', \(other.field) of '\(other.source.name)' has '\(other.mask.rawValue)'")
    }
    checkLeaks(node, reader)
    // A routed record goes to the partition of the hashed key, another to that of the clear one.
    guard places(["order"]).contains(where: { $0.mask != .none }),
      let routed = sources.first(where: \.isRouted), let other = sources.first(where: { !$0.isRouted })
    else { return }
    reader.problem(
      node,
      "sources: where the order is hashed, all sources must be routed or none: '\(routed.name)' is, '\(other.name)' is "
        + "not, and their records of one order would meet in different partitions")
  }

  /// Whether dead letters of a source carry the key and the bytes of their record.
  public func writesRaw(of source: SourceSettings) -> Bool {
    switch rawDeadLetters {
    case .always: true
    case .never: false
    case .unmasked: !source.mapping.isMasked
    }
  }
}
