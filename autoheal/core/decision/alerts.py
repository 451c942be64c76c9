"""inactive -> pending -> firing, as in Prometheus' rules/alerting.go: one comparison with `now`.

A rule is pending from its first TRUE and fires when it has been TRUE for `for`. FALSE ends both.
So does NO_DATA: else lost samples could hide that a condition was FALSE for a while. It is no
recovery, though: an alert that was raised stays raised (ServiceState.escalated) until its condition
is FALSE.

Outside its hours a rule is inactive, whatever its condition says: when they begin it begins anew.
"""

from __future__ import annotations

import dataclasses

from autoheal.core.rule import Rule, RuleSet
from autoheal.core.state import RuleState
from autoheal.model import Verdict


def outside_hours(rules: RuleSet, now_ms: int) -> frozenset[str]:
    """The names of the rules whose schedule puts them out of force now."""
    return frozenset(
        rule.name
        for rule in rules.rules
        if rule.schedule is not None and not rule.schedule.holds(now_ms)
    )


def step(known: RuleState | None, rule: Rule, verdict: Verdict, now_ms: int) -> RuleState | None:
    """The rule's next state on one service; None is inactive.

    A state that another version of the rule left behind is not this rule's.
    """
    if known is not None and known.hash != rule.hash:
        known = None
    match verdict:
        case Verdict.FALSE | Verdict.NO_DATA:
            return None
        case Verdict.TRUE:  # pragma: no branch  # mypy knows that there is no other
            current = known or RuleState(rule.hash, now_ms)
            firing = current.firing or now_ms - current.active_ms >= rule.for_ms
            return dataclasses.replace(current, firing=firing, held="")
