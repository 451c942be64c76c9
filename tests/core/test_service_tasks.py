"""The tasks of each service now: which run, where, what became of the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import pytest

from autoheal.core.view import service_tasks
from autoheal.core.view.service_tasks import ServiceTasks
from autoheal.core.view.swarm_view import SwarmView
from autoheal.model import Node, Service, ServiceMode, Task
from builders import LONG_AGO, MINUTE, NOW, inventory, node, service, task


def tasks_by_service(
    view: SwarmView,
    since_ms: int,
    *,
    lately_ms: int = 0,
    unhealthy: Collection[str] = (),
) -> dict[str, ServiceTasks]:
    return service_tasks.tasks_by_service(
        view, since_ms=since_ms, lately_ms=lately_ms, unhealthy=unhealthy
    )


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


@pytest.mark.parametrize(("replicas", "expected"), [(0, None), (2, ServiceTasks(wanted=2))])
def test_a_service_without_tasks_has_an_entry_if_it_wants_some(
    replicas: int, expected: ServiceTasks | None
) -> None:
    assert tasks_of(of=service(replicas=replicas)) == expected


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
    found = tasks_of(made, since_ms=NOW)
    assert found is not None
    assert bool(found.complaint) is shown


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


@pytest.mark.parametrize(
    ("away_ms", "back_ms", "lately"),
    [
        (NOW - 4 * MINUTE, None, ("n1",)),
        (NOW - 5 * MINUTE, None, ()),
        (NOW - 9 * MINUTE, None, ()),
        (NOW - 9 * MINUTE, NOW - 2 * MINUTE, ("n1",)),
        (NOW - 9 * MINUTE, NOW - 5 * MINUTE + 1, ("n1",)),
        (NOW - 9 * MINUTE, NOW - 5 * MINUTE, ()),
    ],
)
def test_lost_lately_are_the_nodes_that_went_or_came_back_a_short_while_ago(
    away_ms: int, back_ms: int | None, lately: tuple[str, ...]
) -> None:
    view = SwarmView()
    web, lost = service(), placed("a", "n1")
    view.fold(inventory(services=[web], tasks=[lost], nodes=[node("n1"), node("n2")]), LONG_AGO)
    down = [node(name, state="down", index=11) for name in ("n1", "n2")]
    given_up = placed("a", "n1", desired_state="shutdown", index=11)
    view.fold(inventory(keyframe=False, tasks=[given_up], nodes=down, index=101), away_ms)
    if back_ms is not None:
        back = [node("n1", index=12)]
        view.fold(inventory(keyframe=False, nodes=back, index=102), back_ms)
    held_ms = NOW - 5 * MINUTE
    view.forget(NOW - MINUTE, downtimes_before_ms=held_ms)
    found = tasks_by_service(view, NOW - MINUTE, lately_ms=held_ms)["web"]
    assert found.lost_lately == lately
    assert found.lost_on == (("n1",) if back_ms is None else ())


def test_a_node_that_was_lost_twice_is_told_once() -> None:
    view = SwarmView()
    view.fold(inventory(services=[service()], tasks=[placed("a", "n1")], nodes=[node("n1")]), NOW)
    for index, state in enumerate(["down", "ready", "down"]):
        shown = [node("n1", state=state, index=11 + index)]
        view.fold(inventory(keyframe=False, nodes=shown, index=101 + index), NOW + index)
    found = tasks_by_service(view, 0)["web"]
    assert (found.lost_on, found.lost_lately) == (("n1",), ("n1",))


# wanted and finished


@pytest.mark.parametrize(
    ("mode", "replicas", "constraints", "wanted"),
    [
        (ServiceMode.REPLICATED, 3, (), 3),
        (ServiceMode.REPLICATED, 0, (), 0),
        (ServiceMode.GLOBAL, None, (), 2),
        (ServiceMode.GLOBAL, None, ("node.id==n1",), 1),
        (ServiceMode.GLOBAL, None, ("node.id==n9",), 0),
        (ServiceMode.GLOBAL, None, ("node.platform.os==linux",), 0),
        (ServiceMode.REPLICATED_JOB, None, (), 0),
        (ServiceMode.GLOBAL_JOB, None, (), 0),
    ],
)
def test_wanted_are_the_replicas_or_the_nodes_that_could_take_a_task(
    mode: ServiceMode, replicas: int | None, constraints: tuple[str, ...], wanted: int
) -> None:
    web = service(mode=mode, replicas=replicas, constraints=constraints)
    drained = node("n3", availability="drain")
    found = tasks_of(of=web, nodes=(node("n1"), node("n2"), drained, node("n4", state="down")))
    assert (found.wanted if found else 0) == wanted


def over(identity: str, ago_ms: int, state: str = "complete", **more: object) -> Task:
    shown = {"state": state, "desired_state": "shutdown", "state_since_ms": NOW - ago_ms}
    return placed(identity, "node-1", **{**shown, **more})  # type: ignore[arg-type]  # any field


@pytest.mark.parametrize(
    ("tasks", "finished"),
    [
        pytest.param([over("a", 5)], 1, id="ended by itself"),
        pytest.param([over("a", 5, exit_code=0)], 1, id="with the exit code 0"),
        pytest.param([over("a", 5, "failed", exit_code=1)], 0, id="with an error"),
        pytest.param([over("a", 5, exit_code=3)], 0, id="complete, with another exit code"),
        pytest.param([over("a", 5, "shutdown")], 0, id="stopped by Swarm"),
        pytest.param([over("a", 5), over("b", 9)], 1, id="twice in a slot"),
        pytest.param([over("a", 5), over("b", 9, slot=2)], 2, id="in two slots"),
        pytest.param(
            [over("a", 9, "failed"), over("b", 7, "failed"), over("c", 5)], 1, id="after failures"
        ),
        pytest.param([over("a", 9), over("b", 5, "failed")], 0, id="before a failure"),
        pytest.param([over("a", 9), over("b", 5, "rejected")], 0, id="before a rejection"),
        pytest.param([over("a", 9), over("b", 5, "shutdown")], 0, id="before one that was stopped"),
        pytest.param([over("a", 5), task("b")], 0, id="while one runs"),
        pytest.param([over("a", 5), task("b", state="preparing")], 0, id="while one is prepared"),
        pytest.param(
            [over("a", 5), task("b", state="ready", desired="ready")], 0, id="while one waits"
        ),
        pytest.param(
            [over("a", 5), task("b", desired="shutdown")], 1, id="with one before on a lost node"
        ),
        pytest.param(
            [over("a", 5), over("b", 1, "orphaned")], 1, id="with one before given up for good"
        ),
        pytest.param([over("a", 5, desired_state="remove")], 0, id="in a slot that is removed"),
    ],
)
def test_finished_are_the_slots_whose_last_task_ended_by_itself_without_an_error(
    tasks: list[Task], finished: int
) -> None:
    assert known(*tasks).finished == finished
    assert known(*reversed(tasks)).finished == finished


@pytest.mark.parametrize("mode", [ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB])
def test_a_job_has_no_slots_to_finish(mode: ServiceMode) -> None:
    assert known(over("a", 5), of=service(mode=mode, replicas=None)).finished == 0


def test_a_global_service_finishes_node_by_node_where_it_is_wanted() -> None:
    tasks = [over(name, 5, node=name, slot=0) for name in ("n1", "n2", "n3")]
    nodes = (node("n1"), node("n2"), node("n3", availability="drain"))
    found = known(*tasks, of=service(mode=ServiceMode.GLOBAL, replicas=None), nodes=nodes)
    assert (found.finished, found.wanted) == (2, 2)


def test_a_task_that_was_told_unhealthy_has_not_finished_its_slot() -> None:
    view = SwarmView()
    view.fold(inventory(services=[service()], tasks=[over("a", 5), over("b", 5, slot=2)]), NOW)
    assert tasks_by_service(view, 0, unhealthy=["a"])["web"].finished == 1


def test_a_slot_stays_finished_however_long_ago_that_was() -> None:
    view = SwarmView()
    done = [over("a", 5), over("failed before", 9, "failed"), over("b", 7, slot=2)]
    view.fold(inventory(services=[service()], tasks=done), NOW)
    view.forget(NOW + 24 * 60 * MINUTE)
    assert set(view.spans) == {"a", "b"}
    assert tasks_by_service(view, NOW + 24 * 60 * MINUTE)["web"].finished == 2


def test_what_a_slot_finished_with_is_forgotten_once_it_is_over() -> None:
    view = SwarmView()
    view.fold(inventory(services=[service()], tasks=[over("a", 5), over("b", 7, slot=2)]), NOW)
    view.fold(inventory(services=[service()], tasks=[task("c", since_ms=NOW)]), NOW)
    view.forget(NOW + 1)
    assert set(view.spans) == {"c"}
