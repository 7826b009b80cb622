/// The known name that is closest to an unknown one (Levenshtein distance, case ignored), if it is close enough that a
/// slip of the keyboard explains it: at most a third of the letters, and at most three.
public func nearestName(_ name: String, in known: some Sequence<String>) -> String? {
  let limit = max(1, min(3, name.count / 3 + 1))
  var best: (name: String, distance: Int)?
  for candidate in known.sorted() {
    let distance = editDistance(Array(name.lowercased().utf8), Array(candidate.lowercased().utf8))
    if distance <= limit, best == nil || distance < best!.distance { best = (candidate, distance) }
  }
  return best?.name
}

private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
  var row = Array(0...b.count)
  for i in 0..<a.count {
    var diagonal = row[0]
    row[0] = i + 1
    for j in 0..<b.count {
      let next = min(row[j] + 1, row[j + 1] + 1, diagonal + (a[i] == b[j] ? 0 : 1))
      diagonal = row[j + 1]
      row[j + 1] = next
    }
  }
  return row[b.count]
}
