import ConsoleStore
import Domain
import Pipeline

/// Which journal writes the difference of a break off.
///
/// What is given up is an open item, and it leaves the balance in which it is open: that of the break's role, or where cash
/// or revenue differ, the one that holds the counter-entry. Neither the bank nor the revenue becomes another one by it.
/// Of the balances what counts is the break's own part of their difference, and what no other write-off holds.
enum WriteOff {
  /// Of other types the ledger lacks or has something that is to be posted, reversed or moved.
  private static let types: Set<BreakType> = [
    .amountMismatch, .freightMismatch, .discountMismatch, .quantityMismatch, .priceMismatch, .rounding, .shortPay,
    .overPay, .feeVariance,
  ]
  /// Where items are open, in the order in which they are asked for a counter-entry.
  private static let balances: [AccountRole] = [.receivable, .clearing, .deposit, .unbilled]
  private static let opposed: Set<AccountRole> = [.cash, .revenue, .freight, .discount, .returns, .fees]

  /// Signed debit − credit; the two lines sum to zero.
  static func journal(_ document: BreakDocument, _ open: OpenBalances = OpenBalances()) throws(Problem) -> [Action.Line]
  {
    guard document.delta != nil, let affected = document.affected, document.amount_u != 0 else {
      throw Problem.unprocessable("there is no difference in one currency that could be written off")
    }
    guard let type = BreakType(rawValue: document.type), let role = AccountRole(name: document.role),
      types.contains(type)
    else {
      throw Problem.unprocessable(
        "\(document.type) is put right by what is posted, reversed or moved in the ledger, and is not written off")
    }
    var amount = document.units(affected)
    if balances.contains(role) {
      guard !isLacking(document, role, amount) else { throw lacking(role) }
      try open.check(role, part: amount, item: amount)
      return lines(out: role, amount, document)
    }
    // The role stays as it is: what has been written off of its difference stands beside it.
    if let written = document.role(.writeOff).map({ document.units($0.own) }), written != 0 {
      guard (written < 0) != (amount < 0), written.magnitude < amount.magnitude else {
        throw Problem.unprocessable("what the break explains stands in write_off already")
      }
      amount += written
    }
    guard opposed.contains(role), let host = counterpart(document, amount) else {
      throw Problem.unprocessable(
        "the difference in \(role.name) is no open item: of no receivable, clearing, deposit or unbilled balance of the "
          + "order does this break explain as much the other way")
    }
    guard !isLacking(document, host.role, host.part) else { throw lacking(host.role) }
    try open.check(host.role, part: host.part, item: 0 - amount)
    return lines(out: host.role, 0 - amount, document)
  }

  /// - Parameter amount: What is open in the role, and goes from there into `write_off`.
  private static func lines(out role: AccountRole, _ amount: Int64, _ document: BreakDocument) -> [Action.Line] {
    func text(_ amount: Int64) -> String {
      formatDecimal(Int128(amount), decimals: Currency(document.currency)?.exponent ?? 0)
    }
    return [Action.Line(role: role, amount: text(0 - amount)), Action.Line(role: .writeOff, amount: text(amount))]
  }

  /// The balance of which the break's part is just as much the other way, else the first of which it is more.
  private static func counterpart(_ document: BreakDocument, _ wanted: Int64) -> (role: AccountRole, part: Int64)? {
    let open = balances.map { role in (role: role, part: document.role(role).map { document.units($0.own) } ?? 0) }
    return open.first { $0.part == 0 - wanted }
      ?? open.first { ($0.part < 0) != (wanted < 0) && $0.part.magnitude > wanted.magnitude }
  }

  /// Whether the ledger has less in a balance than the orders ask for, of whichever sign that is: nothing stands there that
  /// could leave it.
  private static func isLacking(_ document: BreakDocument, _ role: AccountRole, _ part: Int64) -> Bool {
    let told = document.role(role)?.expected ?? (document.role == role.name ? document.expected : nil)
    let expected = told.map { document.units($0) } ?? 0
    return expected != 0 && (expected < 0) != (part < 0)
  }

  private static func lacking(_ role: AccountRole) -> Problem {
    Problem.unprocessable(
      "the ledger has less in \(role.name) than the orders ask for: what is missing there is posted, and there is nothing "
        + "to write off")
  }
}

/// What is open in the balances of an order, in the currency of one of its breaks, and what write-offs of its other breaks
/// hold of it: each of these has been asked for, and its journal is not posted yet.
struct OpenBalances {
  /// Posted − expected as the newest message about the order tells it.
  private var differences: [AccountRole: Int128] = [:]
  private var held: [(action: String, role: AccountRole, amount: Int128)] = []

  init() {}

  /// - Parameters:
  ///   - order: All breaks of the order.
  ///   - made: What the same request asks for besides.
  ///   - countsWaiting: Whether what waits for a second person holds a balance too: it does where more is asked for, and an
  ///     approval comes before it.
  init(_ order: [BreakDetail], for document: BreakDocument, beside made: [Action] = [], countsWaiting: Bool) {
    func time(_ detail: BreakDetail) -> (Int64, String) {
      (detail.revisions.last?.at_ms ?? 0, detail.document.asOf ?? "")
    }
    let newest = order.filter { $0.document.evidence.roles?.isEmpty == false }.max { time($0) < time($1) }
    for told in newest?.document.evidence.roles ?? [] where told.currency == document.currency {
      if let role = AccountRole(name: told.role) { differences[role] = Int128(document.units(told.delta)) }
    }
    var asked: [(action: Action, detail: BreakDetail)] = []
    for detail in order {
      for id in detail.workflow.proposals {
        if let action = detail.actions.first(where: { $0.id == id }) { asked.append((action, detail)) }
      }
    }
    asked.sort { ($0.action.at, $0.action.id) < ($1.action.at, $1.action.id) }
    // What has come into `write_off` is of the oldest ones.
    var posted = differences[.writeOff] ?? 0
    for (action, detail) in asked {
      guard let written = OpenBalances.written(action, document) else { continue }
      let isPosted = posted != 0 && (posted < 0) == (written < 0)
      let taken = !isPosted ? 0 : posted.magnitude < written.magnitude ? posted : written
      posted -= taken
      // Where a break is closed, others may have taken its place: what it asked for is on its way all the same.
      guard detail.document.id != document.id, detail.document.state != BreakState.autoCleared.rawValue,
        detail.standingWriteOff == action.id
      else { continue }
      hold(action, document, part: written - taken)
    }
    for detail in order where countsWaiting && detail.document.id != document.id {
      for action in detail.actions where detail.pendingWriteOffs.contains(action.id) { hold(action, document) }
    }
    for action in made where action.order == document.order && action.breakID != document.id {
      hold(action, document)
    }
  }

  private static func written(_ action: Action, _ document: BreakDocument) -> Int128? {
    guard action.currency == document.currency else { return nil }
    return action.lines?.first { $0.role == AccountRole.writeOff.name }.map { Int128(document.units($0.amount)) }
  }

  /// - Parameter part: Of what it puts into `write_off`, as much as is not posted; all of it where nothing is said.
  private mutating func hold(_ action: Action, _ document: BreakDocument, part: Int128? = nil) {
    guard let written = OpenBalances.written(action, document), part != 0,
      let role = action.lines?.first(where: { $0.role != AccountRole.writeOff.name }).flatMap({
        AccountRole(name: $0.role)
      })
    else { return }
    held.append((action.id, role, part ?? written))
  }

  /// - Parameters:
  ///   - part: What the break explains of the role's difference.
  ///   - item: What is open there, and is to leave it.
  func check(_ role: AccountRole, part: Int64, item: Int64) throws(Problem) {
    let others = held.filter { $0.role == role && ($0.amount < 0) == (item < 0) }
    let taken = others.reduce(Int128(0)) { $0 + $1.amount }
    guard taken != 0 else { return }
    let whole = differences[role] ?? 0
    // Where other breaks of the order are off the other way, there is less in sum than this one explains.
    let most = max((whole < 0) == (item < 0) ? whole.magnitude : 0, UInt128(part.magnitude))
    guard most < taken.magnitude + UInt128(item.magnitude) else { return }
    throw Problem(
      .conflict, "balance_held",
      "what is open in \(role.name) of this order is held by write-offs whose journals are not posted yet: "
        + others.map(\.action).joined(separator: ", "))
  }
}

extension BreakDocument {
  /// In minor units of the break's currency.
  fileprivate func units(_ text: String) -> Int64 {
    BreakDocument.units(text, decimals: Currency(currency)?.exponent ?? 0)
  }

  fileprivate func role(_ role: AccountRole) -> Role? {
    evidence.roles?.first { $0.role == role.name && $0.currency == currency }
  }
}
