"""Restart policies: condition, delay, attempts, window."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from autoheal.sim.objects import TaskState
from autoheal.sim.program import Order, Program
from autoheal.sim.spec import service_spec
from sim.worlds import (
    NANO,
    SECOND,
    SETTLED,
    change,
    container,
    force,
    newest,
    replicas,
    running,
    told,
    update_state,
    world,
)

FAILED, COMPLETE = "1 failed/shutdown", "1 complete/shutdown"
RUNS = "1 running/running"


@pytest.mark.parametrize(
    ("condition", "order", "tasks"),
    [
        ("any", Order.CRASH, [FAILED, RUNS]),
        ("any", Order.FINISH, [COMPLETE, RUNS]),
        ("", Order.FINISH, [COMPLETE, RUNS]),
        ("on-failure", Order.CRASH, [FAILED, RUNS]),
        ("on-failure", Order.FINISH, [COMPLETE]),
        ("none", Order.CRASH, [FAILED]),
        ("none", Order.FINISH, [COMPLETE]),
    ],
)
def test_the_condition_tells_which_ends_are_followed_by_a_restart(
    condition: str, order: Order, tasks: list[str]
) -> None:
    there = world()
    service = running(there, restart={"Condition": condition})
    service.orders.give(order, to=container(newest(service)))
    there.advance(15 * SECOND)
    assert told(service) == tasks


@pytest.mark.parametrize("delay_s", [0, 1, 5, 30])
def test_the_replacement_waits_ready_for_the_delay(delay_s: int) -> None:
    there = world(quantum_ms=500)
    service = running(there, restart={"Delay": delay_s * NANO})
    there.kill(container(newest(service)))
    there.advance(500)
    ended_ms, waiting = there.now_ms, newest(service)
    while waiting.state is not TaskState.RUNNING:
        assert waiting.desired is (
            TaskState.READY if there.now_ms < ended_ms + delay_s * SECOND else TaskState.RUNNING
        )
        there.advance(500)
    assert there.now_ms == ended_ms + max(500, delay_s * SECOND)


def test_without_a_delay_of_its_own_a_restart_takes_5_s() -> None:
    there = world()
    spec = service_spec("web")
    del spec["TaskTemplate"]["RestartPolicy"]
    service = there.create(spec, Program())
    there.advance(SETTLED)
    there.kill(container(newest(service)))
    there.advance(5 * SECOND)
    assert told(service) == [FAILED, "1 ready/ready"]
    there.advance(SECOND)
    assert told(service) == [FAILED, RUNS]


def test_tasks_without_an_image_are_made_no_faster_than_the_delay() -> None:
    there = world()
    spec = service_spec("web", restart={"Delay": 10 * NANO})
    service = there.create(spec, Program(has_image=False))
    made = []
    for _ in range(45):
        there.advance(SECOND)
        made += [task for task in service.tasks if task not in made]
    gaps = {after.created_ms - before.created_ms for before, after in pairwise(made[1:])}
    assert gaps == {10 * SECOND}
    assert told(service)[-1] == "1 rejected/ready"
    assert newest(service).error.startswith("No such image: shop/web:1@sha256:")
    assert newest(service).container is None


def test_a_task_that_is_rejected_while_the_old_one_stops_is_replaced_when_that_has_stopped() -> (
    None
):
    there = world()
    service = running(there, program=Program(exit_on_term=None), restart={"Delay": NANO})
    service.program = replace(service.program, has_image=False)
    there.update("web", force())
    there.advance(8 * SECOND)
    assert told(service) == ["1 running/shutdown", "1 rejected/ready"]
    there.advance(4 * SECOND)
    assert told(service)[:2] == ["1 shutdown/shutdown", "1 rejected/shutdown"]


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_after_the_attempts_the_slot_is_given_up(attempts: int) -> None:
    there = world()
    service = running(there, restart={"MaxAttempts": attempts, "Delay": NANO})
    service.orders.give(Order.CRASH)
    there.advance(120 * SECOND)
    assert told(service) == (attempts + 1) * [FAILED]


def test_each_slot_has_its_own_attempts() -> None:
    there = world()
    service = running(there, replicas=2, restart={"MaxAttempts": 1, "Delay": NANO})
    for _ in range(2):
        there.kill(container(newest(service, 1)))
        there.advance(5 * SECOND)
    assert told(service) == [FAILED, FAILED, "2 running/running"]
    there.kill(container(newest(service, 2)))
    there.advance(5 * SECOND)
    assert told(service)[2:] == ["2 failed/shutdown", "2 running/running"]


def test_a_slot_that_was_given_up_counts_as_a_replica() -> None:
    there = world()
    service = running(there, replicas=2, restart={"Condition": "none"})
    there.kill(container(newest(service, 1)))
    there.advance(30 * SECOND)
    there.update("web", change("Labels.note", "seen"))
    there.advance(30 * SECOND)
    assert told(service) == [FAILED, "2 running/running"]
    there.update("web", replicas(3))
    there.advance(30 * SECOND)
    assert told(service) == [FAILED, "2 running/running", "3 running/running"]
    assert update_state(service) == ("", "")


def test_attempts_count_within_the_window_only() -> None:
    there = world()
    restart = {"MaxAttempts": 2, "Delay": NANO, "Window": 60 * NANO}
    service = running(there, restart=restart)
    for _ in range(6):
        there.kill(container(newest(service)))
        there.advance(40 * SECOND)
        assert newest(service).state is TaskState.RUNNING
    service.orders.give(Order.CRASH)
    there.advance(20 * SECOND)
    assert newest(service).state is TaskState.FAILED


def test_what_was_given_up_in_a_window_stays_so_after_it() -> None:
    there = world()
    restart = {"MaxAttempts": 1, "Delay": NANO, "Window": 10 * NANO}
    service = running(there, restart=restart)
    service.orders.give(Order.CRASH)
    there.advance(20 * SECOND)
    service.orders.relieve(Order.CRASH)
    there.advance(600 * SECOND)
    there.update("web", change("Labels.note", "seen"))
    there.advance(60 * SECOND)
    assert told(service) == [FAILED, FAILED]


def test_another_task_template_arms_an_exhausted_policy_again() -> None:
    there = world()
    service = running(there, restart={"MaxAttempts": 1, "Delay": NANO})
    service.orders.give(Order.CRASH)
    there.advance(30 * SECOND)
    service.orders.relieve(Order.CRASH)
    there.update("web", force())
    there.advance(30 * SECOND)
    assert told(service)[-1] == RUNS
    there.kill(container(newest(service)))
    there.advance(10 * SECOND)
    assert told(service)[-1] == RUNS
    there.kill(container(newest(service)))
    there.advance(10 * SECOND)
    assert told(service)[-1] == FAILED


def test_a_label_does_not_arm_it_again() -> None:
    there = world()
    service = running(there, restart={"MaxAttempts": 1, "Delay": NANO})
    service.orders.give(Order.CRASH)
    there.advance(30 * SECOND)
    service.orders.relieve(Order.CRASH)
    there.update("web", change("Labels.note", "seen"))
    there.advance(30 * SECOND)
    assert told(service) == [FAILED, FAILED]


def test_a_task_goes_by_the_policy_that_it_was_made_under() -> None:
    there = world()
    service = running(there, replicas=2, restart={"Condition": "none"}, update={"Delay": 60 * NANO})
    there.update("web", change("TaskTemplate.RestartPolicy", {"Condition": "any", "Delay": NANO}))
    there.advance(5 * SECOND)
    there.kill(container(newest(service, 1)))
    there.kill(container(newest(service, 2)))
    there.advance(10 * SECOND)
    assert newest(service, 1).state is TaskState.RUNNING
    assert newest(service, 2).state is TaskState.FAILED
