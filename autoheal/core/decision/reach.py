"""How far a rule may go on a service: labels and the rule's mode, and nothing else."""

from __future__ import annotations

from autoheal.core.rule import Rule
from autoheal.labels import Terms
from autoheal.model import ActionKind, Mode


def may_reach(rule: Rule, terms: Terms, action: ActionKind | None = None) -> Mode:
    """LIVE or DRY_RUN; a missing label lowers it, and does no more.

    What is asked is whether the rule may do this `action`; if it is None, anything it proposes.
    """
    if rule.mode is Mode.DRY_RUN:
        return Mode.DRY_RUN
    actions = rule.then.kinds() if action is None else (action,)
    if rule.then.leaf is None or any(terms.arms(each) for each in actions):
        return Mode.LIVE
    return Mode.DRY_RUN
