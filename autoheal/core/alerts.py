"""inactive -> pending -> firing, as in Prometheus' rules/alerting.go: one comparison with `now`.

A rule is pending from its first TRUE and fires when it has been TRUE for `for`. FALSE ends both.
NO_DATA starts a pending rule over, but is no recovery: what fires goes on firing.
"""

from __future__ import annotations

import dataclasses

from autoheal.core.rule import Rule
from autoheal.core.state import RuleState
from autoheal.model import Verdict


def step(known: RuleState | None, rule: Rule, verdict: Verdict, now_ms: int) -> RuleState | None:
    """The rule's next state on one service; None is inactive.

    A state that another version of the rule left behind is not this rule's.
    """
    if known is not None and known.hash != rule.hash:
        known = None
    match verdict:
        case Verdict.FALSE:
            return None
        case Verdict.NO_DATA:
            return known if known is not None and known.firing else None
        case Verdict.TRUE:  # pragma: no branch  # mypy knows that there is no other
            current = known or RuleState(rule.hash, now_ms)
            firing = current.firing or now_ms - current.active_ms >= rule.for_ms
            return dataclasses.replace(current, firing=firing, held="")
