import Domain
import Testing

@testable import Matching

/// Price and quantity line by line, where both sides tell the lines of a document.
@Suite struct LineTests {
  let r = Records()

  /// Quantity, unit price in minor units, and line (nil: the record names none).
  typealias Line = (line: String?, quantity: Int64, price: Int64)

  func sold(_ lines: [Line], document: String = "INV1") -> [Input] {
    lines.enumerated().map { at, line in
      let net = line.quantity * line.price
      var event = r.event(
        "O1", id: "\(document)-\(at)", document: document, net: net, gross: net, quantity: line.quantity)
      if let name = line.line { event.line = r.view(name) }
      return .order(event)
    }
  }

  func posted(_ lines: [Line], document: String = "INV1") -> [Input] {
    let total = lines.reduce(Int64(0)) { $0 + $1.quantity * $1.price }
    let journal = "J-\(document)"
    return [.posting(r.posting("O1", .receivable, total, journal: journal, line: 900, document: document))]
      + lines.enumerated().map { at, line in
        var posting = r.posting(
          "O1", .revenue, -line.quantity * line.price, journal: journal, line: at + 1, document: document)
        posting.quantity_u = line.quantity * 1_000_000
        posting.extras |= Posting.Extra.quantity
        if let name = line.line { posting.line = r.view(name) }
        return .posting(posting)
      }
  }

  func breaks(_ inputs: [Input], lines: Bool = false, _ change: (inout MatchingPolicy) -> Void = { _ in }) -> [Break] {
    finalBreaks(
      inputs,
      policy: testPolicy {
        $0.quantities.comparesLines = lines
        change(&$0)
      }
    ).values.filter { $0.state.isOpen || $0.state == .accepted }.sorted { $0.id < $1.id }
  }

  func types(_ inputs: [Input], lines: Bool = false) -> [String] {
    breaks(inputs, lines: lines).map { "\($0.type.rawValue) \($0.delta)" }
  }

  @Test func aLineIsExplainedByItsPriceOrItsQuantity() {
    let own: [Line] = [("10", 10, 5_00), ("20", 5, 8_00)]
    // The average price of the document says nothing: line by line one quantity differs.
    #expect(types(sold(own) + posted([("10", 10, 5_00), ("20", 4, 8_00)])) == ["QUANTITY_MISMATCH 800"])
    #expect(
      types(sold([(nil, 10, 5_00), (nil, 5, 8_00)]) + posted([("10", 10, 5_00), ("20", 4, 8_00)])) == [
        "AMOUNT_MISMATCH 800"
      ])
    #expect(types(sold(own) + posted([("10", 10, 5_50), ("20", 5, 8_00)])) == ["PRICE_MISMATCH -500"])
    // The document agrees in its quantity, its lines do not.
    #expect(types(sold(own) + posted([("10", 9, 5_00), ("20", 6, 8_00)])) == ["QUANTITY_MISMATCH -300"])
    #expect(
      types(sold([(nil, 10, 5_00), (nil, 5, 8_00)]) + posted([("10", 9, 5_00), ("20", 6, 8_00)])) == [
        "PRICE_MISMATCH -300"
      ])
    // One of each, or both in one line: neither explains the whole.
    #expect(types(sold(own) + posted([("10", 9, 5_00), ("20", 5, 8_50)])) == ["AMOUNT_MISMATCH 250"])
    #expect(types(sold(own) + posted([("10", 9, 5_50), ("20", 5, 8_00)])) == ["AMOUNT_MISMATCH 50"])
    // A line that is not posted is a quantity of nothing; one that has no line makes the document one.
    #expect(types(sold(own) + posted([("10", 10, 5_00)])) == ["QUANTITY_MISMATCH 4000"])
    #expect(types(sold(own) + posted([("10", 10, 5_00), (nil, 4, 8_00)])) == ["AMOUNT_MISMATCH 800"])
    // Where no line has the same name on both sides, the numbers are of two worlds.
    #expect(types(sold(own) + posted([("0001", 10, 5_00), ("0002", 4, 8_00)])) == ["AMOUNT_MISMATCH 800"])
  }

  @Test func theBreakNamesTheLines() throws {
    let own: [Line] = [("10", 10, 5_00), ("20", 3, 3_33), ("30", 1, 1_00)]
    let price = try #require(breaks(sold(own) + posted([("10", 10, 5_50), ("20", 3, 3_34), ("30", 1, 1_00)])).first)
    #expect(
      price.reason == "the quantities agree, the unit price differs: INV1 line 10: 10 × 5.00, posted 10 × 5.50; "
        + "INV1 line 20: 3 × 3.33, posted 3 × 3.34")
    #expect(price.lines.map(\.line) == ["10", "20"] && price.lineCount == 2)
    #expect(price.lines[0].expected == -50_00 && price.lines[0].posted == -55_00)
    let missing = try #require(breaks(sold(own) + posted([("10", 10, 5_00), ("20", 3, 3_33)])).first)
    #expect(missing.reason.hasSuffix("INV1 line 30: 1 × 1.00, not posted"))
    // Five are named, those that differ most; the others are counted.
    let many = (1...8).map { (line: "\($0)" as String?, quantity: Int64(2), price: Int64(5_00)) }
    let dearer = many.enumerated().map { ($1.line, $1.quantity, $1.price + Int64($0 + 1)) }
    let bounded = try #require(breaks(sold(many) + posted(dearer)).first)
    #expect(bounded.lines.map(\.line) == ["8", "7", "6", "5", "4"] && bounded.lineCount == 8)
    #expect(bounded.reason.hasSuffix("; 3 more lines"))
    // Amounts a unit are rounded to four decimals more than the currency has.
    let third = try #require(
      breaks(
        sold([("A", 1, 1_00), ("B", 1, 5_00)])
          + posted([("A", 1, 1_00), ("B", 3, 5_00)]).map {
            guard case .posting(var posting) = $0, posting.role == .revenue, posting.line.string == "B" else {
              return $0
            }
            posting.amount = -10_00
            posting.quantity_u = 3_000_000
            return .posting(posting)
          }
      ).first)
    #expect(third.lines.isEmpty, "neither explains it")
  }

  @Test func severalEventsAndPostingsOfALineAddUp() {
    let own: [Line] = [("10", 4, 5_00), ("10", 6, 5_00), ("20", 5, 8_00)]
    #expect(types(sold(own) + posted([("10", 7, 5_00), ("20", 5, 8_00), ("10", 3, 5_00)]), lines: true) == [])
    #expect(
      types(sold(own) + posted([("10", 7, 5_00), ("20", 5, 8_00), ("10", 2, 5_00)])) == ["QUANTITY_MISMATCH 500"])
  }

  @Test func linesThatAreWrongInOppositeDirections() throws {
    let own: [Line] = [("10", 10, 5_00), ("20", 5, 8_00)]
    let swapped = sold(own) + posted([("10", 10, 4_00), ("20", 5, 10_00)])
    #expect(types(swapped) == [])
    let made = try #require(breaks(swapped, lines: true).first)
    #expect(made.id == "O1:PRICE_MISMATCH:revenue" && made.delta == 0 && made.expected == -90_00)
    #expect(
      made.reason == "the total agrees, the unit prices of its lines do not, by 20.00 in all: "
        + "INV1 line 10: 10 × 5.00, posted 10 × 4.00; INV1 line 20: 5 × 8.00, posted 5 × 10.00")
    #expect(made.severity == .low)
    // By what the lines differ, not by what the order is worth.
    let severe = breaks(swapped, lines: true) { $0.severityAmounts_u = [20_000_000, 20_010_000, 90_000_000] }
    #expect(severe.map(\.severity) == [.medium])
    // Quantities that agree by document and differ by line.
    let same: [Line] = [("10", 10, 5_00), ("20", 4, 5_00)]
    let moved = sold(same) + posted([("10", 8, 5_00), ("20", 6, 5_00)])
    #expect(types(moved) == [] && types(moved, lines: true) == ["QUANTITY_MISMATCH 0"])
    // Each line under its own type.
    #expect(
      types(sold(own) + posted([("10", 10, 4_20), ("20", 6, 8_00)]), lines: true)
        == ["PRICE_MISMATCH 0", "QUANTITY_MISMATCH 0"])
    // Without lines on one side, as ever.
    #expect(types(sold(own) + posted([(nil, 10, 4_00), ("20", 5, 10_00)]), lines: true) == [])
    // Within tolerance it is accepted.
    let accepted = breaks(swapped, lines: true) {
      $0.tolerances = $0.tolerances.map { _ in Tolerance(absolute_u: 20_000_000) }
    }
    #expect(accepted.map(\.state) == [.accepted])
    #expect(
      breaks(swapped, lines: true) { $0.tolerances = $0.tolerances.map { _ in Tolerance(absolute_u: 19_990_000) } }.map(
        \.state) == [.open])
  }

  /// What offsets itself has no side: it is accepted where it would be on either.
  @Test func toleranceOfLinesIsThatOfBothSides() {
    let inputs = sold([("10", 10, 5_00), ("20", 5, 8_00)]) + posted([("10", 10, 4_00), ("20", 5, 10_00)])
    for isUnder in [true, false] {
      let found = breaks(inputs, lines: true) {
        for role in $0.tolerances.indices {
          if isUnder { $0.tolerances[role].under_u = 50_000_000 } else { $0.tolerances[role].over_u = 50_000_000 }
        }
      }
      #expect(found.map(\.state) == [.open])
    }
  }

  /// A total that agrees within tolerance: a line that is the whole difference is no second break, lines that offset each
  /// other are one.
  @Test func linesOfATotalWithinTolerance() {
    let own: [Line] = [("10", 10, 5_00), ("20", 5, 8_00)]
    func found(_ theirs: [Line]) -> [String] {
      breaks(sold(own) + posted(theirs), lines: true) {
        $0.tolerances = $0.tolerances.map { _ in Tolerance(absolute_u: 1_000_000) }
      }.map { "\($0.type.rawValue) \($0.delta) \($0.state)" }
    }
    #expect(found([("10", 10, 5_05), ("20", 5, 8_00)]) == ["AMOUNT_MISMATCH 50 accepted"])
    #expect(
      found([("10", 10, 4_00), ("20", 5, 10_10)]) == ["AMOUNT_MISMATCH 50 accepted", "PRICE_MISMATCH -50 open"])
  }

  @Test func aDocumentThatDiffersBesideOneThatAgrees() throws {
    let own: [Line] = [("10", 10, 5_00), ("20", 5, 8_00)]
    let inputs =
      sold(own) + posted([("10", 10, 4_00), ("20", 5, 10_00)]) + sold([("10", 2, 7_00)], document: "INV2")
      + posted([("10", 2, 7_50)], document: "INV2")
    let without = breaks(inputs)
    #expect(without.map(\.delta) == [-1_00] && without[0].lines.map(\.document) == ["INV2"])
    let with = breaks(inputs, lines: true)
    #expect(with.map(\.id) == ["O1:PRICE_MISMATCH:revenue"] && with[0].delta == -1_00 && with[0].lineCount == 3)
    // A document that was cancelled and reversed is none.
    let cancelled =
      sold(own) + posted(own)
      + [.order(r.event("O1", .invoiceCancelled, document: "INV1"))]
      + posted(own).map {
        guard case .posting(var posting) = $0 else { return $0 }
        posting.amount = -posting.amount
        posting.id = r.view("R-\(posting.id.string)")
        posting.journal = r.view("R-J")
        return .posting(posting)
      }
    #expect(types(cancelled, lines: true) == [])
  }

  /// What is told again when only the lines change, and that a correction clears it.
  @Test func aCorrectionOfTheLinesIsARevision() {
    let own: [Line] = [("10", 10, 5_00), ("20", 5, 8_00)]
    var matcher = Matcher(policy: testPolicy { $0.quantities.comparesLines = true }, dimensionCount: 0)
    var outputs = MatchOutputs()
    func correction(_ first: Int64, _ second: Int64, _ number: Int) -> [Input] {
      [("10", first), ("20", second)].map { line, amount in
        var posting = r.posting("O1", .revenue, amount, journal: "C\(number)", line: Int(line)!, document: "INV1")
        posting.line = r.view(line)
        posting.quantity_u = 0
        posting.extras |= Posting.Extra.quantity
        return .posting(posting)
      }
    }
    matcher.take(sold(own) + posted([("10", 10, 4_00), ("20", 5, 10_00)]), into: &outputs)
    matcher.watermarks.force(t0 + 100 * hour)
    matcher.advance(now_ms: t0 + 1_000 * hour, outputs: &outputs)
    #expect(outputs.breaks.map(\.revision) == [1])
    matcher.take(correction(-5_00, 5_00, 1), into: &outputs)
    matcher.advance(now_ms: t0 + 1_000 * hour, outputs: &outputs)
    matcher.finish(outputs: &outputs)
    #expect(outputs.breaks.last?.revision == 2 && outputs.breaks.last?.reason.contains("by 10.00 in all") == true)
    expectControlTotals(matcher.totals)
  }

  /// A record that comes again under its id and names another line is a conflict, and the same one is none.
  @Test func theLineIsPartOfWhatARecordSays() {
    func conflicts(_ line: String) -> [String] {
      var (first, second) = (
        r.event("O1", document: "D", net: 100, gross: 100), r.event("O1", document: "D", net: 100, gross: 100)
      )
      first.line = r.view("1")
      second.line = r.view(line)
      return verdicts([first, second], r.invoice("O1", net: 100, document: "D"))
    }
    #expect(conflicts("1") == [])
    #expect(conflicts("2") == ["DUPLICATE_ORDER_EVENT:receivable"])
  }

  // MARK: - Any order of arrival, and the plain way

  /// What must be found of the lines of one document, the plain way.
  func plain(_ own: [Line], _ theirs: [Line]) -> Set<String> {
    var lines: [String: (Int64, Int64, Int64, Int64)] = [:]
    for line in own {
      lines[line.line!, default: (0, 0, 0, 0)].0 += line.quantity
      lines[line.line!]!.1 += line.quantity * line.price
    }
    for line in theirs {
      lines[line.line!, default: (0, 0, 0, 0)].2 += line.quantity
      lines[line.line!]!.3 += line.quantity * line.price
    }
    let delta = lines.values.reduce(0) { $0 + $1.3 - $1.1 }
    let types = Set(
      lines.values.filter { $0.1 != $0.3 }.map { line -> String in
        if line.0 == line.2 { return "PRICE_MISMATCH" }
        // To a minor unit of rounding.
        if abs(line.3 * line.0 - line.1 * line.2) * 1_000_000 <= line.0 * 1_000_000 { return "QUANTITY_MISMATCH" }
        return delta == 0 ? "QUANTITY_MISMATCH" : "AMOUNT_MISMATCH"
      })
    if delta == 0 || types.count < 2 { return Set(types.map { "\($0) \(-delta)" }) }
    return ["AMOUNT_MISMATCH \(-delta)"]
  }

  @Test(arguments: 0..<150 as Range<UInt64>) func linesInAnyOrderOfArrivalGiveTheSameBreaks(seed: UInt64) {
    var generator = SeededGenerator(state: seed &* 71 &+ 11)
    let own: [Line] = (0..<Int.random(in: 2...6, using: &generator)).map { _ in
      (
        "\(Int.random(in: 1...4, using: &generator) * 10)", Int64.random(in: 1...9, using: &generator),
        Int64.random(in: 5...9, using: &generator) * 1_00
      )
    }
    var theirs = own
    for _ in 0..<Int.random(in: 0...2, using: &generator) {
      let (a, b) = (Int.random(in: 0..<own.count, using: &generator), Int.random(in: 0..<own.count, using: &generator))
      switch Int.random(in: 0..<4, using: &generator) {
      case 0:
        // As much more here as less there.
        let step = theirs[a].quantity * theirs[b].quantity
        guard theirs[a].price * theirs[a].quantity > step else { continue }
        theirs[a].price -= theirs[b].quantity
        theirs[b].price += theirs[a].quantity
      case 1:
        (theirs[a].line, theirs[b].line) = (theirs[b].line, theirs[a].line)
      case 2: theirs[a].price += Int64.random(in: 1...3, using: &generator) * 10
      default: theirs[a].quantity += 1
      }
    }
    guard theirs.allSatisfy({ $0.price > 0 }) else { return }
    let inputs = sold(own) + posted(theirs)
    let first = breaks(inputs, lines: true)
    let expected = plain(own, theirs)
    // Off by powers of ten, or swapped signs, do not come up: an amount type is what remains.
    #expect(Set(first.map { "\($0.type.rawValue) \($0.delta)" }) == expected, "seed \(seed)")
    for _ in 0..<4 {
      let other = breaks(inputs.shuffled(using: &generator), lines: true)
      #expect(other.map(\.id) == first.map(\.id), "seed \(seed)")
      #expect(other.map(\.reason) == first.map(\.reason) && other.map(\.lines) == first.map(\.lines), "seed \(seed)")
      #expect(
        other.map(\.severity) == first.map(\.severity) && other.map(\.state) == first.map(\.state), "seed \(seed)")
    }
  }
}
