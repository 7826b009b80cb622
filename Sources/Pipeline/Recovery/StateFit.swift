import Checkpoints
import Configuration
import Kafka

/// The state was made under settings that those of now cannot take it up from.
struct StateMisfit: Error, CustomStringConvertible {
  var found: String
  var description: String { "\(found). Nothing was skipped. \(StateMisfit.advice)" }

  static let advice =
    "Sources are only ever appended, and dimensions stay as they are while there are aggregates: put them back as they "
    + "were, or begin anew with another kafka.group and prefix"
}

extension CheckpointManifest {
  /// Throws where facts carry numbers of sources or dimensions that are others now.
  func check(_ configuration: Configuration) throws(StateMisfit) {
    func differ(_ what: String, _ then: [String], _ now: [String]) -> StateMisfit {
      func list(_ names: [String]) -> String { names.isEmpty ? "none" : names.joined(separator: ", ") }
      return StateMisfit(found: "the state was made with the \(what) \(list(then)), and configured are \(list(now))")
    }
    let names = configuration.sources.map(\.name)
    guard names.starts(with: sources) else { throw differ("sources", sources, names) }
    guard let dimensions else { return }
    let isSummed = aggregateChunks > 0 && configuration.aggregates != nil
    let isMoved = dimensions != configuration.dimensions && dimensions.sorted() == configuration.dimensions.sorted()
    guard !isMoved, !isSummed || dimensions.count == configuration.dimensions.count else {
      throw differ("dimensions", dimensions, configuration.dimensions)
    }
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
