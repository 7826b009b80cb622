import Domain

/// When an invoice is due, and what is given for paying early.
///
/// Read from what stands on invoices: `NET30`, `2/10NET30` (2 % when paid within 10 days, else 30 days net), `EOM+15`
/// (15 days after the end of the month), `COD`. Case, blanks and commas do not matter, and `n30`, `n/30` are `NET30`.
public struct PaymentTerms: Hashable, Sendable {
  /// Days after the baseline date.
  public var net_d: Int32
  /// Days count from the end of the baseline's month.
  public var fromEndOfMonth: Bool
  /// Discount for paying within `discount_d`, in millionths (2 % is 20,000); 0 for none.
  public var discount_u: Int64 = 0
  public var discount_d: Int32 = 0

  /// Ten years: longer terms are a slip of the keyboard.
  public static let maximumDays: Int32 = 3_650

  public init(net_d: Int32, fromEndOfMonth: Bool = false, discount_u: Int64 = 0, discount_d: Int32 = 0) {
    self.net_d = net_d
    self.fromEndOfMonth = fromEndOfMonth
    self.discount_u = discount_u
    self.discount_d = discount_d
  }

  /// nil where the text is none of the forms.
  public init?(_ text: String) {
    var rest = text.uppercased().filter { !$0.isWhitespace && $0 != "," }[...]
    guard !rest.isEmpty else { return nil }
    var terms = PaymentTerms(net_d: 0)
    func days(_ digits: Substring) -> Int32? {
      guard !digits.isEmpty, digits.allSatisfy({ $0.isASCII && $0.isNumber }), let value = Int32(digits),
        value <= PaymentTerms.maximumDays
      else { return nil }
      return value
    }
    if ["COD", "CASH", "IMMEDIATE", "DUEONRECEIPT"].contains(String(rest)) {
      self = terms
      return
    }
    // The discount: percent / days, before the net part.
    if let slash = rest.firstIndex(of: "/"), rest.first?.isNumber == true {
      let percent = rest[..<slash]
      let tail = rest[rest.index(after: slash)...]
      let digits = tail.prefix { $0.isASCII && $0.isNumber }
      guard let within = days(digits), let rate = PaymentTerms.millionths(ofPercent: percent), rate < 1_000_000 else {
        return nil
      }
      (terms.discount_u, terms.discount_d) = (rate, within)
      rest = tail[digits.endIndex...]
    }
    if rest.hasPrefix("EOM") {
      terms.fromEndOfMonth = true
      rest = rest.dropFirst(3)
      if !rest.isEmpty {
        guard rest.hasPrefix("+"), let value = days(rest.dropFirst()) else { return nil }
        terms.net_d = value
      }
    } else {
      for prefix in ["NET/", "NET", "N/", "N"] where rest.hasPrefix(prefix) {
        rest = rest.dropFirst(prefix.count)
        if rest.hasSuffix("EOM") {
          terms.fromEndOfMonth = true
          rest = rest.dropLast(3)
        }
        guard let value = days(rest) else { return nil }
        terms.net_d = value
        rest = ""
        break
      }
      guard rest.isEmpty else { return nil }
    }
    guard terms.discount_u == 0 || terms.fromEndOfMonth || terms.discount_d <= terms.net_d else { return nil }
    self = terms
  }

  private static func millionths(ofPercent text: Substring) -> Int64? {
    var text = String(text.hasSuffix("%") ? text.dropLast() : text)
    let number = text.withUTF8 { try? DecimalText($0) }
    guard let number, number.mantissa > 0 else { return nil }
    return try? number.units(decimals: 4)
  }

  /// The day on which an invoice is due.
  public func dueDay(from baseline_d: Int32) -> Int32 {
    guard fromEndOfMonth else { return baseline_d + net_d }
    let (year, month, _) = civilFromDays(Int(baseline_d))
    return Int32(daysFromCivil(year: year, month: month, day: daysInMonth(year: year, month: month))) + net_d
  }

  /// The last day on which the discount may be taken; nil without one.
  public func discountDay(from baseline_d: Int32) -> Int32? { discount_u > 0 ? baseline_d + discount_d : nil }

  /// The discount on an amount, half to even.
  public func discount(on amount: Int64) -> Int64 {
    Int64(dividedHalfEven(Int128(amount) * Int128(discount_u), 1_000_000))
  }
}
