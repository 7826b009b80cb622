import Domain
import Glibc

/// Splits `key<TAB>value`. Where the line begins with a brace or bracket, the key is a whole JSON value and the TAB stands
/// right behind it, with a value behind that: other TABs are white space of the record. Without a key, everything is the
/// value.
///
/// - Parameter isEnvelope: Whether records are change events. A key with nothing behind it is then a tombstone, as it is
///   with a key that is no JSON; else a record with a TAB at its end.
func splitKey(_ line: ByteView, isEnvelope: Bool) -> (key: ByteView, payload: ByteView) {
  guard let base = line.base, line.count > 0, let found = memchr(base, 0x09, line.count) else { return (.empty, line) }
  var tab = found.assumingMemoryBound(to: UInt8.self) - UnsafeMutablePointer(mutating: base)
  var first = 0
  while first < tab, base[first] == 0x20 { first += 1 }
  let isJSON = base[first] == UInt8(ascii: "{") || base[first] == UInt8(ascii: "[")
  if isJSON {
    tab = endOfJSON(base, from: first, line.count)
    guard tab < line.count, base[tab] == 0x09 else { return (.empty, line) }
  }
  let rest = ByteView(base: base + tab + 1, count: line.count - tab - 1)
  if isJSON, !isEnvelope, rest.buffer.allSatisfy({ $0 <= 0x20 }) { return (.empty, line) }
  return (ByteView(base: base, count: tab), rest.count == 0 ? .empty : rest)
}

/// Behind the object or array that begins at `start`; `count` where it has no end. Whether it is valid is for whoever
/// reads it.
private func endOfJSON(_ base: UnsafePointer<UInt8>, from start: Int, _ count: Int) -> Int {
  var depth = 0
  var isInText = false
  var at = start
  while at < count {
    switch base[at] {
    case UInt8(ascii: "\\") where isInText: at += 1
    case UInt8(ascii: "\""): isInText.toggle()
    case UInt8(ascii: "{") where !isInText, UInt8(ascii: "[") where !isInText: depth += 1
    case UInt8(ascii: "}") where !isInText, UInt8(ascii: "]") where !isInText:
      depth -= 1
      if depth == 0 { return at + 1 }
    default: break
    }
    at += 1
  }
  return count
}
