import Domain
import Matching

/// Postings as records of a ledger, and as rows of a change feed that move from one order to another.
extension ClusterSimulation {
  static func text(_ posting: HistoryPosting, party: String?) -> String {
    let quantity =
      posting.quantity_u.map { #","quantity":"\#(formatDecimal(Int128($0), decimals: 6))""# } ?? ""
    let item = posting.documentLine.isEmpty ? "" : #","item":"\#(posting.documentLine)""#
    let period = posting.period == 0 ? "" : #","period":"\#(posting.period)""#
    return #"{"order":"\#(posting.order)","journal":"\#(posting.journal)","line":"\#(posting.line)","#
      + #""document":"\#(posting.document)","role":"\#(posting.role.name)","currency":"\#(posting.currency.code)","#
      + #""amount":"\#(formatDecimal(Int128(posting.amount), decimals: 2))","time":\#(posting.time_ms),"#
      + #""date":"\#(formatDate(posting.day_d))","reverses":"\#(posting.reverses)","#
      + #""region":"\#(posting.dimensions.first ?? "")""# + quantity + item + period
      + (party.map { #","party":"\#($0)"}"# } ?? "}")
  }

  /// The changes of a row that ends as a posting, in their order: two thirds of the rows were in other orders before, known
  /// or not, or were in their own and come back to it.
  func images(_ posting: HistoryPosting, _ random: inout SeededRandom) -> [String] {
    let others = Array(Set(history.events.map(\.order))).sorted() + ["unassigned", "unassigned-2"]
    var stays = [posting.order]
    switch random.below(6) {
    case 0, 1: break
    case 2, 3: stays.insert(random.pick(others), at: 0)
    case 4: stays = [random.pick(others), random.pick(others), posting.order]
    default: stays = [posting.order, random.pick(others), posting.order]
    }
    let rows = stays.enumerated().map { at, order in
      var image = posting
      image.order = order
      image.time_ms -= Int64(stays.count - 1 - at)
      return ClusterSimulation.text(image, party: nil)
    }
    return rows.indices.map {
      $0 == 0
        ? #"{"before":null,"after":\#(rows[0]),"op":"c"}"#
        : #"{"before":\#(rows[$0 - 1]),"after":\#(rows[$0]),"op":"u"}"#
    }
  }

  /// The images of a row come in their order; the last of the inputs is delivered first.
  func sortImages() {
    var places: [Int: [Int]] = [:]
    for (place, input) in inputs.enumerated() {
      if let record = input.record { places[record, default: []].append(place) }
    }
    let made = inputs
    for (_, own) in places where own.count > 1 {
      // By their event times, which grow by one from image to image.
      let sorted = own.sorted { ClusterSimulation.time_ms(made[$0]) > ClusterSimulation.time_ms(made[$1]) }
      for (place, from) in zip(own, sorted) { inputs[place] = made[from] }
    }
  }

  private static func time_ms(_ input: Input) -> Int64 {
    let text = String(decoding: input.value ?? [], as: UTF8.self)
    guard let at = text.range(of: #""time":"#, options: .backwards) else { return 0 }
    return Int64(text[at.upperBound...].prefix { $0.isNumber }) ?? 0
  }
}
