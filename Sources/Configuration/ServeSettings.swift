/// What a principal of the console may do.
public enum ServeRole: String, Sendable, CaseIterable {
  /// Reads.
  case viewer
  /// Reads, assigns, comments, explains, reopens, proposes write-offs.
  case analyst
  /// As an analyst; also accepts, force-closes and approves what others have asked for.
  case controller
  /// Everything.
  case admin
  /// Sends orders and postings, and reads nothing.
  case feed
}

/// A static token of the console. Only its hash is known.
public struct ServeToken: Sendable, Equatable {
  public var name: String
  /// SHA-256 of the token, 64 hexadecimal digits.
  public var hash: String
  public var roles: Set<ServeRole>
  /// By dimension: the values whose rows may be seen. Empty: all rows.
  public var scope: [String: Set<String>]

  public init(name: String, hash: String, roles: Set<ServeRole>, scope: [String: Set<String>] = [:]) {
    self.name = name
    self.hash = hash
    self.roles = roles
    self.scope = scope
  }
}

/// Whose signed tokens are taken.
public struct ServeJWT: Sendable, Equatable {
  /// File or `https://` address of the JSON Web Key Set.
  public var jwks: String
  public var issuer: String
  public var audience: String
  /// Claim that holds the roles (a text or a list of texts).
  public var rolesClaim = "roles"
  /// Claim that holds the row scope (a map of dimension to a list of values).
  public var scopeClaim = "tieout_scope"
  /// Tolerated difference of clocks.
  public var leeway_s: Int64 = 30

  public init(jwks: String, issuer: String, audience: String) {
    self.jwks = jwks
    self.issuer = issuer
    self.audience = audience
  }
}

public struct ServeTLS: Sendable, Equatable {
  /// PEM files of the certificate chain and of its key.
  public var certificate: String
  public var key: String
  /// PEM file of the authorities whose clients are let in; nil: clients show no certificate.
  public var clientAuthorities: String?

  public init(certificate: String, key: String, clientAuthorities: String? = nil) {
    self.certificate = certificate
    self.key = key
    self.clientAuthorities = clientAuthorities
  }
}

/// A store that several servers share.
public struct ServeStore: Sendable, Equatable {
  /// `postgresql://user@host/database?sslmode=verify-full`, without a password.
  public var url: String
  public var password: Secret?
  /// The schema of its tables.
  public var schema: String

  public init(url: String, password: Secret? = nil, schema: String) {
    self.url = url
    self.password = password
    self.schema = schema
  }
}

/// Somebody who is told of breaks.
public struct ServeWebhook: Sendable, Equatable {
  public var name: String
  public var url: String
  public var secret: Secret
  public var types: [String] = []
  public var states: [String] = ["open", "reopened"]
  public var severities: [String] = []
  /// |difference| from which on, in millionths of the major unit.
  public var minimum_u: Int64 = 0
  public var scope: [String: Set<String>] = [:]

  public init(name: String, url: String, secret: Secret) {
    self.name = name
    self.url = url
    self.secret = secret
  }
}

/// Whether something stands in the file. What holds is the same without, so that it makes no difference.
public struct Presence: Sendable, Equatable {
  public var isThere = false

  public init() {}

  public static func == (_: Presence, _: Presence) -> Bool { true }
}

/// The console's part of the configuration.
public struct ServeSettings: Sendable, Equatable {
  public var presence = Presence()
  public var host = "127.0.0.1"
  public var port = 8080
  /// Folder of the store, of its state and of the audit log.
  public var directory = "serve"
  /// nil: SQLite, in `directory`.
  public var store: ServeStore?
  /// Name to topic of the aggregates that are shown.
  public var aggregates: [String: String] = [:]
  public var tls: ServeTLS?
  public var tokens: [ServeToken] = []
  public var jwt: ServeJWT?
  /// |difference| in millionths of the major unit above which a second person must approve.
  public var approvalLimit_u: Int64 = 10_000_000_000
  public var reasonCodes = [
    "timing", "pricing", "quantity", "tax", "freight", "fx", "rounding", "duplicate", "master_data", "other",
  ]
  public var isMetricsOpen = false
  /// Whether the store keeps the records of the sources too, by order.
  public var keepsRecords = false
  public var webhooks: [ServeWebhook] = []
  /// Bytes of the body of a request that is read whole.
  public var bodyLimit = 4 << 20
  /// Bytes of a streamed intake.
  public var streamLimit = 4 << 30
  /// Requests a second of one principal, and how many it may save up.
  public var requestRate = 200
  public var requestBurst = 400
  public var connections = 1_024
  /// Requests that are worked on at the same time.
  public var concurrency = 128
  /// Within which a request must have come in, and a query be answered.
  public var requestTimeout_ms: Int64 = 15_000
  public var sessionLifetime_ms: Int64 = 12 * 3_600_000
  public var sessionIdle_ms: Int64 = 3_600_000

  public init() {}
}
