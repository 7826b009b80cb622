import Configuration
import Domain

extension Doctor {
  /// Memory of a worker beside its state: records fetched ahead (librdkafka's default), messages on their way out.
  private static let workerBytes = 160 << 20
  /// The program itself, its decoders and its stages.
  private static let programBytes = 256 << 20

  func resources(brokers: Int, partitions: Int?) -> [DoctorFinding] {
    [descriptors(brokers: brokers), memory()] + [addressSpace()].compactMap { $0 } + workers(partitions)
  }

  /// Sockets and pipes of the clients: each of them has a connection and a pipe to every broker, and a few of its own.
  private func descriptors(brokers: Int) -> DoctorFinding {
    let clients = configuration.workers * 3 + (configuration.sources.contains(where: \.isRouted) ? 3 : 0) + 4
    let need = clients * (max(brokers, 1) * 4 + 10) + 64
    let limit = machine.descriptorLimit
    let says =
      "\(limit == .max ? "no limit" : "\(limit)"); "
      + "\(DoctorText.count(configuration.workers, "worker")) at \(DoctorText.count(brokers, "broker")) may need \(need)"
    guard limit < need else { return DoctorFinding(.ok, "machine", "open files", says) }
    return DoctorFinding(
      limit * 2 < need ? .failed : .warning, "machine", "open files", says,
      advice: "Raise the limit: LimitNOFILE=65536 in the systemd unit, or `ulimit -n 65536`.")
  }

  private func memory() -> DoctorFinding {
    let need = configuration.memoryLimit + configuration.workers * Doctor.workerBytes + Doctor.programBytes
    let has = machine.memory_bytes
    let says =
      "limits.memory \(DoctorText.bytes(configuration.memoryLimit)), about \(DoctorText.bytes(need)) with "
      + "buffers; the machine or its control group has \(has == .max ? "no known limit" : DoctorText.bytes(has))"
    let advice =
      "Lower limits.memory to \(DoctorText.bytes(max(256 << 20, has / 4 * 3 - (need - configuration.memoryLimit))))"
      + " or less, or give the process more: at limits.memory intake slows down, while the system ends whoever has more "
      + "than there is."
    if need > has { return DoctorFinding(.failed, "machine", "memory", says, advice: advice) }
    if need > has / 10 * 9 { return DoctorFinding(.warning, "machine", "memory", says, advice: advice) }
    return DoctorFinding(.ok, "machine", "memory", says)
  }

  private func addressSpace() -> DoctorFinding? {
    guard machine.addressSpace_bytes != nil || machine.isOvercommitForbidden else { return nil }
    let says =
      machine.addressSpace_bytes.map { "limited to \(DoctorText.bytes($0)) (ulimit -v)" }
      ?? "the system promises no more than it has (vm.overcommit_memory=2)"
    return DoctorFinding(
      .warning, "machine", "address space", says,
      advice: "Tasks take smaller tables than they would: set vm.overcommit_memory to 0 or 1, and no `ulimit -v`.")
  }

  private func workers(_ partitions: Int?) -> [DoctorFinding] {
    let count = configuration.workers
    if let partitions, partitions > 0, count > partitions {
      return [
        DoctorFinding(
          .warning, "machine", "workers", "\(count), and \(DoctorText.count(partitions, "partition")) to share",
          advice: "\(count - partitions) of them will have nothing to do: lower `workers`, or make more partitions.")
      ]
    }
    if count > machine.processors {
      return [
        DoctorFinding(
          .warning, "machine", "workers", "\(count) on \(machine.processors) processors",
          advice: "They will wait for each other: lower `workers`, and run more processes on other machines.")
      ]
    }
    return [DoctorFinding(.ok, "machine", "workers", "\(count) on \(machine.processors) processors")]
  }
}
