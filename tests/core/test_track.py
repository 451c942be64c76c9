"""How many tasks targets ask for, and how far one step may go: HPA's sentences, edge by edge."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.actions import Plan, Proposal, Subject, Track, Unable
from autoheal.actions.track import DOWN, UP, Direction, Policy, Select, Target
from autoheal.core.decision.desired import Desired, desired
from autoheal.core.decision.track import (
    Recommendation,
    highest_step,
    kept,
    lowest_step,
    proposal,
    recommend,
    remembered,
    stabilized,
)
from autoheal.core.state import TrackState
from autoheal.core.view.fold import Tracked
from autoheal.model import ActionKind, Evidence, Service
from builders import MINUTE, NOW, SECOND, STEP, service

CPU = Target(50.0, MINUTE, metric="cpu_percent")
THROTTLED = Target(150.0, MINUTE, metric="throttled_percent")
BYTES = Target(1000.0, MINUTE, metric="memory_bytes")
SHARE = Target(50.0, MINUTE, metric="memory_percent")
QUEUE = Target(50.0, MINUTE, source="jobs", per_task=True)
DELAY = Target(50.0, MINUTE, source="delay")
ALL_AT_ONCE = Policy(MINUTE, tasks=1000)
AT_ONCE = Direction(0, (ALL_AT_ONCE,))


def track(
    *targets: Target,
    least: int = 1,
    most: int = 100,
    up: Direction = UP,
    down: Direction = DOWN,
) -> Track:
    return Track(targets or (CPU,), least, most, up, down)


def of_tasks(*values: float, missing: int = 0, unready: int = 0) -> Tracked:
    return Tracked(values, missing, unready, len(values) + missing + unready)


def of_source(figure: float | None) -> Tracked:
    return Tracked(figure=figure)


def asked_of(
    tracked: Tracked,
    current: int,
    target: Target = CPU,
    of: Track | None = None,
    *,
    wants: Service | None = None,
) -> Desired:
    shown = dataclasses.replace(wants or service(), replicas=current)
    return desired(of or track(target), target, tracked, shown)


# one target


@pytest.mark.parametrize(
    ("values", "tasks"),
    [
        ((50.0,) * 10, 10),
        ((55.0,) * 10, 10),
        ((55.01,) * 10, 12),
        ((45.0,) * 10, 10),
        ((44.99,) * 10, 9),
        ((100.0,) * 10, 20),
        ((0.0,) * 10, 0),
        ((66.66,) * 3, 4),
        ((100.0, 50.0, 50.0), 4),
        ((66.67,) * 3, 5),
        ((33.33,) * 3, 2),
        ((33.34,) * 3, 3),
        # 1.2 and 1.6 times ten are no more than floating point makes of 12 and 16.
        ((60.0,) * 10, 12),
        ((80.0,) * 10, 16),
    ],
)
def test_the_ratio_times_the_ready_tasks_is_rounded_up(
    values: tuple[float, ...], tasks: int
) -> None:
    assert asked_of(of_tasks(*values), len(values)).tasks == tasks


@pytest.mark.parametrize(
    ("value", "tasks"), [(60.0, 10), (60.01, 13), (47.5, 10), (47.49, 10), (44.99, 9)]
)
def test_each_direction_has_a_tolerance_of_its_own_with_its_end_in_it(
    value: float, tasks: int
) -> None:
    up = dataclasses.replace(UP, tolerance=0.2)
    down = dataclasses.replace(DOWN, tolerance=0.05)
    asked = asked_of(of_tasks(*(value,) * 10), 10, of=track(up=up, down=down))
    assert asked.tasks == tasks


def test_no_tolerance_keeps_the_count_only_at_the_target() -> None:
    bare = track(
        up=dataclasses.replace(UP, tolerance=0.0), down=dataclasses.replace(DOWN, tolerance=0.0)
    )
    for value, tasks in ((50.0, 10), (50.01, 11), (49.0, 10), (44.9, 9)):
        assert asked_of(of_tasks(*(value,) * 10), 10, of=bare).tasks == tasks
    # A tenth of three, three times over, is the target but for floating point.
    third = dataclasses.replace(CPU, target=0.1)
    assert asked_of(of_tasks(0.1, 0.1, 0.1), 3, third, bare).tasks == 3


@pytest.mark.parametrize(
    ("values", "missing", "tasks"),
    [
        # up: as if they used nothing
        ((90.0,) * 3, 0, 6),
        ((90.0,) * 3, 1, 6),
        ((80.0, 70.0, 70.0), 1, 4),
        ((80.0, 70.0, 70.01), 1, 5),
        ((90.0,) * 3, 2, 5),
        ((90.0,) * 3, 3, 6),
        # down: as if they used all of their limit
        ((10.0,) * 4, 0, 1),
        ((10.0,) * 4, 1, 3),
        ((42.5, 42.5, 40.0), 1, 4),
        ((26.6, 26.6, 26.6), 1, 4),
        ((26.6, 26.6, 26.7), 1, 4),
        ((20.0, 20.0, 9.99), 1, 3),
        ((20.0, 20.0, 10.01), 1, 4),
        ((10.0,) * 4, 3, 7),
        ((10.0,) * 4, 4, 8),
        # at the target, or near enough: nothing can be said against no change
        ((50.0,) * 4, 4, 8),
        ((54.0,) * 4, 1, 5),
    ],
)
def test_tasks_without_a_sample_are_counted_against_the_direction(
    values: tuple[float, ...], missing: int, tasks: int
) -> None:
    current = len(values) + missing
    assert asked_of(of_tasks(*values, missing=missing), current).tasks == tasks


@pytest.mark.parametrize(("missing", "tasks"), [(0, 1), (1, 2), (2, 3)])
def test_without_a_sample_is_taken_as_the_target_where_that_is_more_than_100_percent(
    missing: int, tasks: int
) -> None:
    read = of_tasks(*(10.0,) * 3, missing=missing)
    assert asked_of(read, 3 + missing, THROTTLED).tasks == tasks


@pytest.mark.parametrize(
    ("values", "missing", "unready", "tasks"),
    [
        ((90.0,) * 3, 0, 1, 6),
        ((90.0,) * 2, 0, 2, 4),
        ((80.0, 70.0, 70.0), 0, 1, 4),
        ((80.0, 70.0, 70.01), 0, 1, 5),
        ((100.0,) * 4, 1, 1, 8),
        # down: passed over
        ((20.0,) * 3, 0, 2, 2),
        ((20.0,) * 3, 1, 2, 4),
    ],
)
def test_tasks_that_are_not_ready_use_nothing_on_the_way_up_and_are_passed_over_on_the_way_down(
    values: tuple[float, ...], missing: int, unready: int, tasks: int
) -> None:
    current = len(values) + missing + unready
    read = of_tasks(*values, missing=missing, unready=unready)
    assert asked_of(read, current).tasks == tasks


@pytest.mark.parametrize(
    ("read", "current"),
    [
        (of_tasks(90.0, 90.0), 10),
        (of_tasks(90.0, 90.0, 90.0, missing=1), 10),
        (of_tasks(*(40.0,) * 5), 2),
        (of_tasks(*(20.0,) * 4, missing=1), 2),
    ],
)
def test_a_ratio_never_leads_against_its_direction(read: Tracked, current: int) -> None:
    asked = asked_of(read, current)
    assert asked.tasks == current
    assert asked.points is not None


@pytest.mark.parametrize("read", [of_tasks(), of_tasks(missing=3), of_tasks(unready=3)])
def test_without_any_sample_nothing_is_asked_for(read: Tracked) -> None:
    asked = asked_of(read, 3)
    assert (asked.tasks, asked.figure, asked.points) == (None, None, None)
    assert asked.words == "no ready task has a sample of cpu_percent"


@pytest.mark.parametrize(
    ("target", "of"),
    [
        (CPU, service(cpu_limit=None)),
        (SHARE, service(memory_limit=None)),
        (BYTES, service()),
    ],
)
@pytest.mark.parametrize(
    ("share", "missing", "tasks"), [(0.2, 0, 1), (0.2, 1, 4), (1.8, 0, 6), (1.8, 1, 6)]
)
def test_what_nothing_caps_asks_for_no_fewer_while_a_sample_is_missing(
    target: Target, of: Service, share: float, missing: int, tasks: int
) -> None:
    values = (target.target * share,) * 3
    asked = asked_of(of_tasks(*values, missing=missing), 3 + missing, target, wants=of)
    assert asked.tasks == tasks


def test_what_nothing_caps_may_ask_for_fewer_while_tasks_are_not_ready() -> None:
    assert asked_of(of_tasks(100.0, 100.0, 100.0, unready=2), 5, BYTES).tasks == 1


def test_a_share_of_a_limit_counts_as_100_percent_at_most() -> None:
    assert asked_of(of_tasks(104.0, 104.0), 2).tasks == 4
    assert asked_of(of_tasks(104.0, 104.0), 2, wants=service(cpu_limit=None)).tasks == 5


@pytest.mark.parametrize(
    ("figure", "current", "tasks"),
    [
        (200.0, 4, 4),
        (220.0, 4, 4),
        (220.01, 4, 5),
        (180.0, 4, 4),
        (179.99, 4, 4),
        (150.0, 4, 3),
        (150.01, 4, 4),
        (500.0, 4, 10),
        (500.01, 4, 11),
        (0.0, 4, 0),
        (-7.0, 4, 0),
        (150.0, 7, 3),
    ],
)
def test_a_source_per_task_asks_for_as_many_as_share_it_at_the_target(
    figure: float, current: int, tasks: int
) -> None:
    assert asked_of(of_source(figure), current, QUEUE).tasks == tasks


@pytest.mark.parametrize(
    ("figure", "current", "tasks"),
    [
        (50.0, 4, 4),
        (55.0, 4, 4),
        (55.01, 4, 5),
        (45.0, 4, 4),
        (37.5, 4, 3),
        (37.51, 4, 4),
        (100.0, 4, 8),
        (100.01, 4, 9),
        (0.0, 4, 0),
    ],
)
def test_a_source_of_the_service_scales_the_present_count(
    figure: float, current: int, tasks: int
) -> None:
    assert asked_of(of_source(figure), current, DELAY).tasks == tasks


@pytest.mark.parametrize("target", [QUEUE, DELAY])
@pytest.mark.parametrize("figure", [None, math.inf, -math.inf])
def test_a_source_without_a_value_asks_for_nothing(target: Target, figure: float | None) -> None:
    asked = asked_of(of_source(figure), 3, target)
    assert asked == Desired(f"the source {target.source} has no value for all of its time")


def test_no_figure_asks_for_more_tasks_than_can_be_counted() -> None:
    assert asked_of(of_source(1e300), 3, DELAY).tasks == 1_000_000


# several targets


@pytest.mark.parametrize(
    ("cpu", "queue", "replicas", "held_by", "points"),
    [
        (of_tasks(*(80.0,) * 5), of_source(250.0), 8, "", None),
        (of_tasks(*(80.0,) * 5), of_source(500.0), 10, "", None),
        (of_tasks(*(20.0,) * 5), of_source(150.0), 3, "", None),
        (of_tasks(*(20.0,) * 5), of_source(250.0), 5, "", None),
        # one of them unknown: no fewer
        (of_tasks(missing=5), of_source(500.0), 10, "", None),
        (of_tasks(missing=5), of_source(250.0), 5, "", None),
        (of_tasks(missing=5), of_source(150.0), 5, "no-data", ActionKind.SCALE_DOWN),
        (of_tasks(*(20.0,) * 5), of_source(None), 5, "no-data", ActionKind.SCALE_DOWN),
        # all of them
        (of_tasks(missing=5), of_source(None), 5, "no-data", None),
        # kept for what is missing
        (of_tasks(90.0, 90.0, missing=3), of_source(250.0), 5, "missing-data", ActionKind.SCALE_UP),
        (of_tasks(90.0, 90.0, missing=3), of_source(100.0), 5, "missing-data", ActionKind.SCALE_UP),
        (of_tasks(5.0, 5.0, missing=3), of_source(100.0), 5, "missing-data", ActionKind.SCALE_DOWN),
        (of_tasks(5.0, 5.0, missing=3), of_source(250.0), 5, "", None),
        (of_tasks(5.0, 5.0, missing=3), of_source(400.0), 8, "", None),
    ],
)
def test_the_target_that_asks_for_most_decides_and_an_unknown_one_forbids_less(
    cpu: Tracked, queue: Tracked, replicas: int, held_by: str, points: ActionKind | None
) -> None:
    for targets in ((CPU, QUEUE), (QUEUE, CPU)):
        found = recommend(track(*targets), {CPU: cpu, QUEUE: queue}, service(replicas=5))
        assert (found.replicas, found.held_by, found.points) == (replicas, held_by, points)


def test_the_figures_of_all_targets_are_evidence() -> None:
    read = {CPU: of_tasks(80.0, 81.0), QUEUE: of_source(50.0), DELAY: of_source(None)}
    found = recommend(track(CPU, QUEUE, DELAY), read, service(replicas=2))
    assert found.evidence == (
        Evidence("mean cpu_percent over 1m", 80.5, "target 50"),
        Evidence("mean jobs per task over 1m", 25.0, "target 50"),
    )
    assert found.words == (
        "cpu_percent: 1.61 x 2 tasks -> 4, jobs: 0.5 x 2 tasks -> 1, "
        "delay: the source delay has no value for all of its time"
    )


# stabilization


def windows(up_ms: int, down_ms: int) -> Track:
    return track(
        up=dataclasses.replace(AT_ONCE, stabilization_ms=up_ms),
        down=dataclasses.replace(AT_ONCE, stabilization_ms=down_ms),
    )


@pytest.mark.parametrize(
    ("up_s", "down_s", "past", "current", "newest", "stable"),
    [
        (0, 0, [(10, 9), (5, 1)], 5, 7, 7),
        (0, 0, [(10, 9), (5, 1)], 5, 3, 3),
        # down: the most of the window
        (0, 300, [(299, 4)], 5, 3, 4),
        (0, 300, [(300, 4)], 5, 3, 3),
        (0, 300, [(100, 9)], 5, 3, 5),
        (0, 300, [(100, 2)], 5, 3, 3),
        # up: the least of the window
        (60, 300, [(59, 6)], 5, 8, 6),
        (60, 300, [(60, 6)], 5, 8, 8),
        (60, 300, [(30, 2)], 5, 8, 5),
        (60, 300, [(30, 9)], 5, 8, 8),
        # neither makes the other bolder
        (60, 300, [(30, 9), (20, 2)], 5, 5, 5),
        (60, 300, [(30, 2)], 5, 3, 3),
        (60, 300, [(30, 9)], 5, 3, 5),
    ],
)
def test_up_takes_the_least_of_its_window_and_down_the_most_of_its_own(
    up_s: int, down_s: int, past: list[tuple[int, int]], current: int, newest: int, stable: int
) -> None:
    rule = windows(up_s * SECOND, down_s * SECOND)
    dated = [(NOW - ago * SECOND, replicas) for ago, replicas in past]
    assert stabilized(rule, [*dated, (NOW, newest)], current, NOW) == stable


def test_a_rule_that_is_new_begins_with_the_present_count() -> None:
    rule = windows(MINUTE, 5 * MINUTE)
    asked = (NOW, 3)
    new = remembered(rule, TrackState(hash="h"), asked, current=5, is_new=True)
    assert new.hash == "h"
    assert new.recommendations == ((NOW, 5), (NOW, 3))
    old = TrackState(((NOW - MINUTE, 4),), hash="h")
    assert remembered(rule, old, asked, current=5, is_new=True) == new
    later = remembered(rule, old, asked, current=5, is_new=False)
    assert later.recommendations == ((NOW - MINUTE, 4), (NOW, 3))


ticks = st.lists(
    st.tuples(st.integers(0, 40 * SECOND), st.integers(0, 9), st.integers(1, 9)), min_size=1
)
window = st.sampled_from([0, 1, STEP, MINUTE, 2 * MINUTE])


@given(moves=ticks, up_ms=window, down_ms=window)
def test_what_is_kept_tells_the_same_as_all_that_was_ever_asked_for(
    moves: list[tuple[int, int, int]], up_ms: int, down_ms: int
) -> None:
    rule, now_ms = windows(up_ms, down_ms), NOW
    everything: list[tuple[int, int]] = []
    short: tuple[tuple[int, int], ...] = ()
    for after_ms, replicas, current in moves:
        now_ms += after_ms
        everything.append((now_ms, replicas))
        short = kept(rule, (*short, (now_ms, replicas)), now_ms)
        with_newest = (*short, (now_ms, replicas))
        expected = stabilized(rule, everything, current, now_ms)
        assert stabilized(rule, with_newest, current, now_ms) == expected
        # Ten counts can be told apart: falling ones for the way down, rising ones for the way up.
        assert len(short) <= 19
        assert set(short) <= set(everything)
        assert all(now_ms - ms < max(up_ms, down_ms) for ms, _ in short)


def test_a_count_that_stays_is_kept_once() -> None:
    rule = windows(MINUTE, 5 * MINUTE)
    dated = [(NOW + ms, 4) for ms in range(0, MINUTE, STEP)]
    assert kept(rule, dated, NOW + MINUTE - STEP) == (dated[-1],)


# policies


def steps(*policies: Policy, select: Select = Select.MAX) -> Direction:
    return Direction(0, policies, select)


TASKS, PERCENT = Policy(MINUTE, tasks=4), Policy(MINUTE, percent=50.0)
LONG = Policy(10 * MINUTE, tasks=4)


@pytest.mark.parametrize(
    ("direction", "current", "scaled", "highest"),
    [
        (steps(TASKS), 10, [], 14),
        (steps(TASKS), 10, [(59, 3)], 11),
        (steps(TASKS), 10, [(60, 3)], 14),
        (steps(TASKS), 10, [(59, 4)], 10),
        (steps(TASKS), 10, [(59, 9)], 10),
        (steps(TASKS), 10, [(59, -3)], 17),
        (steps(TASKS), 10, [(50, 3), (30, -2), (10, 1)], 12),
        (steps(PERCENT), 10, [], 15),
        (steps(PERCENT), 1, [], 2),
        (steps(PERCENT), 3, [], 5),
        (steps(PERCENT), 10, [(59, 4)], 10),
        (steps(PERCENT), 15, [(59, 5)], 15),
        (steps(Policy(MINUTE, percent=10.0)), 10, [], 11),
        (steps(Policy(MINUTE, percent=10.0)), 11, [], 13),
        # 110.00000000000001 in floating point.
        (steps(Policy(MINUTE, percent=10.0)), 100, [], 110),
        (steps(Policy(MINUTE, percent=1.0)), 100, [], 101),
        (steps(TASKS, PERCENT), 6, [], 10),
        (steps(TASKS, PERCENT), 10, [], 15),
        (steps(TASKS, PERCENT, select=Select.MIN), 6, [], 9),
        (steps(TASKS, PERCENT, select=Select.MIN), 10, [], 14),
        (steps(TASKS, LONG, select=Select.MIN), 10, [(120, 4)], 10),
        (steps(TASKS, LONG), 10, [(120, 4)], 14),
        (steps(TASKS, select=Select.DISABLED), 10, [], 10),
        (UP, 1, [], 5),
        (UP, 4, [], 8),
        (UP, 5, [], 10),
    ],
)
def test_a_step_up_counts_from_the_start_of_the_policys_time(
    direction: Direction, current: int, scaled: list[tuple[int, int]], highest: int
) -> None:
    dated = [(NOW - ago * SECOND, change) for ago, change in scaled]
    assert highest_step(direction, current, dated, NOW) == highest


@pytest.mark.parametrize(
    ("direction", "current", "scaled", "lowest"),
    [
        (steps(TASKS), 10, [], 6),
        (steps(TASKS), 10, [(59, -3)], 9),
        (steps(TASKS), 10, [(60, -3)], 6),
        (steps(TASKS), 10, [(59, -4)], 10),
        (steps(TASKS), 10, [(59, -9)], 10),
        (steps(TASKS), 10, [(59, 2)], 4),
        (steps(PERCENT), 10, [], 5),
        (steps(PERCENT), 5, [], 2),
        (steps(PERCENT), 1, [], 0),
        (steps(PERCENT), 5, [(59, -5)], 5),
        (steps(Policy(MINUTE, percent=10.0)), 10, [], 9),
        (steps(Policy(MINUTE, percent=10.0)), 11, [], 9),
        (steps(Policy(MINUTE, percent=10.0)), 2, [], 1),
        (steps(Policy(MINUTE, percent=30.0)), 10, [], 7),
        (steps(TASKS, PERCENT), 6, [], 2),
        (steps(TASKS, PERCENT), 10, [], 5),
        (steps(TASKS, PERCENT, select=Select.MIN), 6, [], 3),
        (steps(TASKS, PERCENT, select=Select.MIN), 10, [], 6),
        (steps(TASKS, LONG, select=Select.MIN), 10, [(120, -4)], 10),
        (steps(TASKS, select=Select.DISABLED), 10, [], 10),
        (DOWN, 10, [], 0),
    ],
)
def test_a_step_down_counts_from_the_start_of_the_policys_time(
    direction: Direction, current: int, scaled: list[tuple[int, int]], lowest: int
) -> None:
    dated = [(NOW - ago * SECOND, change) for ago, change in scaled]
    assert lowest_step(direction, current, dated, NOW) == lowest


def test_steps_are_forgotten_once_no_policy_looks_at_them() -> None:
    rule = track(up=steps(TASKS, LONG), down=steps(TASKS))
    scaled = ((NOW - 10 * MINUTE, 1), (NOW - 10 * MINUTE + 1, 2), (NOW - 1, 3))
    state = remembered(rule, TrackState((), scaled), (NOW, 5), current=5, is_new=False)
    assert state.scaled == scaled[1:]


# what is proposed, and in which words


def asking(replicas: int) -> Recommendation:
    evidence = (Evidence("mean cpu_percent over 1m", 84.2, "target 50"),)
    return Recommendation(replicas, f"1.2 x 3 tasks -> {replicas}", evidence)


def proposed(
    rule: Track,
    replicas: int,
    current: int = 5,
    *,
    past: tuple[tuple[int, int], ...] = (),
    scaled: tuple[tuple[int, int], ...] = (),
    minimum: int | None = None,
    maximum: int | None = None,
) -> Proposal | None:
    subject = Subject(service(replicas=current), current, minimum, maximum)
    return proposal(rule, asking(replicas), TrackState(past, scaled), subject, NOW)


FIGURES = "mean cpu_percent over 1m is 84.2, target 50: "
SLOW = dataclasses.replace(AT_ONCE, stabilization_ms=5 * MINUTE)
RECENT = NOW - MINUTE
OFF = dataclasses.replace(AT_ONCE, select=Select.DISABLED)
ONE_STEP = steps(Policy(MINUTE, tasks=1))


@pytest.mark.parametrize(
    ("found", "kind", "target", "words"),
    [
        (
            proposed(track(up=AT_ONCE), 7),
            ActionKind.SCALE_UP,
            7,
            "1.2 x 3 tasks -> 7; policy allows 1005",
        ),
        (
            proposed(track(up=SLOW), 8, past=((RECENT, 6),)),
            ActionKind.SCALE_UP,
            6,
            "1.2 x 3 tasks -> 8; 5m stabilization keeps 6; policy allows 1005",
        ),
        (
            proposed(track(up=ONE_STEP), 9),
            ActionKind.SCALE_UP,
            6,
            "1.2 x 3 tasks -> 9; policy allows 6",
        ),
        (
            proposed(track(up=AT_ONCE, most=6), 9),
            ActionKind.SCALE_UP,
            6,
            "1.2 x 3 tasks -> 9; policy allows 1005; the rule's maximum is 6",
        ),
        (
            proposed(track(up=AT_ONCE, most=9), 9, maximum=8),
            ActionKind.SCALE_UP,
            8,
            "1.2 x 3 tasks -> 9; policy allows 1005; its label autoheal.max is 8",
        ),
        (
            proposed(track(down=SLOW), 2, past=((RECENT, 4),)),
            ActionKind.SCALE_DOWN,
            4,
            "1.2 x 3 tasks -> 2; 5m stabilization keeps 4; policy allows 0",
        ),
        (
            proposed(track(down=AT_ONCE, least=1), 0),
            ActionKind.SCALE_DOWN,
            1,
            "1.2 x 3 tasks -> 0; policy allows 0; the rule's minimum is 1",
        ),
        (
            proposed(track(down=AT_ONCE, least=1), 1, minimum=3),
            ActionKind.SCALE_DOWN,
            3,
            "1.2 x 3 tasks -> 1; policy allows 0; its label autoheal.min is 3",
        ),
    ],
)
def test_a_plan_tells_how_it_came_about(
    found: Proposal | None, kind: ActionKind, target: int, words: str
) -> None:
    assert found is not None
    assert found.kind is kind
    way = "up" if kind is ActionKind.SCALE_UP else "down"
    assert found.plan == Plan(5, target, f"{words}: scale {way} from 5 to {target}")
    assert found.evidence == asking(0).evidence


@pytest.mark.parametrize(
    ("found", "kind", "held_by", "lasting", "words"),
    [
        (
            proposed(track(up=SLOW), 8, past=((RECENT, 4),)),
            ActionKind.SCALE_UP,
            "stabilization",
            False,
            FIGURES + "1.2 x 3 tasks -> 8; 5m stabilization keeps 5",
        ),
        (
            proposed(track(down=SLOW), 2, past=((RECENT, 6),)),
            ActionKind.SCALE_DOWN,
            "stabilization",
            False,
            FIGURES + "1.2 x 3 tasks -> 2; 5m stabilization keeps 5",
        ),
        (
            proposed(track(up=ONE_STEP), 8, scaled=((RECENT + 1, 1),)),
            ActionKind.SCALE_UP,
            "policy",
            False,
            FIGURES + "1.2 x 3 tasks -> 8; policy allows 5",
        ),
        (
            proposed(track(up=OFF), 8),
            ActionKind.SCALE_UP,
            "policy",
            False,
            FIGURES + "1.2 x 3 tasks -> 8; scaling up is disabled",
        ),
        (
            proposed(track(down=OFF), 2),
            ActionKind.SCALE_DOWN,
            "policy",
            False,
            FIGURES + "1.2 x 3 tasks -> 2; scaling down is disabled",
        ),
        # It is forbidden on purpose: that comes before bounds and waiting.
        (
            proposed(track(up=OFF, most=5), 8),
            ActionKind.SCALE_UP,
            "policy",
            False,
            FIGURES + "1.2 x 3 tasks -> 8; scaling up is disabled",
        ),
        (
            proposed(track(up=OFF), 8, maximum=5),
            ActionKind.SCALE_UP,
            "policy",
            False,
            FIGURES + "1.2 x 3 tasks -> 8; scaling up is disabled",
        ),
        (
            proposed(track(down=dataclasses.replace(SLOW, select=Select.DISABLED), least=5), 2),
            ActionKind.SCALE_DOWN,
            "policy",
            False,
            FIGURES + "1.2 x 3 tasks -> 2; scaling down is disabled",
        ),
        (
            proposed(track(up=ONE_STEP, most=5), 8, scaled=((RECENT + 1, 1),)),
            ActionKind.SCALE_UP,
            "bound",
            True,
            FIGURES + "1.2 x 3 tasks -> 8; 5 replicas, and the rule's maximum is 5",
        ),
        (
            proposed(track(up=AT_ONCE, most=4), 8),
            ActionKind.SCALE_UP,
            "bound",
            True,
            FIGURES + "1.2 x 3 tasks -> 8; 5 replicas, and the rule's maximum is 4",
        ),
        (
            proposed(track(up=AT_ONCE), 8, maximum=5),
            ActionKind.SCALE_UP,
            "bound",
            True,
            FIGURES + "1.2 x 3 tasks -> 8; 5 replicas, and its label autoheal.max is 5",
        ),
        (
            proposed(track(down=AT_ONCE, least=5), 2),
            ActionKind.SCALE_DOWN,
            "bound",
            False,
            FIGURES + "1.2 x 3 tasks -> 2; 5 replicas, and the rule's minimum is 5",
        ),
        (
            proposed(track(down=AT_ONCE, least=7), 2),
            ActionKind.SCALE_DOWN,
            "bound",
            False,
            FIGURES + "1.2 x 3 tasks -> 2; 5 replicas, and the rule's minimum is 7",
        ),
        # On the far side of a bound it is left, even where a step would lead towards it.
        (
            proposed(track(up=ONE_STEP, least=7), 9),
            ActionKind.SCALE_UP,
            "bound",
            True,
            "6 replicas are still below the rule's minimum, 7",
        ),
        (
            proposed(track(up=ONE_STEP), 9, minimum=7),
            ActionKind.SCALE_UP,
            "bound",
            True,
            "6 replicas are still below its label autoheal.min, 7",
        ),
        (
            proposed(track(down=ONE_STEP, most=3), 2),
            ActionKind.SCALE_DOWN,
            "bound",
            True,
            "4 replicas are still above the rule's maximum, 3",
        ),
        (
            proposed(track(down=ONE_STEP), 2, maximum=3),
            ActionKind.SCALE_DOWN,
            "bound",
            True,
            "4 replicas are still above its label autoheal.max, 3",
        ),
    ],
)
def test_what_stops_a_step_is_told_with_all_that_came_before(
    found: Proposal | None, kind: ActionKind, held_by: str, lasting: bool, words: str
) -> None:
    assert found is not None
    assert found.kind is kind
    assert found.plan == Unable(words, lasting=lasting, held_by=held_by)


@pytest.mark.parametrize(
    ("rule", "replicas", "target"),
    [
        (track(up=ONE_STEP, least=6), 9, 6),
        (track(up=AT_ONCE, least=7), 8, 8),
        (track(down=ONE_STEP, most=4), 1, 4),
    ],
)
def test_a_step_that_ends_within_the_bounds_may_begin_outside(
    rule: Track, replicas: int, target: int
) -> None:
    found = proposed(rule, replicas)
    assert found is not None
    assert isinstance(found.plan, Plan)
    assert found.plan.target == target


def test_what_asks_for_the_present_count_proposes_nothing_whatever_was_asked_for_before() -> None:
    rule = track(up=SLOW, down=SLOW)
    assert proposed(rule, 5, past=((RECENT, 9), (RECENT + 1, 1))) is None


def told(read: Tracked, current: int, *targets: Target, wants: Service | None = None) -> str:
    """What one tick says with no history: its plan, or what stops it."""
    rule = track(*targets, down=AT_ONCE)
    of = dataclasses.replace(wants or service(), replicas=current)
    asked = recommend(rule, dict.fromkeys(rule.targets, read), of)
    found = proposal(rule, asked, TrackState(), Subject(of), NOW)
    return "" if found is None else found.plan.words


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("", of_tasks(55.0, 55.0)),
        ("1.6 x 2 tasks -> 4; policy allows 6: scale up from 2 to 4", of_tasks(80.0, 80.0)),
        (
            "1.8 x 1 task; with 1 not ready as 0, 0.9 x 2 tasks, so 2 stay",
            of_tasks(90.0, unready=1),
        ),
        (
            "0.2 x 1 task; with 1 without a sample as 100, 1.1 x 2 tasks, so 2 stay",
            of_tasks(10.0, missing=1),
        ),
        (
            "2 x 2 tasks; with 1 without a sample and 1 not ready as 0, 1 x 4 tasks, so 2 stay",
            of_tasks(100.0, 100.0, missing=1, unready=1),
        ),
    ],
)
def test_the_words_for_what_is_known_and_what_is_not(words: str, read: Tracked) -> None:
    figure = f"mean cpu_percent over 1m is {read.values[0]:g}, target 50: "
    assert told(read, 2).removeprefix(figure) == words


def test_the_words_for_what_nothing_caps() -> None:
    assert told(of_tasks(10.0, missing=1), 2, wants=service(cpu_limit=None)).endswith(
        "0.2 x 1 task; 1 without a sample may use any amount, so 2 stay"
    )


# what always holds

percent = st.floats(0, 120).map(lambda value: round(value, 3))
metric_targets = st.sampled_from([CPU, THROTTLED, BYTES, SHARE])
bound = st.none() | st.integers(1, 12)
policy = st.builds(Policy, st.just(MINUTE), tasks=st.integers(1, 5)) | st.builds(
    Policy, st.just(MINUTE), percent=st.floats(1, 150)
)
direction = st.builds(
    Direction,
    st.sampled_from([0, STEP, MINUTE]),
    st.lists(policy, min_size=1, max_size=3).map(tuple),
    st.sampled_from(Select),
    st.sampled_from([0.0, 0.1, 0.3]),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """What was asked for, and what was done, in the last two minutes."""
    ages = draw(st.lists(st.integers(0, 2 * MINUTE), max_size=6))
    past = tuple((NOW - ago, draw(st.integers(0, 12))) for ago in sorted(ages, reverse=True))
    done = draw(st.lists(st.integers(0, 2 * MINUTE), max_size=3))
    scaled = tuple((NOW - ago, draw(st.integers(-4, 4))) for ago in sorted(done, reverse=True))
    return past, scaled


@given(
    asks=st.integers(0, 20),
    current=st.integers(1, 14),
    bounds=st.tuples(st.integers(1, 12), st.integers(1, 12)).map(sorted),
    labels=st.tuples(bound, bound),
    up=direction,
    down=direction,
    history=histories(),
)
def test_a_plan_ends_within_all_bounds_no_farther_than_asked_for_or_allowed(
    asks: int,
    current: int,
    bounds: list[int],
    labels: tuple[int | None, int | None],
    up: Direction,
    down: Direction,
    history: tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]],
) -> None:
    rule = Track((CPU,), bounds[0], bounds[1], up, down)
    past, scaled = history
    found = proposed(
        rule, asks, current, past=past, scaled=scaled, minimum=labels[0], maximum=labels[1]
    )
    if found is None:
        assert asks == current
        return
    is_up = asks > current
    assert found.kind is (ActionKind.SCALE_UP if is_up else ActionKind.SCALE_DOWN)
    if isinstance(found.plan, Unable):
        return
    target = found.plan.target
    lowest, highest = labels[0] or 1, labels[1] or 20
    assert max(rule.min, lowest) <= target <= min(rule.max, highest)
    if is_up:
        assert current < target <= min(asks, highest_step(up, current, scaled, NOW))
        assert all(target <= n for ms, n in past if NOW - ms < up.stabilization_ms)
    else:
        assert current > target >= max(asks, lowest_step(down, current, scaled, NOW))
        assert all(target >= n for ms, n in past if NOW - ms < down.stabilization_ms)


@st.composite
def thinned(draw: st.DrawFn) -> tuple[Tracked, Tracked]:
    """A reading, and the same with some of its samples lost."""
    values = draw(st.lists(percent, min_size=1, max_size=8))
    missing, unready = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    left = tuple(value for value in values if draw(st.booleans()))
    whole = of_tasks(*values, missing=missing, unready=unready)
    return whole, of_tasks(*left, missing=missing + len(values) - len(left), unready=unready)


def is_bolder(one: int, other: int, current: int) -> bool:
    """Whether `one` leads farther from the present count than `other` does."""
    return one > max(current, other) or one < min(current, other)


services = st.sampled_from([service(), service(cpu_limit=None), service(memory_limit=None)])


@given(pair=thinned(), current=st.integers(1, 12), target=metric_targets, of=services)
def test_a_lost_sample_makes_no_target_bolder(
    pair: tuple[Tracked, Tracked], current: int, target: Target, of: Service
) -> None:
    whole, rest = (asked_of(each, current, target, wants=of).tasks for each in pair)
    assert whole is not None
    if rest is not None:
        assert not is_bolder(rest, whole, current)


@given(
    pairs=st.lists(st.tuples(thinned(), thinned()), min_size=1, max_size=6),
    current=st.integers(1, 12),
    up_ms=window,
    down_ms=window,
)
def test_lost_samples_make_no_step_bolder_whenever_they_were_lost(
    pairs: list[tuple[tuple[Tracked, Tracked], tuple[Tracked, Tracked]]],
    current: int,
    up_ms: int,
    down_ms: int,
) -> None:
    rule = dataclasses.replace(windows(up_ms, down_ms), targets=(CPU, SHARE))
    steps_taken = []
    for version in (0, 1):
        state = TrackState()
        stable = current
        for place, (cpu, share) in enumerate(pairs):
            now_ms = NOW + place * 20 * SECOND
            read = {CPU: cpu[version], SHARE: share[version]}
            asked = (now_ms, recommend(rule, read, service(replicas=current)).replicas)
            state = remembered(rule, state, asked, current=current, is_new=place == 0)
            dated = (*state.recommendations, asked)
            stable = stabilized(rule, dated, current, now_ms)
        steps_taken.append(stable)
    whole, rest = steps_taken
    assert not is_bolder(rest, whole, current)


@given(
    values=st.lists(st.floats(45.0, 55.0).map(lambda value: round(value, 3)), min_size=1),
    missing=st.integers(0, 5),
    unready=st.integers(0, 5),
    current=st.integers(1, 40),
)
def test_inside_the_tolerance_nothing_moves(
    values: list[float], missing: int, unready: int, current: int
) -> None:
    asked = asked_of(of_tasks(*values, missing=missing, unready=unready), current)
    assert (asked.tasks, asked.points) == (current, None)


@given(values=st.lists(percent, min_size=1, max_size=8), data=st.data())
def test_the_order_of_tasks_and_of_targets_makes_no_difference(
    values: list[float], data: st.DataObject
) -> None:
    of, shuffled = service(replicas=len(values)), data.draw(st.permutations(values))
    one = recommend(track(CPU, SHARE), {CPU: of_tasks(*values), SHARE: of_tasks(50.0)}, of)
    same = recommend(track(CPU, SHARE), {CPU: of_tasks(*shuffled), SHARE: of_tasks(50.0)}, of)
    assert same == one
    other = recommend(track(SHARE, CPU), {CPU: of_tasks(*values), SHARE: of_tasks(50.0)}, of)
    assert (other.replicas, other.held_by, other.points) == (one.replicas, one.held_by, one.points)
    assert other.evidence == one.evidence[::-1]
