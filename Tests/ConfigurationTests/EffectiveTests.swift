import Decoding
import Domain
import Foundation
import Testing

@testable import Configuration

/// Value tables from files, and the effective configuration.
@Suite struct EffectiveTests {
  let tests = ConfigurationTests()

  @Test func textsSurviveTheWayThroughTheEffectiveConfiguration() throws {
    let odd = "a\"b\\c\td\u{1}\u{feff}é🧾: #x"
    let yaml =
      tests.base.replacingOccurrences(
        of: "values: {inv: invoiced}", with: "values: {inv: invoiced, \(doubleQuoted(odd)): paid}"
      )
      .replacingOccurrences(of: "gross: gross", with: "gross: gross, customer: {constant: \(doubleQuoted(odd))}")
      + "\ntables: {t: {entries: {'0012': \"true\", x: '${HOME:-none}'}, unlisted: {replace: ''}}}"
    let configuration = try tests.parse(yaml)
    let fields = configuration.sources[0].mapping.fields
    #expect(fields["customer"]?.value == .constant(odd))
    #expect(fields["event"]?.table?.entries == ["inv": "invoiced", odd: "paid"])
    #expect(try tests.parse(configuration.effectiveYAML()) == configuration)
  }

  @Test func defaultsAreFilledIn() throws {
    let configuration = try tests.parse(tests.base + "\npolicy: {invoiced: {receivable: +gross}, paid: {}}")
    let lines = configuration.effectiveYAML().split(separator: "\n").map(String.init)
    for line in [
      "  window: 3d", "  memory: 4096MiB", "  replace_defaults: true", "    receivable: \"+gross\"", "  credited:",
      "    returns: \"+net\"",
    ] {
      #expect(lines.contains(line), "\(line)")
    }
    #expect(!lines.contains("  paid:"))
    let again = try tests.parse(configuration.effectiveYAML())
    #expect(again == configuration && again.effectiveYAML() == configuration.effectiveYAML())
  }

  /// Each key of the reference is told apart from a slip of the keyboard in it.
  @Test func everyFieldKeyOfTheReferenceIsRead() {
    for key in KeyReference.ofFields.map(\.path) where !key.contains(".") {
      let found = tests.problems(
        tests.base.replacingOccurrences(of: "gross: gross", with: "gross: {\(key)_: x, path: g}"))
      #expect(
        found.count == 1 && found[0].contains("unknown key '\(key)_'") && found[0].contains("'\(key)'?"), "\(found)")
      let known = tests.problems(
        tests.base.replacingOccurrences(of: "gross: gross", with: "gross: {\(key): [[x]]}"))
      #expect(!known.isEmpty && !known.contains { $0.contains("unknown key '\(key)'") }, "\(key): \(known)")
    }
    for key in KeyReference.fieldKeys(below: "decimal") {
      let known = tests.problems(
        tests.base.replacingOccurrences(of: "gross: gross", with: "gross: {path: g, decimal: {\(key): [x]}}"))
      #expect(!known.isEmpty && !known.contains { $0.contains("unknown key") }, "\(key): \(known)")
    }
  }

  private func table(_ text: String, key: String? = nil, value: String? = nil) throws -> [String: String] {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
    defer { try? FileManager.default.removeItem(atPath: path) }
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    return try TableFile(path: path).entries(key: key, value: value)
  }

  @Test func tableFiles() throws {
    #expect(
      try table(
        "\u{feff}account, role ,\"long name\"\r\n1200,receivable,\"Trade, domestic\"\r\n\r\n4000,revenue,\"a\nb\"")
        == ["1200": "receivable", "4000": "revenue"])
    #expect(
      try table("k,v,n\n1,x,\"Trade, \"\"A\"\"\"\n2,y, \"q\" \n", key: "n", value: "k")
        == ["Trade, \"A\"": "1", "q": "2"])
    #expect(try table("k,v\n1,\n") == ["1": ""])
  }

  @Test func wrongTableFiles() {
    func message(_ text: String, key: String? = nil) -> String {
      do { return "\(try table(text, key: key))" } catch let fault as TableFile.Fault {
        return fault.message.replacing(/^.*?(:\d|$| )/) { String($0.1) }
      } catch { return "\(error)" }
    }
    #expect(message("k,v\n1,\"a\nb\"\n2\n") == ":4: too few columns")
    #expect(message("k,v\n1,a\n1,b\n") == ":3: '1' comes twice with different values")
    #expect(message("k,v\n1,\"a\n") == ":2: a quote is not closed")
    #expect(message("k,v\n1,\"a\"b\n") == ":2: text after a closing quote")
    #expect(message("k\n1\n") == " has no header of two columns")
    #expect(message("") == " has no header of two columns")
    #expect(message("k,v\n") == " has no rows below its header")
    #expect(message("account,v\n1,2\n", key: "acount") == " has no column 'acount'; did you mean 'account'?")
  }

  @Test func aWrongColumnIsShownWhereItIsNamed() throws {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try Data("account,role\n1200,receivable\n".utf8).write(to: URL(fileURLWithPath: directory + "/chart.csv"))
    let yaml = tests.base + "\ntables:\n  chart:\n    file: chart.csv\n    key: account\n    value: rle\n"
    do {
      _ = try Configuration.parse(yaml: yaml, file: "t.yaml", directory: directory, environment: [:])
      Issue.record("a column that is not there was found")
    } catch let error as ConfigurationError {
      #expect(error.problems.map { [$0.line, $0.column] } == [[14, 12]])
      #expect(error.description.hasSuffix("has no column 'rle'; did you mean 'role'?"))
    }
  }

  @Test func sizesAndDurationsArePrintedAsTheyAreRead() {
    for ms in [Int64(0), 1, 999, 1_000, 61_000, 3_600_000, 86_400_000, 604_800_000, 90_061_001] {
      #expect(ConfigurationReader.duration_ms(ConfigurationReader.durationText(ms)) == ms)
    }
    for (text, bytes) in [("4MiB", 4 << 20), ("2GiB", 2 << 30), ("10kB", 10_000), ("3MB", 3_000_000), ("7", 7)] {
      #expect(ConfigurationReader.size(text) == bytes)
    }
    #expect(ConfigurationReader.size("9999999999GiB") == nil)
    #expect(ConfigurationReader.microsText(50_000) == "\"0.05\"" && ConfigurationReader.microsText(0) == "\"0\"")
    #expect(ConfigurationReader.microsText(1_000_000_000) == "\"1000\"")
  }

  @Test func tolerancesAreExactDecimals() throws {
    // 0.1 + 0.2 in binary floating point is not 0.3; 9007199254740.993 has no nearest double at six places.
    let configuration = try tests.parse(
      tests.base + "\nmatching: {tolerances: {default: {absolute: 0.3}, tax: {absolute: 9007199254740.993}}}")
    #expect(configuration.policy.tolerances[Int(AccountRole.tax.rawValue)].under_u == 9_007_199_254_740_993_000)
    #expect(configuration.policy.tolerances[Int(AccountRole.cash.rawValue)].over_u == 300_000)
  }

  @Test func actionsAreNotReadUnlessEnabled() throws {
    let plain = try tests.parse(tests.base)
    #expect(!plain.takesActions && plain.inputTopics == plain.sources.map(\.topic))
    let off = try tests.parse(tests.base + "\nactions: {enabled: false}")
    #expect(!off.takesActions && off.matchingHash == plain.matchingHash)
    let on = try tests.parse(tests.base + "\nactions: {enabled: true}\ntopics: {actions: people}")
    #expect(on.takesActions && on.inputTopics == plain.inputTopics + ["people"])
    let apart = try tests.parse(
      tests.base.replacing("sources:", with: "dimensions: [region, rep]\nsources:")
        + "\naggregates: {enabled: true, values: {rep: 9}}")
    #expect(apart.aggregates?.limits.values(of: 0) == 1_000 && apart.aggregates?.limits.values(of: 1) == 9)
    #expect(try tests.parse(apart.effectiveYAML()) == apart)
    #expect(
      tests.problems(tests.base + "\naggregates: {enabled: true, values: {rep: 9}}").first?.contains(
        "unknown dimension 'rep'") == true)
    // They change what an epoch puts out.
    #expect(on.matchingHash != plain.matchingHash && on != plain)
    #expect(try tests.parse(on.effectiveYAML()) == on)
    let wrong = #expect(throws: ConfigurationError.self) { try tests.parse(tests.base + "\nactions: {enabld: true}") }
    #expect(wrong?.description.contains("did you mean 'enabled'?") == true)
  }

  /// Under another hash a replay does not compare, and decodes by the tables of now: it changes where what a task makes of
  /// its records does, and never by an oversight. A setting that is new counts where it is used alone.
  @Test func theHashOfWhatIsMatchedIsPinned() throws {
    let plain = try tests.parse(tests.base)
    #expect(plain.matchingHash == 15_849_639_285_944_102_023)
    // Mappings that are read in another way than by earlier versions, and some like them that are not.
    func readings(_ text: String, _ other: String) throws -> String {
      #expect(tests.base.contains(text))
      let configuration = try tests.parse(tests.base.replacingOccurrences(of: text, with: other))
      if !configuration.readings.isEmpty {
        var same = configuration
        same.sources = plain.sources
        #expect(same.matchingHash != configuration.matchingHash)
      }
      return configuration.readings
    }
    let gross = "gross: gross"
    let rule = "kind: orders\n    rules: [{field: order, pattern: '"
    for (text, other, expected) in [
      (gross, "gross: {path: g, decimal: {separator: ','}}", "|numbers"),
      ("role: {", "reverses: {concat: [a, b]}, role: {", "|reversals"), ("role: {", "reverses: a, role: {", ""),
      (gross, "gross: {path: g, decimal: {rounding: half_up}}", ""), (gross, "gross: gross, event_id: i", ""),
      (gross, "gross: gross, event_id: {concat: [a, b]}", "|ids"),
      (gross, "gross: gross, customer: {concat: [a, b]}", ""),
      (gross, "gross: gross, document_date: {path: d, time_zone: Z}", "|days"),
      (gross, "gross: gross, document_date: {path: d, time_zone: Asia/Kolkata}", "|days"),
      ("kind: orders", rule + "a.'}]", "|scalars"), ("kind: orders", rule + #"a\.[b-d]'}]"#, ""),
      ("kind: orders", "kind: orders\n    rules: [{check: 'sum(l[].a) = gross'}]", "|sums"), (gross, gross, ""),
    ] {
      #expect(try readings(text, other) == expected, "\(other)")
    }
    // A name is what its clocks do.
    let zone = "gross: gross, document_date: {path: d, time_zone: "
    #expect(try readings(gross, zone + "Europe/Berlin}").hasPrefix("|days|zones="))
    #expect(try readings(gross, zone + "Europe/Berlin}") != readings(gross, zone + "Europe/Athens}"))
    // As when age did not count unless it was given.
    let ageless = try tests.parse(tests.base + "\nmatching: {severity: {age: none}}")
    #expect(ageless.matchingHash == 586_492_259_366_125_551)
    #expect(
      try tests.parse(tests.base + "\nmatching: {quantities: {ordered: false}}").matchingHash == plain.matchingHash)
    #expect(
      try tests.parse(tests.base + "\nmatching: {quantities: {ordered: true}}").matchingHash != plain.matchingHash)
    #expect(
      try tests.parse(tests.base + "\nmatching: {quantities: {lines: false}}").matchingHash == plain.matchingHash)
    #expect(try tests.parse(tests.base + "\nmatching: {quantities: {lines: true}}").matchingHash != plain.matchingHash)
    let more = try tests.parse(
      tests.base + """

        matching: {quantities: {compare: true}, revenue_schedules: {basis: day}, severity: {age: [24h, 72h, 120h]}}
        aggregates: {enabled: true}
        quality: {enabled: true}
        """)
    #expect(more.matchingHash == 9_912_273_478_710_781_375)
  }

  /// Which dimensions postings have from their orders: all, unless it is said.
  @Test func dimensionsAreInheritedAsConfigured() throws {
    let base = tests.base.replacing("sources:", with: "dimensions: [region, rep, channel]\nsources:")
    func parse(_ inherit: String) throws -> Configuration {
      let made = try tests.parse(base + "\naggregates: {enabled: true\(inherit)}")
      #expect(try tests.parse(made.effectiveYAML()) == made)
      return made
    }
    func mask(_ configuration: Configuration) -> UInt8? {
      configuration.aggregates?.inheritedDimensions(of: configuration.dimensions.count)
    }
    let plain = try parse("")
    #expect(mask(plain) == 7 && plain.effectiveYAML().contains("inherit: all"))
    #expect(try mask(parse(", inherit: none")) == 0)
    #expect(try mask(parse(", inherit: []")) == 0)
    #expect(try mask(parse(", inherit: [channel, region]")) == 5)
    // It decides what the cells come to. Where there is nothing to have, all is as before.
    let hashes = try ["", ", inherit: none", ", inherit: [rep]"].map { try parse($0).matchingHash }
    #expect(Set(hashes).count == 3)
    #expect(try parse(", inherit: all").matchingHash == hashes[0])
    #expect(try parse(", inherit: []").matchingHash == hashes[1])
    let on = try tests.parse(tests.base + "\naggregates: {enabled: true}")
    #expect(
      try tests.parse(tests.base + "\naggregates: {enabled: true, inherit: none}").matchingHash == on.matchingHash)
    func problem(_ inherit: String) -> String {
      tests.problems(base + "\naggregates: {enabled: true, \(inherit)}").first ?? ""
    }
    #expect(
      problem("inherit: [regon]").contains("aggregates.inherit: unknown dimension 'regon'; did you mean 'region'?"))
    #expect(problem("inherit: al").contains("aggregates.inherit: 'al' is not one of all, none"))
    #expect(problem("inherit: [rep, rep]").contains("'rep' is named twice"))
  }

  @Test func aggregatesAreOffUnlessEnabled() throws {
    let plain = try tests.parse(tests.base)
    #expect(plain.aggregates == nil && plain.revenueTopic == "\(plain.prefix).revenue")
    let off = try tests.parse(tests.base + "\naggregates: {enabled: false}")
    #expect(off.aggregates == nil && off.matchingHash == plain.matchingHash)
    let on = try tests.parse(tests.base + "\naggregates: {enabled: true, interval: 5s, values: 7, cells: 99}")
    let counting = try tests.parse(
      tests.base + "\naggregates: {enabled: true, interval: 5s, values: 7, cells: 99, quantities: true}")
    #expect(on.aggregates?.countsQuantities == false && counting.aggregates?.countsQuantities == true)
    #expect(counting.matchingHash != on.matchingHash)
    #expect(on.aggregates?.interval_ms == 5_000 && on.aggregates?.limits == .init(valuesPerDimension: 7, cells: 99))
    // They change what an epoch puts out.
    #expect(on.matchingHash != plain.matchingHash)
    #expect(try tests.parse(on.effectiveYAML()) == on)
    let wrong = #expect(throws: ConfigurationError.self) {
      try tests.parse(tests.base + "\naggregates: {interval: 5s}")
    }
    #expect(wrong?.description.contains("aggregates are not enabled") == true)
  }
}
