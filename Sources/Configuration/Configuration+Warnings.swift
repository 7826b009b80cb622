import Decoding
import Domain
import Validation

extension Configuration {
  /// What the mappings of sources say that is allowed and does not do what it seems to; as sentences.
  public var mappingWarnings: [String] {
    deadTableEntries
      + sources.flatMap { source in
        let mapping = source.mapping
        var words: [String] = []
        if mapping.kind == .ledger, mapping.format.isEnvelope, mapping.fields[PostingField.lineID.rawValue] == nil {
          words.append(
            "source '\(source.name)': a ledger of change events (format \(mapping.format.rawValue)) without 'line_id': which "
              + "line an update changes or a deletion takes out is not known, and both go to dead letters")
        }
        let amounts = AmountComponent.allCases.map(\.name).filter { mapping.fields[$0] != nil }
        if mapping.kind == .orders, !amounts.isEmpty, mapping.fields[OrderField.currency.rawValue] == nil {
          words.append(
            "source '\(source.name)' maps \(amounts.joined(separator: ", ")) and no 'currency': every record with an amount "
              + "goes to dead letters ('currency: {constant: EUR}' gives all of them one)")
        }
        for (name, field) in mapping.namedFields {
          for lookup in field.lookups where lookup.table.isInline {
            for text in lookup.table.entries.keys.sorted() {
              guard let why = lookup.whyNever(text) else { continue }
              words.append("source '\(source.name)', field '\(name)': 'values' has '\(text)', and \(why)")
            }
          }
        }
        return words
      }
  }

  /// Entries of tables with a name that none of the fields ever finds which use the table; one sentence for each reason.
  private var deadTableEntries: [String] {
    let lookups = sources.flatMap(\.mapping.namedFields).flatMap(\.field.lookups).filter { !$0.table.isInline }
    let ruled = sources.flatMap(\.rules).compactMap { rule -> String? in
      guard case .inTable(_, let table, _) = rule.condition else { return nil }
      return table
    }
    let flows = (flows?.sources.values).map { $0.flatMap { [$0.dueDate, $0.terms] } } ?? []
    // What else looks into them sees texts of its own.
    let others = Set(ruled + flows.flatMap { $0?.tables ?? [] }.map(\.name))
    var words: [String] = []
    for (name, all) in Dictionary(grouping: lookups, by: \.table.name).sorted(by: { $0.key < $1.key })
    where !others.contains(name) {
      var dead: [(why: String, texts: [String])] = []
      for text in all[0].table.entries.keys.sorted() {
        let reasons = all.map { $0.whyNever(text) }
        guard let why = reasons[0], !reasons.contains(nil) else { continue }
        if let at = dead.firstIndex(where: { $0.why == why }) {
          dead[at].texts.append(text)
        } else {
          dead.append((why, [text]))
        }
      }
      for (why, texts) in dead {
        let more = texts.count > 1 ? " and \(texts.count - 1) more" : ""
        words.append("table '\(name)' has '\(texts[0])'\(more), and \(why)")
      }
    }
    return words
  }
}

extension MappingSpecification {
  /// Every field, with the name that problems call it by.
  var namedFields: [(name: String, field: FieldMapping)] {
    var all = fields.sorted { $0.key < $1.key }.map { (name: $0.key, field: $0.value) }
    switch amount {
    case nil: break
    case .signed(let field): all.append(("amount", field))
    case .debitCredit(let debit, let credit): all += [("amount.debit", debit), ("amount.credit", credit)]
    case .indicated(let value, let side): all += [("amount", value), ("amount.side", side)]
    }
    for (index, field) in dimensions.enumerated() {
      if let field { all.append(("dimension \(index + 1)", field)) }
    }
    return all
  }
}

/// A table that texts are looked up in, and whether their zeros are gone by then.
private struct Lookup {
  var table: ValueTable
  var isStripped: Bool

  /// Why no text that is looked up is ever this one; nil where one may be.
  func whyNever(_ text: String) -> String? {
    let bytes = Array(text.utf8)
    guard let first = bytes.first, let last = bytes.last else {
      return "a value that is empty is not looked up ('default' gives it a text)"
    }
    if first <= 0x20 || last <= 0x20 { return "spaces around a value are taken off before it is looked up" }
    if isStripped, first == UInt8(ascii: "0"), bytes.count > 1 {
      return "with 'strip_leading_zeros' no value begins with a zero when it is looked up"
    }
    return nil
  }
}

extension FieldMapping {
  fileprivate var lookups: [Lookup] {
    value.lookups + (table.map { [Lookup(table: $0, isStripped: stripsLeadingZeros)] } ?? [])
  }
}

extension ValueExpression {
  fileprivate var lookups: [Lookup] {
    switch self {
    case .path, .constant, .sum: []
    case .concatenation(let parts), .firstPresent(let parts): parts.flatMap(\.lookups)
    case .changed(let part, let change):
      part.lookups + (change.table.map { [Lookup(table: $0, isStripped: change.stripsLeadingZeros)] } ?? [])
    }
  }
}
