"""Each check warns at its edge, and is silent just before it."""

import re
from pathlib import Path

import pytest

from autoheal.lint import CODES, lines, lint
from autoheal.rulefile.language import Reader
from autoheal.rulefile.meaning import rule_set
from autoheal.rulefile.mistakes import Notes

PAGE = (Path(__file__).parents[2] / "docs" / "lint.md").read_text()

CPU = "{metric: cpu_percent, over: 2m, above: 80}"
IDLE = "{metric: cpu_percent, over: 15m, below: 20}"
UP = f"{{name: up, when: {CPU}, then: {{action: scale_up, max: 10}}, cooldown: 3m}}"
DOWN = f"{{name: down, when: {IDLE}, then: {{action: scale_down, min: 2}}, cooldown: 15m}}"
SOURCES = {
    "jobs": "jobs: {redis: 'redis://queue', list: jobs}",
    "orders": "orders: {prometheus: 'http://prometheus', query: orders_total}",
}


def warnings(*rules: str, unused: str = "") -> list[str]:
    named = [text for name, text in SOURCES.items() if f"source: {name}" in "".join(rules)]
    defined = [*named, *([SOURCES[unused]] if unused else [])]
    text = f"sources: {{{', '.join(defined)}}}\n" if defined else ""
    text += "rules:\n" + "".join(f"  - {rule}\n" for rule in rules)
    notes = Notes()
    reader = Reader(notes)
    reader.open("x.yaml", text.encode())
    read = reader.rules()
    notes.raise_if_any()
    return lines(lint(rule_set(read, reader.sources), reader.sources), {})


def codes(*rules: str) -> set[str]:
    return {re.findall(r"\[([a-z-]+)\]$", line)[0] for line in warnings(*rules)}


def scale_up(
    when: str = CPU, then: str = "max: 10", rest: str = "cooldown: 30m", name: str = "up"
) -> str:
    return f"{{name: {name}, when: {when}, then: {{action: scale_up, {then}}}, {rest}}}"


def scale_down(
    when: str = IDLE, then: str = "min: 2", rest: str = "cooldown: 30m", name: str = "down"
) -> str:
    return f"{{name: {name}, when: {when}, then: {{action: scale_down, {then}}}, {rest}}}"


def restart(when: str, rest: str, name: str = "again") -> str:
    return f"{{name: {name}, when: {when}, then: {{action: restart}}, {rest}}}"


def escalate(when: str, rest: str = "for: 0s", name: str = "tell") -> str:
    return f"{{name: {name}, when: {when}, then: {{action: escalate}}, {rest}}}"


def track(
    then: str = "min: 2, max: 9",
    rest: str = "priority: 0",
    name: str = "follow",
    figure: str = "cpu_percent",
) -> str:
    targets = f"targets: [{{metric: {figure}, over: 1m, target: 70}}]"
    return f"{{name: {name}, then: {{action: track, {targets}, {then}}}, {rest}}}"


def metric(name: str, comparison: str, over: str = "15m", more: str = "") -> str:
    return f"{{metric: {name}, over: {over}, {comparison}{more}}}"


SAFE = "limit: {times: 1, per: 1h}, clears_within: 5m"
HIGH_MEMORY = metric("memory_percent", "above: 85")
LOW_MEMORY = metric("memory_percent", "below: 30")
MEMORY_FALLS = metric("memory_percent", "at_most: 0", more=", over_time: slope")
OOM = "{event: oom_killed, over: 10m, at_least: 1}"
DIED = "{event: died, over: 10m, at_least: 5}"

ROWS: dict[str, tuple[list[tuple[str, ...]], list[tuple[str, ...]]]] = {
    "memory-scale-up": (
        [
            (scale_up(HIGH_MEMORY),),
            (scale_up(metric("memory_bytes", "at_least: 1")),),
            (scale_up(metric("memory_percent", "above: 1", more=", over_time: slope")),),
            (scale_up(f"{{any: [{CPU}, {HIGH_MEMORY}]}}"),),
            (scale_up(f"{{all: [{HIGH_MEMORY}, not: {OOM}]}}"),),
            (scale_up(f"{{all: [{HIGH_MEMORY}, {metric('tasks_stable', 'at_least: 100')}]}}"),),
            (track("min: 1, max: 3", figure="memory_percent"),),
        ],
        [
            (scale_up(CPU),),
            (scale_up(f"{{all: [{CPU}, {HIGH_MEMORY}]}}"),),
            (scale_up(f"{{all: [{{source: jobs, over: 2m, above: 9}}, {HIGH_MEMORY}]}}"),),
            (scale_up(f"{{all: [{CPU}, {LOW_MEMORY}]}}"),),
            (escalate(HIGH_MEMORY),),
            (restart(HIGH_MEMORY, SAFE),),
            (track(),),
        ],
    ),
    "memory-scale-down": (
        [
            (UP, scale_down(LOW_MEMORY)),
            (UP, scale_down(f"{{all: [{IDLE}, {LOW_MEMORY}]}}")),
            (UP, scale_down(f"{{not: {{any: [{CPU}, {HIGH_MEMORY}]}}}}")),
        ],
        [
            (UP, scale_down(IDLE)),
            (UP, scale_down(f"{{any: [{IDLE}, {LOW_MEMORY}]}}")),
            (UP, scale_down(f"{{all: [{IDLE}, {HIGH_MEMORY}]}}")),
            (
                UP,
                scale_down(f"{{all: [{IDLE}, {MEMORY_FALLS}]}}"),
            ),
            (escalate(LOW_MEMORY),),
        ],
    ),
    "no-limit": (
        [
            (restart(CPU, "clears_within: 5m"),),
            (f"{{name: a, when: {OOM}, then: {{action: raise_memory, max: 1GiB}}}}",),
        ],
        [(restart(CPU, SAFE),), (UP,), (escalate(CPU),)],
    ),
    "no-clears-within": (
        [(restart(CPU, "limit: {times: 1, per: 1h}"),)],
        [
            (restart(CPU, SAFE),),
            (f"{{name: a, when: {OOM}, then: {{action: raise_memory, max: 1GiB}}}}",),
        ],
    ),
    "short-cooldown": (
        [
            (scale_up(rest="cooldown: 119s"),),
            (scale_up(rest="priority: 1"),),
            (UP, scale_down(rest="cooldown: 14m")),
            (
                scale_up(
                    f"{{any: [{CPU}, {metric('pids', 'above: 9', '5m')}]}}", rest="cooldown: 2m"
                ),
            ),
        ],
        [
            (scale_up(rest="cooldown: 2m"),),
            (scale_up(rest="limit: {times: 1, per: 10m}"),),
            (UP, DOWN),
            (restart(CPU, SAFE),),
        ],
    ),
    "short-window": (
        [
            (scale_up(metric("cpu_percent", "above: 80", "14s")),),
            (escalate(f"{{not: {metric('pids', 'above: 80', '1s')}}}"),),
            (escalate("{source: jobs, over: 29s, above: 1, over_time: slope}"),),
            (escalate("{source: orders, over: 15s, above: 1, over_time: rate}"),),
        ],
        [
            (scale_up(metric("cpu_percent", "above: 80", "15s")),),
            (escalate("{source: jobs, over: 30s, above: 1, over_time: slope}"),),
            (escalate("{source: jobs, over: 1s, above: 1}"),),
            (escalate("{event: oom_killed, over: 1s, at_least: 1}"),),
        ],
    ),
    "short-down-window": (
        [
            (UP, scale_down(metric("cpu_percent", "below: 20", "599s"))),
            (UP, scale_down(metric("cpu_percent", "below: 20", "5m"), rest="for: 4m59s")),
        ],
        [
            (UP, scale_down(metric("cpu_percent", "below: 20", "10m"))),
            (UP, scale_down(metric("cpu_percent", "below: 20", "5m"), rest="for: 5m")),
            (scale_up(metric("cpu_percent", "above: 80", "1m")),),
        ],
    ),
    "pointless-for": (
        [
            (escalate(metric("pids", "above: 9", "10m", ", over_time: min"), "for: 10m"),),
            (escalate(metric("pids", "below: 9", "10m", ", over_time: max"), "for: 1s"),),
            (escalate("{source: jobs, over: 10m, above: 1, over_time: min}", "for: 1m"),),
        ],
        [
            (escalate(metric("pids", "above: 9", "10m", ", over_time: min"), "for: 10m1s"),),
            (escalate(metric("pids", "above: 9", "10m", ", over_time: min"), "for: 0s"),),
            (escalate(metric("pids", "below: 9", "10m", ", over_time: min"), "for: 1m"),),
            (escalate(metric("pids", "above: 9", "10m"), "for: 1m"),),
            (escalate(OOM, "for: 1m"),),
        ],
    ),
    "rate-of-gauge": (
        [(escalate(metric("memory_bytes", "above: 9", more=", over_time: rate")),)],
        [
            (escalate(metric("memory_bytes", "above: 9", more=", over_time: slope")),),
            (escalate("{source: orders, over: 5m, above: 9, over_time: rate}"),),
        ],
    ),
    "counts-deploys": (
        [
            (escalate(DIED),),
            (escalate(f"{{any: [{DIED}, {OOM}]}}"),),
        ],
        [
            (escalate(f"{{all: [{DIED}, {metric('tasks_missing', 'at_least: 1')}]}}"),),
            (escalate("{event: task_failed, over: 10m, at_least: 5}"),),
            (escalate("{event: died, over: 10m, at_most: 5}"),),
        ],
    ),
    "out-of-reach": (
        [
            (escalate(metric("memory_percent", "above: 100")),),
            (escalate(metric("memory_percent", "at_least: 100.1")),),
            (escalate(metric("memory_percent", "at_most: 100")),),
            (escalate(metric("tasks_stable", "below: 0")),),
            (escalate(metric("pids", "at_least: 0")),),
            (escalate(metric("cpu_percent", "below: 0")),),
        ],
        [
            (escalate(metric("memory_percent", "at_least: 100")),),
            (escalate(metric("memory_percent", "below: 100")),),
            (escalate(metric("tasks_stable", "at_most: 0")),),
            (escalate(metric("pids", "above: 0")),),
            (escalate(metric("cpu_percent", "above: 150")),),
            (
                escalate(
                    metric("memory_percent", "above: 120", more=", over_time: forecast, ahead: 1h")
                ),
            ),
            (escalate("{source: jobs, over: 5m, at_least: 0}"),),
        ],
    ),
    "flapping": (
        [
            # 80 with 2 tasks is 53.3 with 3, 80 with 1 is 40 with 2.
            (UP, scale_down(metric("cpu_percent", "below: 53.4"))),
            (UP, scale_down(metric("cpu_percent", "below: 40.1"), "min: 1")),
            (scale_up(then="max: 10, by: 2"), scale_down(metric("cpu_percent", "below: 40.1"))),
            (scale_up(then="max: 3, by: 2"), scale_down(metric("cpu_percent", "below: 53.4"))),
            (
                scale_up(metric("cpu_percent", "at_least: 60")),
                scale_down(metric("cpu_percent", "at_most: 40")),
            ),
            (UP, scale_down(f"{{all: [{metric('cpu_percent', 'below: 60')}, {LOW_MEMORY}]}}")),
            (UP, scale_down(f"{{any: [{metric('cpu_percent', 'below: 60')}, {IDLE}]}}")),
            (
                scale_up(f"{{any: [{CPU}, {HIGH_MEMORY}]}}"),
                scale_down(metric("memory_percent", "below: 86")),
            ),
            (
                scale_up("{source: jobs, over: 5m, above: 60, per: task}"),
                scale_down("{source: jobs, over: 15m, below: 41, per: task}"),
            ),
            (
                scale_up("{source: jobs, over: 5m, above: 60}"),
                scale_down("{source: jobs, over: 15m, below: 61}"),
            ),
        ],
        [
            (UP, DOWN),
            (UP, scale_down(metric("cpu_percent", "below: 53.3"))),
            (UP, scale_down(metric("cpu_percent", "below: 40"), "min: 1")),
            (scale_up(then="max: 10, by: 2"), scale_down(metric("cpu_percent", "below: 40"))),
            (scale_up(then="max: 3, by: 2"), scale_down(metric("cpu_percent", "below: 50"))),
            (scale_up(then="max: 2"), scale_down(metric("cpu_percent", "below: 85"))),
            (scale_up(OOM), scale_down(metric("cpu_percent", "below: 60"))),
            (scale_up("{source: jobs, over: 5m, above: 9}"), scale_down(IDLE)),
            (UP, scale_down(metric("cpu_percent", "below: 60", more=", over_time: slope"))),
            (
                scale_up(metric("cpu_percent", "above: 60")),
                scale_down(metric("cpu_percent", "at_most: 40")),
            ),
            (
                scale_up("{source: jobs, over: 5m, above: 60}"),
                scale_down("{source: jobs, over: 15m, below: 60}"),
            ),
            (UP, scale_down(f"{{all: [{metric('cpu_percent', 'below: 60')}, {IDLE}]}}")),
            (UP, scale_down(metric("cpu_percent", "below: 60", more=", over_tasks: max"))),
            (UP, scale_down(metric("cpu_percent", "below: 60"), rest="mode: dry-run")),
            (
                scale_up(rest="match: {service: a}"),
                scale_down(metric("cpu_percent", "below: 60"), rest="match: {service: b}"),
            ),
            (scale_up(then="max: 2"), scale_down(metric("cpu_percent", "below: 60"))),
        ],
    ),
    "narrow-band": (
        [
            (UP, scale_down(metric("cpu_percent", "below: 70.1"), "min: 9")),
            (scale_up(HIGH_MEMORY), scale_down(metric("memory_percent", "below: 85"))),
            (track("min: 2, max: 9, up: {tolerance: 0.04}"),),
            (track("min: 2, max: 9, down: {tolerance: 0}"),),
        ],
        [
            (UP, scale_down(metric("cpu_percent", "below: 70"), "min: 9")),
            (UP, scale_down(metric("cpu_percent", "below: 75"))),
            (scale_up(metric("pids", "above: 85")), scale_down(metric("pids", "below: 85"))),
            (track("min: 2, max: 9, up: {tolerance: 0.05}"),),
            (track("min: 2, max: 9, down: {tolerance: 0, select: disabled}"),),
        ],
    ),
    "bounds": (
        [
            (scale_up(then="max: 2"), scale_down()),
            (scale_up(then="max: 1"), scale_down()),
            (track("min: 3, max: 3"),),
        ],
        [
            (scale_up(then="max: 3"), scale_down()),
            (
                scale_up(then="max: 2", rest="match: {service: a}"),
                scale_down(rest="match: {service: b}"),
            ),
            (track("min: 3, max: 4"),),
        ],
    ),
    "never-acts": (
        [
            (scale_up(), scale_up(metric("cpu_percent", "above: 90", "2m"), name="very")),
            (scale_up(rest="for: 1m"), scale_up(rest="for: 1m", name="very")),
            (scale_up(rest="priority: 1", name="z"), scale_up(name="a")),
            (scale_down(name="a"), scale_down(metric("cpu_percent", "below: 10"), "min: 2")),
            (scale_up(), scale_up(rest="match: {service: web}", name="very")),
            (scale_down(name="a"), scale_down(metric("cpu_percent", "below: 10"), "min: 3")),
            (restart(CPU, SAFE), restart(metric("cpu_percent", "above: 90", "2m"), SAFE, "b")),
            (escalate(CPU), scale_up(metric("cpu_percent", "above: 90", "2m"))),
            (escalate(CPU), restart(f"{{all: [{CPU}, {OOM}]}}", SAFE)),
            (restart(metric("cpu_percent", "below: 30"), SAFE), scale_down()),
        ],
        [
            (scale_up(), scale_up(metric("cpu_percent", "above: 90", "2m"), name="a")),
            (scale_up(), scale_up(metric("cpu_percent", "above: 70", "2m"), name="very")),
            (
                scale_up(),
                scale_up(metric("cpu_percent", "above: 90", "2m"), "max: 11", name="very"),
            ),
            (scale_up(rest="for: 2m"), scale_up(rest="for: 1m", name="very")),
            (scale_up(rest="match: {service: web}"), scale_up(name="very")),
            (scale_up(), scale_up(rest="mode: dry-run", name="very")),
            (scale_up(rest="schedule: {days: sun}"), scale_up(name="very")),
            (scale_down(name="a"), scale_down(then="min: 1")),
            (restart(OOM, SAFE), restart(OOM, SAFE, "b")),
            (escalate(CPU), escalate(CPU, name="b")),
            (scale_up(), escalate(metric("cpu_percent", "above: 90", "2m"))),
            # At the maximum the restart is free to act.
            (scale_up(), restart(metric("cpu_percent", "above: 90", "2m"), SAFE)),
            (track(), escalate(CPU)),
        ],
    ),
    "tracked-too": (
        [
            (track(), scale_up()),
            (track(rest="match: {service: 'a*'}"), scale_down(rest="match: {service: '*b'}")),
            (track(), track(name="also")),
        ],
        [
            (track(rest="match: {service: a}"), scale_up(rest="match: {service: b}")),
            (track(), scale_up(rest="mode: dry-run")),
            (track(), escalate(CPU)),
            (track(), restart(CPU, SAFE)),
            (track(rest="schedule: {days: sat-sun}"), scale_up(rest="schedule: {days: mon-fri}")),
        ],
    ),
    "one-way-down": (
        [(DOWN,), (scale_up(rest="match: {service: a}"), scale_down(rest="match: {service: b}"))],
        [(UP, DOWN), (track(), DOWN), (UP,), (scale_up(rest="mode: dry-run"), DOWN)],
    ),
}
FIRING = [(code, rules) for code, (rows, _) in ROWS.items() for rules in rows]
SILENT = [(code, rules) for code, (_, rows) in ROWS.items() for rules in rows]


@pytest.mark.parametrize(("code", "rules"), FIRING)
def test_a_check_warns(code: str, rules: tuple[str, ...]) -> None:
    assert code in codes(*rules)


@pytest.mark.parametrize(("code", "rules"), SILENT)
def test_a_check_is_silent(code: str, rules: tuple[str, ...]) -> None:
    assert code not in codes(*rules)


def test_a_source_that_no_rule_uses_is_told() -> None:
    told = "source jobs: is never read, for no rule uses it (use it, or remove it) [unused-source]"
    assert warnings(UP, unused="jobs") == [told]
    assert warnings(escalate("{source: jobs, over: 1m, above: 1}")) == []


def test_each_check_has_its_rows_and_its_paragraph() -> None:
    assert {*ROWS, "unused-source"} == set(CODES)
    assert re.findall(r"^### (.+)$", PAGE, re.MULTILINE) == list(CODES)


def test_a_pair_is_told_once() -> None:
    assert len(warnings(track(), track(name="also"))) == 1


def test_what_may_be_is_not_said_to_be() -> None:
    (may,) = warnings(
        track(rest="match: {service: 'a*'}"), scale_up(rest="cooldown: 3m, match: {service: '*b'}")
    )
    (sure,) = warnings(
        track(rest="match: {service: 'a*'}"), scale_up(rest="cooldown: 3m, match: {service: ab}")
    )
    assert "up: may scale what follow tracks" in may
    assert "up: scales what follow tracks" in sure


def test_the_way_back_is_told_in_figures() -> None:
    (line,) = warnings(UP, scale_down(metric("cpu_percent", "below: 60")))
    assert line == (
        "rule down: undoes what up does: 80 with 2 tasks is 53.3 with 3, and 60 asks for the way"
        " back (a threshold well under 53.3, or a higher min) [flapping]"
    )


def test_a_band_is_told_from_the_threshold_that_keeps_the_other_from_flapping() -> None:
    overlapping, narrow = (metric("cpu_percent", f"below: {bound}") for bound in (85, 71))
    (line,) = warnings(UP, scale_down(f"{{all: [{overlapping}, {narrow}]}}", "min: 9"))
    assert "begins 9 points below where up does" in line


def test_of_two_rules_that_hold_together_the_one_of_lower_priority_never_acts() -> None:
    (line,) = warnings(scale_up(rest="cooldown: 2m, priority: 1", name="z"), UP)
    assert line.startswith("rule up: never acts: wherever it holds z does too")
