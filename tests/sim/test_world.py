"""The whole: its time, its people, its invariants, and that it repeats itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from autoheal.sim.clock import SimulatedClock
from autoheal.sim.docker_json import node_json, service_json, task_json
from autoheal.sim.identity import OBJECT_ID_CHARACTERS, Identities
from autoheal.sim.load import Constant
from autoheal.sim.machine import NodePlan
from autoheal.sim.objects import Service, Task, TaskState
from autoheal.sim.program import Order, Program
from autoheal.sim.restarts import may_restart
from autoheal.sim.spec import released, scaled, service_spec
from autoheal.sim.world import World
from sim.worlds import (
    MIB,
    NANO,
    SECOND,
    START_MS,
    container,
    force,
    newest,
    replicas,
    running,
    told,
    world,
)

REPOSITORY = Path(__file__).parents[2]


# Time


def test_time_moves_only_when_it_is_told_to() -> None:
    there = world()
    there.create(service_spec("web"), Program())
    assert there.now_ms == START_MS
    assert there.service("web").tasks == []
    there.advance(0)
    assert there.service("web").tasks == []
    there.advance(1)
    assert there.now_ms == START_MS + 1
    assert len(there.service("web").tasks) == 1


def test_time_does_not_go_back() -> None:
    clock = SimulatedClock(START_MS)
    clock.advance_to(START_MS)
    with pytest.raises(
        ValueError, match=f"time does not go back from {START_MS} to {START_MS - 1}"
    ):
        clock.advance_to(START_MS - 1)
    assert (clock.wall_ms(), clock.monotonic()) == (START_MS, START_MS / 1000)


def test_a_time_that_is_past_is_no_reason_to_do_anything() -> None:
    there = world()
    running(there)
    before, index = there.now_ms, there.swarm.index
    there.advance_to(before - SECOND)
    assert (there.now_ms, there.swarm.index) == (before, index)


def test_the_last_quantum_of_an_advance_is_as_short_as_it_must_be() -> None:
    there = world()
    service = running(there, program=Program(load=Constant(0.4)))
    used = newest(service).container.cpu_seconds  # type: ignore[union-attr]  # it runs
    there.advance(2_500)
    assert newest(service).container.cpu_seconds - used == pytest.approx(1.0)  # type: ignore[union-attr]  # it runs


# People


@pytest.mark.parametrize("ask", ["machine", "service", "remove", "lose", "running", "kill"])
def test_what_is_not_there_is_a_key_error(ask: str) -> None:
    with pytest.raises(KeyError):
        getattr(world(), ask)("none")


def test_the_first_manager_leads() -> None:
    there = world(nodes=(NodePlan("w"), NodePlan("m1", "manager"), NodePlan("m2", "manager")))
    assert [machine.hostname for machine in there.machines if machine.is_leader] == ["m1"]


def test_a_swarm_needs_a_manager() -> None:
    with pytest.raises(StopIteration):
        world(nodes=(NodePlan("w"),))


def test_names_never_repeat_and_have_dockers_form() -> None:
    identities = Identities(7)
    objects = [identities.object_id() for _ in range(500)]
    containers = [identities.container_id() for _ in range(500)]
    assert len(set(objects)) == len(set(containers)) == 500
    assert all(len(name) == OBJECT_ID_CHARACTERS and name.isalnum() for name in objects)
    assert all(len(name) == 64 and int(name, 16) >= 0 for name in containers)
    assert Identities(7).object_id() == objects[0] != Identities(8).object_id()


# Repeating itself


def everything(there: World) -> list[Any]:
    """All that can be read, but figures."""
    api = there.docker(there.machines[0].hostname)
    events = [str(event) for machine in there.machines for event in machine.events]
    used = [c.cpu_seconds for m in there.machines for _, c in m.containers()]
    return [*(api.get(path) for path in ("/services", "/nodes", "/tasks")), events, used]


def eventful(there: World, step_ms: int) -> None:
    """Two minutes in which much happens; time passes in steps of `step_ms`."""

    def passes(seconds: int) -> None:
        for _ in range(seconds * SECOND // step_ms):
            there.advance(step_ms)

    shop = Program(load=Constant(2.0), memory_per_core=100 * MIB, start_up_ms=3_000)
    for name in ("web", "api", "job"):
        there.create(service_spec(name, replicas=3, update={"Order": "start-first"}), shop)
    passes(20)
    there.service("web").orders.give(Order.CRASH)
    there.service("api").orders.give(Order.LEAK, 20 * MIB)
    there.lose("worker-2")
    passes(30)
    there.update("web", lambda spec: released(spec, "2"))
    there.restore("worker-2")
    there.set_availability("worker-1", "drain")
    there.kill(container(there.running("job")[0]))
    passes(30)
    there.service("web").orders.relieve(Order.CRASH)
    there.update("job", lambda spec: scaled(spec, 5))
    there.remove("api")
    passes(40)


def test_the_same_orders_at_the_same_times_make_the_same_world() -> None:
    first, second, other = world(), world(), world(seed=2)
    for there in (first, second, other):
        eventful(there, SECOND)
    assert everything(first) == everything(second)
    assert everything(first) != everything(other)


def test_ten_seconds_at_once_are_ten_times_a_second() -> None:
    coarse, fine = world(), world()
    eventful(coarse, 10 * SECOND)
    eventful(fine, SECOND)
    assert json.dumps(everything(coarse)) == json.dumps(everything(fine))


def test_the_world_is_the_same_in_every_process() -> None:
    program = (
        "import hashlib, json; from sim.test_world import *; there = world();"
        "eventful(there, SECOND); text = json.dumps(everything(there));"
        "print(len(text), hashlib.sha256(text.encode()).hexdigest())"
    )
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    shown = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(shown) == 1
    assert int(shown.pop().split()[0]) > 10_000


# What always holds

NAMES = ("web", "api", "job")
HOSTS = ("manager-1", "worker-1", "worker-2", "worker-3")
NODES = tuple(NodePlan(host, host.partition("-")[0]) for host in HOSTS)
AMOUNTS = {Order.FILL: 400 * MIB, Order.JOB: 400 * MIB, Order.LEAK: 30 * MIB}
REST_MS = 600 * SECOND

names = st.sampled_from(NAMES)
hosts = st.sampled_from(HOSTS)
counts = st.integers(0, 6)


class Operations(RuleBasedStateMachine):
    """People and misfortunes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.there = world(nodes=NODES)
        self.index = 0
        self.forced = 0

    @initialize(count=counts)
    def begin(self, count: int) -> None:
        self.there.create(service_spec("web", replicas=count), Program())

    def services(self, name: str) -> list[Service]:
        return [each for each in self.there.swarm.services.values() if each.name == name]

    @rule(
        name=names,
        count=counts,
        condition=st.sampled_from(["any", "on-failure", "none"]),
        attempts=st.integers(0, 2),
        delay_s=st.integers(0, 8),
        order=st.sampled_from(["stop-first", "start-first"]),
        action=st.sampled_from(["pause", "continue", "rollback"]),
        parallelism=st.integers(0, 3),
        pause_s=st.integers(0, 6),
        check=st.sampled_from([None, 2]),
        code=st.sampled_from([0, 1, None]),
    )
    def create(
        self,
        *,
        name: str,
        count: int,
        condition: str,
        attempts: int,
        delay_s: int,
        order: str,
        action: str,
        parallelism: int,
        pause_s: int,
        check: int | None,
        code: int | None,
    ) -> None:
        if self.services(name):
            return
        spec = service_spec(
            name,
            replicas=count,
            check_every_s=check,
            restart={"Condition": condition, "MaxAttempts": attempts, "Delay": delay_s * NANO},
            update={
                "Order": order,
                "FailureAction": action,
                "Parallelism": parallelism,
                "Delay": pause_s * NANO,
            },
        )
        self.there.create(spec, Program(load=Constant(1.0), start_up_ms=2_000, exit_on_term=code))

    @rule(name=names, count=counts)
    def scale(self, name: str, count: int) -> None:
        for service in self.services(name):
            self.there.update(service.name, replicas(count))

    @rule(name=names, release=st.sampled_from(["1", "2", "broken"]))
    def deploy(self, name: str, release: str) -> None:
        for service in self.services(name):
            self.there.update(service.name, lambda spec: released(spec, release))

    @rule(name=names)
    def restart(self, name: str) -> None:
        self.forced += 1
        for service in self.services(name):
            self.there.update(service.name, force(self.forced))

    @rule(name=names)
    def write_again(self, name: str) -> None:
        for service in self.services(name):
            self.there.update(service.name, dict)

    @rule(name=names)
    def remove(self, name: str) -> None:
        for service in self.services(name):
            self.there.remove(service.name)

    @rule(name=names, order=st.sampled_from(Order), one=st.booleans())
    def misbehave(self, name: str, order: Order, *, one: bool) -> None:
        for service in self.services(name):
            victims = [container(task) for task in self.there.running(name)] if one else [None]
            for victim in victims[:1]:
                service.orders.give(order, AMOUNTS.get(order, 0), to=victim)

    @rule(name=names, order=st.sampled_from(Order))
    def behave(self, name: str, order: Order) -> None:
        for service in self.services(name):
            service.orders.relieve(order)

    @rule(name=names)
    def kill(self, name: str) -> None:
        for service in self.services(name):
            alive = [
                t.container
                for t in service.tasks
                if t.container is not None and t.container.is_alive
            ]
            for victim in alive[:1]:
                self.there.kill(victim.id)

    @rule(host=hosts)
    def lose(self, host: str) -> None:
        if self.there.machine(host).is_up:
            self.there.lose(host)

    @rule(host=hosts)
    def restore(self, host: str) -> None:
        self.there.restore(host)

    @rule(host=hosts, availability=st.sampled_from(["active", "pause", "drain"]))
    def set_availability(self, host: str, availability: str) -> None:
        self.there.set_availability(host, availability)

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.there.advance(seconds * SECOND)

    @invariant()
    def what_is_told_is_as_it_is_now(self) -> None:
        swarm = self.there.swarm
        api = next(self.there.docker(m.hostname) for m in swarm.machines if m.role == "manager")
        if not self.there.machine(HOSTS[0]).is_up:
            return
        assert api.get("/services") == [service_json(each) for each in swarm.services.values()]
        assert api.get("/tasks") == [task_json(each) for each in swarm.tasks()]
        assert api.get("/nodes") == [node_json(each) for each in swarm.machines]

    @invariant()
    def versions_rise(self) -> None:
        swarm = self.there.swarm
        indices = [each.index for each in swarm.machines]
        indices += [each.index for each in swarm.services.values()]
        indices += [each.index for each in swarm.tasks()]
        assert len(set(indices)) == len(indices)
        assert max(indices) <= swarm.index
        assert swarm.index >= self.index
        self.index = swarm.index

    @invariant()
    def a_slot_has_one_task_unless_it_is_being_replaced(self) -> None:
        for service in self.there.swarm.services.values():
            if service.rollout is None and not service.is_changed and is_calm(service):
                assert all(len(wanted(tasks)) <= 1 for tasks in service.slots().values()), told(
                    service
                )

    @invariant()
    def nothing_holds_more_than_it_may(self) -> None:
        for machine in self.there.machines:
            for _, each in machine.containers():
                assert each.limits.memory is None or each.memory <= each.limits.memory
            figures = self.there.ports_of(machine.hostname).figures()
            for percent in (figures.cpu_percent, figures.memory_percent):
                assert percent is not None
                assert 0 <= percent <= 100

    def teardown(self) -> None:
        """Left alone with healthy nodes and programs, all comes to rest as it was asked for."""
        there = self.there
        for machine in there.machines:
            there.restore(machine.hostname)
        for service in there.swarm.services.values():
            for order in Order:
                service.orders.relieve(order)
        there.set_availability(HOSTS[0], "active")
        there.advance(REST_MS)
        for service in there.swarm.services.values():
            self.is_at_rest(service)
        assert {task.service for task in there.swarm.tasks()} <= set(there.swarm.services.values())

    def is_at_rest(self, service: Service) -> None:
        slots = service.slots()
        live = {slot for slot, tasks in slots.items() if wanted(tasks)}
        given_up = {
            slot for slot, tasks in slots.items() if slot not in live and is_over(tasks[-1])
        }
        if is_calm(service):
            assert len(live) <= service.replicas <= len(live) + len(given_up), told(service)
        for task in service.tasks:
            machine = task.machine
            if task.state is TaskState.RUNNING and machine is not None:
                assert machine.state == "ready"
                assert machine.availability != "drain"
        assert all(len(tasks) <= 5 for tasks in slots.values() if is_calm(service))


def is_calm(service: Service) -> bool:
    """A rollout that has stopped in the middle may leave two tasks in a slot, as Swarm's does."""
    return service.update is None or not service.update.state.endswith("paused")


def wanted(tasks: list[Task]) -> list[Task]:
    return [task for task in tasks if task.is_wanted]


def is_over(task: Task) -> bool:
    return not may_restart(task, task.state_since_ms)


Operations.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestOperations = Operations.TestCase
