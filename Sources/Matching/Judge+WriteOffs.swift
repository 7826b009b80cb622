import Domain

/// Postings of journals that people have asked for, to write a difference off.
extension Judge {
  /// What somebody gave up of the difference of a break.
  struct WriteOff {
    var type: BreakType
    var role: AccountRole
    var written: BreakAction.WrittenOff
  }

  /// What the ledger has in `write_off` because somebody asked for it, with the difference that it settles: an accepted
  /// part of the break that it was asked for. What is posted beyond that is nobody's decision.
  mutating func judgeWriteOffs() {
    for writeOff in writeOffs {
      guard let currency = currencies.firstIndex(of: writeOff.written.currency) else { continue }
      let place = currency * roleCount + Int(AccountRole.writeOff.rawValue)
      let wanted = Int128(writeOff.written.amount)
      guard residual[place] != 0, (residual[place] < 0) == (wanted < 0) else { continue }
      let taken = wanted < 0 ? max(wanted, residual[place]) : min(wanted, residual[place])
      var finding = Finding(
        writeOff.type, writeOff.role, currencies[currency], expected: value(expected, currency, writeOff.role),
        posted: value(posted, currency, writeOff.role), reason: "written off", isAccepted: true)
      finding.isWrittenOff = true
      residual[place] -= taken
      var settled = [(role: AccountRole.writeOff, amount: taken)]
      settled += settledParts(-taken, writeOff.role, currency)
      for (role, amount) in settled {
        finding.parts.append(.init(currency: currencies[currency], role: role, delta: Int64(clamping: amount)))
      }
      findings.append(finding)
    }
  }

  /// Takes the difference out of what is left that a posting to `write_off` stands against: that of the break's own role,
  /// or of one that is off by just as much, or all that is left, where it adds up to that.
  private mutating func settledParts(
    _ amount: Int128, _ own: AccountRole, _ currency: Int
  ) -> [(role: AccountRole, amount: Int128)] {
    let start = currency * roleCount
    let left = (0..<roleCount).filter { residual[start + $0] != 0 && $0 != Int(AccountRole.writeOff.rawValue) }
    let ownLeft = residual[start + Int(own.rawValue)]
    var parts: [(role: AccountRole, amount: Int128)] = []
    if own != .writeOff, (ownLeft < 0) == (amount < 0), magnitude(ownLeft) >= magnitude(amount) {
      parts = [(own, amount)]
    } else if let same = left.first(where: { residual[start + $0] == amount }) {
      parts = [(AccountRole(rawValue: UInt8(same))!, amount)]
    } else if left.reduce(0, { $0 + residual[start + $1] }) == amount {
      parts = left.map { (AccountRole(rawValue: UInt8($0))!, residual[start + $0]) }
    }
    for part in parts { residual[start + Int(part.role.rawValue)] -= part.amount }
    return parts
  }
}

extension TieDecisions {
  /// Those that have taken effect.
  var writeOffs: [Judge.WriteOff] {
    entries.compactMap { entry in
      guard let written = entry.writeOff?.writtenOff, let role = AccountRole(rawValue: entry.role) else { return nil }
      return .init(type: BreakType.allCases[Int(entry.type)], role: role, written: written)
    }
  }
}
