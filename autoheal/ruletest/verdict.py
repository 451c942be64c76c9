"""What a test expected against what was decided, and why the rest was not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoheal.actions import ACTIONS
from autoheal.actions.escalate import FIRING
from autoheal.core.decision.evidence import describe, evaluate
from autoheal.core.decision.tick import Held
from autoheal.core.rule import Rule, leaves
from autoheal.model import ActionKind, Decision, Verdict
from autoheal.ruletest.play import Moment, Played
from autoheal.ruletest.scenario import Expected, ExpectedHeld, Scenario
from autoheal.units import format_duration

_WORDS = {
    Verdict.TRUE: "yes",
    Verdict.FALSE: "no",
    Verdict.NO_DATA: "no data",
}


@dataclass(frozen=True, slots=True)
class Result:
    """One test: its name, where it is, and in lines what went wrong; none if nothing did."""

    file: str
    line: int
    name: str
    failures: tuple[str, ...]


def judge(played: Played) -> Result:
    """Compare what a scenario expects with what was decided in it."""
    scenario = played.scenario
    lines = [*_decisions(played), *_held(played)]
    return Result(scenario.file, scenario.line, scenario.name, tuple(lines))


# decisions


def _decisions(played: Played) -> Iterator[str]:
    """A small diff: what is missing, what came instead, and what the rule read then."""
    missing, unexpected = _unmatched(played.scenario.expected, played)
    scenario = played.scenario
    for expected in missing:
        yield f"- {_expected_line(scenario, expected)}"
        instead = _instead_of(expected, unexpected)
        if instead is not None:
            unexpected.remove(instead)
            yield f"+ {_decision_line(scenario, instead)}"
        yield from _why_not(played, expected.at_ms, expected.service, expected.rule)
    for decision in unexpected:
        yield f"+ {_decision_line(scenario, decision)}"


def _unmatched(wanted: Sequence[Expected], played: Played) -> tuple[list[Expected], list[Decision]]:
    left = list(played.decisions)
    missing = []
    for expected in wanted:
        found = next((each for each in left if _is_as(each, expected)), None)
        if found is None:
            missing.append(expected)
        else:
            left.remove(found)
    return missing, left


def _is_as(decision: Decision, expected: Expected) -> bool:
    """Whether a decision is the one that is expected; what a test does not say may be anything."""
    same = (decision.decided_at_ms, decision.service_name, decision.action) == (
        expected.at_ms,
        expected.service,
        expected.action,
    )
    said = (
        (expected.rule, decision.rule),
        (expected.severity, decision.severity),
        (expected.mode, decision.max_mode),
        (expected.start, decision.start),
        (expected.target, decision.target),
    )
    fits = all(wanted in (None, "", got) for wanted, got in said)
    return same and fits and expected.because in decision.reason


def _instead_of(expected: Expected, found: Sequence[Decision]) -> Decision | None:
    """The decision that was probably meant: of the same service and action, nearest in time."""
    alike = [
        each
        for each in found
        if (each.service_name, each.action) == (expected.service, expected.action)
    ]
    return min(alike, key=lambda each: abs(each.decided_at_ms - expected.at_ms), default=None)


def _expected_line(scenario: Scenario, expected: Expected) -> str:
    said = [_at(scenario, expected.at_ms), expected.service, expected.action]
    said += _path(expected.action, expected.start, expected.target)
    said += [expected.rule] if expected.rule else []
    said += [f"[{expected.mode}]"] if expected.mode else []
    said += [f"({expected.severity})"] if expected.severity else []
    because = f": ...{expected.because}..." if expected.because else ""
    return f"{' '.join(said)}{because}   (line {expected.line})"


def _decision_line(scenario: Scenario, decision: Decision) -> str:
    said = [_at(scenario, decision.decided_at_ms), decision.service_name, decision.action]
    said += _path(decision.action, decision.start, decision.target)
    said += [decision.rule, f"[{decision.max_mode}]"]
    return f"{' '.join(said)}: {decision.reason}"


def _path(action: ActionKind, start: int | None, target: int | None) -> list[str]:
    """From where to where; nothing where the action's name says it, as for a restart."""
    if action is ActionKind.ESCALATE:
        return ["firing" if target == FIRING else "quiet"]
    if (start, target) == (None, None) or not ACTIONS[action].steps(0, 1):
        return []
    shown = ACTIONS[action].shown
    return [" -> ".join("?" if each is None else shown(each) for each in (start, target))]


def _at(scenario: Scenario, ms: int) -> str:
    return format_duration(ms - scenario.zero_ms)


# what was held


def _held(played: Played) -> Iterator[str]:
    scenario = played.scenario
    for expected in scenario.expected_held:
        found = [each for each in played.held(expected.at_ms) if _is_of(each, expected)]
        if not any(_is_held_as(each, expected) for each in found):
            yield f"- {_held_line(scenario, expected)}"
            yield from _why_not(played, expected.at_ms, expected.service, expected.rule)


def _is_of(held: Held, expected: ExpectedHeld) -> bool:
    return (held.service, held.rule) == (expected.service, expected.rule)


def _is_held_as(held: Held, expected: ExpectedHeld) -> bool:
    return expected.guard in ("", held.guard) and expected.because in held.words


def _held_line(scenario: Scenario, expected: ExpectedHeld) -> str:
    guard = f" by {expected.guard}" if expected.guard else ""
    because = f": ...{expected.because}..." if expected.because else ""
    at = _at(scenario, expected.at_ms)
    return f"{at} {expected.service} {expected.rule} held{guard}{because}   (line {expected.line})"


# why not


def _why_not(played: Played, at_ms: int, service: str, name: str) -> Iterator[str]:
    """What each condition of a rule read at that time, how far the rule was, and what held it."""
    scenario, moment = played.scenario, played.moment(at_ms)
    rule = next((each for each in scenario.rules.rules if each.name == name), None)
    if rule is None or service not in scenario.services:
        return
    yield f"  at {_at(scenario, at_ms)} {name} of {service}:"
    known = next(each for each in moment.snapshot.services if each.id == service)
    if not rule.match.holds(known):
        yield "    the rule does not look at this service"
        return
    yield from (f"    {line}" for line in _readings(moment, rule, service))
    yield f"    {_standing(scenario, moment, rule, service)}"
    for held in moment.verdicts.held:
        if (held.service, held.rule) == (service, name):
            yield f"    held by {held.guard}: {held.words}"
    for decision in moment.verdicts.decisions:
        if (decision.service, decision.rule) == (service, name):
            yield f"    decided: {decision.reason}"


def _readings(moment: Moment, rule: Rule, service: str) -> Iterator[str]:
    """One line for each condition: what it read, and whether it holds."""
    known = next(each for each in moment.snapshot.services if each.id == service)
    state, now = moment.verdicts.state.services[service], (moment.now_ms, moment.snapshot)
    for leaf in leaves(rule.when):
        alone = dataclasses.replace(rule, when=leaf)
        verdict = evaluate(alone, known, state, now).verdict
        (evidence,) = describe(alone, known, state, now)
        value = "unknown" if verdict is Verdict.NO_DATA else f"{evidence.value:g}"
        yield f"{evidence.what} is {value}, {evidence.bound}: {_WORDS[verdict]}"


def _standing(scenario: Scenario, moment: Moment, rule: Rule, service: str) -> str:
    """Whether the rule is inactive, pending or firing."""
    state = moment.verdicts.state.services[service].rules.get(rule.name)
    if state is None:
        return "it is inactive"
    since = _at(scenario, state.active_ms) if state.active_ms >= scenario.zero_ms else "the start"
    if state.firing:
        return f"it is firing, and has held since {since}"
    return f"it is pending since {since}, and must hold for {format_duration(rule.for_ms)}"
