"""Rolling updates: order, pace, failures, and what comes in between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autoheal.sim.objects import Service, TaskState
from autoheal.sim.program import Order, Program
from autoheal.sim.rollout import Config
from autoheal.sim.spec import released
from autoheal.sim.world import World
from sim.worlds import (
    NANO,
    SECOND,
    SETTLED,
    advance_until,
    change,
    container,
    force,
    ids,
    newest,
    peak,
    replicas,
    running,
    told,
    update_state,
    world,
)

UPDATING = ("updating", "update in progress")
COMPLETED = ("completed", "update completed")
PAUSED = ("paused", "update paused due to failure or early termination of task")
ROLLED = ("rollback_started", "update rolled back due to failure or early termination of task")
ROLLED_BACK = ("rollback_completed", "rollback completed")
ROLLBACK_PAUSED = "rollback_paused"


def deploy(there: World, release: str, name: str = "web") -> None:
    there.update(name, lambda spec: released(spec, release))


def outdated(service: Service) -> int:
    """How many tasks of an older template run."""
    key = service.template_key
    states = (task.state for task in service.tasks if task.template_key != key)
    return sum(state is TaskState.RUNNING for state in states)


def states(there: World, seconds: int) -> Iterator[tuple[str, str]]:
    """The states of the service web's rollout, each once, as they come."""
    last = None
    for _ in range(seconds * SECOND // there.quantum_ms):
        there.advance(there.quantum_ms)
        state = update_state(there.service("web"))
        if state != last:
            yield state
        last = state


# The course of one that goes well


def test_a_rollout_tells_when_it_began_and_when_it_was_completed() -> None:
    there = world()
    service = running(there, replicas=2)
    posted = there.now_ms
    there.update("web", force())
    assert update_state(service) == ("", "")
    there.advance(SECOND)
    assert update_state(service) == UPDATING
    assert service.update is not None
    assert (service.update.started_ms, service.update.completed_ms) == (posted + SECOND, None)
    advance_until(there, lambda: update_state(service) == COMPLETED)
    assert service.update.completed_ms == there.now_ms
    assert outdated(service) == 0


def test_stop_first_never_runs_more_than_the_replicas() -> None:
    there = world(quantum_ms=100)
    service = running(there, replicas=3)
    there.update("web", force())
    assert peak(there, "web", 30) == (2, 3)
    assert update_state(service) == COMPLETED


def test_start_first_never_runs_fewer_than_the_replicas() -> None:
    there = world(quantum_ms=100)
    service = running(there, replicas=3, update={"Order": "start-first"})
    there.update("web", force())
    assert peak(there, "web", 30) == (3, 4)
    assert update_state(service) == COMPLETED


@pytest.mark.parametrize(("parallelism", "fewest"), [(1, 3), (2, 2), (3, 1), (0, 0), (9, 0)])
def test_as_many_are_replaced_at_once_as_the_parallelism_allows(
    parallelism: int, fewest: int
) -> None:
    there = world(quantum_ms=100)
    running(there, replicas=4, update={"Parallelism": parallelism})
    there.update("web", force())
    assert peak(there, "web", 40) == (fewest, 4)


def test_with_stop_first_the_new_task_starts_when_the_old_one_has_stopped() -> None:
    there = world()
    service = running(there, program=Program(exit_on_term=None))
    there.update("web", force())
    there.advance(5 * SECOND)
    assert told(service) == ["1 running/shutdown", "1 ready/ready"]
    there.advance(6 * SECOND)
    assert told(service) == ["1 shutdown/shutdown", "1 running/running"]


def test_an_old_task_that_does_not_stop_is_waited_for_no_longer_than_a_minute() -> None:
    there = world()
    service = running(there, program=Program(exit_on_term=None))
    grace = change("TaskTemplate.ContainerSpec.StopGracePeriod", 600 * NANO)
    there.update("web", grace)
    there.advance(30 * SECOND)
    there.update("web", force())
    there.advance(59 * SECOND)
    assert told(service)[-2:] == ["1 running/shutdown", "1 ready/ready"]
    there.advance(5 * SECOND)
    assert told(service)[-2:] == ["1 running/shutdown", "1 running/running"]


def test_the_delay_lies_between_two_slots() -> None:
    there = world()
    service = running(there, replicas=2, update={"Delay": 20 * NANO})
    there.update("web", force())
    there.advance(4 * SECOND)
    assert outdated(service) == 1
    there.advance(18 * SECOND)
    assert outdated(service) == 1
    there.advance(4 * SECOND)
    assert outdated(service) == 0


@pytest.mark.parametrize(
    ("delay_s", "monitor_s", "seconds"), [(0, 5, 5), (0, 20, 20), (3, 5, 3 + 5), (8, 5, 8 + 9)]
)
def test_a_rollout_is_completed_when_its_last_slot_was_watched_long_enough(
    delay_s: int, monitor_s: int, seconds: int
) -> None:
    there = world()
    update = {"Delay": delay_s * NANO, "Monitor": monitor_s * NANO}
    service = running(there, update=update)
    there.update("web", force())
    advance_until(
        there, lambda: newest(service).state is TaskState.RUNNING and len(service.tasks) > 1
    )
    there.advance((seconds - 1) * SECOND)
    assert update_state(service) == UPDATING
    there.advance(SECOND)
    assert update_state(service) == COMPLETED


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (None, Config(1, 0, "pause", 5_000, 0.0, starts_first=False)),
        ({}, Config(1, 0, "pause", 5_000, 0.0, starts_first=False)),
        ({"Order": "start-first"}, Config(0, 0, "pause", 5_000, 0.0, starts_first=True)),
        (
            {
                "Parallelism": 3,
                "Delay": 2 * NANO,
                "FailureAction": "rollback",
                "Monitor": NANO // 2,
                "MaxFailureRatio": 0.25,
                "Order": "stop-first",
            },
            Config(3, 2_000, "rollback", 500, 0.25, starts_first=False),
        ),
    ],
)
def test_what_an_update_config_leaves_out_is_as_swarm_has_it(
    section: dict[str, object] | None, expected: Config
) -> None:
    assert Config.of({"UpdateConfig": section}, "UpdateConfig") == expected


def test_a_task_that_its_restart_policy_gave_up_is_replaced_by_a_rollout() -> None:
    there = world()
    service = running(there, replicas=2, restart={"Condition": "none"})
    there.kill(container(newest(service, 2)))
    there.advance(10 * SECOND)
    assert len(there.running("web")) == 1
    there.update("web", force())
    there.advance(30 * SECOND)
    assert len(there.running("web")) == 2
    assert update_state(service) == COMPLETED


# Failures


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
def test_a_broken_release_pauses_the_rollout_at_its_first_task(order: str) -> None:
    there = world()
    service = running(there, replicas=3, update={"Order": order, "Delay": 2 * NANO})
    deploy(there, "broken")
    advance_until(there, lambda: update_state(service) == PAUSED)
    (first, *_) = [task for task in service.tasks if task.template_key == service.template_key]
    assert service.update is not None
    assert service.update.message.endswith(f" {first.id}")
    there.advance(30 * SECOND)
    assert update_state(service) == PAUSED
    assert service.update.completed_ms is None
    assert outdated(service) == 2


def test_a_paused_rollout_goes_on_with_the_next_deploy() -> None:
    there = world()
    service = running(there, replicas=3)
    deploy(there, "broken")
    there.advance(30 * SECOND)
    deploy(there, "2")
    assert list(states(there, 60)) == [UPDATING, COMPLETED]
    assert told(service)[-1] == "3 running/running"
    assert outdated(service) == 0


def test_a_paused_rollout_is_taken_up_by_a_scale_too_and_pauses_again() -> None:
    there = world()
    running(there, replicas=3)
    deploy(there, "broken")
    there.advance(30 * SECOND)
    there.update("web", replicas(4))
    assert list(states(there, 60)) == [UPDATING, PAUSED]


def test_a_rollout_that_is_to_continue_does_and_replaces_all() -> None:
    there = world()
    service = running(there, replicas=3, update={"FailureAction": "continue"})
    deploy(there, "broken")
    assert list(states(there, 60)) == [UPDATING, COMPLETED]
    assert outdated(service) == 0


def test_a_task_that_ends_after_the_monitoring_time_is_no_failure() -> None:
    there = world()
    service = running(there, replicas=2, update={"Delay": 20 * NANO, "Monitor": 5 * NANO})
    there.update("web", force())
    advance_until(there, lambda: outdated(service) == 1 and len(there.running("web")) == 2)
    there.advance(7 * SECOND)
    there.kill(container(next(t for t in service.tasks if t.template_key == service.template_key)))
    assert list(states(there, 90)) == [UPDATING, COMPLETED]


def test_a_task_that_ends_within_the_monitoring_time_after_the_last_slot_is_a_failure() -> None:
    there = world()
    service = running(there, update={"Monitor": 10 * NANO})
    there.update("web", force())
    advance_until(there, lambda: len(there.running("web")) == 1 and outdated(service) == 0)
    there.advance(8 * SECOND)
    there.kill(container(newest(service)))
    assert list(states(there, 30)) == [PAUSED]


def test_a_failure_while_the_last_slot_is_on_its_way_counts_when_that_is_done() -> None:
    there = world()
    service = running(there, update={"Delay": 10 * NANO, "FailureAction": "rollback"})
    deploy(there, "2")
    advance_until(there, lambda: len(there.running("web")) == 1 and outdated(service) == 0)
    there.kill(container(newest(service)))
    there.advance(8 * SECOND)
    assert update_state(service) == UPDATING
    assert newest(service).state is TaskState.RUNNING
    there.advance(3 * SECOND)
    assert update_state(service) == ROLLED


@pytest.mark.parametrize(
    ("ratio", "crashes", "state"),
    [(0.0, 0, "completed"), (0.0, 1, "paused"), (0.25, 1, "completed"), (0.25, 2, "paused")],
)
def test_more_failures_than_the_ratio_allows_pause(ratio: float, crashes: int, state: str) -> None:
    there = world()
    update = {"Parallelism": 4, "MaxFailureRatio": ratio, "Monitor": 20 * NANO}
    service = running(there, replicas=4, update=update)
    there.update("web", force())
    advance_until(there, lambda: len(there.running("web")) == 4 and outdated(service) == 0)
    for task in there.running("web")[:crashes]:
        there.kill(container(task))
    there.advance(40 * SECOND)
    assert update_state(service)[0] == state


def test_a_release_without_an_image_pauses_the_rollout() -> None:
    there = world()
    good = running(there, "good")
    service = there.create({**good.spec, "Name": "web"}, Program(has_image=False))
    there.advance(SETTLED)
    there.update("web", force())
    assert list(states(there, 60))[-1] == PAUSED
    assert {task.state for task in service.tasks if task.has_ended} == {TaskState.REJECTED}


def test_slots_on_their_way_are_finished_after_a_pause() -> None:
    there = world()
    update = {"Order": "start-first", "Parallelism": 2}
    service = running(there, replicas=3, update=update, check_every_s=6)
    there.update("web", force())
    there.advance(4 * SECOND)
    first, second = [task for task in service.tasks if task.template_key == service.template_key]
    assert {first.state, second.state} == {TaskState.STARTING}
    there.kill(container(first))
    there.advance(SECOND)
    assert update_state(service) == PAUSED
    there.advance(12 * SECOND)
    assert service.rollout is None
    assert second.state is TaskState.RUNNING
    wanted = [task for task in service.tasks if task.slot == second.slot and task.is_wanted]
    assert wanted == [second]


def test_of_two_present_tasks_in_a_slot_the_one_that_runs_is_kept() -> None:
    there = world()
    service = running(there)
    (kept,) = service.tasks
    there.swarm.create_task(service, 1).desired = TaskState.READY
    there.update("web", change("Labels.note", "seen"))
    there.advance(10 * SECOND)
    assert [task for task in service.tasks if task.is_wanted] == [kept]
    assert update_state(service) == COMPLETED


# Rolling back


def test_a_failed_rollout_is_rolled_back_to_the_spec_before() -> None:
    there = world()
    service = running(there, replicas=3, update={"FailureAction": "rollback"})
    good = service.spec
    deploy(there, "broken")
    assert list(states(there, 60)) == [UPDATING, ROLLED, ROLLED_BACK]
    assert (service.spec, service.previous) == (good, None)
    assert outdated(service) == 0
    assert len(there.running("web")) == 3


def test_a_rollback_replaces_only_what_was_replaced() -> None:
    there = world()
    update = {"FailureAction": "rollback", "Delay": 10 * NANO}
    service = running(there, replicas=3, update=update)
    before = ids(service.tasks)
    deploy(there, "broken")
    there.advance(60 * SECOND)
    assert len(before & ids(there.running("web"))) == 2


def test_with_start_first_a_rollback_keeps_every_old_task() -> None:
    there = world()
    update = {"FailureAction": "rollback", "Order": "start-first", "Delay": 10 * NANO}
    service = running(there, replicas=3, update=update, check_every_s=2)
    before = ids(service.tasks)
    deploy(there, "broken")
    there.advance(60 * SECOND)
    assert update_state(service) == ROLLED_BACK
    assert ids(there.running("web")) == before
    assert {task.id for task in service.tasks if task.is_wanted} == before


def test_a_rollback_with_nothing_to_replace_is_completed_at_once() -> None:
    there = world()
    update = {"FailureAction": "rollback"}
    service = running(there, update=update, restart={"Condition": "none"})
    deploy(there, "broken")
    assert list(states(there, 60)) == [UPDATING, ROLLED_BACK]
    assert len(there.running("web")) == 1
    assert outdated(service) == 0


def test_a_rollback_brings_back_what_had_been_given_up() -> None:
    there = world()
    update = {"FailureAction": "rollback", "Delay": 10 * NANO}
    service = running(there, replicas=2, update=update, restart={"Condition": "none"})
    there.kill(container(newest(service, 2)))
    there.advance(10 * SECOND)
    deploy(there, "broken")
    there.advance(60 * SECOND)
    assert update_state(service) == ROLLED_BACK
    assert len(there.running("web")) == 2


@pytest.mark.parametrize(("action", "word"), [("pause", "update"), ("rollback", "rollback")])
def test_a_rollback_that_fails_itself_pauses(action: str, word: str) -> None:
    there = world()
    update = {"FailureAction": "rollback"}
    service = running(there, replicas=2, update=update)
    there.update("web", change("RollbackConfig", {"FailureAction": action, "Parallelism": 1}))
    deploy(there, "broken")
    advance_until(there, lambda: update_state(service) == ROLLED)
    service.orders.give(Order.CRASH)
    there.advance(60 * SECOND)
    message = f"{word} paused due to failure or early termination of task"
    assert update_state(service) == (ROLLBACK_PAUSED, message)


def test_a_rollback_that_is_to_continue_is_completed_whatever_fails() -> None:
    there = world()
    service = running(there, replicas=2, update={"FailureAction": "rollback"})
    there.update("web", change("RollbackConfig", {"FailureAction": "continue"}))
    deploy(there, "broken")
    advance_until(there, lambda: update_state(service) == ROLLED)
    service.orders.give(Order.CRASH)
    there.advance(30 * SECOND)
    assert update_state(service) == ROLLED_BACK


def test_a_rollback_goes_by_its_own_config() -> None:
    there = world(quantum_ms=100)
    update = {"FailureAction": "rollback", "Parallelism": 2}
    service = running(there, replicas=2, update=update)
    config = {"Order": "start-first", "Monitor": 30 * NANO}
    there.update("web", change("RollbackConfig", config))
    deploy(there, "broken")
    advance_until(there, lambda: update_state(service) == ROLLED)
    advance_until(there, lambda: outdated(service) == 0 and len(there.running("web")) == 2)
    there.advance(20 * SECOND)
    assert update_state(service) == ROLLED


# In the middle


def test_a_deploy_in_the_middle_of_another_takes_over() -> None:
    there = world()
    service = running(there, replicas=4, update={"Delay": 5 * NANO})
    deploy(there, "2")
    there.advance(10 * SECOND)
    assert update_state(service) == UPDATING
    deploy(there, "3")
    assert service.update is None
    assert list(states(there, 90)) == [UPDATING, COMPLETED]
    releases = {task.template["ContainerSpec"]["Env"][0] for task in there.running("web")}
    assert releases == {"RELEASE=3"}
    assert len(there.running("web")) == 4


def test_a_deploy_of_what_was_there_keeps_the_tasks_that_still_are() -> None:
    there = world()
    service = running(there, replicas=3, update={"Delay": 20 * NANO})
    before = ids(service.tasks)
    good = service.spec
    deploy(there, "2")
    there.advance(10 * SECOND)
    there.update("web", lambda _: good)
    there.advance(60 * SECOND)
    assert len(before & ids(there.running("web"))) == 2


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
@pytest.mark.parametrize("count", [2, 6])
def test_a_scale_in_the_middle_of_a_rollout_does_both(order: str, count: int) -> None:
    there = world()
    service = running(there, replicas=4, update={"Order": order, "Delay": 5 * NANO})
    there.update("web", force())
    there.advance(4 * SECOND)
    assert outdated(service) == 3
    there.update("web", replicas(count))
    assert list(states(there, 90)) == [UPDATING, COMPLETED]
    assert len(there.running("web")) == count
    assert outdated(service) == 0


def test_a_scale_in_the_middle_of_a_handover_makes_no_third_task() -> None:
    there = world()
    service = running(there, replicas=2, update={"Order": "start-first"}, check_every_s=5)
    there.update("web", force())
    there.advance(3 * SECOND)
    (new,) = [task for task in service.tasks if task.template_key == service.template_key]
    assert new.state is TaskState.STARTING
    there.update("web", replicas(3))
    there.advance(SECOND)
    assert [task for task in service.tasks if task.slot == new.slot and task.is_wanted] == [new]


def test_a_scale_when_all_is_replaced_ends_the_rollout_without_a_word() -> None:
    there = world()
    service = running(there, update={"Monitor": 60 * NANO})
    there.update("web", force())
    there.advance(20 * SECOND)
    assert update_state(service) == UPDATING
    there.update("web", replicas(2))
    there.advance(20 * SECOND)
    assert service.update is None


def test_a_task_that_waits_for_its_restart_takes_the_place_of_the_outdated_one() -> None:
    there = world()
    update = {"Order": "start-first", "FailureAction": "pause"}
    service = running(there, update=update, restart={"Delay": 60 * NANO}, check_every_s=2)
    deploy(there, "broken")
    there.advance(10 * SECOND)
    assert told(service) == ["1 running/running", "1 failed/shutdown", "1 ready/ready"]
    waiting = newest(service)
    there.update("web", change("Labels.note", "go on"))
    there.advance(SETTLED)
    # It does not wait for the delay of its restart: that the old one has stopped is enough.
    assert waiting.state > TaskState.READY
    assert service.tasks[0].state is TaskState.SHUTDOWN


def test_a_task_that_is_lost_in_the_middle_is_replaced_by_one_of_the_new_release() -> None:
    there = world()
    service = running(there, replicas=3, update={"Delay": 10 * NANO})
    deploy(there, "2")
    there.advance(5 * SECOND)
    there.kill(container(newest(service, 3)))
    there.advance(60 * SECOND)
    assert update_state(service) == COMPLETED
    assert len(there.running("web")) == len([t for t in service.tasks if t.is_wanted]) == 3
    assert outdated(service) == 0
