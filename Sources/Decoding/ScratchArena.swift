import Domain

/// Space for texts that do not stand in the record as they are (unescaped, concatenated, converted). Blocks never move,
/// so a view stays valid until `reset`.
struct ScratchArena: ~Copyable {
  private var blocks: [UnsafeMutableBufferPointer<UInt8>] = []
  private var current = 0
  private var used = ScratchArena.margin
  private static let blockBytes = 1 << 16
  /// Free bytes before the first and behind the last text of a block: what `ShortText` and the walk of `JSONScanner` may
  /// look at, and what short copies may write.
  static let margin = 128

  deinit { for block in blocks { block.deallocate() } }

  mutating func reset() {
    // One oversized record must not hold its memory for ever.
    while blocks.count > 4 { blocks.removeLast().deallocate() }
    current = 0
    used = ScratchArena.margin
  }

  /// Room for at most `count` bytes; `commit` says how many were used.
  mutating func reserve(_ count: Int) -> UnsafeMutablePointer<UInt8> {
    while true {
      if current == blocks.count {
        blocks.append(.allocate(capacity: max(count + 2 * ScratchArena.margin, ScratchArena.blockBytes)))
      }
      if blocks[current].count - ScratchArena.margin - used >= count { return blocks[current].baseAddress! + used }
      current += 1
      used = ScratchArena.margin
    }
  }

  mutating func commit(_ count: Int) -> ByteView {
    let view = ByteView(base: UnsafePointer(blocks[current].baseAddress! + used), count: count)
    used += count
    return view
  }

  /// Appends a piece of a text whose room was reserved at `target`; returns where the next goes.
  @inline(__always)
  static func append(_ piece: ByteView, to target: UnsafeMutablePointer<UInt8>) -> UnsafeMutablePointer<UInt8> {
    guard let base = piece.base else { return target }
    let count = piece.count
    let from = UnsafeRawPointer(base)
    let to = UnsafeMutableRawPointer(target)
    if count >= 8 {
      var at = 0
      while at + 8 < count {
        to.storeBytes(of: from.loadUnaligned(fromByteOffset: at, as: UInt64.self), toByteOffset: at, as: UInt64.self)
        at += 8
      }
      to.storeBytes(
        of: from.loadUnaligned(fromByteOffset: count - 8, as: UInt64.self), toByteOffset: count - 8, as: UInt64.self)
    } else {
      for at in 0..<count { target[at] = base[at] }
    }
    return target + count
  }

  mutating func copy(_ text: ByteView) -> ByteView {
    guard text.count > 0 else { return .empty }
    let target = reserve(text.count)
    target.update(from: text.base!, count: text.count)
    return commit(text.count)
  }
}

/// What lives as long as a compiled plan and never moves: keys, constants, table entries, parts of expressions.
final class PlanTexts: @unchecked Sendable {
  private var blocks: [UnsafeMutableRawPointer] = []

  deinit { for block in blocks { block.deallocate() } }

  /// Only called while the plan is compiled, by one thread.
  func intern(_ text: String) -> ByteView {
    let bytes = Array(text.utf8)
    guard !bytes.isEmpty else { return .empty }
    let block = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: bytes.count)
    _ = block.initialize(from: bytes)
    blocks.append(UnsafeMutableRawPointer(block.baseAddress!))
    return ByteView(UnsafeBufferPointer(block))
  }

  /// As `intern`, for plain values.
  func pin<Value: BitwiseCopyable>(_ values: [Value]) -> UnsafeBufferPointer<Value> {
    guard !values.isEmpty else { return UnsafeBufferPointer(start: nil, count: 0) }
    let block = UnsafeMutableBufferPointer<Value>.allocate(capacity: values.count)
    _ = block.initialize(from: values)
    blocks.append(UnsafeMutableRawPointer(block.baseAddress!))
    return UnsafeBufferPointer(block)
  }
}
