import Domain

/// What has become of an action.
public enum ActionOutcome: Sendable, Equatable {
  /// A decision took effect: where the break is there, a new revision says so.
  case decided
  /// It waits for a second person, or has ended such a wait without a decision.
  case noted
  case repeated
  /// Of its order nothing is known any more.
  case unknown
  /// Beyond what one order or one break can keep.
  case refused
  /// Of a shard that a restore has not come to: its bytes know of the action already.
  case passedOver
}

/// People's actions on breaks.
///
/// A decision belongs to the tie of its order. It is shown as long as the break's difference is the one that it was
/// about; the reconciler goes on judging as if there were none, so that taking one back leads to the state that would be
/// there without it. An action on an order that is not known yet waits in an empty tie for its records: as long as an
/// open break would be remembered, counted from when the action was taken. Actions say nothing about event time, and no
/// watermark hears of them.
extension Matcher {
  /// Takes an action in, and sends a revision where it changes a break.
  public mutating func apply(_ action: BreakAction, now_ms: Int64, outputs: inout MatchOutputs) -> ActionOutcome {
    var order = action.order
    let outcome = order.withUTF8 { apply(action, ByteView($0), now_ms: now_ms, outputs: &outputs) }
    settleAggregates()
    return outcome
  }

  private mutating func apply(
    _ action: BreakAction, _ order: ByteView, now_ms: Int64, outputs: inout MatchOutputs
  ) -> ActionOutcome {
    let fingerprint = Fingerprint(order)
    if isRestoring, skips(fingerprint) { return .passedOver }
    counters.actions.taken += 1
    let watermark_ms = watermarks.current_ms
    var slot = lookUp(fingerprint, order)
    if slot == 0 {
      let until_ms = Tie.clamped(min(action.at_ms, now_ms).addingSaturating(policy.openRetention_ms))
      guard until_ms >= watermark_ms else {
        counters.actions.unknown += 1
        return .unknown
      }
      slot = insert(fingerprint, order)
      counters.tiesOpened += 1
      schedule(slot, at: until_ms)
    }
    if isRevising { reviseNow(slot) }
    stamp(ties[slot].head)
    let type = UInt8(action.type.index)
    let record = breakRecord(slot, type, action.role.rawValue, action.otherCurrency.rawValue)
    var decided = decisions[UInt32(slot)] ?? TieDecisions()
    var at = decided.firstIndex(type, action.role.rawValue, action.otherCurrency.rawValue)
    if at == nil {
      guard decided.entries.count < TieDecisions.maximumEntries else {
        counters.actions.refused += 1
        return .refused
      }
      at = decided.entries.count
      decided.entries.append(
        TieDecisions.Entry(
          type: type, role: action.role.rawValue, idCurrency: action.otherCurrency.rawValue, own: record?.stateValue))
    }
    let effect = decided.entries[at!].take(action)
    decisions[UInt32(slot)] = decided
    ties[slot].set(Tie.Flag.decided)
    switch effect {
    case .noted: return .noted
    case .repeated:
      counters.actions.repeated += 1
      return .repeated
    case .refused:
      counters.actions.refused += 1
      return .refused
    case .decided: break
    }
    counters.actions.decided += 1
    // Where records have just come and others may be on their way with them, the judgement that is due soon tells both.
    if record != nil, !ties[slot].has(Tie.Flag.dirty) || ties[slot].quiet_ms < watermark_ms {
      evaluate(slot, watermark_ms: watermark_ms, isFinal: ties[slot].deadline_ms < watermark_ms, outputs: &outputs)
    }
    return .decided
  }

  private func breakRecord(_ slot: Int, _ type: UInt8, _ role: UInt8, _ idCurrency: UInt16) -> BreakRecord? {
    var ref = ties[slot].breaks
    while ref != 0 {
      let record = store.breakRecord(ref)
      if record.type == type, record.role == role, record.idCurrency == idCurrency { return record }
      ref = record.next
    }
    return nil
  }
}

extension TieDecisions.Entry {
  /// The state of a break that the reconciler itself would give another, and the decision that it rests on.
  func state(of finding: Finding, own: BreakState) -> (BreakState, BreakDecision?) {
    let written = finding.isWrittenOff && own == .accepted ? writeOff(of: finding)?.told : nil
    guard let decision else { return (own, written) }
    let basis = Break.basis(
      expected: finding.expected, posted: finding.posted, currency: finding.currency,
      postedCurrency: finding.postedCurrency)
    guard decision.basis == TieDecisions.hash(basis) else { return (own, written) }
    let state = own.decided(decision.state)
    return (state, state == decision.state ? decision.told : written)
  }

  private func writeOff(of finding: Finding) -> TieDecisions.Decision? {
    let posted = finding.parts.reduce(Int128(0)) {
      $1.role == .writeOff && $1.currency == finding.currency ? $0 + Int128($1.delta) : $0
    }
    return writeOff(posted: posted, finding.currency)
  }
}
