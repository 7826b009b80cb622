import Domain

/// Texts by number, each kept once.
struct Interner {
  private var texts: [String] = []
  private var numbers: [Fingerprint: Int32] = [:]

  mutating func number(_ text: ByteView) -> Int32 {
    let print = Fingerprint(text)
    if let known = numbers[print] { return known }
    numbers[print] = Int32(texts.count)
    texts.append(text.string)
    return Int32(texts.count - 1)
  }

  /// The empty text for −1.
  subscript(number: Int32) -> String { number < 0 ? "" : texts[Int(number)] }
}
