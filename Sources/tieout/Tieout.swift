import ArgumentParser

@main
struct Tieout: ParsableCommand {
  mutating func run() {}
}
