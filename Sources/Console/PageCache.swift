import ConsoleStore
import NIOCore
import Synchronization

/// Pages of lists as they were sent, for as long as no break changes: many people look at the same first page. Where breaks
/// change all the time it does nothing.
final class PageCache: Sendable {
  /// Beyond it everything is forgotten, and what is asked for often comes again first.
  static let maximumBytes = 32 << 20

  struct Key: Hashable, Sendable {
    /// The request's own words.
    var query: String
    var scope: RowScope
    /// Ages are of a day.
    var day: Int64
  }

  private struct State {
    var version: UInt64 = 0
    var pages: [Key: ByteBuffer] = [:]
    var bytes = 0
  }
  private let state = Mutex(State())

  func page(_ key: Key, version: UInt64) -> ByteBuffer? {
    state.withLock { $0.version == version ? $0.pages[key] : nil }
  }

  /// - Parameter version: of the store, from before the page was read.
  func keep(_ page: ByteBuffer, _ key: Key, version: UInt64) {
    state.withLock { state in
      guard version >= state.version else { return }
      if version > state.version || state.bytes + page.readableBytes > PageCache.maximumBytes {
        state.pages.removeAll(keepingCapacity: true)
        state.bytes = 0
        state.version = version
      }
      if state.pages.updateValue(page, forKey: key) == nil { state.bytes += page.readableBytes }
    }
  }
}
