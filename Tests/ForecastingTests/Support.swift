import Domain
import Foundation
import Testing

@testable import Forecasting
@testable import Pipeline

let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent().path

/// A folder of data that nobody here wrote; nil, with the reason printed, where it is absent.
func sharedData(_ name: String) -> String? {
  let path = (root as NSString).deletingLastPathComponent + "/shared/data/" + name
  if FileManager.default.fileExists(atPath: path) { return path }
  print("skipped: there is no ../shared/data/\(name)")
  return nil
}

let usd = Currency("USD")!

func date(_ text: String) -> Int32 { DateStyle.iso.day(text)! }

func item(
  _ customer: String, segment: String = "", invoiced: Int32, due: Int32, amount: Int64, disputed: Bool = false,
  paid: [(Int32, Int64)] = []
) -> ReceivableItem {
  ReceivableItem(
    id: "", customer: customer, segment: segment, currency: usd, invoiced_d: invoiced, due_d: due, amount: amount,
    isDisputed: disputed, applications: paid.map { .init(day: $0.0, amount: $0.1) })
}

/// SplitMix64, so that a failure can be repeated from its seed.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }
}

/// Of this run of the tests; goes with the process.
private let folder: String = {
  let path = NSTemporaryDirectory() + "tieout-forecast-\(UUID().uuidString)"
  atexit { try? FileManager.default.removeItem(atPath: folder) }
  return path
}()

func temporaryFile(_ text: String, _ name: String = "table.csv") throws -> String {
  let directory = folder + "/" + UUID().uuidString
  try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
  let path = directory + "/" + name
  try text.write(toFile: path, atomically: true, encoding: .utf8)
  return path
}
