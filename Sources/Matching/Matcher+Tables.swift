import Aggregates

extension Matcher {
  /// Goes on with other fiscal periods and rates; all else of the policy must be as it was. What has been judged stays so
  /// until something of the order comes or falls due.
  public mutating func use(_ policy: MatchingPolicy, periods: PeriodCalendar) {
    precondition((policy.checks == nil) == (self.policy.checks == nil), "checks do not come and go with a table")
    self.policy = policy
    judge.policy = policy
    quick = QuickJudge(calendar: policy.checks?.calendar)
    self.periods = periods
    if aggregates != nil { aggregates!.calendar = periods }
  }
}
