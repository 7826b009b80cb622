/// Deadlines in event time, popped in the order (deadline, tag), exact to the millisecond. The tag comes from the key's
/// fingerprint, so that the order is the same in a state that was restored, where ties stand in other slots.
///
/// A calendar queue: a deadline goes into the bucket of its quantum, and only the bucket that the watermark enters is
/// sorted. Deadlines that fall into the opened bucket later go to a small heap beside it. Entries are never taken out
/// early: a tie remembers its earliest live timer, and whoever pops an entry checks that it is still the one meant.
struct TimerQueue {
  struct Entry {
    var deadline_ms: Int64
    var slot: UInt32
    /// The top bits of the tie's fingerprint.
    var tag: UInt32

    @inline(__always)
    static func < (a: Entry, b: Entry) -> Bool {
      a.deadline_ms != b.deadline_ms
        ? a.deadline_ms < b.deadline_ms : a.tag != b.tag ? a.tag < b.tag : a.slot < b.slot
    }
  }

  /// Buckets ahead of the opened one; deadlines beyond wait in `far` until the calendar has turned that far.
  static let ringSize = 4_096

  private let quantum_ms: Int64
  private var ring: [[Entry]]
  private var far: [Entry] = []
  /// Number (deadline / quantum) of the opened bucket: everything at or below it is in `run` or `heap`.
  private var opened = Int64.min
  private var run: [Entry] = []
  private var cursor = 0
  private var heap: [Entry] = []
  private(set) var count = 0

  init(quantum_ms: Int64) {
    self.quantum_ms = max(1, quantum_ms)
    ring = Array(repeating: [], count: TimerQueue.ringSize)
  }

  var footprintBytes: Int { count * MemoryLayout<Entry>.size }

  @inline(__always)
  private func bucketNumber(_ deadline_ms: Int64) -> Int64 {
    deadline_ms >= 0 ? deadline_ms / quantum_ms : (deadline_ms - quantum_ms + 1) / quantum_ms
  }

  mutating func push(deadline_ms: Int64, slot: Int, tag: UInt32) {
    let entry = Entry(deadline_ms: deadline_ms, slot: UInt32(slot), tag: tag)
    count += 1
    let number = bucketNumber(deadline_ms)
    if opened == .min { opened = number - 1 }
    if number <= opened {
      heapPush(entry)
    } else if number - opened < Int64(TimerQueue.ringSize) {
      ring[Int(number & Int64(TimerQueue.ringSize - 1))].append(entry)
    } else {
      far.append(entry)
    }
  }

  /// The next entry with a deadline before `watermark_ms` and not beyond the bound, or nil.
  mutating func pop(before watermark_ms: Int64, upTo bound: ExpiryBound = .none) -> Entry? {
    while true {
      let fromRun = cursor < run.count ? run[cursor] : nil
      let fromHeap = heap.first
      if let next = fromRun, fromHeap == nil || next < fromHeap! {
        guard next.deadline_ms < watermark_ms, bound.covers(next) else { return nil }
        cursor += 1
        count -= 1
        return next
      }
      if let next = fromHeap {
        guard next.deadline_ms < watermark_ms, bound.covers(next) else { return nil }
        heapPop()
        count -= 1
        return next
      }
      guard openNextBucket(before: watermark_ms) else { return nil }
    }
  }

  /// Slots that will be popped soon, so that the caller can prefetch their ties.
  func upcoming(_ distance: Int) -> Int? {
    let index = cursor + distance
    return index < run.count ? Int(run[index].slot) : nil
  }

  /// Opens the next bucket that holds anything and may hold something due; false if there is none.
  private mutating func openNextBucket(before watermark_ms: Int64) -> Bool {
    guard count > 0 else { return false }
    let last = bucketNumber(watermark_ms == .max ? Int64.max - quantum_ms : watermark_ms)
    var steps = 0
    while opened < last {
      if steps > TimerQueue.ringSize {
        // A whole turn held nothing, and nothing came nearer: jump to where the far ones begin.
        guard let nearest = far.min(by: { $0 < $1 }) else {
          opened = last
          return false
        }
        opened = max(opened, min(last, bucketNumber(nearest.deadline_ms)) - 1)
        refillFromFar()
        steps = 0
        if bucketNumber(nearest.deadline_ms) > last { return false }
        if !heap.isEmpty { return true }
      }
      opened += 1
      steps += 1
      let index = Int(opened & Int64(TimerQueue.ringSize - 1))
      if index == 0 {
        // What comes near now may lie up to a whole turn ahead.
        if refillFromFar() { steps = 0 }
        if !heap.isEmpty { return true }
      }
      if !ring[index].isEmpty {
        run = ring[index]
        ring[index] = []
        run.sort(by: <)
        cursor = 0
        return true
      }
    }
    return false
  }

  /// Moves the far entries that a turn of the calendar reaches; whether there were any.
  @discardableResult
  private mutating func refillFromFar() -> Bool {
    guard !far.isEmpty else { return false }
    let before = far.count
    var kept: [Entry] = []
    for entry in far {
      let number = bucketNumber(entry.deadline_ms)
      if number <= opened {
        heapPush(entry)
      } else if number - opened < Int64(TimerQueue.ringSize) {
        ring[Int(number & Int64(TimerQueue.ringSize - 1))].append(entry)
      } else {
        kept.append(entry)
      }
    }
    far = kept
    return far.count < before
  }

  private mutating func heapPush(_ entry: Entry) {
    heap.append(entry)
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard heap[child] < heap[parent] else { return }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  private mutating func heapPop() {
    let last = heap.removeLast()
    guard !heap.isEmpty else { return }
    heap[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in (2 * parent + 1)...(2 * parent + 2) where child < heap.count && heap[child] < heap[least] {
        least = child
      }
      guard least != parent else { return }
      heap.swapAt(parent, least)
      parent = least
    }
  }
}

/// How far a paced expiry came: everything due at or before this deadline, and with this deadline up to this tag, has
/// been judged. A property of the ties, not of how they are stored, so that a replay stops at the same place.
public struct ExpiryBound: Sendable, Equatable {
  public var deadline_ms: Int64
  public var tag: UInt32

  public init(deadline_ms: Int64, tag: UInt32) {
    self.deadline_ms = deadline_ms
    self.tag = tag
  }

  /// Everything that is due.
  public static let none = ExpiryBound(deadline_ms: .max, tag: .max)

  @inline(__always)
  func covers(_ entry: TimerQueue.Entry) -> Bool {
    entry.deadline_ms < deadline_ms || entry.deadline_ms == deadline_ms && entry.tag <= tag
  }
}
