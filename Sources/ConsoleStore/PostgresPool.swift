import Foundation
import Synchronization

/// Connections for reading, each with a thread of its own while it works.
final class PostgresPool: Sendable {
  /// More than the server's cores only wait for each other there.
  static let size = 4
  /// Statements that run longer are ended by the server, whatever becomes of this process.
  static let timeout_ms = 60_000

  private final class Lane: Sendable {
    let queue: DispatchQueue
    /// Only touched on the queue.
    nonisolated(unsafe) var connection: PostgresConnection?
    /// What runs on the lane, for whoever wants to interrupt it.
    let running = Mutex<(ticket: Ticket, connection: PostgresConnection)?>(nil)
    init(_ number: Int) { queue = DispatchQueue(label: "postgres-\(number)") }

    /// Asks the server to end what runs under a ticket.
    /// - Returns: whether that still runs.
    func interrupt(_ ticket: Ticket) -> Bool {
      running.withLock { running in
        guard let running, running.ticket === ticket else { return false }
        running.connection.interrupt()
        return true
      }
    }
  }
  /// What one read is known by, and whether it is to end.
  private final class Ticket: Sendable {
    let isCancelled = Atomic(false)
  }
  private struct State {
    var idle: [Lane]
    var waiting: [CheckedContinuation<Lane, Never>] = []
  }
  private let settings: PostgresSettings
  private let state: Mutex<State>

  init(_ settings: PostgresSettings) {
    self.settings = settings
    state = Mutex(State(idle: (0..<PostgresPool.size).map { Lane($0) }))
  }

  private func take() async -> Lane {
    await withCheckedContinuation { continuation in
      let lane = state.withLock { state -> Lane? in
        if let lane = state.idle.popLast() { return lane }
        state.waiting.append(continuation)
        return nil
      }
      if let lane { continuation.resume(returning: lane) }
    }
  }

  private func give(_ lane: Lane) {
    let next = state.withLock { state -> CheckedContinuation<Lane, Never>? in
      if state.waiting.isEmpty {
        state.idle.append(lane)
        return nil
      }
      return state.waiting.removeFirst()
    }
    next?.resume(returning: lane)
  }

  /// Runs `body` on a connection. What was interrupted because its task was cancelled throws `CancellationError`.
  func read<T: Sendable>(
    isSnapshot: Bool, _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    let lane = await take()
    defer { give(lane) }
    try Task.checkCancellation()
    let ticket = Ticket()
    return try await withTaskCancellationHandler {
      do {
        return try await work(lane, ticket, isSnapshot, body)
      } catch let error as PostgresError where error.isCancelled {
        // The word to stop may have been meant for what ran here before.
        if Task.isCancelled { throw CancellationError() }
        return try await work(lane, ticket, isSnapshot, body)
      }
    } onCancel: {
      // Before it is looked what runs: what begins now sees it.
      ticket.isCancelled.store(true, ordering: .sequentiallyConsistent)
      guard lane.interrupt(ticket) else { return }
      // The server takes no notice of it while the statement has not reached it.
      Task.detached {
        var pause_ms = 100
        repeat {
          try? await Task.sleep(for: .milliseconds(pause_ms))
          pause_ms = min(2 * pause_ms, 2_000)
        } while lane.interrupt(ticket)
      }
    }
  }

  private func work<T: Sendable>(
    _ lane: Lane, _ ticket: Ticket, _ isSnapshot: Bool, _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      lane.queue.async { [settings] in
        let result = Result {
          let isOld = lane.connection != nil
          do {
            return try PostgresPool.attempt(lane, ticket, settings, isSnapshot, body)
          } catch let error as StoreUnavailable {
            // A connection that lay idle may have been closed meanwhile: a new one may work.
            guard isOld else { throw error }
            return try PostgresPool.attempt(lane, ticket, settings, isSnapshot, body)
          }
        }
        continuation.resume(with: result)
      }
    }
  }

  private static func attempt<T>(
    _ lane: Lane, _ ticket: Ticket, _ settings: PostgresSettings, _ isSnapshot: Bool,
    _ body: (PostgresConnection) throws -> T
  ) throws -> T {
    let connection: PostgresConnection
    if let known = lane.connection, known.isUsable {
      connection = known
    } else {
      lane.connection = nil
      connection = try settings.connect()
      try connection.run("SET statement_timeout TO \(timeout_ms); SET default_transaction_read_only TO on")
      lane.connection = connection
    }
    lane.running.withLock { $0 = (ticket, connection) }
    defer {
      lane.running.withLock { $0 = nil }
      if !connection.isUsable { lane.connection = nil }
    }
    // While the connection was made nothing could be interrupted.
    if ticket.isCancelled.load(ordering: .sequentiallyConsistent) { throw CancellationError() }
    return isSnapshot
      ? try connection.transaction("ISOLATION LEVEL REPEATABLE READ") { try body(connection) } : try body(connection)
  }
}
