"""Who may act on one service: its firing rules contend, and the guards have the last word.

Where nobody may for a reason that waiting does not change, people are told instead (`otherwise`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from autoheal.actions import Escalate, Plan, Proposal, Unable
from autoheal.core.decision import pages
from autoheal.core.decision.arbiter import Bid, Contest, Loss, contend, lane_of
from autoheal.core.decision.evidence import describe
from autoheal.core.decision.guards import Candidate, Objection, Situation, objection
from autoheal.core.decision.pages import Cause
from autoheal.core.decision.reach import may_reach
from autoheal.core.decision.subject import subject
from autoheal.core.decision.tick import Tick, View
from autoheal.core.decision.tracking import follow
from autoheal.core.rule import Rule
from autoheal.core.state import Lane
from autoheal.model import ActionKind, Mode

NO_PLAN = Plan(0, 0, "")


def serve(tick: Tick, view: View) -> tuple[list[Candidate], list[Cause]]:
    """Who may act on the service, one per lane, and why people must be told of it."""
    tracked = follow(tick, view)
    states = tick.services[view.service.id].rules
    firing = [r for name, r in view.rules.items() if name in states and states[name].firing]
    alarms = [rule for rule in firing if isinstance(rule.then, Escalate)]
    causes = [Cause(view, rule) for rule in alarms if _may_tell(tick, view, rule)]
    candidates: list[Candidate] = []
    for lane in Lane:
        mine = [rule for rule in firing if lane_of(rule) is lane and rule not in alarms]
        bids = _bids(tick, view, mine, tracked)
        if not bids:
            continue
        free = _not_blocked(tick, view, bids, _ringing(tick, view, lane, alarms))
        chosen, reasons = _contend(tick, view, free)
        candidates += chosen
        causes += reasons
    return candidates, causes


def _bids(
    tick: Tick, view: View, rules: Sequence[Rule], tracked: Mapping[str, Proposal]
) -> list[Bid]:
    """What each of the rules wants done, but for those that want nothing."""
    proposed = (
        (rule, rule.then.propose(subject(tick, view, rule, tracked.get(rule.name))))
        for rule in rules
    )
    return [Bid(rule, proposal) for rule, proposal in proposed if proposal is not None]


def _ringing(tick: Tick, view: View, lane: Lane, alarms: Sequence[Rule]) -> list[Rule]:
    """The rules of this lane for which people are told of the service.

    That a node is down holds nothing back for longer than the node hold does.
    """
    escalated = tick.services[view.service.id].escalated
    names = {rule.name for rule in alarms} | escalated.keys()
    found = [r for name, r in view.rules.items() if name in names and lane_of(r) is lane]
    return [r for r in found if r.name not in escalated or not pages.blames_node(r)]


def _not_blocked(tick: Tick, view: View, bids: Sequence[Bid], ringing: Sequence[Rule]) -> list[Bid]:
    """The bids that no alarm goes before; that scaling found no way does not stop a treatment."""
    free = []
    for bid in bids:
        first = next((r for r in ringing if r.then.heals or not bid.rule.then.heals), None)
        if first is None:
            free.append(bid)
        else:
            words = f"{first.name} (escalate) goes first"
            tick.lose(view.service.id, [Loss(bid.rule, "arbitration", words)])
    return free


def _may_tell(tick: Tick, view: View, rule: Rule) -> bool:
    """Whether no guard objects to an escalation."""
    objected = _objection(tick, view, rule, rule.then.kind)
    if objected is not None:
        tick.lose(view.service.id, [Loss(rule, objected.guard.name, objected.words)])
    return objected is None


def _contend(tick: Tick, view: View, bids: Sequence[Bid]) -> tuple[list[Candidate], list[Cause]]:
    """The winner if no guard objects; else why its `otherwise` is due, if it is."""
    contest = contend(bids)
    if contest.winner is not None:
        return _judged(tick, view, bids, contest, contest.winner)
    tick.lose(view.service.id, contest.losses)
    return [], [
        Cause(view, bid.rule, bid.plan.words, bid.plan.fix)
        for bid in contest.stuck
        if isinstance(bid.plan, Unable) and _is_told(bid.rule) and _is_due(tick, view, bid)
    ]


def _judged(
    tick: Tick, view: View, bids: Sequence[Bid], contest: Contest, winner: Bid
) -> tuple[list[Candidate], list[Cause]]:
    """What the guards make of the winner."""
    rule, candidate = winner.rule, _candidate(tick, view, winner)
    objected = objection(candidate, _situation(tick))
    if objected is None:
        tick.lose(view.service.id, contest.losses)
        return _attempted(tick, view, candidate)
    held = Loss(rule, objected.guard.name, objected.words)
    healing = [bid for bid in bids if bid.rule.then.heals]
    if objected.guard.lasting and not rule.then.heals and healing:
        # More tasks can never be had here: that must not keep a failure from being treated.
        scaling = [loss for loss in contest.losses if not loss.rule.then.heals]
        tick.lose(view.service.id, [*scaling, held])
        return _contend(tick, view, healing)
    tick.lose(view.service.id, [*contest.losses, held])
    if objected.guard.name == pages.BUDGET and candidate.max_mode is Mode.LIVE:
        pages.budget_spent(tick, candidate.max_mode, [view.service.name])
    if not objected.guard.lasting or not _is_told(rule):
        return [], []
    return [], [Cause(view, rule, objected.words, rule.then.fix(subject(tick, view, rule)))]


def _attempted(tick: Tick, view: View, candidate: Candidate) -> tuple[list[Candidate], list[Cause]]:
    """The candidate; when attempt after attempt came to nothing people are told instead."""
    failures = candidate.state.failures.get(candidate.rule.name, 0)
    if failures < tick.limits.breaker_failures or not _is_told(candidate.rule):
        return [candidate], []
    because = f"{failures} attempts to {candidate.action} came to nothing"
    tick.lose(view.service.id, [Loss(candidate.rule, "attempts", because)])
    return [], [Cause(view, candidate.rule, because)]


def _is_due(tick: Tick, view: View, bid: Bid) -> bool:
    """Whether nothing that passes by itself stands in the way of the rule here."""
    objected = _objection(tick, view, bid.rule, bid.action)
    return objected is None or objected.guard.lasting or objected.guard.own_wait


def _objection(tick: Tick, view: View, rule: Rule, action: ActionKind) -> Objection | None:
    """What the guards say of such an action of the rule: none of them looks at the plan."""
    bid = Bid(rule, Proposal(action, NO_PLAN))
    return objection(_candidate(tick, view, bid), _situation(tick))


def _is_told(rule: Rule) -> bool:
    """Whether people are told when the rule's action cannot be: always, if it was to heal."""
    return rule.otherwise is not None or rule.then.heals


def _candidate(tick: Tick, view: View, bid: Bid) -> Candidate:
    state = tick.services[view.service.id]
    return Candidate(
        service=view.service,
        state=state,
        rule=bid.rule,
        action=bid.action,
        plan=cast("Plan", bid.plan),  # only a bid that can act wins
        lane=lane_of(bid.rule),
        max_mode=may_reach(bid.rule, view.terms, bid.action),
        evidence=bid.proposal.evidence or describe(bid.rule, view.service, state, tick.now),
        terms=view.terms,
        is_healthy=view.is_whole and not _has_sick_task(tick, view),
    )


def _has_sick_task(tick: Tick, view: View) -> bool:
    found = tick.snapshot.events.get(("unhealthy", view.service.id), ())
    return any(happening.task in view.tasks.running for happening in found)


def _situation(tick: Tick) -> Situation:
    return Situation(
        now_ms=tick.now_ms,
        limits=tick.limits,
        inventory_at_ms=tick.snapshot.inventory_at_ms,
        stack_deployed_ms=tick.stacks,
        breaker=tick.breaker,
        nodes=tick.snapshot.nodes,
        loads=tick.snapshot.loads,
        nodes_changed_ms=tick.nodes_changed_ms,
        outage_ms=tick.outage_ms,
        spent=tick.spent,
    )
