"""What we show to people is what the reader reads."""

import re
from pathlib import Path

import pytest

from autoheal.actions import ACTIONS, Escalate, ScaleDown, ScaleUp
from autoheal.core.rule import Risk
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
from autoheal.rulefile import RuleFileError, load, parse
from autoheal.rulefile.actions import COUNT_MAX

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rules.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_each_example_in_the_documentation_is_a_rule(block: str) -> None:
    assert parse({"rules.md": block.encode()}).rules


def test_no_example_escapes_the_test() -> None:
    assert PAGE.count("```") == 2 * len(BLOCKS) > 0


def test_each_feature_has_a_worked_example() -> None:
    shown = "".join(BLOCKS)
    words = ["match", "for", "cooldown", "priority", "mode", "over_tasks", "over_time", "event"]
    words += ["all", "any", "not", "over_time: slope", "exit_code", 'exit_code: "1-125"', "reason"]
    words += ["limit", "clears_within", "otherwise", "allow_risk"]
    for word in [*words, *(f"action: {kind.value}" for kind in ACTIONS)]:
        assert re.search(rf"(?<=[\s{{])({word}:|{word}[\s,}}])", shown), word


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


@pytest.mark.parametrize("kind", list(ACTIONS))
def test_each_actions_example_is_that_action(kind: ActionKind) -> None:
    when = "{event: oom_killed, over: 5m, at_least: 1}"
    text = f"rules: [{{name: example, when: {when}, then: {ACTIONS[kind].example}}}]"
    (rule,) = parse({"example": text.encode()}).rules
    assert type(rule.then) is ACTIONS[kind]


def test_the_shipped_pack_loads_and_keeps_within_what_does_not_hurt() -> None:
    rules = {rule.name: rule for rule in load([ROOT / "rules"]).rules.rules}
    high, low, memory = rules["cpu-high"], rules["cpu-low"], rules["memory-at-limit"]
    assert high.then == ScaleUp(max=10, by=1)
    assert low.then == ScaleDown(min=2, by=1)
    assert low.window_ms == low.cooldown_ms == 15 * 60_000
    assert memory.then == Escalate(severity="warning")
    assert {rule.mode for rule in rules.values()} == {Mode.LIVE}
