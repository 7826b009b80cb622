import Matching

/// How far a router has come in the partitions of one source that are its own. Times without a word beside them are
/// readings of a monotonic clock.
struct RouterProgress {
  private struct Place {
    /// The next record to be routed; nil where nothing is known of it yet.
    var next: Int64?
    /// The largest event time that was routed from it.
    var largest_ms = Int64.min
    /// Where it was read to its end; nil while there is more.
    var endedAt: Int64?
    /// Since when nothing has come, or nobody has looked.
    var silentSince_ms: Int64
    var isIdle = false
    var isHeld = false
    var isChanged = false
  }

  /// Partitions of the topic that is routed from.
  private var count: Int
  private var places: [Int32: Place] = [:]
  private var told_ms: Int64
  /// What changes whether a partition holds the time back is not put off.
  private var isUrgent = false
  /// So long what is told is put together.
  static let pause_ms: Int64 = 200

  /// - Parameters:
  ///   - count: Partitions of the topic, as far as is known.
  ///   - places: The partitions of this member, with the next record of each; nil where none has been read.
  init(count: Int, places: [(partition: Int32, next: Int64?)], now_ms: Int64) {
    self.count = max(count, places.map { Int($0.partition) + 1 }.max() ?? 0)
    told_ms = now_ms
    for place in places { self.places[place.partition] = Place(next: place.next, silentSince_ms: now_ms) }
  }

  /// A record goes its way.
  /// - Parameters:
  ///   - time_ms: Its event time; nil where it cannot be read.
  ///   - latest_ms: An event time behind this is wrong, and says nothing.
  mutating func routed(_ partition: Int32, offset: Int64, time_ms: Int64?, latest_ms: Int64, now_ms: Int64) {
    guard var place = places[partition] else { return }
    place.next = offset + 1
    if let time_ms, time_ms <= latest_ms { place.largest_ms = max(place.largest_ms, time_ms) }
    if place.isIdle { isUrgent = true }
    place.isIdle = false
    place.endedAt = nil
    place.silentSince_ms = now_ms
    place.isChanged = true
    places[partition] = place
  }

  /// A partition was read to its end.
  mutating func ended(_ partition: Int32, at offset: Int64) {
    guard var place = places[partition] else { return }
    place.next = max(place.next ?? 0, offset)
    place.endedAt = offset
    place.isChanged = true
    places[partition] = place
  }

  /// Partitions that are idle if the broker has nothing more; those are asked for again after as long.
  mutating func maybeIdle(after_ms timeout_ms: Int64, now_ms: Int64) -> [Int32] {
    let due = places.filter {
      !$1.isIdle && !$1.isHeld && $1.endedAt != nil && now_ms - $1.silentSince_ms >= timeout_ms
    }.keys.sorted()
    for partition in due { places[partition]!.silentSince_ms = now_ms }
    return due
  }

  /// The broker has said where a partition ends that may be idle.
  mutating func answered(_ partition: Int32, end: Int64) {
    guard var place = places[partition], let endedAt = place.endedAt, end <= endedAt else { return }
    place.isIdle = true
    place.isChanged = true
    places[partition] = place
    isUrgent = true
  }

  /// What is to be told now; nil for nothing.
  mutating func told(now_ms: Int64, retell_ms: Int64) -> RoutedProgress? {
    let isAll = now_ms - told_ms >= retell_ms
    guard isAll || isUrgent || now_ms - told_ms >= RouterProgress.pause_ms else { return nil }
    var told = RoutedProgress(count: count, reports: [])
    for (partition, place) in places.sorted(by: { $0.key < $1.key }) where place.isChanged || isAll {
      guard let next = place.next else { continue }
      places[partition]!.isChanged = false
      told.reports.append(
        .init(partition: partition, next: next, largest_ms: place.largest_ms, isIdle: place.isIdle))
    }
    guard !told.reports.isEmpty else { return nil }
    told_ms = now_ms
    isUrgent = false
    return told
  }

  /// Decides anew which partitions wait: those that are ahead of one with more to read. One that waits goes on when half of
  /// its lead is gone.
  /// - Returns: whether that has changed.
  mutating func holdBack(lead_ms: Int64) -> Bool {
    let behind_ms = places.values.lazy.filter { $0.endedAt == nil && $0.largest_ms > .min }.map(\.largest_ms).min()
    var isChanged = false
    for (partition, place) in places {
      var isHeld = false
      if let behind_ms, place.endedAt == nil, place.largest_ms > .min {
        isHeld = place.largest_ms - behind_ms > (place.isHeld ? lead_ms / 2 : lead_ms)
      }
      if isHeld != place.isHeld {
        places[partition]!.isHeld = isHeld
        isChanged = true
      }
    }
    return isChanged
  }

  func isHeld(_ partition: Int32) -> Bool { places[partition]?.isHeld ?? false }
}
