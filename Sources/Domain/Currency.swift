/// An ISO 4217 currency, packed into 15 bits (five for each letter). `none` stands for a record without one.
@frozen
public struct Currency: Hashable, Sendable, Comparable, CustomStringConvertible {
  public let rawValue: UInt16

  @inlinable
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  @inlinable
  public static var none: Currency { Currency(rawValue: 0) }

  /// The currency of a three-letter code, upper or lower case, or nil where ISO 4217 (active, or replaced since 1990)
  /// does not know it.
  public init?(_ code: String) {
    var code = code
    let found = code.withUTF8 { Currency(ascii: $0) }
    guard let found else { return nil }
    self = found
  }

  /// As `init(_:)`, from the bytes of the code.
  @inlinable
  public init?(ascii bytes: UnsafeBufferPointer<UInt8>) {
    guard bytes.count == 3 else { return nil }
    var packed: UInt16 = 0
    for byte in bytes {
      let letter = byte & 0xdf
      guard letter >= 0x41, letter <= 0x5a else { return nil }
      packed = packed << 5 | UInt16(letter - 0x40)
    }
    guard currencyExponents[Int(packed)] >= 0 else { return nil }
    self.rawValue = packed
  }

  /// Decimals by `rawValue`, −1 where no such currency exists, 32,768 of them, never freed: for loops that cannot pay for
  /// the check that the table exists.
  public static var exponents: UnsafePointer<Int8> { currencyExponents }

  /// How many decimals the currency has: JPY 0, EUR 2, KWD 3. Zero for `none`.
  @inlinable
  public var exponent: Int { max(0, Int(currencyExponents[Int(rawValue & 0x7fff)])) }

  /// The three letters, or the empty string for `none`.
  public var code: String {
    guard rawValue != 0 else { return "" }
    return String(unsafeUninitializedCapacity: 3) { letters in
      for at in 0..<3 { letters[at] = UInt8(rawValue >> UInt16(10 - 5 * at) & 31) + 0x40 }
      return 3
    }
  }

  public var description: String { code }

  @inlinable
  public static func < (a: Currency, b: Currency) -> Bool { a.rawValue < b.rawValue }
}

/// Decimals by packed code; −1 where no such currency exists.
/// Source: ISO 4217 list one (active) and, from list three, the codes still met in ledgers since 1990.
@usableFromInline
nonisolated(unsafe) let currencyExponents: UnsafePointer<Int8> = {
  let table = UnsafeMutablePointer<Int8>.allocate(capacity: 1 << 15)
  table.initialize(repeating: -1, count: 1 << 15)
  let byExponent: [(Int8, String)] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF ITL ESP PTE GRD BEF LUF TRL ROL MGF BYR"),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
    (
      2,
      """
      AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF \
      CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF \
      IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN \
      MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS \
      SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG \
      ATS DEM FIM FRF IEP NLG SIT MTL CYP SKK EEK LVL LTL HRK CUC MRO SLL STD VEF VEB ZMK ZWD ZWL BGL RUR YUM CSD PLZ \
      SUR ECS GHC AZM MZM SDD SRG TMM AFA AOK AON BRR MXP PEI PES ARA UAK
      """
    ),
  ]
  for (exponent, codes) in byExponent {
    for code in codes.split(separator: " ") {
      var packed: UInt16 = 0
      for byte in code.utf8 { packed = packed << 5 | UInt16(byte - 0x40) }
      table[Int(packed)] = exponent
    }
  }
  return UnsafePointer(table)
}()
