import Decoding
import Domain
import Matching
import Yams

extension Configuration {
  mutating func readMatching(_ node: Node?, _ reader: ConfigurationReader, _ checks: inout FinanceChecks) {
    let base = ["matching"]
    let nodes = reader.nodes(node, base)
    func duration(_ key: String, _ standard: Int64, atLeast least: Int64 = 0) -> Int64 {
      reader.duration_ms(nodes[key], base + [key], standard, atLeast: least)
    }
    policy.window_ms = duration("window", policy.window_ms)
    policy.grace_ms = duration("grace", policy.grace_ms)
    policy.settle_ms = duration("settle", policy.settle_ms)
    policy.retention_ms = duration("retention", policy.retention_ms)
    // What is open is remembered at least as long as what is closed.
    policy.openRetention_ms = reader.duration_ms(
      nodes["open_retention"], base + ["open_retention"], policy.openRetention_ms, raisedTo: policy.retention_ms)
    policy.outOfOrderness_ms = duration("out_of_orderness", policy.outOfOrderness_ms)
    policy.idleTimeout_ms = duration("idle_timeout", policy.idleTimeout_ms, atLeast: 1)
    policy.maximumFuture_ms = duration("maximum_future", policy.maximumFuture_ms)
    policy.reportsProvisional = reader.bool(nodes["provisional"], base + ["provisional"], true)
    policy.lateAfter_d = Int32(reader.integer(nodes["late_after_days"], base + ["late_after_days"], 5, 0...3_650))
    policy.earlyBefore_d = Int32(reader.integer(nodes["early_before_days"], base + ["early_before_days"], 1, 0...3_650))
    policy.checksPostingDates = reader.bool(nodes["posting_dates"], base + ["posting_dates"], true)
    policy.checksCustomers = reader.bool(nodes["customers"], base + ["customers"], true)
    policy.maximumExpiries = reader.integer(
      nodes["maximum_expiries"], base + ["maximum_expiries"], policy.maximumExpiries, 1...100_000_000)
    let quantities = reader.nodes(nodes["quantities"], base + ["quantities"])
    policy.quantities.isEnabled = reader.bool(quantities["compare"], base + ["quantities", "compare"], false)
    policy.quantities.basis = reader.choice(quantities["basis"], base + ["quantities", "basis"], .delivered)
    policy.quantities.tolerance_u = reader.micros(quantities["tolerance"], base + ["quantities", "tolerance"], 0)
    policy.quantities.comparesOrdered = reader.bool(quantities["ordered"], base + ["quantities", "ordered"], false)
    policy.quantities.comparesLines = reader.bool(quantities["lines"], base + ["quantities", "lines"], false)
    readSeverity(nodes["severity"], base + ["severity"], reader, &checks)
    readTolerances(nodes["tolerances"], base + ["tolerances"], reader)
    func dimension(_ key: String) -> Int? {
      // Not noted where it is not given: the effective configuration is what decides, and this decides nothing.
      guard let node = nodes[key] else { return nil }
      let name = reader.name(node, base + [key], "")
      let index = dimensions.firstIndex(of: name)
      if index == nil {
        reader.problem(node, "matching.\(key): unknown dimension '\(name)'\(reader.hint(name, dimensions))")
      }
      return index
    }
    checks.entity = dimension("entity")
    checks.segment = dimension("segment")
    if let node = nodes["intercompany"] {
      checks.mirrorsIntercompany = reader.bool(node, base + ["intercompany"], false)
    }
    if let node = nodes["revenue_schedules"] {
      let path = base + ["revenue_schedules"]
      let nodes = reader.nodes(node, path)
      var schedules = RevenueSchedules()
      schedules.basis = reader.choice(nodes["basis"], path + ["basis"], schedules.basis)
      schedules.remainder = reader.choice(nodes["remainder"], path + ["remainder"], schedules.remainder)
      if schedules.basis == .period {
        for at in sources.indices { sources[at].mapping.serviceTerm = .periods(checks.calendar) }
      }
      let grace_ms = reader.duration_ms(
        nodes["grace"], path + ["grace"], Int64(schedules.grace_d) * millisecondsPerDay)
      if grace_ms % millisecondsPerDay != 0 {
        reader.problem(nodes["grace"], "matching.revenue_schedules.grace: whole days are expected")
      }
      schedules.grace_d = Int32(clamping: grace_ms / millisecondsPerDay)
      checks.schedules = schedules
    }
    if let node = nodes["cash_application"] {
      checks.appliesCash = reader.bool(node, base + ["cash_application"], false)
    }
  }

  /// Ages from which an open break is at least medium, high and critical, where none are given.
  static let standardSeverityAges_ms: [Int64] = [24, 72, 120].map { $0 * 3_600_000 }

  /// Three amounts, or a map of amounts and ages.
  private mutating func readSeverity(
    _ node: Node?, _ path: [String], _ reader: ConfigurationReader, _ checks: inout FinanceChecks
  ) {
    /// - Parameters:
    ///   - standard: What holds where there is no node.
    ///   - given: The path in the file, where it is not that of the effective configuration.
    func three<Value: Comparable>(
      _ node: Node?, _ path: [String], given: [String]? = nil, _ what: String, orNone: String = "",
      _ standard: [Value], _ read: (Node?, [String], Value) -> Value
    ) -> [Value] {
      let list = node.flatMap { $0.sequence }.map { $0.map { Node?.some($0) } } ?? [nil, nil, nil]
      let name = reader.dotted(given ?? path)
      if let node, node.sequence == nil || list.count != 3 {
        reader.problem(node, "\(name): three \(what)\(orNone) are expected")
        return standard
      }
      let values = list.enumerated().map { read($1, path + ["#\($0 + 1)"], standard[$0]) }
      if let node, values != values.sorted() { reader.problem(node, "\(name): the \(what) must rise") }
      return values
    }
    let isList = node.map { $0.mapping == nil } ?? false
    let nodes = isList ? [:] : reader.nodes(node, path)
    policy.severityAmounts_u = three(
      isList ? node : nodes["amounts"], path + ["amounts"], given: isList ? path : nil, "amounts",
      policy.severityAmounts_u
    ) { reader.micros($0, $1, $2) }
    let age = path + ["age"]
    if let node = nodes["age"], node.sequence?.isEmpty == true || node.scalar?.string == "none" {
      checks.severityAges_ms = []
      reader.note(age, "none")
      return
    }
    checks.severityAges_ms = three(nodes["age"], age, "durations", orNone: ", or none,", Self.standardSeverityAges_ms) {
      reader.duration_ms($0, $1, $2)
    }
  }

  private mutating func readTolerances(_ node: Node?, _ path: [String], _ reader: ConfigurationReader) {
    let entries = reader.mapping(node, path)
    func tolerance(_ node: Node?, _ path: [String]) -> Tolerance {
      let nodes = reader.nodes(node, path)
      let absolute = reader.micros(nodes["absolute"], path + ["absolute"], 0)
      var tolerance = Tolerance(absolute_u: absolute)
      if let under = nodes["under"] { tolerance.under_u = reader.micros(under, path + ["under"], absolute) }
      if let over = nodes["over"] { tolerance.over_u = reader.micros(over, path + ["over"], absolute) }
      tolerance.percent_u = reader.micros(nodes["percent"], path + ["percent"], 0)
      tolerance.combination = reader.choice(nodes["combine"], path + ["combine"], .max)
      return tolerance
    }
    let standard = tolerance(entries.first { $0.key == "default" }?.value, path + ["default"])
    policy.tolerances = Array(repeating: standard, count: AccountRole.count)
    for (key, value, keyNode) in entries where key != "default" {
      guard let role = AccountRole(name: key) else {
        let known = AccountRole.allCases.map(\.name) + ["default"]
        reader.problem(keyNode, "\(reader.dotted(path)): '\(key)' is no account role\(reader.hint(key, known))")
        continue
      }
      policy.tolerances[Int(role.rawValue)] = tolerance(value, path + [key])
    }
  }

  mutating func readPolicy(_ node: Node?, _ reader: ConfigurationReader) {
    let events = reader.mapping(node, ["policy"])
    for (key, value, _) in events where key == "replace_defaults" {
      if let text = reader.scalar(value, ["policy", key]) {
        switch text {
        case "true": policy.entries = Array(repeating: [], count: OrderEventKind.allCases.count)
        case "false": break
        default: reader.problem(value, "policy.replace_defaults: true or false is expected, not '\(text)'")
        }
      }
    }
    for (key, value, keyNode) in events where key != "replace_defaults" {
      guard let kind = OrderEventKind(name: key) else {
        let known = OrderEventKind.allCases.map(\.name) + ["replace_defaults"]
        reader.problem(keyNode, "policy: '\(key)' is no order event\(reader.hint(key, known))")
        continue
      }
      policy.entries[Int(kind.rawValue)] = readEntries(value, ["policy", key], reader)
    }
    notePolicy(reader)
  }

  /// What a source says of single kinds of events in place of `policy`.
  func readPolicy(
    _ node: Node?, _ path: [String], _ kind: SourceKind, _ reader: ConfigurationReader
  ) -> [OrderEventKind: [PolicyEntry]] {
    guard let node else { return [:] }
    guard kind == .orders else {
      reader.problem(node, "\(reader.dotted(path)): only for sources of kind orders")
      return [:]
    }
    var own: [OrderEventKind: [PolicyEntry]] = [:]
    for (key, value, keyNode) in reader.mapping(node, path) {
      guard let event = OrderEventKind(name: key) else {
        let hint = reader.hint(key, OrderEventKind.allCases.map(\.name))
        reader.problem(keyNode, "\(reader.dotted(path)): '\(key)' is no order event\(hint)")
        continue
      }
      let entries = readEntries(value, path + [key], reader)
      own[event] = entries
      if entries.isEmpty { reader.note(path + [key], "{}") }
      note(entries, path + [key], reader)
    }
    return own
  }

  private func readEntries(_ node: Node, _ path: [String], _ reader: ConfigurationReader) -> [PolicyEntry] {
    var entries: [PolicyEntry] = []
    for (roleName, termNode, roleNode) in reader.mapping(node, path) {
      guard let role = AccountRole(name: roleName) else {
        let known = AccountRole.allCases.map(\.name)
        reader.problem(
          roleNode, "\(reader.dotted(path)): '\(roleName)' is no account role\(reader.hint(roleName, known))")
        continue
      }
      for term in termNode.sequence.map({ Array($0) }) ?? [termNode] {
        guard let text = reader.scalar(term, path + [roleName]) else { continue }
        guard let sign = text.first, sign == "+" || sign == "-",
          let component = AmountComponent.allCases.first(where: { $0.name == text.dropFirst() })
        else {
          let known = AmountComponent.allCases.map(\.name)
          let name = String(text.drop { $0 == "+" || $0 == "-" })
          let hint =
            known.contains(name) ? ": the sign is missing, or there is more than one" : reader.hint(name, known)
          reader.problem(
            term,
            "\(reader.dotted(path)).\(roleName): '+' or '-' and one of \(known.joined(separator: ", ")) is expected, "
              + "not '\(text)'\(hint)")
          continue
        }
        entries.append(PolicyEntry(role, sign == "-" ? -1 : 1, component))
      }
    }
    return entries
  }

  /// The policy that results, in full: what is not shown is not expected in the ledger.
  private func notePolicy(_ reader: ConfigurationReader) {
    reader.note(["policy", "replace_defaults"], "true")
    for kind in OrderEventKind.allCases {
      note(policy.entries[Int(kind.rawValue)], ["policy", kind.name], reader)
    }
  }

  private func note(_ entries: [PolicyEntry], _ path: [String], _ reader: ConfigurationReader) {
    var roles: [AccountRole] = []
    for entry in entries where !roles.contains(entry.role) { roles.append(entry.role) }
    for role in roles {
      let terms = entries.filter { $0.role == role }
        .map { reader.quote(($0.sign < 0 ? "-" : "+") + $0.component.name) }
      reader.note(path + [role.name], terms.count == 1 ? terms[0] : "[" + terms.joined(separator: ", ") + "]")
    }
  }
}
