"""What docs/rules.md says up to and including missing data, where time plays no part."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from autoheal.core.rule import Comparison
from autoheal.metrics import METRICS
from autoheal.rulefile import RuleFileError, parse
from autoheal.rulefile.language import RULE_SHAPE
from autoheal.rulefile.zones import read_zone
from builders import escalate, event_condition, scene

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
SOURCES = 'sources: {jobs: {redis: "redis://queue:6379/0", list: jobs}}\n'
RULE = "rules: [{name: %s, when: %s, then: {action: escalate}%s}]\n"
HOT = "{metric: cpu_percent, over: 2m, above: 80}"


def complaints(name: str = "a", when: str = HOT, more: str = "") -> list[str]:
    """What is said of a rule; nothing if it is good."""
    try:
        parse({"x.yaml": (SOURCES + RULE % (name, when, more)).encode()})
    except RuleFileError as error:
        return [mistake.what for mistake in error.mistakes]
    return []


def test_a_rule_has_the_keys_of_the_table_and_no_others() -> None:
    table = PAGE.partition("| key | meaning | if left out |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(RULE_SHAPE.keys)


def test_the_version_may_be_left_out() -> None:
    text = RULE % ("a", HOT, "")
    assert parse({"x.yaml": b"version: 1\n" + text.encode()}) == parse({"x.yaml": text.encode()})


@pytest.mark.parametrize(
    ("name", "is_name"),
    [("a" * 63, True), ("a" * 64, False), ("a-", True), ("0", False), ('"0"', True), ("-a", False)],
)
def test_a_name_is_lower_case_digits_and_dashes_and_begins_with_no_dash(
    name: str, *, is_name: bool
) -> None:
    assert (complaints(name) == []) is is_name


@pytest.mark.parametrize(
    ("more", "is_good"),
    [
        ("for: 30d", True),
        ("for: 30d1ms", False),
        ("keep_firing_for: 30d", True),
        ("keep_firing_for: 30d1ms", False),
        ("priority: -1000", True),
        ("priority: -1001", False),
        ("priority: 1000", True),
        ("priority: 1001", False),
        ("for: 30", False),
        ("for: 0", False),
        ("for: 250ms", True),
        ("for: 1h30m", True),
    ],
)
def test_a_value_goes_to_its_bound_and_no_further(more: str, *, is_good: bool) -> None:
    assert (complaints(more=f", {more}") == []) is is_good


@pytest.mark.parametrize(
    ("more", "is_good"),
    [
        ("cooldown: 30d", True),
        ("cooldown: 30d1ms", False),
        ("clears_within: 24h", True),
        ("clears_within: 24h1ms", False),
    ],
)
def test_so_does_a_value_of_a_repair(more: str, *, is_good: bool) -> None:
    text = f"rules: [{{name: a, when: {HOT}, then: {{action: restart}}, {more}}}]"
    if is_good:
        assert parse({"x.yaml": text.encode()}).rules
    else:
        with pytest.raises(RuleFileError, match="too long"):
            parse({"x.yaml": text.encode()})


@pytest.mark.parametrize(("count", "is_good"), [(20, True), (21, False)])
@pytest.mark.parametrize("key", ["within", "outside"])
def test_a_schedule_has_twenty_periods_at_most(key: str, count: int, *, is_good: bool) -> None:
    periods = [f'{{days: mon, hours: "{hour:02}:00-{hour:02}:30"}}' for hour in range(count)]
    more = f", schedule: {{{key}: [{', '.join(periods)}]}}"
    assert (complaints(more=more) == []) is is_good


@pytest.mark.parametrize(("count", "is_good"), [(20, True), (21, False)])
def test_a_match_has_twenty_labels_at_most(count: int, *, is_good: bool) -> None:
    labels = ", ".join(f"l{number}: a" for number in range(count))
    assert (complaints(more=f", match: {{labels: {{{labels}}}}}") == []) is is_good


@pytest.mark.parametrize(("count", "is_good"), [(20, True), (21, False)])
@pytest.mark.parametrize("key", ["all", "any"])
def test_a_rule_has_twenty_conditions_at_most(key: str, count: int, *, is_good: bool) -> None:
    assert (complaints(when=f"{{{key}: [{', '.join([HOT] * count)}]}}") == []) is is_good


@pytest.mark.parametrize(("levels", "is_good"), [(5, True), (6, False)])
@pytest.mark.parametrize(
    ("opens", "closes"), [("{all: [", "]}"), ("{any: [", "]}"), ("{not: ", "}")]
)
def test_conditions_stand_within_one_another_five_levels_deep(
    opens: str, closes: str, levels: int, *, is_good: bool
) -> None:
    assert (complaints(when=opens * levels + HOT + closes * levels) == []) is is_good


@pytest.mark.parametrize("key", ["all", "any"])
def test_an_empty_list_of_conditions_is_refused(key: str) -> None:
    [what] = complaints(when=f"{{{key}: []}}")
    assert what.endswith("the list of conditions is empty")


KINDS = ["metric: cpu_percent", "event: died", "source: jobs"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("over", "is_good"),
    [("0s", False), ("1ms", True), ("24h", True), ("24h1ms", False), ("60", False)],
)
def test_a_condition_looks_back_a_day_at_most(kind: str, over: str, *, is_good: bool) -> None:
    assert (complaints(when=f"{{{kind}, over: {over}, above: 1}}") == []) is is_good


@pytest.mark.parametrize("kind", KINDS)
def test_a_condition_has_exactly_one_comparison(kind: str) -> None:
    for first in Comparison:
        assert complaints(when=f"{{{kind}, over: 1m, {first}: 1}}") == []
        for second in set(Comparison) - {first}:
            assert complaints(when=f"{{{kind}, over: 1m, {first}: 1, {second}: 1}}")
    assert complaints(when=f"{{{kind}, over: 1m}}") == ["rules[0].when: there is no comparison"]


@pytest.mark.parametrize("name", [each.name for each in METRICS])
def test_a_figure_of_the_service_takes_no_over_tasks(name: str) -> None:
    table = PAGE.partition("These are one figure per service")[2].partition("A service wants")[0]
    is_of_service = f"| `{name}` |" in table
    when = f"{{metric: {name}, over: 1m, above: 1, over_tasks: max}}"
    assert (complaints(when=when) != []) is is_of_service


@pytest.mark.parametrize("aggregate", ["last", "slope", "forecast", "rate"])
def test_what_goes_over_time_only_does_not_go_over_tasks(aggregate: str) -> None:
    [what] = complaints(when=f"{{metric: pids, over: 1m, above: 1, over_tasks: {aggregate}}}")
    assert what == f"rules[0].when.over_tasks: unknown aggregate {aggregate}"


@pytest.mark.parametrize("kind", ["metric: pids", "source: jobs"])
@pytest.mark.parametrize(
    ("ahead", "is_good"),
    [("", False), (", ahead: 1s", True), (", ahead: 24h", True), (", ahead: 999ms", False)],
)
def test_a_forecast_needs_ahead(kind: str, ahead: str, *, is_good: bool) -> None:
    when = f"{{{kind}, over: 1m, above: 1, over_time: forecast{ahead}}}"
    assert (complaints(when=when) == []) is is_good


@pytest.mark.parametrize("threshold", ["at_least: 0", "above: -1", "above: -0.1", "at_least: -1"])
@pytest.mark.parametrize("event", ["oom_killed", "task_failed", "unhealthy", "died"])
def test_a_comparison_that_asks_for_events_asks_for_one(event: str, threshold: str) -> None:
    [what] = complaints(when=f"{{event: {event}, over: 1m, {threshold}}}")
    assert what.endswith("0 events satisfy this too")


@pytest.mark.parametrize(
    ("at", "hours"),
    [
        (datetime(2019, 7, 1, tzinfo=UTC), 1),
        (datetime(2020, 7, 1, tzinfo=UTC), 2),
        (datetime(2039, 7, 1, tzinfo=UTC), 2),
        (datetime(2040, 1, 1, tzinfo=UTC), 1),
        (datetime(2040, 7, 1, tzinfo=UTC), 1),
    ],
)
def test_a_zones_summer_time_is_known_from_2020_through_2039(at: datetime, hours: int) -> None:
    at_ms = int(at.timestamp()) * 1000
    assert read_zone("Europe/Berlin").local_ms(at_ms) - at_ms == hours * 3_600_000


@pytest.mark.parametrize(("exit_codes", "is_counted"), [(None, True), ((0, 255), False)])
def test_a_task_whose_code_nobody_knows_is_not_counted_by_its_code(
    exit_codes: tuple[int, int] | None, *, is_counted: bool
) -> None:
    world = scene(escalate(when=event_condition("task_failed", exit_codes=exit_codes)))
    world.happen("task_failed")
    assert bool(world.tick()) is is_counted
