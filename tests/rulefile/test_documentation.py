"""What we show to people is what the reader reads."""

import re
from pathlib import Path

import pytest

from autoheal.actions import Escalate, ScaleDown, ScaleUp
from autoheal.actions.track import DOWN, UP, Direction, Policy
from autoheal.core.rule import OVER_TASKS, Aggregate, Risk
from autoheal.labels import read_terms
from autoheal.metrics import EVENTS, METRICS
from autoheal.model import (
    LABEL_ALLOW,
    LABEL_DECISION,
    LABEL_DRY_RUN,
    LABEL_ENABLE,
    LABEL_MAX,
    LABEL_MIN,
    LABEL_ROLE,
    LABEL_WITHDRAWN,
    ActionKind,
    Mode,
)
from autoheal.rulefile import (
    RuleFileError,
    conditions,
    language,
    load,
    matching,
    parse,
    schedules,
    sources,
    tracking,
)
from autoheal.rulefile.actions import ACTION_WORDS, TRACK, action_shape, word_of
from autoheal.rulefile.fields import COUNT_MAX
from autoheal.units import format_duration

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rules.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_each_example_in_the_documentation_is_a_rule(block: str) -> None:
    assert parse({"rules.md": block.encode()}).rules


def test_no_example_escapes_the_test() -> None:
    assert PAGE.count("```") == 2 * len(BLOCKS) > 0


SHAPES = [language.FILE_SHAPE, language.RULE_SHAPE, language.LIMIT_SHAPE, matching.MATCH_SHAPE]
SHAPES += [schedules.SCHEDULE_SHAPE, schedules.PERIOD_SHAPE, *sources.SHAPES.values()]
SHAPES += [shape for shape, _ in conditions.KINDS.values()]
SHAPES += [action_shape(word) for word in ACTION_WORDS]
SHAPES += [tracking.METRIC_TARGET_SHAPE, tracking.SOURCE_TARGET_SHAPE, tracking.DIRECTION_SHAPE]
SHAPES += [tracking.POLICY_SHAPE]
KEYS = sorted({key for shape in SHAPES for key in shape.keys})
VALUES = ["over_time: slope", "over_time: rate", "over_time: last", "over_tasks: p50", "per: task"]
VALUES += ['exit_code: "1-125"', "days: mon-fri", *(f"action: {word}" for word in ACTION_WORDS)]


@pytest.mark.parametrize("word", [*KEYS, *VALUES])
def test_each_feature_has_a_worked_example(word: str) -> None:
    shown = "\n".join(["", *BLOCKS])
    assert re.search(rf"(?<=[\s{{])({word}:|{word}[\s,}}])", shown)


@pytest.mark.parametrize("aggregate", list(Aggregate))
def test_the_documentation_says_what_each_aggregate_goes_over(aggregate: Aggregate) -> None:
    (row,) = re.findall(rf"^\| [^|]*`{aggregate}`[^|]* \| (yes|no) \| yes \| ", PAGE, re.MULTILINE)
    assert (row == "yes") is (aggregate in OVER_TASKS)


def shown_policy(policy: Policy) -> str:
    amount = f"percent: {policy.percent:g}" if policy.percent else f"tasks: {policy.tasks}"
    return f"`{{{amount}, per: {format_duration(policy.per_ms)}}}`"


def defaults(direction: Direction) -> dict[str, str]:
    return {
        "policies": ", ".join(map(shown_policy, direction.policies)),
        "select": f"`{direction.select}`",
        "stabilization": f"`{format_duration(direction.stabilization_ms)}`",
        "tolerance": f"`{direction.tolerance}`",
    }


@pytest.mark.parametrize("key", tracking.DIRECTION_SHAPE.keys)
def test_the_documentation_says_how_replicas_move_if_nothing_is_said(key: str) -> None:
    (row,) = re.findall(rf"^\| `{key}` \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert row == (defaults(UP)[key], defaults(DOWN)[key])


@pytest.mark.parametrize(
    ("key", "least_ms", "most_ms", "default_ms"),
    [
        ("every", sources.EVERY_MS_MIN, sources.EVERY_MS_MAX, sources.EVERY_MS),
        ("timeout", sources.TIMEOUT_MS_MIN, sources.TIMEOUT_MS_MAX, sources.TIMEOUT_MS),
        ("stale_after", sources.STALE_AFTER_MS_MIN, 24 * 3_600_000, sources.STALE_AFTER_MS),
    ],
)
def test_the_documentation_says_how_often_and_how_long(
    key: str, least_ms: int, most_ms: int, default_ms: int
) -> None:
    least, default = format_duration(least_ms), format_duration(default_ms)
    most = format_duration(most_ms).replace("1d", "24h")
    bounds = rf"from `{least}` to `{most}`[^|]*"
    assert re.search(rf"^\| `{key}` \| [^|]*{bounds} \| `{default}` \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("day", schedules.DAYS)
def test_the_documentation_lists_each_day(day: str) -> None:
    assert f"`{day}`" in PAGE


@pytest.mark.parametrize("row", [*METRICS, *EVENTS], ids=lambda row: row.name)
def test_the_documentation_lists_each_metric_and_event(row: object) -> None:
    name, words = getattr(row, "name", ""), getattr(row, "help", "")
    assert f"| `{name}` | {words} |" in PAGE


def test_the_documentation_tells_the_order_of_actions() -> None:
    assert f"    {' > '.join(kind.value for kind in ActionKind)}\n" in PAGE


LABELS = [LABEL_ENABLE, LABEL_ALLOW, LABEL_MIN, LABEL_MAX, LABEL_DRY_RUN, LABEL_ROLE]
LABELS += [LABEL_DECISION, LABEL_WITHDRAWN]


@pytest.mark.parametrize("label", LABELS)
def test_the_documentation_lists_each_label_that_is_known(label: str) -> None:
    assert f"\n| `{label}` | " in PAGE


def test_the_documented_labels_can_be_read() -> None:
    shown = re.findall(r'^ +(autoheal\.\S+): "(.+)"$', PAGE, re.MULTILINE)
    terms = read_terms(dict(shown))
    assert terms.arms(ActionKind.RESTART)
    assert (terms.minimum, terms.maximum) == (2, 8)


@pytest.mark.parametrize("risk", list(Risk))
def test_the_documentation_lists_each_risk(risk: Risk) -> None:
    assert f"\n| `{risk.value}` | " in PAGE


def test_the_documented_mistakes_are_what_is_said() -> None:
    text = (
        "# two mistakes\nrules:\n  - name: cpu-high\n"
        "    when: {metric: cpu_percent, ofer: 2m, above: 80}\n"
        "    then: {action: scale_up, max: 0}\n"
    )
    with pytest.raises(RuleFileError) as caught:
        parse({"rules/web.yaml": text.encode()})
    shown = "".join(f"    {line}\n" for line in str(caught.value).splitlines())
    assert str(COUNT_MAX) in shown
    assert shown in PAGE


@pytest.mark.parametrize("name", ACTION_WORDS)
def test_each_actions_example_is_that_action(name: str) -> None:
    when = "" if name == TRACK else "when: {event: oom_killed, over: 5m, at_least: 1}, "
    text = f"rules: [{{name: example, {when}then: {action_shape(name).example}}}]"
    (rule,) = parse({"example": text.encode()}).rules
    assert word_of(rule.then) == name


def test_the_shipped_pack_loads_and_keeps_within_what_does_not_hurt() -> None:
    rules = {rule.name: rule for rule in load([ROOT / "rules"]).rules.rules}
    high, low, memory = rules["cpu-high"], rules["cpu-low"], rules["memory-at-limit"]
    assert high.then == ScaleUp(max=10, by=1)
    assert low.then == ScaleDown(min=2, by=1)
    assert low.window_ms == low.cooldown_ms == 15 * 60_000
    assert memory.then == Escalate(severity="warning")
    assert {rule.mode for rule in rules.values()} == {Mode.LIVE}
