import Configuration
import Foundation
import Kafka
import KafkaTesting
import Pipeline
import Testing

@Suite(.serialized) struct RedriveTests {
  /// Records that a table did not know are sent again once it does, each once; nothing else is.
  @Test(arguments: TestCluster.kinds.map(\.rawValue)) func deadLettersAreSentAgainOnce(_ kind: String) throws {
    let world = try MasterDataTests.World(TestCluster.Kind(rawValue: kind))
    try world.write(["OLD,C1"])
    let configuration = try world.configuration { $0.replacing("o, event: {", with: "o, document: o, event: {") }
    for source in configuration.sources { try world.cluster.createTopic(source.topic, partitions: 1) }
    for topic in configuration.ownTopics {
      try world.cluster.createTopic(topic.name, partitions: 1, config: topic.config)
    }
    try world.cluster.createTopic(configuration.redrivenTopic, partitions: 1)
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    try world.send([("A", "OLD"), ("B", "NEW"), ("C", "LOST")], configuration)
    try world.cluster.produce(configuration.sources[0].topic, [("X", "{\"o\":", 0)])
    // A dead letter of another program, and one of a record that the topic no longer has.
    func letter(_ offset: Int64, _ payload: String, bytes: Int) -> String {
      #"{"source":"orders","topic":"\#(configuration.sources[0].topic)","partition":0,"offset":\#(offset),"key":"K","#
        + #""reason":"MASTER_DATA_MISSING","field":"customer","detail":"d","payload":"\#(payload)","payload_bytes":\#(bytes)}"#
    }
    let old = #"{"o":"D","t":"2024-01-01T00:00:00Z","c":"OLD","g":10}"#
    try world.cluster.produce(
      configuration.deadLettersTopic,
      [
        (nil, "no letter", 0),
        (nil, letter(900, old.replacing("\"", with: "\\\""), bytes: old.utf8.count), 0),
        (nil, letter(901, "cut", bytes: 4_000), 0),
      ])
    MasterDataTests().wait("the records") { daemon.status.decode.records >= 4 && daemon.status.deadLetters == 3 }
    try world.write(["OLD,C1", "NEW,C9"])
    daemon.refreshTables(isForced: true)
    MasterDataTests().wait("the tables in use") { daemon.usesNewestTables }

    var selection = Redrive.Selection()
    selection.reasons = [.masterDataMissing]
    selection.isTrial = true
    let trial = try Redrive(configuration).run(selection)
    #expect(trial.selected == 4 && trial.sent == 3 && trial.known == 0 && trial.gone.count == 1 && trial.foreign == 1)
    #expect(daemon.status.decode.records == 4, "a trial sends nothing")
    selection.isTrial = false
    let sent = try Redrive(configuration).run(selection)
    #expect(sent == trial)
    MasterDataTests().wait("the records again") { daemon.status.decode.records >= 7 }
    // B and D are taken in; C is refused again, under another place.
    MasterDataTests().wait("the refusal") { daemon.status.deadLetters == 4 }
    // It is counted when its transaction is committed, and seen when its partition has heard of that.
    selection.isTrial = true
    MasterDataTests().wait("the refusal in the topic") { (try? Redrive(configuration).run(selection).selected) == 5 }
    selection.isTrial = false
    let again = try Redrive(configuration).run(selection)
    #expect(again.selected == 5 && again.known == 3 && again.sent == 1 && again.gone.count == 1)
    selection.sources = ["ledger"]
    #expect(try Redrive(configuration).run(selection).selected == 0)
    selection.sources = []
    selection.times_ms = 0...1
    #expect(try Redrive(configuration).run(selection).selected == 0)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
    let records = try world.cluster.readAll(configuration.sources[0].topic, partitions: 1)
    #expect(records.filter { $0.key == "B" }.map(\.value).count == 2)
    #expect(records.filter { $0.key == "B" }.allSatisfy { $0.value == records.first { $0.key == "B" }?.value })
    #expect(records.filter { $0.key == "K" }.map(\.value) == [old])
    #expect(records.filter { $0.key == "X" }.count == 1, "another reason is not sent")
  }
}
