"""Tests of tests: how the world of one behaves, what is shown of it, and how the command ends."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from autoheal import ruletest
from autoheal.actions import Unable
from autoheal.app.loops import limits_of
from autoheal.core.limits import Limits
from autoheal.records import decision_body
from autoheal.rulefile import load
from autoheal.rulefile.mistakes import Notes
from autoheal.rulefile.tree import Map, read_tree
from autoheal.ruletest.files import read_tests
from autoheal.ruletest.happenings import HOLDERS
from autoheal.ruletest.play import Played, play
from autoheal.ruletest.reader import LIMIT_OF_SETTING, Reader
from autoheal.ruletest.verdict import Result
from autoheal.settings import Settings, load_settings

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SHIPPED = ROOT / "rules"
REMEDIATION = SHIPPED / "remediation.test.yaml"
PACKS = sorted(SHIPPED.rglob("*.test.yaml"))
RULES = [path for path in sorted(SHIPPED.rglob("*.yaml")) if path not in PACKS]


def results(*paths: Path) -> list[Result]:
    return list(ruletest.run(paths).results)


def played(file: Path, text: bytes | None = None) -> list[Played]:
    notes = Notes()
    reader = Reader(notes, lambda paths: load(paths).rules)
    for path, found in read_tests([file], notes).items():
        reader.read(path, found if text is None else text)
    notes.raise_if_any()
    return [play(scenario) for scenario in reader.scenarios]


# how the world of a test behaves


@pytest.mark.parametrize("result", results(HERE / "semantics.test.yaml"), ids=lambda r: r.name)
def test_the_world_of_a_test_is_as_documented(result: Result) -> None:
    assert result.failures == ()


LANGUAGE = [HERE / f"{name}.test.yaml" for name in ("language", "page-1", "page-2")]


@pytest.mark.parametrize("result", results(*LANGUAGE), ids=lambda r: r.name)
def test_a_rule_means_over_time_what_is_documented(result: Result) -> None:
    assert result.failures == ()


def test_a_test_decides_the_same_to_the_byte_each_time() -> None:
    first, second = (
        [decision_body(each) for test in played(REMEDIATION) for each in test.decisions]
        for _ in range(2)
    )
    assert first
    assert first == second


def test_the_order_in_which_a_file_names_things_makes_no_difference(tmp_path: Path) -> None:
    (tmp_path / "semantics.yaml").write_bytes((HERE / "semantics.yaml").read_bytes())
    file = tmp_path / "x.test.yaml"
    services = ["scaled: {}", "hung: {}", "metrics: {}"]
    tasks = ["scaled.*: {cpu_percent: 90}", "hung.2: {pids: 2000}", "metrics.1: {pids: 900}"]
    decided = set()
    for turn in (1, -1):
        file.write_text(
            "rules: [semantics.yaml]\nstep: 15s\nuntil: 7m\nsettings: {group_wait: 0s}\n"
            f"services: {{{', '.join(services[::turn])}}}\ntasks: {{{', '.join(tasks[::turn])}}}\n"
        )
        (test,) = played(file)
        decided.add(tuple(decision_body(each) for each in test.decisions))
    assert len(decided) == 1
    assert next(iter(decided))


def test_a_test_begins_on_a_monday_at_noon_unless_it_says_when(tmp_path: Path) -> None:
    (tmp_path / "semantics.yaml").write_bytes((HERE / "semantics.yaml").read_bytes())
    file = tmp_path / "x.test.yaml"
    text = "rules: [semantics.yaml]\nservices: {web: {}}\nuntil: 5s\n"
    file.write_text(text)
    begins = {
        "": 1_704_110_400_000,
        'start: "2026-03-29 01:59:30"\n': 1_774_749_570_000,
        'start: "2026-03-29T01:59:30+02:00"\n': 1_774_742_370_000,
    }
    for start, zero_ms in begins.items():
        (test,) = played(file, (text + start).encode())
        assert test.scenario.zero_ms == zero_ms
        assert zero_ms % 86_400_000 == 43_200_000 or start


@pytest.mark.parametrize(
    ("news", "until_s"),
    [
        ('tasks: {hung.1: {pids: "1x3"}}', 4 * 15),
        ('tasks: {hung.1: {pids: "1x3 stale"}}', 4 * 15),
        ('nodes: {n1: {cpu_percent: "1x5"}}', 6 * 15),
        ('sources: {jobs: "1x6"}', 7 * 15),
        ("events: [{at: 59s, died: hung.1}]", 60),
        ("events: [{at: 60s, died: hung.1}]", 75),
        ("expect: [{at: 90s, service: hung, action: restart}]", 90),
        ("expect_held: [{at: 105s, service: hung, rule: up}]", 105),
        ("until: 30s", 30),
    ],
)
def test_a_test_goes_on_until_all_that_it_says_has_been_seen(news: str, until_s: int) -> None:
    text = f"rules: [semantics.yaml]\nstep: 15s\nservices: {{hung: {{}}}}\n{news}\n"
    (test,) = played(HERE / "semantics.test.yaml", text.encode())
    assert test.scenario.until_ms - test.scenario.zero_ms == until_s * 1_000


# what holds a rule back


def held_by() -> set[str]:
    """The names that the core gives, in its code, to what holds a rule back."""
    found = {Unable("", lasting=False).held_by}
    for file in (ROOT / "autoheal" / "core").rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                said = call.args[1:2] if call.func.id == "Loss" else []
                said += [each.value for each in call.keywords if each.arg == "held_by"]
                names = [each.value for each in said if isinstance(each, ast.Constant)]
                found |= {str(name) for name in names}
    return found


def test_a_test_can_name_whatever_holds_a_rule_back() -> None:
    assert held_by() <= set(HOLDERS)


def test_what_a_test_can_name_is_named_once() -> None:
    assert len(HOLDERS) == len(set(HOLDERS))


# settings


def test_a_setting_sets_what_it_sets_in_earnest() -> None:
    changed = dict.fromkeys(LIMIT_OF_SETTING, "77")
    changed |= {n: "77s" for n in changed if f"{n}_ms" in Settings.model_fields}
    told = limits_of(load_settings({}, overrides=changed))
    for name, limit in LIMIT_OF_SETTING.items():
        field = name if name in Settings.model_fields else f"{name}_ms"
        own = Settings.model_validate({field: changed[name]})
        assert getattr(told, limit) == getattr(own, field) != getattr(Limits(), limit)


def test_a_test_takes_the_settings_it_names_and_else_the_defaults() -> None:
    scenario = played(HERE / "semantics.test.yaml")[0].scenario
    assert scenario.limits == Limits(step_ms=15_000, group_wait_ms=0, warm_up_ms=60_000)


# what is shown


def test_what_failed_is_shown_with_what_came_instead_and_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(HERE)
    shown = str(ruletest.run([Path("failing.test.yaml")]))
    assert shown == Path("failing.golden").read_text()


def test_a_directory_is_searched_to_its_end(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    for name in ("semantics.yaml", "x.test.yaml", "y.test.yml"):
        (deep / name).write_text(
            (HERE / "semantics.yaml").read_text()
            if name == "semantics.yaml"
            else "rules: [semantics.yaml]\nservices: {web: {}}\nuntil: 5s\n"
        )
    shown = str(ruletest.run([tmp_path, deep / "x.test.yaml"]))
    expected = f"{deep}/x.test.yaml\n  ok    x\n{deep}/y.test.yml\n  ok    y\n"
    assert shown == f"{expected}2 tests in 2 files: ok\n"


# the command


def autoheal_test(*arguments: str, where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autoheal", "test", *arguments],
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_command_tests_rules_where_no_path_is_named_and_ends_well() -> None:
    done = autoheal_test(where=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    files = [line for line in done.stdout.splitlines() if line.endswith(".test.yaml")]
    assert files == [str(pack.relative_to(ROOT)) for pack in PACKS]
    assert done.stdout.endswith(f" tests in {len(PACKS)} files: ok\n")


def test_the_command_ends_with_1_if_a_test_failed() -> None:
    done = autoheal_test("failing.test.yaml", where=HERE)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (HERE / "failing.golden").read_text()


def test_the_command_ends_with_2_if_there_is_a_mistake_and_plays_nothing() -> None:
    done = autoheal_test("event-node.test.yaml", "failing.test.yaml", where=HERE / "bad")
    assert done.returncode == 2
    assert done.stdout == ""
    told = (HERE / "bad" / "event-node.expected").read_text().splitlines()
    told += ["failing.test.yaml:1:1: cannot be read: No such file or directory"]
    assert done.stderr.splitlines() == [f"autoheal: {line}" for line in told]


# the packs that ship


def name_of(pack: Path) -> str:
    """Where a pack is, below the packs that ship."""
    return str(pack.relative_to(SHIPPED))


@pytest.mark.parametrize("pack", PACKS, ids=name_of)
def test_the_tests_of_a_pack_pass(pack: Path) -> None:
    assert [each for each in results(pack) if each.failures] == []


@pytest.mark.parametrize("pack", RULES, ids=name_of)
def test_every_rule_of_a_pack_is_tested(pack: Path) -> None:
    tests = played(pack.with_suffix(".test.yaml"))
    expected = {each.rule for test in tests for each in test.scenario.expected}
    assert {rule.name for rule in load([pack]).rules.rules} <= expected


def test_no_pack_is_without_tests() -> None:
    packs = {name_of(path).removesuffix(".yaml") for path in RULES}
    assert packs == {name_of(path).removesuffix(".test.yaml") for path in PACKS}
    assert {path.parent for path in RULES} == {SHIPPED, SHIPPED / "examples"}


def test_every_key_of_a_shared_map_is_replaced_whole() -> None:
    """`web` of a test takes nothing of the `web` beside `tests`."""
    text = (
        b"rules: [semantics.yaml]\nservices: {web: {replicas: 5}, api: {}}\nuntil: 5s\n"
        b"tests:\n  - {name: a}\n  - {name: b, services: {web: {volume: true}}, until: 10s}\n"
    )
    assert isinstance(read_tree("x", text, Notes()), Map)
    one, two = (test.scenario for test in played(HERE / "semantics.test.yaml", text))
    assert [one.services["web"].replicas, two.services["web"].replicas] == [5, 2]
    assert two.services["web"].stateful
    assert set(two.services) == {"web", "api"}
    assert [(each.until_ms - each.zero_ms) for each in (one, two)] == [5_000, 10_000]
