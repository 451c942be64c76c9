"""A test file as people write it -> the scenarios that are played, or every mistake at once.

What stands at the top of a file with `tests` holds for each of them: a test's own key replaces it,
but of the maps in `_BY_NAME` only the entries of the same name.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from autoheal.core.limits import Limits
from autoheal.core.rule import RuleSet
from autoheal.model import OutcomeKind
from autoheal.rulefile.fields import Fields, Shape, Spot, open_list, open_map
from autoheal.rulefile.mistakes import Notes, quoted
from autoheal.rulefile.tree import Items, Map, Node, Scalar, described, read_tree
from autoheal.ruletest.happenings import Names, read_expected, read_held, read_occurrences
from autoheal.ruletest.parts import Timing, each_by_name, known_name, merged, plain_text, tick_time
from autoheal.ruletest.scenario import EVERY, Scenario
from autoheal.ruletest.setups import (
    read_nodes,
    read_past,
    read_services,
    read_sources,
    read_tasks,
)
from autoheal.settings import Settings
from autoheal.units import format_duration

STEP_MS = 5_000
STEP_MS_MIN = 1_000
STEP_MS_MAX = 60_000
TICKS_MAX = 20_000
# Noon on a Monday, UTC: a multiple of every step that divides a day.
ZERO = "2024-01-01 12:00"
SUFFIXES = (".test.yaml", ".test.yml")
_OUTCOMES = tuple(kind.value.lower() for kind in OutcomeKind)

_BY_NAME = ("settings", "nodes", "services", "tasks", "sources", "state")
_OF_A_TEST = (
    *("step", "start", *_BY_NAME, "outcomes", "events", "until", "expect", "expect_held"),
)
_OF_A_FILE = ("version", "rules", "tests")
_EXAMPLE = "{rules: [scaling.yaml], services: {web: {}}, expect: [...]}"
_ALONE = Shape((*_OF_A_FILE, "name", *_OF_A_TEST), ("rules", "services"), _EXAMPLE)
_TEST_EXAMPLE = '{name: "it scales up", tasks: {...}, expect: [...]}'
_TEST = Shape(("name", *_OF_A_TEST), ("name", "services"), _TEST_EXAMPLE)

RulesOf = Callable[[tuple[Path, ...]], RuleSet | None]


# The field of Limits that a setting sets, where it is not the setting's name and its unit.
_OTHER_NAMES = {"stable_after": "stable_ms", "recovery_after": "recovery_ms"}
# These follow from settings in ways of their own, or have none.
_UNSETTABLE = frozenset(
    {"step_ms", "inventory_stale_ms", "retry_ms", "missed_ticks", "handover_ms"}
)
LIMIT_OF_SETTING = {
    name: limit
    for field in Settings.model_fields
    if (limit := _OTHER_NAMES.get(name := field.removesuffix("_ms"), field))
    in {each.name for each in dataclasses.fields(Limits)} - _UNSETTABLE
}


class Reader:
    """Reads test files one after the other; `rules_of` loads the rules that a file names."""

    def __init__(self, notes: Notes, rules_of: RulesOf) -> None:
        self.scenarios: list[Scenario] = []
        self._notes = notes
        self._rules_of = rules_of

    def read(self, file: Path, text: bytes) -> None:
        """Add the tests of one file."""
        root = read_tree(str(file), text, self._notes)
        if root is None:
            return
        spot = Spot(str(file), "", root, self._notes)
        if not isinstance(root, Map):
            spot.note(f"{described(root)} is not a rule test", f"such as {_EXAMPLE}")
            return
        tests = next((value for key, value in root.entries if key.text == "tests"), None)
        rules = self._rules(spot, root, file)
        if tests is None:
            self._read_test(spot, root, _ALONE, rules, name=_stem(file))
        else:
            self._read_tests(spot, root, tests, rules)

    def _rules(self, spot: Spot, root: Map, file: Path) -> RuleSet | None:
        """The rules that a file tests; None, and noted, if they cannot be read."""
        node = next((value for key, value in root.entries if key.text == "rules"), None)
        if node is None:
            return None
        named = spot.below("rules", node)
        if isinstance(node, Items) and not node.nodes:
            named.note("no rule file is named", "such as [scaling.yaml]")
        paths = []
        for each in open_list(named, "such as [scaling.yaml]"):
            path = file.parent / plain_text(each)
            paths.append(path)
            if isinstance(each.node, Scalar) and not path.exists():
                each.note(f"there is no file {path}", "paths begin where this file is")
        return self._rules_of(tuple(paths)) if all(path.exists() for path in paths) else None

    def _read_tests(self, spot: Spot, root: Map, tests: Node, rules: RuleSet | None) -> None:
        above = Map(
            root.line,
            root.column,
            tuple(entry for entry in root.entries if entry[0].text in _OF_A_TEST),
            root.complete,
        )
        shape = Shape((*_OF_A_FILE, *_OF_A_TEST), ("rules",), _EXAMPLE)
        open_map(spot, shape)  # notes the keys that are not known
        names: dict[str, int] = {}
        for each in open_list(spot.below("tests", tests), "begin each test with a dash"):
            if not isinstance(each.node, Map):
                each.note(f"{described(each.node)} is not a test", f"such as {_TEST_EXAMPLE}")
                continue
            test = merged(above, each.node, _BY_NAME)
            scenario = self._read_test(spot.at(test), test, _TEST, rules)
            if scenario.name and scenario.name in names:
                what = f"the name {quoted(scenario.name)} is taken"
                each.note(what, f"by the test in line {names[scenario.name]}")
            names.setdefault(scenario.name, scenario.line)

    def _read_test(
        self, spot: Spot, node: Map, shape: Shape, rules: RuleSet | None, name: str = ""
    ) -> Scenario:
        noted = len(self._notes)
        fields = Fields(spot, node, shape)
        name = plain_text(fields.spot("name")) or name
        scenario = _scenario(spot, fields, name, rules)
        if len(self._notes) == noted:
            _check_length(spot, scenario)
        self.scenarios.append(scenario)
        return scenario


def _stem(file: Path) -> str:
    for suffix in SUFFIXES:
        if file.name.endswith(suffix):
            return file.name.removesuffix(suffix)
    return file.stem


def _scenario(spot: Spot, fields: Fields, name: str, rules: RuleSet | None) -> Scenario:
    timing = _timing(fields)
    nodes = read_nodes(fields.spot("nodes"))
    services = read_services(fields.spot("services"), timing)
    known = None if rules is None else [rule.name for rule in rules.rules]
    sources = None if rules is None else [source.name for source in rules.sources]
    names = Names(services, list(nodes), known)
    outcome = fields.word("outcomes", "outcome", _OUTCOMES)
    made = Scenario(
        file=spot.file,
        line=spot.node.line,
        name=name,
        rules=rules or RuleSet("", ()),
        limits=_limits(fields.spot("settings"), timing),
        zero_ms=timing.zero_ms,
        until_ms=0,
        services=services,
        tasks=read_tasks(fields.spot("tasks"), timing, services, list(nodes)),
        nodes=nodes,
        sources=read_sources(fields.spot("sources"), sources),
        past=read_past(fields.spot("state"), timing, list(services), known),
        occurrences=read_occurrences(fields.spot("events"), timing, names),
        outcome=OutcomeKind((outcome or OutcomeKind.WOULD_APPLY).upper()),
        expected=read_expected(fields.spot("expect"), timing, names),
        expected_held=read_held(fields.spot("expect_held"), timing, names),
    )
    _check_places(fields, made)
    return dataclasses.replace(made, until_ms=_until(fields.spot("until"), made, timing))


def _check_length(spot: Spot, made: Scenario) -> None:
    """Note a test that never begins, or never ends."""
    ticks = (made.until_ms - made.zero_ms) // made.limits.step_ms
    if ticks > TICKS_MAX:
        longest = format_duration(TICKS_MAX * made.limits.step_ms)
        spot.note(f"this test has {ticks} ticks", f"at most {TICKS_MAX}, which is {longest}")
    elif ticks == 0:
        spot.note("nothing says how long this test goes on", "say until: 10m")


def _timing(fields: Fields) -> Timing:
    step_ms = fields.duration("step", least_ms=STEP_MS_MIN, most_ms=STEP_MS_MAX)
    is_step = STEP_MS_MIN <= step_ms <= STEP_MS_MAX
    return Timing(_zero(fields.spot("start")), step_ms if is_step else STEP_MS)


def _zero(spot: Spot | None) -> int:
    """The moment at which a test begins, in ms since 1970."""
    text = plain_text(spot) or ZERO
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = dt.datetime.fromisoformat(ZERO)
        if spot is not None:
            spot.note(f"{quoted(text)} is not a date and time", f'try "{ZERO}", in UTC')
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return int(moment.timestamp()) * 1_000


def _limits(spot: Spot | None, timing: Timing) -> Limits:
    """The settings that a test changes, read as autoheal reads them."""
    changed = {}
    for name, key, value in each_by_name(spot, "{warm_up: 1m}"):
        if not known_name(key, name, "setting", list(LIMIT_OF_SETTING)):
            continue
        text = plain_text(value)
        field = name if name in Settings.model_fields else f"{name}_ms"
        try:
            settings = Settings.model_validate({field: text})
        except ValidationError as error:
            (detail,) = error.errors(include_url=False)
            value.note(str(detail.get("ctx", {}).get("error", detail["msg"])))
        else:
            changed[LIMIT_OF_SETTING[name]] = getattr(settings, field)
    return Limits(step_ms=timing.step_ms, **changed)


def _check_places(fields: Fields, made: Scenario) -> None:
    """Note the tasks that can never be there."""
    grows = made.outcome is OutcomeKind.APPLIED
    most = {name: _most_tasks(made, name) for name in made.services}
    keys = {name: key for name, key, _ in each_by_name(fields.spot("tasks"), "")}
    for place in made.tasks:
        if place.number != EVERY and place.number > most[place.service] and not grows:
            count = most[place.service]
            hint = f"{place.service} has {count} task{'s' * (count != 1)}"
            keys[str(place)].note("there is never such a task", hint)


def _most_tasks(made: Scenario, service: str) -> int:
    replicas = made.services[service].replicas
    counts = [len(made.nodes) if replicas is None else replicas]
    changes = (each.changes for each in made.occurrences if each.subject == service)
    return max([*counts, *(int(each.get("replicas", 0)) for each in changes)])


def _until(spot: Spot | None, made: Scenario, timing: Timing) -> int:
    """The time of the last tick: as said, else when nothing new comes any more."""
    asked = made.asked_ms
    if spot is None:
        return max([_last_news(made, timing), *asked])
    until_ms = tick_time(spot, timing)
    if any(at_ms > until_ms for at_ms in asked):
        spot.note("something is expected after this", "the test must go on until then")
    return until_ms


def _last_news(made: Scenario, timing: Timing) -> int:
    """The first tick that has seen all values and all that happens."""
    every = [
        *(series for setup in made.tasks.values() for series in setup.series.values()),
        *(each for node in made.nodes.values() for each in (node.cpu_percent, node.memory_percent)),
        *made.sources.values(),
    ]
    steps = max((series.steps for series in every), default=0)
    last_ms = max((each.at_ms - timing.zero_ms for each in made.occurrences), default=-1)
    return timing.zero_ms + max(steps, last_ms // timing.step_ms + 1) * timing.step_ms
