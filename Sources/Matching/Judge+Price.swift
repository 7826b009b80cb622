import Domain

/// What quantities say of a difference in the revenue, where both sides tell them.
extension Judge {
  /// Quantity and amount of one billing document, on both sides.
  private struct Sold {
    var document: ByteView
    /// In millionths, and in minor units of revenue (credits positive).
    var expectedQuantity: Int128 = 0
    var expectedAmount: Int128 = 0
    var postedQuantity: Int128 = 0
    var postedAmount: Int128 = 0
  }

  /// PRICE_MISMATCH where every document with a difference in the revenue agrees in its quantity, QUANTITY_MISMATCH where
  /// every one agrees in its unit price; nil where neither explains the whole difference, or the quantities of a line
  /// are not known.
  func typeByQuantity(_ currency: Int) -> BreakType? {
    // What another finding has taken out of the difference is in the postings still.
    guard !findings.contains(where: { $0.parts.contains { $0.currency == currencies[currency] } }) else { return nil }
    var documents: [Sold] = []
    func index(_ document: ByteView) -> Int {
      if let found = documents.firstIndex(where: { $0.document.elementsEqual(document) }) { return found }
      documents.append(Sold(document: document))
      return documents.count - 1
    }
    for (place, event) in dueEvents.enumerated() where event.currency == currencies[currency] && !isVoid[place] {
      var amount: Int128 = 0
      for entry in policy.entries(of: event) where entry.role == .revenue {
        amount -= Int128(event.amount(entry.component)) * Int128(entry.sign)
      }
      if amount == 0 { continue }
      guard let quantity = event.quantity_u else { return nil }
      let at = index(event.document)
      documents[at].expectedAmount += amount
      documents[at].expectedQuantity += signed(quantity, by: amount)
    }
    for posting in duePostings where posting.currency == currencies[currency] && posting.role == .revenue {
      guard let quantity = posting.quantity_u else { return nil }
      let at = index(posting.document)
      documents[at].postedAmount -= Int128(posting.amount)
      documents[at].postedQuantity += signed(quantity, by: -Int128(posting.amount))
    }
    // Where one side names its documents and the other does not, the order is compared as a whole.
    if documents.contains(where: { $0.expectedQuantity == 0 || $0.postedQuantity == 0 }) {
      var whole = Sold(document: .empty)
      for one in documents {
        whole.expectedQuantity += one.expectedQuantity
        whole.expectedAmount += one.expectedAmount
        whole.postedQuantity += one.postedQuantity
        whole.postedAmount += one.postedAmount
      }
      documents = [whole]
    }
    var type: BreakType?
    for one in documents where one.expectedAmount != one.postedAmount {
      guard one.expectedQuantity != 0, one.postedQuantity != 0 else { return nil }
      let own: BreakType
      if one.expectedQuantity == one.postedQuantity {
        own = .priceMismatch
      } else if hasEqualPrice(one) {
        own = .quantityMismatch
      } else {
        return nil
      }
      guard type == nil || type == own else { return nil }
      type = own
    }
    return type
  }

  private func signed(_ quantity: Int64, by amount: Int128) -> Int128 {
    amount < 0 ? -Int128(quantity.magnitude) : Int128(quantity.magnitude)
  }

  /// posted amount / posted quantity = expected amount / expected quantity, to what rounding the lines makes of it.
  private func hasEqualPrice(_ one: Sold) -> Bool {
    let (left, isLeftWide) = one.postedAmount.multipliedReportingOverflow(by: one.expectedQuantity)
    let (right, isRightWide) = one.expectedAmount.multipliedReportingOverflow(by: one.postedQuantity)
    guard !isLeftWide, !isRightWide else { return false }
    let slack = one.expectedQuantity.magnitude * UInt128(max(1, roundingLimit()))
    return (left - right).magnitude <= slack
  }

  /// What a person is told of it.
  func reasonByQuantity(_ type: BreakType) -> String {
    type == .priceMismatch
      ? "the quantities agree, the unit price differs" : "the unit price agrees, the posted quantity differs"
  }
}
