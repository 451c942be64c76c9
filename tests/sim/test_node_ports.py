"""A simulated node through the collector's ports."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import takewhile

import pytest

from autoheal.errors import RemoteUnreachable
from autoheal.metrics import MEASURED
from autoheal.records import container_key
from autoheal.sim.load import Constant, Spike
from autoheal.sim.machine import SYSTEM_CPU, SYSTEM_MEMORY
from autoheal.sim.node_ports import PIDS, NodePorts, TaskContainer
from autoheal.sim.program import Program
from autoheal.sim.world import World
from sim.worlds import (
    MIB,
    ONE_NODE,
    SECOND,
    SETTLED,
    START_MS,
    container,
    force,
    newest,
    replicas,
    running,
    world,
)

BUSY = Program(load=Constant(0.8), memory=10 * MIB, memory_per_core=100 * MIB)


def sampled(ports: NodePorts) -> dict[bytes, dict[str, float]]:
    """The figures of every container, by its key."""
    samples = ports.sample(ports.containers())
    assert samples.metrics == MEASURED
    columns = samples.matrix.T.tolist()
    return {
        key: dict(zip(samples.metrics, column, strict=True))
        for key, column in zip(samples.keys, columns, strict=True)
    }


def only(there: World) -> NodePorts:
    return there.ports_of("only")


def test_the_containers_are_those_that_run_with_their_task_and_service() -> None:
    there = world(nodes=ONE_NODE)
    service = running(there, replicas=3)
    expected = [TaskContainer(container(task), task.id, service.id) for task in service.tasks]
    assert only(there).containers() == sorted(expected, key=lambda each: each.id)
    there.kill(container(service.tasks[0]))
    assert len(only(there).containers()) == 2


def test_the_first_sample_of_a_container_has_no_rates() -> None:
    there = world(nodes=ONE_NODE)
    running(there, program=BUSY)
    (figures,) = sampled(only(there)).values()
    assert math.isnan(figures["cpu_cores"])
    assert math.isnan(figures["throttled_percent"])
    assert (figures["memory_bytes"], figures["pids"]) == (60 * MIB, PIDS)


@pytest.mark.parametrize("seconds", [1, 5, 30])
def test_rates_are_since_the_last_sample(seconds: int) -> None:
    there = world(nodes=ONE_NODE)
    running(there, program=BUSY, cpus=0.2)
    ports = only(there)
    sampled(ports)
    there.advance(seconds * SECOND)
    (figures,) = sampled(ports).values()
    assert figures["cpu_cores"] == pytest.approx(0.2)
    assert figures["throttled_percent"] == 100


def test_a_rate_is_the_mean_of_the_time_between_two_samples() -> None:
    there = world(nodes=ONE_NODE)
    lull_ms = START_MS + SETTLED + 6 * SECOND + 1
    running(
        there, program=replace(BUSY, load=Spike(0.8, 0.2, lull_ms, 0, 60 * SECOND, 0)), cpus=None
    )
    ports = only(there)
    sampled(ports)
    there.advance(10 * SECOND)
    (figures,) = sampled(ports).values()
    assert figures["cpu_cores"] == pytest.approx((6 * 0.8 + 4 * 0.2) / 10)
    assert figures["throttled_percent"] == 0


def test_two_samples_at_the_same_time_have_no_rates() -> None:
    there = world(nodes=ONE_NODE)
    running(there, program=BUSY)
    ports = only(there)
    sampled(ports)
    (figures,) = sampled(ports).values()
    assert math.isnan(figures["cpu_cores"])


def test_a_container_that_was_not_sampled_last_time_begins_anew() -> None:
    there = world(nodes=ONE_NODE)
    running(there, program=BUSY)
    ports = only(there)
    sampled(ports)
    there.advance(SECOND)
    ports.sample([])
    there.advance(SECOND)
    (figures,) = sampled(ports).values()
    assert math.isnan(figures["cpu_cores"])


def test_of_a_node_with_no_container_there_is_an_empty_sample() -> None:
    samples = only(world(nodes=ONE_NODE)).sample([])
    assert (samples.keys, samples.matrix.shape) == ((), (len(MEASURED), 0))


def test_a_container_that_is_gone_is_in_no_sample_and_no_roster() -> None:
    there = world(nodes=ONE_NODE)
    service = running(there, replicas=2)
    ports = only(there)
    known = ports.containers()
    gone = container(service.tasks[0])
    there.kill(gone)
    (kept,) = [each for each in known if each.id != gone]
    assert ports.sample(known).keys == (container_key(kept.id),)
    assert [row.container for row in ports.roster(known)] == [kept.id]


@pytest.mark.parametrize(("cpus", "memory"), [(0.5, 64 * MIB), (None, None), (None, MIB * 64)])
def test_the_roster_tells_whose_a_container_is_and_its_limits(
    cpus: float | None, memory: int | None
) -> None:
    there = world(nodes=ONE_NODE)
    service = running(there, cpus=cpus, memory=memory)
    ports = only(there)
    (row,) = ports.roster(ports.containers())
    assert (row.task, row.service) == (service.tasks[0].id, service.id)
    assert (row.cpu_limit, row.memory_limit) == (cpus, memory)


def test_the_limits_are_those_of_the_task_not_of_the_service() -> None:
    there = world(nodes=ONE_NODE)
    service = running(there, memory=64 * MIB)
    ports = only(there)
    there.update("web", lambda spec: {**spec, "Labels": {"x": "y"}})
    there.update("web", force())
    old = container(newest(service))
    (row,) = ports.roster(ports.containers())
    assert (row.container, row.memory_limit) == (old, 64 * MIB)


def test_the_node_tells_what_its_containers_and_itself_take() -> None:
    there = world(nodes=(replace(ONE_NODE[0], cores=2.0, memory=1024 * MIB),))
    running(there, program=BUSY, cpus=None)
    figures = only(there).figures()
    assert (figures.cores, figures.memory) == (2.0, 1024 * MIB)
    assert figures.cpu_percent == pytest.approx(100 * (0.8 / 2 + SYSTEM_CPU))
    assert figures.memory_percent == pytest.approx(100 * (90 / 1024 + SYSTEM_MEMORY))


def test_no_node_uses_more_than_it_has() -> None:
    there = world(nodes=(replace(ONE_NODE[0], cores=0.5, memory=16 * MIB),))
    running(there, program=replace(BUSY, load=Constant(50.0)), cpus=None, memory=None, replicas=3)
    figures = only(there).figures()
    assert (figures.cpu_percent, figures.memory_percent) == (100.0, 100.0)


def heard(ports: NodePorts) -> list[str]:
    """The tasks that events tell of, up to the first sign of life."""
    events = takewhile(lambda event: event is not None, ports.events(lambda: False))
    return [event.task for event in events if event is not None]


def test_events_are_told_once_in_order_and_then_a_sign_of_life() -> None:
    there = world(nodes=ONE_NODE)
    service = running(there, replicas=2)
    ports = only(there)
    assert heard(ports) == []
    for task in service.tasks:
        there.kill(container(task))
    assert heard(ports) == [task.id for task in service.tasks]
    assert heard(ports) == []


def test_who_goes_on_listening_hears_what_happens_next() -> None:
    there = world(nodes=ONE_NODE)
    service = running(there)
    stream = only(there).events(lambda: False)
    assert [next(stream), next(stream)] == [None, None]
    there.kill(container(newest(service)))
    event = next(stream)
    assert event is not None
    assert event.task == service.tasks[0].id
    assert next(stream) is None


def test_who_stops_listening_misses_nothing() -> None:
    there = world(nodes=ONE_NODE)
    service = running(there, replicas=2)
    for task in service.tasks:
        there.kill(container(task))
    ports = only(there)
    assert list(ports.events(lambda: True)) == []
    assert len(heard(ports)) == 2


def test_a_node_without_power_cannot_be_reached_until_it_is_back() -> None:
    there = world()
    running(there, replicas=3)
    ports = there.ports_of("worker-1")
    known = ports.containers()
    there.lose("worker-1")
    with pytest.raises(RemoteUnreachable, match="worker-1 has no power"):
        ports.containers()
    with pytest.raises(RemoteUnreachable, match="worker-1 has no power"):
        next(iter(ports.events(lambda: False)))
    assert (ports.sample(known).keys, ports.roster(known)) == ((), ())
    there.restore("worker-1")
    assert ports.containers() == []
    there.update("web", replicas(4))
    there.advance(30 * SECOND)
    assert len(ports.containers()) >= 1
