import Domain

/// What people have decided about the breaks of one tie, and what of it waits for a second person.
///
/// It is kept as long as the tie, is part of its bytes in checkpoints and digests, and every list in it is bounded.
struct TieDecisions: Equatable {
  var entries: [Entry] = []

  /// Breaks of one tie that people can have decided about.
  static let maximumEntries = 64
  /// About what one takes in memory: one break with a decision or two, and its place in the table.
  static let typicalBytes = 512

  struct Entry: Equatable {
    /// As in a break's record: index of the type, role, and the currency where the id carries it.
    var type: UInt8
    var role: UInt8
    var idCurrency: UInt16
    /// The state that the reconciler itself gives the break; nil where it has not found it yet.
    var own: BreakState?
    /// The newest decision that has taken effect.
    var decision: Decision?
    /// The newest write-off that the ledger has been asked for.
    var writeOff: Decision?
    /// What waits for a second person, the oldest first; none of them names an approver.
    var waiting: [Decision] = []
    /// Hashes of the ids of the actions taken in, the oldest first: each takes effect once.
    var seen: [UInt64] = []

    /// Actions on one break that can wait for a second person at the same time.
    static let maximumWaiting = 16
    /// A repetition is known as such until so many others have come after it.
    static let maximumSeen = 128
  }

  struct Decision: Equatable {
    var state: BreakState
    /// Hash of the difference that it is about.
    var basis: UInt64
    var told: BreakDecision
    /// Of a write-off, which decides no state.
    var writtenOff: BreakAction.WrittenOff?
  }

  enum Effect { case decided, noted, repeated, refused }

  func firstIndex(_ type: UInt8, _ role: UInt8, _ idCurrency: UInt16) -> Int? {
    entries.firstIndex { $0.type == type && $0.role == role && $0.idCurrency == idCurrency }
  }

  static func hash(_ text: String) -> UInt64 {
    var text = text
    return text.withUTF8 { Fingerprint(ByteView($0)).low }
  }
}

extension TieDecisions.Entry {
  /// Takes an action on this break in. A pure function of the actions in their order.
  mutating func take(_ action: BreakAction) -> TieDecisions.Effect {
    let id = TieDecisions.hash(action.id)
    guard !seen.contains(id) else { return .repeated }
    if seen.count == TieDecisions.Entry.maximumSeen { seen.removeFirst() }
    seen.append(id)
    guard action.kind.decidedState != nil || action.kind == .writeOff else {
      // Nobody approves what they asked for themselves, whatever a message claims.
      guard let at = waiting.firstIndex(where: { $0.told.action == action.of }),
        action.kind == .reject || waiting[at].told.actor != action.actor
      else { return .noted }
      var asked = waiting.remove(at: at)
      guard action.kind == .approve else { return .noted }
      asked.told.approver = action.actor
      decide(asked)
      return .decided
    }
    let made = TieDecisions.Decision(
      state: action.kind.decidedState ?? .open, basis: TieDecisions.hash(action.basis),
      told: BreakDecision(action: action.id, actor: action.actor, reasonCode: action.reasonCode),
      writtenOff: action.writtenOff)
    guard action.needsApproval else {
      decide(made)
      return .decided
    }
    guard waiting.count < TieDecisions.Entry.maximumWaiting else { return .refused }
    waiting.append(made)
    return .noted
  }

  private mutating func decide(_ made: TieDecisions.Decision) {
    if made.writtenOff == nil { decision = made } else { writeOff = made }
  }
}

// MARK: - As bytes

extension TieDecisions {
  func export(into writer: inout ByteWriter) {
    writer.writeVarint(UInt64(entries.count))
    for entry in entries {
      writer.write(entry.type)
      writer.write(entry.role)
      writer.write(entry.idCurrency)
      writer.write(entry.own.map(TieDecisions.index) ?? UInt8.max)
      writer.write(UInt8((entry.decision == nil ? 0 : 1) | (entry.writeOff == nil ? 0 : 2)))
      if let decision = entry.decision { decision.export(into: &writer) }
      if let writeOff = entry.writeOff { writeOff.export(into: &writer) }
      writer.writeVarint(UInt64(entry.waiting.count))
      for asked in entry.waiting { asked.export(into: &writer) }
      writer.writeVarint(UInt64(entry.seen.count))
      for id in entry.seen { writer.write(id) }
    }
  }

  init(from reader: inout ByteReader) throws(ByteCodingError) {
    for _ in 0..<(try reader.readCount(atMost: TieDecisions.maximumEntries)) {
      var entry = Entry(type: try reader.read(), role: try reader.read(), idCurrency: try reader.read())
      guard Int(entry.type) < BreakType.allCases.count, AccountRole(rawValue: entry.role) != nil else {
        throw ByteCodingError("a decision about a break of an unknown type, at \(reader.offset)")
      }
      let own: UInt8 = try reader.read()
      if own != UInt8.max { entry.own = try TieDecisions.state(own, reader.offset) }
      let parts: UInt8 = try reader.read()
      if parts & 1 != 0 { entry.decision = try Decision(from: &reader) }
      if parts & 2 != 0 { entry.writeOff = try Decision(from: &reader) }
      for _ in 0..<(try reader.readCount(atMost: Entry.maximumWaiting)) {
        entry.waiting.append(try Decision(from: &reader))
      }
      for _ in 0..<(try reader.readCount(atMost: Entry.maximumSeen)) { entry.seen.append(try reader.read()) }
      entries.append(entry)
    }
  }

  fileprivate static func index(_ state: BreakState) -> UInt8 { UInt8(BreakState.allCases.firstIndex(of: state)!) }

  fileprivate static func state(_ index: UInt8, _ offset: Int) throws(ByteCodingError) -> BreakState {
    guard Int(index) < BreakState.allCases.count else {
      throw ByteCodingError("a decision with an unknown state, at \(offset)")
    }
    return BreakState.allCases[Int(index)]
  }
}

extension TieDecisions.Decision {
  /// With the state: an amount that is written off comes last. Programs that know of none refuse such a state.
  private static let withAmount: UInt8 = 1 << 7

  fileprivate func export(into writer: inout ByteWriter) {
    writer.write(TieDecisions.index(state) | (writtenOff == nil ? 0 : TieDecisions.Decision.withAmount))
    writer.write(basis)
    for text in [told.action, told.actor, told.reasonCode, told.approver] { writer.write(text: text) }
    guard let writtenOff else { return }
    writer.write(writtenOff.currency.rawValue)
    writer.write(UInt64(bitPattern: writtenOff.amount))
  }

  fileprivate init(from reader: inout ByteReader) throws(ByteCodingError) {
    let first: UInt8 = try reader.read()
    state = try TieDecisions.state(first & ~TieDecisions.Decision.withAmount, reader.offset)
    basis = try reader.read()
    told = BreakDecision(
      action: try reader.readText(), actor: try reader.readText(), reasonCode: try reader.readText(),
      approver: try reader.readText())
    guard first & TieDecisions.Decision.withAmount != 0 else { return }
    writtenOff = .init(
      currency: Currency(rawValue: try reader.read()), amount: Int64(bitPattern: try reader.read()))
  }
}
