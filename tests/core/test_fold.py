"""From stream entries to the snapshot: order, spoilt entries, and what is forgotten."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal import records
from autoheal.actions.track import Target, Track
from autoheal.core.limits import Limits
from autoheal.core.rule import Aggregate, Comparison, MetricCondition, Rule
from autoheal.core.view.fold import (
    ENDED_TASKS_KEPT_MS,
    KEPT_MS,
    Fold,
    Happening,
    NodeLoad,
    ServiceTasks,
    Snapshot,
    SourceState,
    Tracked,
)
from autoheal.metrics import METRICS
from autoheal.model import (
    COMMAND_RESET,
    Command,
    Event,
    Intent,
    OutcomeKind,
    ServiceMode,
    Verdict,
)
from builders import (
    CPU_HIGH,
    HOUR,
    MINUTE,
    NOW,
    STEP,
    batch,
    container_of,
    escalate,
    event,
    event_condition,
    inventory,
    metric_condition,
    node,
    outcome,
    roster_row,
    rule,
    rule_set,
    scale_up,
    service,
    source,
    source_condition,
    source_value,
    task,
)

OOM = event_condition(over_ms=10 * MINUTE)
JOBS = Target(50.0, MINUTE, source="jobs", per_task=True)
CPU = Target(70.0, MINUTE, metric="cpu_percent")
RESET = Command(COMMAND_RESET, "web", "", "someone")
RULES = rule_set(scale_up(), escalate(when=OOM))
LIMITS = Limits(warm_up_ms=0)


def fold(limits: Limits = LIMITS) -> Fold:
    return Fold(RULES, limits)


def take(into: Fold, stream: str, fields: Mapping[str, bytes], at_ms: int = NOW) -> None:
    assert into.fold(stream, at_ms, at_ms, fields) is None


def test_it_is_ready_after_the_first_whole_inventory() -> None:
    made, ready = fold(), []
    for keyframe in (False, True):
        take(made, records.INVENTORY, records.pack_inventory(inventory(keyframe=keyframe)))
        ready.append(made.ready)
    assert ready == [False, True]


def test_a_snapshot_shows_what_was_folded() -> None:
    made = fold()
    shown = inventory(
        services=[service("web"), service("api")],
        tasks=[task("web.1"), task("web.2"), task("web.3", desired="shutdown")],
        nodes=[node("b"), node("a")],
    )
    take(made, records.INVENTORY, records.pack_inventory(shown), NOW - 3)
    roster = [roster_row("web.1"), roster_row("web.2")]
    for slot in range(24, 0, -1):
        figures = {"web.1": [0.8], "web.2": [1.0]}
        packed = records.pack_samples(batch(figures, roster))
        take(made, records.SAMPLES, packed, NOW - slot * STEP)
    take(made, records.EVENTS, records.pack_event(event()), NOW - 1)
    applied = outcome("d", OutcomeKind.APPLIED)
    take(made, records.OUTCOMES, records.pack_outcome(applied), NOW - 1)
    intent = Intent("d", "web", 1, "executor")
    take(made, records.INTENTS, records.pack_intent(intent), NOW - 2)
    take(made, records.COMMANDS, records.pack_command(RESET), NOW - 1)
    seen = made.snapshot(now_ms=NOW, since_ms=0, epoch=7)
    assert seen.epoch == 7
    assert seen.inventory_at_ms == NOW - 3
    assert [each.id for each in seen.services] == ["api", "web"]
    assert [each.id for each in seen.nodes] == ["a", "b"]
    assert seen.tasks == {
        "web": ServiceTasks(running=("web.1", "web.2"), current=2, hosts={"node-1": 2}, wanted=2),
        "api": ServiceTasks(wanted=2),
    }
    assert seen.loads == {"node-1": NodeLoad(10.0, 20.0, 8 * 2**30)}
    assert set(seen.readings) == {CPU_HIGH}
    reading = seen.readings[CPU_HIGH].of("web")
    assert (reading.verdict, reading.value) == (Verdict.TRUE, 90.0)
    killed = Happening(NOW - 1, "web.1", 137, memory_limit=2**30)
    assert seen.events == {("oom_killed", "web"): (killed,)}
    assert [(each.ms, each.record) for each in seen.outcomes] == [(NOW - 1, applied)]
    assert [(each.ms, each.record) for each in seen.intents] == [(NOW - 2, intent)]
    assert [(each.ms, each.record) for each in seen.commands] == [(NOW - 1, RESET)]


def test_nothing_folded_gives_an_empty_snapshot() -> None:
    seen = fold().snapshot(now_ms=NOW, since_ms=0, epoch=1)
    assert (seen.services, seen.nodes, seen.inventory_at_ms) == ((), (), 0)
    assert (seen.tasks, seen.loads, seen.events) == ({}, {}, {})


def test_events_are_kept_in_the_order_of_their_own_times() -> None:
    made = fold()
    for at_ms in (NOW, NOW - 5, NOW - 2, NOW - 5):
        take(made, records.EVENTS, records.pack_event(event()), at_ms)
    seen = made.snapshot(now_ms=NOW, since_ms=0, epoch=1)
    times = [each.ms for each in seen.events["oom_killed", "web"]]
    assert times == [NOW - 5, NOW - 2, NOW]


@pytest.mark.parametrize("stream", [*Fold.STREAMS, "another"])
def test_a_spoilt_entry_is_told_and_changes_nothing(stream: str) -> None:
    made = fold()
    assert made.fold(stream, NOW, NOW, {"body": b"{", "rows": b"\xff"})
    assert made.snapshot(now_ms=NOW, since_ms=0, epoch=1).events == {}


@pytest.mark.parametrize(("age_ms", "kept"), [(10 * MINUTE - 1, True), (10 * MINUTE, False)])
def test_events_that_no_rule_looks_back_to_are_forgotten(age_ms: int, *, kept: bool) -> None:
    made = fold()
    take(made, records.EVENTS, records.pack_event(event()), NOW - age_ms)
    made.forget(NOW)
    assert bool(made.snapshot(now_ms=NOW, since_ms=0, epoch=1).events) is kept


@pytest.mark.parametrize(("age_ms", "kept"), [(KEPT_MS, True), (KEPT_MS + 1, False)])
def test_outcomes_intents_and_commands_outlast_a_change_of_leader(
    age_ms: int, *, kept: bool
) -> None:
    made = fold()
    packed = records.pack_outcome(outcome("d", OutcomeKind.APPLIED))
    take(made, records.OUTCOMES, packed, NOW - age_ms)
    intent = records.pack_intent(Intent("d", "web", 1, "executor"))
    take(made, records.INTENTS, intent, NOW - age_ms)
    take(made, records.COMMANDS, records.pack_command(RESET), NOW - age_ms)
    made.forget(NOW)
    seen = made.snapshot(now_ms=NOW, since_ms=0, epoch=1)
    assert [bool(each) for each in (seen.outcomes, seen.intents, seen.commands)] == [kept] * 3


def test_only_what_came_after_the_last_tick_is_news() -> None:
    made = fold()
    packed = records.pack_outcome(outcome("d", OutcomeKind.APPLIED))
    take(made, records.OUTCOMES, packed, NOW - 10)
    take(made, records.INTENTS, records.pack_intent(Intent("d", "web", 1, "x")), NOW - 10)
    take(made, records.COMMANDS, records.pack_command(RESET), NOW - 10)
    for since_ms, news in ((NOW - 10, True), (NOW - 9, False)):
        seen = made.snapshot(now_ms=NOW, since_ms=since_ms, epoch=1)
        assert [bool(each) for each in (seen.outcomes, seen.intents, seen.commands)] == [news] * 3


def test_events_stay_for_as_long_as_an_outage_is_told_by_them() -> None:
    made = Fold(rule_set(scale_up()), LIMITS)
    for age_ms in (LIMITS.outage_window_ms, LIMITS.outage_window_ms - 1):
        take(made, records.EVENTS, records.pack_event(event()), NOW - age_ms)
    made.forget(NOW)
    [kept] = made.snapshot(now_ms=NOW, since_ms=0, epoch=1).events.values()
    assert [each.ms for each in kept] == [NOW - LIMITS.outage_window_ms + 1]


# what is derived


def died(exit_code: int, *, stopped: bool = False) -> dict[str, bytes]:
    container = container_of("web.1")
    told = Event("died", "web", "web.1", container, "node-1", exit_code, None, stopped)
    return records.pack_event(told)


def test_a_crash_that_node_and_swarm_tell_of_is_one_failure() -> None:
    made = fold()
    running = inventory(services=[service()], tasks=[task()])
    take(made, records.INVENTORY, records.pack_inventory(running), NOW)
    take(made, records.EVENTS, died(3), NOW + 5)
    failed = task(state="failed", desired="shutdown", since_ms=NOW + 6, exit_code=3, index=11)
    later = inventory(services=[service()], tasks=[failed], clock_ms=NOW + 9)
    take(made, records.INVENTORY, records.pack_inventory(later), NOW + 9)
    seen = made.snapshot(now_ms=NOW + 10, since_ms=0, epoch=1)
    assert seen.events["task_failed", "web"] == (Happening(NOW + 5, "web.1", 3),)


def test_a_task_that_swarm_stopped_on_purpose_is_no_failure() -> None:
    made = fold()
    steps = [task(), task(desired="shutdown", index=11), task(state="failed", index=12)]
    for index, shown in enumerate(steps):
        packed = records.pack_inventory(inventory(services=[service()], tasks=[shown]))
        take(made, records.INVENTORY, packed, NOW + index)
    take(made, records.EVENTS, died(143, stopped=True), NOW + 1)
    seen = made.snapshot(now_ms=NOW + 10, since_ms=0, epoch=1)
    assert {kind for kind, _ in seen.events} == {"died"}


@pytest.mark.parametrize(
    ("told_ms", "missing"),
    [
        pytest.param(None, 0.0, id="it ended by itself"),
        pytest.param(5 * MINUTE, 1.0, id="Swarm stopped it for its health"),
        pytest.param(10 * MINUTE, 0.0, id="so long ago that no rule looks back to it"),
    ],
)
def test_a_completed_task_is_missing_only_if_it_was_told_unhealthy(
    told_ms: int | None, missing: float
) -> None:
    condition = of_service("tasks_missing")
    long_ago = event_condition(over_ms=10 * MINUTE)
    made = Fold(rule_set(escalate("a", when=condition), escalate("b", when=long_ago)), LIMITS)
    if told_ms is not None:
        ill = dataclasses.replace(event("unhealthy"), exit_code=None, memory_limit=None)
        take(made, records.EVENTS, records.pack_event(ill), NOW - told_ms)
    done = task(state="complete", desired="shutdown", since_ms=NOW - 20 * MINUTE)
    for slot in range(12, 0, -1):
        at_ms = NOW - slot * STEP
        whole = inventory(services=[service(replicas=1)], tasks=[done], clock_ms=at_ms)
        take(made, records.INVENTORY, records.pack_inventory(whole), at_ms)
        made.forget(at_ms)
    seen = made.snapshot(now_ms=NOW, since_ms=0, epoch=1)
    assert seen.tasks["web"].finished == 1 - missing
    assert seen.readings[condition].of("web").value == missing


@pytest.mark.parametrize(("ago_ms", "lately"), [(HOUR - 1, ("node-1",)), (HOUR, ())])
def test_a_node_that_came_back_is_remembered_for_the_node_hold(
    ago_ms: int, lately: tuple[str, ...]
) -> None:
    made = fold(dataclasses.replace(LIMITS, node_hold_ms=HOUR))
    steps = [(node(), task()), (node(state="down", index=11), task(desired="shutdown", index=11))]
    steps.append((node(index=12), task("web.2")))
    for index, (shown, of_node) in enumerate(steps):
        whole = inventory(services=[service()], tasks=[of_node], nodes=[shown], index=100 + index)
        take(made, records.INVENTORY, records.pack_inventory(whole), NOW - ago_ms - 2 + index)
    made.forget(NOW)
    seen = made.snapshot(now_ms=NOW, since_ms=0, epoch=1)
    assert (seen.tasks["web"].lost_on, seen.tasks["web"].lost_lately) == ((), lately)


def test_a_rejected_task_is_told_with_its_reason() -> None:
    made = fold()
    rejected = task(state="rejected", since_ms=NOW - 2, error="No such image: web:9")
    packed = records.pack_inventory(inventory(services=[service()], tasks=[rejected]))
    take(made, records.INVENTORY, packed, NOW)
    seen = made.snapshot(now_ms=NOW + 1, since_ms=0, epoch=1)
    expected = Happening(NOW - 2, "web.1", reason="image")
    assert seen.events == {("task_rejected", "web"): (expected,)}
    assert seen.tasks["web"].complaint == "No such image: web:9"


@pytest.mark.parametrize("task_first", [True, False])
def test_a_kill_whose_limit_the_node_did_not_know_has_that_of_the_task(*, task_first: bool) -> None:
    made = fold()
    told = dataclasses.replace(event(), memory_limit=None)
    kill = (records.EVENTS, records.pack_event(told))
    limited = inventory(services=[service()], tasks=[task(memory_limit=64)])
    show = (records.INVENTORY, records.pack_inventory(limited))
    for stream, packed in (show, kill) if task_first else (kill, show):
        take(made, stream, packed)
    seen = made.snapshot(now_ms=NOW + 1, since_ms=0, epoch=1)
    assert [each.memory_limit for each in seen.events["oom_killed", "web"]] == [64]


# conditions on services


def of_service(metric: str, **more: object) -> MetricCondition:
    made = metric_condition(metric, MINUTE, Comparison.AT_LEAST, 1.0)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]  # any field by name


def steps_of(condition: MetricCondition, shown: Sequence[str]) -> Snapshot:
    """A service that wants two tasks, whose second is in these states in the last slots."""
    made = Fold(rule_set(escalate(when=condition)), LIMITS)
    for index, state in enumerate(shown):
        at_ms = NOW + MINUTE - (len(shown) - index) * STEP
        tasks = [task("web.1"), task("web.2", state=state, index=10 + index, since_ms=at_ms)]
        whole = inventory(services=[service()], tasks=tasks, clock_ms=at_ms)
        take(made, records.INVENTORY, records.pack_inventory(whole), at_ms)
    return made.snapshot(now_ms=NOW + MINUTE, since_ms=0, epoch=1)


@pytest.mark.parametrize(
    ("over_time", "states", "verdict", "value"),
    [
        (Aggregate.MIN, ["pending"] * 12, Verdict.TRUE, 1.0),
        (Aggregate.MIN, ["pending"] * 11 + ["running"], Verdict.FALSE, 0.0),
        (Aggregate.MAX, ["running"] * 12, Verdict.FALSE, 0.0),
        (Aggregate.MAX, ["running"] * 11 + ["failed"], Verdict.TRUE, 1.0),
        (Aggregate.MEAN, ["pending"] * 6 + ["running"] * 6, Verdict.FALSE, 0.5),
        (Aggregate.SLOPE, ["pending"] * 6 + ["running"] * 6, Verdict.FALSE, -1.51049),
        # ten slots of twelve are enough, with the missing ones filled in as calm
        (Aggregate.MAX, ["pending"] * 10, Verdict.TRUE, 1.0),
        (Aggregate.MEAN, ["pending"] * 10, Verdict.FALSE, 0.833),
        (Aggregate.MIN, ["pending"] * 10, Verdict.FALSE, 0.0),
        (Aggregate.MIN, ["pending"] * 9, Verdict.NO_DATA, 0.0),
    ],
)
def test_a_condition_on_a_service_is_read_over_time(
    over_time: Aggregate, states: list[str], verdict: Verdict, value: float
) -> None:
    condition = of_service("tasks_missing", over_time=over_time)
    seen = steps_of(condition, states)
    reading = seen.readings[condition].of("web")
    assert reading.verdict is verdict
    assert reading.value == pytest.approx(value)


def test_who_is_not_heard_of_shows_though_no_rule_names_a_measured_metric() -> None:
    condition = of_service("tasks_blind", over_time=Aggregate.MIN)
    made = Fold(rule_set(escalate(when=condition)), LIMITS)
    tasks = [task("web.1"), task("web.2")]
    whole = records.pack_inventory(inventory(services=[service()], tasks=tasks))
    take(made, records.INVENTORY, whole, NOW)
    for slot in range(12):
        at_ms = NOW + slot * STEP
        heard = batch({"web.1": [1.0]}, [roster_row()], metrics=["memory_bytes"])
        take(made, records.SAMPLES, records.pack_samples(heard), at_ms)
        take(made, records.INVENTORY, records.pack_inventory(inventory(keyframe=False)), at_ms)
    seen = made.snapshot(now_ms=NOW + 12 * STEP, since_ms=0, epoch=1)
    reading = seen.readings[condition].of("web")
    assert (reading.verdict, reading.value) == (Verdict.TRUE, 1.0)


@pytest.mark.parametrize("cpu", [95.0, 50.0])
def test_saturated_nodes_are_told_by_their_own_figures(cpu: float) -> None:
    condition = of_service("nodes_saturated", threshold=100.0)
    limits = dataclasses.replace(LIMITS, saturated_window_ms=STEP)
    made = Fold(rule_set(escalate(when=condition)), limits)
    for slot in range(12):
        at_ms = NOW + slot * STEP
        told = batch({}, [])
        told = dataclasses.replace(told, figures=dataclasses.replace(told.figures, cpu_percent=cpu))
        whole = inventory(services=[service()], nodes=[node()], clock_ms=at_ms)
        take(made, records.INVENTORY, records.pack_inventory(whole), at_ms)
        take(made, records.SAMPLES, records.pack_samples(told), at_ms)
    seen = made.snapshot(now_ms=NOW + 12 * STEP, since_ms=0, epoch=1)
    assert seen.readings[condition].of("web").verdict is (
        Verdict.TRUE if cpu == 95.0 else Verdict.FALSE
    )
    assert seen.loads["node-1"].cpu_percent == cpu


# sources and targets


def track(*targets: Target, match: str = "*") -> Rule:
    return rule("workers", Track(targets, min=1, max=10), OOM, match=match)


def told(value: float | None, error: str = "") -> dict[str, bytes]:
    return records.pack_source(source_value(value, error))


def test_a_source_is_folded_and_read() -> None:
    condition = source_condition(per_task=True)
    made = Fold(rule_set(escalate(when=condition), sources=[source()]), LIMITS)
    whole = inventory(services=[service()], tasks=[task("web.1"), task("web.2")])
    take(made, records.INVENTORY, records.pack_inventory(whole), NOW - MINUTE)
    for at_ms in range(NOW - MINUTE, NOW, STEP):
        take(made, records.INVENTORY, records.pack_inventory(inventory(keyframe=False)), at_ms)
    take(made, records.SOURCES, told(120.0), NOW - MINUTE)
    take(made, records.SOURCES, told(None, "timed out"), NOW - 1)
    seen = made.snapshot(now_ms=NOW, since_ms=0, epoch=1)
    assert set(seen.readings) == {condition}
    reading = seen.readings[condition].of("web")
    assert (reading.verdict, reading.value) == (Verdict.TRUE, 60.0)
    assert seen.sources == {"jobs": SourceState(120.0, MINUTE, "timed out", NOW - 1)}
    assert seen.tracked == {}


def test_targets_are_read_for_the_services_that_their_rule_matches() -> None:
    rules = rule_set(track(CPU, JOBS, match="web"), sources=[source()])
    made = Fold(rules, LIMITS)
    tasks = [task("web.1"), task("web.2", state="pending"), task("api.1", of="api")]
    whole = inventory(services=[service("web"), service("api")], tasks=tasks)
    take(made, records.INVENTORY, records.pack_inventory(whole), NOW - MINUTE)
    sampled = records.pack_samples(batch({"web.1": [0.5]}, [roster_row("web.1")]))
    for at_ms in range(NOW - MINUTE, NOW, STEP):
        take(made, records.SAMPLES, sampled, at_ms)
    take(made, records.SOURCES, told(120.0), NOW - MINUTE)
    seen = made.snapshot(now_ms=NOW, since_ms=0, epoch=1)
    assert seen.tracked == {
        ("web", CPU): Tracked((50.0,), unready=1, total=2),
        ("web", JOBS): Tracked(unready=1, total=2, figure=120.0),
    }


def test_a_value_from_before_the_window_is_remembered_for_as_long_as_it_counts() -> None:
    condition = source_condition()
    made = Fold(rule_set(escalate(when=condition), sources=[source()]), LIMITS)
    take(made, records.INVENTORY, records.pack_inventory(inventory(services=[service()])), NOW)
    for at_ms, value in ((NOW - 90_000, 70.0), (NOW - MINUTE, 90.0)):
        take(made, records.SOURCES, told(value), at_ms)
        made.forget(NOW)
    assert made.snapshot(now_ms=NOW, since_ms=0, epoch=1).readings[condition].of("web").value == 90
    made.forget(NOW - 30_000)
    seen = made.snapshot(now_ms=NOW - 30_000, since_ms=0, epoch=1)
    assert seen.readings[condition].of("web").value == 80.0


# forgetting, and how entries are cut

EVERYTHING = rule_set(
    scale_up(),
    *(escalate(each.name, when=of_service(each.name)) for each in METRICS if each.of_service),
    escalate("leak", when=metric_condition("memory_percent", MINUTE, over_time=Aggregate.SLOPE)),
    escalate("jobs", when=source_condition(over_time=Aggregate.P90)),
    escalate("jobs-each", when=source_condition(per_task=True)),
    escalate(when=OOM),
    track(CPU, JOBS),
    sources=[source()],
)
Entry = tuple[str, int, Mapping[str, bytes]]


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """Some minutes of two tasks and two nodes that come to all kinds of states."""
    entries: list[Entry] = []
    states = ["pending", "preparing", "running", "running", "failed", "rejected", "shutdown"]
    states += ["complete", "complete"]
    pace_ms = draw(st.sampled_from([STEP, 6 * STEP]))
    for step in range(draw(st.integers(1, 40))):
        at_ms = NOW + step * pace_ms + draw(st.integers(-2 * STEP, 2 * STEP))
        shown = [
            dataclasses.replace(
                task(
                    f"{name}.{number}",
                    of=name,
                    node=f"node-{number}",
                    state=draw(st.sampled_from(states)),
                    desired=draw(st.sampled_from(["running", "running", "shutdown", "remove"])),
                    since_ms=at_ms - draw(st.integers(0, 3 * STEP)),
                    error=draw(st.sampled_from(["", "No such image", "task: non-zero exit (1)"])),
                    index=step,
                ),
                slot=slot,
            )
            for name, slot in (("web", 1), ("agent", 0))
            for number in range(step // 10, step // 10 + 2)
        ]
        nodes = [
            node(f"node-{number}", state=draw(st.sampled_from(["ready", "down"])), index=step)
            for number in range(3)
        ]
        web = service(replicas=draw(st.integers(0, 3)), index=step)
        agents = service("agent", mode=ServiceMode.GLOBAL, replicas=None)
        whole = inventory(
            services=[web, agents],
            tasks=shown,
            nodes=nodes,
            index=draw(st.sampled_from([step, step, 0])),
            keyframe=draw(st.booleans()),
            clock_ms=at_ms,
        )
        if draw(st.booleans()):
            entries.append((records.INVENTORY, at_ms, records.pack_inventory(whole)))
        name = shown[0].id
        sampled = batch(
            {name: [0.5, 2.0**20]}, [roster_row(name)], metrics=["cpu_cores", "memory_bytes"]
        )
        entries.append((records.SAMPLES, at_ms, records.pack_samples(sampled)))
        if draw(st.booleans()):
            value = draw(st.sampled_from([None, 5.0, 500.0]))
            entries.append((records.SOURCES, at_ms, told(value, "" if value else "timed out")))
        if draw(st.booleans()):
            kind = draw(st.sampled_from(["oom_killed", "died", "unhealthy"]))
            happened = dataclasses.replace(event(kind), task=name, memory_limit=None)
            entries.append((records.EVENTS, at_ms, records.pack_event(happened)))
    return entries


def last_snapshot(entries: Sequence[Entry], *, cuts: Sequence[int], forget: bool) -> Snapshot:
    """Everything folded, looked at after the entries whose places are in `cuts`, and at the end."""
    made = Fold(EVERYTHING, LIMITS)
    now_ms = NOW
    for place, (stream, at_ms, fields) in enumerate(entries):
        made.fold(stream, at_ms, at_ms, fields)
        now_ms = max(now_ms, at_ms + 1)
        if place in cuts:
            made.snapshot(now_ms=now_ms, since_ms=0, epoch=1)
            if forget:
                made.forget(now_ms)
    return made.snapshot(now_ms=now_ms, since_ms=0, epoch=1)


def told_of(seen: Snapshot) -> object:
    """What can be compared: the readings by their services."""
    readings = {
        condition: {each.id: readings.of(each.id) for each in seen.services}
        for condition, readings in seen.readings.items()
    }
    return dataclasses.replace(seen, readings={}), readings


@given(histories(), st.sets(st.integers(0, 100), max_size=5))
def test_how_entries_are_cut_into_ticks_does_not_show(entries: list[Entry], cuts: set[int]) -> None:
    plain = told_of(last_snapshot(entries, cuts=(), forget=False))
    for forget in (False, True):
        assert told_of(last_snapshot(entries, cuts=sorted(cuts), forget=forget)) == plain


def test_forgetting_changes_no_later_snapshot() -> None:
    forgetful, plain = fold(), fold()
    generations, length = 4, 120
    for step in range(generations * length):
        now_ms = NOW + step * STEP
        number = step // length
        name = f"web.{number}"
        ended = [
            task(f"web.{n}", state="failed", index=11, since_ms=NOW + (n + 1) * length * STEP)
            for n in range(number)
        ]
        shown = inventory(
            services=[service()],
            tasks=[*ended, task(name)],
            nodes=[node()],
            index=100 + step,
            clock_ms=now_ms,
            keyframe=step % length == 0,
        )
        for made in (forgetful, plain):
            take(made, records.INVENTORY, records.pack_inventory(shown), now_ms)
            packed = records.pack_samples(batch({name: [0.01 * step]}, [roster_row(name)]))
            take(made, records.SAMPLES, packed, now_ms)
        forgetful.forget(now_ms + 1)
        one, other = (
            made.snapshot(now_ms=now_ms + 1, since_ms=0, epoch=1) for made in (forgetful, plain)
        )
        assert one.readings[CPU_HIGH].of("web") == other.readings[CPU_HIGH].of("web")
        assert (one.tasks, one.loads) == (other.tasks, other.loads)
    assert forgetful.window.containers < plain.window.containers
    assert len(forgetful.swarm.spans) < len(plain.swarm.spans)
    assert len(forgetful.swarm.seen_ms) < len(plain.swarm.seen_ms)


def test_where_a_service_ran_last_is_known_for_a_while() -> None:
    made = fold()
    take(
        made,
        records.INVENTORY,
        records.pack_inventory(inventory(services=[service()], tasks=[task()])),
    )
    failed = inventory(
        services=[service()], tasks=[task(state="failed", since_ms=NOW, index=11)], clock_ms=NOW
    )
    take(made, records.INVENTORY, records.pack_inventory(failed))
    for after_ms, hosts in ((ENDED_TASKS_KEPT_MS, {"node-1": 1}), (ENDED_TASKS_KEPT_MS + 1, {})):
        made.forget(NOW + after_ms)
        seen = made.snapshot(now_ms=NOW + after_ms, since_ms=0, epoch=1)
        assert seen.tasks.get("web", ServiceTasks()).hosts == hosts


def test_a_source_that_counts_for_long_makes_no_other_window_longer() -> None:
    rules = [
        escalate("load", when=metric_condition(over_ms=MINUTE)),
        escalate("queue", when=source_condition(over_ms=MINUTE)),
    ]
    short, long = (
        Fold(rule_set(*rules, sources=[source(stale_after_ms=stale_ms)]), LIMITS)
        for stale_ms in (MINUTE, 24 * HOUR)
    )
    assert long.window.slots == short.window.slots
    for made, value in ((short, None), (long, 7.0)):
        told = records.pack_source(source_value(7.0))
        made.fold(records.SOURCES, NOW - 23 * HOUR, NOW - 23 * HOUR, told)
        made.forget(NOW)
        assert made.sources.states(NOW)["jobs"].value == value


def test_a_rule_set_knows_how_far_back_it_looks() -> None:
    assert RULES.metrics == ("cpu_percent",)
    assert RULES.longest_window_ms == 2 * MINUTE
    assert RULES.longest_event_window_ms == 10 * MINUTE
    sourced = rule_set(
        escalate("a", when=source_condition("slow", over_ms=HOUR)),
        escalate("b", when=source_condition("fast", over_ms=HOUR)),
        sources=[source("slow", stale_after_ms=2 * HOUR), source("fast", stale_after_ms=HOUR)],
    )
    assert sourced.source_conditions == (
        source_condition("slow", over_ms=HOUR),
        source_condition("fast", over_ms=HOUR),
    )
    assert (sourced.longest_window_ms, sourced.longest_source_window_ms) == (HOUR, 3 * HOUR)
    tracking = rule_set(track(CPU, JOBS), sources=[source(stale_after_ms=HOUR)])
    assert (tracking.targets, tracking.metrics) == ((CPU, JOBS), ("cpu_percent",))
    assert tracking.longest_window_ms == MINUTE
    assert tracking.longest_source_window_ms == HOUR + MINUTE
    metric_only = rule_set(track(CPU), sources=[source(stale_after_ms=HOUR)])
    assert (metric_only.longest_window_ms, metric_only.longest_source_window_ms) == (MINUTE, 0)
    empty = rule_set()
    assert (empty.metrics, empty.longest_window_ms, empty.longest_event_window_ms) == ((), 0, 0)
    assert empty.longest_source_window_ms == 0
    assert KEPT_MS > 24 * HOUR
