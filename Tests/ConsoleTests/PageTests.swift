import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import NIOCore
import Testing

@testable import Console

/// What a browser is given before anybody has signed in.
@Suite struct PageTests {
  private static let types = [
    "": "text/html; charset=utf-8", "html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml",
  ]

  @Test func everyFileIsServedWithItsTypeUnderTheStrictPolicy() async throws {
    let test = try TestConsole()
    try await test.run(assets: ConsolePage.assets) { client in
      #expect(ConsolePage.assets.count == 9)
      for asset in ConsolePage.assets {
        let answer = try await client.send(.get, asset.path)
        #expect(answer.status == 200, "\(asset.path)")
        #expect(Array(answer.body.utf8) == asset.bytes, "\(asset.path)")
        let ending = asset.path.split(separator: ".").dropFirst().last.map(String.init) ?? ""
        #expect(answer.headers[.contentType] == PageTests.types[ending], "\(asset.path)")
        let policy = try #require(answer.headers[HTTPField.Name("Content-Security-Policy")!])
        #expect(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"))
        #expect(!policy.contains("unsafe") && !policy.contains("http"))
        #expect(answer.headers[HTTPField.Name("X-Content-Type-Options")!] == "nosniff")
        #expect(answer.headers[.cacheControl] == "no-cache")
      }
    }
  }

  @Test func aFileThatIsKnownIsNotSentAgain() async throws {
    let test = try TestConsole()
    try await test.run(assets: ConsolePage.assets) { client in
      let first = try await client.send(.get, "/console.js")
      let tag = try #require(first.headers[.eTag])
      for known in [tag, "W/\(tag)", "\"other\", \(tag)", "*"] {
        let again = try await client.send(.get, "/console.js", headers: [("If-None-Match", known)])
        #expect(again.status == 304, "\(known)")
        #expect(again.body.isEmpty)
        #expect(again.headers[.eTag] == tag)
        #expect(again.headers[HTTPField.Name("Content-Security-Policy")!] != nil)
      }
      let other = try await client.send(.get, "/console.js", headers: [("If-None-Match", "\"other\"")])
      #expect(other.status == 200)
      #expect(other.body == first.body)
      #expect(try await client.send(.get, "/dom.js").headers[.eTag] != tag)
      let head = try await client.send(.head, "/console.js")
      #expect(head.status == 200)
      #expect(head.body.isEmpty)
      #expect(head.headers[.contentLength] == "\(first.body.utf8.count)")
    }
  }

  @Test func nothingElseIsServed() async throws {
    let test = try TestConsole()
    try await test.run(assets: ConsolePage.assets) { client in
      for path in [
        "/index.html", "/console.js/", "/Console.js", "/nothing.js", "/../console.js", "/x/../console.js",
        "//console.js",
        "/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/console.js%00", "/Page/console.js", "/.git/config",
      ] {
        let answer = try await client.send(.get, path)
        #expect(answer.status == 404, "\(path): \(answer.status)")
        #expect(!answer.body.contains("root:") && !answer.body.contains("import "))
      }
      #expect(try await client.send(.post, "/console.js", body: "{}").status == 404)
    }
  }

  /// The policy would refuse it in the browser; here it is seen without one.
  @Test func nothingIsInlineAndNothingComesFromElsewhere() {
    let files = Dictionary(
      uniqueKeysWithValues: ConsolePage.assets.map { ($0.path, String(decoding: $0.bytes, as: UTF8.self)) })
    let page = files["/"]!
    #expect(!page.contains("style=") && !page.contains("<style") && !page.contains("onclick"))
    #expect(page.components(separatedBy: "<script").count == 2)
    #expect(page.contains("<script type=\"module\" src=\"/console.js\"></script>"))
    for (path, text) in files {
      let parts = text.replacing("http://www.w3.org/2000/svg", with: "")
      #expect(!parts.contains("http://") && !parts.contains("https://"), "\(path)")
      for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"]
      {
        #expect(!text.contains(word), "\(path): \(word)")
      }
    }
    // What a module asks for is there.
    for (path, text) in files where path.hasSuffix(".js") {
      for line in text.split(separator: "\n") where line.hasPrefix("import ") {
        let from = line.split(separator: "\"")[1]
        #expect(files[String(from)] != nil, "\(path) imports \(from)")
      }
    }
  }
}
