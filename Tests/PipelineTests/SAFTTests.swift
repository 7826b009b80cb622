import Domain
import Foundation
import Testing

@testable import Pipeline

/// SAF-T files: the tax authority's example, and small ones with something wrong.
@Suite struct SAFTTests {
  func read(_ xml: String) throws -> (SAFTTotals, [SAFTDocument]) {
    let path = NSTemporaryDirectory() + "tieout-saft-\(UUID().uuidString).xml"
    try xml.write(toFile: path, atomically: true, encoding: .utf8)
    defer { try? FileManager.default.removeItem(atPath: path) }
    var documents: [SAFTDocument] = []
    let totals = try SAFTReader.read(path: path) { documents.append($0) }
    return (totals, documents)
  }

  func file(_ transactions: String, header: String = "<DefaultCurrencyCode>EUR</DefaultCurrencyCode>") -> String {
    """
    <?xml version="1.0"?>
    <AuditFile xmlns="urn:x"><Header>\(header)</Header>
    <GeneralLedgerEntries><NumberOfEntries>1</NumberOfEntries><TotalDebit>120.00</TotalDebit><Journal>
    <JournalID>J</JournalID>
    \(transactions)
    </Journal></GeneralLedgerEntries></AuditFile>
    """
  }

  let good = """
    <Transaction><TransactionID>7</TransactionID><Period>2</Period><PeriodYear>2024</PeriodYear>
    <TransactionDate>2024-02-03</TransactionDate>
    <Line><RecordID>1</RecordID><AccountID>1500</AccountID><CustomerID>C&amp;A</CustomerID>
    <SourceDocumentID>D1</SourceDocumentID><DebitAmount><Amount>120</Amount></DebitAmount></Line>
    <Line><RecordID>2</RecordID><AccountID>3000</AccountID><CreditAmount><Amount>100.00</Amount></CreditAmount></Line>
    <Line><RecordID>3</RecordID><AccountID>2700</AccountID><CreditAmount><Amount>20</Amount></CreditAmount>
    <TaxInformation><TaxAmount><Amount>99</Amount></TaxAmount></TaxInformation></Line></Transaction>
    """

  @Test func theExampleLedgerTiesOut() throws {
    let path = (FileReconcilerTests.shared ?? "") + "/saf-t/saft.xml"
    guard FileManager.default.fileExists(atPath: path) else {
      print("skipped: there is no ../shared/data/saf-t")
      return
    }
    var check = SAFTCheck(
      accounts: .init([("1500", .receivable), ("3000", .revenue), ("2700", .tax), ("1920", .cash)]))
    var standard = SAFTCheck(accounts: .norwegian)
    var documents: [SAFTDocument] = []
    let totals = try SAFTReader.read(path: path) {
      check.add($0)
      standard.add($0)
      documents.append($0)
    }
    #expect(documents.count == 53 && totals.documents == 53 && totals.lines == 170)
    #expect(documents.allSatisfy { $0.balance == 0 } && check.unbalanced.isEmpty)
    #expect(totals.agree && totals.statedDocuments == 53 && totals.statedDebit == 948_704_935)
    #expect(totals.debit == 948_704_935 && totals.credit == 948_704_935)
    #expect(check.invoices == 12 && check.differing.isEmpty && check.receipts == 5 && check.problems == 0)
    #expect(standard.invoices == 12 && standard.receipts == 5)
    #expect(check.received == 280_672_250)
    let first = try #require(documents.first)
    #expect(first.id == "1001" && first.journal == "123ABC" && first.period == 201_701)
    #expect(formatDate(first.date_d) == "2017-01-04" && formatDate(first.postingDate_d) == "2017-01-05")
    #expect(first.lines.map(\.amount) == [1_000_000, -1_250_000, 250_000] && first.lines[1].supplier == "2002")
    #expect(
      first.currency.code == "NOK" && totals.company == "Tøyen Lekefabrikk AS" && first.lines[0].fileLine == 1109)
  }

  @Test func linesBecomePostings() throws {
    let (totals, documents) = try read(file(good))
    #expect(totals.agree && documents.count == 1)
    var writer = SAFTPostingWriter()
    let text = String(decoding: writer.encode(documents[0]), as: UTF8.self)
    let lines = text.split(separator: "\n").map(String.init)
    #expect(
      lines[0]
        == #"{"journal":"J-7","line_id":"J-7-1","line":"1","account":"1500","amount":"120.00","currency":"EUR","document":"D1","#
        + #""reference":"","customer":"C&A","supplier":"","description":"","event_time":"2024-02-03","#
        + #""posting_date":"2024-02-03","period":"202402"}"#)
    #expect(lines.count == 3 && lines[2].contains(#""amount":"-20.00""#))
  }

  func postings(_ documents: [SAFTDocument]) throws -> (SAFTPostingWriter, [[String: Any]]) {
    var writer = SAFTPostingWriter()
    var lines: [[String: Any]] = []
    for document in documents {
      for line in writer.encode(document).split(separator: 0x0a) {
        lines.append(try #require(try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any]))
      }
    }
    return (writer, lines)
  }

  @Test func sectionsOfCharactersAreText() throws {
    let (_, documents) = try read(
      file(
        good.replacingOccurrences(of: "C&amp;A", with: "<![CDATA[C&A <x>]]> Ltd").replacingOccurrences(
          of: "<Amount>120</Amount>", with: "<Amount><![CDATA[120]]></Amount>")))
    #expect(documents[0].lines[0].customer == "C&A <x> Ltd" && documents[0].lines[0].amount == 120_00)
  }

  /// Lines that stand on their side, in an element of their own; amounts without one.
  @Test func thePortugueseVersion() throws {
    func line(_ side: String, _ number: Int, _ amount: String) -> String {
      "<\(side)Line><RecordID>\(number)</RecordID><AccountID>211</AccountID><SourceDocumentID>FT 1</SourceDocumentID>"
        + "<\(side)Amount>\(amount)</\(side)Amount></\(side)Line>"
    }
    let transaction =
      "<Transaction><TransactionID>V 1</TransactionID><Period>3</Period><TransactionDate>2026-03-01</TransactionDate>"
      + "<CustomerID>C1</CustomerID><Lines>\(line("Debit", 1, "120.00"))\(line("Credit", 2, " 100.00 "))\(line("Credit", 3, "20"))"
      + "</Lines></Transaction>"
    let header = "<CompanyName>Uma</CompanyName><FiscalYear>2026</FiscalYear><CurrencyCode>EUR</CurrencyCode>"
    let (totals, documents) = try read(file(transaction, header: header))
    #expect(totals.agree && totals.lines == 3 && totals.company == "Uma" && totals.credit == 120_00)
    #expect(documents[0].lines.map(\.amount) == [120_00, -100_00, -20_00] && documents[0].period == 202_603)
    #expect(documents[0].lines.allSatisfy { $0.customer == "C1" && $0.sourceDocument == "FT 1" })
    let plain = good.replacingOccurrences(of: "<Amount>120</Amount>", with: "120.00")
    #expect(try read(file(plain)).1[0].lines[0].amount == 120_00)
    let empty =
      "<Transaction><TransactionID>9</TransactionID><TransactionDate>2026-03-01</TransactionDate></Transaction>"
    let error = #expect(throws: TableError.self) { _ = try read(file(empty)) }
    #expect(error?.message == "the document '9' has no lines")
  }

  /// Lines with one id would count once.
  @Test func everyLineHasAnIdOfItsOwn() throws {
    func ids(_ xml: String) throws -> ([String?], Int, Int) {
      let (writer, lines) = try postings(try read(file(xml)).1)
      return (lines.map { $0["line_id"] as? String }, writer.repeated, writer.renumbered)
    }
    #expect(try ids(good) == (["J-7-1", "J-7-2", "J-7-3"], 0, 0))
    let named = good.replacingOccurrences(of: ">7<", with: ">7#2<")
    #expect(
      try ids(good + named + good)
        == (["J-7-1", "J-7-2", "J-7-3", "J-7#2-1", "J-7#2-2", "J-7#2-3", "J-7#3-1", "J-7#3-2", "J-7#3-3"], 1, 0))
    for other in ["<RecordID>1</RecordID>", "<RecordID/>", ""] {
      let twice = good.replacingOccurrences(of: "<RecordID>2</RecordID>", with: other)
      #expect(try ids(twice) == (["J-7-1", "J-7-2", "J-7-3"], 0, 1), "\(other)")
    }
  }

  @Test func anotherCurrencyIsCarried() throws {
    let foreign = "<CurrencyCode>USD</CurrencyCode><CurrencyAmount>130.50</CurrencyAmount>"
    let xml = file(
      good.replacingOccurrences(of: "<Amount>120</Amount>", with: "<Amount>120</Amount>" + foreign)
        .replacingOccurrences(of: "<Amount>100.00</Amount>", with: "<Amount>100.00</Amount>" + foreign))
    let (_, lines) = try postings(try read(xml).1)
    #expect(lines.map { $0["foreign_amount"] as? String } == ["130.50", "-130.50", nil])
    #expect(lines.map { $0["foreign_currency"] as? String } == ["USD", "USD", nil])
    #expect(lines.map { $0["amount"] as? String } == ["120.00", "-100.00", "-20.00"])
    #expect(lines.allSatisfy { $0["currency"] as? String == "EUR" })
  }

  @Test func whatDoesNotAgreeIsFound() throws {
    var check = SAFTCheck(accounts: .norwegian)
    let (_, documents) = try read(file(good.replacingOccurrences(of: "100.00", with: "90.00")))
    check.add(documents[0])
    #expect(check.unbalanced == ["7 (line 5)"] && check.differing == ["7 (line 5)"] && check.problems == 2)
    let (totals, _) = try read(file(good + good))
    #expect(!totals.agree && totals.documents == 2)
    var credit = SAFTCheck(accounts: .norwegian)
    let turned = good.replacingOccurrences(of: "DebitAmount", with: "X").replacingOccurrences(
      of: "CreditAmount", with: "DebitAmount"
    ).replacingOccurrences(of: "<X>", with: "<CreditAmount>").replacingOccurrences(of: "</X>", with: "</CreditAmount>")
    credit.add(try read(file(turned)).1[0])
    #expect(credit.creditNotes == 1 && credit.problems == 0 && credit.invoiced == -12_000)
  }

  @Test func faultsNameFileAndLine() throws {
    for (xml, part, line) in [
      (file(good.replacingOccurrences(of: ">120<", with: ">12x<")), "is no amount", 8),
      (file(good.replacingOccurrences(of: ">120<", with: ">1.005<")), "is no amount", 8),
      (file(good.replacingOccurrences(of: "2024-02-03", with: "2024-02-30")), "is no date", 6),
      (file(good.replacingOccurrences(of: "<AccountID>3000</AccountID>", with: "")), "no AccountID", 9),
      (
        file(good.replacingOccurrences(of: "<DebitAmount><Amount>120</Amount></DebitAmount>", with: "")), "0 amounts", 8
      ),
      (file(good, header: ""), "DefaultCurrencyCode", 3),
      (file(good, header: "<DefaultCurrencyCode>EU</DefaultCurrencyCode>"), "no ISO 4217", 2),
      (file(good + "<Transaction>"), "well-formed", 12), ("<html></html>", "AuditFile", 1),
      ("<AuditFile></AuditFile>", "no GeneralLedgerEntries", 0), ("", "no GeneralLedgerEntries", 0),
      (
        file(good.replacingOccurrences(of: "C&amp;A", with: String(repeating: "x", count: 70_000))),
        "longer than 65536", 7
      ),
    ] {
      do {
        _ = try read(xml)
        Issue.record("no fault for \(part)")
      } catch let error as TableError {
        #expect(error.message.contains(part) && error.file.hasSuffix(".xml"), "\(error)")
        if line > 0 { #expect(error.line == Int64(line), "\(part): \(error.line)") }
      }
    }
  }

  /// Entities of the outside are not fetched, and those of the file do not grow without bound.
  @Test func entitiesAreHarmless() throws {
    let secret = NSTemporaryDirectory() + "tieout-saft-secret-\(UUID().uuidString)"
    try "TOPSECRET".write(toFile: secret, atomically: true, encoding: .utf8)
    defer { try? FileManager.default.removeItem(atPath: secret) }
    let outside =
      "<!DOCTYPE AuditFile [<!ENTITY e SYSTEM \"file://\(secret)\">]>"
      + file(good.replacingOccurrences(of: "C&amp;A", with: "&e;")).replacingOccurrences(
        of: "<?xml version=\"1.0\"?>", with: "")
    let plain = "<?xml version=\"1.0\"?>"
    for xml in [
      outside, plain + "\n<!-- <x> -->" + outside,
      file(good.replacingOccurrences(of: "C&amp;A", with: "&e;")).replacingOccurrences(
        of: plain, with: "<!DOCTYPE AuditFile SYSTEM \"file://\(secret)\">"),
    ] {
      let error = #expect(throws: TableError.self) { _ = try read(xml) }
      #expect(
        error?.message.contains("DOCTYPE") == true && error?.line == (xml.hasPrefix("<?") ? 2 : 1), "\(error as Any)")
    }
    var bomb = "<!DOCTYPE AuditFile [<!ENTITY a0 \"xxxxxxxxxx\">"
    for level in 1...9 { bomb += "<!ENTITY a\(level) \"\(String(repeating: "&a\(level - 1);", count: 10))\">" }
    bomb +=
      "]>"
      + file(good.replacingOccurrences(of: "C&amp;A", with: "&a9;")).replacingOccurrences(
        of: "<?xml version=\"1.0\"?>", with: "")
    #expect(throws: TableError.self) { _ = try read(bomb) }
    #expect(throws: TableError.self) { _ = try read(file(good.replacingOccurrences(of: "C&amp;A", with: "&e;"))) }
  }

  /// Wherever a file ends, it is refused, also behind totals that hold.
  @Test func aFileThatEndsInTheMiddleIsRefused() throws {
    let whole = file(good)
    #expect(try read(whole).0.agree)
    let bytes = Array(whole.utf8)
    for end in stride(from: 60, to: bytes.count - 3, by: 7) {
      let error = #expect(throws: TableError.self, "\(end)") {
        _ = try read(String(decoding: bytes[..<end], as: UTF8.self))
      }
      #expect(error?.message.contains("ends in the middle") == true, "\(end): \(error as Any)")
    }
    let cut = whole.components(separatedBy: "</Journal>")[0] + "<Transaction><TransactionID>8</TransactionID>"
    let error = #expect(throws: TableError.self) { _ = try read(cut) }
    #expect(
      error?.line == 12 && error?.message.contains("of AuditFile/GeneralLedgerEntries/Journal/Transaction") == true,
      "\(error as Any)")
    #expect(error?.message.contains("(document '8')") == true && error?.message.contains("1 whole document") == true)
  }

  /// A correction may stand with a negative amount on the side of what it corrects, and totals count it there.
  @Test func totalsGoBySide() throws {
    let red = good.replacingOccurrences(of: ">120<", with: ">-120<").replacingOccurrences(
      of: ">100.00<", with: ">-100.00<"
    )
    .replacingOccurrences(of: "<Amount>20<", with: "<Amount>-20<")
    let (totals, documents) = try read(file(red).replacingOccurrences(of: ">120.00<", with: ">-120.00<"))
    #expect(totals.agree && totals.areStated && totals.debit == -12_000 && totals.credit == -12_000)
    #expect(documents[0].lines.map(\.amount) == [-12_000, 10_000, 2_000] && documents[0].balance == 0)
    let (silent, _) = try read(
      file(good).replacingOccurrences(
        of: "<NumberOfEntries>1</NumberOfEntries><TotalDebit>120.00</TotalDebit>", with: ""))
    #expect(silent.agree && !silent.areStated)
    let error = #expect(throws: TableError.self) {
      _ = try read(file(good).replacingOccurrences(of: "<NumberOfEntries>1<", with: "<NumberOfEntries>1,0<"))
    }
    #expect(error?.message.contains("NumberOfEntries: '1,0' is no number") == true)
  }

  /// The parser has numbers only.
  @Test func xmlErrorsHaveWords() throws {
    for (xml, words) in [
      (file(good + "</Transaction>"), "an end tag is not that of the element that is open"),
      (file(good.replacingOccurrences(of: "C&amp;A", with: "C&z;A")), "an entity that it does not declare"),
      (file(good.replacingOccurrences(of: "C&amp;A", with: "C&#1;A")), "a character that XML does not allow"),
    ] {
      let error = #expect(throws: TableError.self) { _ = try read(xml) }
      #expect(
        error?.message == "is no well-formed XML: \(words)" || error?.message.hasSuffix(words) == true,
        "\(error as Any)")
    }
  }
}
