import Domain
import Foundation
import Kafka
import Pipeline

/// People who act on breaks while the cluster is being disturbed, and what must have come of it.
extension ClusterSimulation {
  /// Somebody acts on a break that a reader of its topic sees: mostly on the difference that is there, at times on an
  /// older one, twice, on an order that nobody knows, or in a way that cannot be read.
  func act() {
    let draw = people.below(100)
    if draw < 10, let again = sentActions.randomElement(using: &people) {
      append(again.place, again.key, again.value)
      return
    }
    let topic = configuration.actionsTopic
    if draw < 14 {
      corrupted += 1
      append(TopicPartition(topic, Int32(people.below(partitions))), [0x78], Array(#"{"id":"a","kind":"accept"}"#.utf8))
      return
    }
    if draw < 20 {
      let order = "nobody-\(people.below(4))"
      let isOld = people.below(2) == 0
      let action = made(
        .accept, Break.id(order: order, type: .amountMismatch, role: .receivable), order, basis: "1.00|2.00|USD",
        at_ms: isOld ? base_ms - 400 * 86_400_000 : base_ms + cluster.now_ms)
      send(action, TopicPartition(topic, Int32(people.below(partitions))))
      return
    }
    guard let message = visibleBreaks().randomElement(using: &people) else { return }
    guard let task = message.task else {
      fail("\(message.id) names no task")
      return
    }
    let kind = [ActionKind.explain, .accept, .forceClose, .reopen, .comment, .approve, .approve, .reject][
      people.below(8)]
    var action = made(
      kind, message.id, message.order, basis: people.below(6) == 0 ? "1.00|2.00|USD" : message.basis,
      at_ms: base_ms + cluster.now_ms)
    if kind == .approve || kind == .reject {
      let asked = (acted[message.id] ?? []).filter(\.needsApproval)
      action.of = asked.randomElement(using: &people)?.id ?? "nothing"
    } else {
      action.needsApproval = people.below(4) == 0
    }
    send(action, TopicPartition(topic, task))
  }

  private func made(_ kind: ActionKind, _ id: String, _ order: String, basis: String, at_ms: Int64) -> Action {
    var action = Action(
      id: "act-\(sentActions.count)", kind: kind, breakID: id, order: order,
      actor: ["ann", "bob", "eve"][people.below(3)], at: formatTimestamp(at_ms), revision: 1, basis: basis)
    if people.below(2) == 0 { action.reasonCode = ["timing", "\"fx\"\n"][people.below(2)] }
    return action
  }

  private func send(_ action: Action, _ place: TopicPartition) {
    guard let value = try? action.encoded() else { return fail("an action cannot be written") }
    trace("\(place): \(String(decoding: value, as: UTF8.self))")
    acted[action.breakID, default: []].append(action)
    sentActions.append((place, Array(action.order.utf8), value))
    append(place, Array(action.order.utf8), value)
  }

  /// Some stand behind one of a transaction that is aborted.
  private func append(_ place: TopicPartition, _ key: [UInt8], _ value: [UInt8]) {
    let log = cluster.log(place)
    if people.below(10) == 0 {
      let stranger = 2_000_000 + Int(log.end)
      log.append(.init(producer: stranger, key: key, value: Array("aborted".utf8)))
      log.mark(stranger, .abort)
    }
    log.append(.init(key: key, value: value))
  }

  /// The newest revisions, in the order of their ids.
  private func visibleBreaks() -> [BreakMessage] {
    var newest: [String: BreakMessage] = [:]
    for partition in 0..<partitions {
      for (_, _, value) in cluster.readCommitted(TopicPartition(configuration.breaksTopic, Int32(partition))) {
        guard let value, let made = try? JSONDecoder().decode(BreakMessage.self, from: Data(value)) else { continue }
        // What the second stage finds is decided in the console alone.
        if !Auditor.isOfSecondStage(id: made.id, order: made.order) { newest[made.id] = made }
      }
    }
    return newest.values.sorted { $0.id < $1.id }
  }

  /// The newest revision of each break says what the actions on it add up to.
  func checkDecisions(_ breaks: [String: BreakMessage]) {
    for made in breaks.values.sorted(by: { $0.id < $1.id }) {
      let decision = ClusterSimulation.decision(acted[made.id] ?? [])
      let holds = decision?.action.basis == made.basis
      let isDecided = ["open", "reopened", "explained", "accepted", "force_closed"].contains(made.state)
      if let told = made.decision {
        guard let decision, holds, isDecided else {
          fail("\(made.id) is \(made.state) by \(told.action), which does not hold")
          continue
        }
        let right = BreakMessage.Decision(
          action: decision.action.id, actor: decision.action.actor, reasonCode: decision.action.reasonCode,
          approver: decision.approver)
        if told != right { fail("\(made.id) is decided by \(told), right is \(right)") }
        if made.state != decision.action.kind.decidedState {
          fail("\(made.id) is \(made.state) by \(told.action), which says \(decision.action.kind.rawValue)")
        }
        continue
      }
      switch made.state {
      case "open", "reopened":
        if holds { fail("\(made.id) is \(made.state), and \(decision!.action.id) has decided otherwise") }
      case "accepted":
        // Within tolerance: only that it is reopened changes it.
        if holds, [.reopen, .accept].contains(decision!.action.kind) {
          fail("\(made.id) is accepted, and does not name \(decision!.action.id)")
        }
      case "explained", "force_closed": fail("\(made.id) is \(made.state), and names no decision")
      default: break
      }
    }
  }

  /// The newest of the decisions that have taken effect, told from the whole list anew.
  private static func decision(_ actions: [Action]) -> (action: Action, approver: String?)? {
    var newest: (action: Action, approver: String?)?
    var open: [Action] = []
    for action in actions {
      if action.kind == .reject { open.removeAll { $0.id == action.of } }
      if action.kind == .approve, let asked = open.first(where: { $0.id == action.of && $0.actor != action.actor }) {
        open.removeAll { $0.id == asked.id }
        newest = (asked, action.actor)
      }
      guard action.kind.decides else { continue }
      if action.needsApproval { open.append(action) } else { newest = (action, nil) }
    }
    return newest
  }
}
