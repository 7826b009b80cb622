import Domain

/// What quantities say of a difference in the revenue, where both sides tell them.
extension Judge {
  /// What one event or posting adds to the revenue.
  private struct Sale {
    var document: ByteView
    var line: ByteView
    /// In millionths, nil where the record does not tell it; and in minor units of revenue (credits positive).
    var quantity: Int128?
    var amount: Int128
    var isPosted: Bool
  }

  /// Quantity and amount of one billing document, or of one line of it, on both sides.
  private struct Sold {
    var document: ByteView
    var line: ByteView = .empty
    var expectedQuantity: Int128 = 0
    var expectedAmount: Int128 = 0
    var postedQuantity: Int128 = 0
    var postedAmount: Int128 = 0
    var isExpected = false
    var isPosted = false
    /// Every record tells its quantity, and every one its line.
    var hasQuantities = true
    var hasLines = true

    var delta: Int128 { postedAmount - expectedAmount }

    mutating func add(_ sale: Sale) {
      if sale.isPosted {
        postedQuantity += sale.quantity ?? 0
        postedAmount += sale.amount
        isPosted = true
      } else {
        expectedQuantity += sale.quantity ?? 0
        expectedAmount += sale.amount
        isExpected = true
      }
      if sale.quantity == nil { hasQuantities = false }
      if sale.line.isEmpty { hasLines = false }
    }
  }

  /// A billing document, with its lines where they can be compared: every record of it names one, and both sides name
  /// at least one that is the same.
  private struct SoldDocument {
    var total: Sold
    var lines: [Sold] = []
  }

  /// What explains a difference of the revenue, and the lines that differ where lines are compared.
  struct QuantityCause {
    var type: BreakType
    var lines: LineDifferences?

    /// What a person is told of it.
    var reason: TextBytes {
      let text: TextBytes =
        type == .priceMismatch
        ? "the quantities agree, the unit price differs" : "the unit price agrees, the posted quantity differs"
      return lines.map { "\(text): \($0.text)" } ?? text
    }
  }

  /// PRICE_MISMATCH where all that differs in the revenue agrees in its quantity, QUANTITY_MISMATCH where all agrees in
  /// its unit price: line by line in the documents of which both sides tell the lines, else document by document. nil
  /// where neither explains the whole difference, or a quantity is not known.
  func causeByQuantity(_ currency: Int) -> QuantityCause? {
    // What another finding has taken out of the difference is in the postings still.
    guard !findings.contains(where: { $0.parts.contains { $0.currency == currencies[currency] } }) else { return nil }
    let documents = soldDocuments(currency)
    guard documents.allSatisfy(\.total.hasQuantities) else { return nil }
    var type: BreakType?
    var lines: [Sold] = []
    for document in documents where document.total.delta != 0 {
      let isByLine = !document.lines.isEmpty
      for one in isByLine ? document.lines : [document.total] where one.delta != 0 {
        guard let own = typeByQuantity(one, isLine: isByLine), type == nil || type == own else { return nil }
        type = own
        if isByLine { lines.append(one) }
      }
    }
    guard let type else { return nil }
    return QuantityCause(type: type, lines: lines.isEmpty ? nil : differences(lines, currency))
  }

  /// Documents whose total agrees although their lines do not. Nothing is missing or too much in any role, so that the
  /// findings have no parts; their size is what the lines differ by.
  mutating func judgeLines() {
    for currency in currencies.indices {
      let revenue = currency * roleCount + Int(AccountRole.revenue.rawValue)
      let tolerance = policy.tolerances[Int(AccountRole.revenue.rawValue)]
      let exponent = currencies[currency].exponent
      var (byPrice, byQuantity): ([Sold], [Sold]) = ([], [])
      var (total, lineCount): (Int128, Int) = (0, 0)
      for document in soldDocuments(currency) where !document.lines.isEmpty && document.total.hasQuantities {
        let (expected, delta) = (-document.total.expectedAmount, -document.total.delta)
        guard
          tolerance.accepts(expected: expected, delta: delta, exponent: exponent) || magnitude(delta) <= roundingLimit()
        else { continue }
        let differing = document.lines.filter { $0.delta != 0 }
        // Lines that all differ to one side are the difference of the document.
        guard differing.reduce(0, { $0 + magnitude($1.delta) }) > magnitude(delta) else { continue }
        total += expected
        lineCount += document.lines.count
        for line in differing {
          if line.expectedQuantity == line.postedQuantity { byPrice.append(line) } else { byQuantity.append(line) }
        }
      }
      let size = (byPrice + byQuantity).reduce(Int128(0)) { $0 + magnitude($1.delta) }
      guard size != 0 else { continue }
      let isAccepted =
        [size, -size].allSatisfy { tolerance.accepts(expected: total, delta: $0, exponent: exponent) }
        || size <= max(roundingLimit(), Int128(lineCount / 2))
      for (type, lines) in [(BreakType.priceMismatch, byPrice), (.quantityMismatch, byQuantity)] where !lines.isEmpty {
        var differences = differences(lines, currency)
        differences.size = lines.reduce(0) { $0 + magnitude($1.delta) }
        let what = type == .priceMismatch ? "the unit prices of its lines do not" : "the quantities of its lines do not"
        var finding = Finding(
          type, .revenue, currencies[currency], expected: Int64(clamping: expected[revenue]),
          posted: Int64(clamping: posted[revenue]),
          reason: """
            the total agrees, \(what), by \(formatDecimal(differences.size, decimals: exponent)) in all: \
            \(differences.text)
            """)
        finding.isAccepted = isAccepted
        finding.lines = differences
        findings.append(finding)
      }
    }
  }

  // MARK: - What was sold

  /// The billing documents of a currency that add to the revenue, by number, each with its lines by number. Where one side
  /// names its documents and the other does not, the order as a whole stands for one.
  private func soldDocuments(_ currency: Int) -> [SoldDocument] {
    var sales: [Sale] = []
    for (place, event) in dueEvents.enumerated() where event.currency == currencies[currency] && !isVoid[place] {
      var amount: Int128 = 0
      for entry in policy.entries(of: event) where entry.role == .revenue {
        amount -= Int128(event.amount(entry.component)) * Int128(entry.sign)
      }
      if amount == 0 { continue }
      sales.append(
        Sale(
          document: event.document, line: event.line, quantity: signed(event.quantity_u, by: amount), amount: amount,
          isPosted: false))
    }
    for posting in duePostings where posting.currency == currencies[currency] && posting.role == .revenue {
      let amount = -Int128(posting.amount)
      sales.append(
        Sale(
          document: posting.document, line: posting.line, quantity: signed(posting.quantity_u, by: amount),
          amount: amount, isPosted: true))
    }
    let documents = group(&sales)
    guard documents.contains(where: { $0.total.expectedQuantity == 0 || $0.total.postedQuantity == 0 }) else {
      return documents
    }
    for at in sales.indices { sales[at].document = .empty }
    return group(&sales)
  }

  private func group(_ sales: inout [Sale]) -> [SoldDocument] {
    sales.sort {
      $0.document.elementsEqual($1.document)
        ? $0.line.buffer.lexicographicallyPrecedes($1.line.buffer)
        : $0.document.buffer.lexicographicallyPrecedes($1.document.buffer)
    }
    var documents: [SoldDocument] = []
    for sale in sales {
      if documents.last.map({ !$0.total.document.elementsEqual(sale.document) }) ?? true {
        documents.append(SoldDocument(total: Sold(document: sale.document)))
      }
      let at = documents.count - 1
      documents[at].total.add(sale)
      if documents[at].lines.last.map({ !$0.line.elementsEqual(sale.line) }) ?? true {
        documents[at].lines.append(Sold(document: sale.document, line: sale.line))
      }
      documents[at].lines[documents[at].lines.count - 1].add(sale)
    }
    for at in documents.indices {
      let isComparable =
        documents[at].total.hasLines && documents[at].lines.contains { $0.isExpected && $0.isPosted }
      if !isComparable { documents[at].lines.removeAll() }
    }
    return documents
  }

  private func typeByQuantity(_ one: Sold, isLine: Bool) -> BreakType? {
    // A line that one side does not have is a quantity of nothing there; of a document nothing is known then.
    guard isLine || one.expectedQuantity != 0 && one.postedQuantity != 0 else { return nil }
    if one.expectedQuantity == one.postedQuantity { return .priceMismatch }
    return hasEqualPrice(one) ? .quantityMismatch : nil
  }

  private func signed(_ quantity: Int64?, by amount: Int128) -> Int128? {
    quantity.map { amount < 0 ? -Int128($0.magnitude) : Int128($0.magnitude) }
  }

  /// posted amount / posted quantity = expected amount / expected quantity, to what rounding the lines makes of it.
  private func hasEqualPrice(_ one: Sold) -> Bool {
    let (left, isLeftWide) = one.postedAmount.multipliedReportingOverflow(by: one.expectedQuantity)
    let (right, isRightWide) = one.expectedAmount.multipliedReportingOverflow(by: one.postedQuantity)
    guard !isLeftWide, !isRightWide else { return false }
    let slack = one.expectedQuantity.magnitude * UInt128(max(1, roundingLimit()))
    return (left - right).magnitude <= slack
  }

  /// The lines in words and numbers: those that differ most first.
  private func differences(_ lines: [Sold], _ currency: Int) -> LineDifferences {
    var lines = lines
    lines.sort {
      let (a, b) = ($0.delta.magnitude, $1.delta.magnitude)
      if a != b { return a > b }
      if !$0.document.elementsEqual($1.document) {
        return $0.document.buffer.lexicographicallyPrecedes($1.document.buffer)
      }
      return $0.line.buffer.lexicographicallyPrecedes($1.line.buffer)
    }
    var told = LineDifferences(count: lines.count)
    for one in lines {
      for number in [one.expectedQuantity, one.expectedAmount, one.postedQuantity, one.postedAmount] {
        told.hash = mixed(told.hash, UInt64(truncatingIfNeeded: number))
      }
      told.hash = mixed(told.hash, Fingerprint(one.document).high ^ Fingerprint(one.line).low)
    }
    told.lines = lines.prefix(maximumEvidenceLines).map {
      Break.LineEvidence(
        document: $0.document.string, line: $0.line.string, currency: currencies[currency],
        expectedQuantity: Int64(clamping: $0.expectedQuantity), postedQuantity: Int64(clamping: $0.postedQuantity),
        expected: Int64(clamping: -$0.expectedAmount), posted: Int64(clamping: -$0.postedAmount))
    }
    return told
  }
}

/// The lines of a finding that differ.
struct LineDifferences {
  /// At most `maximumEvidenceLines`, those that differ most first.
  var lines: [Break.LineEvidence] = []
  /// Of all that there are.
  var count: Int
  /// Σ |difference| where it does not show in the role's own difference, in minor units; else 0.
  var size: Int128 = 0
  /// Of what all of them say.
  var hash: UInt64 = 0

  init(count: Int) { self.count = count }

  /// `INV1 line 10: 10 × 5.00, posted 10 × 4.00; …; 2 more lines`.
  var text: String {
    let told = lines.map { one in
      let name = one.document.isEmpty ? "line \(one.line)" : "\(one.document) line \(one.line)"
      func side(_ quantity: Int64, _ price: String?) -> String? { price.map { "\(quantityText(quantity)) × \($0)" } }
      let expected = side(one.expectedQuantity, one.expectedPrice) ?? "not expected"
      let posted = side(one.postedQuantity, one.postedPrice).map { "posted \($0)" } ?? "not posted"
      return "\(name): \(expected), \(posted)"
    }
    let rest = count - lines.count
    return told.joined(separator: "; ") + (rest > 0 ? "; \(rest) more line\(rest == 1 ? "" : "s")" : "")
  }

  /// Takes in those of another cause under the same break.
  mutating func add(_ other: LineDifferences) {
    lines = Array((lines + other.lines).prefix(maximumEvidenceLines))
    count += other.count
    size += other.size
    hash = mixed(hash, other.hash)
  }
}

/// Millionths of the unit, without zeros that say nothing.
func quantityText(_ quantity_u: Int64) -> String { formatDecimal(Int128(quantity_u), decimals: 6, leastDecimals: 0) }
