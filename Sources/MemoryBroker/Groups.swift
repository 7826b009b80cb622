extension MemoryBroker {
  /// A consumer group by the classic protocol: the members' leader assigns.
  final class Group {
    enum State { case empty, preparing, completing, stable }
    struct Offset {
      var offset: Int64
      var metadata: String?
    }
    final class Member {
      var id: String
      let instance: String?
      var session_ms: Int64
      var rebalance_ms: Int64
      var protocols: [(name: String, metadata: [UInt8])]
      var assignment: [UInt8] = []
      var heard_ms: Int64
      var isWaitingToJoin = false

      init(
        id: String, instance: String?, session_ms: Int64, rebalance_ms: Int64,
        protocols: [(name: String, metadata: [UInt8])], heard_ms: Int64
      ) {
        self.id = id
        self.instance = instance
        self.session_ms = session_ms
        self.rebalance_ms = rebalance_ms
        self.protocols = protocols
        self.heard_ms = heard_ms
      }
    }

    var state = State.empty
    var generation: Int32 = 0
    var leader = ""
    var protocolName = ""
    var members: [Member] = []
    /// Ids that were handed out and have not joined yet.
    var promised: Set<String> = []
    /// When a rebalance is over although members are missing, and when it may be at the earliest.
    var deadline_ms: Int64 = 0
    var earliest_ms: Int64 = 0
    var offsets: [TopicPartitionName: Offset] = [:]
    /// Offsets of open transactions, by producer.
    var pending: [Int64: [TopicPartitionName: Offset]] = [:]

    func member(_ id: String) -> Member? { members.first { $0.id == id } }

    func forget(topic: String) {
      offsets = offsets.filter { $0.key.topic != topic }
      pending = pending.mapValues { $0.filter { $0.key.topic != topic } }
    }

    func isUnstable(_ place: TopicPartitionName) -> Bool { pending.values.contains { $0[place] != nil } }

    /// Whether the sender is who it says, of this generation.
    func check(member id: String, instance: String?, generation: Int32?) throws(ErrorCode) {
      if let instance {
        guard let known = members.first(where: { $0.instance == instance }) else { throw .unknownMember }
        guard known.id == id else { throw .fencedInstance }
      }
      guard let known = member(id) else { throw .unknownMember }
      guard generation == nil || generation == self.generation else { throw .illegalGeneration }
      known.heard_ms = MemoryBroker.now_ms()
    }

    func prepare(_ now_ms: Int64, delay_ms: Int64 = 0) {
      guard state != .preparing else { return }
      earliest_ms = state == .empty ? now_ms + delay_ms : now_ms
      state = .preparing
      deadline_ms = now_ms + (members.map(\.rebalance_ms).max() ?? 0)
    }

    /// Ends the rebalance: a new generation of those who have joined, and of the static members who have not.
    func complete(_ now_ms: Int64) {
      members.removeAll { !$0.isWaitingToJoin && $0.instance == nil }
      generation += 1
      guard !members.isEmpty else {
        state = .empty
        return
      }
      let joined = members.filter(\.isWaitingToJoin)
      if !joined.contains(where: { $0.id == leader }) { leader = (joined.first ?? members[0]).id }
      let common = member(leader)!.protocols.map(\.name).first { name in
        members.allSatisfy { $0.protocols.contains { $0.name == name } }
      }
      protocolName = common ?? ""
      state = .completing
      for member in members {
        member.assignment = []
        member.isWaitingToJoin = false
        member.heard_ms = now_ms
      }
    }

    func remove(_ member: Member, _ now_ms: Int64) {
      members.removeAll { $0 === member }
      if members.isEmpty {
        state = .empty
        generation += 1
      } else {
        prepare(now_ms)
      }
    }
  }

  struct Joined {
    var code = ErrorCode.none
    var generation: Int32 = -1
    var protocolName = ""
    var leader = ""
    var member = ""
    var members: [(id: String, instance: String?, metadata: [UInt8])] = []
  }

  func group(_ name: String) -> Group {
    if let known = groups[name] { return known }
    let made = Group()
    groups[name] = made
    return made
  }

  /// Ends sessions and rebalances that are due. True where anything changed.
  func moveGroups(_ now_ms: Int64) -> Bool {
    var moved = false
    for group in groups.values {
      for member in group.members where !member.isWaitingToJoin && member.heard_ms + member.session_ms < now_ms {
        group.remove(member, now_ms)
        moved = true
      }
      if group.state == .preparing, now_ms >= group.earliest_ms,
        now_ms >= group.deadline_ms || group.members.allSatisfy(\.isWaitingToJoin)
      {
        group.complete(now_ms)
        moved = true
      }
    }
    return moved
  }

  func join(
    _ name: String, member id: String, instance: String?, session_ms: Int64, rebalance_ms: Int64,
    protocols: [(name: String, metadata: [UInt8])], mayAskForID: Bool
  ) -> Joined {
    let group = group(name)
    let now_ms = MemoryBroker.now_ms()
    var member = group.member(id)
    if let instance {
      let known = group.members.first { $0.instance == instance }
      if let known, !id.isEmpty, known.id != id { return Joined(code: .fencedInstance, member: id) }
      if let known, id.isEmpty {
        // A static member comes back: who had its place before is fenced.
        let before = known.id
        let isLeader = group.leader == before
        known.id = newMemberID(instance)
        known.heard_ms = now_ms
        let isSame = known.protocols.elementsEqual(protocols) { $0 == $1 }
        known.protocols = protocols
        known.session_ms = session_ms
        known.rebalance_ms = rebalance_ms
        if isLeader { group.leader = known.id }
        // One that is not told that it leads does not assign anew: nothing has changed.
        if group.state == .stable, isSame {
          return Joined(
            generation: group.generation, protocolName: group.protocolName, leader: isLeader ? before : group.leader,
            member: known.id)
        }
        if group.state != .preparing { group.prepare(now_ms) }
        member = known
      }
    }
    if let member, group.state != .preparing {
      let isSame = member.protocols.elementsEqual(protocols) { $0 == $1 }
      member.heard_ms = now_ms
      if isSame, group.state == .completing || (group.state == .stable && member.id != group.leader) {
        return answer(group, member)
      }
    }
    if member == nil {
      if id.isEmpty {
        let made = newMemberID(instance ?? "member")
        if mayAskForID, instance == nil {
          group.promised.insert(made)
          return Joined(code: .memberIDRequired, member: made)
        }
        member = .init(
          id: made, instance: instance, session_ms: session_ms, rebalance_ms: rebalance_ms, protocols: protocols,
          heard_ms: now_ms)
      } else {
        guard group.promised.remove(id) != nil else { return Joined(code: .unknownMember, member: id) }
        member = .init(
          id: id, instance: instance, session_ms: session_ms, rebalance_ms: rebalance_ms, protocols: protocols,
          heard_ms: now_ms)
      }
      group.members.append(member!)
    }
    let joining = member!
    joining.protocols = protocols
    joining.session_ms = session_ms
    joining.rebalance_ms = rebalance_ms
    group.prepare(now_ms, delay_ms: options.initialRebalanceDelay_ms)
    joining.isWaitingToJoin = true
    condition.broadcast()
    while joining.isWaitingToJoin {
      guard wait() else { return Joined(code: .unknownMember, member: joining.id) }
    }
    guard group.members.contains(where: { $0 === joining }) else {
      return Joined(code: .unknownMember, member: joining.id)
    }
    return answer(group, joining)
  }

  private func newMemberID(_ prefix: String) -> String {
    nextMember += 1
    return "\(prefix)-\(nextMember)-\(UInt64.random(in: 0 ... .max))"
  }

  private func answer(_ group: Group, _ member: Group.Member) -> Joined {
    var joined = Joined(
      generation: group.generation, protocolName: group.protocolName, leader: group.leader, member: member.id)
    if member.id == group.leader {
      joined.members = group.members.map { each in
        (each.id, each.instance, each.protocols.first { $0.name == group.protocolName }?.metadata ?? [])
      }
    }
    return joined
  }

  func sync(
    _ name: String, generation: Int32, member id: String, instance: String?, assignments: [(String, [UInt8])]
  ) throws(ErrorCode) -> [UInt8] {
    let group = group(name)
    try group.check(member: id, instance: instance, generation: generation)
    if group.state == .completing, id == group.leader {
      for (id, assignment) in assignments { group.member(id)?.assignment = assignment }
      group.state = .stable
      condition.broadcast()
    }
    while group.state == .completing, group.generation == generation {
      guard wait() else { throw .unknownMember }
    }
    guard group.state == .stable, group.generation == generation else { throw .rebalanceInProgress }
    guard let member = group.member(id) else { throw .unknownMember }
    member.heard_ms = MemoryBroker.now_ms()
    return member.assignment
  }

  func heartbeat(_ name: String, generation: Int32, member: String, instance: String?) throws(ErrorCode) {
    let group = group(name)
    try group.check(member: member, instance: instance, generation: generation)
    if group.state == .preparing { throw .rebalanceInProgress }
  }

  func leave(_ name: String, member id: String) throws(ErrorCode) {
    let group = group(name)
    guard let member = group.member(id) else { throw .unknownMember }
    group.remove(member, MemoryBroker.now_ms())
    condition.broadcast()
  }

  func commit(
    _ name: String, generation: Int32, member: String, instance: String?, _ offsets: [TopicPartitionName: Group.Offset]
  ) throws(ErrorCode) {
    let group = group(name)
    if generation < 0, member.isEmpty {
      guard group.state == .empty else { throw .unknownMember }
    } else {
      try group.check(member: member, instance: instance, generation: generation)
      if group.state == .completing { throw .rebalanceInProgress }
    }
    group.offsets.merge(offsets) { $1 }
  }
}
