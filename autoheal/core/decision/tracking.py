"""Target tracking on one service at one tick: what its rules remember, and what they propose.

What is asked for is remembered at every tick, whatever holds the rule back meanwhile. A rule that
is out of force, and one of a service that has no count or is off, remembers only what it did.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from autoheal.actions import Proposal, Track, Unable
from autoheal.core.decision import flights
from autoheal.core.decision.arbiter import Loss
from autoheal.core.decision.subject import subject
from autoheal.core.decision.tick import Tick, View
from autoheal.core.decision.track import (
    Recommendation,
    proposal,
    recent,
    recommend,
    remembered,
)
from autoheal.core.rule import Rule
from autoheal.core.state import TrackState
from autoheal.model import ActionKind, ServiceMode, Verdict

NOTHING = TrackState()


@dataclass(frozen=True, slots=True)
class Tracking:
    """One rule on the service: what its targets ask for, None if nothing is to be asked.

    `state` is its memory after this tick, `proposal` what it wants done, None if nothing.
    """

    rule: Rule
    asked: Recommendation | None
    state: TrackState
    proposal: Proposal | None

    @property
    def verdict(self) -> Verdict:
        """TRUE while the rule wants something done; NO_DATA where what is missing forbids it.

        FALSE also where it only wants fewer tasks and cannot have them yet: nothing is amiss then.
        """
        if self.asked is None:
            return Verdict.FALSE
        if self.proposal is not None and self.proposal.kind is ActionKind.SCALE_UP:
            return Verdict.TRUE
        if self.asked.held_by:
            return Verdict.NO_DATA
        plan = None if self.proposal is None else self.proposal.plan
        can_wait = isinstance(plan, Unable) and not plan.lasting
        return Verdict.FALSE if plan is None or can_wait else Verdict.TRUE


def verdicts(tick: Tick, view: View) -> dict[str, Verdict]:
    """What the service's tracking rules say, by name; their condition alone is always TRUE."""
    return {each.rule.name: each.verdict for each in _trackings(tick, view)}


def follow(tick: Tick, view: View) -> dict[str, Proposal]:
    """What the service's tracking rules propose, by name; what they ask for is remembered."""
    identity = view.service.id
    found = _trackings(tick, view)
    tracks = {each.rule.name: each.state for each in found}
    if tracks != tick.services[identity].tracks:
        state = dataclasses.replace(tick.services[identity], tracks=tracks)
        tick.services[identity] = state
    for each in found:
        if each.proposal is None and each.asked is not None and each.asked.held_by:
            tick.lose(identity, [Loss(each.rule, each.asked.held_by, each.asked.figures)])
    # A rule that wants nothing any more begins anew.
    content = [each.rule.name for each in found if each.verdict is Verdict.FALSE]
    tick.services[identity] = flights.unburdened(tick.services[identity], content)
    return {each.rule.name: each.proposal for each in found if each.proposal is not None}


def _trackings(tick: Tick, view: View) -> Sequence[Tracking]:
    """Worked out once in a tick: what it rests on stays as it is between its two readers."""
    identity = view.service.id
    if identity not in tick.trackings:
        tick.trackings[identity] = _worked_out(tick, view)
    return tick.trackings[identity]


def _worked_out(tick: Tick, view: View) -> list[Tracking]:
    found = []
    for rule in view.rules.values():
        if isinstance(rule.then, Track):
            asked = _asked(tick, view, rule, rule.then)
            state = _remembered(tick, view, rule, rule.then, asked)
            of = subject(tick, view, rule)
            wanted = proposal(rule.then, asked, state, of, tick.now_ms) if asked else None
            found.append(Tracking(rule, asked, state, wanted))
    return found


def _asked(tick: Tick, view: View, rule: Rule, track: Track) -> Recommendation | None:
    """What the rule's targets ask for; None if it is not in force, or the service has no count."""
    service = view.service
    in_force = rule.name in tick.services[service.id].rules
    if not in_force or service.mode is not ServiceMode.REPLICATED or not service.replicas:
        return None
    readings = {each: tick.snapshot.tracked[service.id, each] for each in track.targets}
    return recommend(track, readings, service)


def _remembered(
    tick: Tick, view: View, rule: Rule, track: Track, asked: Recommendation | None
) -> TrackState:
    """What the rule remembers from here on: while it asks for nothing, only what it did.

    At a late tick the present count is remembered too: that nobody looked is no reason to move.
    """
    known = tick.services[view.service.id].tracks.get(rule.name, NOTHING)
    if asked is None:
        return TrackState((), recent(track, known.scaled, tick.now_ms))
    current = view.service.replicas or 0
    seen = ((tick.now_ms, current),) if tick.is_late else ()
    return remembered(
        track,
        dataclasses.replace(known, hash=rule.hash, recommendations=(*known.recommendations, *seen)),
        (tick.now_ms, asked.replicas),
        current=current,
        is_new=known.hash not in ("", rule.hash),
    )
