from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from autoheal.adapters.swarm_objects import (
    content_digest,
    milliseconds,
    node_from,
    service_from,
    task_from,
)
from autoheal.model import Node, Service, ServiceMode, Task

GIB = 2**30
Spec = dict[str, Any]


def a_spec() -> Spec:
    return {
        "Name": "shop_web",
        "Labels": {"com.docker.stack.namespace": "shop", "autoheal.enable": "true"},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "web:1@sha256:abc",
                "Labels": {"autoheal.x": "inside"},
                "Mounts": [{"Type": "volume", "Source": "data", "Target": "/data"}],
            },
            "Resources": {
                "Limits": {"NanoCPUs": 500_000_000, "MemoryBytes": GIB},
                "Reservations": {"NanoCPUs": 250_000_000},
            },
            "RestartPolicy": {"Condition": "on-failure", "MaxAttempts": 3},
            "Placement": {"Constraints": ["node.role==worker", "node.labels.disk == ssd"]},
            "ForceUpdate": 3,
        },
        "Mode": {"Replicated": {"Replicas": 2}},
        "UpdateConfig": {"Parallelism": 1, "Order": "start-first"},
    }


def a_service(spec: Spec) -> Spec:
    return {
        "ID": "8uq2sbrs6jfqnjtmr2rnlsvc9",
        "Version": {"Index": 42},
        "CreatedAt": "2026-01-02T03:04:05.123456789Z",
        "UpdatedAt": "2026-01-02T03:04:06Z",
        "Spec": spec,
        "UpdateStatus": {"State": "updating"},
    }


def test_a_replicated_service() -> None:
    spec = a_spec()
    assert service_from(a_service(spec)) == Service(
        id="8uq2sbrs6jfqnjtmr2rnlsvc9",
        name="shop_web",
        index=42,
        mode=ServiceMode.REPLICATED,
        replicas=2,
        content=content_digest(spec),
        force_update=3,
        cpu_limit=0.5,
        cpu_reservation=0.25,
        memory_limit=GIB,
        update_state="updating",
        created_at_ms=1_767_323_045_123,
        updated_at_ms=1_767_323_046_000,
        pinned=True,
        stateful=True,
        update_order="start-first",
        restart_condition="on-failure",
        constraints=("node.role==worker", "node.labels.disk == ssd"),
        labels={"com.docker.stack.namespace": "shop", "autoheal.enable": "true"},
    )


@pytest.mark.parametrize(
    ("mode", "expected", "replicas"),
    [
        ({"Replicated": {"Replicas": 0}}, ServiceMode.REPLICATED, 0),
        ({"Replicated": {}}, ServiceMode.REPLICATED, None),
        ({"Global": {}}, ServiceMode.GLOBAL, None),
        (
            {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 5}},
            ServiceMode.REPLICATED_JOB,
            None,
        ),
        ({"GlobalJob": {}}, ServiceMode.GLOBAL_JOB, None),
    ],
)
def test_modes(mode: Spec, expected: ServiceMode, replicas: int | None) -> None:
    service = service_from({"ID": "s", "Spec": {"Name": "x", "Mode": mode}})
    assert (service.mode, service.replicas) == (expected, replicas)


def test_what_docker_leaves_out() -> None:
    service = service_from({"ID": "s", "Spec": {"Mode": {"Global": {}}, "Labels": None}})
    assert (service.name, service.index, service.labels) == ("", 0, {})
    assert (service.cpu_limit, service.cpu_reservation, service.memory_limit) == (None, None, None)
    assert (service.update_state, service.created_at_ms, service.force_update) == ("", 0, 0)
    zero = {"Limits": {"NanoCPUs": 0, "MemoryBytes": 0}}
    spec = {"Mode": {"Global": {}}, "TaskTemplate": {"Resources": zero}}
    service = service_from({"ID": "s", "Spec": spec})
    assert (service.cpu_limit, service.memory_limit) == (None, None)


@pytest.mark.parametrize(
    "template",
    [
        {},
        {"ContainerSpec": {}, "RestartPolicy": {}, "Placement": {}},
        {"ContainerSpec": None, "RestartPolicy": None, "Placement": None},
        {
            "ContainerSpec": {"Image": "", "Mounts": None},
            "RestartPolicy": {"Condition": ""},
            "Placement": {"Constraints": None},
        },
        {"PluginSpec": {"Name": "x", "Remote": "x@sha256:abc"}},
    ],
)
@pytest.mark.parametrize("update", [{}, {"UpdateConfig": None}, {"UpdateConfig": {"Order": ""}}])
def test_what_a_service_does_not_say_is_what_swarm_takes(template: Spec, update: Spec) -> None:
    spec = {"Mode": {"Global": {}}, "TaskTemplate": template, **update}
    service = service_from({"ID": "s", "Spec": spec})
    assert (service.update_order, service.restart_condition) == ("stop-first", "any")
    assert (service.pinned, service.stateful, service.constraints) == (False, False, ())


def with_container(**container: object) -> Service:
    spec = {"Mode": {"Global": {}}, "TaskTemplate": {"ContainerSpec": container}}
    return service_from({"ID": "s", "Spec": spec})


@pytest.mark.parametrize(
    ("image", "pinned"),
    [
        ("registry:5000/shop/web:1@sha256:abc", True),
        ("web@sha256:abc", True),
        ("web:1", False),
        ("web:sha256", False),
        ("web", False),
    ],
)
def test_an_image_is_pinned_by_its_digest(image: str, pinned: bool) -> None:
    assert with_container(Image=image).pinned is pinned


@pytest.mark.parametrize(
    ("mounts", "stateful"),
    [
        ([{"Type": "volume"}], True),
        ([{"Type": "volume", "ReadOnly": False}], True),
        ([{"Type": "bind"}], True),
        ([{"Type": "cluster"}], True),
        ([{"Type": "volume", "ReadOnly": True}], False),
        ([{"Type": "bind", "ReadOnly": True}], False),
        ([{"Type": "tmpfs"}, {"Type": "npipe"}], False),
        ([{"Type": "bind", "ReadOnly": True}, {"Type": "tmpfs"}, {"Type": "volume"}], True),
        ([], False),
    ],
)
def test_stateful_is_what_writes_to_something_that_outlives_it(
    mounts: list[Spec], stateful: bool
) -> None:
    assert with_container(Mounts=mounts).stateful is stateful


def test_a_mode_we_do_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="a mode we do not know"):
        service_from({"ID": "s", "Spec": {"Name": "x", "Mode": {"Quantum": {}}}})


def test_huge_labels_are_cut() -> None:
    spec = {"Mode": {"Global": {}}, "Labels": {"a": "x" * 9999, "b": "y"}}
    assert service_from({"ID": "s", "Spec": spec}).labels == {"a": "x" * 512, "b": "y"}


def test_a_task() -> None:
    raw = {
        "ID": "t1",
        "Version": {"Index": 77},
        "ServiceID": "s1",
        "NodeID": "n1",
        "Slot": 2,
        "Spec": {"ForceUpdate": 4, "Resources": {"Limits": {"MemoryBytes": GIB}}},
        "Status": {
            "State": "failed",
            "Timestamp": "2026-01-02T03:04:05.9999Z",
            "Err": "task: non-zero exit (3)",
            "ContainerStatus": {"ContainerID": "c" * 64, "PID": 0, "ExitCode": 3},
        },
        "DesiredState": "shutdown",
    }
    assert task_from(raw) == Task(
        id="t1",
        index=77,
        service="s1",
        node="n1",
        slot=2,
        container="c" * 64,
        state="failed",
        desired_state="shutdown",
        state_since_ms=1_767_323_045_999,
        force_update=4,
        memory_limit=GIB,
        exit_code=3,
        error="task: non-zero exit (3)",
    )
    assert task_from({"ID": "t"}) == Task("t", 0, "", "", 0, "", "", "", 0, 0, None, None, "")


@pytest.mark.parametrize(
    "spec",
    [
        None,
        {},
        {"ForceUpdate": 0, "Resources": None},
        {"Resources": {"Limits": None}},
        {"Resources": {"Limits": {"MemoryBytes": 0}}},
        {"Resources": {"Reservations": {"MemoryBytes": GIB}}},
    ],
)
def test_a_task_without_a_limit(spec: Spec | None) -> None:
    task = task_from({"ID": "t", "Spec": spec})
    assert (task.force_update, task.memory_limit) == (0, None)


def ended(state: str = "failed", **container: object) -> Task:
    status = {"ContainerID": "c" * 64, "PID": 0, **container}
    return task_from({"ID": "t", "Status": {"State": state, "ContainerStatus": status}})


@pytest.mark.parametrize(
    "state", sorted(["complete", "failed", "shutdown", "rejected", "orphaned", "remove"])
)
def test_an_exit_code_is_told_once_the_task_has_ended(state: str) -> None:
    assert ended(state, ExitCode=137).exit_code == 137


def test_an_exit_code_that_docker_leaves_out_is_0() -> None:
    assert ended("complete").exit_code == 0


@pytest.mark.parametrize(
    "task",
    [
        ended("running", PID=7, ExitCode=0),
        ended("starting", ExitCode=0),
        ended("rejected", ContainerID="", ExitCode=0),
        task_from({"ID": "t", "Status": {"State": "rejected"}}),
        task_from({"ID": "t", "Status": {"State": "rejected", "ContainerStatus": None}}),
    ],
)
def test_there_is_no_exit_code_while_it_runs_or_where_no_container_was(task: Task) -> None:
    assert task.exit_code is None


@pytest.mark.parametrize("state", ["orphaned", "shutdown", "rejected", "failed"])
def test_a_container_that_was_last_seen_alive_has_no_exit_code(state: str) -> None:
    """Swarm ends such a task with the container's status as it last was, code 0 and all."""
    assert ended(state, PID=7225, ExitCode=0).exit_code is None


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (None, ""),
        ("", ""),
        ("No such image: web:9", "No such image: web:9"),
        (
            " starting container failed:\n\texec:  no  such file\n",
            "starting container failed: exec: no such file",
        ),
        ("x" * 300, "x" * 200),
        (" \n" * 300 + "y" * 200, "y" * 200),
    ],
)
def test_an_error_is_one_short_line(said: str | None, error: str) -> None:
    assert task_from({"ID": "t", "Status": {"Err": said}}).error == error


def test_a_node() -> None:
    raw = {
        "ID": "n1",
        "Version": {"Index": 9},
        "Spec": {"Role": "manager", "Availability": "drain", "Labels": {"disk": "ssd" * 999}},
        "Description": {
            "Hostname": "m1",
            "Resources": {"NanoCPUs": 4_000_000_000, "MemoryBytes": 8 * GIB},
        },
        "Status": {"State": "ready"},
        "ManagerStatus": {"Leader": True},
    }
    assert node_from(raw) == Node(
        id="n1",
        index=9,
        hostname="m1",
        role="manager",
        availability="drain",
        state="ready",
        cores=4.0,
        memory=8 * GIB,
        leader=True,
        labels={"disk": ("ssd" * 999)[:512]},
    )
    assert node_from({"ID": "n"}) == Node("n", 0, "", "", "", "", 0.0, 0, False, {})
    assert node_from({"ID": "n", "Spec": {"Labels": None}}).labels == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.999999999Z", 999),
        ("2024-02-29T23:59:60Z", 1_709_251_200_000),
        ("2026-01-02T03:04:05.1Z", 1_767_323_045_100),
        ("2026-01-02T05:04:05+02:00", 1_767_323_045_000),
        ("2026-01-01T21:34:05.5-05:30", 1_767_323_045_500),
        ("0001-01-01T00:00:00Z", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_times(text: str | None, expected: int) -> None:
    assert milliseconds(text) == expected


@pytest.mark.parametrize("text", ["yesterday", "2026-01-02", "2026-13-02T03:04:05Z", "1735787045"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|month"):
        milliseconds(text)


def scaled(spec: Spec) -> None:
    spec["Mode"]["Replicated"]["Replicas"] = 9


def count_omitted(spec: Spec) -> None:
    del spec["Mode"]["Replicated"]["Replicas"]


def restarted(spec: Spec) -> None:
    spec["TaskTemplate"]["ForceUpdate"] += 1


def memory_raised(spec: Spec) -> None:
    spec["TaskTemplate"]["Resources"]["Limits"]["MemoryBytes"] *= 2


def labelled_by_us(spec: Spec) -> None:
    spec["Labels"]["autoheal.decision"] = "abc"


def our_labels_gone(spec: Spec) -> None:
    del spec["Labels"]["autoheal.enable"]


def other_image(spec: Spec) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["Image"] = "web:2"


def cpu_changed(spec: Spec) -> None:
    spec["TaskTemplate"]["Resources"]["Limits"]["NanoCPUs"] = 1


def reservation_changed(spec: Spec) -> None:
    spec["TaskTemplate"]["Resources"]["Reservations"]["MemoryBytes"] = 1


def labelled_by_people(spec: Spec) -> None:
    spec["Labels"]["team"] = "shop"


def container_label_changed(spec: Spec) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["Labels"]["autoheal.x"] = "other"


def made_global(spec: Spec) -> None:
    spec["Mode"] = {"Global": {}}


def nested_name(spec: Spec) -> None:
    spec["UpdateConfig"]["ForceUpdate"] = 1


@pytest.mark.parametrize(
    "change",
    [scaled, count_omitted, restarted, memory_raised, labelled_by_us, our_labels_gone],
)
def test_what_autoheal_may_change_is_no_deploy(change: Callable[[Spec], None]) -> None:
    spec = a_spec()
    change(spec)
    assert content_digest(spec) == content_digest(a_spec())


@pytest.mark.parametrize(
    "change",
    [
        other_image,
        cpu_changed,
        reservation_changed,
        labelled_by_people,
        container_label_changed,
        made_global,
        nested_name,
    ],
)
def test_anything_else_is_a_deploy(change: Callable[[Spec], None]) -> None:
    spec = a_spec()
    change(spec)
    assert content_digest(spec) != content_digest(a_spec())


BARE = {"Name": "x", "TaskTemplate": {"ContainerSpec": {}}, "Mode": {"Replicated": {}}}


@pytest.mark.parametrize(
    "spec",
    [
        BARE | {"Labels": {}},
        BARE | {"Labels": None},
        BARE | {"Labels": {"autoheal.decision": "d"}},
        BARE | {"TaskTemplate": {"ContainerSpec": {}, "Resources": {}}},
        BARE | {"TaskTemplate": {"ContainerSpec": {}, "Resources": None}},
        BARE | {"TaskTemplate": {"ContainerSpec": {}, "Resources": {"Limits": None}}},
        BARE
        | {"TaskTemplate": {"ContainerSpec": {}, "Resources": {"Limits": {"MemoryBytes": GIB}}}},
        BARE | {"TaskTemplate": {"ContainerSpec": {}, "ForceUpdate": 1}},
    ],
)
def test_the_first_leaf_of_its_kind_is_no_deploy_either(spec: Spec) -> None:
    assert content_digest(spec) == content_digest(BARE)


def test_the_digest_leaves_its_argument_alone_and_ignores_order() -> None:
    spec = a_spec()
    before = copy.deepcopy(spec)
    digest = content_digest(spec)
    assert spec == before
    assert content_digest(dict(reversed(spec.items()))) == digest
