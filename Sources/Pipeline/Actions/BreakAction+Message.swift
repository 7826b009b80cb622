import Domain
import Foundation
import Kafka

extension BreakAction {
  /// The most bytes that a text of an action may have which the matcher keeps: ids, names, reason codes.
  static let maximumTextBytes = 1_024

  /// Reads an action as its topic tells it; nil where it does not bear on a break's state (an assignment, a comment, a
  /// write-off that names no journal).
  init?(message: ConsumedMessage) throws(DataFault) {
    func fault(_ field: String, _ detail: String) -> DataFault {
      DataFault(.schemaInvalid, field: field, detail: detail)
    }
    guard let value = message.value else { throw fault("", "an action without a value") }
    let action: Action
    do {
      action = try JSONDecoder().decode(Action.self, from: Data(value))
    } catch let error as DecodingError {
      let (path, detail) = BreakAction.told(error)
      throw fault(path, detail)
    } catch {
      throw fault("", "an action that cannot be read")
    }
    guard let kind = action.kind.matched, kind != .writeOff || action.lines != nil else { return nil }
    for (name, text) in [
      ("id", action.id), ("order", action.order), ("actor", action.actor), ("reason_code", action.reasonCode ?? ""),
      ("of", action.of ?? ""),
    ] where text.utf8.count > BreakAction.maximumTextBytes {
      throw fault(name, "\(text.utf8.count) bytes; an action has at most \(BreakAction.maximumTextBytes) there")
    }
    for (name, text) in [("id", action.id), ("order", action.order), ("actor", action.actor)] where text.isEmpty {
      throw fault(name, "is empty")
    }
    if [.approve, .reject].contains(kind), action.of?.isEmpty != false { throw fault("of", "names no action") }
    guard let at_ms = parseTimestamp_ms(action.at) else { throw fault("at", "no time as `2026-01-31T12:00:00.000Z`") }
    guard
      let made = BreakAction(
        id: action.id, kind: kind, breakID: action.breakID, order: action.order, actor: action.actor, at_ms: at_ms,
        basis: action.basis, needsApproval: action.needsApproval, reasonCode: action.reasonCode ?? "",
        of: action.of ?? "")
    else {
      throw fault("break", "no id of a break of the order '\(action.order.prefix(DataFault.maximumQuotedBytes))'")
    }
    self = made
    if kind == .writeOff {
      guard let written = BreakAction.writtenOff(action) else { throw fault("lines", "no amount in write_off") }
      writtenOff = written
    }
  }

  private static func writtenOff(_ action: Action) -> WrittenOff? {
    guard let currency = action.currency.flatMap({ Currency($0) }),
      var text = action.lines?.first(where: { $0.role == AccountRole.writeOff.name })?.amount
    else { return nil }
    let amount = text.withUTF8 { try? DecimalText($0).units(decimals: currency.exponent) }
    return amount.map { WrittenOff(currency: currency, amount: $0) }
  }

  private static func told(_ error: DecodingError) -> (field: String, detail: String) {
    func path(_ context: DecodingError.Context) -> String {
      context.codingPath.map(\.stringValue).joined(separator: ".")
    }
    switch error {
    case .keyNotFound(let key, _): return (key.stringValue, "is missing")
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
      return (path(context), context.codingPath.isEmpty ? "no JSON object" : context.debugDescription)
    @unknown default: return ("", "an action that cannot be read")
    }
  }
}
