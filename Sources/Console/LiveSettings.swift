import Configuration
import Logging
import NIOSSL
import Synchronization

/// What a reload changes all at once: a request goes by that of one moment, or the next.
final class LiveSettings: Sendable {
  let settings: ServeSettings
  let authenticator: Authenticator
  let limiter: RateLimiter

  init(_ settings: ServeSettings, sessions: Sessions, log: Logger) {
    self.settings = settings
    authenticator = Authenticator(settings, sessions: sessions, log: log)
    limiter = RateLimiter(rate: settings.requestRate, burst: settings.requestBurst)
  }

  /// What follows another: keys that were fetched, and what everybody has saved up, stay where they are not concerned.
  init(_ settings: ServeSettings, after old: LiveSettings, log: Logger) {
    self.settings = settings
    authenticator = Authenticator(
      settings, sessions: old.authenticator.sessions, log: log,
      keeping: settings.jwt == old.settings.jwt ? old.authenticator.keys : nil)
    let isSameRate =
      settings.requestRate == old.settings.requestRate && settings.requestBurst == old.settings.requestBurst
    limiter = isSameRate ? old.limiter : RateLimiter(rate: settings.requestRate, burst: settings.requestBurst)
  }
}

/// The certificate that the server shows; connections that are there keep theirs.
final class LiveCertificate: Sendable {
  struct Pair: Sendable {
    var chain: [NIOSSLCertificate]
    var key: NIOSSLPrivateKey
  }
  private let current: Mutex<Pair>

  init(_ tls: ServeTLS) throws { current = Mutex(try LiveCertificate.read(tls)) }

  /// Reads the files, and checks that certificate and key belong together.
  static func read(_ tls: ServeTLS) throws -> Pair {
    let pair = Pair(
      chain: try NIOSSLCertificate.fromPEMFile(tls.certificate), key: try NIOSSLPrivateKey(file: tls.key, format: .pem))
    _ = try NIOSSLContext(
      configuration: .makeServerConfiguration(
        certificateChain: pair.chain.map { .certificate($0) }, privateKey: .privateKey(pair.key)))
    return pair
  }

  /// - Returns: whether it is another one than before.
  func use(_ pair: Pair) -> Bool {
    current.withLock { current in
      defer { current = pair }
      return current.chain != pair.chain || current.key != pair.key
    }
  }

  func configuration(_ tls: ServeTLS) throws -> TLSConfiguration {
    let pair = current.withLock { $0 }
    var configuration = TLSConfiguration.makeServerConfiguration(
      certificateChain: pair.chain.map { .certificate($0) }, privateKey: .privateKey(pair.key))
    configuration.minimumTLSVersion = .tlsv12
    if let authorities = tls.clientAuthorities {
      configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(authorities))
      // A client's certificate says who it is, not on which host.
      configuration.certificateVerification = .noHostnameVerification
    }
    configuration.sslContextCallback = { [self] _, promise in
      let pair = current.withLock { $0 }
      var shown = NIOSSLContextConfigurationOverride()
      shown.certificateChain = pair.chain.map { .certificate($0) }
      shown.privateKey = .privateKey(pair.key)
      promise.succeed(shown)
    }
    return configuration
  }
}
