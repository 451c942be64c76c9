"""What a rule file can say: its maps, their keys, and the rule that each becomes.

`conditions` reads a rule's `when`, `actions` its `then`; what one key of a rule says against
another is noted here.
"""

from __future__ import annotations

import re

from autoheal.actions import ACTIONS, Action, Escalate
from autoheal.core.rule import (
    Combinator,
    Combined,
    Condition,
    EventCondition,
    Limit,
    Match,
    Risk,
    Rule,
)
from autoheal.model import ActionKind, Mode
from autoheal.rulefile.actions import read_action, read_otherwise
from autoheal.rulefile.conditions import UNREAD, read_condition
from autoheal.rulefile.fields import Fields, Shape, Spot, open_list, open_map, word
from autoheal.rulefile.mistakes import Notes, one_of
from autoheal.rulefile.tree import Kind, Map, Node, Scalar, described, read_tree

VERSION = "1"
WAIT_MS_MAX = 30 * 24 * 3_600_000
PRIORITY_MAX = 1_000
LIMIT_TIMES_MAX = 100
LIMIT_PER_MS_MIN = 60_000
CLEARS_WITHIN_MS_MAX = 24 * 3_600_000

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SERVICE = re.compile(r"[A-Za-z0-9_.*?\[\]!-]{1,128}")

_FILE_SHAPE = Shape(("version", "rules"), ("rules",), "{version: 1, rules: [...]}")
_RULE_SHAPE = Shape(
    (
        *("name", "match", "when", "for", "then", "cooldown", "limit", "clears_within"),
        *("otherwise", "allow_risk", "mode", "priority"),
    ),
    ("name", "when", "then"),
    "{name: cpu-high, when: {...}, then: {...}}",
)
_MATCH_SHAPE = Shape(("service",), ("service",), '{service: "web-*"}')
_LIMIT_SHAPE = Shape(("times", "per"), ("times", "per"), "{times: 3, per: 24h}")


class Reader:
    """Reads rule files one after the other; a name may occur once in all of them."""

    def __init__(self, notes: Notes) -> None:
        self.rules: list[Rule] = []
        self._notes = notes
        self._places: dict[str, str] = {}

    def read(self, file: str, text: bytes) -> None:
        """Add the rules of one file."""
        root = read_tree(file, text, self._notes)
        if root is None:
            return
        spot = Spot(file, "", root, self._notes)
        if isinstance(root, Scalar) and root.kind is Kind.NOTHING:
            spot.note("the file is empty", "begin with rules:")
        elif _is_known_version(spot) and (fields := open_map(spot, _FILE_SHAPE)):
            self._read_rules(fields.spot("rules"))

    def _read_rules(self, spot: Spot | None) -> None:
        if spot is None:
            return
        for each in open_list(spot, "begin each rule with a dash"):
            self._read_rule(each)

    def _read_rule(self, spot: Spot) -> None:
        fields = open_map(spot, _RULE_SHAPE)
        if fields is None:
            return
        rule = _rule(fields)
        name = fields.spot("name")
        if name is not None and rule.name:
            self._register(rule.name, name)
        self.rules.append(rule)

    def _register(self, name: str, spot: Spot) -> None:
        if name in self._places:
            spot.note(f"the name {name} is taken", f"by {self._places[name]}")
        else:
            self._places[name] = f"{spot.file}:{spot.node.line}:{spot.node.column}"


def _is_known_version(spot: Spot) -> bool:
    """Whether the file is written in this language: if not, nothing else in it can be judged."""
    for key, value in spot.node.entries if isinstance(spot.node, Map) else ():
        if key.text == "version" and not _is_version(value):
            hint = f"this autoheal reads version: {VERSION}"
            spot.below("version", value).note(f"{described(value)} is not a known version", hint)
            return False
    return True


def _is_version(node: Node) -> bool:
    return isinstance(node, Scalar) and node.kind is Kind.WHOLE and node.text == VERSION


def _rule(fields: Fields) -> Rule:
    hint = "lower case, digits and dashes, 63 at most, such as cpu-high"
    mode = fields.word("mode", "mode", [Mode.DRY_RUN.value])
    when, then = read_condition(fields.spot("when")), read_action(fields.spot("then"))
    if then is not None:
        _refuse_keys(fields, then)
    _refuse_raise_without_kill(fields, when, then)
    return Rule(
        name=fields.text("name", "a name", _NAME, hint),
        hash="",  # a rule is named by its meaning once all of it is known
        match=_match(fields.spot("match")),
        when=when or UNREAD,
        for_ms=fields.duration("for", most_ms=WAIT_MS_MAX),
        then=then or _NO_ACTION,
        cooldown_ms=fields.duration("cooldown", most_ms=WAIT_MS_MAX),
        priority=fields.whole("priority", least=-PRIORITY_MAX, most=PRIORITY_MAX),
        mode=Mode(mode or Mode.LIVE),
        limit=_limit(fields.spot("limit")),
        clears_within_ms=fields.duration("clears_within", least_ms=1, most_ms=CLEARS_WITHIN_MS_MAX),
        otherwise=read_otherwise(fields.spot("otherwise")),
        allow_risk=_risks(fields.spot("allow_risk"), then),
    )


_NO_ACTION = Escalate()


def _match(spot: Spot | None) -> Match:
    fields = open_map(spot, _MATCH_SHAPE) if spot else None
    if fields is None:
        return Match()
    return Match(fields.text("service", "a pattern of service names", _SERVICE, 'such as "web-*"'))


def _limit(spot: Spot | None) -> Limit | None:
    fields = open_map(spot, _LIMIT_SHAPE) if spot else None
    if fields is None:
        return None
    return Limit(
        times=fields.whole("times", least=1, most=LIMIT_TIMES_MAX),
        per_ms=fields.duration("per", least_ms=LIMIT_PER_MS_MIN, most_ms=WAIT_MS_MAX),
    )


def _risks(spot: Spot | None, action: Action | None) -> tuple[Risk, ...]:
    """The risks named, each once, in the order of Risk: another order means the same."""
    if spot is None:
        return ()
    found: set[Risk] = set()
    for each in open_list(spot, "such as [volume]"):
        name = word(each, "risk", [risk.value for risk in Risk])
        if name is None:
            continue
        risk = Risk(name)
        if risk in found:
            each.note(f"{risk} is named twice", "remove it")
        elif action and risk not in _risks_of(type(action)):
            each.note(f"{risk} is no risk of {action.kind}", one_of(_risks_of(type(action))))
        found.add(risk)
    return tuple(risk for risk in Risk if risk in found)


def _risks_of(action: type[Action]) -> tuple[Risk, ...]:
    """What may stand in the way of an action: tasks that stay are not replaced by other code."""
    return tuple(Risk) if action.rolls else (Risk.VOLUME, Risk.NO_RESTART)


def _acts(action: type[Action]) -> bool:
    return action.leaf is not None


def _acts_to_heal(action: type[Action]) -> bool:
    return _acts(action) and action.heals


_KEYS_FOR_SOME = {
    "limit": _acts,
    "clears_within": _acts_to_heal,
    "otherwise": _acts,
    "allow_risk": _acts,
}


def _refuse_keys(fields: Fields, action: Action) -> None:
    """Note the keys that say nothing about this action."""
    for key, takes in _KEYS_FOR_SOME.items():
        if not takes(type(action)):
            takers = [kind.value for kind, each in ACTIONS.items() if takes(each)]
            fields.refuse(key, f"not for {action.kind}", f"only for {', '.join(takers)}")


def _refuse_raise_without_kill(fields: Fields, when: Condition | None, then: Action | None) -> None:
    """Note a raise_memory that could be asked for where nothing was killed."""
    if when is None or then is None or then.kind is not ActionKind.RAISE_MEMORY:
        return
    spot = fields.spot("when")
    if spot is not None and not _implies_kill(when):
        hint = "raise_memory starts from the limit at the kill: ask for event: oom_killed"
        spot.note("this can hold where nothing was killed for memory", hint)


def _implies_kill(condition: Condition) -> bool:
    """Whether the condition holds only where it counts kills.

    Negations are in the comparisons; to ask for 0 events or more has been refused before.
    """
    if isinstance(condition, Combined):
        holds = all if condition.combinator is Combinator.ANY else any
        return holds(_implies_kill(each) for each in condition.conditions)
    is_kill = isinstance(condition, EventCondition) and condition.event == "oom_killed"
    return is_kill and condition.comparison.wants_high
