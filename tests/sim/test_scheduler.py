"""Where tasks go, and Swarm's words where they can go nowhere."""

from __future__ import annotations

import pytest

from autoheal.sim.machine import NodePlan
from autoheal.sim.objects import Service, TaskState
from autoheal.sim.program import Program
from autoheal.sim.spec import service_spec
from autoheal.sim.world import World
from sim.worlds import (
    MIB,
    NANO,
    ONE_NODE,
    SECOND,
    SETTLED,
    change,
    container,
    force,
    home,
    newest,
    replicas,
    running,
    spread,
    told,
    world,
)

ZONES = (
    NodePlan("manager-1", "manager", labels={"zone": "a"}),
    NodePlan("worker-1", labels={"zone": "b", "ssd": "yes"}),
    NodePlan("worker-2", labels={"zone": "b"}),
)


def reserving(
    name: str = "web", cpus: float = 0, memory: int = 0, count: int = 1
) -> dict[str, object]:
    spec = service_spec(name, replicas=count)
    reserved = {"NanoCPUs": int(cpus * NANO), "MemoryBytes": memory}
    return change("TaskTemplate.Resources.Reservations", reserved)(spec)


def waiting(service: Service) -> list[str]:
    return [task.error for task in service.tasks if task.state is TaskState.PENDING]


def test_tasks_are_spread_by_service_first_and_by_all_tasks_then() -> None:
    there = world()
    running(there, "api", replicas=2)
    running(there, "web", replicas=3)
    assert set(spread(there, "web").values()) == {1}
    running(there, "job")
    assert spread(there, "job") == {"worker-2": 1}


def test_a_crowded_node_gets_its_part_of_a_service_too() -> None:
    there = world()
    running(there, "api", replicas=5, constraints=["node.hostname==worker-2"])
    running(there, "web", replicas=3)
    assert set(spread(there, "web").values()) == {1}


@pytest.mark.parametrize(
    ("constraints", "nodes"),
    [
        (["node.role==manager"], {"manager-1"}),
        (["node.role != manager"], {"worker-1", "worker-2"}),
        (["NODE.ROLE == Manager"], {"manager-1"}),
        (["node.hostname == worker-2"], {"worker-2"}),
        (["node.labels.zone==b"], {"worker-1", "worker-2"}),
        (["node.labels.zone==B"], {"worker-1", "worker-2"}),
        (["node.labels.zone==b", "node.labels.ssd!=yes"], {"worker-2"}),
        (["node.labels.Zone!=b"], {"manager-1", "worker-1", "worker-2"}),
        ([], {"manager-1", "worker-1", "worker-2"}),
    ],
)
def test_all_the_constraints_hold_where_a_task_runs(
    constraints: list[str], nodes: set[str]
) -> None:
    there = world(nodes=ZONES)
    running(there, replicas=3, constraints=constraints)
    assert set(spread(there)) == nodes


def test_a_task_can_be_bound_to_a_node_by_its_id() -> None:
    there = world()
    service = running(there, constraints=[f"node.id=={there.machine('worker-2').id}"])
    assert home(newest(service)) == "worker-2"


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("node.role=manager", '"node.role=manager" is not a placement constraint'),
        ("", '"" is not a placement constraint'),
        ("engine.labels.os==x", 'placement by "engine.labels.os" is not simulated'),
        ("node.labels", '"node.labels" is not a placement constraint'),
    ],
)
def test_a_constraint_that_cannot_be_kept_is_refused(constraint: str, message: str) -> None:
    there = world()
    there.create(service_spec("web", constraints=[constraint]), Program())
    with pytest.raises(ValueError, match="^" + message.replace(".", r"\.") + "$"):
        there.advance(SECOND)


def close(there: World, *hostnames: str) -> None:
    for hostname in hostnames:
        there.set_availability(hostname, "pause")


@pytest.mark.parametrize(
    ("closed", "constraints", "words"),
    [
        ((), ["node.labels.zone==c"], "scheduling constraints not satisfied on 3 nodes"),
        (("manager-1", "worker-1", "worker-2"), [], "3 nodes not available for new tasks"),
        (
            ("worker-1", "worker-2"),
            ["node.labels.zone==b"],
            "2 nodes not available for new tasks; scheduling constraints not satisfied on 1 node",
        ),
        (
            ("worker-1",),
            ["node.hostname==worker-1"],
            "scheduling constraints not satisfied on 2 nodes; 1 node not available for new tasks",
        ),
    ],
)
def test_a_task_that_has_no_place_tells_why_in_swarms_words(
    closed: tuple[str, ...], constraints: list[str], words: str
) -> None:
    there = world(nodes=ZONES)
    close(there, *closed)
    service = there.create(service_spec("web", constraints=constraints), Program())
    there.advance(SETTLED)
    assert waiting(service) == [f"no suitable node ({words})"]
    assert told(service) == ["1 pending/running"]


def test_a_task_that_waits_for_a_place_goes_when_there_is_one_and_forgets_why() -> None:
    there = world(nodes=ZONES)
    close(there, "worker-1", "worker-2")
    service = there.create(service_spec("web", constraints=["node.labels.zone==b"]), Program())
    there.advance(SETTLED)
    version = newest(service).index
    there.advance(SETTLED)
    assert newest(service).index == version
    there.set_availability("manager-1", "drain")
    there.set_availability("worker-2", "active")
    there.advance(SETTLED)
    assert (told(service), newest(service).error) == (["1 running/running"], "")


def test_the_reason_is_told_anew_when_it_changes() -> None:
    there = world(nodes=ZONES)
    service = there.create(service_spec("web", constraints=["node.labels.zone==c"]), Program())
    there.advance(SETTLED)
    close(there, "worker-1")
    version = newest(service).index
    there.advance(SECOND)
    assert newest(service).index > version
    why = "scheduling constraints not satisfied on 2 nodes; 1 node not available for new tasks"
    assert waiting(service) == [f"no suitable node ({why})"]


@pytest.mark.parametrize(("cpus", "memory"), [(2.0, 0), (0, 4 * 1024 * MIB), (2.0, 4 * 1024 * MIB)])
def test_reservations_fill_a_node_to_its_last_core_and_byte(cpus: float, memory: int) -> None:
    there = world()
    service = there.create(reserving(cpus=cpus, memory=memory, count=7), Program())
    there.advance(SETTLED)
    assert set(spread(there).values()) == {2}
    assert waiting(service) == ["no suitable node (insufficient resources on 3 nodes)"]


def test_what_a_task_reserves_is_free_when_it_has_stopped() -> None:
    there = world()
    service = there.create(reserving(cpus=4.0, count=3), Program())
    there.advance(SETTLED)
    there.create(reserving("next", cpus=4.0), Program())
    there.advance(SETTLED)
    assert there.running("next") == []
    there.update("web", replicas(2))
    there.advance(4 * SECOND)
    assert len(there.running("next")) == 1
    assert len(service.tasks) == 2


def test_a_task_that_failed_gives_its_place_to_its_replacement_at_once() -> None:
    there = world(nodes=ONE_NODE)
    service = there.create(reserving(cpus=4.0), Program())
    there.advance(SETTLED)
    there.kill(container(newest(service)))
    there.advance(SECOND)
    assert told(service) == ["1 failed/shutdown", "1 preparing/ready"]


def test_a_task_without_an_image_reserves_nothing_while_it_waits() -> None:
    there = world(nodes=ONE_NODE)
    service = there.create(reserving(cpus=4.0), Program(has_image=False))
    there.advance(4 * SECOND)
    assert told(service)[-1] == "1 rejected/ready"
    there.create(reserving("next", cpus=4.0), Program())
    there.advance(SECOND)
    assert told(there.service("next")) == ["1 preparing/running"]


def test_a_rollout_with_stop_first_waits_for_what_the_old_task_reserves() -> None:
    there = world()
    service = there.create(reserving(cpus=3.0, count=3), Program())
    there.advance(SETTLED)
    there.update("web", force())
    there.advance(60 * SECOND)
    assert told(service).count("1 running/running") == 1
    assert service.update is not None
    assert service.update.state == "completed"


def test_a_service_can_be_held_to_so_many_replicas_per_node() -> None:
    there = world()
    spec = service_spec("web", replicas=7)
    spec["TaskTemplate"]["Placement"]["MaxReplicas"] = 2
    service = there.create(spec, Program())
    there.advance(SETTLED)
    assert set(spread(there).values()) == {2}
    assert waiting(service) == ["no suitable node (max replicas per node limit exceed)"]


def test_nothing_goes_to_a_node_that_is_down() -> None:
    there = world()
    there.lose("worker-1")
    there.advance(20 * SECOND)
    running(there, replicas=4)
    assert "worker-1" not in spread(there)
