"""How what happens is put into words, for whoever is told.

What others wrote (a service's name, what Swarm complains of) comes out as one printable line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoheal.actions import ACTIONS
from autoheal.actions.escalate import FIRING
from autoheal.demo.story import (
    Concluded,
    Decided,
    Fact,
    Happened,
    IncidentEnded,
    Opening,
    WentLive,
)
from autoheal.model import ActionKind, Decision, Incident, Mode, Outcome, OutcomeKind
from autoheal.units import format_duration

WORLD = "world"
DEMO = "demo"
ENGINE = "engine"
EXECUTOR = "executor"
PAGE = "page"
NOTIFIER = "notifier"
INCIDENT = "incident"
SPEAKERS = (WORLD, DEMO, ENGINE, EXECUTOR, PAGE, NOTIFIER, INCIDENT)

NEXT_STEPS = (
    ("autoheal demo --rules FILE", "the same hour under rules of your own"),
    ("autoheal demo --seed 7", "another hour; see also --scenario and --json"),
    ("autoheal check rules", "every mistake in a rule file, by line"),
    ("autoheal run --rules rules", "on a Swarm manager: a dry run that writes nothing"),
    ("README, Arm it", "let it act: one service, one action at a time"),
)

_OUTCOMES = {
    OutcomeKind.WOULD_APPLY: "would apply (dry run)",
    OutcomeKind.REFUSED: "refused",
    OutcomeKind.APPLIED: "applied",
    OutcomeKind.NOT_APPLIED: "not applied",
    OutcomeKind.UNCONFIRMED: "not known yet whether applied",
}
_DELIVERIES = {
    OutcomeKind.WOULD_APPLY: "would be told",
    OutcomeKind.REFUSED: "refused",
    OutcomeKind.APPLIED: "people told",
    OutcomeKind.NOT_APPLIED: "nobody could be told",
    OutcomeKind.UNCONFIRMED: "not known yet whether told",
}


@dataclass(frozen=True, slots=True)
class Telling:
    """A fact in words: who speaks, what is the case, and why ("" where nothing more is known)."""

    at_ms: int
    who: str
    what: str
    why: str = ""


def tell(fact: Fact) -> Telling:
    """The fact in words."""
    match fact:
        case Happened():
            return Telling(fact.at_ms, WORLD, printable(fact.words))
        case WentLive():
            words = "LIVE from here on: decisions are carried out where labels allow it"
            return Telling(fact.at_ms, DEMO, words)
        case Decided():
            return _decided(fact.at_ms, fact.decision)
        case Concluded():
            return _concluded(fact.at_ms, fact.decision, fact.outcome)
        case IncidentEnded():  # pragma: no branch  # mypy knows that there is no other
            return _ended(fact.at_ms, fact.incident)


def _decided(at_ms: int, decision: Decision) -> Telling:
    about, rule = printable(decision.service_name), by_rule(decision)
    why = printable(decision.reason)
    if is_page(decision):
        begins = decision.target == FIRING
        state = printable(decision.severity) if begins else "over"
        return Telling(at_ms, PAGE, f"{about}: {state} ({rule})", why)
    return Telling(at_ms, ENGINE, f"{about}: {deed(decision)} ({rule})", why)


def _concluded(at_ms: int, decision: Decision, outcome: Outcome) -> Telling:
    about = printable(decision.service_name)
    who, what = (NOTIFIER, _page(decision)) if is_page(decision) else (EXECUTOR, deed(decision))
    # That the executor runs in dry run needs no other reason.
    implied = outcome.kind is OutcomeKind.WOULD_APPLY and decision.max_mode is Mode.LIVE
    why = "" if implied and not is_page(decision) else printable(outcome.reason)
    return Telling(at_ms, who, f"{about}: {what}: {became(decision, outcome)}", why)


def _page(decision: Decision) -> str:
    return "page" if begins_page(decision) else "end of page"


def _ended(at_ms: int, incident: Incident) -> Telling:
    steps = [
        ("rule fired", incident.detected_ms),
        ("people told", incident.escalated_ms),
        ("acted", incident.acted_ms),
        ("recovered", incident.recovered_ms),
    ]
    times = [f"{what} after {since(incident, ms)}" for what, ms in steps if ms is not None]
    what = f"{printable(incident.service_name)}: over, {incident.end.upper()}"
    return Telling(at_ms, INCIDENT, what, "; ".join([printable(incident.evidence), *times]))


def opening_lines(opening: Opening) -> Sequence[str]:
    """What is about to be seen, a sentence or two a line."""
    world = f"{_count(opening.services, 'service')} on {_count(opening.nodes, 'node')}"
    rules = ", ".join(printable(each) for each in opening.rules)
    title = f"autoheal demo, scenario {printable(opening.scenario)}, seed {opening.seed}"
    return (
        f"{title}: {printable(opening.about)}",
        f"A simulated Swarm: {world}. Rules: {rules}",
        "Only the world follows a script; what autoheal does about it follows from the rules.",
        f"{_modes(opening)} {clock(opening.total_ms)} in all, {_pace(opening.speed)}.",
    )


def _modes(opening: Opening) -> str:
    if opening.live_at_ms >= opening.total_ms:
        return "Dry run to the end."
    if opening.live_at_ms <= 0:
        return "Live from the start."
    return f"Dry run until {clock(opening.live_at_ms)}, then live."


def _pace(speed: float | None) -> str:
    return "as fast as it goes" if speed is None else f"{speed:g} times as fast as life"


def printable(text: str) -> str:
    """The text as one line without control characters."""
    return "".join(each if each.isprintable() else " " for each in text)


def clock(ms: int) -> str:
    """Simulated time as a clock shows it: HH:MM:SS."""
    minutes, seconds = divmod(max(0, ms) // 1000, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def lasted(ms: int) -> str:
    """A span of time in whole seconds."""
    return format_duration(max(0, ms) // 1000 * 1000)


def since(incident: Incident, ms: int | None) -> str:
    """How long after the first evidence that was; "-" for never."""
    return "-" if ms is None else lasted(ms - incident.opened_ms)


def is_page(decision: Decision) -> bool:
    """Whether it tells people rather than changes a service."""
    return decision.action is ActionKind.ESCALATE


def begins_page(decision: Decision) -> bool:
    """Whether a page begins with it."""
    return is_page(decision) and decision.target == FIRING


def deed(decision: Decision) -> str:
    """An action with where it leads: `scale_up 2 -> 3`."""
    if is_page(decision):
        return f"page ({printable(decision.severity)})"
    steps = ACTIONS[decision.action].steps(decision.start, decision.target)
    return f"{decision.action} {steps.replace('->', ' -> ')}".rstrip()


def by_rule(decision: Decision) -> str:
    """Whose decision it is, and whether it may go no further than words."""
    watch = "" if decision.max_mode is Mode.LIVE else ", watch only"
    return f"rule {printable(decision.rule)}{watch}"


def became(decision: Decision, outcome: Outcome | None) -> str:
    """What became of a decision, in a word or two."""
    if outcome is None:
        return "open"
    return (_DELIVERIES if is_page(decision) else _OUTCOMES)[outcome.kind]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
