import Domain
import Testing

@testable import Decoding

@Suite struct MaskingTests {
  static let key = MaskKey("sixteen bytes or more")!

  func spec(_ mask: FieldMask, _ change: (inout MappingSpecification) -> Void = { _ in }) -> MappingSpecification {
    jsonOrders {
      $0.fields["customer"] = path("customer")
      $0.fields["customer"]!.mask = mask
      $0.maskKey = Self.key
      change(&$0)
    }
  }

  func record(_ customer: String) -> String {
    #"{"id":"O-1","event":{"id":"e1","type":"x","time":"1996-07-10T09:00:00Z"},"cur":"USD","customer":\#(customer)}"#
  }

  /// Made by Python's `hmac.new(b"sixteen bytes or more", "C-17 Müller".encode(), "sha256").hexdigest()[:32]`.
  static let known = "a770dda89becb9094f9e1827021dbf64"

  @Test func aHashIsThatOfTheTextHoweverItIsWritten() throws {
    #expect(Self.key.hash("C-17 Müller") == Self.known)
    for written in [#""C-17 Müller""#, #""C-17 M\u00fcller""#, #""  C-17 Müller ""#] {
      #expect(try decode(record(written), spec(.hash)).first?.customer == Self.known)
    }
    // In the columns of a file as well.
    let csv = spec(.hash) {
      $0 = MappingSpecification(sourceName: "orders", sourceIndex: 0, kind: .orders, format: .csv)
      $0.fields = ["order": path("o"), "event_time": path("t"), "event": FieldMapping(.constant("booked"))]
      $0.fields["customer"] = path("c")
      $0.fields["customer"]!.mask = .hash
      $0.maskKey = Self.key
    }
    #expect(try decode("O,2024-01-01,C-17 Müller", csv, header: "o,t,c").first?.customer == Self.known)
  }

  @Test func tablesAndDefaultsSeeTheClearTextAndAbsentStaysAbsent() throws {
    let spec = spec(.hash) {
      $0.fields["customer"]!.table = ValueTable(name: "merged", entries: ["old": "C-17 Müller"], unlisted: .keep)
      $0.fields["customer"]!.stripsLeadingZeros = true
    }
    #expect(try decode(record(#""old""#), spec).first?.customer == Self.known)
    #expect(try decode(record(#""007""#), spec).first?.customer == Self.key.hash("7"))
    #expect(try decode(record("null"), spec).first?.customer == "")
  }

  @Test func anotherKeyGivesAnotherHash() throws {
    let other = try #require(MaskKey("another key of this length"))
    #expect(other.hash("C") != Self.key.hash("C") && Self.key.hash("C") != Self.key.hash("D"))
    #expect(MaskKey("fifteen bytes..") == nil)
    #expect("\(other)\(String(reflecting: other))\(spec(.hash))".contains("another") == false)
  }

  @Test func redactedTextsAreAllTheSame() throws {
    #expect(try decode(record(#""C1""#), spec(.redact)).first?.customer == "(redacted)")
    #expect(try decode(record(#""""#), spec(.redact)).first?.customer == "")
  }

  @Test func faultsDoNotQuoteWhatIsMasked() {
    let table = spec(.hash) { $0.fields["customer"]!.table = ValueTable(name: "known", entries: ["C1": "C1"]) }
    let found = fault(record(#""Jane Roe""#), table)
    #expect(found?.reason == .masterDataMissing && found?.field == "customer")
    #expect(found?.detail == "the value (masked) is not in the table 'known'")
  }

  @Test func aHashWithoutAKeyIsNoPlan() {
    #expect(throws: MappingError.self) { try MappingPlan(spec(.hash) { $0.maskKey = nil }) }
    #expect(throws: Never.self) { try MappingPlan(spec(.redact) { $0.maskKey = nil }) }
  }
}
