"""What a rule file can say: its maps, their keys, and the rule that each becomes.

`conditions` reads a rule's `when`, `actions` its `then`; what one key of a rule says against
another is noted here.
"""

from __future__ import annotations

import re

from autoheal.actions import ACTIONS, Action, Escalate, RaiseMemory, ScaleUp
from autoheal.core.rule import (
    Combinator,
    Combined,
    Condition,
    EventCondition,
    Limit,
    Risk,
    Rule,
    Source,
)
from autoheal.model import ActionKind, Mode
from autoheal.rulefile.actions import ACTION_WORDS, TRACK, read_action, read_otherwise, word_of
from autoheal.rulefile.conditions import UNREAD, read_condition
from autoheal.rulefile.fields import Fields, Shape, Spot, open_list, open_map, word
from autoheal.rulefile.matching import read_match
from autoheal.rulefile.mistakes import Notes, one_of
from autoheal.rulefile.schedules import read_schedule
from autoheal.rulefile.sources import SourceNames, SourceReader
from autoheal.rulefile.tree import Kind, Map, Node, Scalar, described, read_tree

VERSION = "1"
WAIT_MS_MAX = 30 * 24 * 3_600_000
PRIORITY_MAX = 1_000
LIMIT_TIMES_MAX = 100
LIMIT_PER_MS_MIN = 60_000
CLEARS_WITHIN_MS_MAX = 24 * 3_600_000

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

FILE_SHAPE = Shape(("version", "sources", "rules"), (), "{version: 1, rules: [...]}")
RULE_SHAPE = Shape(
    (
        *("name", "match", "schedule", "when", "for", "keep_firing_for", "then", "cooldown"),
        *("limit", "clears_within", "otherwise", "allow_risk", "mode", "priority"),
    ),
    ("name", "then"),
    "{name: cpu-high, when: {...}, then: {...}}",
)
LIMIT_SHAPE = Shape(("times", "per"), ("times", "per"), "{times: 3, per: 24h}")


class Reader:
    """Reads rule files; the name of a rule, or of a source, may occur once in all of them.

    A rule may use the sources of every file, so rules are read once all files have been opened.
    """

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._sources = SourceReader(notes)
        self._lists: list[Spot] = []
        self._places: dict[str, str] = {}

    @property
    def sources(self) -> list[Source]:
        """The sources of all files."""
        return self._sources.sources

    @property
    def places(self) -> dict[str, str]:
        """Where each `rule NAME` and `source NAME` stands, as FILE:LINE:COLUMN."""
        rules = {f"rule {name}": place for name, place in self._places.items()}
        return rules | {f"source {n}": place for n, place in self._sources.places.items()}

    def open(self, file: str, text: bytes) -> None:
        """Read the sources of a file, and keep its rules for later."""
        fields = self._fields(file, text)
        if fields is None:
            self._sources.miss()
            return
        if sources := fields.spot("sources"):
            self._sources.read(sources)
        elif fields.is_excused("sources"):
            self._sources.miss()
        else:
            fields.require("rules")
        if rules := fields.spot("rules"):
            self._lists.append(rules)

    def _fields(self, file: str, text: bytes) -> Fields | None:
        root = read_tree(file, text, self._notes)
        if root is None:
            return None
        spot = Spot(file, "", root, self._notes)
        if isinstance(root, Scalar) and root.kind is Kind.NOTHING:
            spot.note("the file is empty", "begin with rules:")
            return None
        return open_map(spot, FILE_SHAPE) if _is_known_version(spot) else None

    def rules(self) -> list[Rule]:
        """The rules of all files."""
        spots = [each for spot in self._lists for each in open_list(spot, _RULES_HINT)]
        return [rule for spot in spots if (rule := self._rule(spot))]

    def _rule(self, spot: Spot) -> Rule | None:
        fields = open_map(spot, RULE_SHAPE)
        if fields is None:
            return None
        rule = _rule(fields, self._sources.names)
        name = fields.spot("name")
        if name is not None and rule.name:
            self._register(rule.name, name)
        return rule

    def _register(self, name: str, spot: Spot) -> None:
        if name in self._places:
            spot.note(f"the name {name} is taken", f"by {self._places[name]}")
        else:
            self._places[name] = f"{spot.file}:{spot.node.line}:{spot.node.column}"


_RULES_HINT = "begin each rule with a dash"


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


def _rule(fields: Fields, sources: SourceNames) -> Rule:
    hint = "lower case, digits and dashes, 63 at most, such as cpu-high"
    mode = fields.word("mode", "mode", [Mode.DRY_RUN.value])
    then = read_action(fields.spot("then"), sources)
    if then is not None:
        _refuse_keys(fields, then)
    is_tracking = then is not None and word_of(then) == TRACK
    when = _ALWAYS if is_tracking else _when(fields, sources)
    _refuse_raise_without_kill(fields, when, then)
    return Rule(
        name=fields.text("name", "a name", NAME, hint),
        hash="",  # a rule is named by its meaning once all of it is known
        match=read_match(fields.spot("match")),
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
        keep_firing_ms=fields.duration("keep_firing_for", most_ms=WAIT_MS_MAX),
        schedule=read_schedule(fields.spot("schedule")),
    )


_NO_ACTION = Escalate()
_ALWAYS = Combined(Combinator.ALL, ())


def _when(fields: Fields, sources: SourceNames) -> Condition | None:
    fields.require("when")
    return read_condition(fields.spot("when"), sources)


def _limit(spot: Spot | None) -> Limit | None:
    fields = open_map(spot, LIMIT_SHAPE) if spot else None
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
        elif action and risk not in risks_of(word_of(action)):
            takes = one_of(risks_of(word_of(action)))
            each.note(f"{risk} is no risk of {word_of(action)}", takes)
        found.add(risk)
    return tuple(risk for risk in Risk if risk in found)


def risks_of(word: str) -> tuple[Risk, ...]:
    """What may stand in the way of an action: tasks that stay are not replaced by other code."""
    return tuple(Risk) if _class(word).rolls else (Risk.VOLUME, Risk.NO_RESTART)


def _class(word: str) -> type[Action]:
    """The action of a word; track scales, as scale_up does."""
    return ScaleUp if word == TRACK else ACTIONS[ActionKind(word)]


def _acts(word: str) -> bool:
    return _class(word).leaf is not None


def _acts_to_heal(word: str) -> bool:
    return _acts(word) and _class(word).heals


def _escalates(word: str) -> bool:
    return not _acts(word)


def _has_condition(word: str) -> bool:
    return word != TRACK


KEYS_FOR_SOME = {
    "limit": _acts,
    "clears_within": _acts_to_heal,
    "otherwise": _acts,
    "allow_risk": _acts,
    "keep_firing_for": _escalates,
    "when": _has_condition,
    "for": _has_condition,
    "cooldown": _has_condition,
}
_INSTEAD = {
    "when": "its targets say what for",
    "for": "say how long with stabilization, under up and down",
    "cooldown": "say how long with stabilization, under up and down",
}


def takers(key: str) -> list[str]:
    """The actions beside which a key of KEYS_FOR_SOME can stand."""
    return [word for word in ACTION_WORDS if KEYS_FOR_SOME[key](word)]


def _refuse_keys(fields: Fields, action: Action) -> None:
    """Note the keys that say nothing about this action."""
    for key in KEYS_FOR_SOME:
        if word_of(action) not in takers(key):
            hint = _INSTEAD.get(key) or f"only for {', '.join(takers(key))}"
            fields.refuse(key, f"not for {word_of(action)}", hint)


def _refuse_raise_without_kill(fields: Fields, when: Condition | None, then: Action | None) -> None:
    """Note a raise_memory that could be asked for where nothing was killed."""
    if when is None or not isinstance(then, RaiseMemory):
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
