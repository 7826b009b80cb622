import Domain
import Matching

/// One thing that a task did in an epoch, in the order in which it did it. Together with the records themselves this is
/// everything that decides what the matcher did.
public enum EpochEvent: Sendable, Equatable {
  /// The task came to be; its sources are known from now on.
  case begin(now_ms: Int64)
  /// Records of one partition of a source: the offsets of the first and the last, and how many there are between them
  /// (offsets have gaps where Kafka keeps control records or has compacted).
  case run(source: UInt16, first: Int64, last: Int64, count: Int, now_ms: Int64)
  /// The source of a run of people's actions, whichever sources the configuration has.
  public static let actions = UInt16.max
  /// The source of an event that is no run: as many records that waited for master data were tried again.
  public static let held = UInt16.max - 1
  /// The source of an event that is no run: a revision of the posting policies came as far as `last`.
  public static let policies = UInt16.max - 2
  /// Time moved. Sources in the mask had records waiting; the expiry came as far as the bound.
  case time(now_ms: Int64, waiting: UInt64, bound: ExpiryBound)

  /// The clock reading that came with it.
  public var now_ms: Int64 {
    switch self {
    case .begin(let now_ms), .run(_, _, _, _, let now_ms), .time(let now_ms, _, _): now_ms
    }
  }
}

/// Somebody's state of one shard as an epoch left it.
public struct ShardDigest: Sendable, Equatable {
  public var bits: Int
  public var shard: Int
  public var digest: UInt64

  public init(bits: Int, shard: Int, digest: UInt64) {
    self.bits = bits
    self.shard = shard
    self.digest = digest
  }
}

/// What a task consumed and decided in one epoch: enough to do it again from the log, byte for byte.
///
/// It is written to the epochs topic, in the partition of the task, in the same transaction as the outputs and the
/// offsets. An epoch is valid where it is on the chain that ends at the committed one: numbers rise by one, and each
/// record names the incarnation that wrote the one before.
public struct EpochRecord: Sendable, Equatable {
  /// Versions that can be read; 2 has the next action, 3 digests of shards as this version writes them. Where actions are not
  /// read, 1 is written, and 3 only where there are digests.
  public static let versions: ClosedRange<UInt8> = 1...3
  static let magic: UInt32 = 0x4550_4954  // "TIPE"

  public var task: Int32
  public var number: UInt64
  /// A random number of whoever ran the task; and that of the epoch before, 0 for none.
  public var incarnation: UInt64
  public var previousIncarnation: UInt64
  /// A hash of the settings that decide what the matcher does.
  public var configuration: UInt64
  public var events: [EpochEvent] = []
  /// By source: the next record to read.
  public var next: [Int64]
  /// The next action to read; nil where actions are not read.
  public var actionsNext: Int64?
  public var outputCount = 0
  /// Over topic, key and value of every output in order.
  public var outputDigest: UInt64 = 0
  /// Of the watermarks, and of counters and control totals, at the end of the epoch.
  public var timeDigest: UInt64 = 0
  public var sumsDigest: UInt64 = 0
  public var shards: [ShardDigest] = []

  public init(
    task: Int32, number: UInt64, incarnation: UInt64, previousIncarnation: UInt64, configuration: UInt64, next: [Int64]
  ) {
    self.task = task
    self.number = number
    self.incarnation = incarnation
    self.previousIncarnation = previousIncarnation
    self.configuration = configuration
    self.next = next
  }

  public var records: Int {
    events.reduce(0) {
      if case .run(_, _, _, let count, _) = $1 { return $0 + count }
      return $0
    }
  }

  /// The last clock reading of the epoch.
  public var clock_ms: Int64 { events.last?.now_ms ?? 0 }

  private static let beginTag: UInt8 = 1
  private static let runTag: UInt8 = 2
  private static let timeTag: UInt8 = 3
  private static let pacedTimeTag: UInt8 = 4

  public func encode(into writer: inout ByteWriter) {
    let start = writer.count
    writer.write(EpochRecord.magic)
    let version: UInt8 = shards.isEmpty ? actionsNext == nil ? 1 : 2 : 3
    writer.write(version)
    writer.write(task)
    writer.writeVarint(number)
    writer.write(incarnation)
    writer.write(previousIncarnation)
    writer.write(configuration)
    writer.writeVarint(UInt64(events.count))
    var clock_ms: Int64 = 0
    func clock(_ now_ms: Int64, _ writer: inout ByteWriter) {
      writer.writeSigned(now_ms &- clock_ms)
      clock_ms = now_ms
    }
    for event in events {
      switch event {
      case .begin(let now_ms):
        writer.write(EpochRecord.beginTag)
        clock(now_ms, &writer)
      case .run(let source, let first, let last, let count, let now_ms):
        writer.write(EpochRecord.runTag)
        clock(now_ms, &writer)
        writer.writeVarint(UInt64(source))
        writer.writeVarint(UInt64(first))
        writer.writeVarint(UInt64(last - first))
        writer.writeVarint(UInt64(count))
      case .time(let now_ms, let waiting, let bound):
        writer.write(bound == .none ? EpochRecord.timeTag : EpochRecord.pacedTimeTag)
        clock(now_ms, &writer)
        writer.writeVarint(waiting)
        if bound != .none {
          writer.writeSigned(bound.deadline_ms)
          writer.write(bound.tag)
        }
      }
    }
    writer.writeVarint(UInt64(next.count))
    for offset in next { writer.writeSigned(offset) }
    writer.writeVarint(UInt64(outputCount))
    writer.write(outputDigest)
    writer.write(timeDigest)
    writer.write(sumsDigest)
    writer.writeVarint(UInt64(shards.count))
    for shard in shards {
      writer.write(UInt8(shard.bits))
      writer.writeVarint(UInt64(shard.shard))
      writer.write(shard.digest)
    }
    if version >= 3 { writer.write(UInt8(actionsNext == nil ? 0 : 1)) }
    if let actionsNext { writer.writeSigned(actionsNext) }
    writer.write(Checksum.of(UnsafeRawBufferPointer(rebasing: writer.bytes[start...])))
  }

  public var bytes: [UInt8] {
    var writer = ByteWriter()
    encode(into: &writer)
    return writer.array
  }

  public init(bytes: UnsafeRawBufferPointer) throws(ByteCodingError) {
    let content = try Checksum.verified(bytes, "the epoch record")
    var reader = ByteReader(content)
    guard try reader.read(UInt32.self) == EpochRecord.magic else { throw ByteCodingError("not an epoch record") }
    let version: UInt8 = try reader.read()
    guard EpochRecord.versions.contains(version) else {
      throw ByteCodingError(
        "an epoch record of version \(version); this program reads up to \(EpochRecord.versions.upperBound)")
    }
    task = try reader.read()
    number = try reader.readVarint()
    incarnation = try reader.read()
    previousIncarnation = try reader.read()
    configuration = try reader.read()
    var clock_ms: Int64 = 0
    for _ in 0..<(try reader.readCount(atMost: content.count)) {
      let tag: UInt8 = try reader.read()
      clock_ms &+= try reader.readSigned()
      switch tag {
      case EpochRecord.beginTag: events.append(.begin(now_ms: clock_ms))
      case EpochRecord.runTag:
        let source = try reader.readCount(atMost: Int(UInt16.max))
        let first = Int64(try reader.readCount(atMost: .max))
        let length = Int64(try reader.readCount(atMost: .max - Int(first)))
        events.append(
          .run(
            source: UInt16(source), first: first, last: first + length, count: try reader.readCount(atMost: .max),
            now_ms: clock_ms))
      case EpochRecord.timeTag, EpochRecord.pacedTimeTag:
        let waiting = try reader.readVarint()
        var bound = ExpiryBound.none
        if tag == EpochRecord.pacedTimeTag {
          bound = ExpiryBound(deadline_ms: try reader.readSigned(), tag: try reader.read())
        }
        events.append(.time(now_ms: clock_ms, waiting: waiting, bound: bound))
      default: throw ByteCodingError("an event of the unknown kind \(tag)")
      }
    }
    next = []
    for _ in 0..<(try reader.readCount(atMost: content.count)) { next.append(try reader.readSigned()) }
    outputCount = try reader.readCount(atMost: .max)
    outputDigest = try reader.read()
    timeDigest = try reader.read()
    sumsDigest = try reader.read()
    for _ in 0..<(try reader.readCount(atMost: content.count)) {
      shards.append(
        ShardDigest(
          bits: Int(try reader.read(UInt8.self)), shard: try reader.readCount(atMost: 1 << 20),
          digest: try reader.read()))
    }
    if version == 2 { actionsNext = try reader.readSigned() }
    if version >= 3 {
      if try reader.read(UInt8.self) != 0 { actionsNext = try reader.readSigned() }
    } else {
      // Of bodies as earlier versions wrote them: what is derived again now has other bytes.
      shards = []
    }
  }
}

/// What is committed beside an offset: the epoch that led to it. `e1:<number>:<incarnation>`, and `:s` behind it where
/// the epoch's outputs have certainly been sent.
public struct EpochMark: Sendable, Equatable {
  public var number: UInt64
  public var incarnation: UInt64
  public var isSent = true

  public init(number: UInt64, incarnation: UInt64, isSent: Bool = true) {
    self.number = number
    self.incarnation = incarnation
    self.isSent = isSent
  }

  public var text: String { "e1:\(number):\(String(incarnation, radix: 16))" + (isSent ? ":s" : "") }

  public init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 3 || parts.count == 4 && parts[3] == "s", parts[0] == "e1", let number = UInt64(parts[1]),
      let incarnation = UInt64(parts[2], radix: 16)
    else { return nil }
    self.init(number: number, incarnation: incarnation, isSent: parts.count == 4)
  }
}

/// Eight bytes at the end of everything that is stored.
public enum Checksum {
  public static func of(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    Fingerprint(ByteView(bytes.assumingMemoryBound(to: UInt8.self))).low
  }

  /// The bytes before the checksum; throws where it does not fit them.
  public static func verified(
    _ bytes: UnsafeRawBufferPointer, _ what: String
  ) throws(ByteCodingError) -> UnsafeRawBufferPointer {
    guard bytes.count >= 8 else { throw ByteCodingError("\(what) is cut off after \(bytes.count) bytes") }
    let content = UnsafeRawBufferPointer(rebasing: bytes[0..<bytes.count - 8])
    let stored = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: bytes.count - 8, as: UInt64.self))
    guard stored == of(content) else { throw ByteCodingError("\(what) is damaged: its checksum does not fit") }
    return content
  }
}
