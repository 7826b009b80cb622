import Foundation

/// What a look at one thing has found.
public struct DoctorFinding: Codable, Sendable, Equatable {
  public enum Status: String, Codable, Sendable, CaseIterable, Comparable {
    case ok, warning, failed

    public static func < (a: Status, b: Status) -> Bool {
      allCases.firstIndex(of: a)! < allCases.firstIndex(of: b)!
    }
  }
  public var status: Status
  /// `configuration`, `broker`, `topics`, `rights`, `transactions`, `state`, `messages`, `registry`, `data`, `clock`, `disk`,
  /// `machine`, `console`.
  public var area: String
  /// What was looked at: a file, a topic, a group.
  public var subject: String
  public var found: String
  /// What it means and what to do; empty where nothing is to be done.
  public var advice: String

  public init(_ status: Status, _ area: String, _ subject: String, _ found: String, advice: String = "") {
    self.status = status
    self.area = area
    self.subject = subject
    self.found = found
    self.advice = advice
  }
}

/// Everything that was looked at, in order.
public struct DoctorReport: Codable, Sendable, Equatable {
  /// The worst of all.
  public private(set) var status = DoctorFinding.Status.ok
  public private(set) var checks: [DoctorFinding] = []

  public init() {}

  public mutating func add(_ finding: DoctorFinding) {
    checks.append(finding)
    status = max(status, finding.status)
  }

  public mutating func add(_ findings: [DoctorFinding]) {
    for finding in findings { add(finding) }
  }

  /// 0 ok, 1 warnings, 2 something has failed.
  public var exitCode: Int32 {
    switch status {
    case .ok: 0
    case .warning: 1
    case .failed: 2
    }
  }

  /// One JSON object: `status`, and `checks` with `status`, `area`, `subject`, `found`, `advice`.
  public func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }

  /// Columns of the last column of the table.
  private static let width = 96

  /// For a terminal: a table, and below every line that is not ok what to do about it.
  public var text: String {
    var table = TextTable(["status", "area", "subject", "found"])
    for check in checks {
      var lines = DoctorReport.wrapped(check.found, DoctorReport.width)
      if !check.advice.isEmpty {
        let advice = DoctorReport.wrapped(check.advice, DoctorReport.width - 2)
        lines += advice.enumerated().map { ($0 == 0 ? "→ " : "  ") + $1 }
      }
      table.add(check.status.rawValue, check.area, check.subject, lines[0])
      for line in lines.dropFirst() { table.add("", "", "", line) }
    }
    func count(_ status: DoctorFinding.Status) -> Int { checks.count { $0.status == status } }
    return table.text + "\n\n\(count(.ok)) ok, \(count(.warning)) with a warning, \(count(.failed)) failed"
  }

  /// Lines of at most so many characters, where no word is longer.
  static func wrapped(_ text: String, _ width: Int) -> [String] {
    var lines = [""]
    for word in text.split(whereSeparator: \.isWhitespace) {
      let last = lines[lines.count - 1]
      if last.isEmpty {
        lines[lines.count - 1] = String(word)
      } else if last.count + 1 + word.count <= width {
        lines[lines.count - 1] = last + " " + word
      } else {
        lines.append(String(word))
      }
    }
    return lines
  }
}
