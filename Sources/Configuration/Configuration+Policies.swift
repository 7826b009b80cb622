import Domain
import Matching
import Yams

/// Posting policies as master data: rows that change what `policy` says, from given days of documents on.
extension Configuration {
  /// One row as it is written, with where it stands.
  struct WrittenPolicy {
    var texts: [String: String]
    /// `file:line` of a file, else what the row is about.
    var place: String
  }

  /// - Returns: the rows of the file; nil where none are asked for.
  mutating func readPolicySource(_ node: Node?, _ reader: ConfigurationReader) -> [WrittenPolicy]? {
    guard let node else { return nil }
    let path = ["posting_policies"]
    let nodes = reader.nodes(node, path)
    guard (nodes["file"] == nil) != (nodes["topic"] == nil) else {
      reader.problem(node, "posting_policies: either 'file' or 'topic' is needed")
      return nil
    }
    if let topicNode = nodes["topic"] {
      let topic = readTableTopic(topicNode, path + ["topic"], reader)
      follow(TableSource(kind: .policies, name: TableSource.policiesName, topic: topic))
      return []
    }
    let file = reader.resolve(reader.name(nodes["file"], path + ["file"], ""))
    let source = TableSource(kind: .policies, name: TableSource.policiesName, path: file)
    follow(source)
    do throws(TableFile.Fault) {
      let rows = try TableFile(path: file).rows(
        of: TableSource.columns(.policies), optional: TableSource.optionalColumns(.policies))
      let entries = try source.entries()
      tableContents[source.name] = entries
      return rows.map { WrittenPolicy(texts: $0.cells, place: "\(file):\($0.line)") }
    } catch {
      reader.problem(nodes["file"], "posting_policies.file: \(error.message)")
      return nil
    }
  }

  /// Takes the rows, once `policy` has been read: it is what they change. What sources say in its place stays.
  mutating func takePolicies(_ written: [WrittenPolicy]?, _ node: Node?, _ reader: ConfigurationReader) {
    let ofSources = sources.enumerated().flatMap { at, source in
      source.policy.map { PostingPolicies.OfSource(source: UInt16(at), $0.key, $0.value) }
    }
    guard written != nil || !ofSources.isEmpty, let changes = Self.policyChanges(written ?? [], node, reader) else {
      return
    }
    policy.postingPolicies = PostingPolicies(base: policy.entries, changes: changes, ofSources: ofSources)
    if policy.postingPolicies == nil {
      reader.problem(
        node, "posting_policies: there are more than \(PostingPolicies.maximumDays) days on which something changes")
    }
  }

  /// Entries of `policy` and `posting_policies` that change nothing, because no orders source maps their amount; as
  /// sentences.
  public var unmappedPolicies: [String] {
    let mapped = Set(sources.flatMap { $0.mapping.fields.keys })
    var words: [String] = []
    for kind in OrderEventKind.allCases {
      for (_, entry) in policy.entries(of: kind)
      where !mapped.contains(entry.component.name)
        && !MatchingPolicy.standardEntries[Int(kind.rawValue)].contains(entry)
      {
        let text =
          "the posting policy of '\(kind.name)' puts '\(entry.component.name)' into '\(entry.role.name)', and no orders "
          + "source maps '\(entry.component.name)': the entry changes nothing"
        if !words.contains(text) { words.append(text) }
      }
      for source in sources {
        for entry in source.policy[kind] ?? [] where source.mapping.fields[entry.component.name] == nil {
          words.append(
            "the posting policy of '\(kind.name)' of the source '\(source.name)' puts '\(entry.component.name)' into "
              + "'\(entry.role.name)', and the source does not map '\(entry.component.name)': the entry changes nothing"
          )
        }
      }
    }
    return words
  }

  /// The changes of rows as versions keep them.
  mutating func takePolicies(_ rows: [[String: String]], _ reader: ConfigurationReader) {
    takePolicies(
      rows.map { row in
        WrittenPolicy(
          texts: row,
          place: TableSource.names(.policies).map { row[$0] ?? "" }.filter { !$0.isEmpty }.joined(separator: " "))
      }, nil, reader)
  }

  /// nil, and problems, where one is none; the first faults say enough.
  static func policyChanges(
    _ written: [WrittenPolicy], _ node: Node?, _ reader: ConfigurationReader
  ) -> [PostingPolicies.Change]? {
    var changes: [PostingPolicies.Change] = []
    let problems = reader.problems.count
    for row in written {
      func problem(_ column: String, _ message: String) {
        reader.problem(node, "\(row.place): '\(column)': \(message)")
      }
      func text(_ name: String) -> String { row.texts[name] ?? "" }
      let event = OrderEventKind(name: text("event"))
      if event == nil {
        problem(
          "event",
          "'\(text("event"))' is no order event\(reader.hint(text("event"), OrderEventKind.allCases.map(\.name)))")
      }
      let role = AccountRole(name: text("role"))
      if role == nil {
        problem(
          "role", "'\(text("role"))' is no account role\(reader.hint(text("role"), AccountRole.allCases.map(\.name)))")
      }
      let components = AmountComponent.allCases
      let component = components.first { $0.name == text("component") }
      if component == nil {
        let hint = reader.hint(text("component"), components.map(\.name))
        problem("component", "'\(text("component"))' is no amount of an order event\(hint)")
      }
      let sign = Self.policySign(text("sign"))
      if sign == nil { problem("sign", "debit (+), credit (-) or none (0) is expected, not '\(text("sign"))'") }
      var from_d: Int32?
      if !text("valid_from").isEmpty {
        from_d = Self.date(text("valid_from"))
        if from_d == nil { problem("valid_from", "'\(text("valid_from"))' is no date such as 2026-01-01") }
      }
      if reader.problems.count >= problems + 10 { break }
      guard let event, let role, let component, let sign else { continue }
      changes.append(.init(event, role, component, sign: sign, from_d: from_d))
    }
    return reader.problems.count == problems ? changes : nil
  }

  private static func policySign(_ text: String) -> Int? {
    switch text {
    case "+", "+1", "1", "debit": 1
    case "-", "-1", "credit": -1
    case "0", "none": 0
    default: nil
    }
  }
}
