import Domain

/// Postings of journals that people have asked for, to write a difference off.
extension Judge {
  /// What people gave up of the difference of a break in a currency: all that they asked for, to the debit and to the
  /// credit of `write_off`.
  struct WriteOff: Equatable {
    var type: BreakType
    var role: AccountRole
    var currency: Currency
    var debit: Int128 = 0
    var credit: Int128 = 0
  }

  /// What the ledger has in `write_off` because somebody asked for it, with the difference that it settles: an accepted
  /// part of the break that it was asked for. What is posted beyond that is nobody's decision.
  mutating func judgeWriteOffs() {
    for writeOff in writeOffs {
      guard let currency = currencies.firstIndex(of: writeOff.currency) else { continue }
      let place = currency * roleCount + Int(AccountRole.writeOff.rawValue)
      let wanted = residual[place] < 0 ? writeOff.credit : writeOff.debit
      guard residual[place] != 0, wanted != 0 else { continue }
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
  /// or of one that is off by just as much, or all that is left, where it adds up to that. Where that is the other way in
  /// part, not all has been written off: as much as has been is taken where it is off that way.
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
      let isMixed = left.contains { (residual[start + $0] < 0) != (amount < 0) }
      var rest = amount
      for role in Judge.primaryOrder where left.contains(Int(role.rawValue)) && rest != 0 {
        let own = residual[start + Int(role.rawValue)]
        guard !isMixed || (own < 0) == (amount < 0) else { continue }
        let part = isMixed && magnitude(own) > magnitude(rest) ? rest : own
        parts.append((role, part))
        rest -= part
      }
    }
    for part in parts { residual[start + Int(part.role.rawValue)] -= part.amount }
    return parts
  }
}

extension TieDecisions {
  /// Those that have taken effect: of each break and currency their sum.
  var writeOffs: [Judge.WriteOff] {
    var sums: [Judge.WriteOff] = []
    for entry in entries {
      guard let role = AccountRole(rawValue: entry.role) else { continue }
      let (type, first) = (BreakType.allCases[Int(entry.type)], sums.count)
      for made in entry.writeOffs {
        guard let written = made.writtenOff else { continue }
        let at = sums[first...].firstIndex { $0.currency == written.currency } ?? sums.count
        if at == sums.count { sums.append(.init(type: type, role: role, currency: written.currency)) }
        if written.amount < 0 {
          sums[at].credit += Int128(written.amount)
        } else {
          sums[at].debit += Int128(written.amount)
        }
      }
    }
    return sums
  }
}
