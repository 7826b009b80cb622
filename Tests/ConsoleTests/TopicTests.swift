import Configuration
import Foundation
import Kafka
import KafkaTesting
import Logging
import Testing

@testable import Console

@Suite struct TopicTests {
  private let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  private func configuration(_ cluster: TestCluster) throws -> Configuration {
    var configuration = try TestConsole.parsed()
    configuration.kafka.bootstrap = cluster.bootstrap
    configuration.actionsTopic = cluster.unique("actions")
    configuration.proposalsTopic = cluster.unique("proposals")
    configuration.breaksTopic = cluster.unique("breaks")
    for index in configuration.sources.indices {
      configuration.sources[index].topic = cluster.unique(configuration.sources[index].name)
    }
    return configuration
  }

  /// A console that comes up before everything else waits, and makes as many partitions as the daemon asks for.
  @Test func theyAreMadeWhenTheSourcesAreThere() throws {
    let cluster = try TestCluster()
    let configuration = try configuration(cluster)
    for topic in configuration.consoleTopics { cluster.adopt(topic.name) }
    let topics = ConsoleTopics(configuration, log: silent, retry_ms: 50)
    topics.start()
    defer { topics.stop() }
    Thread.sleep(forTimeInterval: 0.5)
    let admin = try Admin(properties: cluster.properties)
    let names = configuration.consoleTopics.map(\.name)
    #expect(try names.allSatisfy { try admin.topics()[$0] == nil }, "nobody knows yet how many partitions they need")
    for source in configuration.sources { try cluster.createTopic(source.topic, partitions: 3) }
    let until = Date().addingTimeInterval(30)
    while try names.contains(where: { try admin.topics()[$0] == nil }), Date() < until {
      Thread.sleep(forTimeInterval: 0.05)
    }
    #expect(try names.map { try admin.topics()[$0] } == names.map { _ in 3 })
  }

  @Test func asManyAsThereAreTasks() throws {
    let cluster = try TestCluster()
    let configuration = try configuration(cluster)
    let (orders, ledger) = (configuration.sources[0].topic, configuration.sources[1].topic)
    let breaks = configuration.breaksTopic
    func partitions(_ known: [String: Int]) -> Int? { ConsoleTopics.partitions(configuration, known: known) }
    #expect(partitions([:]) == nil)
    #expect(partitions([orders: 6]) == nil)
    #expect(partitions([orders: 6, ledger: 6, breaks: 2]) == 6, "the breaks may have been made by somebody else")
    #expect(partitions([orders: 6, breaks: 4]) == 4, "who may not see a source")
  }
}
