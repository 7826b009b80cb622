import Domain

/// A generated record. Handing the same one to `Workload.next(into:)` again and again reuses its memory.
public struct GeneratedRecord: Sendable {
  public var isOrder = true
  public var key: [UInt8] = []
  public var value: [UInt8] = []
  /// Event time, milliseconds since 1970-01-01T00:00:00Z.
  public var time_ms: Int64 = 0

  public init() {}
}

/// A seeded load of orders and postings with labelled faults, in order of arrival.
///
/// Memory is bounded by the shuffle, not by the length of the load: a posting on its way is sixteen bytes that say of
/// which order it is (`SimulatedOrder`), and is written only when it arrives. The truth of the faults grows with their
/// number, unless `takeTruth` is called from time to time.
///
/// One turn of the ring is one order made. Where an order and its posting are due in the same turn the order comes
/// first; for the orders chosen by `ledgerFirstPer10000` it is the order that is put off.
public struct Workload: Sendable {
  public let options: WorkloadOptions
  /// Every fault made so far and not taken.
  public private(set) var truth: [TruthRow] = []

  /// A record, or the lines of a journal, on the way.
  private struct Pending {
    var number: Int
    var next: Int32 = -1
    /// Which invoice of the order; not 0 for hot keys only.
    var invoice: UInt16 = 0
    var copy: Int8
    /// One line of the journal, or all of them.
    var line: Int8 = everyLine
    static let everyLine: Int8 = -1
    /// In `copy`: the order event itself.
    static let order: Int8 = -1
    /// In `copy`: the journal of an order that does not exist.
    static let stray: Int8 = -2
  }
  private struct Slot {
    var first: Int32 = -1
    var last: Int32 = -1
  }

  private let faults: [FaultKind]
  private let encoder: WorkloadEncoder
  private var random: SeededRandom
  private var turn = 0
  private var hasStarted = false
  /// By turn: what arrives then.
  private var ring: [Slot]
  private var pool: [Pending] = []
  private var free: Int32 = -1
  private var pendingCount = 0
  private var order: SimulatedOrder
  private var current: Pending
  private var lines: [SimulatedOrder.Line] = []
  private var lineAt = 0

  public init(_ options: WorkloadOptions) {
    precondition(options.orders >= 0 && options.shuffle >= 0 && options.customers > 0, "counts are not negative")
    precondition((1...100).contains(options.postingsPerOrder), "an order has from 1 to 100 postings")
    precondition((1...60_000).contains(options.invoicesPerHotKey), "a hot key has from 1 to 60 000 invoices")
    self.options = options
    faults = options.faults.filter { $0.exists(in: options.shape) }
    encoder = WorkloadEncoder(options)
    // A stream that no order has.
    random = SeededRandom(seed: options.seed, stream: .max)
    // A second delivery comes a turn later at the earliest, and thus up to one turn beyond the shuffle.
    ring = Array(repeating: Slot(), count: options.shuffle + 2)
    order = SimulatedOrder(0, options, faults: [])
    // Nothing has been derived yet, order 0 neither.
    order.number = -1
    current = Pending(number: 0, copy: Pending.order)
  }

  /// The next record in order of arrival, nil at the end.
  public mutating func next() -> GeneratedRecord? {
    var record = GeneratedRecord()
    return next(into: &record) ? record : nil
  }

  /// Writes the next record in order of arrival over `record`.
  /// - Returns: false at the end of the load.
  public mutating func next(into record: inout GeneratedRecord) -> Bool {
    while true {
      if lineAt < lines.count {
        let line = lineAt
        // One line of the journal only, or the one behind it next.
        lineAt = current.line == Pending.everyLine ? lineAt + 1 : lines.count
        encoder.posting(order, place, lines[line], number: line + 1, into: &record)
        deliverAgain(line: Int8(line))
        return true
      }
      let slot = turn % ring.count
      if let arrived = pop(slot) {
        current = arrived
        if order.number != arrived.number { order = SimulatedOrder(arrived.number, options, faults: faults) }
        if arrived.copy == Pending.order {
          encoder.order(order, invoice: Int(arrived.invoice), into: &record)
          deliverAgain(line: Pending.everyLine)
          return true
        }
        order.lines(options.shape, isStray: arrived.copy == Pending.stray, into: &lines)
        lineAt = max(0, Int(arrived.line))
        continue
      }
      // The ring's slot of this turn is empty: the next order is made.
      if hasStarted { turn += 1 }
      hasStarted = true
      if turn < options.orders {
        make(turn)
      } else if pendingCount == 0 {
        return false
      }
    }
  }

  /// The faults made since the last call.
  public mutating func takeTruth() -> [TruthRow] {
    defer { truth.removeAll(keepingCapacity: true) }
    return truth
  }

  private var place: WorkloadEncoder.Place {
    .init(
      invoice: Int(current.invoice), copy: max(0, Int(current.copy)), isStray: current.copy == Pending.stray,
      delay: delay(current.number, invoice: Int(current.invoice), copy: Int(current.copy)))
  }

  private mutating func make(_ number: Int) {
    let order = SimulatedOrder(number, options, faults: faults)
    if let row = order.truth(options.shape) { truth.append(row) }
    let isFlat = options.shape == .flat
    for invoice in 0..<order.invoices {
      let first = invoice == 0 ? 0 : delay(number, invoice: invoice, copy: 100)
      let after = delay(number, invoice: invoice, copy: 0)
      // A flat order that does not exist has a posting only; the real ledger has one beside those of its orders.
      if !(order.fault == .missingOrder && isFlat) {
        push(
          Pending(number: number, invoice: UInt16(invoice), copy: Pending.order), order.isLedgerFirst ? after : first)
      }
      for copy in 0..<order.copies {
        let delay = delay(number, invoice: invoice, copy: copy)
        // Flat postings of one order come each by itself, journal lines of one document together.
        if isFlat, order.parts > 1 {
          for line in 0..<order.parts {
            push(
              Pending(number: number, invoice: UInt16(invoice), copy: Int8(copy), line: Int8(line)),
              order.isLedgerFirst ? 0 : (delay + line * 7) % (options.shuffle + 1))
          }
        } else {
          push(
            Pending(number: number, invoice: UInt16(invoice), copy: Int8(copy)),
            order.isLedgerFirst && copy == 0 ? 0 : delay)
        }
      }
    }
    if order.fault == .missingOrder, !isFlat {
      push(Pending(number: number, copy: Pending.stray), delay(number, invoice: 0, copy: 1))
    }
  }

  /// By how many orders a journal trails its own: of the seed and its place alone.
  private func delay(_ number: Int, invoice: Int, copy: Int) -> Int {
    var random = SeededRandom(
      seed: options.seed ^ 0x6465_6c61_79, stream: UInt64(bitPattern: Int64(number * 131_071 + invoice * 128 + copy)))
    return random.below(options.shuffle + 1)
  }

  private mutating func deliverAgain(line: Int8) {
    guard options.redeliveriesPer10000 > 0, random.chance(per10000: options.redeliveriesPer10000) else { return }
    var again = current
    if again.copy != Pending.order { again.line = line }
    push(again, 1 + random.below(options.shuffle + 1))
  }

  // MARK: - Ring

  private mutating func push(_ pending: Pending, _ delay: Int) {
    var pending = pending
    // A second delivery still carries the link of the first.
    pending.next = -1
    let index: Int32
    if free >= 0 {
      index = free
      free = pool[Int(index)].next
      pool[Int(index)] = pending
    } else {
      index = Int32(pool.count)
      pool.append(pending)
    }
    pendingCount += 1
    let slot = (turn + delay) % ring.count
    if ring[slot].last >= 0 { pool[Int(ring[slot].last)].next = index } else { ring[slot].first = index }
    ring[slot].last = index
  }

  private mutating func pop(_ slot: Int) -> Pending? {
    let index = ring[slot].first
    guard index >= 0 else { return nil }
    let pending = pool[Int(index)]
    ring[slot].first = pending.next
    if pending.next < 0 { ring[slot].last = -1 }
    pool[Int(index)].next = free
    free = index
    pendingCount -= 1
    return pending
  }
}
