"""From what targets ask for to a step, after Kubernetes' podautoscaler/horizontal.go.

What is asked for is remembered at every tick, as it was computed. Of what was asked for within a
stabilization window the least counts on the way up, and the most on the way down; the policies say
how far one step may go, given the steps of their time; the bounds of rule and labels where it may
end. What is stopped on the way is told with the words of all that came before it.

A tick without figures is remembered as one that asks for the present count, and so is the tick at
which a rule comes into force, or that comes so late that nothing remembered counts any more: a gap
in what is known is no reason to move the sooner.

Times are ms. An entry counts while it is younger than its window: HPA's `timestamp.After(cutoff)`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoheal.actions import Plan, Proposal, Subject, Track, Unable
from autoheal.actions.replicas import highest, lowest, outside_labels
from autoheal.actions.track import Direction, Policy, Select, Target
from autoheal.core.decision.desired import DECIMALS, Desired, desired
from autoheal.core.decision.pages import joined
from autoheal.core.state import TrackState
from autoheal.core.view.fold import Tracked
from autoheal.model import ActionKind, Evidence, Service
from autoheal.units import format_duration

# What may hold tracking back before any guard is asked; `bound` is the word of all actions.
NO_DATA = "no-data"
MISSING_DATA = "missing-data"
STABILIZATION = "stabilization"
POLICY = "policy"
HOLDS = (NO_DATA, MISSING_DATA, STABILIZATION, POLICY)

# Pairs of a time and a count of replicas, or a change of it; oldest first.
Dated = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What the targets of a rule ask for together, before anything else has its say.

    Where what is known is not enough to move, `replicas` is the present count, `held_by` says what
    is lacking and `points` where the rest points, None if nowhere.
    """

    replicas: int
    words: str
    evidence: tuple[Evidence, ...] = ()
    held_by: str = ""
    points: ActionKind | None = None

    @property
    def figures(self) -> str:
        """The figures and what they come to."""
        return f"{joined(self.evidence)}: {self.words}" if self.evidence else self.words


def recommend(track: Track, readings: Mapping[Target, Tracked], service: Service) -> Recommendation:
    """The largest of what the targets ask for; no fewer than now if one of them is unknown."""
    current = service.replicas or 0
    asked = {each: desired(track, each, readings[each], service) for each in track.targets}
    words = _listed(asked)
    evidence = tuple(
        Evidence(_figure_of(target), each.figure, f"target {target.target:g}")
        for target, each in asked.items()
        if each.figure is not None
    )
    counts = [each.tasks for each in asked.values() if each.tasks is not None]
    if not counts:
        return Recommendation(current, words, evidence, NO_DATA)
    most = max(counts)
    if len(counts) < len(asked) and most < current:
        return Recommendation(current, words, evidence, NO_DATA, ActionKind.SCALE_DOWN)
    if most == current:
        points = _points([each for each in asked.values() if each.tasks == current])
        return Recommendation(current, words, evidence, MISSING_DATA if points else "", points)
    return Recommendation(most, words, evidence)


def _points(deciding: Iterable[Desired]) -> ActionKind | None:
    """Where the targets point that keep the count: up if one does, down if all do."""
    points = {each.points for each in deciding}
    if ActionKind.SCALE_UP in points:
        return ActionKind.SCALE_UP
    return ActionKind.SCALE_DOWN if points == {ActionKind.SCALE_DOWN} else None


def _listed(asked: Mapping[Target, Desired]) -> str:
    if len(asked) == 1:
        return next(iter(asked.values())).words
    return ", ".join(f"{t.metric or t.source}: {each.words}" for t, each in asked.items())


def _figure_of(target: Target) -> str:
    name = target.metric or f"{target.source}{' per task' if target.per_task else ''}"
    return f"mean {name} over {format_duration(target.over_ms)}"


# stabilization


def stabilized(track: Track, recommendations: Dated, current: int, now_ms: int) -> int:
    """min(max(current, up), down), by the least of the window up and the most of that down.

    The last of the recommendations is that of now.
    """
    newest = recommendations[-1][1]
    up = min([newest, *_within(recommendations, track.up.stabilization_ms, now_ms)])
    down = max([newest, *_within(recommendations, track.down.stabilization_ms, now_ms)])
    return min(max(current, up), down)


def _within(dated: Dated, window_ms: int, now_ms: int) -> list[int]:
    return [value for ms, value in dated if now_ms - ms < window_ms]


def kept(track: Track, recommendations: Dated, now_ms: int) -> tuple[tuple[int, int], ...]:
    """Those that can still make a difference to some later tick.

    Of the window down one that a later one equals or exceeds is never the most again, before it is
    too old; of the window up one that a later one equals or undercuts never the least. So what is
    left rises towards now for the one, falls for the other, and is short.
    """
    found: list[tuple[int, int]] = []
    most, least = -1, math.inf
    for ms, replicas in reversed(recommendations):
        for_down = replicas > most and now_ms - ms < track.down.stabilization_ms
        for_up = replicas < least and now_ms - ms < track.up.stabilization_ms
        if for_down or for_up:
            found.append((ms, replicas))
        most, least = max(most, replicas), min(least, replicas)
    return tuple(reversed(found))


# policies


def highest_step(direction: Direction, current: int, scaled: Dated, now_ms: int) -> int:
    """How many replicas one step up may lead to; never fewer than there are."""
    limits = _limits(direction, current, scaled, now_ms, _raised)
    select = min if direction.select is Select.MIN else max
    return max(current, select(limits, default=current))


def lowest_step(direction: Direction, current: int, scaled: Dated, now_ms: int) -> int:
    """How few replicas one step down may lead to; never more than there are."""
    limits = _limits(direction, current, scaled, now_ms, _lowered)
    select = max if direction.select is Select.MIN else min
    return min(current, max(0, select(limits, default=current)))


def _limits(
    direction: Direction,
    current: int,
    scaled: Dated,
    now_ms: int,
    limit: Callable[[Policy, int], int],
) -> list[int]:
    """What each policy allows, from the count at the start of its time; none if disabled."""
    if direction.select is Select.DISABLED:
        return []
    return [
        limit(policy, current - sum(_within(scaled, policy.per_ms, now_ms)))
        for policy in direction.policies
    ]


def _raised(policy: Policy, start: int) -> int:
    """Rounded up, so that a small share of a few tasks is still a step."""
    if policy.percent is None:
        return start + (policy.tasks or 0)
    return math.ceil(round(start * (1 + policy.percent / 100), DECIMALS))


def _lowered(policy: Policy, start: int) -> int:
    """Cut off, which is what HPA does: of a few tasks a small share is still a step."""
    if policy.percent is None:
        return start - (policy.tasks or 0)
    return int(round(start * (1 - policy.percent / 100), DECIMALS))


def longest_period_ms(track: Track) -> int:
    """How far back the policies of the rule look."""
    policies = (*track.up.policies, *track.down.policies)
    return max((policy.per_ms for policy in policies), default=0)


# what is proposed


def remembered(
    track: Track, known: TrackState, asked: tuple[int, int], *, current: int, is_new: bool
) -> TrackState:
    """The state with what is asked for now, a time and a count, in it.

    Where nothing is remembered, or it is of before the rule came into force, the present count is.
    """
    now_ms, _ = asked
    before = known.recommendations
    if is_new or not before:
        before = ((now_ms, current),)
    return dataclasses.replace(
        known,
        recommendations=kept(track, (*before, asked), now_ms),
        scaled=recent(track, known.scaled, now_ms),
    )


def recent(track: Track, scaled: Dated, now_ms: int) -> tuple[tuple[int, int], ...]:
    """The steps that the policies still look at."""
    longest_ms = longest_period_ms(track)
    return tuple((ms, change) for ms, change in scaled if now_ms - ms < longest_ms)


def proposal(
    track: Track, asked: Recommendation, state: TrackState, subject: Subject, now_ms: int
) -> Proposal | None:
    """What the rule wants done, or what stops it; None if it wants no other count.

    `state` remembers what is asked for now, too.
    """
    current = subject.service.replicas or 0
    if asked.replicas == current:
        if asked.points is None:
            return None
        unable = Unable(asked.figures, lasting=False, held_by=asked.held_by)
        return Proposal(asked.points, unable, asked.evidence)
    is_up = asked.replicas > current
    kind = ActionKind.SCALE_UP if is_up else ActionKind.SCALE_DOWN
    step = _Step(track, track.up if is_up else track.down, subject, asked, is_up=is_up)
    now = (now_ms, asked.replicas)
    stable = stabilized(track, (*state.recommendations, now), current, now_ms)
    return Proposal(kind, step.plan(stable, state.scaled, now_ms), asked.evidence)


@dataclass(frozen=True, slots=True)
class _Step:
    """One step up or down that is asked for."""

    track: Track
    direction: Direction
    subject: Subject
    asked: Recommendation
    is_up: bool

    @property
    def current(self) -> int:
        return self.subject.service.replicas or 0

    @property
    def _way(self) -> str:
        return "up" if self.is_up else "down"

    def plan(self, stable: int, scaled: Dated, now_ms: int) -> Plan | Unable:
        """To what is asked for once it is stable, as far as policies and bounds let it."""
        if self.direction.select is Select.DISABLED:
            # Forbidden on purpose: to wait for it, or to raise a bound, would help nobody.
            return self._stopped(f"; scaling {self._way} is disabled", POLICY)
        words = self._stable_words(stable)
        if stable == self.current:
            return self._stopped(words, STABILIZATION)
        bound, whose = self._bound()
        if self._nearest(bound, self.current) == bound:
            at_bound = f"{self.current} replicas, and {whose} is {bound}"
            # That an idle service stays at its minimum is nothing to tell people.
            return Unable(f"{self.asked.figures}{words}; {at_bound}", lasting=self.is_up)
        step = highest_step if self.is_up else lowest_step
        allowed = step(self.direction, self.current, scaled, now_ms)
        words += f"; policy allows {allowed}"
        if allowed == self.current:
            return self._stopped(words, POLICY)
        target = self._nearest(self._nearest(stable, allowed), bound)
        if target == bound and bound not in (stable, allowed):
            words += f"; {whose} is {bound}"
        return self._outside(target) or Plan(self.current, target, self._done(words, target))

    def _nearest(self, one: int, other: int) -> int:
        """Of two counts in the direction, the one less far."""
        return min(one, other) if self.is_up else max(one, other)

    def _bound(self) -> tuple[int, str]:
        if self.is_up:
            return highest(self.subject, self.track.max)
        return lowest(self.subject, self.track.min)

    def _outside(self, target: int) -> Unable | None:
        """Unable, if the step would end on the far side of a bound: a service there is left."""
        if target < self.track.min:
            limit = f"below the rule's minimum, {self.track.min}"
        elif target > self.track.max:
            limit = f"above the rule's maximum, {self.track.max}"
        else:
            return outside_labels(self.subject, target)
        return Unable(f"{target} replicas are still {limit}")

    def _stopped(self, words: str, held_by: str) -> Unable:
        return Unable(f"{self.asked.figures}{words}", lasting=False, held_by=held_by)

    def _stable_words(self, stable: int) -> str:
        window_ms = self.direction.stabilization_ms
        return f"; {format_duration(window_ms)} stabilization keeps {stable}" if window_ms else ""

    def _done(self, words: str, target: int) -> str:
        return f"{self.asked.words}{words}: scale {self._way} from {self.current} to {target}"
