import Domain
import Testing

@testable import Decoding

/// What stands at the edges of a mapping: tables that skip, columns that stand twice, amounts that contradict their style.
@Suite struct MappingEdgeTests {
  /// `unlisted: skip` skips whatever field has the table.
  @Test func aTableSkipsWhateverTheField() throws {
    func skipping(_ field: String) throws -> [OrderEventText] {
      let spec = jsonOrders {
        var mapping = $0.fields[field]!
        mapping.table = ValueTable(name: "t", entries: ["known": "known"], unlisted: .skip)
        $0.fields[field] = mapping
      }
      return try decode(
        #"{"id":"A","event":{"id":"e","time":"2024-01-01T00:00:00Z","type":"x"},"cur":"EUR","amounts":{"net":1,"tax":2},"lines":[{},{"customer":"c"}]}"#,
        spec)
    }
    for field in ["currency", "order", "event_time", "net", "event_id", "customer"] {
      #expect(try skipping(field) == [], "\(field)")
    }
  }

  @Test(arguments: ["side", "amount", "debit", "credit", "currency", "order", "event_time", "role", "posting_date"])
  func aTableOfALedgerSkipsToo(_ field: String) throws {
    var spec = MappingSpecification(sourceName: "ledger", sourceIndex: 1, kind: .ledger, format: .json)
    spec.fields = [
      "order": path("o"), "role": path("r"), "currency": path("c"), "event_time": path("t"), "posting_date": path("p"),
    ]
    func skipping(_ name: String, _ own: String, _ entries: [String: String] = ["known": "debit"]) -> FieldMapping {
      var mapping = path(name)
      if own == field { mapping.table = ValueTable(name: "t", entries: entries, unlisted: .skip) }
      return mapping
    }
    for (name, place) in [
      ("order", "o"), ("role", "r"), ("currency", "c"), ("event_time", "t"), ("posting_date", "p"),
    ] {
      spec.fields[name] = skipping(place, name, ["known": name == "role" ? "cash" : "known"])
    }
    spec.amount =
      field == "debit" || field == "credit"
      ? .debitCredit(debit: skipping("d", "debit"), credit: skipping("h", "credit"))
      : .indicated(amount: skipping("d", "amount"), side: skipping("s", "side"))
    var decoder = PostingDecoder(plan: try MappingPlan(spec))
    var postings = RecordBuffer<Posting>()
    let text =
      #"{"o":"A","r":"cash","c":"EUR","t":"2024-01-01T00:00:00Z","p":"2024-01-01","d":1,"h":2,"s":"X"}"#
    let outcome = try text.withView {
      try decoder.decode(
        key: .empty, payload: $0, position: RecordPosition(source: 1, partition: 0, offset: 1), into: &postings)
    }
    #expect(outcome == .skipped && postings.count == 0)
  }
}
