import Aggregates
import Configuration
import Domain
import Foundation
import Kafka
import Pipeline

extension ClusterSimulation {
  private struct Name: Hashable {
    var source: String
    var month: String
  }

  /// What the tasks have counted of each source, and what the second stage has told of it, are the oracle's counts.
  func checkQuality() {
    let counted = countedQuality()
    let naive = NaiveQuality(history)
    for (source, right) in zip(configuration.sources, [naive.orders, naive.ledger]) {
      // At least once a routed record may come again: a repetition more, and nothing else.
      let mayRepeat = source.isRouted && configuration.kafka.delivery == .atLeastOnce
      let months = Set(right.keys).union(counted.keys.filter { $0.source == source.name }.map(\.month))
      var deadLetters: Int64 = 0
      for month in months.sorted() {
        let counts = counted[Name(source: source.name, month: month)] ?? QualityCounts()
        deadLetters += counts[.schemaInvalid]
        var found = NaiveQuality.Counts(
          records: counts[.records], matched: counts[.matched], duplicates: counts[.duplicates])
        var expected = right[month] ?? NaiveQuality.Counts()
        if mayRepeat {
          found.records -= found.duplicates
          expected.records -= expected.duplicates
          (found.duplicates, expected.duplicates) = (0, 0)
        }
        if found != expected { fail("quality of \(source.name) in \(month): \(found) instead of \(expected)") }
        if counts[.superseded] != 0 || counts[.flagged] != 0 || counts.deadLetters != counts[.schemaInvalid] {
          fail("quality of \(source.name) in \(month) counts what never was")
        }
        if counts.waits > counts[.matched] + counts[.duplicates] {
          fail("quality of \(source.name) in \(month): \(counts.waits) waits for \(counts[.matched]) records")
        }
      }
      let right = Int64(corruptedTopics.count { $0 == source.originalTopic })
      if mayRepeat ? deadLetters < right : deadLetters != right {
        fail("quality of \(source.name): \(deadLetters) dead letters instead of \(right)")
      }
    }
    let late = counted.values.reduce(0) { $0 + $1[.late] }
    if late != Int64(lateCount) { fail("quality: \(late) late records, and the tasks say \(lateCount)") }
    if hasTotals { checkToldQuality(counted) }
  }

  /// The newest partial of each task, added up.
  private func countedQuality() -> [Name: QualityCounts] {
    var newest: [Name: [Int32: QualityPartial]] = [:]
    for partition in 0..<partitions {
      for (_, key, value) in cluster.readCommitted(TopicPartition(configuration.partialsTopic, Int32(partition))) {
        guard let key, let value, key.withUnsafeBytes({ QualityPartial.isKey($0) }) else { continue }
        let partial = key.withUnsafeBytes { key in
          value.withUnsafeBytes { try? QualityPartial(key: key, value: $0) }
        }
        guard let partial else {
          fail("a partial of quality cannot be read")
          continue
        }
        let name = Name(source: partial.source, month: NaiveQuality.month(ofPeriod: partial.period))
        let known = newest[name]?[partial.task]?.epoch ?? 0
        if configuration.kafka.delivery == .exactlyOnce, partial.epoch <= known {
          fail("quality of \(name.source), epoch \(partial.epoch) of task \(partial.task) comes after \(known)")
        }
        if partial.epoch > known { newest[name, default: [:]][partial.task] = partial }
      }
    }
    return newest.mapValues { $0.values.reduce(into: QualityCounts()) { $0 += $1.counts } }
  }

  /// The last message of each source and month says what the tasks have counted, and revisions never go back.
  private func checkToldQuality(_ counted: [Name: QualityCounts]) {
    var told: [Name: [String: Any]] = [:]
    for partition in 0..<partitions {
      for (_, _, value) in cluster.readCommitted(TopicPartition(configuration.qualityTopic, Int32(partition))) {
        guard let value, let message = try? JSONSerialization.jsonObject(with: Data(value)) as? [String: Any],
          let source = message["source"] as? String, let period = message["period"] as? String,
          let revision = message["revision"] as? Int
        else {
          fail("a message of the quality topic cannot be read")
          continue
        }
        let name = Name(source: source, month: Int32(period).map { NaiveQuality.month(ofPeriod: $0) } ?? period)
        if let before = told[name]?["revision"] as? Int, before > revision {
          fail("quality of \(source) in \(period): revision \(revision) comes after \(before)")
        }
        told[name] = message
      }
    }
    for (name, counts) in counted {
      let message = told.removeValue(forKey: name) ?? [:]
      for (field, right) in [
        ("records", counts[.records]), ("matched", counts[.matched]), ("unmatched", counts.unmatched),
        ("duplicates", counts[.duplicates]), ("late", counts[.late]), ("dead_letters", counts.deadLetters),
      ] where message[field] as? Int != Int(right) {
        fail("the second stage has told of \(name.source): \(message[field] ?? "no") \(field), right is \(right)")
      }
    }
    for name in told.keys { fail("the second stage has told of \(name), of which nobody has counted anything") }
  }
}
