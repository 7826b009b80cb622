import Checkpoints
import Configuration
import Kafka

/// The state was made under settings that those of now cannot take it up from.
struct StateMisfit: Error, CustomStringConvertible {
  var found: String
  var description: String { "\(found). Nothing was skipped. \(StateMisfit.advice)" }

  static let advice =
    "Sources are only ever appended, dimensions keep their places, and with aggregates their number: put them back as they "
    + "were, or begin anew with another kafka.group and prefix"
}

extension CheckpointManifest {
  /// Throws where facts carry numbers of sources or dimensions that are others now.
  func check(_ configuration: Configuration) throws(StateMisfit) {
    func differ(_ what: String, _ then: [String], _ now: [String], _ why: String = "") -> StateMisfit {
      func list(_ names: [String]) -> String { names.isEmpty ? "none" : names.joined(separator: ", ") }
      return StateMisfit(
        found: "the state was made with the \(what) \(list(then)), and configured are \(list(now))\(why)")
    }
    let names = configuration.sources.map(\.name)
    guard names.starts(with: sources) else { throw differ("sources", sources, names) }
    guard let dimensions else { return }
    let isSummed = aggregateChunks > 0 && configuration.aggregates != nil
    let now = configuration.dimensions
    // Facts and cells have values by place: under a name that stands elsewhere now they would be another one's.
    let moved = dimensions.indices.first { at in now.firstIndex(of: dimensions[at]).map { $0 != at } ?? false }
    if let moved { throw differ("dimensions", dimensions, now, ": '\(dimensions[moved])' stands in another place") }
    guard !isSummed || dimensions.count == now.count else { throw differ("dimensions", dimensions, now) }
  }
}

extension EpochRecord {
  /// Where there is no checkpoint, which has their names, only the number of the sources and where each was read to tell.
  func check(_ configuration: Configuration, _ committed: [CommittedOffset?]) throws(StateMisfit) {
    guard next.count <= configuration.sources.count else {
      throw StateMisfit(
        found: "the epochs were recorded with \(next.count) sources, and configured are "
          + configuration.sources.map(\.name).joined(separator: ", "))
    }
    let offsets = committed.prefix(next.count).map { $0?.offset ?? -1 }
    guard offsets == next || offsets.sorted() != next.sorted() else {
      throw StateMisfit(
        found: "the epochs were recorded with the sources in another order than "
          + configuration.sources.map(\.name).joined(separator: ", "))
    }
  }
}
