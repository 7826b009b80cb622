import Decoding

extension Configuration {
  /// What the mappings of sources say that is allowed and does not do what it seems to; as sentences.
  public var mappingWarnings: [String] {
    sources.flatMap { source in
      let mapping = source.mapping
      var words: [String] = []
      if mapping.kind == .ledger, mapping.format.isEnvelope, mapping.fields[PostingField.lineID.rawValue] == nil {
        words.append(
          "source '\(source.name)': a ledger of change events (format \(mapping.format.rawValue)) without 'line_id': which "
            + "line an update changes or a deletion takes out is not known, and both go to dead letters")
      }
      for (name, field) in mapping.namedFields {
        for entry in field.deadEntries {
          words.append("source '\(source.name)', field '\(name)': 'values' has '\(entry.text)', and \(entry.why)")
        }
      }
      return words
    }
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

extension FieldMapping {
  /// Entries of `values` that no text of the field ever is. A table with a name may be one of other fields too.
  fileprivate var deadEntries: [(text: String, why: String)] {
    guard let table, table.isInline else { return [] }
    return table.entries.keys.sorted().compactMap { text in
      let bytes = Array(text.utf8)
      guard let first = bytes.first, let last = bytes.last else {
        return (text, "a value that is empty is not looked up ('default' gives it a text)")
      }
      if first <= 0x20 || last <= 0x20 { return (text, "spaces around a value are taken off before it is looked up") }
      if stripsLeadingZeros, first == UInt8(ascii: "0"), bytes.count > 1 {
        return (text, "with 'strip_leading_zeros' no value begins with a zero when it is looked up")
      }
      return nil
    }
  }
}
