import Aggregates
import Checkpoints
import Configuration
import Domain
import Matching

/// What the second stage is told at the end of an epoch: cells, counts, and how far the task has come.
extension TaskEngine {
  /// Tells the second stage what has changed in the task's own cells. The last thing before an epoch is sealed.
  func tellPartials() {
    untold = (outbox.mark, toldOpen)
    // Whoever holds values that must be unique forgets them by the watermarks: an epoch that is sealed anyhow says it, and
    // a new day of event time is worth one of its own, so that a task without records holds nothing up.
    let watermark_ms = matcher.watermarks.current_ms
    let isNewDay =
      watermark_ms > .min
      && (sealedWatermark_ms == .min || day(ofMilliseconds: watermark_ms) != day(ofMilliseconds: sealedWatermark_ms))
    tellCells(tellsWatermark: stage.unique != nil && (hasEffects || isNewDay))
    for type in BreakType.allCases.indices where matcher.counters.open[type] != toldOpen[type] {
      toldOpen[type] = matcher.counters.open[type]
      let cell = Partial(
        cell: "open_breaks:" + BreakType.allCases[type].rawValue, task: partition, value: Int64(toldOpen[type]),
        epoch: mark.number + 1)
      outbox.add(
        .partials, partition: cell.partition(of: configuration.partialsPartitions), key: cell.key,
        value: cell.valueBytes)
    }
  }

  /// The epoch goes on after all: its partials come when it is sealed again, once, as in a replay.
  func untellPartials() {
    guard let untold else { return }
    outbox.rollback(to: untold.mark)
    if matcher.aggregates != nil { matcher.aggregates!.untell() }
    if matcher.quality != nil { matcher.untellQuality() }
    toldOpen = untold.open
  }

  private func tellCells(tellsWatermark: Bool) {
    // The clock is the last reading of this epoch, so that a replay has the same; an epoch without one tells nothing.
    guard matcher.hasAggregates || matcher.hasQuality, let now_ms = events.last?.now_ms else {
      if tellsWatermark { tellTimes([matcher.watermarks.current_ms]) }
      return
    }
    let sources = configuration.sources
    let times =
      [matcher.watermarks.current_ms]
      + sources.indices.map { matcher.watermarks.largest_ms(source: UInt16($0)) ?? .min }
    let partitions = configuration.partialsPartitions
    var toldTimes: [Int64]?
    if matcher.aggregates != nil {
      let told = matcher.aggregates!.tell(now_ms: now_ms, times: times)
      toldTimes = told.times
      for line in told.lines {
        let cell = CellPartial(task: partition, epoch: mark.number + 1, line: line)
        tell(cell.partition(of: partitions), { cell.writeKey(into: &$0) }, { cell.writeValue(into: &$0) })
      }
    }
    if matcher.quality != nil {
      let told = matcher.tellQuality(now_ms: now_ms, times: times)
      toldTimes = toldTimes ?? told.times
      for (period, control) in told.periods {
        let cell = QualityPartial(task: partition, epoch: mark.number + 1, period: period, control: control)
        tell(cell.partition(of: partitions), { cell.writeKey(into: &$0) }, { cell.writeValue(into: &$0) })
      }
      for (key, counts) in told.lines {
        let cell = QualityPartial(
          task: partition, epoch: mark.number + 1, source: sources[Int(key.source)].name, period: key.period,
          counts: counts)
        tell(cell.partition(of: partitions), { cell.writeKey(into: &$0) }, { cell.writeValue(into: &$0) })
      }
      for (source, control) in told.sources {
        let cell = QualityPartial(
          task: partition, epoch: mark.number + 1, source: sources[Int(source)].name, control: control)
        tell(cell.partition(of: partitions), { cell.writeKey(into: &$0) }, { cell.writeValue(into: &$0) })
      }
      if let control = told.control {
        let cell = QualityPartial(task: partition, epoch: mark.number + 1, control: control)
        tell(cell.partition(of: partitions), { cell.writeKey(into: &$0) }, { cell.writeValue(into: &$0) })
      }
    }
    if let toldTimes { tellTimes(toldTimes) } else if tellsWatermark { tellTimes([times[0]]) }
  }

  /// The watermark, and behind it the latest event time of each source.
  private func tellTimes(_ times: [Int64]) {
    let partitions = configuration.partialsPartitions
    for (name, time_ms) in zip([""] + configuration.sources.map(\.name), times) where time_ms > .min {
      let cell = Partial(cell: Partial.timePrefix + name, task: partition, value: time_ms, epoch: mark.number + 1)
      // Whoever adds cells up must know how far the tasks have come, whichever partition it reads.
      for place in 0..<max(1, partitions) {
        outbox.add(.partials, partition: Int32(place), key: cell.key, value: cell.valueBytes)
      }
    }
  }

  private func tell(_ place: Int32, _ key: (inout ByteWriter) -> Void, _ value: (inout ByteWriter) -> Void) {
    var keyBytes = ByteWriter(capacity: 256)
    var valueBytes = ByteWriter(capacity: 512)
    key(&keyBytes)
    value(&valueBytes)
    outbox.add(.partials, partition: place, key: keyBytes.array, value: valueBytes.array)
  }
}
