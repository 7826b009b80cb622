import Foundation

/// One Kafka broker in this process's memory, on 127.0.0.1, for tests and for trying things out on one machine.
///
/// Unlike librdkafka's mock it keeps to the rules that exactly-once rests on: transactions with control batches, the
/// last stable offset and `read_committed`, fencing by epoch, offsets that belong to transactions and are unstable until
/// these end, static members, topics that are created over the wire. Markers are written a little after a transaction's
/// end has been answered, as by a cluster. It keeps everything in memory until it ends: there is no retention, no
/// compaction, no replication, no security.
///
/// Source of the rules: Kafka's protocol guide, KIP-98, KIP-345, KIP-360, KIP-394, KIP-447, KIP-482.
public final class MemoryBroker: @unchecked Sendable {
  public struct Options: Sendable {
    /// 0 takes a free port.
    public var port: UInt16 = 0
    /// How long a group that was empty waits for more members before its first assignment.
    public var initialRebalanceDelay_ms: Int64 = 100
    /// Longest time from a transaction's end to its markers; each takes a random part of it.
    public var markerDelay_ms: Int64 = 5
    /// Partitions of topics that are created without a number.
    public var defaultPartitions = 4
    /// Whether a topic is created when a client asks for it by name and does not say that it is not to be
    /// (`auto.create.topics.enable`). The client is told that there is none, and finds it when it asks again.
    public var createsTopics = true
    /// Of so many requests in ten thousand the connection is cut: half of them are lost, of the others the answer is.
    public var cutsPer10000 = 0
    public init() {}
  }

  public private(set) var options: Options
  public let port: UInt16
  public var bootstrap: String { "127.0.0.1:\(port)" }

  /// Guards everything below; signalled at every change that somebody may wait for.
  let condition = NSCondition()
  var isStopped = false
  var topics: [String: Topic] = [:]
  var transactionals: [String: Transactional] = [:]
  var groups: [String: Group] = [:]
  var nextProducer: Int64 = 1_000
  var nextMember = 1
  private var connections: Set<Int32> = []
  /// Nobody may write these in a transaction.
  var refused: Set<String> = []
  /// Until then nobody gets through.
  private var awayUntil_ms: Int64 = 0
  private let listener: Int32

  struct Topic {
    var partitions: [PartitionLog]
    var config: [String: String]
  }

  public init(options: Options = Options()) throws {
    signal(SIGPIPE, SIG_IGN)
    self.options = options
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var yes: Int32 = 1
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = options.port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listener = listener
    let isOpen = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, size) == 0 && listen(listener, 128) == 0 && getsockname(listener, $0, &size) == 0
      }
    }
    guard isOpen else {
      let reason = String(cString: strerror(errno))
      close(listener)
      throw WireError(description: "the broker cannot listen on 127.0.0.1:\(options.port): \(reason)")
    }
    port = UInt16(bigEndian: address.sin_port)
    Thread.detachNewThread { [weak self] in
      while true {
        let client = accept(listener, nil, nil)
        guard client >= 0 else { return }
        guard let self, self.begin(client) else {
          close(client)
          return
        }
      }
    }
    Thread.detachNewThread { [weak self] in
      while true {
        usleep(2_000)
        guard let self, self.tick() else { return }
      }
    }
  }

  deinit { stop() }

  /// Closes all connections; what was kept is gone.
  /// From now on no transaction may write these topics, as where a principal has no right to.
  public func refuse(_ topics: Set<String>) {
    condition.lock()
    refused = topics
    condition.unlock()
  }

  public func stop() {
    condition.lock()
    defer { condition.unlock() }
    guard !isStopped else { return }
    isStopped = true
    shutdown(listener, Int32(SHUT_RDWR))
    close(listener)
    for connection in connections { shutdown(connection, Int32(SHUT_RDWR)) }
    condition.broadcast()
  }

  /// Cuts all connections, and takes none for a while. What is kept stays.
  public func goAway(for_ms: Int64) {
    condition.lock()
    defer { condition.unlock() }
    awayUntil_ms = MemoryBroker.now_ms() + for_ms
    for connection in connections { shutdown(connection, Int32(SHUT_RDWR)) }
  }

  /// From now on cuts the connections of so many requests in ten thousand.
  public func cut(per10000 cuts: Int) {
    condition.lock()
    defer { condition.unlock() }
    options.cutsPer10000 = cuts
  }

  /// Creates a topic from inside the process.
  public func createTopic(_ name: String, partitions: Int, config: [String: String] = [:]) {
    condition.lock()
    defer { condition.unlock() }
    guard topics[name] == nil else { return }
    topics[name] = Topic(partitions: (0..<partitions).map { _ in PartitionLog() }, config: config)
  }

  /// Adds partitions to a topic from inside the process, up to so many.
  public func addPartitions(_ name: String, upTo count: Int) {
    condition.lock()
    defer { condition.unlock() }
    while let have = topics[name]?.partitions.count, have < count { topics[name]!.partitions.append(PartitionLog()) }
  }

  func partition(_ place: TopicPartitionName) -> PartitionLog? {
    guard let topic = topics[place.topic], topic.partitions.indices.contains(Int(place.partition)) else { return nil }
    return topic.partitions[Int(place.partition)]
  }

  static func now_ms() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
  }

  /// Waits for a change, at the longest until a time; the lock is held. False when the broker has ended.
  func wait(until_ms: Int64? = nil) -> Bool {
    if isStopped { return false }
    if let until_ms {
      _ = condition.wait(until: Date(timeIntervalSince1970: TimeInterval(until_ms) / 1_000))
    } else {
      condition.wait()
    }
    return !isStopped
  }

  /// What falls due by itself: markers, transactions and sessions that took too long, rebalances.
  private func tick() -> Bool {
    condition.lock()
    defer { condition.unlock() }
    let now_ms = MemoryBroker.now_ms()
    let transactionsMoved = moveTransactions(now_ms)
    let groupsMoved = moveGroups(now_ms)
    if transactionsMoved || groupsMoved { condition.broadcast() }
    return !isStopped
  }

  // MARK: - Connections

  private func begin(_ client: Int32) -> Bool {
    condition.lock()
    let (isOpen, isAway) = (!isStopped, MemoryBroker.now_ms() < awayUntil_ms)
    if isOpen, !isAway { connections.insert(client) }
    condition.unlock()
    guard isOpen else { return false }
    if isAway {
      close(client)
      return true
    }
    var yes: Int32 = 1
    setsockopt(client, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
    Thread.detachNewThread { [weak self] in
      while let frame = MemoryBroker.readFrame(client), let self, self.answer(frame, to: client) {}
      guard let self else {
        close(client)
        return
      }
      self.condition.lock()
      self.connections.remove(client)
      close(client)
      self.condition.unlock()
    }
    return true
  }

  private static func read(_ client: Int32, _ count: Int) -> [UInt8]? {
    var isWhole = true
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let got = recv(client, buffer.baseAddress! + filled, count - filled, 0)
        if got < 0, errno == EINTR { continue }
        guard got > 0 else {
          isWhole = false
          return
        }
        filled += got
      }
    }
    return isWhole ? bytes : nil
  }

  private static func readFrame(_ client: Int32) -> [UInt8]? {
    guard let head = read(client, 4) else { return nil }
    let count = head.reduce(0) { $0 << 8 | Int($1) }
    guard (1...(100 << 20)).contains(count) else { return nil }
    return read(client, count)
  }

  private static func send(_ client: Int32, _ bytes: [UInt8]) -> Bool {
    bytes.withUnsafeBytes { buffer in
      var sent = 0
      while sent < buffer.count {
        let count = Glibc.send(client, buffer.baseAddress! + sent, buffer.count - sent, 0)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return false }
        sent += count
      }
      return true
    }
  }

  /// False: the connection is to be closed.
  private func answer(_ frame: [UInt8], to client: Int32) -> Bool {
    condition.lock()
    let chance = options.cutsPer10000 > 0 ? Int.random(in: 0..<20_000) : Int.max
    let cuts = options.cutsPer10000
    condition.unlock()
    if chance < cuts { return false }
    guard let response = try? respond(frame) else { return false }
    if chance < 2 * cuts { return false }
    guard !response.isEmpty else { return true }
    var framed = WireWriter()
    framed.int32(Int32(response.count))
    framed.raw(response)
    return MemoryBroker.send(client, framed.bytes)
  }
}
