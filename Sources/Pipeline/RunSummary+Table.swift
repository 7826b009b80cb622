import Configuration
import Domain

extension RunSummary {
  /// The summary for a person.
  public func table(_ configuration: Configuration) -> String {
    var parts: [String] = []
    parts.append(
      "\(configuration.name): \(match.tiesTiedOut) of \(match.tiesClosed) ties tie out "
        + "(\(RunSummary.percent(Int128(match.tiesTiedOut), of: Int128(match.tiesClosed))) %)")
    for currency in currencies {
      let due = match.closedValue[currency]!
      let tied = match.tiedOutValue[currency] ?? 0
      parts.append(
        "  \(currency.code) \(formatDecimal(tied, decimals: currency.exponent)) of "
          + "\(formatDecimal(due, decimals: currency.exponent)) (\(RunSummary.percent(tied, of: due)) %)")
    }
    var breaks = TextTable(["break", "open", "accepted"], numeric: [1, 2])
    for type in BreakType.allCases where match.open[type.index] + match.accepted[type.index] > 0 {
      breaks.add(type.rawValue, String(match.open[type.index]), String(match.accepted[type.index]))
    }
    if !breaks.rows.isEmpty { parts.append("\n" + breaks.text) }
    var totals = TextTable(
      ["", "role", "expected", "posted", "difference", "in open breaks", "accepted", "not due"],
      numeric: [2, 3, 4, 5, 6, 7])
    for line in self.totals.lines {
      func amount(_ value: Int128) -> String { formatDecimal(value, decimals: line.currency.exponent) }
      totals.add(
        line.currency.code, line.role.name, amount(line.expected), amount(line.posted),
        amount(line.posted - line.expected), amount(line.open), amount(line.accepted), amount(line.pending))
    }
    if !totals.rows.isEmpty { parts.append("\n" + totals.text) }
    var periods = TextTable(
      ["", "", "role", "expected", "posted", "difference", "in open breaks", "accepted", "not due or elsewhere"],
      numeric: [3, 4, 5, 6, 7, 8])
    for (period, line) in self.periods.lines where line.posted != line.expected || line.open != 0 || line.accepted != 0
    {
      func amount(_ value: Int128) -> String { formatDecimal(value, decimals: line.currency.exponent) }
      periods.add(
        FinanceEncoder.period(period), line.currency.code, line.role.name, amount(line.expected), amount(line.posted),
        amount(line.posted - line.expected), amount(line.open), amount(line.accepted), amount(line.pending))
    }
    if !periods.rows.isEmpty { parts.append("\nPeriods that differ\n\n" + periods.text) }
    var sources = TextTable(
      ["source", "due", "tied out", "open breaks", "", "in open breaks", "not explained"], numeric: [1, 2, 3, 5, 6])
    for (source, stand) in zip(configuration.sources, self.sources) where !stand.isZero {
      let counts = [stand.closedOrders, stand.tiedOutOrders, stand.openBreaks].map { String($0) }
      for (at, line) in stand.lines.sorted(by: { $0.currency.code < $1.currency.code }).enumerated() {
        let first = at == 0 ? [source.name] + counts : ["", "", "", ""]
        sources.add(
          first[0], first[1], first[2], first[3], line.currency.code,
          formatDecimal(line.open, decimals: line.currency.exponent),
          formatDecimal(line.controlDifference, decimals: line.currency.exponent))
      }
      if stand.lines.isEmpty { sources.add(source.name, counts[0], counts[1], counts[2], "", "", "") }
    }
    if !sources.rows.isEmpty { parts.append("\nOrders in which a source has a record\n\n" + sources.text) }
    if let later, later > 0 {
      parts.append("\n\(later) \(later == 1 ? "record" : "records") later than --as-of left out")
    }
    if deadLetterCount > 0 {
      var dead = TextTable(["dead letters", "records"], numeric: [1])
      for (reason, count) in deadLetters.sorted(by: { $0.key < $1.key }) { dead.add(reason, String(count)) }
      parts.append("\n" + dead.text)
    }
    if !decode.violations.isEmpty {
      var broken = TextTable(["rule", "records that break it"], numeric: [1])
      for (rule, count) in decode.violations.sorted(by: { $0.key < $1.key }) { broken.add(rule, String(count)) }
      parts.append("\n" + broken.text)
    }
    let doubts = disorder.map(\.text) + decode.doubts.map(\.text)
    if !doubts.isEmpty { parts.append("\nTo be looked at\n\n" + doubts.joined(separator: "\n")) }
    return parts.joined(separator: "\n")
  }
}
