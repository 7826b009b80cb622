import Domain
import Foundation

#if canImport(FoundationXML)
  import FoundationXML
#endif

/// One line of a general-ledger document of a SAF-T file.
public struct SAFTLine: Sendable, Equatable {
  public var record = ""
  public var account = ""
  public var customer = ""
  public var supplier = ""
  public var sourceDocument = ""
  public var reference = ""
  public var description = ""
  /// Debit − credit in minor units of the file's currency.
  public var amount: Int64 = 0
  /// What it is in another currency, debit − credit as the file writes it; empty where the file states none.
  public var foreignAmount = ""
  public var foreignCurrency = ""
  /// The side that it stands on. A correction may stand with a negative amount on the side of what it corrects (red storno).
  public var isCredit = false
  /// Line of the file on which it begins.
  public var fileLine = 0
}

/// One document (`Transaction`) of a SAF-T file.
public struct SAFTDocument: Sendable, Equatable {
  public var journal = ""
  public var id = ""
  public var description = ""
  public var date_d: Int32 = absentDate
  /// Where the file states none, the document's date.
  public var postingDate_d: Int32 = absentDate
  /// Year × 100 + period; 0 if unknown.
  public var period: Int32 = 0
  public var currency = Currency.none
  public var lines: [SAFTLine] = []
  public var fileLine = 0

  /// Zero where debits equal credits.
  public var balance: Int128 { lines.reduce(0) { $0 + Int128($1.amount) } }
}

/// What a SAF-T file states of itself, and what was read.
public struct SAFTTotals: Sendable, Equatable {
  public var company = ""
  public var currency = Currency.none
  public var documents = 0
  public var lines = 0
  public var debit: Int128 = 0
  public var credit: Int128 = 0
  /// As the file states them; nil where it does not.
  public var statedDocuments: Int?
  public var statedDebit: Int64?
  public var statedCredit: Int64?

  /// Whether the file states any.
  public var areStated: Bool { statedDocuments != nil || statedDebit != nil || statedCredit != nil }

  /// Whether the file holds what it says it holds.
  public var agree: Bool {
    statedDocuments.map { $0 == documents } ?? true && statedDebit.map { Int128($0) == debit } ?? true
      && statedCredit.map { Int128($0) == credit } ?? true
  }
}

/// Reads the general ledger of a SAF-T Financial file (OECD Standard Audit File for Tax), document by document, without
/// holding the file in memory. Namespaces and prefixes do not matter; master files are skipped.
public final class SAFTReader: NSObject {
  /// No identifier or description is longer.
  public static let maximumTextBytes = 64 << 10
  /// A year's opening entry of a large group has less lines.
  public static let maximumLines = 1_000_000

  private let path: String
  private let onDocument: (SAFTDocument) throws -> Void
  private var totals = SAFTTotals()
  private var open: [String] = []
  private var text = ""
  private var document: SAFTDocument?
  private var line: SAFTLine?
  private var journal = ""
  private var year: Int32 = 0
  private var fiscalYear: Int32 = 0
  /// Of the document as a whole, where its lines name none.
  private var customer = ""
  private var supplier = ""
  private var amountSides = 0
  /// Whether the side that is open has its amount in an element of its own.
  private var isAmountInside = false
  private var failure: (any Error)?

  private init(_ path: String, _ onDocument: @escaping (SAFTDocument) throws -> Void) {
    self.path = path
    self.onDocument = onDocument
  }

  /// Calls `onDocument` for each document in the order of the file.
  public static func read(
    path: String, onDocument: @escaping (SAFTDocument) throws -> Void
  ) throws -> SAFTTotals {
    guard FileManager.default.isReadableFile(atPath: path), let stream = InputStream(fileAtPath: path) else {
      throw TableError(file: path, line: 0, message: "cannot be read")
    }
    try SAFTProlog.check(path)
    let reader = SAFTReader(path, onDocument)
    let parser = XMLParser(stream: stream)
    parser.shouldResolveExternalEntities = false
    parser.shouldProcessNamespaces = true
    parser.delegate = reader
    let isWellFormed = parser.parse()
    if let failure = reader.failure { throw failure }
    let error = reader.problem ?? parser.parserError as NSError?
    // The parser takes the end of the stream for that of the document.
    let isCut = isWellFormed ? !reader.open.isEmpty : !SAFTReader.endsWithRoot(path)
    if isCut, let missing = reader.missing {
      throw TableError(file: path, line: Int64(max(parser.lineNumber, 1)), message: missing)
    }
    guard isWellFormed else {
      throw TableError(
        file: path, line: Int64(reader.problemLine ?? parser.lineNumber),
        message: "is no well-formed XML: \(error.map(SAFTReader.words) ?? "the parser does not say why")")
    }
    guard reader.sawLedger else {
      throw TableError(file: path, line: 0, message: "holds no GeneralLedgerEntries; is it a SAF-T Financial file?")
    }
    return reader.totals
  }

  private var sawRoot = false
  private var sawLedger = false

  /// What a file that ends before its end lacks.
  private var missing: String? {
    guard sawRoot else { return nil }
    let innermost = open.last ?? "AuditFile"
    let path = open.isEmpty ? "" : " of \(open.joined(separator: "/"))"
    let documents = document.map { " (document '\($0.id)')" } ?? ""
    return
      "the file ends in the middle: '</\(innermost)>'\(path)\(documents) is missing, and "
      + "all that comes behind it; \(totals.documents) whole document(s) were read"
  }

  /// The first of what the parser found wrong, and where; it goes on behind some of it.
  private var problem: NSError?
  private var problemLine: Int?

  /// Whether the end tag of the file's element stands near its end, where comments may follow.
  private static func endsWithRoot(_ path: String) -> Bool {
    guard let file = FileHandle(forReadingAtPath: path) else { return false }
    defer { try? file.close() }
    let size = (try? file.seekToEnd()) ?? 0
    try? file.seek(toOffset: size > 4_096 ? size - 4_096 : 0)
    // In UTF-16 every other byte is zero here.
    let tail = ((try? file.readToEnd()) ?? Data()).filter { $0 != 0 }
    return String(decoding: tail, as: UTF8.self).contains(/<\/([^\s<>]+:)?AuditFile\s*>/)
  }

  /// What the numbers of libxml2 mean (`xmlParserErrors`); the parser has no words for them.
  private static func words(_ error: NSError) -> String {
    switch error.code {
    case 4: "it is empty"
    case 6, 7, 8, 9: "it has a character that XML does not allow"
    case 26, 27, 28: "it refers to an entity that it does not declare"
    case 3, 64: "it does not begin as XML does"
    case 5, 77: "it ends before its elements do"
    case 31, 32, 79, 81: "its encoding is not the one that it states, or is not known"
    case 38...42, 65, 75: "an attribute is not written as XML wants it"
    case 68, 72, 73, 74: "a tag is not written as XML wants it"
    case 76: "an end tag is not that of the element that is open"
    default: "error \(error.code) of libxml2"
    }
  }

  private func fail(_ parser: XMLParser, _ message: String) {
    guard failure == nil else { return }
    failure = TableError(file: path, line: Int64(parser.lineNumber), message: message)
    parser.abortParsing()
  }
}

extension SAFTReader: XMLParserDelegate {
  public func parser(
    _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
    attributes: [String: String]
  ) {
    if open.isEmpty, name != "AuditFile" { return fail(parser, "begins with '\(name)' and not with 'AuditFile'") }
    sawRoot = true
    open.append(name)
    text = ""
    switch name {
    case "GeneralLedgerEntries": sawLedger = true
    case "Transaction" where isInLedger:
      document = SAFTDocument()
      document?.fileLine = parser.lineNumber
      document?.journal = journal
      document?.currency = totals.currency
      (year, customer, supplier) = (0, "", "")
    case _ where document != nil && SAFTReader.isLine(name):
      line = SAFTLine()
      line?.fileLine = parser.lineNumber
      amountSides = 0
    case "DebitAmount", "CreditAmount": isAmountInside = false
    default: break
    }
  }

  public func parser(_ parser: XMLParser, parseErrorOccurred parseError: any Error) {
    let error = parseError as NSError
    // Warnings, and what is said of namespaces, which do not matter.
    guard failure == nil, problem == nil, !(98...101).contains(error.code), !(200...205).contains(error.code) else {
      return
    }
    problem = error
    problemLine = parser.lineNumber
  }

  public func parser(_ parser: XMLParser, foundCharacters string: String) {
    text += string
    if text.utf8.count > SAFTReader.maximumTextBytes {
      fail(parser, "'\(open.last ?? "")' is longer than \(SAFTReader.maximumTextBytes) bytes")
    }
  }

  /// The parser has no other way to hand out what is written so; it is text like any other.
  public func parser(_ parser: XMLParser, foundCDATA block: Data) {
    self.parser(parser, foundCharacters: String(decoding: block, as: UTF8.self))
  }

  public func parser(
    _ parser: XMLParser, didEndElement name: String, namespaceURI: String?, qualifiedName: String?
  ) {
    let value = text.trimmingCharacters(in: .whitespacesAndNewlines)
    text = ""
    open.removeLast()
    let parent = open.last ?? ""
    if line != nil {
      endInLine(parser, name, parent, value)
    } else if document != nil {
      endInDocument(parser, name, parent, value)
    } else {
      endOutside(parser, name, parent, value)
    }
  }

  /// The Portuguese version has `DebitLine` and `CreditLine` in `Lines`.
  private static func isLine(_ name: String) -> Bool { ["Line", "DebitLine", "CreditLine"].contains(name) }

  private var isInLedger: Bool { open.contains("GeneralLedgerEntries") }

  private func endOutside(_ parser: XMLParser, _ name: String, _ parent: String, _ value: String) {
    switch (parent, name) {
    case ("Header", "DefaultCurrencyCode"), ("Header", "CurrencyCode"):
      guard let currency = Currency(value) else { return fail(parser, "'\(value)' is no ISO 4217 currency") }
      totals.currency = currency
    case ("Company", "Name"), ("Header", "CompanyName"): totals.company = value
    case ("Header", "FiscalYear"): fiscalYear = Int32(value) ?? 0
    case ("Journal", "JournalID"): journal = value
    case ("GeneralLedgerEntries", "NumberOfEntries"):
      guard let count = Int(value) else {
        return fail(parser, "\(name): '\(value.prefix(DataFault.maximumQuotedBytes))' is no number of documents")
      }
      totals.statedDocuments = count
    case ("GeneralLedgerEntries", "TotalDebit"): totals.statedDebit = amount(parser, name, value)
    case ("GeneralLedgerEntries", "TotalCredit"): totals.statedCredit = amount(parser, name, value)
    default: break
    }
  }

  private func endInDocument(_ parser: XMLParser, _ name: String, _ parent: String, _ value: String) {
    switch name {
    case "TransactionID": document!.id = value
    case "Description": document!.description = value
    case "TransactionDate": document!.date_d = day(parser, name, value)
    case "GLPostingDate": document!.postingDate_d = day(parser, name, value)
    case "CustomerID": customer = value
    case "SupplierID": supplier = value
    case "PeriodYear": year = Int32(value) ?? 0
    case "Period": document!.period = Int32(value) ?? 0
    case "Transaction":
      var finished = document!
      document = nil
      if year == 0 { year = fiscalYear }
      finished.period = year > 0 && finished.period > 0 ? year * 100 + finished.period : 0
      if finished.postingDate_d == absentDate { finished.postingDate_d = finished.date_d }
      for at in finished.lines.indices where finished.lines[at].customer.isEmpty && finished.lines[at].supplier.isEmpty
      {
        (finished.lines[at].customer, finished.lines[at].supplier) = (customer, supplier)
      }
      // Where tags are missing the parser closes elements by itself.
      if finished.lines.isEmpty, problem == nil { return fail(parser, "the document '\(finished.id)' has no lines") }
      totals.documents += 1
      totals.lines += finished.lines.count
      for line in finished.lines {
        if line.isCredit { totals.credit -= Int128(line.amount) } else { totals.debit += Int128(line.amount) }
      }
      do { try onDocument(finished) } catch {
        failure = error
        parser.abortParsing()
      }
    default: break
    }
  }

  private func endInLine(_ parser: XMLParser, _ name: String, _ parent: String, _ value: String) {
    switch (SAFTReader.isLine(parent) ? "Line" : parent, name) {
    case ("Line", "RecordID"): line!.record = value
    case ("Line", "AccountID"): line!.account = value
    case ("Line", "CustomerID"): line!.customer = value
    case ("Line", "SupplierID"): line!.supplier = value
    case ("Line", "SourceDocumentID"): line!.sourceDocument = value
    case ("Line", "ReferenceNumber"): line!.reference = value
    case ("Line", "Description"): line!.description = value
    case ("DebitAmount", "Amount"), ("CreditAmount", "Amount"):
      isAmountInside = true
      add(parser, parent, value)
    case ("DebitAmount", "CurrencyCode"), ("CreditAmount", "CurrencyCode"): line!.foreignCurrency = value
    case ("DebitAmount", "CurrencyAmount"): line!.foreignAmount = value
    case ("CreditAmount", "CurrencyAmount"):
      let size = value.drop { $0 == "-" || $0 == "+" }
      line!.foreignAmount = value.hasPrefix("-") || size.isEmpty ? String(size) : "-" + size
    case ("Line", "DebitAmount"), ("Line", "CreditAmount"):
      if !isAmountInside, !value.isEmpty { add(parser, name, value) }
    case (_, _) where SAFTReader.isLine(name):
      let finished = line!
      line = nil
      if finished.account.isEmpty { return fail(parser, "a line has no AccountID") }
      if amountSides != 1 { return fail(parser, "a line has \(amountSides) amounts instead of a debit or a credit") }
      guard document!.lines.count < SAFTReader.maximumLines else {
        return fail(parser, "a document has more than \(SAFTReader.maximumLines) lines")
      }
      document!.lines.append(finished)
    default: break
    }
  }

  private func add(_ parser: XMLParser, _ side: String, _ value: String) {
    amountSides += 1
    let value = amount(parser, side, value)
    if side == "CreditAmount" { line!.isCredit = true }
    line!.amount += side == "CreditAmount" ? -value : value
  }

  private func amount(_ parser: XMLParser, _ name: String, _ value: String) -> Int64 {
    guard totals.currency != .none else {
      fail(parser, "\(name): the header states no DefaultCurrencyCode")
      return 0
    }
    do throws(DecimalFault) { return try Money(value, totals.currency).minorUnits } catch {
      fail(parser, "\(name): '\(value.prefix(DataFault.maximumQuotedBytes))' is no amount of \(totals.currency.code)")
      return 0
    }
  }

  private func day(_ parser: XMLParser, _ name: String, _ value: String) -> Int32 {
    if let day = DateStyle.iso.day(value) { return day }
    fail(parser, "\(name): '\(value.prefix(DataFault.maximumQuotedBytes))' is no date")
    return absentDate
  }
}

/// What stands before the first element of an XML file. A document type may declare entities, which the parser leaves out
/// without a word, with what follows them: no SAF-T file needs one.
private enum SAFTProlog {
  /// No comments before the first element are longer.
  static let maximumBytes = 1 << 20

  static func check(_ path: String) throws {
    guard let file = FileHandle(forReadingAtPath: path) else { return }
    defer { try? file.close() }
    // In UTF-16 every other byte is zero here.
    let bytes = (try file.read(upToCount: maximumBytes) ?? Data()).filter { $0 != 0 }
    var at = bytes.startIndex
    func begins(_ text: String) -> Bool { bytes[at...].starts(with: text.utf8) }
    while let start = bytes[at...].firstIndex(of: UInt8(ascii: "<")) {
      at = start
      let end = begins("<?") ? "?>" : begins("<!--") ? "-->" : nil
      if let end, let found = bytes[at...].firstRange(of: Data(end.utf8)) {
        at = found.upperBound
        continue
      }
      guard begins("<!DOCTYPE") else { return }
      let line = bytes[..<at].count { $0 == 0x0a } + 1
      throw TableError(
        file: path, line: Int64(line),
        message: "has a document type declaration (DOCTYPE): entities are not read, and a SAF-T file needs none")
    }
  }
}
