import Domain

/// Space for texts that live as long as one judgement. Blocks never move.
struct TextArena: ~Copyable {
  private var blocks: [UnsafeMutableBufferPointer<UInt8>] = []
  private var current = 0
  private var used = 0
  private static let blockBytes = 1 << 14

  deinit { for block in blocks { block.deallocate() } }

  mutating func reset() {
    // One oversized tie must not hold its memory for ever.
    while blocks.count > 8 { blocks.removeLast().deallocate() }
    current = 0
    used = 0
  }

  /// Room for `count` bytes.
  mutating func take(_ count: Int) -> UnsafeMutablePointer<UInt8> {
    while true {
      if current == blocks.count { blocks.append(.allocate(capacity: max(count, TextArena.blockBytes))) }
      if blocks[current].count - used >= count {
        defer { used += count }
        return blocks[current].baseAddress! + used
      }
      current += 1
      used = 0
    }
  }

  mutating func joined(_ a: ByteView, _ b: ByteView) -> ByteView {
    let target = take(a.count + b.count)
    if let base = a.base { target.update(from: base, count: a.count) }
    if let base = b.base { (target + a.count).update(from: base, count: b.count) }
    return ByteView(base: target, count: a.count + b.count)
  }
}
