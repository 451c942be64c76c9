"""Figures of whole services, slot by slot, as inventories and samples came in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from autoheal.core.limits import Limits
from autoheal.core.view.node_window import NodeWindow
from autoheal.core.view.service_series import HEARD_BY, ServiceSeries
from autoheal.core.view.swarm_view import SwarmView
from autoheal.core.view.task_rows import TaskRows
from autoheal.core.view.window import Window
from autoheal.metrics import METRICS
from autoheal.model import Node, NodeFigures, Service, ServiceMode, Task
from builders import LONG_AGO, NOW, STEP, batch, inventory, node, roster_row, service, task

SLOTS = 6
START = NOW - SLOTS * STEP
WINDOW = range(START // STEP, NOW // STEP)
LIMITS = Limits(stable_ms=2 * STEP, inventory_stale_ms=3 * STEP, warm_up_ms=0)
HALF = STEP // 2
UNKNOWN = None

# slot -> what an inventory in the middle of that slot tells; -1 is before the window
Past = Mapping[int, Sequence[Service | Task | Node | str]]
Shown = list[float | None]


def at(slot: int) -> int:
    """The middle of a slot of the window."""
    return START + slot * STEP + HALF


def fold(view: SwarmView, slot: int, told: Sequence[Any], *, keyframe: bool) -> None:
    shown = inventory(
        services=[each for each in told if isinstance(each, Service)],
        tasks=[each for each in told if isinstance(each, Task)],
        nodes=[each for each in told if isinstance(each, Node)],
        gone=[each for each in told if isinstance(each, str)],
        keyframe=keyframe,
        index=1000 + slot,
        clock_ms=at(slot),
    )
    view.fold(shown, at(slot))


def view_of(past: Past, *, first: int = -1, silent: Sequence[int] = ()) -> SwarmView:
    """A keyframe in slot `first`, then a difference in every slot that is not silent."""
    view = SwarmView()
    for slot in range(first, SLOTS):
        if slot not in silent:
            fold(view, slot, past.get(slot, ()), keyframe=slot == first)
    return view


def series_of(
    view: SwarmView,
    metric: str,
    *,
    window: Window | None = None,
    nodes: NodeWindow | None = None,
    wants_high: bool = True,
    limits: Limits = LIMITS,
    unhealthy: Sequence[str] = (),
) -> dict[str, Shown]:
    services = [view.services[name] for name in sorted(view.services)]
    samples = window or Window([HEARD_BY], step_ms=STEP, longest_ms=SLOTS * STEP)
    rows = TaskRows(samples, services, view.spans, warm_up_ms=limits.warm_up_ms)
    figures = nodes or NodeWindow(step_ms=STEP, mean_ms=STEP, longest_ms=SLOTS * STEP)
    series = ServiceSeries(view, rows, figures, services, limits, unhealthy)
    values = series.of(metric, WINDOW, wants_high=wants_high)
    assert values.shape == (SLOTS, len(services))
    return {
        name: [None if np.isnan(value) else float(value) for value in values[:, place]]
        for name, place in series.positions.items()
    }


def shown(metric: str, past: Past, *, first: int = -1, silent: Sequence[int] = ()) -> Shown:
    return series_of(view_of(past, first=first, silent=silent), metric)["web"]


def running(identity: str, slot: int | None = None, *, on: str = "node-1", index: int = 10) -> Task:
    """A task that runs since the middle of a slot; None is long ago."""
    since_ms = LONG_AGO if slot is None else at(slot)
    return task(identity, node=on, since_ms=since_ms, index=index)


def ended(identity: str, slot: int, state: str = "failed", *, on: str = "node-1") -> Task:
    desired = "shutdown"
    return task(identity, node=on, state=state, desired=desired, since_ms=at(slot), index=50)


def leaving(identity: str, *, on: str = "node-1") -> Task:
    return task(identity, node=on, desired="shutdown", since_ms=LONG_AGO, index=50)


TWO = (service(replicas=2), running("web.1"), running("web.2"))


@pytest.mark.parametrize(
    ("past", "missing"),
    [
        pytest.param({-1: TWO}, [0, 0, 0, 0, 0, 0], id="all run"),
        pytest.param(
            {-1: TWO, 3: [ended("web.1", 2)], 4: [running("web.3", 4)]},
            [0, 0, 1, 1, 0, 0],
            id="one fails, and is replaced: dated when it happened, not when it was seen",
        ),
        pytest.param(
            {-1: [*TWO, running("web.3")]}, [0, 0, 0, 0, 0, 0], id="more run than are wanted"
        ),
        pytest.param(
            {-1: TWO, 1: [service(replicas=4, index=11)], 3: [running("web.3", 3)]},
            [0, 2, 2, 1, 1, 1],
            id="scaled up",
        ),
        pytest.param(
            {-1: TWO, 1: [service(replicas=0, index=11)], 2: [ended("web.1", 2, "shutdown")]},
            [0, 0, 0, 0, 0, 0],
            id="switched off",
        ),
        pytest.param(
            {-1: TWO, 2: [leaving("web.1")], 3: [running("web.3", 3, on="node-2")]},
            [0, 0, 1, 0, 0, 0],
            id="its node is drained",
        ),
        pytest.param(
            {-1: TWO, 2: [node(state="down", index=11), leaving("web.1"), leaving("web.2")]},
            [0, 0, 2, 2, 2, 2],
            id="its node is killed",
        ),
        pytest.param(
            {
                -1: TWO,
                1: [leaving("web.1")],
                2: [running("web.3", 2), leaving("web.2")],
                3: [running("web.4", 3)],
            },
            [0, 1, 1, 0, 0, 0],
            id="a rollout, one after the other",
        ),
        pytest.param({-1: TWO, 4: ["web.1"]}, [0, 0, 0, 0, 1, 1], id="one is gone without a word"),
        pytest.param(
            {2: TWO}, [UNKNOWN, UNKNOWN, 0, 0, 0, 0], id="the service is first seen in the window"
        ),
        pytest.param(
            {-1: [service(mode=ServiceMode.GLOBAL_JOB, replicas=None)]}, [UNKNOWN] * 6, id="a job"
        ),
    ],
)
def test_tasks_missing(past: Past, missing: Shown) -> None:
    assert shown("tasks_missing", past) == missing


def in_slot(number: int, made: Task) -> Task:
    return dataclasses.replace(made, slot=number)


ONE = (service(replicas=1), running("a"))


@pytest.mark.parametrize(
    ("past", "missing", "stable"),
    [
        pytest.param(
            {-1: ONE, 3: [ended("a", 2, "complete")]},
            [0, 0, 0, 0, 0, 0],
            [100] * 6,
            id="it ran and ended without an error",
        ),
        pytest.param(
            {-1: ONE, 3: [ended("a", 2)]},
            [0, 0, 1, 1, 1, 1],
            [100, 100, 0, 0, 0, 0],
            id="it ended with one",
        ),
        pytest.param(
            {
                -1: ONE,
                1: [ended("a", 1), running("b", 1)],
                3: [ended("b", 2), running("c", 3)],
                4: [ended("c", 4, "complete")],
            },
            [0, 0, 1, 0, 0, 0],
            [100, 0, 0, 0, 100, 100],
            id="it failed twice before",
        ),
        pytest.param(
            {-1: ONE, 1: [ended("a", 1, "complete")], 3: [running("b", 3)], 4: [ended("b", 4)]},
            [0, 0, 0, 0, 1, 1],
            [100, 100, 100, 0, 0, 0],
            id="a later one of the slot failed",
        ),
        pytest.param(
            {
                -1: ONE,
                1: [ended("a", 1, "complete")],
                2: [task("b", state="pending", since_ms=at(2))],
            },
            [0, 0, 1, 1, 1, 1],
            [100, 100, 0, 0, 0, 0],
            id="another is on its way",
        ),
        pytest.param(
            {
                -1: ONE,
                2: [
                    ended("a", 2, "complete"),
                    task("b", state="ready", desired="ready", since_ms=at(1)),
                ],
                4: [task("b", state="failed", desired="shutdown", since_ms=at(4), index=50)],
            },
            [0, 0, 1, 1, 1, 1],
            [100, 100, 0, 0, 0, 0],
            id="its successor is older by the clock of another node",
        ),
        pytest.param(
            {
                -1: [service(replicas=2), running("a"), in_slot(2, running("b"))],
                2: [ended("a", 2, "complete")],
                4: [in_slot(2, ended("b", 4))],
            },
            [0, 0, 0, 0, 1, 1],
            [100, 100, 100, 100, 50, 50],
            id="the other slot does not finish with it",
        ),
        pytest.param(
            {-1: ONE, 1: [ended("a", 1, "complete")], 4: ["a"]},
            [0, 0, 0, 0, 1, 1],
            [100, 100, 100, 100, 0, 0],
            id="Swarm forgot the slot",
        ),
        pytest.param(
            {
                -1: ONE,
                1: [ended("a", 1, "complete")],
                4: [task("a", state="complete", desired="remove", since_ms=at(1), index=60)],
            },
            [0, 0, 0, 0, 1, 1],
            [100, 100, 100, 100, 0, 0],
            id="Swarm is to forget it",
        ),
    ],
)
def test_a_slot_whose_last_task_ended_by_itself_without_an_error_misses_none(
    past: Past, missing: Shown, stable: Shown
) -> None:
    assert shown("tasks_missing", past) == missing
    assert shown("tasks_stable", past) == stable


def test_a_task_that_was_told_unhealthy_did_not_end_by_itself() -> None:
    view = view_of({-1: ONE, 3: [ended("a", 2, "complete")]})
    values = [series_of(view, "tasks_missing", unhealthy=told)["web"] for told in (["b"], ["a"])]
    assert values == [[0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1]]


def everywhere(constraints: tuple[str, ...] = ()) -> Service:
    return service(mode=ServiceMode.GLOBAL, replicas=None, constraints=constraints)


def on_node(identity: str, made: Task) -> Task:
    return dataclasses.replace(made, node=identity, slot=0)


BOTH = (
    node("node-1"),
    node("node-2"),
    on_node("node-1", running("a")),
    on_node("node-2", running("b")),
)


@pytest.mark.parametrize(
    ("past", "missing", "stable"),
    [
        pytest.param({-1: [everywhere(), *BOTH]}, [0] * 6, [100] * 6, id="all run"),
        pytest.param({-1: [everywhere()]}, [0] * 6, [100] * 6, id="no node could take it"),
        pytest.param({-1: [everywhere(), *BOTH[:3]]}, [1] * 6, [50] * 6, id="one has never run"),
        pytest.param(
            {-1: [everywhere(("node.id==node-1",)), *BOTH[:3]]},
            [0] * 6,
            [100] * 6,
            id="its constraints leave one node",
        ),
        pytest.param(
            {
                -1: [everywhere(), *BOTH],
                1: [on_node("node-2", ended("b", 1))],
                2: [on_node("node-2", running("c", 2))],
                3: [on_node("node-2", ended("c", 3))],
                4: [on_node("node-2", running("d", 4))],
            },
            [0, 1, 0, 1, 0, 0],
            [100, 50, 50, 50, 50, 50],
            id="a crash loop on one of two nodes",
        ),
        pytest.param(
            {-1: [everywhere(), *BOTH], 2: [on_node("node-2", ended("b", 2, "complete"))]},
            [0] * 6,
            [100] * 6,
            id="finished on one node",
        ),
        pytest.param(
            {
                -1: [everywhere(), *BOTH],
                2: [on_node("node-2", ended("b", 2, "complete"))],
                3: [node("node-2", availability="drain", index=11)],
                4: [on_node("node-1", ended("a", 4))],
            },
            [0, 0, 0, 0, 1, 1],
            [100, 100, 100, 100, 0, 0],
            id="what finished on a drained node stands for no other node",
        ),
        pytest.param(
            {
                -1: [everywhere(), *BOTH],
                1: [node("node-2", state="down", index=11), on_node("node-2", leaving("b"))],
                4: [node("node-2", index=12)],
                5: [on_node("node-2", running("c", 5))],
            },
            [0, 0, 0, 0, 1, 0],
            [100, 100, 100, 100, 50, 50],
            id="a node that comes back was not wanted while it was away",
        ),
        pytest.param(
            {-1: [everywhere(), *BOTH[:3]], 3: [node("node-2", cores=8.0, index=11)]},
            [1] * 6,
            [50] * 6,
            id="what Swarm's scheduler does not look at makes no node a new one",
        ),
        pytest.param(
            {-1: [everywhere(), *BOTH], 3: ["node-2", "b"]}, [0] * 6, [100] * 6, id="a node leaves"
        ),
    ],
)
def test_a_global_service_wants_a_task_on_each_node_that_could_take_it(
    past: Past, missing: Shown, stable: Shown
) -> None:
    assert shown("tasks_missing", past) == missing
    assert shown("tasks_stable", past) == stable


def test_services_of_each_mode_are_wanted_side_by_side() -> None:
    elsewhere = dataclasses.replace(everywhere(("node.id==node-2",)), id="away", name="away")
    picky = dataclasses.replace(everywhere(("engine.labels.gpu==true",)), id="gpu", name="gpu")
    job = service("job", mode=ServiceMode.REPLICATED_JOB, replicas=None)
    view = view_of({-1: [*NODES, elsewhere, everywhere(), picky, job, service("api", replicas=3)]})
    assert {name: each[0] for name, each in series_of(view, "tasks_missing").items()} == {
        "api": 3,
        "away": 1,
        "gpu": UNKNOWN,
        "job": UNKNOWN,
        "web": 2,
    }


def waiting(
    slot: int, *, index: int = 10, desired: str = "running", state: str = "pending"
) -> Task:
    return task("web.1", node="", state=state, desired=desired, since_ms=at(slot), index=index)


def placed(slot: int) -> Task:
    return task("web.1", state="assigned", since_ms=at(slot), index=50)


WEB = (service(replicas=1),)


@pytest.mark.parametrize(
    ("past", "pending"),
    [
        pytest.param({-1: WEB, 3: [waiting(1)], 5: [placed(4)]}, [0, 1, 1, 1, 0, 0], id="placed"),
        pytest.param(
            {-1: WEB, 1: [waiting(1, state="new")]}, [0, 1, 1, 1, 1, 1], id="never placed"
        ),
        pytest.param(
            {-1: WEB, 1: [waiting(1)], 3: [waiting(3, index=11)]},
            [0, 1, 1, 1, 1, 1],
            id="tried again: it waits since the first try",
        ),
        pytest.param(
            {-1: WEB, 1: [waiting(1)], 3: [waiting(1, index=11, desired="shutdown")]},
            [0, 1, 1, 0, 0, 0],
            id="given up",
        ),
        pytest.param(
            {-1: WEB, 1: [waiting(1)], 2: [placed(2)], 4: [running("web.1", 4, index=60)]},
            [0, 1, 0, 0, 0, 0],
            id="what comes after its place does not matter",
        ),
        pytest.param({-1: WEB, 1: [waiting(1)], 4: ["web.1"]}, [0, 1, 1, 1, 0, 0], id="gone"),
        pytest.param({-1: [*WEB, waiting(1, desired="ready")]}, [0] * 6, id="not due yet"),
        pytest.param({-1: [*WEB, running("web.1")]}, [0] * 6, id="running"),
    ],
)
def test_tasks_pending(past: Past, pending: Shown) -> None:
    assert shown("tasks_pending", past) == pending


def on_its_way(state: str, slot: int, *, desired: str = "running", index: int) -> Task:
    return task("web.1", state=state, desired=desired, since_ms=at(slot), index=index)


@pytest.mark.parametrize(
    ("past", "starting"),
    [
        pytest.param(
            {
                -1: WEB,
                1: [on_its_way("pending", 1, index=11)],
                2: [on_its_way("preparing", 2, index=12)],
                3: [on_its_way("starting", 3, index=13)],
                5: [on_its_way("running", 4, index=14)],
            },
            [0, 1, 1, 1, 0, 0],
            id="from the first state until it runs",
        ),
        pytest.param(
            {
                -1: WEB,
                1: [on_its_way("ready", 1, desired="ready", index=11)],
                3: [on_its_way("running", 3, index=12)],
            },
            [0, 1, 1, 0, 0, 0],
            id="waiting for its restart",
        ),
        pytest.param(
            {
                -1: WEB,
                1: [on_its_way("preparing", 1, index=11)],
                3: [on_its_way("rejected", 2, index=12)],
            },
            [0, 1, 0, 0, 0, 0],
            id="rejected",
        ),
        pytest.param(
            {
                -1: WEB,
                1: [on_its_way("preparing", 1, index=11)],
                3: [on_its_way("preparing", 1, desired="shutdown", index=12)],
            },
            [0, 1, 1, 0, 0, 0],
            id="given up",
        ),
        pytest.param(
            {-1: WEB, 1: [on_its_way("preparing", 1, index=11)], 4: ["web.1"]},
            [0, 1, 1, 1, 0, 0],
            id="gone",
        ),
        pytest.param({-1: [*WEB, running("web.1")]}, [0] * 6, id="running when first seen"),
        pytest.param({-1: [*WEB, ended("web.1", -1)]}, [0] * 6, id="ended when first seen"),
    ],
)
def test_tasks_starting(past: Past, starting: Shown) -> None:
    assert shown("tasks_starting", past) == starting


@pytest.mark.parametrize(
    ("past", "stable"),
    [
        pytest.param({-1: TWO}, [100] * 6, id="all have long been running"),
        pytest.param(
            {-1: TWO, 1: [ended("web.1", 1), running("web.3", 1)]},
            [100, 50, 50, 100, 100, 100],
            id="a new one counts two steps after its start",
        ),
        pytest.param(
            {
                -1: [service(replicas=1)],
                1: [ended("a", 1), running("b", 1)],
                2: [ended("b", 2), running("c", 2)],
                3: [ended("c", 3), running("d", 3)],
            },
            [0, 0, 0, 0, 0, 100],
            id="a crash loop",
        ),
        pytest.param({-1: [*TWO, running("web.3")]}, [100] * 6, id="more than wanted"),
        pytest.param({-1: [service(replicas=0)]}, [100] * 6, id="switched off"),
        pytest.param(
            {-1: [service(mode=ServiceMode.REPLICATED_JOB, replicas=None)]},
            [UNKNOWN] * 6,
            id="a job",
        ),
    ],
)
def test_tasks_stable(past: Past, stable: Shown) -> None:
    assert shown("tasks_stable", past) == stable


NODES = (node("node-1"), node("node-2"))


def down(identity: str = "node-1", *, index: int = 11) -> Node:
    return node(identity, state="down", index=index)


@pytest.mark.parametrize(
    ("past", "nodes_down"),
    [
        pytest.param({-1: [*TWO, *NODES], 2: [down()]}, [0, 0, 1, 1, 1, 1], id="it went"),
        pytest.param(
            {-1: [*TWO, *NODES], 2: [down()], 4: [leaving("web.1"), leaving("web.2")]},
            [0, 0, 1, 1, 1, 1],
            id="and its tasks were given up later",
        ),
        pytest.param(
            {-1: [*TWO, *NODES], 2: [down(), leaving("web.1"), leaving("web.2")]},
            [0, 0, 1, 1, 1, 1],
            id="or at once",
        ),
        pytest.param(
            {-1: [*TWO, *NODES], 2: [down()], 4: [node("node-1", index=12)]},
            [0, 0, 1, 1, 0, 0],
            id="it came back",
        ),
        pytest.param(
            {-1: [*TWO, *NODES], 2: [down()], 4: ["node-1"]}, [0, 0, 1, 1, 0, 0], id="removed"
        ),
        pytest.param(
            {
                -1: [*TWO, *NODES],
                1: [leaving("web.1"), leaving("web.2")],
                3: [node("node-1", availability="drain", state="down", index=11)],
            },
            [0] * 6,
            id="drained first",
        ),
        pytest.param({-1: [*TWO, *NODES], 2: [down("node-2")]}, [0] * 6, id="another node"),
        pytest.param(
            {-1: [*TWO, running("web.3", on="node-2"), *NODES], 2: [down()], 3: [down("node-2")]},
            [0, 0, 1, 2, 2, 2],
            id="both of its nodes",
        ),
        pytest.param({-1: [*TWO, leaving("web.3"), down()]}, [1] * 6, id="down when first seen"),
        pytest.param(
            {-1: [service(), leaving("web.3"), down()]},
            [1] * 6,
            id="first seen with a task that was given up and never told of its end",
        ),
        pytest.param(
            {-1: [service(), ended("web.3", -1), down()]}, [0] * 6, id="with one that had ended"
        ),
        pytest.param(
            {
                -1: [*TWO, *NODES],
                1: [down()],
                2: [node("node-1", index=12), leaving("web.1"), leaving("web.2")],
                3: [running("web.4", 3)],
                4: [down(index=13)],
            },
            [0, 1, 0, 0, 1, 1],
            id="twice",
        ),
        pytest.param(
            {
                -1: [service(), *NODES],
                1: [down()],
                2: [node("node-1", index=12)],
                3: [running("web.4", 3)],
            },
            [0] * 6,
            id="a task that came after its return",
        ),
        pytest.param(
            {
                -1: [service(), *NODES],
                1: [down()],
                2: [node("node-1", index=12)],
                4: [leaving("web.3")],
            },
            [0] * 6,
            id="a task given up after its return",
        ),
    ],
)
def test_nodes_down(past: Past, nodes_down: Shown) -> None:
    assert shown("nodes_down", past) == nodes_down


@pytest.mark.parametrize("word", ["paused", "rollback_paused"])
def test_update_paused(word: str) -> None:
    past: Past = {
        -1: [service()],
        1: [service(update_state="updating", index=11)],
        2: [service(update_state=word, index=12)],
        5: [service(update_state="completed", index=13)],
    }
    assert shown("update_paused", past) == [0, 0, 1, 1, 1, 0]


EVERY = sorted(each.name for each in METRICS if each.of_service)


@pytest.mark.parametrize("metric", EVERY)
def test_nothing_is_known_before_the_first_inventory(metric: str) -> None:
    values = shown(metric, {2: [*TWO, *NODES]}, first=2)
    assert [value is None for value in values] == [True, True, False, False, False, False]


@pytest.mark.parametrize("metric", EVERY)
def test_nothing_is_known_while_inventories_are_stale(metric: str) -> None:
    """Stale after three steps: the last one came in the middle of slot 0."""
    values = shown(metric, {-1: [*TWO, *NODES]}, silent=[1, 2, 3, 4])
    assert [value is None for value in values] == [False, False, False, True, True, False]


@pytest.mark.parametrize(
    ("before_end_ms", "is_known"),
    [(0, False), (1, True), (3 * STEP - 1, True), (3 * STEP, False)],
)
def test_an_inventory_tells_of_the_end_of_a_slot_until_it_is_stale(
    before_end_ms: int, *, is_known: bool
) -> None:
    view = SwarmView()
    for at_ms in (START - 9 * STEP, NOW - before_end_ms):
        view.fold(inventory(services=[service()], clock_ms=at_ms), at_ms)
    last = series_of(view, "tasks_missing")["web"][-1]
    assert (last is not None) is is_known


@pytest.mark.parametrize("metric", EVERY)
def test_no_services_give_no_figures(metric: str) -> None:
    assert series_of(view_of({}), metric) == {}


def test_services_do_not_see_each_others_tasks() -> None:
    past: Past = {
        -1: [service("api", replicas=1), service("web", replicas=2), running("web.1")],
        2: [task("api.1", of="api", since_ms=at(2))],
    }
    assert series_of(view_of(past), "tasks_missing") == {
        "api": [1, 1, 0, 0, 0, 0],
        "web": [1, 1, 1, 1, 1, 1],
    }


def test_a_change_on_the_edge_of_a_slot_belongs_to_the_slot_that_begins() -> None:
    view = view_of({-1: TWO})
    edge = dataclasses.replace(ended("web.1", 0), state_since_ms=START + 3 * STEP)
    fold(view, SLOTS, [edge], keyframe=False)
    assert series_of(view, "tasks_missing")["web"] == [0, 0, 0, 1, 1, 1]


# blind


def heard(samples: Mapping[str, Sequence[int]]) -> Window:
    """A window with a sample of each task in the middle of the named slots."""
    window = Window([HEARD_BY], step_ms=STEP, longest_ms=SLOTS * STEP)
    for name, slots in samples.items():
        for slot in slots:
            made = batch({name: [1.0]}, [roster_row(name)], metrics=[HEARD_BY], node_id=name)
            window.fold(made, at(slot), {}, 1)
    return window


@pytest.mark.parametrize(
    ("samples", "past", "blind"),
    [
        pytest.param({"web.1": range(6), "web.2": range(6)}, {-1: TWO}, [0] * 6, id="all heard"),
        pytest.param({"web.1": range(6)}, {-1: TWO}, [1] * 6, id="one never"),
        pytest.param({}, {-1: TWO}, [2] * 6, id="none"),
        pytest.param(
            {"web.1": [0, 1, 4, 5], "web.2": range(6)}, {-1: TWO}, [0, 0, 1, 1, 0, 0], id="a gap"
        ),
        pytest.param(
            {"web.1": range(6)},
            {-1: [service(), running("web.1")], 1: [running("web.2", 1)], 4: [ended("web.2", 4)]},
            [0, 0, 1, 1, 0, 0],
            id="only while it runs for the whole slot",
        ),
        pytest.param({}, {-1: [service()]}, [0] * 6, id="no task"),
        pytest.param({}, {-1: [*WEB, waiting(0)]}, [0] * 6, id="none that runs"),
    ],
)
def test_tasks_blind(samples: Mapping[str, Sequence[int]], past: Past, blind: Shown) -> None:
    assert series_of(view_of(past), "tasks_blind", window=heard(samples))["web"] == blind


def test_a_task_that_warms_up_is_not_blind() -> None:
    limits = dataclasses.replace(LIMITS, warm_up_ms=3 * STEP)
    past: Past = {-1: [service(), running("web.1", -1)]}
    values = series_of(view_of(past), "tasks_blind", limits=limits)["web"]
    assert values == [0, 0, 0, 1, 1, 1]


# saturated


def loaded(figures: Mapping[str, Sequence[float | None]]) -> NodeWindow:
    nodes = NodeWindow(step_ms=STEP, mean_ms=STEP, longest_ms=SLOTS * STEP)
    for name, row in figures.items():
        for slot, value in enumerate(row):
            told = dataclasses.replace(
                batch({}, node_id=name), figures=NodeFigures(4.0, value, 2**30, value)
            )
            nodes.fold(told, at(slot))
    return nodes


CALM, BUSY, SILENT = [10.0] * SLOTS, [95.0] * SLOTS, [None] * SLOTS


@pytest.mark.parametrize(
    ("figures", "constraints", "high", "low"),
    [
        ({"node-1": CALM, "node-2": CALM}, (), 0, 0),
        ({"node-1": BUSY, "node-2": CALM}, (), 50, 50),
        ({"node-1": BUSY, "node-2": CALM}, ("node.id==node-1",), 100, 100),
        ({"node-1": BUSY, "node-2": CALM}, ("node.id==node-2",), 0, 0),
        ({"node-1": BUSY, "node-2": CALM}, ("node.id==node-9",), UNKNOWN, UNKNOWN),
        # not heard of: not saturated where that is asked, saturated where it is asked not
        ({"node-1": BUSY, "node-2": SILENT}, (), 50, 100),
        ({"node-1": BUSY}, (), 50, 100),
    ],
)
def test_nodes_saturated(
    figures: Mapping[str, Sequence[float | None]],
    constraints: tuple[str, ...],
    high: float | None,
    low: float | None,
) -> None:
    view = view_of({-1: [service(constraints=constraints), service("other"), *NODES]})
    for wants_high, value in ((True, high), (False, low)):
        nodes = loaded(figures)
        values = series_of(view, "nodes_saturated", nodes=nodes, wants_high=wants_high)
        assert values["web"] == [value] * SLOTS


def test_nodes_saturated_follows_the_slots() -> None:
    nodes = loaded({"node-1": [10.0, 95.0, 95.0, 10.0, None, 95.0], "node-2": CALM})
    view = view_of({-1: [service(), *NODES]})
    values = series_of(view, "nodes_saturated", nodes=nodes)["web"]
    assert values == [0, 50, 50, 0, 0, 50]


def test_a_node_that_is_drained_is_not_among_those_that_could_take_a_task() -> None:
    nodes = loaded({"node-1": BUSY, "node-2": CALM})
    drained = node("node-2", availability="drain")
    view = view_of({-1: [service(), node("node-1"), drained]})
    assert series_of(view, "nodes_saturated", nodes=nodes)["web"] == [100] * SLOTS


# forgetting


@pytest.mark.parametrize("metric", [name for name in EVERY if name != "nodes_saturated"])
def test_what_is_forgotten_does_not_show(metric: str) -> None:
    past: Past = {
        -1: [*TWO, *NODES],
        0: [service(update_state="paused", index=11, replicas=3), waiting(0)],
        1: [ended("web.2", 1), down()],
        2: [running("web.4", 2, on="node-2")],
        3: [node("node-1", index=12), service(update_state="", index=12, replicas=2)],
        4: [leaving("web.1"), down("node-2"), in_slot(2, ended("web.5", 3, "complete"))],
    }
    plain, forgetful = view_of(past), SwarmView()
    for slot in range(-1, SLOTS):
        fold(forgetful, slot, past.get(slot, ()), keyframe=slot == -1)
        forgetful.forget(at(slot) - SLOTS * STEP)
    late = SLOTS + 3
    for slot in range(SLOTS, late):
        for view in (plain, forgetful):
            fold(view, slot, (), keyframe=False)
        forgetful.forget(at(slot) - SLOTS * STEP)
    slots = range(WINDOW.start + 4, WINDOW.stop + 3)

    def values(view: SwarmView) -> list[list[float]]:
        services = [view.services["web"]]
        window = Window([HEARD_BY], step_ms=STEP, longest_ms=SLOTS * STEP)
        rows = TaskRows(window, services, view.spans, warm_up_ms=0)
        nodes = NodeWindow(step_ms=STEP, mean_ms=STEP, longest_ms=STEP)
        series = ServiceSeries(view, rows, nodes, services, LIMITS)
        found: list[list[float]] = series.of(metric, slots, wants_high=True).tolist()
        return found

    assert values(forgetful) == values(plain)
    assert len(forgetful.seen_ms) < len(plain.seen_ms)
    assert len(forgetful.wishes["web"]) < len(plain.wishes["web"])
