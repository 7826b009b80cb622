import Configuration
import Domain
import Logging

/// Why a table stays as it is.
struct TableProblem: Equatable, CustomStringConvertible {
  var source: TableSource
  var text: String
  var description: String { text }

  /// For the log.
  var metadata: Logger.Metadata {
    var metadata: Logger.Metadata = ["table": "\(source.name)", "error": "\(text)"]
    if let topic = source.topic { metadata["topic"] = "\(topic)" }
    return metadata
  }
}

/// Takes up what tables hold, each by itself: one that cannot be read, or that makes no sense, keeps what it held and does
/// not hold up the others. For one thread.
final class TableTrial {
  /// What did not do, so that the same is not tried and explained again at every look.
  private var failed:
    (old: TableEntries, entries: TableEntries, configuration: Configuration, problems: [TableProblem])?

  /// - Parameters:
  ///   - held: What the topics hold.
  ///   - isStart: Nothing has been judged yet, and no sums are there that other periods would break.
  ///   - isRead: Which tables are looked at.
  /// - Returns: the configuration with all that could be taken up, and why each table that could not stays as it is.
  func take(
    _ old: Configuration, _ held: TableEntries, _ topics: TopicTables?, isStart: Bool = false,
    isRead: (TableSource) -> Bool = { _ in true }
  ) -> (configuration: Configuration, problems: [TableProblem]) {
    var entries = old.tableEntries
    let before = entries
    var problems: [TableProblem] = []
    for source in old.tableSources where isRead(source) {
      if let problem = topics?.problems[source.name] {
        problems.append(TableProblem(source: source, text: problem))
        continue
      }
      do throws(MasterDataError) {
        entries[source.name] = try old.rereadTable(source, topics: held)
      } catch { problems.append(TableProblem(source: source, text: "\(error)")) }
    }
    // Most looks find nothing new, and large tables take their time.
    guard entries != before || isStart else { return (old, problems) }
    if let failed, failed.old == before, failed.entries == entries {
      return (failed.configuration, problems + failed.problems)
    }
    failed = nil
    func tried(_ configuration: Configuration, _ entries: TableEntries) throws(MasterDataError) -> Configuration {
      let next = try configuration.replacingTables(entries)
      if !isStart { try old.checkSuccessor(next) }
      return next
    }
    if let next = try? tried(old, entries) { return (next, problems) }
    var configuration = old
    var found: [TableProblem] = []
    for source in old.tableSources where entries[source.name] != before[source.name] {
      let table = entries[source.name] ?? [:]
      do throws(MasterDataError) {
        configuration = try tried(configuration, [source.name: table])
      } catch {
        let words = "\(error)".hasPrefix(source.words) ? "\(error)" : "\(source.words): \(error)"
        let key = TableTrial.culprit(table, of: error) { (part) throws(MasterDataError) in
          _ = try tried(configuration, [source.name: part])
        }
        let text = words + (key.map { TableTrial.place($0, source, topics) } ?? "")
        found.append(TableProblem(source: source, text: text))
      }
    }
    failed = (before, entries, configuration, found)
    return (configuration, problems + found)
  }

  /// The row with which the rows before it, by key, begin to make no sense in the same words; nil where there is none.
  private static func culprit(
    _ table: [String: String], of error: MasterDataError, _ body: ([String: String]) throws(MasterDataError) -> Void
  ) -> String? {
    let keys = table.keys.sorted()
    func fails(_ count: Int) -> Bool {
      let part = Dictionary(uniqueKeysWithValues: keys.prefix(count).map { ($0, table[$0]!) })
      do throws(MasterDataError) {
        try body(part)
        return false
      } catch let other { return other == error }
    }
    var (low, high) = (1, keys.count)
    while low < high {
      let middle = (low + high) / 2
      if fails(middle) { high = middle } else { low = middle + 1 }
    }
    return !keys.isEmpty && fails(low) ? keys[low - 1] : nil
  }

  private static func place(_ key: String, _ source: TableSource, _ topics: TopicTables?) -> String {
    let shown = key.split(separator: TableSource.separator, omittingEmptySubsequences: false).joined(separator: ", ")
    let row = "; the row '\(shown.prefix(DataFault.maximumQuotedBytes))'"
    if let topic = source.topic {
      guard let place = topics?.place(source.name, key) else { return row + " of the configuration" }
      return row + " of topic '\(topic)', partition \(place.partition), offset \(place.offset), key '\(place.key)'"
    }
    return row + " of \(source.path)"
  }
}

extension Configuration {
  /// Goes on with what tables hold now, and says so; and why others stay as they are, once and not at every look.
  /// - Parameter told: What was said last.
  /// - Returns: the tables that hold something else; nil where none does.
  mutating func take(
    _ next: Configuration, _ problems: [TableProblem], _ told: inout String, _ log: Logger
  ) -> [TableSource]? {
    let all = problems.map(\.text).joined(separator: "; ")
    if all != told {
      for problem in problems { log.error("a table stays as it is", metadata: problem.metadata) }
    }
    told = all
    let (old, entries) = (tableEntries, next.tableEntries)
    let changed = tableSources.filter { entries[$0.name] != old[$0.name] }
    guard !changed.isEmpty else { return nil }
    self = next
    log.notice("tables read again", metadata: ["changed": "\(changed.map(\.words).joined(separator: ", "))"])
    return changed
  }
}
