import Domain

/// Order keys longer than this are a fault of the sender; a break id must fit into a Kafka key with room to spare.
public let maximumKeyBytes = 1_024

private func orderEventKind(_ text: ByteView) -> OrderEventKind? {
  position(of: text, in: orderEventNames).map { OrderEventKind.allCases[$0] }
}

private func role(_ text: ByteView) -> AccountRole? {
  position(of: text, in: roleNames).map { AccountRole.allCases[$0] }
}

private func position(of text: ByteView, in names: UnsafeBufferPointer<ByteView>) -> Int? {
  var index = 0
  while index < names.count {
    if names[index].elementsEqual(text) { return index }
    index += 1
  }
  return nil
}

/// The words of the domain in the order of `allCases`; never freed.
nonisolated(unsafe) private let orderEventNames = words(OrderEventKind.allCases.map(\.name))
nonisolated(unsafe) private let roleNames = words(AccountRole.allCases.map(\.name))

private func words(_ names: [String]) -> UnsafeBufferPointer<ByteView> {
  let views = UnsafeMutableBufferPointer<ByteView>.allocate(capacity: names.count)
  for (index, name) in names.enumerated() {
    let bytes = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: name.utf8.count)
    _ = bytes.initialize(from: name.utf8)
    views.initializeElement(at: index, to: ByteView(UnsafeBufferPointer(bytes)))
  }
  return UnsafeBufferPointer(views)
}

/// Fields in the general way: any expression, table, default and format, and every fault.
extension Extractor {
  /// nil where the table says to skip the record.
  @inline(never)
  mutating func eventKind(_ index: Int) throws(DataFault) -> OrderEventKind? {
    var isSkipped = false
    let text = try fieldText(index, isSkipped: &isSkipped)
    if isSkipped { return nil }
    guard let kind = orderEventKind(text) else {
      throw DataFault(
        .schemaInvalid, field: "event", detail: text.isEmpty ? "is missing" : "'\(quoted(text))' is no order event")
    }
    return kind
  }

  /// nil where the table says to skip the record.
  @inline(never)
  mutating func accountRole(_ index: Int) throws(DataFault) -> AccountRole? {
    var isSkipped = false
    let text = try fieldText(index, isSkipped: &isSkipped)
    if isSkipped { return nil }
    guard let role = role(text) else {
      throw DataFault(
        .schemaInvalid, field: "role", detail: text.isEmpty ? "is missing" : "'\(quoted(text))' is no account role")
    }
    return role
  }

  mutating func period(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> Int32 {
    let text = try fieldText(index, isSkipped: &isSkipped)
    if text.isEmpty { return 0 }
    guard let period = parsePeriod(text) else {
      throw DataFault(.schemaInvalid, field: "period", detail: "'\(quoted(text))' is no accounting period")
    }
    return period
  }

  mutating func flag(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> Bool {
    let text = try fieldText(index, isSkipped: &isSkipped)
    switch text.string.lowercased() {
    case "true", "1", "x", "y", "yes": return true
    case "", "false", "0", "n", "no": return false
    default: throw DataFault(.schemaInvalid, field: "reversal", detail: "'\(quoted(text))' is neither true nor false")
    }
  }

  @inline(never)
  mutating func generalTime(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> ParsedTime? {
    let text = try fieldText(index, isSkipped: &isSkipped)
    if text.isEmpty { return nil }
    guard let time = plan.fields[index].time?.parse(text) else {
      throw DataFault(
        .schemaInvalid, field: plan.fields[index].name, detail: "'\(quoted(text))' is no such date or time")
    }
    return time
  }

  @inline(never)
  mutating func generalCurrency(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> Currency {
    let text = try fieldText(index, isSkipped: &isSkipped)
    if text.isEmpty { return .none }
    guard let currency = Currency(ascii: text.buffer) else {
      throw DataFault(.schemaInvalid, field: "currency", detail: "'\(quoted(text))' is no ISO 4217 currency")
    }
    return currency
  }

  @inline(never)
  mutating func generalInteger(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> Int64? {
    let text = try fieldText(index, isSkipped: &isSkipped)
    if text.isEmpty { return nil }
    guard let number = try? DecimalText(text.buffer), let value = try? number.units(decimals: 0) else {
      throw DataFault(.schemaInvalid, field: plan.fields[index].name, detail: "'\(quoted(text))' is no whole number")
    }
    return value
  }

  /// Whether a text that the expression led to stands in the record as a number, or is what lines add up to.
  private func isNumber(_ text: ByteView, of value: CompiledValue) -> Bool {
    if value.kind == .sum { return text.base == UnsafePointer(sumText) }
    guard value.kind != .slot else {
      let found = values[readsBefore ? value.slotBefore : value.slot]
      guard found.kind == .number, let base = text.base else { return false }
      return base >= found.view.base! && base < found.view.base! + found.view.count
    }
    return value.parts.contains { isNumber(text, of: $0) }
  }

  @inline(never)
  mutating func generalQuantity(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> Int64? {
    let text = try fieldText(index, isSkipped: &isSkipped)
    if text.isEmpty { return nil }
    do throws(DecimalFault) {
      let style = plan.fields[index].decimal
      let isNumber = style.readsTextOnly && isNumber(text, of: plan.fields[index].value)
      return try parseAmount(text, style, isNumber: isNumber).units(decimals: 6, rounding: .halfEven)
    } catch {
      throw DataFault(
        .nonDecimalAmount, field: plan.fields[index].name,
        detail: "'\(quoted(text))' \(error.words("quantity", "a quantity has, six"))")
    }
  }

  @inline(never)
  mutating func generalAmount(
    _ field: UnsafePointer<CompiledField>, _ currency: Currency, isSkipped: inout Bool
  ) throws(DataFault) -> Int64? {
    let text = try finish(field, isSkipped: &isSkipped)
    // A currency that its table skips leaves none.
    if text.isEmpty || isSkipped { return nil }
    guard currency != .none else {
      throw DataFault(.schemaInvalid, field: "currency", detail: "is missing, and there is an amount")
    }
    do throws(DecimalFault) {
      let style = field.pointee.decimal
      let isNumber = style.readsTextOnly && isNumber(text, of: field.pointee.value)
      let decimals = currency.exponent
      let value = try parseAmount(text, style, isNumber: isNumber, minorDecimals: decimals).units(
        decimals: decimals, rounding: field.pointee.decimal.rounding)
      // One bit of head room, so that signs can be turned and sides subtracted.
      guard value.magnitude < 1 << 62 else { throw DecimalFault.overflow }
      return value
    } catch {
      let style = field.pointee.decimal
      let isPointed = (style.isInMinorUnits || style.impliedDecimals != nil) && error == .notDecimal
      throw DataFault(
        .nonDecimalAmount, field: field.pointee.name,
        detail: "'\(quoted(text))' \(error.words("decimal amount", currency.code))"
          + (isPointed ? " without a separator, as implied_decimals says it is" : ""))
    }
  }
}

extension DecimalFault {
  /// - Parameter most: Whose decimals are the most that there may be.
  fileprivate func words(_ what: String, _ most: String) -> String {
    switch self {
    case .notDecimal: "is no \(what)"
    case .tooManyDecimals: "has more decimals than \(most)"
    case .overflow: "is too large"
    }
  }
}
