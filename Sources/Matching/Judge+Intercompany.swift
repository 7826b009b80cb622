import Domain

/// Entries between companies of one group: what one of them has entered, its partner must mirror.
extension Judge {
  /// Journals with intercompany lines that no other journal answers with the opposite amount, and what they have put into
  /// the other roles. Before the deadline the mirror entry may still come.
  mutating func judgeIntercompany(_ currency: Int) {
    let place = currency * roleCount + Int(AccountRole.intercompany.rawValue)
    guard residual[place] != 0, !isAccepted(place), !isRounding(place) else { return }
    var journals: [(first: Fact, lines: [Int128])] = []
    for posting in duePostings where posting.currency == currencies[currency] {
      let found = journals.firstIndex { $0.first.isOfJournal(of: posting) }
      let at = found ?? journals.count
      if found == nil { journals.append((posting, [Int128](repeating: 0, count: roleCount))) }
      journals[at].lines[Int(posting.code)] += Int128(posting.amount)
    }
    let role = Int(AccountRole.intercompany.rawValue)
    journals.removeAll { $0.lines[role] == 0 }
    var isMirrored = [Bool](repeating: false, count: journals.count)
    for one in journals.indices where !isMirrored[one] {
      for other in journals.indices where other > one && !isMirrored[other] && !isMirrored[one] {
        guard journals[one].lines[role] == -journals[other].lines[role] else { continue }
        (isMirrored[one], isMirrored[other]) = (true, true)
      }
    }
    let alone = journals.indices.filter { !isMirrored[$0] }
    guard let first = alone.first.map({ journals[$0].first }) else { return }
    let names = alone.map { journals[$0].first.journal.string }.filter { !$0.isEmpty }
    var finding = Finding(
      isDecided ? .intercompanyUnmatched : .partial, .intercompany, currencies[currency],
      expected: value(expected, currency, .intercompany), posted: value(posted, currency, .intercompany),
      reason: """
        no mirror entry answers \(names.isEmpty ? "the posting" : names.joined(separator: ", "))\(entity(of: first))
        """)
    func take(_ delta: Int128, _ index: Int) -> Finding.Part {
      residual[index] -= delta
      return .init(
        currency: currencies[currency], role: AccountRole(rawValue: UInt8(index % roleCount))!,
        delta: Int64(clamping: delta))
    }
    finding.parts = [take(residual[place], place)]
    // The other lines of these journals go with it, as far as the ledger has them too much.
    for other in Judge.primaryOrder where other != .intercompany {
      let index = currency * roleCount + Int(other.rawValue)
      let line = alone.reduce(Int128(0)) { $0 + journals[$1].lines[Int(other.rawValue)] }
      guard line != 0, magnitude(residual[index] - line) < magnitude(residual[index]) else { continue }
      finding.parts.append(take(line, index))
    }
    // What the mirror entry would have moved, and stands open on one other role, is missing with it.
    let rest = finding.parts.reduce(Int128(0)) { $0 + Int128($1.delta) }
    let counter = Judge.primaryOrder.first { residual[currency * roleCount + Int($0.rawValue)] == -rest }
    if rest != 0, let counter {
      finding.parts.append(take(-rest, currency * roleCount + Int(counter.rawValue)))
      finding.reason += ", nor moves \(counter.name)"
    }
    append(finding)
  }

  private func entity(of posting: Fact) -> String {
    guard let entity = policy.checks?.entity.map({ posting.dimension($0) }), !entity.isEmpty else { return "" }
    return ", entered by \(entity.string)"
  }
}
