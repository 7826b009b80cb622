import Aggregates

extension Matcher {
  /// Goes on with other fiscal periods, rates and posting policies; all else of the policy must be as it was. What has been
  /// judged stays so until something of the order comes or falls due, or a revision of the policies comes to it.
  /// - Parameters:
  ///   - adopts: Nothing has happened yet.
  ///   - isKnown: False in a replay under other settings than were then.
  public mutating func use(
    _ policy: MatchingPolicy, periods: PeriodCalendar, adopts: Bool = false, isKnown: Bool = true
  ) {
    precondition((policy.checks == nil) == (self.policy.checks == nil), "checks do not come and go with a table")
    self.policy = policy
    judge.policy = policy
    quick = QuickJudge(calendar: policy.checks?.calendar)
    self.periods = periods
    if aggregates != nil { aggregates!.calendar = periods }
    take(policy.effectivePolicies, adopts: adopts, isKnown: isKnown)
  }
}
