import ArgumentParser
import Domain
import Foundation
import Pipeline

struct SAFT: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "saft",
    abstract: "Checks a SAF-T Financial file, and turns its ledger into postings.",
    discussion: """
      Reads the general ledger of an XML file (OECD Standard Audit File for Tax, any country's version with \
      GeneralLedgerEntries), checks that every document balances, that the file's own control totals hold, and that \
      receivable = revenue + tax on each sales document. With --postings the lines are written as JSON for \
      'tieout reconcile'. Exit code 0: everything agrees; 1: something does not; 2: the file cannot be read.

      EXAMPLES
        tieout saft saft.xml
        tieout saft saft.xml --role receivable=1500 --role revenue=3000 --role tax=2700 --role cash=1920
        tieout saft saft.xml --postings ledger.jsonl
      """)

  @Argument(help: "SAF-T file (XML).") var file: String
  @Option(
    parsing: .singleValue,
    help: "ROLE=PREFIX: accounts that begin with PREFIX play that role (default: the Norwegian standard chart).")
  var role: [String] = []
  @Option(help: "Write the postings to this file, one JSON object a line.") var postings: String?

  private func accounts() throws -> SAFTCheck.Accounts {
    if role.isEmpty { return .norwegian }
    return SAFTCheck.Accounts(
      try role.map { text in
        let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
        guard parts.count == 2, let role = AccountRole(name: parts[0]) else {
          throw ValidationError("--role '\(text)' is not ROLE=PREFIX with an account role.")
        }
        return (parts[1], role)
      })
  }

  func validate() throws { _ = try accounts() }

  private func controlTotals(_ totals: SAFTTotals) -> String {
    guard totals.areStated else { return "the file states no control totals" }
    guard !totals.agree else { return "the file's control totals hold" }
    func stated(_ amount: Int64?) -> String? {
      amount.map { formatDecimal(Int128($0), decimals: totals.currency.exponent) }
    }
    let all = [
      totals.statedDocuments.map { "\($0) documents" }, stated(totals.statedDebit).map { "debit \($0)" },
      stated(totals.statedCredit).map { "credit \($0)" },
    ]
    return "THE FILE'S CONTROL TOTALS DO NOT HOLD: it states " + all.compactMap { $0 }.joined(separator: ", ")
  }

  func run() throws {
    do {
      var check = SAFTCheck(accounts: try accounts())
      var writer = SAFTPostingWriter()
      var out: FileHandle?
      if let postings {
        guard FileManager.default.createFile(atPath: postings, contents: nil),
          let handle = FileHandle(forWritingAtPath: postings)
        else { throw TableError(file: postings, line: 0, message: "cannot be written") }
        out = handle
      }
      let totals: SAFTTotals
      do {
        totals = try SAFTReader.read(path: file) { document in
          check.add(document)
          try out?.write(contentsOf: Data(writer.encode(document)))
        }
        try out?.close()
      } catch {
        // Half of a ledger must not be taken for all of it.
        if let postings, out != nil { try? FileManager.default.removeItem(atPath: postings) }
        throw error
      }
      func money(_ amount: Int128) -> String {
        "\(formatDecimal(amount, decimals: totals.currency.exponent)) \(totals.currency.code)"
      }
      print(
        """
        \(totals.company.isEmpty ? "" : totals.company + ": ")\(totals.documents) documents, \(totals.lines) lines, debit \(money(totals.debit)), credit \
        \(money(totals.credit))
        \(controlTotals(totals))
        \(check.documents - check.unbalanced.count) documents balance\
        \(check.unbalanced.isEmpty ? "" : "; NOT BALANCED: " + check.unbalanced.joined(separator: ", "))
        \(check.invoices) sales invoices, \(check.creditNotes) credit notes, receivable \(money(check.invoiced))\
        \(check.differing.isEmpty
          ? " = revenue + tax" : "; RECEIVABLE IS NOT REVENUE + TAX: " + check.differing.joined(separator: ", "))
        \(check.receipts) receipts, \(money(check.received))
        """)
      if out != nil, writer.repeated > 0 {
        print(
          "\(writer.repeated) document(s) with the journal and the number of another: their line_id has #2, #3, … behind it"
        )
      }
      if out != nil, writer.renumbered > 0 {
        print(
          "\(writer.renumbered) document(s) with lines without a number or with the same: line and line_id count them")
      }
      if !totals.agree || check.problems > 0 { throw ExitCode(1) }
    } catch let code as ExitCode {
      throw code
    } catch { fail(error) }
  }
}
