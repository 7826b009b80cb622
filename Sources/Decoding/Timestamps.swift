import Domain

/// Times as the command line and the topics write them.
public enum Timestamps {
  /// Milliseconds since 1970-01-01T00:00:00Z of an RFC 3339 time or date, nil if the text is none.
  public static func parse(_ text: String) -> Int64? {
    var text = text
    return text.withUTF8 { TimeParser(.rfc3339, offset_min: 0)?.parse(ByteView($0))?.ms }
  }
}
