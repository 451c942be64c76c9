"""How far a rule may go on a service: labels and the rule's mode, and nothing else."""

from __future__ import annotations

from autoheal.core.rule import Rule
from autoheal.labels import Terms
from autoheal.model import Mode


def may_reach(rule: Rule, terms: Terms) -> Mode:
    """LIVE or DRY_RUN; a missing label lowers it, and does no more."""
    if rule.mode is Mode.DRY_RUN:
        return Mode.DRY_RUN
    if rule.then.leaf is None or terms.arms(rule.then.kind):
        return Mode.LIVE
    return Mode.DRY_RUN
