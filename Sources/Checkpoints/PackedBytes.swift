import CZstd
import Domain

/// Any number of bytes as messages of a bounded size: compressed, each with a checksum.
public enum PackedBytes {
  /// - Returns: at least one message, each smaller than `Checkpointer.largestMessage`.
  public static func pack(_ bytes: [UInt8]) -> [[UInt8]] {
    let context = ZSTD_createCCtx()!
    defer { ZSTD_freeCCtx(context) }
    return bytes.withUnsafeBytes { all in
      stride(from: 0, to: max(1, all.count), by: Checkpointer.chunkBytes).map { start in
        let end = min(all.count, start + Checkpointer.chunkBytes)
        return Chunk.encode(UnsafeRawBufferPointer(rebasing: all[start..<end]), context: context)
      }
    }
  }

  public static func unpack(_ messages: [[UInt8]]) throws(ByteCodingError) -> [UInt8] {
    let context = ZSTD_createDCtx()!
    defer { ZSTD_freeDCtx(context) }
    var all: [UInt8] = []
    var part = [UInt8](repeating: 0, count: Checkpointer.chunkBytes)
    for message in messages {
      var failure: ByteCodingError?
      var count = 0
      part.withUnsafeMutableBytes { target in
        do throws(ByteCodingError) { count = try Chunk.decode(message, into: target, context) } catch {
          failure = error
        }
      }
      if let failure { throw failure }
      all += part[..<count]
    }
    return all
  }
}
