"""The tasks of each service now: which run, where, what became of the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from autoheal.core.view.service_tasks import ServiceTasks, tasks_by_service
from autoheal.core.view.swarm_view import SwarmView
from autoheal.model import Node, Service, ServiceMode, Task
from builders import LONG_AGO, MINUTE, NOW, inventory, node, service, task


def tasks_of(
    *tasks: Task, of: Service | None = None, nodes: tuple[Node, ...] = (), since_ms: int = 0
) -> ServiceTasks | None:
    view = SwarmView()
    web = service() if of is None else of
    view.fold(inventory(services=[web], tasks=tasks, nodes=nodes), NOW)
    return tasks_by_service(view, since_ms).get("web")


def known(*tasks: Task, of: Service | None = None, nodes: tuple[Node, ...] = ()) -> ServiceTasks:
    found = tasks_of(*tasks, of=of, nodes=nodes)
    assert found is not None
    return found


def placed(identity: str, on: str, slot: int = 1, **more: object) -> Task:
    made = task(identity, node=on)
    return dataclasses.replace(made, slot=slot, **more)  # type: ignore[arg-type]  # any field by name


def test_a_service_without_tasks_has_no_entry() -> None:
    assert tasks_of() is None


def test_tasks_of_a_service_that_is_gone_have_no_entry() -> None:
    view = SwarmView()
    view.fold(inventory(tasks=[task()]), NOW)
    assert tasks_by_service(view, 0) == {}


def test_services_are_in_the_order_of_their_ids() -> None:
    view = SwarmView()
    names = ["web", "api", "db"]
    tasks = [task(f"{name}.1", of=name) for name in names]
    view.fold(inventory(services=[service(name) for name in names], tasks=tasks), NOW)
    assert list(tasks_by_service(view, 0)) == ["api", "db", "web"]


def test_running_are_the_ids_of_those_that_run_and_are_meant_to() -> None:
    found = known(
        task("web.9"),
        task("web.1"),
        task("web.2", desired="shutdown"),
        task("web.3", state="failed"),
        task("web.4", state="starting"),
        task("web.5", desired="complete"),
    )
    assert found.running == ("web.1", "web.5", "web.9")


@pytest.mark.parametrize(
    ("force_update", "memory_limit", "current"), [(3, 64, 1), (2, 64, 0), (3, 32, 0), (3, None, 0)]
)
def test_current_are_those_made_from_the_spec_that_is_in_force(
    force_update: int, memory_limit: int | None, current: int
) -> None:
    made = task(force_update=force_update, memory_limit=memory_limit)
    assert known(made, of=service(force_update=3, memory_limit=64)).current == current


def test_a_task_that_is_not_running_is_not_current() -> None:
    assert known(task(state="failed"), task("web.2")).current == 1


def test_hosts_are_the_nodes_that_run_tasks_with_how_many() -> None:
    found = known(
        placed("a", "n2"), placed("b", "n1"), placed("c", "n2"), placed("d", "n3", state="failed")
    )
    assert found.hosts == {"n1": 1, "n2": 2}
    assert list(found.hosts) == ["n1", "n2"]


def after(ends: Mapping[str, tuple[str, int, int]], of: Service | None = None) -> ServiceTasks:
    """Tasks that ran and then ended: identity -> (node, slot, how long before NOW)."""
    view = SwarmView()
    web = service(replicas=2) if of is None else of
    started = [placed(name, on, slot) for name, (on, slot, _) in ends.items()]
    view.fold(inventory(services=[web], tasks=started), NOW)
    over = [
        placed(name, on, slot, state="failed", state_since_ms=NOW - ago, index=11)
        for name, (on, slot, ago) in ends.items()
    ]
    view.fold(inventory(services=[web], tasks=over, index=101), NOW)
    return tasks_by_service(view, NOW - MINUTE)["web"]


def test_where_none_runs_hosts_are_those_of_the_last_of_each_slot() -> None:
    found = after({"old": ("n1", 1, 9), "new": ("n2", 1, 5), "other": ("n3", 2, 7)})
    assert found.hosts == {"n2": 1, "n3": 1}


def test_no_more_hosts_than_replicas_are_told() -> None:
    ends = {"a": ("n1", 1, 9), "b": ("n2", 2, 5), "scaled away": ("n3", 3, 20)}
    assert after(ends).hosts == {"n1": 1, "n2": 1}


def test_a_global_service_has_a_last_task_on_each_node() -> None:
    everywhere = service(mode=ServiceMode.GLOBAL, replicas=None)
    found = after({"a": ("n1", 0, 9), "b": ("n2", 0, 5), "c": ("n2", 0, 8)}, everywhere)
    assert found.hosts == {"n1": 1, "n2": 1}


def test_a_task_that_never_ran_was_hosted_nowhere() -> None:
    assert known(task(state="rejected")).hosts == {}


@pytest.mark.parametrize(("ended_ms", "shown"), [(NOW - 1, False), (NOW, True)])
def test_what_ended_before_the_time_that_is_asked_for_does_not_count(
    ended_ms: int, *, shown: bool
) -> None:
    made = task(state="failed", since_ms=ended_ms, error="task: non-zero exit (1)")
    assert (tasks_of(made, since_ms=NOW) is not None) is shown


@pytest.mark.parametrize(
    ("state", "desired", "error", "complaint"),
    [
        ("pending", "running", "no suitable node", "no suitable node"),
        ("failed", "shutdown", "task: non-zero exit (1)", "task: non-zero exit (1)"),
        ("rejected", "shutdown", "No such image: x", "No such image: x"),
        ("running", "running", "", ""),
        ("shutdown", "shutdown", "killed late", ""),
        ("orphaned", "shutdown", "lost", ""),
    ],
)
def test_the_complaint_is_what_swarm_says_of_a_task_that_should_run(
    state: str, desired: str, error: str, complaint: str
) -> None:
    assert known(task(state=state, desired=desired, error=error)).complaint == complaint


def test_the_newest_complaint_counts() -> None:
    found = known(
        task("web.1", state="failed", desired="shutdown", since_ms=NOW - 3, error="first"),
        task("web.2", state="pending", since_ms=NOW - 1, error="last"),
        task("web.3", state="failed", desired="shutdown", since_ms=NOW - 2, error="between"),
        task("web.4", since_ms=NOW, error=""),
    )
    assert found.complaint == "last"


def test_lost_on_are_the_nodes_that_went_with_tasks_of_the_service() -> None:
    view = SwarmView()
    on_both = [placed("a", "n1"), placed("b", "n2"), placed("c", "n3")]
    up = [node(name) for name in ("n1", "n2", "n3")]
    view.fold(inventory(services=[service()], tasks=on_both, nodes=up), NOW - 3 * MINUTE)
    gone = [node("n2", state="down", index=11), node("n1", state="down", index=11)]
    view.fold(inventory(keyframe=False, nodes=gone, index=101), NOW - 2 * MINUTE)
    given_up = [
        placed(name, on, desired_state="shutdown", index=11)
        for name, on in (("a", "n1"), ("b", "n2"))
    ]
    view.fold(inventory(keyframe=False, tasks=given_up, index=102), NOW - 2 * MINUTE + 5)
    view.forget(NOW)
    assert tasks_by_service(view, NOW)["web"].lost_on == ("n1", "n2")
    back = [node("n1", index=12)]
    view.fold(inventory(keyframe=False, nodes=back, index=103), NOW)
    assert tasks_by_service(view, NOW)["web"].lost_on == ("n2",)


def test_lost_tasks_alone_give_an_entry() -> None:
    lost = task(desired="shutdown", since_ms=LONG_AGO)
    found = known(lost, nodes=(node(state="down"),))
    assert (found.running, found.lost_on) == ((), ("node-1",))
