import Domain

/// One task's counts of a source and period on their way to the second stage, cumulative like every partial.
public struct QualityPartial: Hashable, Sendable {
  public var task: Int32
  public var epoch: UInt64
  public var source: String
  public var period: Int32
  public var counts: QualityCounts
  /// Only in the partials of all sources, and of all periods of one.
  public var control: QualityControl?

  public init(task: Int32, epoch: UInt64, source: String, period: Int32, counts: QualityCounts) {
    self.task = task
    self.epoch = epoch
    self.source = source
    self.period = period
    self.counts = counts
  }

  /// How a task stands over all its sources and times.
  public init(task: Int32, epoch: UInt64, control: QualityControl) {
    self.init(
      task: task, epoch: epoch, source: QualityKey.allSources, period: QualityKey.allPeriods, counts: QualityCounts())
    self.control = control
  }

  /// How the orders of a source stand in a task.
  public init(task: Int32, epoch: UInt64, source: String, control: QualityControl) {
    self.init(task: task, epoch: epoch, source: source, period: QualityKey.allPeriods, counts: QualityCounts())
    self.control = control
  }

  /// The control totals of a task in an accounting period.
  public init(task: Int32, epoch: UInt64, period: Int32, control: QualityControl) {
    self.init(task: task, epoch: epoch, source: QualityKey.allSources, period: period, counts: QualityCounts())
    self.control = control
  }

  static let marker: UInt8 = 0xc2
  /// 1 counted records alone; 2 had neither control totals by role nor the age of breaks, 3 not their number.
  public static let version: UInt8 = 4

  /// Key of the message: marker, task, period, source. The topic is compacted by it.
  public func writeKey(into writer: inout ByteWriter) {
    writer.write(QualityPartial.marker)
    writer.write(task)
    writer.write(period)
    writer.write(text: source)
  }

  public func writeValue(into writer: inout ByteWriter) {
    writer.write(QualityPartial.version)
    writer.write(epoch)
    counts.write(into: &writer)
    writer.write(UInt8(control == nil ? 0 : 1))
    control?.write(into: &writer)
  }

  /// Whether a message's key is that of counts of quality.
  public static func isKey(_ bytes: UnsafeRawBufferPointer) -> Bool { bytes.first == marker }

  public init(key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) throws(ByteCodingError) {
    var reader = ByteReader(key)
    guard try reader.read(UInt8.self) == QualityPartial.marker else { throw ByteCodingError("no counts of quality") }
    task = try reader.read()
    period = try reader.read()
    source = try reader.readText()
    var values = ByteReader(value)
    let version: UInt8 = try values.read()
    guard (1...QualityPartial.version).contains(version) else {
      throw ByteCodingError("counts of quality of another version")
    }
    epoch = try values.read()
    counts = try QualityCounts(from: &values, hasAmounts: version > 1)
    if version > 1, try values.read(UInt8.self) != 0 {
      control = try QualityControl(from: &values, version: version)
    }
    guard reader.isAtEnd, values.isAtEnd else { throw ByteCodingError("counts of quality with more behind them") }
  }

  /// All parts of a source and period meet in one partition.
  public func partition(of count: Int) -> Int32 {
    var writer = ByteWriter(capacity: 128)
    writer.write(period)
    writer.write(text: source)
    return Int32(Fingerprint(writer.view).high % UInt64(max(1, count)))
  }
}
