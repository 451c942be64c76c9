"""Rules that a source leaves in the dark: they are held back where people see it.

Without a value there is no data, so such a rule wants nothing and never comes before the guards.
But nobody should have to guess why it stands still. It is held only where the source matters: not
where what else the rule looks at decides without it.
"""

from __future__ import annotations

from collections.abc import Mapping

from autoheal.actions.track import Track
from autoheal.core.decision.arbiter import Loss
from autoheal.core.decision.tick import Tick, is_ours
from autoheal.core.rule import Rule, SourceCondition, leaves
from autoheal.core.view.fold import Snapshot, SourceState
from autoheal.model import Service, Verdict
from autoheal.units import format_duration

SOURCE = "source"
NEVER_READ = SourceState()


def hold(tick: Tick) -> None:
    """Record the rules in force that a source keeps from telling what is to be done."""
    silent = {
        rule.name: words
        for rule in tick.rules.rules
        if rule.name not in tick.outside_hours
        and (words := what_is_missing(rule, tick.snapshot.sources))
    }
    if not silent:
        return
    found = {
        view.service.id: [
            Loss(rule, SOURCE, silent[name])
            for name, rule in view.rules.items()
            if name in silent and is_in_the_dark(rule, view.service, view.verdicts[name])
        ]
        for view in tick.views.values()
    }
    # A rule that tracks has told what holds it already, but not that its source is why.
    dark = {(service, loss.rule.name) for service, losses in found.items() for loss in losses}
    tick.held = [held for held in tick.held if (held.service, held.rule) not in dark]
    for service, losses in found.items():
        tick.lose(service, losses)


def is_in_the_dark(rule: Rule, service: Service, verdict: Verdict) -> bool:
    """Whether a source without a value keeps the rule from telling what is to be done here.

    A rule that tracks may want nothing only because the silent target cannot ask for more.
    """
    if is_ours(service) or service.replicas == 0:
        return False
    wants = verdict is Verdict.TRUE
    return verdict is Verdict.NO_DATA or (isinstance(rule.then, Track) and not wants)


def what_is_missing(rule: Rule, sources: Mapping[str, SourceState]) -> str:
    """Which of the rule's sources have no value, for how long, and why; "" if each has one."""
    states = {name: sources.get(name, NEVER_READ) for name in sources_of(rule)}
    return "; ".join(_words(name, state) for name, state in states.items() if state.value is None)


def is_silent(rule: Rule, service: Service, snapshot: Snapshot) -> bool:
    """Whether a source leaves the rule without a figure here: now, or in what it looks back on."""
    if what_is_missing(rule, snapshot.sources):
        return True
    if isinstance(rule.then, Track):
        targets = [each for each in rule.then.targets if each.source]
        return any(snapshot.tracked[service.id, each].figure is None for each in targets)
    looked_at = [leaf for leaf in leaves(rule.when) if isinstance(leaf, SourceCondition)]
    readings = [snapshot.readings[leaf].of(service.id) for leaf in looked_at]
    return any(reading.verdict is Verdict.NO_DATA for reading in readings)


def sources_of(rule: Rule) -> tuple[str, ...]:
    """The names of the sources that the rule looks at, each once, from left to right."""
    names = [leaf.source for leaf in leaves(rule.when) if isinstance(leaf, SourceCondition)]
    if isinstance(rule.then, Track):
        names += [target.source for target in rule.then.targets if target.source]
    return tuple(dict.fromkeys(names))


def _words(name: str, state: SourceState) -> str:
    age_ms = state.age_ms
    lasts = "yet" if age_ms is None else f"for {format_duration(age_ms // 1000 * 1000)}"
    why = f": {state.error}" if state.error else ""
    return f"{name}: no value {lasts}{why}"
