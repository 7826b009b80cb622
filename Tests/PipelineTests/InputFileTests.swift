import Domain
import Foundation
import Simulation
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
  func compress(_ file: String, _ tool: String, suffix: String, _ options: [String] = []) -> String? {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [tool, "-q", "-f", "-k"] + options + [file]
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
    #expect(try lines(scratch.write("spaces", "  \n one \n\t\r\n \u{0b}")).map(\.0) == [2])
    let rows = try lines(scratch.write("rows", "a\tb\n\t\n"), style: .csv(quote: 0x22, delimiter: 9))
    #expect(rows.map(\.1) == ["a\tb", "\t"])
  }

  @Test func rowsMayHoldLineEnds() throws {
    let scratch = Scratch()
    let found = try lines(scratch.write("a.csv", "h1,h2\n\"a\nb\",1\n\"say \"\"x\"\"\",2\n"), style: .csv(quote: 0x22))
    #expect(found.map(\.0) == [1, 2, 4])
    #expect(found.map(\.1) == ["h1,h2", "\"a\nb\",1", "\"say \"\"x\"\"\",2"])
  }

  @Test func onlyAQuoteAtTheBeginningOfAColumnOpensIt() throws {
    let scratch = Scratch()
    let found = try lines(
      scratch.write("a.csv", "1,5\" pipe,x\n2,\"a;\r\nb\"\n3,it\"s \"odd\n4,\"\"\n5;\"x\ny\"\n"),
      style: .csv(quote: 0x22))
    #expect(found.map(\.0) == [1, 2, 4, 5, 6, 7])
    #expect(found.map(\.1) == ["1,5\" pipe,x", "2,\"a;\r\nb\"", "3,it\"s \"odd", "4,\"\"", "5;\"x", "y\""])
    let semicolons = try lines(
      scratch.write("b.csv", "5;\"x\ny\"\n6;z\n"), style: .csv(quote: 0x22, delimiter: 0x3b))
    #expect(semicolons.map(\.1) == ["5;\"x\ny\"", "6;z"])
  }

  /// Before this, one forgotten quote made all the rest of the file one row.
  @Test(arguments: ["\n", "\r\n"]) func aQuoteThatNothingClosesCostsOneLine(end: String) throws {
    let scratch = Scratch()
    let text = (1...60_000).map { $0 == 3 ? "3,\"open,x" : "\($0),row of some length,x" }.joined(separator: end) + end
    #expect(text.utf8.count > 1_300_000, "longer than what is read ahead")
    for size in [text, String(text.prefix(200))] {
      let found = try lines(scratch.write("a.csv", size), style: .csv(quote: 0x22), limit: 1_000, records: 500)
      #expect(found[2].1 == "3,\"open,x")
      #expect(found[3].1 == "4,row of some length,x")
      #expect(found.enumerated().allSatisfy { $0.offset + 1 == $0.element.0 }, "numbers of the file's own lines")
      if size == text { #expect(found.count == 60_000) }
    }
  }

  @Test func rowsInQuotesBeyondTheBoundAreCutAsOne() throws {
    let scratch = Scratch()
    let row = "\"" + String(repeating: "line\n", count: 1_000) + "\",1"
    let found = try lines(
      scratch.write("a.csv", "a,1\n\(row)\nb,2\n"), style: .csv(quote: 0x22), limit: 100)
    #expect(found.map(\.0) == [1, 2, 1_003])
    #expect(found.map(\.2) == [3, row.utf8.count, 3])
    #expect(found[1].1.utf8.count == 100)
  }

  /// Lines around the sizes of the buffers and the bound, against a plain split.
  @Test(arguments: 0..<12 as Range<UInt64>) func anySizesOfLines(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    let scratch = Scratch()
    let limit = 1_000
    var bytes: [UInt8] = []
    var expected: [(Int64, Int)] = []
    for number in 1...400 {
      let sizes = [0, 1, 30, 999, 1_000, 1_001, 70_000, 262_143, 262_144, 300_000, 1_049_575, 1_049_576, 1_049_577]
      var size = sizes[random.below(random.below(10) == 0 ? sizes.count : 6)]
      if random.below(3) == 0 { size += random.below(50) }
      // Carriage returns inside, so that one stands wherever a line may be cut.
      bytes += (0..<size).map { $0 % 2 == 0 && $0 + 1 < size ? 0x0d : 0x61 }
      if random.below(2) == 0 { bytes.append(0x0d) }
      bytes.append(0x0a)
      if size > 0 { expected.append((Int64(number), size)) }
    }
    let found = try lines(scratch.write("a", bytes), limit: limit, records: 7)
    #expect(found.map(\.0) == expected.map(\.0))
    #expect(found.map(\.2) == expected.map(\.1))
    // A CR LF inside would be one character of a `String`.
    #expect(found.map(\.1.utf8.count) == expected.map { min($0.1, limit) })
  }

  @Test func standardInputLooksLikeAFile() throws {
    let file = try InputFile(path: "/dev/null", style: .lines, maximumLineBytes: 10)
    var block = LineBlock()
    #expect(try !file.next(into: &block, records: 10))
    #expect(file.size == nil)
    let error = #expect(throws: InputError.self) { _ = try lines("/tmp") }
    #expect(error?.description.contains("directory") == true)
  }

  /// Frames to skip, as parallel compressors write them before the data, and blocks of uneven size.
  @Test func zstandardOfEveryMake() throws {
    let scratch = Scratch()
    var random = SeededRandom(seed: 4)
    var text: [UInt8] = []
    while text.count < 5_000_000 {
      // Stretches that compress well beside some that do not: the compressor cuts blocks between them.
      let isNoise = random.below(3) == 0
      for _ in 0..<1_000 + random.below(40_000) { text.append(isNoise ? UInt8(0x21 + random.below(90)) : 0x61) }
      text.append(0x0a)
    }
    guard let path = scratch.compress(scratch.write("big", text), "zstd", suffix: ".zst", ["-19"]) else {
      print("skipped: zstd is not installed")
      return
    }
    let bytes = try Array(Data(contentsOf: URL(fileURLWithPath: path)))
    let skipped: [UInt8] = [0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]
    let right = text.split(separator: 0x0a).map(\.count)
    for (name, content) in [("plain", bytes), ("skipped", skipped + bytes), ("behind", bytes + skipped)] {
      let found = try lines(scratch.write(name, content), limit: 1 << 20, records: 50)
      #expect(found.map(\.2) == right, "\(name)")
    }
    for cut in [5, 9, bytes.count / 3, bytes.count - 1] {
      let error = #expect(throws: InputError.self, "\(cut) bytes") {
        _ = try lines(scratch.write("cut", Array(bytes.prefix(cut))), limit: 1 << 20, records: 50)
      }
      #expect(error?.description.contains("ends early") == true)
      #expect(error?.byteOffset == Int64(cut))
    }
  }

  /// The decoder gives out a megabyte at a time and may still hold a part of a block when the input has ended.
  @Test func zstandardBlocksAcrossTheOutputsEnd() throws {
    let scratch = Scratch()
    // A frame by hand: window of 1 MiB, eleven blocks that repeat one byte 100 000 times. Source: RFC 8878, 3.1.1.
    var frame: [UInt8] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50]
    for block in 1...11 {
      let header = 100_000 << 3 | 1 << 1 | (block == 11 ? 1 : 0)
      frame += [UInt8(header & 255), UInt8(header >> 8 & 255), UInt8(header >> 16), 0x61]
    }
    let found = try lines(scratch.write("a", frame), limit: 2 << 20)
    #expect(found.map(\.2) == [1_100_000])
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
    func split(_ text: String, isEnvelope: Bool = false) -> (String, String?) {
      var text = text
      return text.withUTF8 {
        let (key, payload) = splitKey(ByteView($0), isEnvelope: isEnvelope)
        return (key.string, payload.base == nil ? nil : payload.string)
      }
    }
    #expect(split("K\t{\"a\":1}") == ("K", "{\"a\":1}"))
    #expect(split("{\"a\":\"\t\"}") == ("", "{\"a\":\"\t\"}"))
    #expect(split("K\t") == ("K", nil))
    #expect(split("plain") == ("", "plain"))
    // A key that is JSON, as connectors write them.
    #expect(split(#"{"id":1}"# + "\t{\"a\":1}") == (#"{"id":1}"#, #"{"a":1}"#))
    let key = #"{"schema":{"a":["}\"]{"]},"payload":{"id":[1,2]}}"#
    #expect(split(key + "\t{\"a\":\t1}") == (key, "{\"a\":\t1}"))
    #expect(split("[1]\t{}") == ("[1]", "{}"))
    #expect(split(#"{"id":1}"# + "\t", isEnvelope: true) == (#"{"id":1}"#, nil))
    // Other TABs are white space, of whatever stands around them.
    for record in ["{\t\"a\":1}", "{\"a\":1}\t", "{\"a\":1} \t {}", " {\"a\":\t{}}", "{\"a\":\t1", "[\t"] {
      #expect(split(record) == ("", record), "\(record)")
    }
  }
}
