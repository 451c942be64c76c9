"""The Docker API of simulated nodes, and its JSON as the product reads it."""

from __future__ import annotations

import copy
import json

import pytest

from autoheal.adapters.swarm_objects import milliseconds, node_from, service_from, task_from
from autoheal.errors import RemoteRefused, RemoteUnreachable
from autoheal.model import Node, ServiceMode
from autoheal.sim.docker_api import DockerApi
from autoheal.sim.machine import NodePlan
from autoheal.sim.program import Program
from autoheal.sim.spec import released, scaled, service_spec
from autoheal.sim.world import World
from sim.worlds import (
    MIB,
    ONE_NODE,
    SECOND,
    SETTLED,
    START_MS,
    advance_until,
    container,
    force,
    newest,
    replicas,
    running,
    update_state,
    world,
)

READ = ("/services", "/nodes", "/tasks")


def manager(there: World) -> DockerApi:
    return there.docker(there.machines[0].hostname)


def test_the_api_lists_services_nodes_and_tasks_as_json() -> None:
    there = world()
    running(there, "api", replicas=2)
    running(there, "web")
    api = manager(there)
    for path, count in zip(READ, (2, 3, 3), strict=True):
        found = api.get(path)
        assert len(found) == count
        assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("by", ["id", "name"])
def test_a_service_is_found_by_its_id_and_by_its_name(by: str) -> None:
    there = world()
    running(there, "api")
    service = running(there)
    found = manager(there).get(f"/services/{getattr(service, by)}")
    assert (found["ID"], found["Spec"]) == (service.id, service.spec)


def test_a_node_is_found_by_its_id_and_by_its_hostname() -> None:
    there = world()
    machine = there.machine("worker-2")
    api = manager(there)
    assert api.get(f"/nodes/{machine.id}") == api.get("/nodes/worker-2")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/services/none", "service none not found"),
        ("/nodes/none", "node none not found"),
        ("/tasks/none", "page not found"),
        ("/swarm", "page not found"),
        ("/services/", "page not found"),
        ("/containers/json", "page not found"),
    ],
)
def test_what_there_is_not_is_not_found(path: str, words: str) -> None:
    with pytest.raises(RemoteRefused) as refused:
        manager(world()).get(path)
    assert (refused.value.status, refused.value.detail) == (404, words)


@pytest.mark.parametrize("path", [*READ, "/services/web", "/nodes/worker-1"])
def test_a_worker_tells_nothing_of_the_swarm(path: str) -> None:
    there = world()
    running(there)
    with pytest.raises(RemoteRefused, match="This node is not a swarm manager") as refused:
        there.docker("worker-1").get(path)
    assert refused.value.status == 503


def test_a_worker_changes_nothing() -> None:
    there = world()
    service = running(there)
    with pytest.raises(RemoteRefused, match="This node is not a swarm manager"):
        there.docker("worker-1").update_service(service.id, service.index, dict(service.spec))


@pytest.mark.parametrize(("hostname", "is_manager"), [("manager-1", True), ("worker-1", False)])
def test_every_node_tells_of_itself(hostname: str, *, is_manager: bool) -> None:
    there = world()
    info = there.docker(hostname).get("/info")
    assert info["Name"] == hostname
    assert info["Swarm"]["NodeID"] == there.machine(hostname).id
    assert info["Swarm"]["ControlAvailable"] is is_manager


def test_a_node_without_power_cannot_be_reached() -> None:
    there = world()
    service = running(there)
    api = manager(there)
    there.lose("manager-1")
    for path in (*READ, "/info"):
        with pytest.raises(RemoteUnreachable, match="manager-1 has no power"):
            api.get(path)
    with pytest.raises(RemoteUnreachable):
        api.update_service(service.id, service.index, dict(service.spec))


# Writing


def test_a_write_to_the_present_version_is_taken() -> None:
    there = world()
    service = running(there)
    api = manager(there)
    raw = api.get("/services/web")
    api.update_service("web", raw["Version"]["Index"], scaled(raw["Spec"], 3))
    again = api.get(f"/services/{service.id}")
    assert again["Spec"]["Mode"] == {"Replicated": {"Replicas": 3}}
    assert again["PreviousSpec"] == raw["Spec"]
    assert again["Version"]["Index"] > raw["Version"]["Index"]
    assert milliseconds(again["UpdatedAt"]) == there.now_ms


def test_a_stale_write_is_refused_in_dockers_words_and_changes_nothing() -> None:
    there = world()
    service = running(there)
    api = manager(there)
    before = copy.deepcopy([api.get(path) for path in READ])
    with pytest.raises(RemoteRefused) as refused:
        api.update_service(service.id, service.index - 1, released(service.spec, "2"))
    assert refused.value.status == 500
    assert refused.value.detail == "rpc error: code = Unknown desc = update out of sequence"
    assert [api.get(path) for path in READ] == before


def test_a_write_to_no_service_is_not_found() -> None:
    with pytest.raises(RemoteRefused, match="service none not found") as refused:
        manager(world()).update_service("none", 1, service_spec("none"))
    assert refused.value.status == 404


# As the product reads it


def test_a_service_reads_as_it_was_described() -> None:
    there = world(nodes=ONE_NODE)
    spec = service_spec(
        "web",
        replicas=3,
        cpus=0.25,
        memory=64 * MIB,
        labels={"autoheal.enable": "true"},
        constraints=["node.role==manager"],
        restart={"Condition": "on-failure"},
        update={"Order": "start-first"},
    )
    service = there.create(spec, Program())
    read = service_from(manager(there).get("/services/web"))
    assert (read.id, read.name, read.index) == (service.id, "web", service.index)
    assert (read.mode, read.replicas, read.force_update) == (ServiceMode.REPLICATED, 3, 0)
    assert (read.cpu_limit, read.cpu_reservation, read.memory_limit) == (0.25, None, 64 * MIB)
    assert (read.created_at_ms, read.updated_at_ms) == (START_MS, START_MS)
    assert (read.pinned, read.stateful) == (True, False)
    assert (read.update_order, read.restart_condition) == ("start-first", "on-failure")
    assert (read.update_state, read.constraints) == ("", ("node.role==manager",))
    assert read.labels == {"autoheal.enable": "true"}


def test_the_rollout_of_a_service_is_told_in_dockers_words() -> None:
    there = world()
    running(there, update={"FailureAction": "rollback"})
    api = manager(there)
    assert "UpdateStatus" not in api.get("/services/web")
    assert "PreviousSpec" not in api.get("/services/web")
    there.update("web", lambda spec: released(spec, "broken"))
    there.advance(SECOND)
    began = api.get("/services/web")["UpdateStatus"]
    assert began == {
        "State": "updating",
        "StartedAt": began["StartedAt"],
        "Message": "update in progress",
    }
    assert milliseconds(began["StartedAt"]) == there.now_ms
    advance_until(there, lambda: update_state(there.service("web"))[0] == "rollback_completed")
    raw = api.get("/services/web")
    assert raw["UpdateStatus"]["State"] == service_from(raw).update_state == "rollback_completed"
    assert milliseconds(raw["UpdateStatus"]["CompletedAt"]) == there.now_ms
    assert raw["UpdateStatus"]["StartedAt"] == began["StartedAt"]
    assert "PreviousSpec" not in raw


def test_a_running_task_reads_as_it_is() -> None:
    there = world()
    service = running(there, memory=64 * MIB)
    task = newest(service)
    (raw,) = manager(there).get("/tasks")
    read = task_from(raw)
    assert (read.id, read.index, read.service, read.slot) == (task.id, task.index, service.id, 1)
    assert (read.node, read.container) == (task.machine.id, container(task))  # type: ignore[union-attr]  # it runs
    assert (read.state, read.desired_state, read.exit_code) == ("running", "running", None)
    assert (read.memory_limit, read.force_update, read.error) == (64 * MIB, 0, "")
    assert read.state_since_ms == task.state_since_ms
    assert raw["Spec"] == service.template
    assert milliseconds(raw["UpdatedAt"]) == task.updated_ms


def test_a_task_with_no_place_has_neither_node_nor_container() -> None:
    there = world()
    there.create(service_spec("web", constraints=["node.role==none"]), Program())
    there.advance(SETTLED)
    (raw,) = manager(there).get("/tasks")
    read = task_from(raw)
    assert (read.node, read.container, read.exit_code) == ("", "", None)
    assert (read.state, read.desired_state) == ("pending", "running")
    assert read.error.startswith("no suitable node (")
    assert "ContainerStatus" not in raw["Status"]


@pytest.mark.parametrize(("code", "shown"), [(0, None), (3, 3)])
def test_the_exit_code_of_a_task_that_has_ended_is_told_unless_it_is_0(
    code: int, shown: int | None
) -> None:
    there = world()
    running(there, program=Program(exit_on_term=code))
    there.update("web", force())
    there.advance(SETTLED)
    raw = next(
        each for each in manager(there).get("/tasks") if each["Status"]["State"] == "shutdown"
    )
    assert raw["Status"]["ContainerStatus"].get("ExitCode") == shown
    assert "PID" not in raw["Status"]["ContainerStatus"]
    assert task_from(raw).exit_code == code


def test_a_task_on_a_lost_node_looks_as_if_it_ran() -> None:
    there = world()
    running(there, constraints=["node.hostname==worker-1"])
    there.lose("worker-1")
    there.advance(20 * SECOND)
    raw = manager(there).get("/tasks")[0]
    assert (task_from(raw).state, task_from(raw).desired_state) == ("running", "shutdown")
    assert (task_from(raw).exit_code, raw["Status"]["ContainerStatus"]["PID"] > 0) == (None, True)


def test_the_tasks_of_a_removed_service_are_told_until_they_have_stopped() -> None:
    there = world()
    running(there)
    there.remove("web")
    api = manager(there)
    assert [task["DesiredState"] for task in api.get("/tasks")] == ["remove"]
    assert api.get("/services") == []
    there.advance(SETTLED)
    assert api.get("/tasks") == []


def test_nodes_read_as_they_were_bought() -> None:
    nodes = (
        NodePlan("one", "manager", cores=1.5, memory=MIB, labels={"zone": "a"}),
        NodePlan("two", "manager"),
        NodePlan("three"),
    )
    there = world(nodes=nodes)
    read = [node_from(raw) for raw in manager(there).get("/nodes")]
    assert read == [
        Node(
            id=machine.id,
            index=machine.index,
            hostname=plan.hostname,
            role=plan.role,
            availability="active",
            state="ready",
            cores=plan.cores,
            memory=plan.memory,
            leader=plan.hostname == "one",
            labels=dict(plan.labels or {}),
        )
        for plan, machine in zip(nodes, there.machines, strict=True)
    ]


@pytest.mark.parametrize("availability", ["pause", "drain", "active"])
def test_the_availability_of_a_node_is_told_at_once(availability: str) -> None:
    there = world()
    api = manager(there)
    before = api.get("/nodes/worker-1")
    there.set_availability("worker-1", availability)
    after = api.get("/nodes/worker-1")
    assert after["Spec"]["Availability"] == availability
    assert after["Version"]["Index"] > before["Version"]["Index"]


def test_a_lost_node_is_told_when_it_is_missed() -> None:
    there = world()
    there.lose("worker-1")
    there.advance(20 * SECOND)
    raw = manager(there).get("/nodes/worker-1")
    assert node_from(raw).state == "down"
    assert raw["Status"]["State"] == "down"
    assert milliseconds(raw["UpdatedAt"]) > milliseconds(raw["CreatedAt"])


def test_what_did_not_change_is_not_rendered_again() -> None:
    there = world()
    service = running(there)
    api = manager(there)

    def rendered() -> list[object]:
        for path in READ:
            api.get(path)
        return [each.rendered for each in (service, there.machines[0], newest(service))]

    before = rendered()
    there.advance(60 * SECOND)
    assert all(each is same for each, same in zip(before, rendered(), strict=True))
    there.update("web", replicas(1))
    assert rendered()[0] is not before[0]


def test_whoever_changes_an_answer_changes_no_world() -> None:
    there = world()
    running(there)
    api = manager(there)
    for path in READ:
        answer = api.get(path)
        before = copy.deepcopy(answer)
        answer[0]["Spec"].clear()
        answer.clear()
        assert api.get(path) == before
