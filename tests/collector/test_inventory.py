from __future__ import annotations

import copy
import dataclasses
import logging
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.fakes import HandClock, TableReader
from autoheal.adapters.swarm_objects import node_from, service_from, task_from
from autoheal.errors import RemoteError, RemoteRefused, RemoteUnreachable
from autoheal.inventory import InventoryPublisher, difference, unsettled
from autoheal.inventory import Swarm as Reading
from autoheal.model import Inventory, Node, Service, ServiceMode, Task
from autoheal.outbox import Outbox
from autoheal.records import INVENTORY, unpack_inventory
from autoheal.telemetry import Telemetry
from builders import node as a_node
from builders import service as a_service
from builders import task as a_task
from collector.fakes import Store

Raw = dict[str, Any]


def service(name: str, index: int = 10, *, replicas: int = 1, state: str = "") -> Raw:
    spec = {
        "Name": name,
        "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}},
        "Mode": {"Replicated": {"Replicas": replicas}},
    }
    raw: Raw = {"ID": name, "Version": {"Index": index}, "Spec": spec}
    return raw | ({"UpdateStatus": {"State": state}} if state else {})


def task(name: str, of: str, index: int = 11, *, state: str = "running") -> Raw:
    return {
        "ID": name,
        "Version": {"Index": index},
        "ServiceID": of,
        "NodeID": "n1",
        "Status": {"State": state, "Timestamp": "2026-01-02T03:04:05Z"},
        "DesiredState": "running",
    }


def node(name: str, index: int = 5, *, leader: bool = False) -> Raw:
    return {"ID": name, "Version": {"Index": index}, "ManagerStatus": {"Leader": leader}}


@dataclass
class Swarm:
    """A fake Swarm seen from node n1, its publisher, and what a reader makes of what it told."""

    clock: HandClock = field(default_factory=HandClock)
    store: Store = field(default_factory=Store)
    reader: TableReader = field(default_factory=TableReader)
    ticks: int = 0
    failures: int = 0

    def __post_init__(self) -> None:
        self.telemetry = Telemetry(self.clock)
        self.outbox = Outbox("inventory", self.store, self.telemetry, entries_max=5)
        self.holds([service("s1")], [task("t1", "s1")], [node("n1")])
        self.leads(leader=True)
        self.publisher = InventoryPublisher(self.reader, self.clock, self.outbox)

    def leads(self, *, leader: bool, manager: bool = True) -> None:
        info = {"NodeID": "n1", "LocalNodeState": "active", "ControlAvailable": manager}
        self.reader.answers["/info"] = {"Swarm": info}
        self.reader.answers["/nodes/n1"] = node("n1", leader=leader)

    def holds(self, services: list[Raw], tasks: list[Raw], nodes: list[Raw]) -> None:
        self.reader.answers |= {"/services": services, "/tasks": tasks, "/nodes": nodes}

    def tick(self, after_s: float = 0.0) -> None:
        self.clock.pass_seconds(after_s)
        try:
            self.publisher.tick()
        except (RemoteError, ConnectionError):
            self.failures += 1
        else:
            self.ticks += 1

    @property
    def told(self) -> list[Inventory]:
        assert all(write.stream == INVENTORY for write in self.store.kept)
        return [unpack_inventory(write.fields) for write in self.store.kept]


@pytest.fixture
def swarm() -> Swarm:
    return Swarm()


def folded(told: list[Inventory]) -> dict[str, object]:
    """What a reader knows who has read all of it."""
    known: dict[str, object] = {}
    for inventory in told:
        if inventory.keyframe:
            known = {}
        for key in inventory.gone:
            del known[key]
        known |= {found.id: found for found in inventory.services}
        known |= {found.id: found for found in inventory.tasks}
        known |= {found.id: found for found in inventory.nodes}
    return known


def test_the_first_is_a_keyframe_then_differences_even_if_empty(swarm: Swarm) -> None:
    swarm.tick()
    swarm.tick(15)
    swarm.holds([service("s1"), service("s2", 30)], [task("t2", "s2", 31)], [node("n1")])
    swarm.tick(15)
    first, second, third = swarm.told
    assert first.keyframe
    assert [s.id for s in first.services] == ["s1"]
    assert (first.index, first.clock_ms) == (11, 1_700_000_000_000)
    assert second == Inventory(keyframe=False, index=11, clock_ms=first.clock_ms + 15_000)
    assert not third.keyframe
    assert ([s.id for s in third.services], [t.id for t in third.tasks]) == (["s2"], ["t2"])
    assert (third.nodes, third.gone, third.index) == ((), ("t1",), 31)


def test_a_keyframe_every_five_minutes(swarm: Swarm) -> None:
    for _ in range(41):
        swarm.tick(15)
    assert [i for i, told in enumerate(swarm.told) if told.keyframe] == [0, 20, 40]


def test_a_whole_read_is_asked_for_without_filters(swarm: Swarm) -> None:
    swarm.tick()
    assert swarm.reader.asked == ["/info", "/nodes/n1", "/services", "/nodes", "/tasks"]


def test_the_index_never_goes_back_while_it_leads(swarm: Swarm) -> None:
    swarm.holds([service("s1", 99)], [], [node("n1")])
    swarm.tick()
    swarm.holds([], [], [node("n1")])
    swarm.tick(15)
    assert swarm.told[-1].index == 99


@pytest.mark.parametrize("manager", [True, False])
def test_only_the_leader_tells(swarm: Swarm, manager: bool) -> None:
    swarm.leads(leader=False, manager=manager)
    swarm.tick()
    assert swarm.store.calls == []
    assert (swarm.ticks, swarm.failures) == (1, 0)
    assert "/services" not in swarm.reader.asked
    swarm.publisher.poke()
    assert swarm.publisher.seconds_until_due() == 15


def test_a_new_leader_starts_with_a_keyframe(swarm: Swarm) -> None:
    swarm.tick()
    swarm.leads(leader=False)
    swarm.tick(15)
    swarm.leads(leader=True)
    swarm.tick(15)
    swarm.tick(15)
    assert [told.keyframe for told in swarm.told] == [True, True, False]


@pytest.mark.parametrize(
    "failure", [RemoteUnreachable("no answer"), RemoteRefused(500, "no leader")]
)
def test_a_failure_tells_nothing_and_the_next_success_tells_all(
    swarm: Swarm, failure: RemoteUnreachable | RemoteRefused
) -> None:
    swarm.tick()
    swarm.reader.failure = failure
    swarm.tick(15)
    assert (len(swarm.told), swarm.failures, swarm.ticks) == (1, 1, 1)
    swarm.reader.failure = None
    swarm.tick(15)
    assert [told.keyframe for told in swarm.told] == [True, True]


def test_a_failure_in_the_middle_of_a_read_tells_nothing(swarm: Swarm) -> None:
    del swarm.reader.answers["/tasks"]
    swarm.tick()
    assert (swarm.store.calls, swarm.failures) == ([], 1)


def test_after_the_store_was_away_all_waiting_arrives_then_a_keyframe(swarm: Swarm) -> None:
    swarm.tick()
    swarm.store.away = True
    swarm.tick(15)
    assert swarm.failures == 1
    swarm.store.away = False
    swarm.tick(15)
    swarm.tick(15)
    swarm.tick(15)
    assert [told.keyframe for told in swarm.told] == [True, False, False, True, False]


def test_after_dropped_entries_a_keyframe_mends_the_chain(swarm: Swarm) -> None:
    swarm.tick()
    swarm.store.away = True
    for number in range(8):
        swarm.holds([service("s1"), service(f"x{number}")], [], [node("n1")])
        swarm.tick(15)
    swarm.store.away = False
    swarm.tick(15)
    swarm.tick(15)
    assert any(told.keyframe for told in swarm.told[-2:])
    last_keyframe = max(i for i, told in enumerate(swarm.told) if told.keyframe)
    assert set(folded(swarm.told[last_keyframe:])) == {"s1", "x7", "n1"}


def reading(*found: Service | Task | Node) -> Reading:
    """All objects at one moment."""
    return Reading(
        {each.id: each for each in found if isinstance(each, Service)},
        {each.id: each for each in found if isinstance(each, Task)},
        {each.id: each for each in found if isinstance(each, Node)},
    )


BEFORE: dict[str, Any] = {
    "s1": a_service("s1"),
    "s2": a_service("s2"),
    "t1": a_task("t1"),
    "t2": a_task("t2"),
    "n1": a_node("n1"),
}
CHANGES: dict[str, dict[str, Any]] = {
    "s1": {
        "name": "other",
        "index": 11,
        "mode": ServiceMode.GLOBAL,
        "replicas": 7,
        "content": "other",
        "force_update": 1,
        "cpu_limit": None,
        "cpu_reservation": 0.5,
        "memory_limit": None,
        "update_state": "updating",
        "created_at_ms": 1,
        "updated_at_ms": 1,
        "pinned": False,
        "stateful": True,
        "update_order": "start-first",
        "restart_condition": "none",
        "constraints": ("node.role==worker",),
        "labels": {},
    },
    "t1": {
        "index": 11,
        "service": "other",
        "node": "other",
        "slot": 2,
        "container": "",
        "state": "failed",
        "desired_state": "shutdown",
        "state_since_ms": 1,
        "force_update": 1,
        "memory_limit": None,
        "exit_code": 137,
        "error": "task: non-zero exit (137)",
    },
    "n1": {
        "index": 11,
        "hostname": "other",
        "role": "manager",
        "availability": "drain",
        "state": "down",
        "cores": 1.0,
        "memory": 1,
        "leader": True,
        "labels": {"disk": "ssd"},
    },
}


class TestDifference:
    @pytest.mark.parametrize("identity", CHANGES)
    def test_no_field_is_forgotten_here(self, identity: str) -> None:
        fields = {field.name for field in dataclasses.fields(BEFORE[identity])}
        assert {"id", *CHANGES[identity]} == fields

    @pytest.mark.parametrize(
        ("identity", "field", "value"),
        [(identity, *change) for identity in CHANGES for change in CHANGES[identity].items()],
    )
    def test_any_change_is_told_and_nothing_else(
        self, identity: str, field: str, value: object
    ) -> None:
        changed = dataclasses.replace(BEFORE[identity], **{field: value})
        after = {**BEFORE, identity: changed}
        told = difference(reading(*BEFORE.values()), reading(*after.values()), 99, 1_000)
        assert (*told.services, *told.tasks, *told.nodes) == (changed,)
        assert (told.gone, told.index, told.clock_ms, told.keyframe) == ((), 99, 1_000, False)

    def test_what_is_the_same_is_not_told(self) -> None:
        again = copy.deepcopy(BEFORE)
        told = difference(reading(*BEFORE.values()), reading(*again.values()), 1, 1)
        assert told == Inventory(keyframe=False, index=1, clock_ms=1)

    def test_what_came_and_what_went_in_the_order_of_ids(self) -> None:
        before = reading(a_service("s2"), a_task("t3"), a_node("n9"))
        after = reading(a_service("s3"), a_service("s1"), a_task("t2"), a_task("t1"))
        told = difference(before, after, 1, 1)
        assert [service.id for service in told.services] == ["s1", "s3"]
        assert [task.id for task in told.tasks] == ["t1", "t2"]
        assert told.gone == ("n9", "s2", "t3")


@pytest.mark.parametrize(
    ("changes", "tasks", "expected"),
    [
        pytest.param({}, [a_task("t1", of="web")], False, id="at rest"),
        pytest.param(
            {},
            [
                a_task("t1", of="web"),
                a_task("t0", of="web", state="failed", desired="shutdown", exit_code=1, error="x"),
            ],
            False,
            id="replaced after a failure",
        ),
        pytest.param(
            {},
            [a_task("t1", of="web", state="failed", desired="shutdown", exit_code=1)],
            True,
            id="failed and not replaced yet",
        ),
        pytest.param(
            {"restart_condition": "none"},
            [a_task("t1", of="web", state="failed", desired="shutdown", exit_code=1)],
            True,
            id="failed and never to be replaced",
        ),
        pytest.param(
            {},
            [a_task("t1", of="web", state="rejected", desired="shutdown", error="No such image")],
            True,
            id="rejected",
        ),
        pytest.param(
            {},
            [a_task("t1", of="web", state="pending", error="no suitable node")],
            True,
            id="nowhere to run",
        ),
        pytest.param(
            {"mode": ServiceMode.GLOBAL, "replicas": None},
            [a_task("t1", of="web", state="starting")],
            True,
            id="starting on a node",
        ),
        pytest.param(
            {"update_order": "start-first"},
            [a_task("t1", of="web"), a_task("t2", of="web", state="starting")],
            True,
            id="the next one starts first",
        ),
        pytest.param(
            {"force_update": 1, "update_state": "updating"},
            [a_task("t1", of="web", force_update=0)],
            True,
            id="being restarted",
        ),
        pytest.param(
            {"force_update": 1, "update_state": "paused"},
            [a_task("t1", of="web", force_update=0)],
            False,
            id="restarted, and paused",
        ),
    ],
)
def test_unsettled_is_what_may_change_at_any_moment(
    changes: dict[str, Any], tasks: list[Task], expected: bool
) -> None:
    web = dataclasses.replace(a_service("web", replicas=1), **changes)
    assert unsettled(reading(web, *tasks)) is expected


class TestDue:
    def test_every_interval(self, swarm: Swarm) -> None:
        assert swarm.publisher.seconds_until_due() == 0
        swarm.tick()
        assert swarm.publisher.seconds_until_due() == 15
        swarm.clock.pass_seconds(20)
        assert swarm.publisher.seconds_until_due() == 0

    def test_soon_after_a_poke_with_all_that_follow_in_that_moment(self, swarm: Swarm) -> None:
        swarm.tick()
        swarm.publisher.poke()
        assert swarm.publisher.seconds_until_due() == 1
        swarm.clock.pass_seconds(0.75)
        swarm.publisher.poke()
        assert swarm.publisher.seconds_until_due() == 0.25, "a storm does not put it off"

    @pytest.mark.parametrize(
        ("services", "tasks"),
        [
            ([service("s1", state="updating")], [task("t1", "s1")]),
            ([service("s1", state="rollback_started")], [task("t1", "s1")]),
            ([service("s1", replicas=2)], [task("t1", "s1")]),
            ([service("s1", replicas=0)], [task("t1", "s1")]),
            ([service("s1")], [task("t1", "s1", state="pending")]),
        ],
    )
    def test_often_while_a_service_is_on_its_way(
        self, swarm: Swarm, services: list[Raw], tasks: list[Raw]
    ) -> None:
        swarm.holds(services, tasks, [node("n1")])
        swarm.tick()
        assert swarm.publisher.seconds_until_due() == 5

    def test_not_for_what_rests(self, swarm: Swarm) -> None:
        job = service("job", state="completed")
        job["Spec"]["Mode"] = {"ReplicatedJob": {"TotalCompletions": 5}}
        everywhere = service("everywhere")
        everywhere["Spec"]["Mode"] = {"Global": {}}
        over = task("old", "s1", state="failed") | {"DesiredState": "shutdown"}
        swarm.holds(
            [service("s1", state="completed"), job, everywhere],
            [task("t1", "s1"), over, task("t2", "everywhere"), task("t3", "job", state="pending")],
            [node("n1")],
        )
        swarm.tick()
        assert swarm.publisher.seconds_until_due() == 15

    def test_a_failure_waits_for_the_interval(self, swarm: Swarm) -> None:
        swarm.reader.failure = RemoteUnreachable("no answer")
        swarm.tick()
        assert swarm.publisher.seconds_until_due() == 15


def test_what_is_not_understood_is_left_out_aloud(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    strange = service("strange")
    strange["Spec"]["Mode"] = {"Quantum": {}}
    swarm.holds([strange, service("s1"), {}], [], [node("n1")])
    with caplog.at_level(logging.WARNING):
        swarm.tick()
    assert [s.id for s in swarm.told[0].services] == ["s1"]
    assert len(caplog.records) == 2


def changes(draw: st.DrawFn) -> tuple[list[Raw], list[Raw], list[Raw]]:
    names = st.sets(st.sampled_from("abcde"), max_size=5)
    numbers = st.integers(0, 3)
    return (
        [service(f"s{n}", draw(numbers), replicas=draw(numbers)) for n in sorted(draw(names))],
        [
            task(f"t{n}", "sa", draw(numbers), state=draw(st.sampled_from(["running", "failed"])))
            for n in sorted(draw(names))
        ],
        [node(f"n{n}", draw(numbers), leader=draw(st.booleans())) for n in sorted(draw(names))],
    )


STATES = st.composite(changes)()
STEPS = st.lists(
    st.one_of(STATES, st.sampled_from(["away", "back", "follower", "leader", "unreachable", "ok"])),
    max_size=12,
)


@settings(deadline=None)
@given(STEPS)
def test_whoever_reads_it_all_knows_what_was_read_last(steps: list[Any]) -> None:
    """Through absences of store and engine and changes of leader (the outbox holds five)."""
    swarm = Swarm()
    for step in steps:
        if isinstance(step, tuple):
            swarm.holds(*copy.deepcopy(step))
        elif step in {"away", "back"}:
            swarm.store.away = step == "away"
        elif step in {"follower", "leader"}:
            swarm.leads(leader=step == "leader")
        else:
            swarm.reader.failure = RemoteUnreachable("x") if step == "unreachable" else None
        swarm.tick(15)
    swarm.store.away, swarm.reader.failure = False, None
    swarm.leads(leader=True)
    swarm.tick(15)
    swarm.tick(15)
    answers = swarm.reader.answers
    truth: dict[str, object] = {
        **{raw["ID"]: service_from(raw) for raw in answers["/services"]},
        **{raw["ID"]: task_from(raw) for raw in answers["/tasks"]},
        **{raw["ID"]: node_from(raw) for raw in answers["/nodes"]},
    }
    keyframes = [i for i, told in enumerate(swarm.told) if told.keyframe]
    assert folded(swarm.told[keyframes[-1] :]) == truth
