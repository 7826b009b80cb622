extension KeyReference {
  /// The keys of `tieout serve`.
  static let serve: [KeyReference] = [
    .init("serve", "map", "", "The HTTP API and console, `tieout serve`."),
    .init("serve.listen", "HOST:PORT", "127.0.0.1:8080", "Where it listens."),
    .init(
      "serve.directory", "path", "serve",
      "Folder, relative to where the program is started, of the store (made anew from the topics at any time), of webhooks' state and answers to repeated requests (all three not with `serve.store`), and of the audit log; of one process alone."
    ),
    .init(
      "serve.store", "map", "SQLite, in serve.directory",
      "A PostgreSQL database in place of it, that any number of servers may share."),
    .init(
      "serve.store.url", "postgresql://user@host/database", "",
      "Its address, as libpq takes it, without a password. Over a network: `?sslmode=verify-full`."),
    .init(
      "serve.store.password", "{env: NAME} or {file: path}", "",
      "The password; else libpq's own ways, `.pgpass` or `PGPASSWORD`."),
    .init(
      "serve.store.schema", "text", "tieout_<prefix>",
      "The schema of its tables, one for each reconciliation; it is created where it is missing."),
    .init(
      "serve.aggregates", "map of name to topic",
      "{revenue: <prefix>.revenue, cashflow: <prefix>.cashflow, receivables: <prefix>.receivables, variance: <prefix>.variance, quality: <prefix>.quality}",
      "Topics of cells that are shown as aggregates, beside the totals. Those that do not exist are shown as absent."),
    .init("serve.aggregates.*", "text", "", "A topic of JSON objects keyed by cell."),
    .init("serve.tls", "map", "", "Without it the API speaks plain HTTP: for this machine alone, or behind a proxy."),
    .init("serve.tls.certificate", "path", "", "PEM file of the certificate and its chain."),
    .init("serve.tls.key", "path", "", "PEM file of its key."),
    .init("serve.tls.client_ca", "path", "", "PEM file: only clients with a certificate of these authorities connect."),
    .init("serve.tokens", "map", "{}", "Static API tokens, by the name of the principal."),
    .init("serve.tokens.*", "map", "", "One token; `tieout-serve token` makes one and prints its hash."),
    .init(
      "serve.tokens.*.sha256", "64 hexadecimal digits", "", "SHA-256 of the token. The token itself stands nowhere."),
    .init("serve.tokens.*.roles", "list of viewer, analyst, controller, admin, feed", "", "What it may do."),
    .init(
      "serve.tokens.*.scope", "map of dimension to list of values", "{}",
      "The rows it may see; default: all. It does not bound what it may send."),
    .init("serve.tokens.*.scope.*", "list of texts", "", "Values of the dimension."),
    .init("serve.jwt", "map", "", "Bearer tokens signed by an identity provider: RS256, ES256 or EdDSA."),
    .init(
      "serve.jwt.jwks", "path or https address", "", "The JSON Web Key Set; an address is asked again for new keys."),
    .init("serve.jwt.issuer", "text", "", "`iss` must be this."),
    .init("serve.jwt.audience", "text", "", "`aud` must name this."),
    .init("serve.jwt.roles_claim", "text", "roles", "Claim with the roles, a text or a list."),
    .init("serve.jwt.scope_claim", "text", "tieout_scope", "Claim with the row scope, as `serve.tokens.*.scope`."),
    .init("serve.jwt.leeway", "duration", "30s", "Tolerated difference of clocks for `exp` and `nbf`."),
    .init(
      "serve.approval_limit", "decimal", "10000",
      "|difference| in major units above which a write-off or a force-close takes effect only when a second person approves it."
    ),
    .init(
      "serve.reason_codes", "list of names",
      "[timing, pricing, quantity, tax, freight, fx, rounding, duplicate, master_data, other]",
      "Reason codes that actions may give."),
    .init(
      "serve.records", "true, false", "false",
      "Whether the store also keeps the records of the sources, for 90 days, so that an order is explained with every event and posting, and orders without breaks are known. It then follows the source topics."
    ),
    .init("serve.metrics_open", "true, false", "false", "Whether `/metrics` needs no token."),
    .init("serve.webhooks", "map", "{}", "Who is told of breaks, by name."),
    .init("serve.webhooks.*", "map", "", "One receiver; a break is sent whenever it changes and passes the filters."),
    .init("serve.webhooks.*.url", "https address", "", "Where to; http only to this machine."),
    .init("serve.webhooks.*.secret", "{env: NAME} or {file: path}", "", "Key of the signature (HMAC-SHA256)."),
    .init("serve.webhooks.*.types", "list of break types", "all", "Only these."),
    .init(
      "serve.webhooks.*.states", "list of states", "[open, reopened]",
      "Only these. Who is to hear that a break is over names `auto_cleared`, `closed`, `accepted`, `explained` and `force_closed` too."
    ),
    .init("serve.webhooks.*.severities", "list of severities", "all", "Only these."),
    .init("serve.webhooks.*.minimum", "decimal", "0", "|difference| in major units from which on."),
    .init("serve.webhooks.*.scope", "map of dimension to list of values", "{}", "Only these rows."),
    .init("serve.webhooks.*.scope.*", "list of texts", "", "Values of the dimension."),
    .init("serve.limits", "map", "", "Bounds of the API."),
    .init("serve.limits.body", "size", "4MiB", "Body of a request that is read whole."),
    .init("serve.limits.stream", "size", "4GiB", "Body of a streamed intake (NDJSON)."),
    .init("serve.limits.rate", "integer", "200", "Requests a second of one principal."),
    .init("serve.limits.burst", "integer", "twice the rate", "Requests that a principal may save up."),
    .init("serve.limits.connections", "integer", "1024", "Open connections."),
    .init("serve.limits.concurrency", "integer", "128", "Requests worked on at once; more are told to come again."),
    .init("serve.limits.timeout", "duration", "15s", "Within which a request must have come in, and a query be done."),
    .init("serve.session", "map", "", "Sessions of the console."),
    .init("serve.session.lifetime", "duration", "12h", "Longest session."),
    .init("serve.session.idle", "duration", "1h", "A session unused this long ends."),
  ]
}
