import Crypto
import Foundation
import HTTPTypes
import Hummingbird
import NIOCore

/// The files of the web console, built into the program.
public enum ConsolePage {
  private static let script = "text/javascript; charset=utf-8"

  /// Every file by its path; whatever is not here is not served.
  public static let assets: [ConsoleAsset] = [
    ConsoleAsset(path: "/", contentType: "text/html; charset=utf-8", bytes: PackageResources.index_html),
    ConsoleAsset(path: "/console.css", contentType: "text/css; charset=utf-8", bytes: PackageResources.console_css),
    ConsoleAsset(path: "/icon.svg", contentType: "image/svg+xml", bytes: PackageResources.icon_svg),
    ConsoleAsset(path: "/console.js", contentType: script, bytes: PackageResources.console_js),
    ConsoleAsset(path: "/dom.js", contentType: script, bytes: PackageResources.dom_js),
    ConsoleAsset(path: "/api.js", contentType: script, bytes: PackageResources.api_js),
    ConsoleAsset(path: "/breaks.js", contentType: script, bytes: PackageResources.breaks_js),
    ConsoleAsset(path: "/overview.js", contentType: script, bytes: PackageResources.overview_js),
    ConsoleAsset(path: "/pages.js", contentType: script, bytes: PackageResources.pages_js),
  ]
}

/// An asset as it is sent. Browsers keep it and ask each time whether it is still the same: after an upgrade nobody works
/// with old files, and nothing is sent twice.
struct ServedAsset: Sendable {
  private let contentType: String
  private let body: ByteBuffer
  let tag: String

  init(_ asset: ConsoleAsset) {
    contentType = asset.contentType
    body = ByteBuffer(bytes: asset.bytes)
    tag = "\"" + hexadecimal(Array(SHA256.hash(data: asset.bytes).prefix(16))) + "\""
  }

  func response(to request: Request) -> Response {
    var headers: HTTPFields = [.eTag: tag, .cacheControl: "no-cache"]
    let known = (request.headers[.ifNoneMatch] ?? "").split(separator: ",").map {
      let text = $0.trimmingCharacters(in: .whitespaces)
      return text.hasPrefix("W/") ? String(text.dropFirst(2)) : text
    }
    if known.contains(tag) || known == ["*"] { return Response(status: .notModified, headers: headers) }
    headers[.contentType] = contentType
    guard request.method != .head else {
      headers[.contentLength] = "\(body.readableBytes)"
      return Response(status: .ok, headers: headers, body: ResponseBody())
    }
    return Response(status: .ok, headers: headers, body: ResponseBody(byteBuffer: body))
  }
}
