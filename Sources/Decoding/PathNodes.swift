import Domain

/// A node of the compiled path tree: which keys (or array indexes) matter below it, and which slot a value goes to.
struct PathNode {
  var slot = -1
  /// Child nodes by key: `keys[i]` leads to `children[i]`.
  var keys: [ByteView] = []
  var children: [Int] = []
  /// Child nodes by array index.
  var indexes: [Int] = []
  var indexChildren: [Int] = []

  var isLeafOnly: Bool { keys.isEmpty && indexes.isEmpty }
}

/// The path tree as the scanner uses it: plain memory, and a hash table of the keys of each node.
struct PathNodes: ~Copyable {
  private struct Node: BitwiseCopyable {
    var slot: Int32
    var keyCount: Int32
    var indexCount: Int32
    /// Where its keys, indexes and buckets begin.
    var firstKey: Int32
    var firstIndex: Int32
    var firstBucket: Int32
    var bucketMask: Int32
    /// The key that is expected next. Records of one source repeat their key order.
    var expected: Int32
  }

  private struct Edge<Label: BitwiseCopyable>: BitwiseCopyable {
    var label: Label
    var child: Int32
  }

  let count: Int
  private let nodes: UnsafeMutablePointer<Node>
  private let keys: UnsafeMutablePointer<Edge<ByteView>>
  private let indexes: UnsafeMutablePointer<Edge<Int>>
  /// Open addressing: number of the key among those of its node + 1, 0 is empty.
  private let buckets: UnsafeMutablePointer<Int32>

  init(_ tree: [PathNode]) {
    count = tree.count
    nodes = .allocate(capacity: tree.count)
    keys = .allocate(capacity: tree.reduce(1) { $0 + $1.keys.count })
    indexes = .allocate(capacity: tree.reduce(1) { $0 + $1.indexes.count })
    let sizes = tree.map { node in
      // At most half full.
      var size = 4
      while size < node.keys.count * 2 { size *= 2 }
      return size
    }
    buckets = .allocate(capacity: sizes.reduce(0, +))
    buckets.initialize(repeating: 0, count: sizes.reduce(0, +))
    var key = 0
    var index = 0
    var bucket = 0
    for (number, node) in tree.enumerated() {
      (nodes + number).initialize(
        to: Node(
          slot: Int32(node.slot), keyCount: Int32(node.keys.count), indexCount: Int32(node.indexes.count),
          firstKey: Int32(key), firstIndex: Int32(index), firstBucket: Int32(bucket),
          bucketMask: Int32(sizes[number] - 1), expected: 0))
      for (at, label) in node.keys.enumerated() {
        (keys + key).initialize(to: Edge(label: label, child: Int32(node.children[at])))
        key += 1
        var place = PathNodes.hash(label) & (sizes[number] - 1)
        while buckets[bucket + place] != 0 { place = (place + 1) & (sizes[number] - 1) }
        buckets[bucket + place] = Int32(at + 1)
      }
      for (at, label) in node.indexes.enumerated() {
        (indexes + index).initialize(to: Edge(label: label, child: Int32(node.indexChildren[at])))
        index += 1
      }
      bucket += sizes[number]
    }
  }

  deinit {
    nodes.deallocate()
    keys.deallocate()
    indexes.deallocate()
    buckets.deallocate()
  }

  @inline(__always)
  private static func hash(_ key: ByteView) -> Int { Int(truncatingIfNeeded: Fingerprint(key).high) & 0xffff }

  /// −1 where no value is wanted at a node, or where there is no node.
  @inline(__always)
  func slot(_ node: Int) -> Int { node >= 0 ? Int(nodes[node].slot) : -1 }

  @inline(__always)
  func hasKeys(_ node: Int) -> Bool { node >= 0 && nodes[node].keyCount > 0 }

  @inline(__always)
  func hasIndexes(_ node: Int) -> Bool { node >= 0 && nodes[node].indexCount > 0 }

  /// The child that a key leads to, or −1. Tries first the one behind the last that was found.
  func child(of node: Int, key: ByteView) -> Int {
    let known = nodes[node]
    let edges = keys + Int(known.firstKey)
    let expected = Int(known.expected)
    if expected < known.keyCount, edges[expected].label.elementsEqual(key) {
      nodes[node].expected = known.expected + 1
      return Int(edges[expected].child)
    }
    let mask = Int(known.bucketMask)
    var place = PathNodes.hash(key) & mask
    while true {
      let at = buckets[Int(known.firstBucket) + place]
      if at == 0 { return -1 }
      if edges[Int(at) - 1].label.elementsEqual(key) {
        nodes[node].expected = at
        return Int(edges[Int(at) - 1].child)
      }
      place = (place + 1) & mask
    }
  }

  /// The child that an array index leads to, or −1.
  func child(of node: Int, index: Int) -> Int {
    let first = Int(nodes[node].firstIndex)
    var at = 0
    while at < nodes[node].indexCount {
      if indexes[first + at].label == index { return Int(indexes[first + at].child) }
      at += 1
    }
    return -1
  }

  /// A record begins.
  func rewind() {
    for node in 0..<count { nodes[node].expected = 0 }
  }
}
