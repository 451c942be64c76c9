"""One node: how its containers share it, what its agent does, and what Docker tells there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autoheal.model import Event
from autoheal.sim.load import Constant
from autoheal.sim.machine import NodePlan
from autoheal.sim.objects import Service, TaskState
from autoheal.sim.program import Order, Program
from autoheal.sim.spec import service_spec
from autoheal.sim.world import World
from sim.worlds import (
    MIB,
    NANO,
    ONE_NODE,
    SECOND,
    SETTLED,
    container,
    force,
    home,
    newest,
    replicas,
    running,
    told,
    world,
)


def busy(cores: float, **program: Any) -> Program:  # noqa: ANN401  # as Program takes it
    return Program(load=Constant(cores), **program)


def cpu(service: Service) -> list[float]:
    """The CPU seconds of its containers, by slot."""
    return [
        t.container.cpu_seconds for t in sorted(service.tasks, key=lambda t: t.slot) if t.container
    ]


def events(there: World) -> list[Event]:
    """All that Docker told since the last call."""
    told = [event for machine in there.machines for event in machine.events]
    for machine in there.machines:
        machine.events.clear()
    return told


def kinds(there: World) -> list[tuple[str, int | None, bool | None]]:
    return [(event.kind, event.exit_code, event.stopped) for event in events(there)]


# CPU


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_load_is_shared_evenly_by_the_tasks_that_serve(count: int) -> None:
    there = world()
    service = running(there, program=busy(1.0), replicas=count, cpus=None)
    before = cpu(service)
    there.advance(10 * SECOND)
    used = [after - first for after, first in zip(cpu(service), before, strict=True)]
    assert used == count * [pytest.approx(10 / count)]


def test_a_task_that_does_not_serve_leaves_its_share_to_the_others() -> None:
    there = world()
    service = running(there, program=busy(1.0), replicas=2, cpus=None)
    service.orders.give(Order.IDLE, to=container(newest(service, 1)))
    before = cpu(service)
    there.advance(10 * SECOND)
    assert [after - first for after, first in zip(cpu(service), before, strict=True)] == [
        0,
        pytest.approx(10),
    ]


def test_a_task_that_is_not_yet_healthy_takes_no_load() -> None:
    there = world()
    service = there.create(service_spec("web", check_every_s=30), busy(1.0))
    there.advance(20 * SECOND)
    assert told(service) == ["1 starting/running"]
    assert cpu(service) == [0]


def test_nor_does_it_while_another_serves() -> None:
    there = world()
    service = running(there, program=busy(0.2), check_every_s=10)
    there.update("web", replicas(2))
    there.advance(8 * SECOND)
    assert told(service) == ["1 running/running", "2 starting/running"]
    assert cpu(service)[1] == 0


def test_without_a_task_that_serves_the_load_goes_nowhere() -> None:
    there = world()
    service = running(there, program=busy(1.0, start_up_ms=20_000, start_up_cores=0.1))
    there.advance(10 * SECOND)
    assert cpu(service) == [pytest.approx(0.1 * 11)]


def test_on_a_full_node_all_get_the_same_part_of_what_they_may_use() -> None:
    there = world(nodes=(replace(ONE_NODE[0], cores=2.0),))
    small = running(there, "small", busy(1.0), cpus=None)
    large = running(there, "large", busy(3.0), cpus=None)
    before = cpu(small) + cpu(large)
    there.advance(10 * SECOND)
    after = cpu(small) + cpu(large)
    assert [b - a for a, b in zip(before, after, strict=True)] == [
        pytest.approx(10 * 2 / 4),
        pytest.approx(10 * 2 * 3 / 4),
    ]
    assert there.machines[0].used_cores == pytest.approx(2.0)


def test_a_limit_holds_before_the_node_is_shared() -> None:
    there = world(nodes=(replace(ONE_NODE[0], cores=2.0),))
    service = running(there, program=busy(9.0), cpus=1.5)
    there.advance(SECOND)
    assert there.machines[0].used_cores == pytest.approx(1.5)
    assert service.tasks[0].container is not None


# What Docker tells


@pytest.mark.parametrize(
    ("order", "amount", "expected", "state", "error"),
    [
        (Order.CRASH, 0, [("died", 3, False)], TaskState.FAILED, "task: non-zero exit (3)"),
        (Order.FINISH, 0, [("died", 0, False)], TaskState.COMPLETE, ""),
        (
            Order.FILL,
            2**40,
            [("oom_killed", None, None), ("died", 137, False)],
            TaskState.FAILED,
            "task: non-zero exit (137)",
        ),
        (Order.JOB, 2**40, [("oom_killed", None, None)], TaskState.RUNNING, ""),
    ],
)
def test_how_a_container_fails_is_told(
    order: Order,
    amount: int,
    expected: list[tuple[str, int | None, bool | None]],
    state: TaskState,
    error: str,
) -> None:
    there = world()
    service = running(there)
    task = newest(service)
    service.orders.give(order, amount, to=container(task))
    there.advance(SECOND)
    assert kinds(there) == expected
    assert (task.state, task.error) == (state, error)


def test_an_event_names_service_task_container_and_node() -> None:
    there = world()
    service = running(there)
    task = newest(service)
    there.kill(container(task))
    assert events(there) == [
        Event("died", service.id, task.id, container(task), task.machine.id, 137, None, True)  # type: ignore[union-attr]  # it has one
    ]


def test_a_kill_by_a_person_fails_the_task_and_counts_as_stopped() -> None:
    there = world()
    service = running(there)
    there.kill(container(newest(service)))
    assert kinds(there) == [("died", 137, True)]
    there.advance(SECOND)
    assert (service.tasks[0].state, service.tasks[0].exit_code) == (TaskState.FAILED, 137)
    with pytest.raises(KeyError):
        there.kill(container(service.tasks[0]))


@pytest.mark.parametrize(
    ("exit_on_term", "seconds", "state", "code", "error"),
    [
        (0, 1, TaskState.COMPLETE, 0, ""),
        (1, 1, TaskState.FAILED, 1, "task: non-zero exit (1): dockerexec: unhealthy container"),
        (
            None,
            10,
            TaskState.FAILED,
            137,
            "task: non-zero exit (137): dockerexec: unhealthy container",
        ),
    ],
)
def test_an_unhealthy_task_is_stopped_in_the_same_second(
    exit_on_term: int | None, seconds: int, state: TaskState, code: int, error: str
) -> None:
    there = world()
    service = running(there, program=Program(exit_on_term=exit_on_term), check_every_s=1)
    task = newest(service)
    service.orders.give(Order.SICK, to=container(task))
    there.advance(3 * SECOND)
    assert kinds(there) == [("unhealthy", None, None)]
    there.advance(seconds * SECOND)
    assert kinds(there) == [("died", code, True)]
    assert (task.state, task.exit_code, task.error) == (state, code, error)


@pytest.mark.parametrize(("exit_on_term", "code"), [(0, 0), (1, 1), (None, 137)])
def test_a_task_that_was_to_stop_is_shut_down_whatever_its_code(
    exit_on_term: int | None, code: int
) -> None:
    there = world()
    service = running(there, program=Program(exit_on_term=exit_on_term))
    task = newest(service)
    there.update("web", force())
    there.advance(15 * SECOND)
    assert (task.state, task.exit_code, task.error) == (TaskState.SHUTDOWN, code, "")
    assert kinds(there) == [("died", code, True)]


def test_of_a_node_without_power_nothing_is_told() -> None:
    there = world()
    service = running(there, replicas=3)
    there.kill(container(newest(service, 1)))
    there.lose(home(service.tasks[0]))
    there.advance(60 * SECOND)
    there.restore(home(service.tasks[0]))
    there.advance(SETTLED)
    assert kinds(there) == []


def test_a_node_without_power_uses_nothing() -> None:
    there = world(nodes=(*ONE_NODE, NodePlan("worker")))
    service = running(there, program=busy(1.0), replicas=2)
    machine = there.machine("worker")
    assert (machine.used_cores, machine.used_memory) == (0.5, 32 * MIB)
    before = cpu(service)
    there.lose("worker")
    there.advance(5 * SECOND)
    assert (machine.used_cores, machine.used_memory) == (0, 0)
    (lost,) = [task for task in service.tasks if home(task) == "worker"]
    assert cpu(service)[lost.slot - 1] == before[lost.slot - 1]


# The agent


def test_a_task_goes_through_the_states_of_its_life() -> None:
    there = world(quantum_ms=50)
    service = there.create(service_spec("web", check_every_s=1), Program())
    seen: list[str] = []
    for _ in range(60):
        there.advance(50)
        seen += [word for word in told(service) if word not in seen]
    assert seen == ["1 preparing/running", "1 starting/running", "1 running/running"]
    assert service.tasks[0].state_since_ms == service.created_ms + 50 + 200 + 1_000


def test_a_task_that_is_given_up_before_it_has_a_container_is_shut_down() -> None:
    there = world()
    service = running(there, replicas=2, restart={"Delay": 60 * NANO})
    there.kill(container(newest(service, 2)))
    there.advance(SETTLED)
    waiting = newest(service, 2)
    there.update("web", force())
    there.advance(10 * SECOND)
    assert (waiting.state, waiting.container, waiting.exit_code) == (TaskState.SHUTDOWN, None, 0)


def test_a_task_that_was_never_placed_is_forgotten_when_it_is_not_wanted() -> None:
    there = world()
    service = there.create(service_spec("web", constraints=["node.role==none"]), Program())
    there.advance(SETTLED)
    assert told(service) == ["1 pending/running"]
    there.update("web", replicas(0))
    there.advance(SECOND)
    assert service.tasks == []


def test_a_node_forgets_the_tasks_that_are_over() -> None:
    there = world(nodes=ONE_NODE)
    service = running(there, restart={"Delay": NANO})
    service.orders.give(Order.CRASH)
    there.advance(120 * SECOND)
    assert len(there.machines[0].tasks) == 1
