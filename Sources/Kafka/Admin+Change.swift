import CRdKafka

/// What tests and tools do to topics that are there.
extension Admin {
  /// Gives a topic more partitions, so many in all.
  package func addPartitions(_ name: String, upTo count: Int, timeout_ms: Int = 15_000) throws(KafkaError) {
    var space = [CChar](repeating: 0, count: 512)
    var wanted = rd_kafka_NewPartitions_new(name, count, &space, space.count)
    guard wanted != nil else { throw KafkaError(text(space), context: "topic \(name)") }
    defer { rd_kafka_NewPartitions_destroy(wanted) }
    let queue = rd_kafka_queue_new(client)
    defer { rd_kafka_queue_destroy(queue) }
    rd_kafka_CreatePartitions(client, &wanted, 1, nil, queue)
    let what = "adding partitions to \(name)"
    guard let event = rd_kafka_queue_poll(queue, Int32(timeout_ms)) else {
      throw KafkaError(RD_KAFKA_RESP_ERR__TIMED_OUT, what)
    }
    defer { rd_kafka_event_destroy(event) }
    try KafkaError.check(rd_kafka_event_error(event), what)
    var number = 0
    let results = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &number)
    if number == 1, let result = results?[0] { try KafkaError.check(rd_kafka_topic_result_error(result), what) }
  }

  /// Deletes the records of a partition before an offset.
  package func deleteRecords(
    _ place: TopicPartition, before offset: Int64, timeout_ms: Int = 15_000
  ) throws(KafkaError) {
    let list = makeList([place: CommittedOffset(offset)])
    defer { rd_kafka_topic_partition_list_destroy(list) }
    var wanted = rd_kafka_DeleteRecords_new(list)
    defer { rd_kafka_DeleteRecords_destroy(wanted) }
    let queue = rd_kafka_queue_new(client)
    defer { rd_kafka_queue_destroy(queue) }
    rd_kafka_DeleteRecords(client, &wanted, 1, nil, queue)
    let what = "deleting records of \(place)"
    guard let event = rd_kafka_queue_poll(queue, Int32(timeout_ms)) else {
      throw KafkaError(RD_KAFKA_RESP_ERR__TIMED_OUT, what)
    }
    defer { rd_kafka_event_destroy(event) }
    try KafkaError.check(rd_kafka_event_error(event), what)
    guard let offsets = rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event)) else {
      return
    }
    for index in 0..<Int(offsets.pointee.cnt) { try KafkaError.check(offsets.pointee.elems[index].err, what) }
  }
}
