import Domain

/// Space for texts that do not stand in the record as they are (unescaped, concatenated, converted). Blocks never move,
/// so a view stays valid until `reset`.
struct ScratchArena: ~Copyable {
  private var blocks: [UnsafeMutableBufferPointer<UInt8>] = []
  private var current = 0
  private var used = 0
  private static let blockBytes = 1 << 16

  deinit { for block in blocks { block.deallocate() } }

  mutating func reset() {
    // One oversized record must not hold its memory for ever.
    while blocks.count > 4 { blocks.removeLast().deallocate() }
    current = 0
    used = 0
  }

  /// Room for at most `count` bytes; `commit` says how many were used.
  mutating func reserve(_ count: Int) -> UnsafeMutablePointer<UInt8> {
    while true {
      if current == blocks.count {
        blocks.append(.allocate(capacity: max(count, ScratchArena.blockBytes)))
      }
      if blocks[current].count - used >= count { return blocks[current].baseAddress! + used }
      current += 1
      used = 0
    }
  }

  mutating func commit(_ count: Int) -> ByteView {
    let view = ByteView(base: UnsafePointer(blocks[current].baseAddress! + used), count: count)
    used += count
    return view
  }

  mutating func copy(_ text: ByteView) -> ByteView {
    guard text.count > 0 else { return .empty }
    let target = reserve(text.count)
    target.update(from: text.base!, count: text.count)
    return commit(text.count)
  }
}

/// Texts that live as long as a compiled plan: keys, constants, table entries.
final class PlanTexts: @unchecked Sendable {
  private var blocks: [UnsafeMutableBufferPointer<UInt8>] = []

  deinit { for block in blocks { block.deallocate() } }

  /// Only called while the plan is compiled, by one thread.
  func intern(_ text: String) -> ByteView {
    let bytes = Array(text.utf8)
    guard !bytes.isEmpty else { return .empty }
    let block = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: bytes.count)
    _ = block.initialize(from: bytes)
    blocks.append(block)
    return ByteView(UnsafeBufferPointer(block))
  }
}
