import Domain
import Forecasting

/// Items in the base currency, all by the rates of one day: what they would come to today. So what is open, what came in
/// and what is expected can be compared and added up over currencies, and no change of a rate looks like a payment.
enum BaseItems {
  /// An item by the rate of a day; nil where there is none for its currency.
  ///
  /// What is left of it after each application is converted, and the applications are what lies between, so that an item
  /// that is settled is so to the minor unit.
  static func converted(_ item: ReceivableItem, _ rates: ExchangeRates, day: Int32) -> ReceivableItem? {
    func convert(_ amount: Int64) -> Int64? { rates.convert(amount, from: item.currency, day: day) }
    guard let amount = convert(item.amount), let received = convert(item.received),
      let credited = convert(item.credited)
    else { return nil }
    var made = item
    (made.currency, made.amount, made.received, made.credited) = (rates.base, amount, received, credited)
    made.applications.sort { $0.day < $1.day }
    var (rest, left) = (item.amount, amount)
    for at in made.applications.indices {
      rest = rest.subtractingSaturating(made.applications[at].amount)
      guard let after = convert(rest) else { return nil }
      made.applications[at].amount = left.subtractingSaturating(after)
      left = after
    }
    return made
  }
}
