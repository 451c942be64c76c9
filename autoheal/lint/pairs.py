"""Checks that look at two rules which may look at the same service: once in either order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoheal.actions import Action, Escalate, ScaleDown, ScaleUp
from autoheal.actions.track import Track
from autoheal.core.rule import EventCondition, Leaf, MetricCondition, Rule
from autoheal.lint.conditions import Concern, Figure, can_follow, concern, implies, same_level
from autoheal.lint.finding import Said
from autoheal.lint.services import covers, may_meet
from autoheal.lint.single import is_percentage
from autoheal.model import ActionKind

BAND_POINTS_MIN = 10

# What a service has so much of that each task gets less of it when there are more.
_SHARED = ("cpu_percent", "cpu_cores")
_STRENGTH = {kind: place for place, kind in enumerate(ActionKind)}


@dataclass(frozen=True, slots=True)
class PairCheck:
    """One thing to look for; what it finds is said of the first of the two rules."""

    code: str
    look: Callable[[Rule, Rule], Said | None]


@dataclass(frozen=True, slots=True)
class _Step:
    """The step that `up` makes from the fewest tasks that the other rule leaves."""

    up: Rule
    start: int
    end: int
    is_sure: bool

    @property
    def undoes(self) -> str:
        """What the other rule does about it."""
        return f"undoes what {self.up.name} does" if self.is_sure else f"may undo {self.up.name}"


def _step(down: Rule, up: Rule) -> _Step | None:
    """None unless these are rules one after the other of which can act on some service."""
    if not isinstance(down.then, ScaleDown) or not isinstance(up.then, ScaleUp):
        return None
    if up.then.max <= down.then.min or not may_meet(down, up):
        return None
    end = min(down.then.min + up.then.by, up.then.max)
    return _Step(up, down.then.min, end, covers(down, up) or covers(up, down))


def _flaps(down: Rule, up: Rule) -> Said | None:
    step = _step(down, up)
    return _of_bands(down, up, lambda low, high: _flap(step, low, high)) if step else None


def _narrow_band(down: Rule, up: Rule) -> Said | None:
    step = _step(down, up)
    if step is None or _flaps(down, up):
        return None
    return _of_bands(down, up, lambda low, high: _narrow(step, low, high))


def _of_bands(
    down: Rule, up: Rule, judge: Callable[[Figure, Figure], Concern[Said]]
) -> Said | None:
    """What is wrong with the figures that both rules look at, from the first pair that is."""

    def judged(low: Leaf, high: Leaf) -> Concern[Said]:
        if isinstance(low, EventCondition) or isinstance(high, EventCondition):
            return None
        asks = high.comparison.wants_high and not low.comparison.wants_high
        return judge(low, high) if asks and same_level(low, high) else None

    return concern(up.when, lambda high: concern(down.when, lambda low: judged(low, high))) or None


def _flap(step: _Step, low: Figure, high: Figure) -> Concern[Said]:
    """Whether the figure that asked for a step up can ask, after it, for the way back."""
    if not _is_shared(high):
        if not can_follow(high, low):
            return False
        what = f"from {high.threshold:g} to {low.threshold:g} both hold"
        return Said(f"{step.undoes}: {what}", f"a threshold under {high.threshold:g}")
    if not can_follow(high, low, step.start, step.end):
        return False
    after = f"{high.threshold * step.start / step.end:.3g}"
    what = (
        f"{high.threshold:g} with {_tasks(step.start)} is {after} with {step.end}, and"
        f" {low.threshold:g} asks for the way back"
    )
    return Said(f"{step.undoes}: {what}", f"a threshold well under {after}, or a higher min")


def _narrow(step: _Step, low: Figure, high: Figure) -> Concern[Said]:
    """Whether noise alone can cross both thresholds."""
    points = high.threshold - low.threshold
    if not is_percentage(high) or points < 0:
        return None
    if points >= BAND_POINTS_MIN:
        return False
    return Said(
        f"begins {points:g} points below where {step.up.name} does, which noise alone crosses",
        f"leave {BAND_POINTS_MIN} points or more",
    )


def _is_shared(leaf: Figure) -> bool:
    return leaf.metric in _SHARED if isinstance(leaf, MetricCondition) else leaf.per_task


def _tasks(count: int) -> str:
    return f"{count} task{'s' * (count != 1)}"


def _apart(down: Rule, up: Rule) -> Said | None:
    if not isinstance(down.then, ScaleDown) or not isinstance(up.then, ScaleUp):
        return None
    if down.then.min < up.then.max or not may_meet(down, up):
        return None
    return Said(
        f"leaves {_tasks(down.then.min)}, and {up.name} adds no more than up to {up.then.max}:"
        " what one does the other never takes back",
        "a min below the max",
    )


def _never_acts(weak: Rule, strong: Rule) -> Said | None:
    """Whether a rule that always holds as well goes first each time."""
    if isinstance(weak.then, Escalate | Track) or isinstance(strong.then, Track):
        return None
    if not _goes_first(strong, weak) or not _always_with(strong, weak):
        return None
    escalates = isinstance(strong.then, Escalate)
    remedy = "let it be the otherwise of this rule" if escalates else "a higher priority"
    same = strong.then.kind is weak.then.kind
    return Said(
        f"never acts: wherever it holds {strong.name} does too, and goes first",
        remedy if escalates or same else "ask for what the other rule does not",
    )


def _always_with(strong: Rule, weak: Rule) -> bool:
    """Whether `strong` fires on a service whenever `weak` does, in the same contest."""
    return (
        strong.mode is weak.mode
        and strong.for_ms <= weak.for_ms
        and strong.schedule in (None, weak.schedule)
        and covers(strong, weak)
        and implies(weak.when, strong.when)
    )


def _goes_first(strong: Rule, weak: Rule) -> bool:
    """Whether `weak` cannot act while `strong` fires, be it at its bound or not."""
    if strong.then.kind is weak.then.kind:
        first = (-strong.priority, strong.name) < (-weak.priority, weak.name)
        return first and not _reaches_further(weak.then, strong.then)
    # More tasks that cannot be had do not keep a failure from being treated.
    makes_way = weak.then.heals and not strong.then.heals
    return _STRENGTH[strong.then.kind] < _STRENGTH[weak.then.kind] and not makes_way


def _reaches_further(one: Action, other: Action) -> bool:
    """Whether one has something to do where the other, of the same kind, is at its bound."""
    match one, other:
        case ScaleUp(), ScaleUp():
            return one.max > other.max
        case ScaleDown(), ScaleDown():
            return one.min < other.min
        case _:
            return False


def _tracked_too(one: Rule, tracking: Rule) -> Said | None:
    if not isinstance(tracking.then, Track) or not may_meet(one, tracking):
        return None
    if isinstance(one.then, Track):
        # Said of one of the two.
        if one.name < tracking.name:
            return None
        instead = "one rule with the targets of both, or services apart"
    elif isinstance(one.then, ScaleUp | ScaleDown):
        instead = "one of the two rules, or services apart"
    else:
        return None
    is_sure = covers(one, tracking) or covers(tracking, one)
    scales = "scales" if is_sure else "may scale"
    return Said(
        f"{scales} what {tracking.name} tracks: each takes back what the other does", instead
    )


PAIRS = (
    PairCheck("flapping", _flaps),
    PairCheck("narrow-band", _narrow_band),
    PairCheck("bounds", _apart),
    PairCheck("never-acts", _never_acts),
    PairCheck("tracked-too", _tracked_too),
)
