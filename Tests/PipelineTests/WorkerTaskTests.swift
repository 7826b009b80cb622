import Checkpoints
import Configuration
import Testing

@testable import Pipeline

/// What a worker keeps of a task beside its engine.
@Suite struct WorkerTaskTests {
  /// Keys that nobody needs any more are deleted with an epoch, and with a checkpoint: where that is put off, with the next one.
  @Test func keysAreForgottenWhenTheyHaveBeenDeleted() throws {
    let configuration = try InheritedDimensionsRestoreTests.configuration("")
    let engine = TaskEngine(
      try DecodeStage(configuration, hash: configuration.matchingHash), partition: 0)
    let checkpointer = Checkpointer(task: 0, sources: ["orders", "ledger"])
    let task = Worker.Task(engine, checkpointer, unneeded: (["a"], ["b"]), now_ms: 0)
    func writeCheckpoint(_ epoch: UInt64) {
      checkpointer.save()
      checkpointer.begin(engine.matcher, epoch: epoch, epochsOffset: 0)
      _ = checkpointer.advance(
        engine.matcher, epoch: epoch, incarnation: 1, next: [0, 0], configuration: 1, most: .max)
    }
    #expect(task.unneededNow == ["a"])
    writeCheckpoint(1)
    #expect(task.unneededNow == ["a", "b"])
    // The epoch is put off, and its checkpoint with it.
    checkpointer.rollback()
    #expect(task.unneededNow == ["a"], "nothing of it has been deleted")
    task.forgetUnneeded()
    #expect(task.unneededNow.isEmpty)
    writeCheckpoint(2)
    #expect(task.unneededNow == ["b"])
    task.forgetUnneeded()
    #expect(task.unneededNow.isEmpty)
    writeCheckpoint(3)
    #expect(task.unneededNow.isEmpty)
  }
}
