import Decoding
import Domain
import Validation

extension Configuration {
  /// What in the mappings and rules of sources an earlier version read in another way, as a piece of `matchingHash`: empty where
  /// it read them all the same.
  var readings: String {
    var text = ""
    func add(_ name: String, _ isUsed: (SourceSettings) -> Bool) {
      if sources.contains(where: isUsed) { text += "|" + name }
    }
    // Numbers of records were read by the separators of texts.
    add("numbers") { source in
      source.mapping.format != .csv && source.mapping.namedFields.contains { $0.field.decimal.readsTextOnly }
    }
    // Spaces that do not break stand between thousands too.
    add("spaces") { source in
      source.mapping.namedFields.contains { $0.field.decimal.groupingSeparator == UInt8(ascii: " ") }
    }
    add("days") { source in source.mapping.fields.values.contains { $0.timeZone != nil } }
    // What a name stands for is not in the settings, and governments change it.
    let clocks = sources.flatMap { $0.mapping.namedFields }.compactMap(\.field.timeZone).filter { !$0.isFixed }
    if !clocks.isEmpty { text += "|zones=\(Fingerprint(ofChanges: clocks).low)" }
    add("ids") { source in
      [OrderField.eventID.rawValue, PostingField.lineID.rawValue].contains {
        source.mapping.fields[$0]?.value.isComposed == true
      }
    }
    add("reversals") { source in source.mapping.fields[PostingField.reverses.rawValue]?.value.isComposed == true }
    add("scalars") { source in
      source.rules.contains {
        guard case .pattern(_, let pattern) = $0.condition else { return false }
        return pattern.isOfScalars
      }
    }
    add("sums") { source in source.rules.contains { !$0.condition.lines.isEmpty } }
    return text
  }
}

extension Fingerprint {
  /// Of how clocks change.
  fileprivate init(ofChanges clocks: [ZoneClock]) {
    let numbers = clocks.flatMap { clock in
      [Int64(clock.first_s)] + clock.steps.flatMap { [$0.from_s, Int64($0.offset_s)] }
    }
    var text = numbers.map { "\($0)" }.joined(separator: ",")
    self = text.withUTF8 { Fingerprint(ByteView($0)) }
  }
}

extension ValueExpression {
  fileprivate var isComposed: Bool {
    switch self {
    case .path, .constant, .sum: false
    case .concatenation: true
    case .firstPresent(let parts): parts.contains(where: \.isComposed)
    case .changed(let part, _): part.isComposed
    }
  }
}
