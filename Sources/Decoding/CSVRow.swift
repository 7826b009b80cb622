import Domain

/// Splits one CSV row into its columns (RFC 4180, with the dialect's delimiter and quote).
struct CSVRow {
  let dialect: CSVDialect
  /// For messages. Apart, so that nobody who splits rows copies it.
  let names = ColumnNames()

  /// Names of the columns, as far as they are known.
  final class ColumnNames {
    var all: [String] = []
  }

  init(dialect: CSVDialect) { self.dialect = dialect }

  /// Calls `column` with each column's number and text; doubled quotes are resolved and legacy encodings converted in
  /// `scratch`. Returns how many there are.
  @discardableResult
  func split(
    _ row: ByteView, scratch: inout ScratchArena, _ column: (Int, ByteView) -> Void
  ) throws(DataFault) -> Int {
    guard let base = row.base, row.count > 0 else { return 0 }
    var end = row.count
    if end > 0, base[end - 1] == 0x0a { end -= 1 }
    if end > 0, base[end - 1] == 0x0d { end -= 1 }
    var at = 0
    var number = 0
    while true {
      var view: ByteView
      if let quote = dialect.quote, at < end, base[at] == quote {
        at += 1
        let first = at
        var doubled = 0
        while true {
          guard at < end else { throw DataFault(.schemaInvalid, detail: "a quoted column does not end") }
          if base[at] == quote {
            if at + 1 < end, base[at + 1] == quote {
              doubled += 1
              at += 2
              continue
            }
            break
          }
          at += 1
        }
        view = ByteView(base: base + first, count: at - first)
        if doubled > 0 {
          let target = scratch.reserve(view.count)
          var out = 0
          var from = 0
          while from < view.count {
            target[out] = view.base![from]
            from += view.base![from] == quote ? 2 : 1
            out += 1
          }
          view = scratch.commit(out)
        }
        at += 1
        guard at == end || base[at] == dialect.delimiter else {
          throw DataFault(.schemaInvalid, detail: "text follows a quoted column")
        }
      } else {
        let first = at
        while at < end, base[at] != dialect.delimiter { at += 1 }
        view = ByteView(base: base + first, count: at - first)
      }
      let text: ByteView
      do throws(DataFault) { text = try converted(view, &scratch) } catch { throw notUTF8(number) }
      column(number, text)
      number += 1
      guard at < end else { return number }
      at += 1
      if at == end {
        column(number, .empty)
        return number + 1
      }
    }
  }

  private func converted(_ text: ByteView, _ scratch: inout ScratchArena) throws(DataFault) -> ByteView {
    var at = 0
    while at < text.count, text.base![at] < 0x80 { at += 1 }
    if at == text.count { return text }
    if dialect.encoding == .utf8 {
      guard isUTF8(text) else { throw DataFault(.schemaInvalid, detail: "a column is not UTF-8") }
      return text
    }
    let target = scratch.reserve(text.count * 3)
    var out = 0
    for byte in text.buffer {
      let scalar =
        dialect.encoding == .windows1252 && byte >= 0x80 && byte < 0xa0
        ? CSVRow.windows1252[Int(byte) - 0x80] : UInt32(byte)
      for unit in UTF8.encode(Unicode.Scalar(scalar) ?? "\u{fffd}")! {
        target[out] = unit
        out += 1
      }
    }
    return scratch.commit(out)
  }

  @inline(never)
  private func notUTF8(_ number: Int) -> DataFault {
    let name = number < names.all.count && names.all[number] != "\(number + 1)" ? ", \(names.all[number])," : ""
    return DataFault(
      .schemaInvalid,
      detail: "column \(number + 1)\(name) is not UTF-8 (csv.encoding, where the file is in iso-8859-1 or windows-1252)"
    )
  }

  /// Windows-1252, 0x80–0x9f. Source: Unicode's CP1252.TXT; undefined bytes become U+FFFD.
  private static let windows1252: [UInt32] = [
    0x20ac, 0xfffd, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0xfffd,
    0x017d, 0xfffd, 0xfffd, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a,
    0x0153, 0xfffd, 0x017e, 0x0178,
  ]
}

extension CSVDialect {
  /// The columns that a file's first line names.
  public func names(of header: ByteView) throws(DataFault) -> [String] {
    var names: [String] = []
    var scratch = ScratchArena()
    try CSVRow(dialect: self).split(header, scratch: &scratch) { _, text in names.append(text.string) }
    return names
  }
}
