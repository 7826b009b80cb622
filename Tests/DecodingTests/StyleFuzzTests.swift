import Domain
import Testing

@testable import Decoding

/// How amounts are written, field by field: what reads ordinary numbers at once against the general way, and both against
/// what the style says. A number that looks ordinary is not, where the style says otherwise.
@Suite struct StyleFuzzTests {
  static let styles: [(name: String, change: @Sendable (inout DecimalStyle) -> Void)] = [
    ("ordinary", { _ in }),
    ("implied", { $0.impliedDecimals = 2 }),
    ("implied by three", { $0.impliedDecimals = 3 }),
    ("in minor units", { $0.isInMinorUnits = true }),
    ("negated", { $0.negate = true }),
    ("base64", { $0.base64Scale = 2 }),
    (
      "German",
      {
        $0.decimalSeparator = UInt8(ascii: ",")
        $0.groupingSeparator = UInt8(ascii: ".")
      }
    ),
    ("comma", { $0.decimalSeparator = UInt8(ascii: ",") }),
    ("grouped", { $0.groupingSeparator = UInt8(ascii: ",") }),
    ("brackets", { $0.allowsParentheses = true }),
    ("trailing minus", { $0.allowsTrailingMinus = true }),
    ("rounded", { $0.rounding = .halfEven }),
  ]

  private func text(_ random: inout FuzzTests.Generator) -> String {
    let texts = [
      "12345", "5.00", "-5.00", "1234", "1.234", "1.00", ".5", "0.50", "1,234.56", "1.234,56", "1,5", "(7.50)", "7.50-",
      "-7.50", "ASw=", "/w==", "0", "1000000", "99999.99", "123456789012.34", "1.005", "1e3", "-0", "12", "AAAA", "100",
    ]
    let made = random.pick(texts)
    // As a number, where it is one.
    let isNumber = made.allSatisfy { $0.isNumber || $0 == "." || $0 == "-" } && made.first != "." && made.last != "-"
    return isNumber && random.below(2) == 0 ? made : "\"\(made)\""
  }

  /// What both ways make of a record, which must be the same.
  private func agree(
    _ record: String, _ quick: (ByteView) throws(DataFault) -> DecodeOutcome,
    _ general: (ByteView) throws(DataFault) -> DecodeOutcome
  ) {
    record.withView { payload in
      let first = LayoutFuzzTests().outcome { () throws(DataFault) in try quick(payload) }
      let second = LayoutFuzzTests().outcome { () throws(DataFault) in try general(payload) }
      #expect(first == second, "\(record)")
    }
  }

  @Test(arguments: styles.indices) func ordersAgree(style: Int) throws {
    var amount = FieldMapping(.path("amounts.net"))
    StyleFuzzTests.styles[style].change(&amount.decimal)
    var quantity = FieldMapping(.path("qty"))
    quantity.decimal = amount.decimal
    let spec = jsonOrders {
      $0.fields["net"] = amount
      $0.fields["quantity"] = quantity
    }
    var quick = OrderDecoder(plan: try MappingPlan(spec), isQuick: true)
    var general = OrderDecoder(plan: try MappingPlan(spec), isQuick: false)
    var good = 0
    for seed in 0..<1_000 as Range<UInt64> {
      var random = FuzzTests.Generator(state: seed &* 7_919 &+ UInt64(style))
      let currency = random.pick(["EUR", "EUR", "JPY", "KWD"])
      let net = text(&random)
      let record =
        #"{"id":"O1","event":{"id":"e","type":"x","time":"2025-01-01T00:00:00Z"},"cur":"\#(currency)","#
        + #""amounts":{"net":\#(net),"tax":"1"},"lines":[{},{"customer":"C"}],"qty":\#(text(&random))}"#
      var a = RecordBuffer<OrderEvent>()
      var b = RecordBuffer<OrderEvent>()
      agree(
        record,
        { (payload) throws(DataFault) in
          try quick.decode(key: .empty, payload: payload, position: .start, into: &a)
        },
        { (payload) throws(DataFault) in
          try general.decode(key: .empty, payload: payload, position: .start, into: &b)
        })
      #expect(a.count == b.count)
      guard a.count == 1, b.count == 1 else { continue }
      #expect(LayoutFuzzTests.text(a[0]) == LayoutFuzzTests.text(b[0]), "\(record)")
      // What the style says, without a decoder.
      let written = String(net.replacing("\"", with: ""))
      let exponent = currency == "JPY" ? 0 : currency == "KWD" ? 3 : 2
      let units = try written.withView { view in
        try parseAmount(view, amount.decimal, isNumber: !net.hasPrefix("\""), minorDecimals: exponent).units(
          decimals: exponent, rounding: amount.decimal.rounding)
      }
      #expect(a[0].amounts[.net] == units, "\(record)")
      good += 1
    }
    #expect(good > 10, "\(StyleFuzzTests.styles[style].name)")
  }

  @Test(arguments: styles.indices) func postingsAgree(style: Int) throws {
    var amount = FieldMapping(.path("dr"))
    StyleFuzzTests.styles[style].change(&amount.decimal)
    var base = FieldMapping(.path("base"))
    base.decimal = amount.decimal
    let spec = FormatTests().ledger {
      $0.amount = style % 2 == 0 ? .signed(amount) : .debitCredit(debit: amount, credit: path("cr"))
      $0.fields["base_amount"] = base
      $0.baseCurrency = Currency("EUR")!
    }
    var quick = PostingDecoder(plan: try MappingPlan(spec), isQuick: true)
    var general = PostingDecoder(plan: try MappingPlan(spec), isQuick: false)
    var good = 0
    for seed in 0..<1_000 as Range<UInt64> {
      var random = FuzzTests.Generator(state: seed &* 104_729 &+ UInt64(style))
      let row =
        #"{"je":"J1","line":3,"so":"O1","account":"4000","dr":\#(text(&random)),"cr":"2.00","cur":"USD","#
        + #""date":"1996-07-10","period":"1996-07","base":\#(text(&random))}"#
      let record = #"{"before":null,"after":\#(row),"op":"c","ts_ms":837012960000}"#
      var a = RecordBuffer<Posting>()
      var b = RecordBuffer<Posting>()
      agree(
        record,
        { (payload) throws(DataFault) in
          try quick.decode(key: .empty, payload: payload, position: .start, into: &a)
        },
        { (payload) throws(DataFault) in
          try general.decode(key: .empty, payload: payload, position: .start, into: &b)
        })
      #expect(a.count == b.count)
      guard a.count == 1, b.count == 1 else { continue }
      #expect(LayoutFuzzTests.text(a[0]) == LayoutFuzzTests.text(b[0]), "\(record)")
      good += 1
    }
    #expect(good > 10, "\(StyleFuzzTests.styles[style].name)")
  }
}
