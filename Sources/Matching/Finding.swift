import Aggregates
import Domain

/// One cause why a tie does not agree, as the judgement of one moment sees it.
struct Finding {
  /// A part of the difference that this finding explains: expected − posted stays open (or accepted) by this much.
  struct Part: Equatable {
    var currency: Currency
    var role: AccountRole
    /// posted − expected.
    var delta: Int64
    /// Where control totals are kept by period: the one in which it lies; else 0.
    var period: Int32 = 0
  }

  /// As many parts a tie keeps as they are; where there are more, those of one currency, role and period are one.
  static let fewParts = 1_024
  /// The most that it keeps: beyond, all differences lie in one period. There are less than 512 currencies.
  static let maximumParts = 12_288

  /// The same differences, in no more parts than a tie can keep.
  static func bounded(_ parts: [Part]) -> [Part] {
    guard parts.count > fewParts else { return parts }
    let merged = merged(parts)
    if merged.count <= maximumParts { return merged }
    let unplaced = self.merged(
      parts.map { Part(currency: $0.currency, role: $0.role, delta: $0.delta, period: CellTable.overflowPeriod) })
    return Array(unplaced.prefix(maximumParts))
  }

  private static func merged(_ parts: [Part]) -> [Part] {
    var merged: [Part] = []
    var places: [UInt64: Int] = [:]
    for part in parts {
      let key =
        UInt64(UInt32(bitPattern: part.period)) << 32 | UInt64(part.currency.rawValue) << 8 | UInt64(part.role.rawValue)
      if let known = places[key] {
        let (sum, isBeyond) = merged[known].delta.addingReportingOverflow(part.delta)
        if !isBeyond {
          merged[known].delta = sum
          continue
        }
      }
      places[key] = merged.count
      merged.append(part)
    }
    return merged
  }

  var type: BreakType
  var role: AccountRole
  var currency: Currency
  var expected: Int64?
  var posted: Int64?
  var postedCurrency = Currency.none
  var isAccepted: Bool
  var hints: [BreakHint]
  var parts: [Part]
  /// What it is about, where that explains no difference: how much of the role stands in another period.
  var affected: Int64?
  /// The most of it in any role, by which its severity goes; nil where `parts` or `lines` say it.
  var size: Int128?
  /// The posting of a journal that somebody asked for in order to write it off.
  var isWrittenOff = false
  /// The lines of documents that differ, where they are what explains it.
  var lines: LineDifferences?
  var reason: TextBytes

  init(
    _ type: BreakType, _ role: AccountRole, _ currency: Currency, expected: Int64?, posted: Int64?, reason: TextBytes,
    hints: [BreakHint] = [], parts: [Part] = [], isAccepted: Bool = false
  ) {
    self.type = type
    self.role = role
    self.currency = currency
    self.expected = expected
    self.posted = posted
    self.reason = reason
    self.hints = hints
    self.parts = parts
    self.isAccepted = isAccepted
  }

  /// How much of its role it is about, posted − expected or posted; nil where it is about no amount.
  var affectedAmount: Int64? {
    if let affected { return affected }
    var (sum, isAny) = (Int128(0), false)
    for part in parts where part.currency == currency && part.role == role {
      sum += Int128(part.delta)
      isAny = true
    }
    return isAny ? Int64(clamping: sum) : nil
  }

  /// Of all that makes a new revision of a break worth sending.
  /// - Parameter quantities: `Judge.quantities`.
  @inline(__always)
  func contentHash(_ state: BreakState, isDecided: Bool, _ quantities: [Int64]?) -> UInt64 {
    var hash = mixed(UInt64(state.index), isDecided ? 1 : 2)
    hash = mixed(hash ^ UInt64(bitPattern: expected ?? .min), UInt64(bitPattern: posted ?? .min))
    hash = mixed(hash ^ UInt64(postedCurrency.rawValue), UInt64(currency.rawValue))
    for hint in hints { hash = mixed(hash, UInt64(BreakHint.allCases.firstIndex(of: hint)!)) }
    for part in parts {
      hash = mixed(
        hash ^ UInt64(part.currency.rawValue) << 8 ^ UInt64(part.role.rawValue), UInt64(bitPattern: part.delta))
    }
    for quantity in quantities ?? [] where role == .unbilled || type == .quantityMismatch {
      hash = mixed(hash, UInt64(bitPattern: quantity))
    }
    if let lines = lines { hash = mixed(hash, lines.hash) }
    if let affected = affected {
      hash = mixed(hash ^ UInt64(bitPattern: affected), UInt64(truncatingIfNeeded: size ?? 0))
    }
    return hash | 1
  }

  mutating func add(_ other: LineDifferences?) {
    guard let other else { return }
    if lines == nil { lines = other } else { lines!.add(other) }
  }
}

/// What an amount difference looks like; pointers to its cause.
enum DifferencePattern {
  /// k where posted = expected × 10^k (k ≠ 0, |k| ≤ 6), nil if none. For negative k the posted amount may have lost
  /// the digits that its currency cannot show.
  static func scalePower(expected: Int128, posted: Int128) -> Int? {
    guard expected != 0, posted != 0, (expected < 0) == (posted < 0), expected != posted else { return nil }
    // Mostly no power of ten lies between the two.
    let (wants, has) = (expected.magnitude, posted.magnitude)
    guard has >= wants * 10 || has * 10 < wants + 10 else { return nil }
    var power: Int128 = 1
    for k in 1...6 {
      power *= 10
      if expected * power == posted { return k }
      if abs(posted * power - expected) < power { return -k }
    }
    return nil
  }

  /// Whether two digits of the amounts are swapped and nothing else differs (`718.08` and `178.08`).
  static func isTransposition(expected: Int128, posted: Int128) -> Bool {
    guard expected != posted, (expected < 0) == (posted < 0) || posted == 0 || expected == 0 else { return false }
    // What changes its place leaves the sum of the digits.
    guard (expected - posted) % 9 == 0 else { return false }
    var a = expected.magnitude
    var b = posted.magnitude
    var firstPair: (UInt128, UInt128)?
    var differing = 0
    while a > 0 || b > 0 {
      let x = a % 10
      let y = b % 10
      if x != y {
        differing += 1
        if differing == 1 {
          firstPair = (x, y)
        } else if differing == 2 {
          guard let pair = firstPair, pair.0 == y, pair.1 == x else { return false }
        } else {
          return false
        }
      }
      a /= 10
      b /= 10
    }
    return differing == 2
  }

  private static func abs(_ value: Int128) -> Int128 { value < 0 ? -value : value }
}

extension Tolerance {
  /// Whether posted − expected is within this tolerance, both in minor units of a currency with that exponent.
  func accepts(expected: Int128, delta: Int128, exponent: Int) -> Bool {
    if delta == 0 { return true }
    // Positive: more than expected, whatever the sign of the role.
    let excess = expected < 0 ? -delta : delta
    let absolute = Tolerance.minorUnits(micros: excess > 0 ? over_u : under_u, exponent: exponent)
    let magnitude = excess < 0 ? -excess : excess
    guard percent_u > 0 else { return magnitude <= absolute }
    let size = expected < 0 ? -expected : expected
    let relative = size * Int128(percent_u) / 100_000_000
    let limit = combination == .max ? Swift.max(absolute, relative) : Swift.min(absolute, relative)
    return magnitude <= limit
  }

  /// Millionths of the major unit in whole minor units, rounded down: a tolerance is never wider than configured.
  static func minorUnits(micros: Int64, exponent: Int) -> Int128 {
    var value = Int128(micros)
    for _ in 0..<exponent { value *= 10 }
    return value / 1_000_000
  }
}
