// swift-tools-version: 6.1
import PackageDescription

/// The optimised build of the hot targets follows a profile of the engine at work: how often each branch was taken.
/// `tools/optimize` makes it anew, and names it here by its content: another name is what has everything built again. A
/// function that has changed since is built as if there were no profile. Linux on x86-64 alone, where it was made, and no
/// compiler before 6.3. `TIEOUT_PROFILE=none` builds without it; with `generate` the program counts its branches, and needs the
/// profile runtime, which `tools/optimize` links.
let profileName = "tieout-2e4e8624.profdata"
let profile: [String] = {
  var flags = [
    // Names of private functions begin with the name of their target's first object file, not with where it lies.
    "-Xllvm", "-static-func-full-module-prefix=false",
    // Else what was built without the profile, or with another one, is taken as it is.
    "-Xfrontend", "-disable-incremental-llvm-codegen",
  ]
  switch Context.environment["TIEOUT_PROFILE"] {
  case "none": return []
  case "generate": flags += ["-Xfrontend", "-ir-profile-generate"]
  default:
    #if os(Linux) && arch(x86_64) && compiler(>=6.3)
      flags += ["-Xfrontend", "-ir-profile-use=\(Context.packageDirectory)/Sources/\(profileName)"]
    #else
      return []
    #endif
  }
  return flags
}()

/// The hot targets decode, match and encode every record. Their state is only reached through
/// `inout` and owned values, so the dynamic exclusivity check proves nothing there and costs time.
let hot: [SwiftSetting] = [
  .swiftLanguageMode(.v6), .unsafeFlags(["-enforce-exclusivity=unchecked"] + profile, .when(configuration: .release)),
]
let settings: [SwiftSetting] = [.swiftLanguageMode(.v6)]

let package = Package(
  name: "tieout",
  products: [
    .executable(name: "tieout", targets: ["tieout"]),
    .executable(name: "tieout-serve", targets: ["tieout-serve"]),
    .library(
      name: "TieoutCore",
      targets: [
        "Domain", "Aggregates", "Forecasting", "Decoding", "Matching", "Checkpoints", "Configuration", "Pipeline",
        "Simulation", "Kafka",
      ]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    // The console alone; of these `swift build --product tieout` builds swift-nio, for the daemon's metrics.
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: ["FullFoundation"]),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
    .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
    .package(url: "https://github.com/vapor/jwt-kit", from: "5.7.1"),
    .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
  ],
  targets: [
    .systemLibrary(name: "CRdKafka", pkgConfig: "rdkafka", providers: [.apt(["librdkafka-dev"])]),
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CPostgres", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
    .target(name: "CShims", swiftSettings: hot),
    .target(name: "Domain", swiftSettings: hot),
    .target(name: "Aggregates", dependencies: ["Domain", "CShims"], swiftSettings: hot),
    .target(name: "Forecasting", dependencies: ["Domain"], swiftSettings: settings),
    .target(name: "Validation", dependencies: ["Domain"], swiftSettings: hot),
    .target(
      name: "Decoding", dependencies: ["Domain", "CShims", .product(name: "Crypto", package: "swift-crypto")],
      swiftSettings: hot),
    .target(name: "SchemaRegistry", dependencies: ["Decoding"], swiftSettings: settings),
    .target(name: "Matching", dependencies: ["Domain", "Aggregates", "CShims"], swiftSettings: hot),
    .target(name: "Checkpoints", dependencies: ["Domain", "Aggregates", "Matching", "CZstd"], swiftSettings: hot),
    .target(name: "Kafka", dependencies: ["CRdKafka", "CShims"], swiftSettings: hot),
    .target(name: "MemoryBroker", swiftSettings: settings),
    .target(name: "KafkaTesting", dependencies: ["Kafka", "MemoryBroker"], swiftSettings: settings),
    .target(
      name: "Configuration",
      dependencies: [
        "Domain", "Aggregates", "Forecasting", "Validation", "Decoding", "Matching",
        .product(name: "Yams", package: "Yams"),
      ],
      swiftSettings: settings),
    .target(
      name: "Pipeline",
      dependencies: [
        "Domain", "Aggregates", "Forecasting", "Validation", "Decoding", "Matching", "Checkpoints", "Kafka",
        "Configuration", "SchemaRegistry", "CShims", "CZstd",
        "CZlib",
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: hot),
    .target(
      name: "Simulation",
      dependencies: [
        "Domain", "Aggregates", "Validation", "Matching", "Checkpoints", "Kafka", "Configuration", "Pipeline",
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: settings),
    .target(
      name: "Monitoring",
      dependencies: [
        "Configuration", .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ], swiftSettings: settings),
    .executableTarget(
      name: "tieout",
      dependencies: [
        "MemoryBroker", "Monitoring", "Domain", "Forecasting", "Decoding", "Matching", "Checkpoints", "Kafka",
        "Configuration",
        "Pipeline",
        "Simulation",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Histogram", package: "hdrhistogram-swift"),
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: settings),
    .target(
      name: "ConsoleStore",
      dependencies: [
        "Domain", "Kafka", "Pipeline", "SchemaRegistry", "CPostgres", .product(name: "GRDB", package: "GRDB.swift"),
        .product(name: "GRDBSQLite", package: "GRDB.swift"),
      ], swiftSettings: settings),
    .target(
      name: "Console",
      dependencies: [
        "Domain", "Decoding", "Matching", "Kafka", "Configuration", "Pipeline", "ConsoleStore",
        .product(name: "Hummingbird", package: "hummingbird", moduleAliases: ["Configuration": "SwiftConfiguration"]),
        .product(
          name: "HummingbirdCore", package: "hummingbird", moduleAliases: ["Configuration": "SwiftConfiguration"]),
        .product(
          name: "HummingbirdTLS", package: "hummingbird", moduleAliases: ["Configuration": "SwiftConfiguration"]),
        .product(name: "GRDB", package: "GRDB.swift"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "JWTKit", package: "jwt-kit"),
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        .product(name: "Logging", package: "swift-log"),
      ],
      // The page is a part of the program: one file to copy, nothing to lose on the way.
      resources: [.embedInCode("Page")], swiftSettings: settings),
    .executableTarget(
      name: "tieout-serve",
      dependencies: [
        "Console", "ConsoleStore", "Configuration", "Domain", "Pipeline", "Kafka",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: settings),
    .testTarget(name: "DomainTests", dependencies: ["Domain"], swiftSettings: settings),
    // Counts allocations for tests that promise none.
    .target(name: "CAllocations", path: "Tests/CAllocations"),
    .testTarget(
      name: "DecodingTests", dependencies: ["Decoding", "CShims", "CAllocations"], swiftSettings: settings),
    .testTarget(
      name: "SchemaRegistryTests", dependencies: ["SchemaRegistry", "Decoding", "KafkaTesting"], swiftSettings: settings
    ),
    .testTarget(name: "AggregatesTests", dependencies: ["Aggregates"], swiftSettings: settings),
    .testTarget(name: "ValidationTests", dependencies: ["Validation"], swiftSettings: settings),
    .testTarget(
      name: "ForecastingTests", dependencies: ["Forecasting", "Pipeline", "Simulation"], swiftSettings: settings),
    .testTarget(name: "MatchingTests", dependencies: ["Matching", "Simulation"], swiftSettings: settings),
    .testTarget(name: "KafkaTests", dependencies: ["Kafka", "KafkaTesting"], swiftSettings: settings),
    .testTarget(name: "ConfigurationTests", dependencies: ["Configuration"], swiftSettings: settings),
    .testTarget(
      name: "CheckpointsTests", dependencies: ["Checkpoints", "Matching", "Aggregates", "Domain"],
      swiftSettings: settings),
    .testTarget(
      name: "SimulationTests", dependencies: ["Simulation", "Pipeline", "Configuration"], swiftSettings: settings),
    .testTarget(
      name: "PipelineTests",
      dependencies: [
        "Pipeline", "Simulation", "Kafka", "KafkaTesting", "Configuration", "Checkpoints", "SchemaRegistry",
      ], swiftSettings: settings),
    // A PostgreSQL server for tests, where there is one.
    .target(
      name: "StoreTesting", dependencies: ["ConsoleStore"], path: "Tests/StoreTesting", swiftSettings: settings),
    .testTarget(
      name: "ConsoleStoreTests",
      dependencies: [
        "Domain", "Matching", "Pipeline", "ConsoleStore", "Kafka", "KafkaTesting", "StoreTesting", "Configuration",
        .product(name: "GRDB", package: "GRDB.swift"),
      ],
      swiftSettings: settings),
    .testTarget(
      name: "ConsoleTests",
      dependencies: [
        "Console", "ConsoleStore", "Kafka", "KafkaTesting", "StoreTesting", "Configuration",
        .product(name: "JWTKit", package: "jwt-kit"), .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "CryptoExtras", package: "swift-crypto"),
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "X509", package: "swift-certificates"), .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(
          name: "HummingbirdTesting", package: "hummingbird", moduleAliases: ["Configuration": "SwiftConfiguration"]),
      ], swiftSettings: settings),
    .testTarget(
      name: "EndToEndTests", dependencies: ["Pipeline", "Simulation", "Kafka", "KafkaTesting", "Monitoring", "tieout"],
      swiftSettings: settings),
  ]
)

// The benchmarks, a package of their own, need none of the console, and one of its dependencies has a module of the same
// name as one here, which SwiftPM refuses across packages: `tools/bench` leaves all of it out.
if Context.environment["TIEOUT_CORE_ONLY"] != nil {
  let core = ["swift-argument-parser", "swift-log", "Yams", "hdrhistogram-swift", "swift-crypto"]
  package.dependencies.removeAll { dependency in
    guard case .sourceControl(_, let location, _) = dependency.kind else { return false }
    return !core.contains { location.hasSuffix("/" + $0) }
  }
  let console = [
    "Monitoring", "tieout", "EndToEndTests", "CPostgres", "tieout-serve", "Console", "ConsoleStore", "ConsoleTests",
    "ConsoleStoreTests", "StoreTesting",
  ]
  package.targets.removeAll { console.contains($0.name) }
  package.products.removeAll { console.contains($0.name) }
}
