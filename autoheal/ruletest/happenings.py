"""What happens in a test, and what autoheal must make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from autoheal.actions import ACTIONS
from autoheal.actions.escalate import FIRING, QUIET, SEVERITIES
from autoheal.core.decision.guards import GUARDS
from autoheal.core.decision.pages import BUDGET, OUTAGE, THE_SWARM
from autoheal.core.decision.sources import SOURCE
from autoheal.core.decision.track import HOLDS
from autoheal.labels import REPLICAS_MAX
from autoheal.model import ActionKind, Mode, Service
from autoheal.rulefile.fields import Fields, Shape, Spot, open_list, open_map
from autoheal.ruletest.parts import (
    Timing,
    known_name,
    plain_text,
    tick_time,
    time_within,
)
from autoheal.ruletest.scenario import (
    ENDING,
    OF_NODES,
    OF_SERVICES,
    OF_TASKS,
    Expected,
    ExpectedHeld,
    Happens,
    Occurrence,
    Replacement,
)
from autoheal.ruletest.setups import BYTES_MAX, CHANGEABLE, read_changes, read_place

EVENT = "{at: 3m, oom_killed: web.1}"
EXPECTED = "{at: 5m, service: web, action: scale_up, from: 2, to: 3, rule: cpu-high}"
HELD = "{at: 5m, service: web, rule: cpu-high, guard: deploy}"
# What holds a rule back beside the guards, and has no name of its own in the core.
_UNNAMED = ("arbitration", "attempts", "bound", "one-at-a-time")
HOLDERS = (*(guard.name for guard in GUARDS), *HOLDS, SOURCE, *_UNNAMED)
# What can be changed of a service without a deploy.
_WITHOUT_DEPLOY = ("replicas", "memory_limit", "labels", "update_state")
_PAGES = (OUTAGE, BUDGET)
_SHARED_PAGES = ("node ", "stack ")
_EXIT_CODE_MAX = 255
_KILLED = 137
_FORCE_MAX = 2**31

_EXPECTED = Shape(
    ("at", "service", "action", "from", "to", "rule", "because", "mode", "severity"),
    ("at", "service", "action"),
    EXPECTED,
)
_HELD = Shape(("at", "service", "rule", "guard", "because"), ("at", "service", "rule"), HELD)


@dataclass(frozen=True, slots=True)
class Names:
    """What a test can speak of; `rules` is None where they could not be read."""

    services: Mapping[str, Service]
    nodes: Sequence[str]
    rules: Sequence[str] | None


# what happens


def read_occurrences(spot: Spot | None, timing: Timing, names: Names) -> tuple[Occurrence, ...]:
    """What happens, in the order of time."""
    if spot is None:
        return ()
    found = (_occurrence(each, timing, names) for each in open_list(spot, f"such as [{EVENT}]"))
    return tuple(sorted((each for each in found if each is not None), key=lambda each: each.at_ms))


def _occurrence(spot: Spot, timing: Timing, names: Names) -> Occurrence | None:
    kinds = [kind.value for kind in Happens]
    more = ("exit_code", "error", "replacement", "rule", *CHANGEABLE)
    noted = len(spot.notes)
    fields = open_map(spot, Shape(("at", *kinds, *more), ("at",), EVENT))
    if fields is None:
        return None
    said = [kind for kind in Happens if fields.spot(kind)]
    if len(said) > 1:
        fields.refuse(said[1], f"'{said[1]}' beside '{said[0]}'", "one thing at a time")
    if not said:
        if fields.noted == noted:
            spot.note("nothing happens here", f"such as {EVENT}")
        return None
    return _of_kind(fields, said[0], timing, names)


def _of_kind(fields: Fields, what: Happens, timing: Timing, names: Names) -> Occurrence:
    subject = fields.spot(what)
    name = plain_text(subject)
    if subject is not None and name:
        _check_subject(subject, name, what, names)
    _refuse_others(fields, what)
    code = _KILLED if what is Happens.UNHEALTHY else 1
    if fields.spot("exit_code"):
        code = fields.whole("exit_code", least=0, most=_EXIT_CODE_MAX)
    replacement = fields.word("replacement", "replacement", [each.value for each in Replacement])
    return Occurrence(
        at_ms=time_within(fields.spot("at"), timing),
        what=what,
        subject=name,
        exit_code=code,
        error=plain_text(fields.spot("error")),
        replacement=Replacement(replacement) if replacement else None,
        changes=read_changes(fields) if what in OF_SERVICES else {},
        rule=_rule(fields, names),
    )


def _check_subject(spot: Spot, name: str, what: Happens, names: Names) -> None:
    if what in OF_TASKS:
        read_place(spot, name, names.services, one=True)
    elif what in OF_NODES:
        known_name(spot, name, "node", names.nodes)
    else:
        known_name(spot, name, "service", list(names.services))


def _refuse_others(fields: Fields, what: Happens) -> None:
    """Note the keys that say nothing about what happens."""
    of_change = (Happens.CHANGE, Happens.DEPLOY)
    takers: dict[str, Sequence[Happens]] = dict.fromkeys(CHANGEABLE, (Happens.DEPLOY,))
    takers |= dict.fromkeys(_WITHOUT_DEPLOY, of_change)
    takers |= {
        "exit_code": (Happens.DIED, Happens.UNHEALTHY),
        "error": ENDING,
        "replacement": ENDING,
        "rule": (Happens.RESET,),
    }
    for key, kinds in takers.items():
        if what not in kinds:
            fields.refuse(key, f"not for {what}", f"only for {', '.join(kinds)}")


def _rule(fields: Fields, names: Names, *others: str) -> str:
    """The name of a rule, "" if none is said."""
    spot = fields.spot("rule")
    name = plain_text(spot)
    if spot is not None and name and names.rules is not None and name not in others:
        known_name(spot, name, "rule", names.rules)
    return name


# what must come of it


def read_expected(spot: Spot | None, timing: Timing, names: Names) -> tuple[Expected, ...]:
    """The decisions that must be made."""
    return _listed(spot, EXPECTED, _EXPECTED, lambda fields, line: Expected(
        line=line,
        at_ms=tick_time(fields.spot("at"), timing),
        service=_service(fields, names, shared=True),
        rule=_rule(fields, names, *_PAGES),
        because=plain_text(fields.spot("because")),
        severity=fields.word("severity", "severity", SEVERITIES) or "",
        mode=_mode(fields),
        **_deed(fields),
    ))  # fmt: skip


def read_held(spot: Spot | None, timing: Timing, names: Names) -> tuple[ExpectedHeld, ...]:
    """The rules that must be held back."""
    return _listed(spot, HELD, _HELD, lambda fields, line: ExpectedHeld(
        line=line,
        at_ms=tick_time(fields.spot("at"), timing),
        service=_service(fields, names),
        rule=_rule(fields, names),
        guard=fields.word("guard", "guard", HOLDERS) or "",
        because=plain_text(fields.spot("because")),
    ))  # fmt: skip


Built = TypeVar("Built")


def _listed(
    spot: Spot | None, example: str, shape: Shape, build: Callable[[Fields, int], Built]
) -> tuple[Built, ...]:
    if spot is None:
        return ()
    spots = open_list(spot, f"such as [{example}]")
    opened = ((open_map(each, shape), each.node.line) for each in spots)
    return tuple(build(fields, line) for fields, line in opened if fields is not None)


def _service(fields: Fields, names: Names, *, shared: bool = False) -> str:
    """Whom a decision is about; an escalation may be about a node, a stack or the Swarm."""
    spot = fields.spot("service")
    name = plain_text(spot)
    if spot is not None and name and not (shared and _is_shared(fields, name)):
        known_name(spot, name, "service", list(names.services))
    return name


def _is_shared(fields: Fields, name: str) -> bool:
    escalates = plain_text(fields.spot("action")) == ActionKind.ESCALATE
    return escalates and (name == THE_SWARM or name.startswith(_SHARED_PAGES))


def _mode(fields: Fields) -> Mode | None:
    mode = fields.word("mode", "mode", [each.value for each in Mode])
    return Mode(mode) if mode else None


def _deed(fields: Fields) -> dict[str, Any]:
    """The action, and from where to where it goes, as its own values are written."""
    word = fields.word("action", "action", [kind.value for kind in ACTIONS])
    action = ActionKind(word) if word else ActionKind.ESCALATE
    if action is not ActionKind.ESCALATE:
        fields.refuse("severity", f"not for {action}", "only for escalate")
    deed: dict[str, Any] = {"action": action}
    for key, name in (("from", "start"), ("to", "target")):
        if word and fields.spot(key):
            deed[name] = _leaf(fields, key, action)
    if action is ActionKind.ESCALATE and "target" not in deed:
        deed["target"] = FIRING
    return deed


_ALARM = {"quiet": QUIET, "firing": FIRING}


def _leaf(fields: Fields, key: str, action: ActionKind) -> int | None:
    match action:
        case ActionKind.ESCALATE:
            word = fields.word(key, "state of an alarm", list(_ALARM))
            return _ALARM[word] if word else None
        case ActionKind.RAISE_MEMORY:
            return fields.size(key, least=0, most=BYTES_MAX)
        case ActionKind.RESTART:
            return fields.whole(key, least=0, most=_FORCE_MAX)
        case _:
            return fields.whole(key, least=0, most=REPLICAS_MAX)
