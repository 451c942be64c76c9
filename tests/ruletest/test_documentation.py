"""What docs/rule-tests.md shows is what `autoheal test` reads, plays and says."""

import re
from pathlib import Path

import pytest

from autoheal import ruletest
from autoheal.metrics import METRICS
from autoheal.rulefile import RuleFileError
from autoheal.ruletest import happenings, reader, setups
from autoheal.ruletest.scenario import Happens, Replacement

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rule-tests.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SHOWN = re.findall(r"(?:^    .*\n)+", PAGE, re.MULTILINE)


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a copy of the packs, and the way to it."""
    (tmp_path / "rules").mkdir()
    for pack in ("scaling.yaml", "remediation.yaml"):
        (tmp_path / "rules" / pack).write_bytes((ROOT / "rules" / pack).read_bytes())
    monkeypatch.chdir(tmp_path)
    return Path("rules")


@pytest.mark.parametrize("block", BLOCKS)
def test_each_example_passes(block: str, rules: Path) -> None:
    (rules / "web.test.yaml").write_text(block)
    report = ruletest.run([rules])
    assert report.passed, str(report)


def test_no_example_escapes_the_test() -> None:
    assert PAGE.count("```") == 2 * len(BLOCKS) > 0


def test_the_failure_shown_is_what_is_said(rules: Path) -> None:
    (rules / "web.test.yaml").write_text(
        "rules: [scaling.yaml]\nstep: 15s\nservices: {web: {}}\ntests:\n"
        '  - {name: high load adds a task, tasks: {web.*: {cpu_percent: "90x8"}}, expect: [\n'
        "      {at: 1m45s, service: web, action: scale_up, from: 2, rule: cpu-high}]}\n"
    )
    said = str(ruletest.run([rules]))
    assert "".join(f"    {line}\n" for line in said.splitlines()) in SHOWN


def test_the_mistakes_shown_are_what_is_said(rules: Path) -> None:
    (rules / "web.test.yaml").write_text(
        "rules: [scaling.yaml]\nstep: 15s\nservices: {web: {replica: 2}}\ntasks:\n"
        '        wep.1: {cpu_percent: "90"}\n'
    )
    with pytest.raises(RuleFileError) as caught:
        ruletest.run([rules])
    assert "".join(f"    {line}\n" for line in str(caught.value).splitlines()) in SHOWN


KEYS = [
    *reader._ALONE.keys[1:],
    *setups._SERVICE.keys,
    *("started", "ready", "node", "cores", "memory", "role", "labels"),
    *setups._PAST.keys,
    *setups._RULE_PAST.keys,
    *happenings._EXPECTED.keys,
    *happenings._HELD.keys,
    *("exit_code", "error", "replacement", "rule"),
    *Replacement,
]


@pytest.mark.parametrize("key", KEYS)
def test_the_page_names_every_key(key: str) -> None:
    assert re.search(rf"`[^`\n]*\b{key}\b[^`\n]*`", PAGE)


@pytest.mark.parametrize("what", list(Happens))
def test_the_page_lists_everything_that_can_happen(what: Happens) -> None:
    assert re.search(rf"^\| `{what}: (web|web\.1|node-1)` \|", PAGE, re.MULTILINE)


def test_the_page_tells_what_is_left_out() -> None:
    assert "50 % of its CPU and of its memory" in PAGE
    assert "16 `cores`, 64 GiB of `memory`" in PAGE
    assert any(metric.name in PAGE for metric in METRICS)
