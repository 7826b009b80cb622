import Configuration

extension Configuration {
  /// Whether an epoch ends now. Nobody waits for the breaks of a backlog that is being worked off: there an epoch may take
  /// longer, so that more records share what a commit costs.
  /// - Parameters:
  ///   - after_ms: How long it has taken.
  ///   - records: What it has taken in.
  ///   - inputs: Partitions that are read. Behind the last record of each the marker of the transaction that wrote it may
  ///     stand, which no client hands out: so many, and one more record, are no backlog.
  ///   - backlog: Offsets that lie before the end at the broker; asked for only where it matters. Fewer than the epoch has
  ///     taken, or than a fiftieth of `epochRecords`, are none.
  func endsEpoch(after_ms length_ms: Int64, records: Int, inputs: Int, backlog: @autoclosure () -> Int) -> Bool {
    if records >= epochRecords || length_ms >= epochBacklogInterval_ms { return true }
    return length_ms >= epochInterval_ms && backlog() < max(records, epochRecords / 50, inputs + 2)
  }
}
