"""Which of the rules that fire on one service may act, and why the others may not.

escalate > scale_up > raise_memory > restart > scale_down: a rule that fires blocks every rule of a
lower rank, even while it cannot act itself (signals that contradict each other call for doing
nothing). A rule that tracks targets has the rank of what it proposes. Within a rank the higher
priority wins, then the name; there a rule that is at its bound makes way for the next, and for one
that treats a failure.
Rules on trial contend in a lane of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoheal.actions import Plan, Proposal, Unable
from autoheal.core.rule import Rule
from autoheal.core.state import Lane
from autoheal.model import ActionKind, Mode

RANK = {kind: rank for rank, kind in enumerate(ActionKind)}


@dataclass(frozen=True, slots=True)
class Bid:
    """A rule that fires on a service, with what it would do."""

    rule: Rule
    proposal: Proposal

    @property
    def action(self) -> ActionKind:
        """What it wants done."""
        return self.proposal.kind

    @property
    def plan(self) -> Plan | Unable:
        """How it would be done."""
        return self.proposal.plan

    @property
    def order(self) -> tuple[int, int, str]:
        """Strongest first."""
        return order_of(self.rule, self.action)


@dataclass(frozen=True, slots=True)
class Loss:
    """A rule that may not act, and why."""

    rule: Rule
    guard: str
    words: str


def order_of(rule: Rule, action: ActionKind) -> tuple[int, int, str]:
    """Strongest first: by rank of what it wants done, then priority, then name."""
    return RANK[action], -rule.priority, rule.name


def lane_of(rule: Rule) -> Lane:
    """Where the rule contends."""
    return Lane.TRIAL if rule.mode is Mode.DRY_RUN else Lane.RULES


@dataclass(frozen=True, slots=True)
class Contest:
    """Who may act, who may not and why, and who could have but for its lasting bound."""

    winner: Bid | None
    losses: tuple[Loss, ...]
    stuck: tuple[Bid, ...]


def contend(bids: Sequence[Bid]) -> Contest:
    """The contest among the bids of one service and lane."""
    winner: Bid | None = None
    blocker: Bid | None = None
    losses: list[Loss] = []
    stuck: list[Bid] = []
    for bid in sorted(bids, key=lambda bid: bid.order):
        if blocker is not None and _blocks(blocker, bid):
            losses.append(Loss(bid.rule, "arbitration", _blocked_by(blocker)))
        elif isinstance(bid.plan, Unable):
            losses.append(Loss(bid.rule, bid.plan.held_by, bid.plan.words))
            stuck += [bid] if bid.plan.lasting and winner is None else []
            blocker = blocker or bid
        elif winner is not None:
            losses.append(Loss(bid.rule, "arbitration", _blocked_by(winner)))
        else:
            winner = bid
            blocker = blocker or bid
    return Contest(winner, tuple(losses), () if winner else tuple(stuck))


def _blocks(blocker: Bid, bid: Bid) -> bool:
    """A rule that fires blocks weaker ones; one at its bound does not keep a failure untreated."""
    treats = bid.rule.then.heals and not blocker.rule.then.heals
    at_bound = isinstance(blocker.plan, Unable)
    return blocker.action is not bid.action and not (treats and at_bound)


def _blocked_by(bid: Bid) -> str:
    return f"{bid.rule.name} ({bid.action}) goes first"
