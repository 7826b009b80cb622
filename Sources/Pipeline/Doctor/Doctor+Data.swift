import Configuration
import Domain
import Foundation
import Kafka
import SchemaRegistry

/// What a reconciliation reads beside its topics: schemas, tables, the calendar, rates.
extension Doctor {
  func data(now_ms: Int64) -> [DoctorFinding] {
    let today = day(ofMilliseconds: now_ms)
    return registry() + tables(now_ms: now_ms) + calendar(today: today) + rates(today: today)
  }

  // MARK: - The schema registry

  private func registry() -> [DoctorFinding] {
    guard let settings = configuration.schemaRegistry else { return [] }
    let registry = SchemaRegistry.shared(settings)
    var findings: [DoctorFinding] = []
    do throws(SchemaRegistryError) {
      for source in configuration.sources where source.mapping.format.isAvro {
        findings.append(try written(source, registry))
      }
      for output in configuration.writtenOutputs where configuration.outputs.format(output) == .avro {
        findings.append(try registered(output, registry))
      }
    } catch {
      return findings + [
        DoctorFinding(
          .failed, "registry", settings.url, error.description,
          advice:
            "Have the registry answer here, and look at schema_registry: until then Avro records are held back, and "
            + "the daemon does not start with Avro outputs.")
      ]
    }
    return [DoctorFinding(.ok, "registry", settings.url, "reached")] + findings
  }

  private func written(
    _ source: SourceSettings, _ registry: SchemaRegistry
  ) throws(SchemaRegistryError) -> DoctorFinding {
    let subject = OutputEncoding.subject(source.originalTopic)
    if let latest = try registry.latest(subject: subject) {
      return DoctorFinding(
        .ok, "registry", subject, "version \(latest.version), schema \(latest.id), of source \(source.name)")
    }
    return DoctorFinding(
      .warning, "registry", subject, "there is no such subject, which source \(source.name) would have by its topic",
      advice: "Where its producers name subjects otherwise this is nothing: records carry the id of their schema. Else "
        + "nobody has written to the topic in Avro yet.")
  }

  private func registered(
    _ output: Output, _ registry: SchemaRegistry
  ) throws(SchemaRegistryError) -> DoctorFinding {
    let (subject, schema) = (OutputEncoding.subject(configuration.topic(output)), output.schema)
    if let id = try registry.id(subject: subject, schema: schema.avro, registers: false) {
      return DoctorFinding(.ok, "registry", subject, "has the schema of \(output.rawValue), \(id)")
    }
    let file = "config/schemas/avro/\(schema.name).avsc"
    guard configuration.outputs.registers else {
      return DoctorFinding(
        .failed, "registry", subject, "does not have the schema of \(output.rawValue)",
        advice: "Register \(file) there, or set outputs.auto_register: without it the daemon does not start.")
    }
    if try registry.takes(subject: subject, schema: schema.avro) == false {
      return DoctorFinding(
        .failed, "registry", subject, "the registry would refuse the schema of \(output.rawValue) as incompatible",
        advice:
          "Somebody else's schema is under this subject, or its compatibility asks for more than that fields may be "
          + "added: choose another topic, or another compatibility for the subject.")
    }
    return DoctorFinding(.ok, "registry", subject, "gets the schema of \(output.rawValue) at the next start")
  }

  // MARK: - Files

  private func tables(now_ms: Int64) -> [DoctorFinding] {
    let entries = configuration.tableEntries
    // Calendar and rates of files are looked at by themselves.
    return configuration.tableSources.filter { $0.kind == .values || $0.kind == .policies || $0.topic != nil }.map {
      source in
      if let topic = source.topic {
        return DoctorFinding(
          .ok, "data", source.settingName, "rows of the topic \(topic), which the daemon reads before the first record")
      }
      let count = entries[source.name]?.count ?? 0
      let changed = (try? FileManager.default.attributesOfItem(atPath: source.path))?[.modificationDate] as? Date
      let age = changed.map { ", changed \(DoctorText.duration(now_ms - Int64($0.timeIntervalSince1970 * 1_000))) ago" }
      return DoctorFinding(
        .ok, "data", source.settingName,
        "\(count) \(count == 1 ? "entry" : "entries") of \(source.path)\(age ?? "")")
    }
  }

  /// Days before its end at which a calendar, or a rate, is worth a word.
  private static let warning_d: Int32 = 14

  private func calendar(today: Int32) -> [DoctorFinding] {
    guard let periods = configuration.policy.checks?.calendar?.periods, let last = periods.last else { return [] }
    let found = "\(DoctorText.count(periods.count, "period")), \(periods[0].text) to \(last.text), "
    let advice = "Add the periods to come: a day outside all of them has no period, for CUTOFF and the aggregates."
    if last.last_d < today {
      return [
        DoctorFinding(.failed, "data", "calendar", found + "ended on \(formatDate(last.last_d))", advice: advice)
      ]
    }
    let end = "the last ends on \(formatDate(last.last_d))"
    if last.last_d - today < Doctor.warning_d {
      return [DoctorFinding(.warning, "data", "calendar", found + end, advice: advice)]
    }
    return [DoctorFinding(.ok, "data", "calendar", found + end)]
  }

  /// Whether the periods have the days that they had when sums of them were made: the daemon refuses others at its start.
  func periods(_ probe: any ClusterProbe, _ cluster: ClusterDescription) -> [DoctorFinding] {
    let topic = configuration.periodsTopic
    // Rows of a topic are not read here: the daemon compares them, and says the same.
    guard configuration.sumsByPeriod, cluster.topics[topic] != nil,
      !configuration.topicTables.contains(where: { $0.kind == .calendar })
    else { return [] }
    func failed(_ subject: String, _ found: String, _ advice: String) -> DoctorFinding {
      DoctorFinding(.failed, "data", subject, found, advice: advice)
    }
    let known: KnownPeriods
    do throws(KafkaError) {
      let records = try probe.records(TopicPartition(topic, 0), from: 0, timeout_ms: timeout_ms)
      do throws(TopicCheckError) {
        known = try KnownPeriods(topic, records)
      } catch {
        return [failed(topic, "\(error)", "Somebody else writes there: give the topic another name.")]
      }
    } catch {
      return [
        failed(
          topic, "the periods that sums were made of cannot be read: \(error)",
          KafkaTrouble.advice(error, configuration))
      ]
    }
    if let moved = known.moved(configuration.policy.checks?.calendar) {
      return [
        failed(
          "calendar", moved.found,
          KnownPeriods.advice + ". Until then the daemon does not start, and nothing is changed.")
      ]
    }
    guard !known.isEmpty else { return [] }
    let what = known.count.map { DoctorText.count($0, "period") + " of which" } ?? "the calendar months of which"
    return [DoctorFinding(.ok, "data", topic, "\(what) there are sums have the days that they had then")]
  }

  private func rates(today: Int32) -> [DoctorFinding] {
    // Those of a topic are not read here.
    guard let rates = configuration.policy.checks?.exchange?.rates,
      !configuration.topicTables.contains(where: { $0.kind == .rates })
    else { return [] }
    let advice =
      "Add the rates of the days since, or lengthen fx.maximum_age: amounts of these currencies are FX_RATE_MISSING, and "
      + "are not in the base currency's view."
    let last = rates.lastDays
    guard !last.isEmpty else {
      return [
        DoctorFinding(
          .failed, "data", "fx.rates", "no rate to \(rates.base.code) at all",
          advice: "Amounts of every other currency are FX_RATE_MISSING: fill the file.")
      ]
    }
    let old = last.filter { $0.last_d < today }
    guard old.isEmpty else {
      let names = old.prefix(8).map { "\($0.currency.code) until \(formatDate($0.last_d))" }.joined(separator: ", ")
      let more = old.count > 8 ? " and \(old.count - 8) more" : ""
      return [
        DoctorFinding(
          old.count == last.count ? .failed : .warning, "data", "fx.rates",
          "no rate to \(rates.base.code) stands today of \(names)\(more)", advice: advice)
      ]
    }
    let first = last.map(\.last_d).min() ?? today
    return [
      DoctorFinding(
        .ok, "data", "fx.rates",
        "rates of \(last.count == 1 ? "1 currency" : "\(last.count) currencies") to \(rates.base.code), "
          + "standing until \(formatDate(first)) at least")
    ]
  }
}

extension Configuration {
  /// The outputs that the daemon and `tieout flows` write under it.
  var writtenOutputs: [Output] {
    var written: [Output] = [.breaks, .deadLetters, .totals]
    if aggregates != nil { written.append(.revenue) }
    if quality != nil { written.append(.quality) }
    if flows != nil { written += [.cashflow, .receivables] }
    if variance != nil { written.append(.variance) }
    return written
  }
}
