"""What target tracking reads: which tasks count, which are not ready, which are missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.actions.track import DOWN, UP, Target, Track
from autoheal.core.decision.desired import desired
from autoheal.core.view.source_window import SourceWindow
from autoheal.core.view.swarm_view import SwarmView
from autoheal.core.view.task_rows import TaskRows
from autoheal.core.view.track_readings import Tracked, TrackFrame
from autoheal.core.view.window import Window
from autoheal.model import Service, Task
from builders import (
    MINUTE,
    NOW,
    STEP,
    batch,
    inventory,
    roster_row,
    service,
    source,
    source_value,
    task,
)

SLOTS = 5
OVER = SLOTS * STEP
SLOT = NOW // STEP
WARM_UP = MINUTE
CPU = Target(70.0, OVER, metric="throttled_percent")
JOBS = Target(50.0, OVER, source="jobs", per_task=True)
# task -> per slot of the window, oldest first, what was measured
Samples = Mapping[str, Sequence[float | None]]


def frame_of(
    tasks: Sequence[Task],
    samples: Samples,
    *,
    told: Sequence[tuple[int, float]] = (),
    services: Sequence[Service] = (service(),),
    before: Sequence[Task] = (),
) -> TrackFrame:
    view = SwarmView()
    for shown in (before, tasks):
        view.fold(inventory(services=services, tasks=shown), NOW)
    window = Window(["throttled_percent"], step_ms=STEP, longest_ms=OVER)
    for name, figures in samples.items():
        for place, figure in enumerate(figures):
            if figure is not None:
                row = roster_row(name, of=name.partition(".")[0])
                made = batch({name: [figure]}, [row], metrics=["throttled_percent"], node_id=name)
                window.fold(made, (SLOT - SLOTS + place) * STEP, {}, 1)
    sources = SourceWindow([source(stale_after_ms=STEP)], step_ms=STEP, longest_ms=OVER)
    for place, value in told:
        sources.fold(source_value(value), (SLOT - SLOTS + place) * STEP)
    ordered = sorted(services, key=lambda each: each.id)
    rows = TaskRows(window, ordered, view.spans, warm_up_ms=WARM_UP)
    targets = [CPU, JOBS]
    return TrackFrame(targets, rows, view.spans, sources, now_ms=NOW, step_ms=STEP)


def tracked(tasks: Sequence[Task], samples: Samples | None = None) -> Tracked:
    return frame_of(tasks, samples or {}).read(CPU, "web")


def test_each_ready_task_counts_with_the_mean_of_what_was_measured_of_it() -> None:
    samples: Samples = {
        "web.2": [10.0, 20.0, 30.0, 40.0, 25.0],
        "web.1": [50.0, 50.0, None, 70.0, 70.0],
        "web.3": [0.12345] * 4 + [None],
    }
    assert tracked([task("web.2"), task("web.1"), task("web.3")], samples) == Tracked(
        values=(60.0, 25.0, 0.123), total=3
    )


def test_a_ready_task_without_any_sample_is_missing() -> None:
    tasks = [task("web.1"), task("web.2")]
    assert tracked(tasks, {"web.1": [50.0] * SLOTS}) == Tracked((50.0,), missing=1, total=2)
    assert tracked(tasks) == Tracked(missing=2, total=2)


@pytest.mark.parametrize("gaps", [0, 1, 2, 4])
def test_a_ready_task_with_samples_in_less_than_four_slots_of_five_is_missing(gaps: int) -> None:
    samples = {"web.1": [None] * gaps + [50.0] * (SLOTS - gaps)}
    few = Tracked(missing=1, total=1)
    assert tracked([task()], samples) == (few if gaps > 1 else Tracked((50.0,), total=1))


loads = st.lists(st.sampled_from([0.0, 35.0, 70.0, 90.0, 100.0]), min_size=SLOTS, max_size=SLOTS)
lost_slots = st.sets(st.integers(0, SLOTS - 1)).filter(lambda slots: len(slots) != 1)


@given(st.lists(st.tuples(loads, lost_slots), min_size=1, max_size=4))
def test_removing_slots_never_asks_for_a_bolder_step(
    tasks: list[tuple[list[float], set[int]]],
) -> None:
    """Of a task that lost a lone slot of five the mean of the others counts: that is left out."""
    names = [f"web.{number}" for number in range(len(tasks))]
    whole = {name: figures for name, (figures, _) in zip(names, tasks, strict=True)}
    thinned = {
        name: [None if slot in lost else figure for slot, figure in enumerate(figures)]
        for name, (figures, lost) in zip(names, tasks, strict=True)
    }
    before, after = steps_of(names, whole), steps_of(names, thinned)
    assert after[0] <= before[0]
    assert after[1] <= before[1]


def steps_of(names: Sequence[str], rows: Samples) -> tuple[int, int]:
    """How many tasks more, and how many fewer, are asked for."""
    owner = service(replicas=len(names))
    rule = Track((CPU,), 1, 100, UP, DOWN)
    asked = desired(rule, CPU, tracked([task(name) for name in names], rows), owner).tasks
    step = 0 if asked is None else asked - len(names)
    return max(step, 0), max(-step, 0)


@pytest.mark.parametrize(
    ("age_ms", "read"),
    [
        (WARM_UP + OVER, Tracked((50.0,), total=1)),
        (WARM_UP + OVER - STEP, Tracked((50.0,), total=1)),
        (WARM_UP + OVER - STEP - 1, Tracked(missing=1, total=1)),
        (WARM_UP, Tracked(missing=1, total=1)),
        (WARM_UP - 1, Tracked(unready=1, total=1)),
    ],
)
def test_a_ready_task_is_missing_until_it_was_warm_for_four_slots_of_five(
    age_ms: int, read: Tracked
) -> None:
    assert tracked([task(since_ms=NOW - age_ms)], {"web.1": [50.0] * SLOTS}) == read


@pytest.mark.parametrize("lost", [False, True])
def test_what_a_task_takes_to_start_does_not_count(*, lost: bool) -> None:
    """Nor does it stand in for a sample of a warm slot."""
    young = task(since_ms=NOW - WARM_UP - OVER + STEP)
    figures = [400.0, 50.0, 50.0, 50.0, None if lost else 50.0]
    read = Tracked(missing=1, total=1) if lost else Tracked((50.0,), total=1)
    assert tracked([young], {"web.1": figures}) == read


@pytest.mark.parametrize(("age_ms", "unready"), [(WARM_UP, 0), (WARM_UP - 1, 1)])
def test_beside_a_source_a_task_is_ready_once_it_has_warmed_up(age_ms: int, unready: int) -> None:
    frame = frame_of([task(since_ms=NOW - age_ms)], {})
    assert frame.read(JOBS, "web") == Tracked(unready=unready, total=1)


@pytest.mark.parametrize(
    ("state", "desired", "read"),
    [
        ("new", "running", Tracked(unready=1, total=1)),
        ("pending", "running", Tracked(unready=1, total=1)),
        ("preparing", "running", Tracked(unready=1, total=1)),
        ("ready", "ready", Tracked(unready=1, total=1)),
        ("starting", "running", Tracked(unready=1, total=1)),
        ("running", "running", Tracked((50.0,), total=1)),
        # what has ended, or is to stop, is passed over
        ("running", "shutdown", Tracked()),
        ("pending", "shutdown", Tracked()),
        ("complete", "shutdown", Tracked()),
        ("failed", "shutdown", Tracked()),
        ("rejected", "shutdown", Tracked()),
        ("shutdown", "shutdown", Tracked()),
        ("orphaned", "shutdown", Tracked()),
        ("running", "remove", Tracked()),
    ],
)
def test_which_tasks_count(state: str, desired: str, read: Tracked) -> None:
    assert tracked([task(state=state, desired=desired)], {"web.1": [50.0] * SLOTS}) == read


@pytest.mark.parametrize("state", ["running", "failed", "complete", "shutdown"])
def test_a_task_that_ran_is_passed_over_once_it_has_ended_or_is_to_stop(state: str) -> None:
    stopped = task(state=state, desired="shutdown", index=11, since_ms=NOW)
    frame = frame_of([stopped], {"web.1": [50.0] * SLOTS}, before=[task()])
    assert frame.read(CPU, "web") == Tracked()


def test_only_the_complete_slots_of_the_window_count() -> None:
    figures = [10.0] * SLOTS + [99.0]
    assert tracked([task()], {"web.1": figures}).values == (10.0,)
    assert tracked([task()], {"web.1": [None] * SLOTS + [99.0]}).missing == 1


def test_services_do_not_see_each_others_tasks() -> None:
    names = ["api.1", "web.1", "web.2", "xyz.1"]
    tasks = [task(name, of=name.partition(".")[0]) for name in names]
    tasks.append(task("api.2", of="api", state="pending"))
    samples = {name: [float(place)] * SLOTS for place, name in enumerate(names)}
    services = [service("api"), service("idle"), service("web"), service("xyz")]
    frame = frame_of(tasks, samples, services=services)
    assert [frame.read(CPU, each.id) for each in services] == [
        Tracked((0.0,), unready=1, total=2),
        Tracked(),
        Tracked((1.0, 2.0), total=2),
        Tracked((3.0,), total=1),
    ]


@pytest.mark.parametrize(
    ("told", "figure"),
    [
        ([(0, 10.0), (1, 20.0), (2, 30.0), (3, 41.0), (4, 25.25)], 25.25),
        ([(0, 10.0), (1, 20.0), (2, 30.0), (3, 41.0)], None),
        ([(1, 20.0), (2, 30.0), (3, 41.0), (4, 25.25)], None),
        ([], None),
    ],
)
def test_a_source_is_read_whole_or_not_at_all(
    told: list[tuple[int, float]], figure: float | None
) -> None:
    """Also where the target is per task: the tasks are counted beside it."""
    tasks = [task("web.1"), task("web.2", since_ms=NOW - 1), task("web.3", state="pending")]
    frame = frame_of(tasks, {}, told=told)
    assert frame.read(JOBS, "web") == Tracked(unready=2, total=3, figure=figure)


@pytest.mark.parametrize("value", [math.inf, 1.7e308])
def test_a_source_that_tells_what_is_too_large_to_reckon_with_has_no_figure(value: float) -> None:
    told = [(place, value) for place in range(SLOTS)]
    assert frame_of([], {}, told=told).read(JOBS, "web").figure is None
