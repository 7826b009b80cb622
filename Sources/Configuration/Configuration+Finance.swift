import Decoding
import Domain
import Matching
import Yams

/// Fiscal periods and exchange rates.
extension Configuration {
  /// One period as it is written, with where it stands.
  private struct WrittenPeriod {
    var texts: [String: String]
    var node: Node?
    var isHoliday: Bool { texts["period"] == TableSource.holiday }
    /// `file:line: ` of a file, else the path of the key.
    var place: String
  }

  mutating func readCalendar(_ node: Node?, _ reader: ConfigurationReader) -> FiscalCalendar? {
    guard let node else { return nil }
    let path = ["calendar"]
    let nodes = reader.nodes(node, path)
    readBusinessDays(nodes, path, reader)
    let places = ["file", "periods", "topic"].count(where: { nodes[$0] != nil })
    if places == 0, nodes["rest_days"] != nil { return nil }
    guard places == 1 else {
      reader.problem(node, "calendar: one of 'file', 'periods' and 'topic' is needed")
      return nil
    }
    if let topicNode = nodes["topic"] {
      let topic = readTableTopic(topicNode, path + ["topic"], reader)
      follow(TableSource(kind: .calendar, name: TableSource.calendarName, topic: topic))
      return nil
    }
    var written: [WrittenPeriod] = []
    if let fileNode = nodes["file"] {
      let file = reader.resolve(reader.name(fileNode, path + ["file"], ""))
      do throws(TableFile.Fault) {
        let rows = try TableFile(path: file).rows(
          of: TableSource.columns(.calendar), optional: TableSource.optionalColumns(.calendar))
        written = rows.map { WrittenPeriod(texts: $0.cells, node: fileNode, place: "\(file):\($0.line)") }
      } catch {
        reader.problem(fileNode, "calendar.file: \(error.message)")
        return nil
      }
    } else if let list = nodes["periods"]?.sequence {
      for (number, item) in list.enumerated() {
        let place = path + ["periods", "#\(number + 1)"]
        var texts: [String: String] = [:]
        for (key, value) in reader.nodes(item, place).sorted(by: { $0.key < $1.key }) {
          texts[key] = reader.text(value, place + [key], "")
        }
        written.append(WrittenPeriod(texts: texts, node: item, place: reader.dotted(place)))
      }
    } else {
      reader.problem(nodes["periods"], "calendar.periods: a list is expected")
      return nil
    }
    return takeCalendar(written, node, reader)
  }

  private mutating func readBusinessDays(_ nodes: [String: Node], _ path: [String], _ reader: ConfigurationReader) {
    businessDays.roll = reader.choice(nodes["roll"], path + ["roll"], BusinessDays.Roll.none)
    guard let node = nodes["rest_days"] else { return }
    for (at, name) in reader.names(node, path + ["rest_days"]).enumerated() {
      guard let day = BusinessDays.weekdays.firstIndex(of: name) else {
        reader.problem(
          node.sequence?[at] ?? node,
          "calendar.rest_days: '\(name)' is no day of the week\(reader.hint(name, BusinessDays.weekdays))")
        continue
      }
      businessDays.restDays |= 1 << UInt8(day)
    }
    if businessDays.restDays == 0x7f { reader.problem(node, "calendar.rest_days: no day of the week is left") }
  }

  /// The calendar of rows as versions keep them; holidays go where they belong.
  mutating func takeCalendar(_ rows: [[String: String]], _ reader: ConfigurationReader) -> FiscalCalendar? {
    takeCalendar(
      rows.map { WrittenPeriod(texts: $0, node: nil, place: "period '\($0["period"] ?? "")'") }, nil, reader)
  }

  /// nil where there are holidays alone: then periods are the months of the calendar.
  private mutating func takeCalendar(
    _ written: [WrittenPeriod], _ node: Node?, _ reader: ConfigurationReader
  ) -> FiscalCalendar? {
    let holidays = written.filter(\.isHoliday)
    businessDays.setHolidays(holidays.flatMap { Self.readHoliday($0, reader) })
    flows?.businessDays = businessDays
    let periods = written.filter { !$0.isHoliday }
    return periods.isEmpty && !holidays.isEmpty ? nil : Self.calendar(periods, node, reader)
  }

  /// The days of a row of holidays, its first and last included.
  private static func readHoliday(_ written: WrittenPeriod, _ reader: ConfigurationReader) -> [Int32] {
    func text(_ key: String) -> String { written.texts[key] ?? "" }
    for key in ["start", "end"] where date(text(key)) == nil {
      reader.problem(
        written.node, "\(written.place): '\(key)' must be a date such as 2026-12-25, not '\(text(key))'")
    }
    for key in ["state", "closed_at"] where !text(key).isEmpty {
      reader.problem(written.node, "\(written.place): a holiday has no '\(key)'")
    }
    guard let first = date(text("start")), let last = date(text("end")) else { return [] }
    guard first <= last, Int(last) - Int(first) < 366 else {
      reader.problem(
        written.node,
        "\(written.place): a holiday from \(text("start")) to \(text("end")) is not between one day and a year")
      return []
    }
    return Array(first...last)
  }

  private static func calendar(
    _ written: [WrittenPeriod], _ node: Node?, _ reader: ConfigurationReader
  ) -> FiscalCalendar? {
    let problems = reader.problems.count
    let periods = written.compactMap { readPeriod($0, reader) }
    guard reader.problems.count == problems else { return nil }
    do throws(FiscalCalendar.Fault) {
      return try FiscalCalendar(periods)
    } catch {
      let at = written.isEmpty ? nil : written[error.index]
      reader.problem(at?.node ?? node, "\(at?.place ?? "calendar"): \(error.message)")
      return nil
    }
  }

  private static func readPeriod(_ written: WrittenPeriod, _ reader: ConfigurationReader) -> FiscalCalendar.Period? {
    func problem(_ message: String) { reader.problem(written.node, "\(written.place): \(message)") }
    func text(_ key: String) -> String { written.texts[key] ?? "" }
    func date(_ key: String) -> Int32? {
      if let made = Self.date(text(key)) { return made }
      problem("'\(key)' must be a date such as 2026-01-31, not '\(text(key))'")
      return nil
    }
    let name = Self.period(text("period"))
    if name == nil { problem("'period' must be a year and a number such as 2026-01, not '\(text("period"))'") }
    let (first, last) = (date("start"), date("end"))
    var closedAt: Int64?
    if !text("closed_at").isEmpty {
      closedAt = Self.time_ms(text("closed_at"))
      if closedAt == nil {
        problem("'closed_at' must be a date or a time such as 2026-02-05T18:00:00Z, not '\(text("closed_at"))'")
      }
    }
    switch text("state") {
    case "": break
    case "open":
      if closedAt != nil { problem("the period is open, and has a 'closed_at'") }
    case "closed":
      if text("closed_at").isEmpty { problem("the period is closed, and 'closed_at' does not say since when") }
    case let other: problem("'state' is open or closed, not '\(other)'")
    }
    guard let name, let first, let last else { return nil }
    return .init(name: name, first_d: first, last_d: last, closedAt_ms: closedAt)
  }

  static func date(_ text: String) -> Int32? {
    guard text.utf8.count == 10, let ms = Timestamps.parse(text + "T00:00:00Z") else { return nil }
    return day(ofMilliseconds: ms)
  }

  private static func time_ms(_ text: String) -> Int64? {
    if let day = date(text) { return Int64(day) * millisecondsPerDay }
    return Timestamps.parse(text)
  }

  /// `2026-01`, `2026/1`, `202601` → 202601.
  static func period(_ text: String) -> Int32? {
    var parts = text.split(whereSeparator: { $0 == "-" || $0 == "/" || $0 == "." }).map(String.init)
    if parts.count == 1, text.utf8.count == 6 { parts = [String(text.prefix(4)), String(text.suffix(2))] }
    guard parts.count == 2, parts[0].utf8.count == 4, (1...2).contains(parts[1].utf8.count),
      parts.allSatisfy({ $0.utf8.allSatisfy { (0x30...0x39).contains($0) } }),
      let year = Int32(parts[0]), let number = Int32(parts[1]), year >= 1_900, (1...99).contains(number)
    else { return nil }
    return year * 100 + number
  }

  mutating func readExchange(_ node: Node?, _ reader: ConfigurationReader) -> ExchangeChecks? {
    guard let node else { return nil }
    let path = ["fx"]
    let nodes = reader.nodes(node, path)
    guard let baseNode = nodes["base"], let fileNode = nodes["rates"] ?? nodes["topic"],
      nodes["rates"] == nil || nodes["topic"] == nil
    else {
      reader.problem(node, "fx: 'base' and either 'rates' or 'topic' are needed")
      return nil
    }
    let code = reader.name(baseNode, path + ["base"], "")
    let base = Currency(code)
    if base == nil { reader.problem(baseNode, "fx.base: '\(code)' is no currency of ISO 4217") }
    // Also where the rates are wrong: there is a base currency, and that is said once.
    baseCurrency = base ?? .none
    var pivot: Currency?
    if let pivotNode = nodes["pivot"] {
      let code = reader.name(pivotNode, path + ["pivot"], "")
      pivot = Currency(code)
      if pivot == nil { reader.problem(pivotNode, "fx.pivot: '\(code)' is no currency of ISO 4217") }
      if pivot != nil, pivot == base {
        reader.problem(pivotNode, "fx.pivot: \(code) is the base currency; a pivot is another one")
        pivot = nil
      }
    }
    let age_ms = reader.duration_ms(nodes["maximum_age"], path + ["maximum_age"], 7 * millisecondsPerDay)
    if age_ms % millisecondsPerDay != 0 {
      reader.problem(nodes["maximum_age"], "fx.maximum_age: whole days are expected")
    }
    enum Rounding: String, CaseIterable { case halfEven = "half_even", halfUp = "half_up" }
    let rounding = reader.choice(nodes["rounding"], path + ["rounding"], Rounding.halfEven)
    let tolerance_u = reader.micros(nodes["tolerance"], path + ["tolerance"], 10_000)
    var written: [WrittenRate] = []
    if let topicNode = nodes["topic"] {
      let topic = readTableTopic(topicNode, path + ["topic"], reader)
      follow(TableSource(kind: .rates, name: TableSource.ratesName, topic: topic))
    }
    let file = nodes["rates"] == nil ? "" : reader.resolve(reader.name(fileNode, path + ["rates"], ""))
    do throws(TableFile.Fault) {
      if !file.isEmpty {
        written = try TableFile(path: file).rows(of: TableSource.columns(.rates), optional: []).map {
          WrittenRate(texts: $0.cells, place: "\(file):\($0.line)")
        }
      }
    } catch {
      reader.problem(fileNode, "fx.rates: \(error.message)")
      return nil
    }
    guard let rates = Self.rates(written, fileNode, reader), let base else { return nil }
    if let pivot, !file.isEmpty,
      !rates.contains(where: { $0.from == pivot && $0.to == base || $0.from == base && $0.to == pivot })
    {
      reader.problem(
        nodes["pivot"], "fx.pivot: \(file) has no rate between \(pivot.code) and the base currency \(base.code)")
    }
    do throws(ExchangeRates.Fault) {
      let made = try ExchangeRates(
        base: base, rates, pivot: pivot, rounding: rounding == .halfUp ? .halfUp : .halfEven,
        maximumAge_d: Int32(clamping: age_ms / millisecondsPerDay))
      return ExchangeChecks(rates: made, tolerance_u: tolerance_u)
    } catch {
      reader.problem(fileNode, "\(written[error.index].place): \(error.message)")
      return nil
    }
  }

  /// One rate as it is written, with where it stands.
  private struct WrittenRate {
    var texts: [String: String]
    /// `file:line` of a file, else what the rate is of.
    var place: String
  }

  /// nil, and problems, where one is none; the first faults say enough.
  private static func rates(
    _ written: [WrittenRate], _ node: Node?, _ reader: ConfigurationReader
  ) -> [ExchangeRates.Rate]? {
    var rates: [ExchangeRates.Rate] = []
    let problems = reader.problems.count
    for row in written {
      func problem(_ message: String) { reader.problem(node, "\(row.place): \(message)") }
      func text(_ name: String) -> String { row.texts[name] ?? "" }
      let (date, from, to) = (Self.date(text("date")), Currency(text("from")), Currency(text("to")))
      if date == nil { problem("'\(text("date"))' is no date such as 2026-01-31") }
      if from == nil { problem("'\(text("from"))' is no currency of ISO 4217") }
      if to == nil { problem("'\(text("to"))' is no currency of ISO 4217") }
      var number = text("rate")
      let rate = number.withUTF8 { try? DecimalText($0) }
      if rate == nil { problem("'\(number)' is no decimal number") }
      if reader.problems.count >= problems + 10 { break }
      guard let date, let from, let to, let rate else { continue }
      rates.append(.init(day: date, from: from, to: to, rate: rate))
    }
    return reader.problems.count == problems ? rates : nil
  }

  /// Rates of rows as versions keep them, with everything else as it was.
  static func exchange(
    _ rows: [[String: String]], _ old: ExchangeChecks, _ reader: ConfigurationReader
  ) -> ExchangeChecks? {
    let written = rows.map { row in
      WrittenRate(texts: row, place: ["date", "from", "to"].map { row[$0] ?? "" }.joined(separator: " "))
    }
    guard let rates = rates(written, nil, reader) else { return nil }
    var made = old
    do throws(ExchangeRates.Fault) {
      made.rates = try old.rates.replacing(rates)
    } catch {
      reader.problem(nil, "\(written[error.index].place): \(error.message)")
      return nil
    }
    return made
  }

  /// Calendar and rates of files are followed as tables are.
  mutating func followFinance(_ nodes: [String: Node], _ reader: ConfigurationReader) {
    guard followsTables else { return }
    for (kind, name, file) in [
      (TableSource.Kind.calendar, TableSource.calendarName, nodes["calendar"]?.mapping?["file"]),
      (.rates, TableSource.ratesName, nodes["fx"]?.mapping?["rates"]),
    ] {
      guard let path = file.flatMap({ reader.scalar($0, []) }), !path.isEmpty else { continue }
      let source = TableSource(kind: kind, name: name, path: reader.resolve(path))
      // Where it cannot be read, that has been said.
      guard let entries = try? source.entries() else { continue }
      follow(source, entries)
    }
  }

  mutating func follow(_ source: TableSource, _ entries: [String: String] = [:]) {
    tableSources.append(source)
    tableSources.sort { $0.name < $1.name }
    tableContents[source.name] = entries
  }

  /// What is wrong with one row of periods, rates or policies by itself; nil where nothing is.
  static func problem(_ kind: TableSource.Kind, _ cells: [String: String]) -> String? {
    let reader = ConfigurationReader(file: "", directory: "", environment: [:])
    switch kind {
    case .values: break
    case .calendar:
      let isHoliday = cells["period"] == TableSource.holiday
      let written = WrittenPeriod(texts: cells, node: nil, place: isHoliday ? "a holiday" : "a period")
      if isHoliday { _ = readHoliday(written, reader) } else { _ = readPeriod(written, reader) }
    case .rates: _ = rates([WrittenRate(texts: cells, place: "a rate")], nil, reader)
    case .policies: _ = policyChanges([WrittenPolicy(texts: cells, place: "a posting policy")], nil, reader)
    }
    return reader.problems.first?.message
  }
}

extension TableFile {
  /// The cells of the rows below the header by the names of their columns, each with the line on which it starts.
  /// Optional columns that are not there are empty.
  func rows(of names: [String], optional: [String]) throws(Fault) -> [(line: Int, cells: [String: String])] {
    guard let header = rows.first?.cells else { throw Fault(message: "\(path) is empty") }
    for name in header where !names.contains(name) && !optional.contains(name) {
      let hint = nearestName(name, in: names + optional).map { "; did you mean '\($0)'?" } ?? ""
      throw Fault(message: "\(path) has a column '\(name)', which is none of \(listed(names + optional))\(hint)")
    }
    for name in names where !header.contains(name) {
      throw Fault(message: "\(path) has no column '\(name)'", column: name)
    }
    var made: [(line: Int, cells: [String: String])] = []
    for (line, row) in rows.dropFirst() {
      guard row.count == header.count else {
        throw Fault(message: "\(path):\(line): \(row.count) columns, and the header has \(header.count)")
      }
      var cells = Dictionary(zip(header, row)) { first, _ in first }
      for name in optional where cells[name] == nil { cells[name] = "" }
      made.append((line, cells))
    }
    return made
  }

  private func listed(_ names: [String]) -> String { names.joined(separator: ", ") }
}
