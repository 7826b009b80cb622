import Domain
import Foundation
import Kafka
import Matching

/// A record on its way through an internal routing topic: where it came from, its key and its payload, unchanged.
///
/// `1, flags, partition (int32), offset (int64), key length (uint32), key, payload`, little-endian. Flags: 1 there is a
/// key, 2 there is a payload, 4 the record was too large for a message and is cut, 8 and 16 the part of it that counts.
struct RoutedRecord {
  /// A change that moves a row to another order goes to the tasks of both: each takes what is its order's.
  enum Part: UInt8 {
    case whole = 0
    /// What the order that the row was in loses.
    case left = 8
    /// What the order that the row is in now has.
    case joined = 16
  }

  var partition: Int32
  var offset: Int64
  var hasKey: Bool
  var hasPayload: Bool
  var isCut: Bool
  var part: Part
  var key: ByteView
  var payload: ByteView
  static let headBytes = 18
  /// Where the record stood, in one number: what a record without an id is known by, however often it is routed.
  var identity: Int64 { Int64(partition) << 44 | offset & (1 << 44 - 1) }

  /// nil where the bytes are no envelope. The views are valid as long as the bytes.
  init?(_ bytes: UnsafeBufferPointer<UInt8>?) {
    guard let bytes, let base = bytes.baseAddress, bytes.count >= RoutedRecord.headBytes, base[0] == 1 else {
      return nil
    }
    let raw = UnsafeRawPointer(base)
    partition = Int32(littleEndian: raw.loadUnaligned(fromByteOffset: 2, as: Int32.self))
    offset = Int64(littleEndian: raw.loadUnaligned(fromByteOffset: 6, as: Int64.self))
    let keyCount = Int(UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 14, as: UInt32.self)))
    guard keyCount <= bytes.count - RoutedRecord.headBytes else { return nil }
    hasKey = base[1] & 1 != 0
    hasPayload = base[1] & 2 != 0
    isCut = base[1] & 4 != 0
    part = Part(rawValue: base[1] & 24) ?? .whole
    let start = RoutedRecord.headBytes
    key = hasKey ? ByteView(base: base + start, count: keyCount) : .empty
    payload =
      hasPayload ? ByteView(base: base + start + keyCount, count: bytes.count - start - keyCount) : .empty
  }

  /// - Parameter limit: The most bytes that the envelope may have. A record that does not fit is cut: whoever takes it
  ///   reports it, while a message that the producer refuses would stop the routing.
  static func encode(
    _ message: ConsumedMessage, part: Part = .whole, limit: Int, into writer: inout ByteWriter
  ) {
    let room = max(0, limit - headBytes)
    let keyCount = min(message.key?.count ?? 0, room / 2)
    let valueCount = min(message.value?.count ?? 0, room - keyCount)
    let isCut = keyCount < message.key?.count ?? 0 || valueCount < message.value?.count ?? 0
    writer.removeAll()
    writer.write(UInt8(1))
    writer.write(
      UInt8((message.key == nil ? 0 : 1) | (message.value == nil ? 0 : 2) | (isCut ? 4 : 0)) | part.rawValue)
    writer.write(message.partition)
    writer.write(message.offset)
    writer.write(UInt32(keyCount))
    for (part, count) in [(message.key, keyCount), (message.value, valueCount)] {
      if let base = part?.baseAddress { writer.write(raw: base, count: count) }
    }
  }
}

/// How far a router has come in the partitions that a source is routed from: in every partition of the routing topic, in
/// the same transaction as the records that it speaks of, and behind them.
///
/// `2, partitions of the topic routed from (uint32), reports (uint32)`, and for each report `partition (int32), next offset
/// (int64), largest event time (int64), idle (uint8)`, little-endian.
package struct RoutedProgress: Equatable {
  /// Partitions of the topic that is routed from.
  var count: Int
  var reports: [Watermarks.OriginReport]
  private static let headBytes = 9
  private static let reportBytes = 21
  private static let mark: UInt8 = 2

  init(count: Int, reports: [Watermarks.OriginReport]) {
    self.count = count
    self.reports = reports
  }

  package static func isOne(_ bytes: UnsafeBufferPointer<UInt8>?) -> Bool { bytes?.first == mark }

  /// nil where the bytes are none.
  init?(_ bytes: UnsafeBufferPointer<UInt8>?) {
    guard let bytes, RoutedProgress.isOne(bytes), bytes.count >= RoutedProgress.headBytes else { return nil }
    let raw = UnsafeRawBufferPointer(bytes)
    func number<Number: FixedWidthInteger>(_ at: Int) -> Number {
      Number(littleEndian: raw.loadUnaligned(fromByteOffset: at, as: Number.self))
    }
    count = Int(number(1) as UInt32)
    let told = Int(number(5) as UInt32)
    guard count <= 1 << 20, told <= (bytes.count - RoutedProgress.headBytes) / RoutedProgress.reportBytes else {
      return nil
    }
    reports = (0..<told).map { at in
      let start = RoutedProgress.headBytes + at * RoutedProgress.reportBytes
      return Watermarks.OriginReport(
        partition: number(start), next: number(start + 4), largest_ms: number(start + 12), isIdle: raw[start + 20] != 0)
    }
  }

  func encode(into writer: inout ByteWriter) {
    writer.removeAll()
    writer.write(RoutedProgress.mark)
    writer.write(UInt32(count))
    writer.write(UInt32(reports.count))
    for report in reports {
      writer.write(report.partition)
      writer.write(report.next)
      writer.write(report.largest_ms)
      writer.write(UInt8(report.isIdle ? 1 : 0))
    }
  }
}

/// One task's value of a cell of a total. It is cumulative: whoever takes the value of the latest epoch of every task has
/// the sum, however often some of them came, and in whatever order.
struct Partial: Equatable {
  /// Before the name of a source, or nothing for the task's watermark: how far event time has come, which is not added
  /// up.
  static let timePrefix = "time:"

  var cell: String
  var task: Int32
  var value: Int64
  var epoch: UInt64

  /// Key of the message: the cell, then the task.
  var key: [UInt8] { Array("\(cell)|\(task)".utf8) }
  var valueBytes: [UInt8] { Array("\(value) \(epoch)".utf8) }

  init(cell: String, task: Int32, value: Int64, epoch: UInt64) {
    self.cell = cell
    self.task = task
    self.value = value
    self.epoch = epoch
  }

  init?(key: UnsafeBufferPointer<UInt8>?, value: UnsafeBufferPointer<UInt8>?) {
    guard let key, let value else { return nil }
    let text = String(decoding: key, as: UTF8.self)
    let numbers = String(decoding: value, as: UTF8.self).split(separator: " ")
    guard let bar = text.lastIndex(of: "|"), let task = Int32(text[text.index(after: bar)...]), numbers.count == 2,
      let number = Int64(numbers[0]), let epoch = UInt64(numbers[1])
    else { return nil }
    self.init(cell: String(text[..<bar]), task: task, value: number, epoch: epoch)
  }

  /// All parts of a cell meet in one partition.
  func partition(of count: Int) -> Int32 {
    let hash = Array(cell.utf8).withUnsafeBufferPointer { Fingerprint(ByteView($0)).high }
    return Int32(hash % UInt64(max(1, count)))
  }
}
