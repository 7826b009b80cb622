import Domain
import Foundation
import Testing

@testable import Pipeline

/// A directory that goes away with the test.
final class Scratch {
  let path = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-\(UUID().uuidString)").path
  init() { try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ name: String, _ bytes: [UInt8]) -> String {
    FileManager.default.createFile(atPath: path + "/" + name, contents: Data(bytes))
    return path + "/" + name
  }

  func write(_ name: String, _ text: String) -> String { write(name, Array(text.utf8)) }

  /// Runs a compressor over a file; nil where it is not installed.
  func compress(_ file: String, _ tool: String, suffix: String) -> String? {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [tool, "-q", "-f", "-k", file]
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    process.waitUntilExit()
    return process.terminationStatus == 0 ? file + suffix : nil
  }
}

@Suite struct InputFileTests {
  func lines(
    _ path: String, style: LineStyle = .lines, limit: Int = 1 << 20, records: Int = 3
  ) throws -> [(Int64, String, Int)] {
    let file = try InputFile(path: path, style: style, maximumLineBytes: limit)
    var found: [(Int64, String, Int)] = []
    var block = LineBlock()
    while try file.next(into: &block, records: records) {
      for line in block.lines {
        found.append(
          (
            line.number, String(decoding: block.bytes[line.start..<line.start + line.length], as: UTF8.self),
            line.fullLength
          ))
      }
      block.removeAll()
    }
    return found
  }

  @Test func linesWithNumbers() throws {
    let scratch = Scratch()
    let found = try lines(scratch.write("a", "\u{feff}one\r\ntwo\n\n\nfive\r\nlast"))
    #expect(found.map(\.0) == [1, 2, 5, 6])
    #expect(found.map(\.1) == ["one", "two", "five", "last"])
    #expect(try lines(scratch.write("empty", "")).isEmpty)
    #expect(try lines(scratch.write("newline", "\n")).isEmpty)
  }

  @Test func rowsMayHoldLineEnds() throws {
    let scratch = Scratch()
    let found = try lines(scratch.write("a.csv", "h1,h2\n\"a\nb\",1\n\"say \"\"x\"\"\",2\n"), style: .csv(quote: 0x22))
    #expect(found.map(\.0) == [1, 2, 4])
    #expect(found.map(\.1) == ["h1,h2", "\"a\nb\",1", "\"say \"\"x\"\"\",2"])
  }

  @Test(arguments: [("gzip", ".gz"), ("zstd", ".zst")]) func compressed(tool: String, suffix: String) throws {
    let scratch = Scratch()
    let text = (0..<50_000).map { "line \($0) with some text behind it" }.joined(separator: "\n")
    guard let path = scratch.compress(scratch.write("big", text), tool, suffix: suffix) else {
      print("skipped: \(tool) is not installed")
      return
    }
    let found = try lines(path, records: 1_000)
    #expect(found.count == 50_000)
    #expect(found.last?.1 == "line 49999 with some text behind it")
    // Two members one behind the other are one file.
    let bytes = try Array(Data(contentsOf: URL(fileURLWithPath: path)))
    let again = try lines(scratch.write("twice" + suffix, bytes + bytes), records: 1_000)
    #expect(again.count == 99_999, "the last line of the first and the first of the second are one")
    let error = #expect(throws: InputError.self) {
      _ = try lines(scratch.write("cut" + suffix, Array(bytes.prefix(bytes.count / 2))), records: 1_000)
    }
    #expect(error?.description.contains("ends early") == true)
    #expect(error?.file.contains("cut") == true)
    var damaged = bytes
    for at in bytes.count / 2..<bytes.count / 2 + 40 { damaged[at] ^= 0x5a }
    #expect(throws: InputError.self) { _ = try lines(scratch.write("damaged" + suffix, damaged), records: 1_000) }
  }

  @Test func longLinesAreCutNotKept() throws {
    let scratch = Scratch()
    let long = String(repeating: "x", count: 3_000_000)
    let found = try lines(scratch.write("long", "a\n\(long)\nb\n"), limit: 1_000)
    #expect(found.map { $0.1.count } == [1, 1_000, 1])
    #expect(found.map(\.2) == [1, 3_000_000, 1])
    #expect(found.map(\.0) == [1, 2, 3])
  }

  @Test func missingFilesAreNamed() {
    let error = #expect(throws: InputError.self) { _ = try lines("/no/such/file") }
    #expect(error?.description.contains("/no/such/file") == true)
  }

  @Test func keysBeforeATab() {
    func split(_ text: String) -> (String, String?) {
      var text = text
      return text.withUTF8 {
        let (key, payload) = splitKey(ByteView($0))
        return (key.string, payload.base == nil ? nil : payload.string)
      }
    }
    #expect(split("K\t{\"a\":1}") == ("K", "{\"a\":1}"))
    #expect(split("{\"a\":\"\t\"}") == ("", "{\"a\":\"\t\"}"))
    #expect(split("K\t") == ("K", nil))
    #expect(split("plain") == ("", "plain"))
  }
}
