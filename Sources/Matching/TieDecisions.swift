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
    /// The write-offs that the ledger has been asked for, the oldest first: each stands beside the others.
    var writeOffs: [Decision] = []
    /// What waits for a second person, the oldest first; none of them names an approver.
    var waiting: [Decision] = []
    /// Hashes of the ids of the actions taken in, the oldest first: each takes effect once.
    var seen: [UInt64] = []

    /// Actions on one break that can wait for a second person at the same time.
    static let maximumWaiting = 16
    /// Write-offs of one break that are told apart; of more, the oldest two of one currency and sign count as one.
    static let maximumWriteOffs = 16
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
    guard made.writtenOff != nil else {
      decision = made
      return
    }
    if writeOffs.count == TieDecisions.Entry.maximumWriteOffs { uniteWriteOffs() }
    writeOffs.append(made)
  }

  /// Adds the oldest write-off to the next one of its currency and sign. An id carries its break's currency, so that there
  /// always are two such.
  private mutating func uniteWriteOffs() {
    for (first, older) in writeOffs.enumerated() {
      guard let own = older.writtenOff else { continue }
      for second in writeOffs.indices where second > first {
        guard let other = writeOffs[second].writtenOff, other.currency == own.currency,
          (other.amount < 0) == (own.amount < 0)
        else { continue }
        writeOffs[second].writtenOff!.amount = other.amount.addingSaturating(own.amount)
        writeOffs.remove(at: first)
        return
      }
    }
    writeOffs.removeFirst()
  }

  /// The write-off with which what is posted, an amount of a currency, has been asked for in full; the newest one where it
  /// has not.
  func writeOff(posted amount: Int128, _ currency: Currency) -> TieDecisions.Decision? {
    var sum: Int128 = 0
    for made in writeOffs {
      guard let own = made.writtenOff, own.currency == currency, (own.amount < 0) == (amount < 0) else { continue }
      sum += Int128(own.amount)
      if sum.magnitude >= amount.magnitude { return made }
    }
    return writeOffs.last
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
      writer.write((entry.decision == nil ? 0 : Entry.hasDecision) | (entry.writeOffs.isEmpty ? 0 : Entry.hasWriteOffs))
      if let decision = entry.decision { decision.export(into: &writer) }
      for (at, writeOff) in entry.writeOffs.enumerated() {
        writeOff.export(isFollowed: at < entry.writeOffs.count - 1, into: &writer)
      }
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
      guard parts & ~(Entry.hasDecision | Entry.hasWriteOffs) == 0 else { throw TieDecisions.newer(reader.offset) }
      if parts & Entry.hasDecision != 0 { entry.decision = try Decision(from: &reader) }
      var isFollowed = parts & Entry.hasWriteOffs != 0
      while isFollowed {
        guard entry.writeOffs.count < Entry.maximumWriteOffs else {
          throw ByteCodingError("too many write-offs of one break, at \(reader.offset)")
        }
        entry.writeOffs.append(try Decision(from: &reader, isFollowed: &isFollowed))
      }
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

  fileprivate static func newer(_ offset: Int) -> ByteCodingError {
    ByteCodingError("a person's decision in the format of a later version of tieout, at \(offset)")
  }
}

extension TieDecisions.Entry {
  /// What an entry tells; a bit of no meaning here is one of a later version.
  fileprivate static let hasDecision: UInt8 = 1
  fileprivate static let hasWriteOffs: UInt8 = 2
}

extension TieDecisions.Decision {
  /// With the state: an amount that is written off comes last, and another write-off follows. Programs that know of
  /// neither refuse such a state, as any other bit is refused here.
  private static let withAmount: UInt8 = 1 << 7
  private static let followed: UInt8 = 1 << 6
  private static let states: UInt8 = 1 << 3 - 1

  fileprivate func export(isFollowed: Bool = false, into writer: inout ByteWriter) {
    writer.write(
      TieDecisions.index(state) | (writtenOff == nil ? 0 : TieDecisions.Decision.withAmount)
        | (isFollowed ? TieDecisions.Decision.followed : 0))
    writer.write(basis)
    for text in [told.action, told.actor, told.reasonCode, told.approver] { writer.write(text: text) }
    guard let writtenOff else { return }
    writer.write(writtenOff.currency.rawValue)
    writer.write(UInt64(bitPattern: writtenOff.amount))
  }

  fileprivate init(from reader: inout ByteReader) throws(ByteCodingError) {
    var isFollowed = false
    try self.init(from: &reader, isFollowed: &isFollowed)
    guard !isFollowed else { throw TieDecisions.newer(reader.offset) }
  }

  fileprivate init(from reader: inout ByteReader, isFollowed: inout Bool) throws(ByteCodingError) {
    let first: UInt8 = try reader.read()
    let known = TieDecisions.Decision.withAmount | TieDecisions.Decision.followed | TieDecisions.Decision.states
    guard first & ~known == 0 else { throw TieDecisions.newer(reader.offset) }
    isFollowed = first & TieDecisions.Decision.followed != 0
    state = try TieDecisions.state(first & TieDecisions.Decision.states, reader.offset)
    basis = try reader.read()
    told = BreakDecision(
      action: try reader.readText(), actor: try reader.readText(), reasonCode: try reader.readText(),
      approver: try reader.readText())
    guard first & TieDecisions.Decision.withAmount != 0 else { return }
    writtenOff = .init(
      currency: Currency(rawValue: try reader.read()), amount: Int64(bitPattern: try reader.read()))
  }
}
