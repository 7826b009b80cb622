/// The kinds of requests that are answered, with the newest version of each. Versions that need a newer one of the
/// primitive types (KIP-482) begin at `flexible`.
enum Request: Int16, CaseIterable {
  case produce = 0
  case fetch = 1
  case listOffsets = 2
  case metadata = 3
  case offsetCommit = 8
  case offsetFetch = 9
  case findCoordinator = 10
  case joinGroup = 11
  case heartbeat = 12
  case leaveGroup = 13
  case syncGroup = 14
  case apiVersions = 18
  case createTopics = 19
  case deleteTopics = 20
  case deleteRecords = 21
  case initProducerID = 22
  case addPartitions = 24
  case addOffsets = 25
  case endTransaction = 26
  case transactionalOffsetCommit = 28
  case describeConfigs = 32
  case createPartitions = 37

  var newest: Int16 {
    switch self {
    case .produce, .offsetCommit, .offsetFetch: 7
    case .fetch: 11
    case .listOffsets, .findCoordinator: 2
    case .metadata, .createTopics, .initProducerID: 4
    case .joinGroup: 5
    case .heartbeat, .syncGroup, .apiVersions, .transactionalOffsetCommit: 3
    case .leaveGroup, .deleteTopics, .deleteRecords, .endTransaction, .describeConfigs: 1
    case .addPartitions, .addOffsets, .createPartitions: 0
    }
  }

  var oldest: Int16 {
    switch self {
    case .offsetCommit: 2
    case .offsetFetch: 1
    default: 0
    }
  }

  var flexible: Int16 {
    switch self {
    case .offsetFetch: 6
    case .apiVersions, .transactionalOffsetCommit: 3
    case .initProducerID: 2
    default: .max
    }
  }
}

/// The code of what was tried.
private func code(_ body: () throws(ErrorCode) -> Void) -> ErrorCode {
  do throws(ErrorCode) {
    try body()
    return .none
  } catch { return error }
}

extension MemoryBroker {
  /// The response to a request, with its header; empty where none is wanted.
  func respond(_ frame: [UInt8]) throws -> [UInt8] {
    var reader = WireReader(frame)
    let key = try reader.int16()
    let version = try reader.int16()
    let correlation = try reader.int32()
    guard let request = Request(rawValue: key) else { throw WireError(description: "request \(key) is not known") }
    _ = try reader.nullableString()
    var writer = WireWriter()
    writer.int32(correlation)
    guard (request.oldest...request.newest).contains(version) else {
      guard request == .apiVersions else { throw WireError(description: "version \(version) of \(request)") }
      // Whoever asks for too new a version of this is told in the oldest.
      writer.code(.unsupportedVersion)
      writeVersions(&writer, 0)
      return writer.bytes
    }
    reader.isFlexible = version >= request.flexible
    try reader.skipTags()
    writer.isFlexible = reader.isFlexible
    if request != .apiVersions { writer.tags() }

    condition.lock()
    defer { condition.unlock() }
    guard !isStopped else { throw WireError(description: "the broker has ended") }
    switch request {
    case .produce: guard try produce(&reader, &writer, version) else { return [] }
    case .fetch: try fetch(&reader, &writer, version)
    case .listOffsets: try listOffsets(&reader, &writer, version)
    case .metadata: try metadata(&reader, &writer, version)
    case .apiVersions:
      writer.code(.none)
      writeVersions(&writer, version)
    case .findCoordinator: try findCoordinator(&reader, &writer, version)
    case .joinGroup: try joinGroup(&reader, &writer, version)
    case .syncGroup: try syncGroup(&reader, &writer, version)
    case .heartbeat, .leaveGroup: try heartbeatOrLeave(request, &reader, &writer, version)
    case .offsetCommit: try offsetCommit(&reader, &writer, version)
    case .offsetFetch: try offsetFetch(&reader, &writer, version)
    case .createTopics, .deleteTopics: try changeTopics(request, &reader, &writer, version)
    case .createPartitions: try createPartitions(&reader, &writer)
    case .deleteRecords: try deleteRecords(&reader, &writer)
    case .describeConfigs: try describeConfigs(&reader, &writer, version)
    case .initProducerID: try initProducerID(&reader, &writer, version)
    case .addPartitions, .addOffsets, .endTransaction: try changeTransaction(request, &reader, &writer)
    case .transactionalOffsetCommit: try transactionalOffsetCommit(&reader, &writer, version)
    }
    writer.tags()
    return writer.bytes
  }

  private func writeVersions(_ writer: inout WireWriter, _ version: Int16) {
    writer.array(Request.allCases) { writer, request in
      writer.int16(request.rawValue)
      writer.int16(request.oldest)
      writer.int16(request.newest)
    }
    if version >= 1 { writer.int32(0) }
  }

  // MARK: - Records

  private func produce(_ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16) throws -> Bool {
    guard version >= 3 else { throw WireError(description: "records of format 0 and 1 are not taken") }
    let id = try reader.nullableString()
    let acknowledgements = try reader.int16()
    _ = try reader.int32()
    let transactional = id.flatMap { transactionals[$0] }
    let answers = try reader.places { reader, place in
      let records = try reader.nullableBytes() ?? []
      var offset: Int64 = -1
      let code = code { () throws(ErrorCode) in
        guard let log = partition(place) else { throw .unknownTopicOrPartition }
        offset = try log.append(records) { producer, epoch in
          guard let transactional, transactional.producer == producer else { return .invalidProducerIDMapping }
          return transactional.isOpen(place, epoch)
        }
      }
      return (place, (code, offset))
    }
    condition.broadcast()
    writer.places(answers) { writer, answer in
      writer.code(answer.0)
      writer.int64(answer.1)
      writer.int64(-1)
      if version >= 5 { writer.int64(0) }
    }
    writer.int32(0)
    return acknowledgements != 0
  }

  private struct Wanted {
    var place: TopicPartitionName
    var offset: Int64
    var maximumBytes: Int
  }

  private func fetch(_ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16) throws {
    guard version >= 4 else { throw WireError(description: "fetches of old formats are not answered") }
    _ = try reader.int32()
    let until_ms = MemoryBroker.now_ms() + Int64(try reader.int32())
    let minimumBytes = try reader.int32()
    let maximumBytes = Int(try reader.int32())
    let isCommittedOnly = try reader.int8() == 1
    if version >= 7 { _ = (try reader.int32(), try reader.int32()) }
    let wanted = try reader.places { reader, place in
      if version >= 9 { _ = try reader.int32() }
      let offset = try reader.int64()
      if version >= 5 { _ = try reader.int64() }
      return Wanted(place: place, offset: offset, maximumBytes: Int(try reader.int32()))
    }
    func limit(_ log: PartitionLog) -> Int64 { isCommittedOnly ? log.stable : log.end }
    func isWorthAnswering(_ wanted: Wanted) -> Bool {
      guard let log = partition(wanted.place), log.start <= wanted.offset, wanted.offset <= log.end else { return true }
      return log.has(wanted.offset, limit: limit(log))
    }
    while minimumBytes > 0, MemoryBroker.now_ms() < until_ms, !wanted.contains(where: isWorthAnswering) {
      guard wait(until_ms: until_ms) else { throw WireError(description: "the broker has ended") }
    }
    struct Found {
      var code = ErrorCode.none
      var end: Int64 = -1
      var stable: Int64 = -1
      var start: Int64 = -1
      var aborted: [(producer: Int64, first: Int64)]?
      var records: [UInt8] = []
    }
    var left = maximumBytes
    let answers = wanted.map { wanted -> (TopicPartitionName, Found) in
      guard let log = partition(wanted.place) else { return (wanted.place, Found(code: .unknownTopicOrPartition)) }
      guard log.start <= wanted.offset, wanted.offset <= log.end else {
        return (wanted.place, Found(code: .offsetOutOfRange))
      }
      var found = Found(end: log.end, stable: log.stable, start: log.start)
      let isFirst = left == maximumBytes
      let (records, next) =
        left > 0 || isFirst
        ? log.read(from: wanted.offset, limit: limit(log), maximumBytes: min(left, wanted.maximumBytes))
        : ([], wanted.offset)
      left -= records.count
      found.records = records
      if isCommittedOnly { found.aborted = log.abortedTransactions(from: wanted.offset, to: next) }
      return (wanted.place, found)
    }
    writer.int32(0)
    if version >= 7 {
      writer.code(.none)
      writer.int32(0)
    }
    writer.places(answers) { writer, found in
      writer.code(found.code)
      writer.int64(found.end)
      writer.int64(found.stable)
      if version >= 5 { writer.int64(found.start) }
      writer.array(found.aborted) { writer, aborted in
        writer.int64(aborted.producer)
        writer.int64(aborted.first)
      }
      if version >= 11 { writer.int32(-1) }
      writer.data(found.records)
    }
  }

  private func listOffsets(_ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16) throws {
    guard version >= 1 else { throw WireError(description: "offsets of the oldest format are not told") }
    _ = try reader.int32()
    let isCommittedOnly = version >= 2 ? try reader.int8() == 1 : false
    let answers = try reader.places { reader, place -> (TopicPartitionName, (ErrorCode, Int64, Int64)) in
      let time_ms = try reader.int64()
      guard let log = partition(place) else { return (place, (.unknownTopicOrPartition, -1, -1)) }
      switch time_ms {
      case -1: return (place, (.none, -1, isCommittedOnly ? log.stable : log.end))
      case -2: return (place, (.none, -1, log.start))
      default:
        guard let found = log.offset(at: time_ms) else { return (place, (.none, -1, -1)) }
        return (place, (.none, found.timestamp_ms, found.offset))
      }
    }
    if version >= 2 { writer.int32(0) }
    writer.places(answers) { writer, answer in
      writer.code(answer.0)
      writer.int64(answer.1)
      writer.int64(answer.2)
    }
  }

  private func deleteRecords(_ reader: inout WireReader, _ writer: inout WireWriter) throws {
    let answers = try reader.places { reader, place -> (TopicPartitionName, (Int64, ErrorCode)) in
      let offset = try reader.int64()
      guard let log = partition(place) else { return (place, (-1, .unknownTopicOrPartition)) }
      guard offset <= log.end else { return (place, (-1, .offsetOutOfRange)) }
      log.delete(before: offset < 0 ? log.end : offset)
      return (place, (log.start, .none))
    }
    writer.int32(0)
    writer.places(answers) { writer, answer in
      writer.int64(answer.0)
      writer.code(answer.1)
    }
  }

  // MARK: - Topics

  private func metadata(_ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16) throws {
    var names = try reader.nullableArray { try $0.string() }
    if version == 0, names?.isEmpty == true { names = nil }
    let mayCreate = try version < 4 || reader.bool()
    defer {
      if mayCreate, options.createsTopics {
        for name in names ?? [] where topics[name] == nil && !name.isEmpty {
          topics[name] = Topic(
            partitions: (0..<options.defaultPartitions).map { _ in PartitionLog() }, config: [:])
        }
      }
    }
    if version >= 3 { writer.int32(0) }
    writer.array([Int32(0)]) { writer, node in
      writer.int32(node)
      writer.string("127.0.0.1")
      writer.int32(Int32(port))
      if version >= 1 { writer.string(nil) }
    }
    if version >= 2 { writer.string("memory") }
    if version >= 1 { writer.int32(0) }
    writer.array(names ?? topics.keys.sorted()) { writer, name in
      let topic = topics[name]
      writer.code(topic == nil ? .unknownTopicOrPartition : .none)
      writer.string(name)
      if version >= 1 { writer.bool(false) }
      writer.array(Array((topic?.partitions ?? []).indices)) { writer, partition in
        writer.code(.none)
        writer.int32(Int32(partition))
        writer.int32(0)
        writer.array([Int32(0)], isStructure: false) { $0.int32($1) }
        writer.array([Int32(0)], isStructure: false) { $0.int32($1) }
      }
    }
  }

  private func changeTopics(
    _ request: Request, _ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16
  ) throws {
    var answers: [(String, ErrorCode)] = []
    if request == .createTopics {
      let wanted = try reader.array { reader in
        let name = try reader.string()
        let partitions = Int(try reader.int32())
        let replicas = try reader.int16()
        let assigned = try reader.array { reader in
          _ = try reader.int32()
          return try reader.array(isStructure: false) { try $0.int32() }
        }
        let config = try reader.array { reader in (try reader.string(), try reader.nullableString() ?? "") }
        return (name, assigned.isEmpty ? partitions : assigned.count, replicas, config)
      }
      _ = try reader.int32()
      let isTrial = version >= 1 ? try reader.bool() : false
      for (name, partitions, replicas, config) in wanted {
        let count = partitions == -1 ? options.defaultPartitions : partitions
        if topics[name] != nil {
          answers.append((name, .topicAlreadyExists))
        } else if !(1...10_000).contains(count) {
          answers.append((name, .invalidPartitions))
        } else if ![-1, 1].contains(replicas) {
          answers.append((name, .invalidReplicationFactor))
        } else {
          answers.append((name, .none))
          guard !isTrial else { continue }
          topics[name] = Topic(
            partitions: (0..<count).map { _ in PartitionLog() }, config: Dictionary(config) { $1 })
        }
      }
      if version >= 2 { writer.int32(0) }
    } else {
      for name in try reader.array(isStructure: false, { try $0.string() }) {
        let isKnown = topics.removeValue(forKey: name) != nil
        answers.append((name, isKnown ? .none : .unknownTopicOrPartition))
        // As Kafka does: groups have no offsets of a topic that is gone.
        for group in groups.values { group.forget(topic: name) }
      }
      if version >= 1 { writer.int32(0) }
    }
    condition.broadcast()
    writer.array(answers) { writer, answer in
      writer.string(answer.0)
      writer.code(answer.1)
      if request == .createTopics, version >= 1 { writer.string(nil) }
    }
  }

  private func createPartitions(_ reader: inout WireReader, _ writer: inout WireWriter) throws {
    let wanted = try reader.array { reader in
      let name = try reader.string()
      let count = Int(try reader.int32())
      // Where they are to stand: there is one broker.
      _ = try reader.nullableArray { reader in try reader.array(isStructure: false) { try $0.int32() } }
      return (name, count)
    }
    _ = try reader.int32()
    let isTrial = try reader.bool()
    var answers: [(String, ErrorCode)] = []
    for (name, count) in wanted {
      guard let have = topics[name]?.partitions.count else {
        answers.append((name, .unknownTopicOrPartition))
        continue
      }
      guard count > have, count <= 10_000 else {
        answers.append((name, .invalidPartitions))
        continue
      }
      answers.append((name, .none))
      if !isTrial { topics[name]!.partitions += (have..<count).map { _ in PartitionLog() } }
    }
    condition.broadcast()
    writer.int32(0)
    writer.array(answers) { writer, answer in
      writer.string(answer.0)
      writer.code(answer.1)
      writer.string(nil)
    }
  }

  private func describeConfigs(_ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16) throws {
    let wanted = try reader.array { reader in
      (
        try reader.int8(), try reader.string(),
        try reader.nullableArray(isStructure: false) { try $0.string() }
      )
    }
    writer.int32(0)
    writer.array(wanted) { writer, resource in
      let topic = resource.0 == 2 ? topics[resource.1] : nil
      writer.code(resource.0 == 2 && topic == nil ? .unknownTopicOrPartition : .none)
      writer.string(nil)
      writer.int8(resource.0)
      writer.string(resource.1)
      let entries = (topic?.config ?? [:]).filter { resource.2?.contains($0.key) ?? true }.sorted { $0.key < $1.key }
      writer.array(entries) { writer, entry in
        writer.string(entry.key)
        writer.string(entry.value)
        writer.bool(false)
        if version >= 1 { writer.int8(1) } else { writer.bool(false) }
        writer.bool(false)
        if version >= 1 { writer.array([Int]()) { _, _ in } }
      }
    }
  }
}

extension MemoryBroker {
  // MARK: - Groups

  private func findCoordinator(_ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16) throws {
    _ = try reader.string()
    if version >= 1 { writer.int32(0) }
    writer.code(.none)
    if version >= 1 { writer.string(nil) }
    writer.int32(0)
    writer.string("127.0.0.1")
    writer.int32(Int32(port))
  }

  private func joinGroup(_ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16) throws {
    let name = try reader.string()
    let session_ms = Int64(try reader.int32())
    let rebalance_ms = version >= 1 ? Int64(try reader.int32()) : session_ms
    let member = try reader.string()
    let instance = version >= 5 ? try reader.nullableString() : nil
    _ = try reader.string()
    let protocols = try reader.array { reader in
      (name: try reader.string(), metadata: try reader.nullableBytes() ?? [])
    }
    let joined = join(
      name, member: member, instance: instance, session_ms: session_ms, rebalance_ms: rebalance_ms,
      protocols: protocols, mayAskForID: version >= 4)
    if version >= 2 { writer.int32(0) }
    writer.code(joined.code)
    writer.int32(joined.generation)
    writer.string(joined.protocolName)
    writer.string(joined.leader)
    writer.string(joined.member)
    writer.array(joined.members) { writer, member in
      writer.string(member.id)
      if version >= 5 { writer.string(member.instance) }
      writer.data(member.metadata)
    }
  }

  private func syncGroup(_ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16) throws {
    let name = try reader.string()
    let generation = try reader.int32()
    let member = try reader.string()
    let instance = version >= 3 ? try reader.nullableString() : nil
    let assignments = try reader.array { reader in (try reader.string(), try reader.nullableBytes() ?? []) }
    var assignment: [UInt8] = []
    let code = code { () throws(ErrorCode) in
      assignment = try sync(
        name, generation: generation, member: member, instance: instance, assignments: assignments)
    }
    if version >= 1 { writer.int32(0) }
    writer.code(code)
    writer.data(assignment)
  }

  private func heartbeatOrLeave(
    _ request: Request, _ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16
  ) throws {
    let name = try reader.string()
    let generation = request == .heartbeat ? try reader.int32() : 0
    let member = try reader.string()
    let instance = request == .heartbeat && version >= 3 ? try reader.nullableString() : nil
    if version >= 1 { writer.int32(0) }
    writer.code(
      code { () throws(ErrorCode) in
        if request == .heartbeat {
          try heartbeat(name, generation: generation, member: member, instance: instance)
        } else {
          try leave(name, member: member)
        }
      })
  }

  private func offsets(
    _ reader: inout WireReader, hasEpoch: Bool
  ) throws -> [(place: TopicPartitionName, offset: Group.Offset)] {
    try reader.places { reader, place in
      let offset = try reader.int64()
      if hasEpoch { _ = try reader.int32() }
      return (place, Group.Offset(offset: offset, metadata: try reader.nullableString()))
    }
  }

  private func offsetCommit(_ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16) throws {
    let name = try reader.string()
    let generation = try reader.int32()
    let member = try reader.string()
    let instance = version >= 7 ? try reader.nullableString() : nil
    if version <= 4 { _ = try reader.int64() }
    let offsets = try offsets(&reader, hasEpoch: version >= 6)
    let code = code { () throws(ErrorCode) in
      try commit(
        name, generation: generation, member: member, instance: instance,
        Dictionary(offsets.map { ($0.place, $0.offset) }) { $1 })
    }
    if version >= 3 { writer.int32(0) }
    writer.places(offsets.map { ($0.place, code) }) { $0.code($1) }
  }

  private func offsetFetch(_ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16) throws {
    let group = group(try reader.string())
    let wanted = try reader.nullableArray { reader in
      let topic = try reader.string()
      return try reader.array(isStructure: false) { TopicPartitionName(topic: topic, partition: try $0.int32()) }
    }?.flatMap { $0 }
    let mustBeStable = version >= 7 ? try reader.bool() : false
    if version >= 3 { writer.int32(0) }
    let answers = (wanted ?? Array(group.offsets.keys)).map { ($0, $0) }
    writer.places(answers) { writer, place in
      let isUnstable = mustBeStable && group.isUnstable(place)
      let known = isUnstable ? nil : group.offsets[place]
      writer.int64(known?.offset ?? -1)
      if version >= 5 { writer.int32(-1) }
      writer.string(known == nil ? "" : known?.metadata)
      writer.code(isUnstable ? .unstableOffsetCommit : .none)
    }
    if version >= 2 { writer.code(.none) }
  }

  // MARK: - Transactions

  private func initProducerID(_ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16) throws {
    let id = try reader.nullableString()
    let timeout_ms = Int64(try reader.int32())
    let before = version >= 3 ? (try reader.int64(), try reader.int16()) : (-1, -1)
    var given: (producer: Int64, epoch: Int16) = (-1, -1)
    let code = code { () throws(ErrorCode) in
      given = try initProducerID(id, timeout_ms: timeout_ms, producer: before.0, epoch: before.1)
    }
    writer.int32(0)
    writer.code(code)
    writer.int64(given.producer)
    writer.int16(given.epoch)
  }

  private func changeTransaction(_ request: Request, _ reader: inout WireReader, _ writer: inout WireWriter) throws {
    let id = try reader.string()
    let producer = try reader.int64()
    let epoch = try reader.int16()
    writer.int32(0)
    switch request {
    case .addPartitions:
      let places = try reader.array { reader in
        let topic = try reader.string()
        return try reader.array(isStructure: false) { TopicPartitionName(topic: topic, partition: try $0.int32()) }
      }.flatMap { $0 }
      // Rights are looked at before the coordinator hears of the transaction: one topic that is refused, and it does not.
      if places.contains(where: { refused.contains($0.topic) }) {
        writer.places(
          places.map { ($0, refused.contains($0.topic) ? .topicAuthorizationFailed : .operationNotAttempted) }
        ) { $0.code($1) }
        return
      }
      let code = code { () throws(ErrorCode) in try addPartitions(id, producer, epoch, places) }
      writer.places(places.map { ($0, code) }) { $0.code($1) }
    case .addOffsets:
      let name = try reader.string()
      writer.code(code { () throws(ErrorCode) in try addGroup(id, producer, epoch, name) })
    default:
      let isCommit = try reader.bool()
      writer.code(
        code { () throws(ErrorCode) in try endTransaction(id, producer, epoch, isCommit: isCommit) })
    }
  }

  private func transactionalOffsetCommit(
    _ reader: inout WireReader, _ writer: inout WireWriter, _ version: Int16
  ) throws {
    let id = try reader.string()
    let name = try reader.string()
    let producer = try reader.int64()
    let epoch = try reader.int16()
    let generation = version >= 3 ? try reader.int32() : -1
    let member = version >= 3 ? try reader.string() : ""
    let instance = version >= 3 ? try reader.nullableString() : nil
    let offsets = try offsets(&reader, hasEpoch: version >= 2)
    let code = code { () throws(ErrorCode) in
      try commitOffsets(
        id, producer, epoch, group: name, generation: generation, member: member, instance: instance,
        Dictionary(offsets.map { ($0.place, $0.offset) }) { $1 })
    }
    writer.int32(0)
    writer.places(offsets.map { ($0.place, code) }) { $0.code($1) }
  }
}
