"""The managers: versions, slots, history, removal, nodes."""

from __future__ import annotations

import pytest

from autoheal.sim.objects import TaskState
from autoheal.sim.program import Order, Program
from autoheal.sim.spec import released, scaled, service_spec
from autoheal.sim.swarm import DOWN_AFTER_MS, OutOfSequenceError, Swarm
from autoheal.sim.world import World
from sim.worlds import (
    NANO,
    ONE_NODE,
    SECOND,
    SETTLED,
    START_MS,
    advance_until,
    change,
    container,
    force,
    home,
    ids,
    newest,
    replicas,
    running,
    spread,
    told,
    update_state,
    world,
)

NO_RESTART = {"Condition": "none"}


# Services and their versions


def test_a_service_comes_to_run_as_many_tasks_as_it_has_replicas() -> None:
    there = world()
    service = running(there, replicas=4)
    assert told(service) == [f"{slot} running/running" for slot in (1, 2, 3, 4)]
    assert update_state(service) == ("", "")


@pytest.mark.parametrize("mode", ["Global", "ReplicatedJob", "GlobalJob"])
def test_only_replicated_services_are_simulated(mode: str) -> None:
    spec = {**service_spec("web"), "Mode": {mode: {}}}
    with pytest.raises(ValueError, match="service web: only replicated services are simulated"):
        world().create(spec, Program())


def test_no_two_services_have_the_same_name() -> None:
    there = world()
    there.create(service_spec("web"), Program())
    with pytest.raises(ValueError, match="service web exists already"):
        there.create(service_spec("web"), Program())
    assert len(there.swarm.services) == 1


def test_a_name_is_free_again_while_the_tasks_of_its_last_owner_still_stop() -> None:
    there = world()
    old = running(there, program=Program(exit_on_term=None))
    there.remove("web")
    new = running(there)
    assert new.id != old.id
    assert told(old) == ["1 running/remove"]


def test_every_change_takes_the_next_version() -> None:
    there = world()
    service = running(there)
    before = there.swarm.index
    there.update("web", change("Labels.team", "shop"))
    assert service.index == there.swarm.index == before + 1


def test_a_write_to_a_version_that_is_past_changes_nothing() -> None:
    there = world()
    service = running(there, replicas=2)
    stale = service.index
    there.update("web", replicas(3))
    there.advance(SETTLED)
    index, spec, tasks = there.swarm.index, service.spec, told(service)
    for version in (stale, service.index - 1, service.index + 1, 0):
        with pytest.raises(OutOfSequenceError, match="update out of sequence"):
            there.swarm.update(service, version, released(spec, "2"), there.now_ms)
    there.advance(SETTLED)
    assert (there.swarm.index, service.spec, told(service)) == (index, spec, tasks)


def test_of_two_writes_to_one_version_the_second_is_refused() -> None:
    there = world()
    service = running(there)
    seen = service.index
    there.swarm.update(service, seen, scaled(service.spec, 2), there.now_ms)
    with pytest.raises(OutOfSequenceError):
        there.swarm.update(service, seen, scaled(service.spec, 2), there.now_ms)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Labels.team", "shop"),
        ("Mode.Replicated.Replicas", 2),
        ("Mode.Replicated.Replicas", 5),
        ("UpdateConfig.Parallelism", 2),
        ("Name", "web"),
    ],
)
def test_what_is_not_the_task_template_keeps_the_tasks(path: str, value: object) -> None:
    there = world()
    service = running(there, replicas=3)
    before, version = ids(service.tasks), service.index
    there.update("web", change(path, value))
    there.advance(10 * SECOND)
    kept = before & ids(there.running("web"))
    assert len(kept) == min(3, service.replicas)
    assert service.index > version
    assert service.update is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("TaskTemplate.ForceUpdate", 1),
        ("TaskTemplate.Resources.Limits.MemoryBytes", 1),
        ("TaskTemplate.ContainerSpec.Env", ["RELEASE=2"]),
        ("TaskTemplate.RestartPolicy.Delay", NANO),
    ],
)
def test_another_task_template_replaces_every_task(path: str, value: object) -> None:
    there = world()
    service = running(there, replicas=2)
    before = ids(service.tasks)
    there.update("web", change(path, value))
    there.advance(60 * SECOND)
    assert not before & {task.id for task in service.tasks if task.is_wanted}
    assert all(task.template == service.template for task in service.tasks if task.is_wanted)


def test_writing_what_is_there_moves_the_version_and_nothing_else() -> None:
    there = world()
    service = running(there, replicas=2)
    before, version = ids(service.tasks), service.index
    there.update("web", dict)
    there.advance(10 * SECOND)
    assert (ids(service.tasks), service.update) == (before, None)
    assert service.index > version
    assert service.previous == service.spec


def test_the_spec_before_the_last_write_is_kept() -> None:
    there = world()
    first = service_spec("web")
    service = there.create(first, Program())
    assert there.service("web").previous is None
    there.update("web", replicas(2))
    assert service.previous == first
    there.update("web", replicas(3))
    assert service.previous == scaled(first, 2)


def test_a_spec_is_copied_when_it_is_posted() -> None:
    there = world()
    spec = service_spec("web")
    service = there.create(spec, Program())
    spec["Labels"]["team"] = "shop"
    changed = scaled(service.spec, 2)
    there.update("web", lambda _: changed)
    changed["Mode"]["Replicated"]["Replicas"] = 9
    assert (service.spec["Labels"], service.replicas) == ({}, 2)


def test_the_time_of_the_last_change_is_kept() -> None:
    there = world()
    service = running(there)
    assert (service.created_ms, service.updated_ms) == (there.now_ms - SETTLED,) * 2
    there.update("web", force())
    assert service.updated_ms == there.now_ms
    there.advance(30 * SECOND)
    assert service.update is not None
    assert service.updated_ms == service.update.completed_ms == START_MS + SETTLED + 7 * SECOND


# Scaling


def test_new_slots_take_the_lowest_numbers_that_are_free() -> None:
    there = world()
    service = running(there, replicas=4)
    for slot in (1, 3):
        there.swarm.want(newest(service, slot), TaskState.REMOVE)
    there.advance(SETTLED)
    there.update("web", replicas(5))
    there.advance(SETTLED)
    assert sorted(task.slot for task in there.running("web")) == [1, 2, 3, 4, 5]


def test_scaling_down_ends_the_surplus_and_forgets_it() -> None:
    there = world()
    service = running(there, replicas=5)
    there.update("web", replicas(2))
    there.advance(SECOND)
    assert told(service).count("3 running/remove") == 1
    there.advance(SETTLED)
    assert told(service) == ["1 running/running", "2 running/running"]


def test_scaling_to_none_ends_all_tasks_and_keeps_the_service() -> None:
    there = world()
    service = running(there, replicas=3)
    there.update("web", replicas(0))
    there.advance(SETTLED)
    assert (service.tasks, there.service("web")) == ([], service)
    there.update("web", replicas(1))
    there.advance(SETTLED)
    assert told(service) == ["1 running/running"]


@pytest.mark.parametrize("count", range(1, 9))
def test_scaling_down_keeps_the_spread(count: int) -> None:
    there = world()
    running(there, replicas=9)
    there.update("web", replicas(count))
    there.advance(SETTLED)
    counts = [spread(there).get(machine.hostname, 0) for machine in there.machines]
    assert sum(counts) == count
    assert max(counts) - min(counts) <= 1


def test_scaling_down_takes_from_the_fullest_node_first() -> None:
    there = world()
    there.set_availability("worker-2", "drain")
    running(there, replicas=4)
    there.set_availability("worker-2", "active")
    there.set_availability("manager-1", "pause")
    there.set_availability("worker-1", "pause")
    there.update("web", replicas(5))
    there.advance(SETTLED)
    assert spread(there) == {"manager-1": 2, "worker-1": 2, "worker-2": 1}
    there.update("web", replicas(3))
    there.advance(SETTLED)
    assert spread(there) == {"manager-1": 1, "worker-1": 1, "worker-2": 1}


def test_scaling_down_takes_what_has_no_place_before_what_runs() -> None:
    there = world()
    service = running(there, replicas=3, constraints=["node.role==worker"])
    for machine in there.machines:
        there.set_availability(machine.hostname, "pause")
    there.update("web", replicas(4))
    there.advance(SETTLED)
    assert told(service)[-1] == "4 pending/running"
    there.update("web", replicas(3))
    there.advance(SECOND)
    assert told(service) == [f"{slot} running/running" for slot in (1, 2, 3)]


def test_on_one_node_scaling_down_takes_what_does_not_run_before_what_does() -> None:
    there = world(nodes=ONE_NODE)
    service = running(there, replicas=3)
    there.kill(container(newest(service, 1)))
    there.advance(SECOND)
    there.update("web", replicas(2))
    there.advance(SECOND)
    assert {task.slot for task in service.tasks if task.is_wanted} == {2, 3}


def test_scaling_down_takes_a_slot_that_is_being_replaced_first() -> None:
    there = world()
    service = running(there, replicas=3, update={"Order": "start-first"})
    there.update("web", force())
    there.advance(SECOND)
    assert len([task for task in service.tasks if task.slot == 1 and task.is_wanted]) == 2
    there.update("web", replicas(2))
    there.advance(SECOND)
    assert {task.slot for task in service.tasks if task.is_wanted} == {2, 3}


def test_the_number_of_a_slot_that_still_stops_is_free() -> None:
    there = world()
    service = running(there, replicas=2, program=Program(exit_on_term=None))
    there.update("web", replicas(1))
    there.advance(SECOND)
    there.update("web", replicas(2))
    there.advance(SETTLED)
    assert told(service) == ["1 running/running", "2 running/remove", "2 running/running"]


def test_a_slot_that_is_used_again_keeps_its_history() -> None:
    there = world()
    service = running(there, replicas=2)
    there.update("web", force())
    there.advance(30 * SECOND)
    there.update("web", replicas(1))
    there.advance(SETTLED)
    gone = [task for task in service.tasks if task.slot == 2]
    assert [task.state for task in gone] == [TaskState.SHUTDOWN]
    there.update("web", replicas(2))
    there.advance(SETTLED)
    assert told(service)[2:] == ["2 shutdown/shutdown", "2 running/running"]
    assert gone[0] in service.tasks


def test_the_history_of_a_slot_that_is_gone_is_dropped_by_the_next_change() -> None:
    there = world()
    service = running(there, replicas=2)
    there.update("web", force())
    there.advance(30 * SECOND)
    there.update("web", replicas(1))
    there.advance(SETTLED)
    there.update("web", change("Labels.team", "shop"))
    there.advance(SECOND)
    assert told(service) == ["1 shutdown/shutdown", "1 running/running"]


# History


def crash_for(there: World, service: str, seconds: int) -> None:
    there.service(service).orders.give(Order.CRASH)
    there.advance(seconds * SECOND)


def test_five_tasks_are_remembered_in_a_slot_the_present_one_among_them() -> None:
    there = world()
    service = running(there, replicas=2)
    crash_for(there, "web", 120)
    assert {slot: len(tasks) for slot, tasks in service.slots().items()} == {1: 5, 2: 5}
    assert all(tasks[-1].is_wanted for tasks in service.slots().values())
    assert all(task.state is TaskState.FAILED for task in service.slots()[1][:-1])


@pytest.mark.parametrize("attempts", [1, 2, 7])
def test_with_a_number_of_attempts_one_task_more_than_that_is_remembered(attempts: int) -> None:
    there = world()
    service = running(there, restart={"MaxAttempts": attempts, "Delay": NANO})
    for count in range(1, attempts + 3):
        there.update("web", force(count))
        there.advance(20 * SECOND)
    assert len(service.tasks) == attempts + 1


def test_tasks_that_run_are_never_forgotten_for_their_number() -> None:
    there = world()
    service = running(there, program=Program(exit_on_term=None))
    spec = change("TaskTemplate.ContainerSpec.StopGracePeriod", 600 * NANO)
    there.update("web", spec)
    there.advance(30 * SECOND)
    for count in range(1, 8):
        there.update("web", change("UpdateConfig.Order", "start-first"))
        there.update("web", force(count))
        there.advance(10 * SECOND)
    alive = [task for task in service.tasks if not task.has_ended]
    assert len(alive) > 5


# Removal


def test_removing_a_service_ends_all_its_tasks_and_forgets_them() -> None:
    there = world()
    service = running(there, replicas=3)
    there.remove("web")
    with pytest.raises(KeyError):
        there.service("web")
    assert ids(list(there.swarm.tasks())) == ids(service.tasks)
    there.advance(SECOND)
    assert {task.desired for task in service.tasks} == {TaskState.REMOVE}
    there.advance(SECOND)
    assert list(there.swarm.tasks()) == []
    assert there.swarm._removed == []
    assert all(not list(machine.containers()) for machine in there.machines)


def test_a_removed_service_is_rolled_and_restarted_no_more() -> None:
    there = world()
    service = running(there, replicas=3, program=Program(exit_on_term=None))
    there.update("web", force())
    there.advance(SECOND)
    service.orders.give(Order.CRASH)
    there.remove("web")
    there.advance(60 * SECOND)
    assert list(there.swarm.tasks()) == []


def test_a_service_that_is_changed_and_removed_at_once_makes_no_task() -> None:
    there = world()
    there.create(service_spec("web"), Program())
    there.remove("web")
    there.advance(SETTLED)
    assert list(there.swarm.tasks()) == []


def test_the_tasks_of_a_removed_service_on_a_lost_node_go_when_it_returns() -> None:
    there = world()
    running(there, replicas=3)
    there.lose("worker-2")
    there.remove("web")
    there.advance(60 * SECOND)
    assert len(list(there.swarm.tasks())) == 1
    there.restore("worker-2")
    there.advance(SECOND)
    assert list(there.swarm.tasks()) == []


# Nodes


def test_a_node_is_down_when_it_was_not_heard_for_15_s() -> None:
    there = world()
    there.advance(SECOND)
    there.lose("worker-1")
    there.advance(DOWN_AFTER_MS - SECOND)
    assert there.machine("worker-1").state == "ready"
    there.advance(SECOND)
    assert there.machine("worker-1").state == "down"
    there.restore("worker-1")
    there.advance(SECOND)
    assert there.machine("worker-1").state == "ready"


def test_the_tasks_of_a_node_that_is_down_are_replaced_elsewhere() -> None:
    there = world()
    service = running(there, replicas=3, restart={"Delay": NANO})
    (lost,) = [task for task in service.tasks if home(task) == "worker-2"]
    there.lose("worker-2")
    there.advance(DOWN_AFTER_MS)
    # It may run on: nobody knows.
    assert (lost.state, lost.desired) == (TaskState.RUNNING, TaskState.SHUTDOWN)
    assert newest(service, lost.slot).desired is TaskState.READY
    there.advance(SETTLED)
    assert sum(spread(there).values()) == 4
    assert home(newest(service, lost.slot)) != "worker-2"
    there.restore("worker-2")
    there.advance(SECOND)
    assert (lost.state, lost.desired) == (TaskState.FAILED, TaskState.SHUTDOWN)
    assert (lost.exit_code, lost.error) == (255, "task: non-zero exit (255)")
    assert sum(spread(there).values()) == 3
    assert "worker-2" not in spread(there)


def test_a_node_that_returns_before_it_was_missed_has_its_tasks_restarted() -> None:
    there = world()
    service = running(there, replicas=3)
    (lost,) = [task for task in service.tasks if home(task) == "worker-2"]
    there.lose("worker-2")
    there.advance(5 * SECOND)
    assert lost.desired is TaskState.RUNNING
    there.restore("worker-2")
    there.advance(SECOND)
    assert (lost.state, lost.exit_code) == (TaskState.FAILED, 255)
    advance_until(there, lambda: len(there.running("web")) == 3, 10)


def test_a_task_without_a_container_on_a_lost_node_is_shut_down_on_its_return() -> None:
    there = world()
    service = there.create(service_spec("web", constraints=["node.role==worker"]), Program())
    there.advance(SECOND)
    lost = newest(service)
    assert lost.state is TaskState.PREPARING
    there.lose(home(lost))
    there.advance(DOWN_AFTER_MS)
    there.restore(home(lost))
    there.advance(SECOND)
    assert (lost.state, lost.exit_code, lost.container) == (TaskState.SHUTDOWN, 0, None)


@pytest.mark.parametrize("condition", ["any", "on-failure"])
def test_draining_moves_tasks_without_the_restart_delay(condition: str) -> None:
    there = world()
    restart = {"Condition": condition, "Delay": 60 * NANO}
    service = running(there, replicas=3, restart=restart)
    there.set_availability("worker-1", "drain")
    there.advance(4 * SECOND)
    assert len(there.running("web")) == 3
    assert "worker-1" not in spread(there)
    assert told(service).count("2 shutdown/shutdown") == 1


def test_without_restarts_a_drained_node_only_loses_its_tasks() -> None:
    there = world()
    running(there, replicas=3, restart=NO_RESTART)
    there.set_availability("worker-1", "drain")
    there.advance(30 * SECOND)
    assert len(there.running("web")) == 2


def test_pausing_a_node_keeps_its_tasks_and_takes_no_new_ones() -> None:
    there = world()
    service = running(there, replicas=3)
    before = ids(service.tasks)
    there.set_availability("worker-1", "pause")
    there.update("web", replicas(6))
    there.advance(SETTLED)
    assert before < ids(there.running("web"))
    assert spread(there)["worker-1"] == 1


def test_activating_a_node_moves_nothing_back() -> None:
    there = world()
    running(there, replicas=3)
    there.set_availability("worker-1", "drain")
    there.advance(10 * SECOND)
    there.set_availability("worker-1", "active")
    there.advance(30 * SECOND)
    assert "worker-1" not in spread(there)
    there.update("web", replicas(4))
    there.advance(SETTLED)
    assert spread(there)["worker-1"] == 1


def test_a_task_whose_node_is_no_longer_fit_for_it_is_replaced() -> None:
    there = world()
    there.machine("worker-1").labels["zone"] = "a"
    service = running(there, constraints=["node.labels.zone==a"])
    there.machine("worker-1").labels.clear()
    there.machine("worker-2").labels["zone"] = "a"
    there.advance(10 * SECOND)
    assert home(newest(service)) == "worker-2"
    assert len(there.running("web")) == 1


def test_a_task_that_waits_for_its_restart_outlives_the_loss_of_its_node_no_longer_than_that() -> (
    None
):
    there = world()
    service = running(there, restart={"Delay": 30 * NANO})
    service.orders.give(Order.CRASH, to=container(newest(service)))
    there.advance(SETTLED)
    waiting = newest(service)
    assert waiting.desired is TaskState.READY
    there.set_availability(home(waiting), "drain")
    there.advance(20 * SECOND)
    assert newest(service) is waiting
    there.advance(15 * SECOND)
    assert newest(service) is not waiting
    assert len(there.running("web")) == 1


def test_managers_that_never_come_to_rest_are_a_mistake_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = world()

    def hear(self: Swarm, now_ms: int) -> None:
        del now_ms
        self.changes += 1

    monkeypatch.setattr(Swarm, "_hear", hear)
    with pytest.raises(AssertionError, match="never come to rest"):
        there.advance(SECOND)
