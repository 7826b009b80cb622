import Domain

/// Times as the command line and the topics write them.
public enum Timestamps {
  /// Milliseconds since 1970-01-01T00:00:00Z of an RFC 3339 time or date, nil if the text is none.
  public static func parse(_ text: String) -> Int64? {
    var text = text
    return text.withUTF8 { TimeParser(.rfc3339)?.parse(ByteView($0))?.ms }
  }
}

/// Reads dates as a field mapping says they are written, for texts that are no field of a record's own.
public struct DateReader: Sendable {
  private let parser: TimeParser

  /// nil where the mapping's pattern makes no sense. Without a format dates are told apart by shape.
  public init?(_ mapping: FieldMapping) {
    guard let parser = TimeParser(mapping.timeFormat ?? .automatic, zone: mapping.timeZone) else {
      return nil
    }
    self.parser = parser
  }

  /// Days since 1970-01-01; nil where the text is no such date.
  public func day(_ text: ByteView) -> Int32? { parser.parse(text)?.day }
}
