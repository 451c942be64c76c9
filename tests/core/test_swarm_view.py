"""The Swarm as overlapping, late and stale inventories tell it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.core.view.swarm_view import SILENCE_MS, Downtime, Finish, Stay, SwarmView, Wish
from autoheal.model import Inventory
from builders import LONG_AGO, MINUTE, NOW, inventory, node, service, task


def view_of(*inventories: Inventory, at_ms: int = NOW) -> SwarmView:
    view = SwarmView()
    for each in inventories:
        view.fold(each, at_ms)
    return view


@pytest.mark.parametrize(("index", "replicas"), [(9, 2), (10, 2), (11, 5)])
def test_a_service_is_replaced_only_by_a_higher_index(index: int, replicas: int) -> None:
    first = inventory(services=[service(replicas=2, index=10)])
    second = inventory(services=[service(replicas=5, index=index)])
    assert view_of(first, second).services["web"].replicas == replicas


@pytest.mark.parametrize(("index", "cores"), [(9, 4.0), (10, 4.0), (11, 8.0)])
def test_a_node_is_replaced_only_by_a_higher_index(index: int, cores: float) -> None:
    first = inventory(nodes=[node(index=10)])
    second = inventory(nodes=[node(index=index, cores=8.0)])
    assert view_of(first, second).nodes["node-1"].cores == cores


@pytest.mark.parametrize(("index", "state"), [(9, "running"), (10, "running"), (11, "failed")])
def test_a_task_is_replaced_only_by_a_higher_index(index: int, state: str) -> None:
    first = inventory(tasks=[task(index=10)])
    second = inventory(tasks=[task(index=index, state="failed")])
    assert view_of(first, second).spans["web.1"].task.state == state


def test_the_newest_of_two_overlapping_publishers_wins_in_any_order() -> None:
    old = inventory(services=[service(replicas=2, index=10)], index=100)
    new = inventory(services=[service(replicas=3, index=11)], index=101)
    assert view_of(old, new).services == view_of(new, old).services


def test_a_keyframe_removes_what_it_does_not_show() -> None:
    whole = inventory(services=[service("a"), service("b")], tasks=[task()], nodes=[node()])
    view = view_of(whole, inventory(services=[service("a")], index=100))
    assert set(view.services) == {"a"}
    assert view.nodes == {}
    assert view.spans["web.1"].ended_ms == NOW


def test_a_stale_publishers_keyframe_removes_nothing() -> None:
    whole = inventory(services=[service("a"), service("b")], tasks=[task()], nodes=[node()])
    view = view_of(whole, inventory(services=[service("a")], index=99), at_ms=NOW)
    assert set(view.services) == {"a", "b"}
    assert set(view.nodes) == {"node-1"}
    assert view.spans["web.1"].ended_ms is None


def test_a_stale_publisher_does_not_bring_back_what_was_removed() -> None:
    stale = inventory(services=[service("a"), service("b")], nodes=[node()], index=100)
    view = view_of(stale, inventory(services=[service("a")], index=101), stale)
    assert set(view.services) == {"a"}
    assert view.nodes == {}


def test_a_stale_publisher_still_tells_what_is_newer_of_a_known_object() -> None:
    view = view_of(
        inventory(services=[service(index=10)], nodes=[node(index=10)], index=101),
        inventory(services=[service(index=12, replicas=7)], nodes=[node(index=12, cores=2.0)]),
    )
    assert view.services["web"].replicas == 7
    assert view.nodes["node-1"].cores == 2.0


def test_before_the_first_keyframe_everything_is_taken_in() -> None:
    newer = inventory(keyframe=False, services=[service("a")], index=101)
    older = inventory(keyframe=False, services=[service("b")], nodes=[node()], index=100)
    view = view_of(newer, older)
    assert set(view.services) == {"a", "b"}
    assert set(view.nodes) == {"node-1"}
    assert not view.complete


def test_a_difference_changes_and_removes_only_what_it_names() -> None:
    view = view_of(
        inventory(services=[service("a"), service("b"), service("c")], nodes=[node()]),
        inventory(
            keyframe=False,
            services=[service("b", replicas=9, index=11)],
            gone=["c", "node-1", "never-seen"],
            index=101,
        ),
    )
    assert {name: each.replicas for name, each in view.services.items()} == {"a": 2, "b": 9}
    assert view.nodes == {}


def test_a_stale_difference_removes_nothing() -> None:
    view = view_of(
        inventory(services=[service("a")]),
        inventory(keyframe=False, gone=["a"], index=99),
    )
    assert set(view.services) == {"a"}


def test_only_a_keyframe_completes_the_view() -> None:
    view, complete = SwarmView(), []
    for keyframe in (False, True, False):
        view.fold(inventory(keyframe=keyframe), NOW)
        complete.append(view.complete)
    assert complete == [False, True, True]


@pytest.mark.parametrize(("index", "seen_at_ms"), [(99, NOW), (100, NOW + 1), (101, NOW + 1)])
def test_only_an_inventory_that_is_not_stale_counts_as_seen(index: int, seen_at_ms: int) -> None:
    view = view_of(inventory(index=100))
    view.fold(inventory(keyframe=False, index=index), NOW + 1)
    assert view.seen_at_ms == seen_at_ms


@pytest.mark.parametrize("offset_ms", [-MINUTE, 0, 3])
def test_swarms_times_are_moved_onto_the_stores_clock(offset_ms: int) -> None:
    view = view_of(
        inventory(
            services=[service(created_at_ms=LONG_AGO, updated_at_ms=LONG_AGO + 5)],
            tasks=[task(since_ms=LONG_AGO + 7)],
            clock_ms=NOW - offset_ms,
        )
    )
    web = view.services["web"]
    assert web.created_at_ms == LONG_AGO + offset_ms
    assert web.updated_at_ms == LONG_AGO + 5 + offset_ms
    assert view.spans["web.1"].running_from_ms == LONG_AGO + 7 + offset_ms


def test_a_task_runs_from_its_first_running_state_until_its_first_end() -> None:
    view = SwarmView()
    steps = [("preparing", 1), ("running", 2), ("running", 3), ("failed", 4), ("remove", 5)]
    spans = []
    for state, at in steps:
        shown = task(state=state, since_ms=LONG_AGO + at, index=10 + at)
        view.fold(inventory(tasks=[shown], keyframe=False, index=100 + at), NOW)
        span = view.spans["web.1"]
        spans.append((span.running_from_ms, span.ended_ms, span.is_running))
    began, ended = LONG_AGO + 2, LONG_AGO + 4
    assert spans == [
        (None, None, False),
        (began, None, True),
        (began, None, True),
        (began, ended, False),
        (began, ended, False),
    ]


@pytest.mark.parametrize(
    "state", ["complete", "shutdown", "failed", "rejected", "orphaned", "remove"]
)
def test_a_task_first_seen_ended_has_never_run_as_far_as_we_know(state: str) -> None:
    span = view_of(inventory(tasks=[task(state=state, since_ms=NOW)])).spans["web.1"]
    assert (span.running_from_ms, span.ended_ms) == (None, NOW)


def test_a_task_that_is_to_be_stopped_does_not_count_as_running() -> None:
    view = view_of(inventory(tasks=[task(desired="shutdown")]))
    assert not view.spans["web.1"].is_running


def test_a_task_that_is_to_stop_has_ended_though_its_lost_node_still_calls_it_running() -> None:
    view = view_of(inventory(tasks=[task()]), at_ms=NOW - MINUTE)
    view.fold(inventory(tasks=[task(desired="shutdown", index=11)], clock_ms=NOW), NOW)
    view.fold(inventory(tasks=[task(desired="remove", index=12)], clock_ms=NOW + 9), NOW + 9)
    assert view.spans["web.1"].ended_ms == NOW


def test_a_task_first_seen_on_its_way_out_never_counts() -> None:
    span = view_of(inventory(tasks=[task(desired="shutdown")])).spans["web.1"]
    assert (span.running_from_ms, span.ended_ms) == (None, NOW)


def test_an_ended_task_that_vanishes_keeps_its_end() -> None:
    view = view_of(inventory(tasks=[task()]))
    view.fold(inventory(tasks=[task(state="failed", since_ms=NOW - 5, index=11)]), NOW)
    view.fold(inventory(), NOW + MINUTE)
    assert view.spans["web.1"].ended_ms == NOW - 5


@pytest.mark.parametrize(("before_ms", "known"), [(NOW, True), (NOW + 1, False)])
def test_tasks_that_ended_long_ago_are_forgotten(before_ms: int, *, known: bool) -> None:
    view = view_of(inventory(tasks=[task(), task("web.2")]))
    view.fold(inventory(tasks=[task("web.2")]), NOW)
    view.forget(before_ms)
    assert ("web.1" in view.spans) is known
    assert "web.2" in view.spans


def test_the_revision_changes_with_the_services_and_only_with_them() -> None:
    view = view_of(inventory(services=[service()], tasks=[task()]))
    before = view.revision
    view.fold(inventory(services=[service()], tasks=[task(index=11)], nodes=[node()]), NOW)
    assert view.revision == before
    view.fold(inventory(services=[service(index=11)]), NOW)
    changed = view.revision
    assert changed != before
    view.fold(inventory(), NOW)
    assert view.revision != changed


@given(st.permutations([10, 11, 12, 13]))
def test_differences_in_any_order_end_in_the_same_services(order: list[int]) -> None:
    view = view_of(inventory(services=[service(index=9)], index=9))
    for index in order:
        shown = dataclasses.replace(service(index=index), replicas=index)
        view.fold(inventory(keyframe=False, services=[shown], index=index), NOW)
    assert view.services["web"].replicas == 13


def test_when_nobody_newer_has_spoken_for_a_minute_a_lower_index_counts_again() -> None:
    """The newest object may be gone before a new leader first looks: its maximum is lower."""
    view = SwarmView()
    view.fold(inventory(services=[service("web")], index=100), NOW)
    lower = inventory(services=[], index=90)
    view.fold(lower, NOW + SILENCE_MS - 1)
    assert list(view.services) == ["web"]
    view.fold(lower, NOW + SILENCE_MS)
    assert list(view.services) == []
    assert view.seen_at_ms == NOW + SILENCE_MS


def test_a_jobs_task_is_running_though_it_is_meant_to_complete() -> None:
    view = SwarmView()
    job = task("job.1", of="job", desired="complete")
    view.fold(inventory(services=[service("job")], tasks=[job]), NOW)
    span = view.spans["job.1"]
    assert span.is_running
    assert span.ended_ms is None


def test_a_task_that_is_gone_without_a_word_does_not_run_any_more() -> None:
    view = view_of(inventory(tasks=[task()]), inventory())
    assert not view.spans["web.1"].is_running


@pytest.mark.parametrize("state", ["failed", "rejected"])
def test_a_task_that_went_wrong_is_told_once(state: str) -> None:
    view, told = SwarmView(), []
    wrong = task(state=state, desired="shutdown", index=11, since_ms=NOW - 5)
    later = task(state=state, desired="remove", index=12, since_ms=NOW - 5)
    for index, shown in enumerate([task(), wrong, wrong, later]):
        spans = view.fold(inventory(tasks=[shown], index=100 + index), NOW)
        told.append([(span.task.state, span.ended_ms) for span in spans])
    assert told == [[], [(state, NOW - 5)], [], []]


def test_a_task_first_seen_failed_is_told_with_its_own_date() -> None:
    spans = SwarmView().fold(inventory(tasks=[task(state="failed", since_ms=LONG_AGO)]), NOW)
    assert [span.ended_ms for span in spans] == [LONG_AGO]


@pytest.mark.parametrize("state", ["failed", "rejected", "shutdown", "complete", "orphaned"])
def test_a_task_that_was_already_to_stop_does_not_go_wrong(state: str) -> None:
    view = view_of(inventory(tasks=[task()]))
    view.fold(inventory(tasks=[task(desired="shutdown", index=11)]), NOW)
    over = task(state=state, desired="shutdown", index=12, since_ms=NOW)
    assert list(view.fold(inventory(tasks=[over]), NOW)) == []


def test_nothing_is_entered_after_it_was_seen() -> None:
    """The clock of a task's node may be ahead of the publisher's."""
    view = view_of(
        inventory(
            tasks=[
                task("a", since_ms=NOW + MINUTE),
                task("b", state="failed", since_ms=NOW + MINUTE),
                task("c", state="pending", since_ms=NOW + MINUTE),
            ]
        )
    )
    assert view.spans["a"].running_from_ms == NOW
    assert view.spans["b"].ended_ms == NOW
    assert view.spans["c"].pending.from_ms == NOW


@pytest.mark.parametrize(
    "shown",
    [
        inventory(nodes=[node(state="down", index=11)], index=101),
        inventory(keyframe=False, nodes=[node(state="down", index=11)], index=101),
    ],
)
def test_a_node_is_down_from_when_that_is_seen_until_it_is_back_or_gone(shown: Inventory) -> None:
    for end in (
        inventory(nodes=[node(index=12)], index=102),
        inventory(index=102),
        inventory(nodes=[node(state="unknown", index=12)], index=102),
    ):
        view = view_of(inventory(nodes=[node()]), at_ms=NOW)
        view.fold(shown, NOW + 5)
        view.fold(inventory(nodes=[node(state="down", index=11)], index=101), NOW + 7)
        assert view.downtimes == (Downtime("node-1", NOW + 5),)
        view.fold(end, NOW + 9)
        assert view.downtimes == (Downtime("node-1", NOW + 5, NOW + 9),)


@pytest.mark.parametrize(("before_ms", "known"), [(NOW + 9, True), (NOW + 10, False)])
def test_a_nodes_downtime_is_forgotten_with_the_tasks_it_took(
    before_ms: int, *, known: bool
) -> None:
    view = view_of(inventory(tasks=[task()], nodes=[node()]), at_ms=NOW)
    given_up = [task(desired="shutdown", index=11)]
    view.fold(inventory(tasks=given_up, nodes=[node(state="down", index=11)]), NOW + 1)
    view.forget(NOW + MINUTE)
    assert "web.1" in view.spans
    view.fold(inventory(tasks=given_up, nodes=[node(index=12)]), NOW + 9)
    view.forget(before_ms)
    assert bool(view.downtimes) is known
    assert ("web.1" in view.spans) is known


def test_what_is_wanted_is_remembered_when_it_changes_and_only_then() -> None:
    view = SwarmView()
    for index, (replicas, update_state) in enumerate([(2, ""), (2, ""), (3, ""), (3, "paused")]):
        shown = service(replicas=replicas, update_state=update_state, index=index)
        view.fold(inventory(services=[shown]), NOW + index)
    assert view.wishes == {
        "web": [Wish(NOW, 2, ""), Wish(NOW + 2, 3, ""), Wish(NOW + 3, 3, "paused")]
    }
    view.fold(inventory(), NOW + 9)
    assert view.wishes == {}


def test_the_past_does_not_run_backwards_for_an_entry_that_is_true_of_earlier() -> None:
    view = view_of(inventory(services=[service(replicas=2)], nodes=[node()]), at_ms=NOW)
    late = inventory(
        services=[service(replicas=3, index=11)], nodes=[node(state="down", index=11)], index=101
    )
    view.fold(late, NOW - MINUTE)
    assert [wish.ms for wish in view.wishes["web"]] == [NOW, NOW]
    assert [downtime.from_ms for downtime in view.downtimes] == [NOW]
    assert view.seen_ms == [NOW, NOW]


def test_the_times_of_inventories_count_from_the_first_whole_one_that_is_not_stale() -> None:
    view = SwarmView()
    for at_ms, keyframe, index in (
        (NOW, False, 100),
        (NOW + 1, True, 100),
        (NOW + 2, False, 99),
        (NOW + 3, False, 101),
    ):
        view.fold(inventory(keyframe=keyframe, index=index), at_ms)
    assert view.seen_ms == [NOW + 1, NOW + 3]


@pytest.mark.parametrize(
    ("before_ms", "kept"),
    [
        (NOW - 1, [NOW, NOW + 2, NOW + 5]),
        (NOW + 1, [NOW, NOW + 2, NOW + 5]),
        (NOW + 2, [NOW + 2, NOW + 5]),
        (NOW + 4, [NOW + 2, NOW + 5]),
        (NOW + 9, [NOW + 5]),
    ],
)
def test_what_held_at_the_time_is_kept_with_what_came_after(
    before_ms: int, kept: list[int]
) -> None:
    view = SwarmView()
    for after_ms in (0, 2, 5):
        shown = service(replicas=after_ms, index=10 + after_ms)
        view.fold(inventory(services=[shown]), NOW + after_ms)
    view.forget(before_ms)
    assert view.seen_ms == kept
    assert [wish.ms for wish in view.wishes["web"]] == kept


def test_a_task_that_was_seen_ended_is_on_its_way_no_more() -> None:
    """Swarm's states only go forward; a publisher that tells otherwise opens nothing again."""
    view = view_of(inventory(tasks=[task(state="failed", index=10)]))
    view.fold(inventory(tasks=[task(state="pending", index=11)]), NOW)
    span = view.spans["web.1"]
    assert (span.pending, span.starting) == (Stay(), Stay())


def test_a_slot_is_finished_from_its_tasks_end_until_the_next_one_begins_or_it_is_removed() -> None:
    done = task(state="complete", desired="shutdown", since_ms=NOW - 9, index=11)
    view = view_of(inventory(services=[service()], tasks=[task()]), at_ms=NOW - 10)
    view.fold(inventory(tasks=[done], services=[service()], clock_ms=NOW - 8), NOW - 8)
    assert view.finishes() == [Finish(done, NOW - 9)]
    following = task("web.2", state="pending", since_ms=NOW - 5)
    removed = dataclasses.replace(done, desired_state="remove", index=12)
    for change, end_ms in ((following, NOW - 5), (removed, NOW)):
        changed = view_of(inventory(services=[service()], tasks=[done]))
        changed.fold(inventory(keyframe=False, tasks=[change]), NOW)
        assert [each.to_ms for each in changed.finishes()] == [end_ms]


def test_a_task_first_seen_when_it_is_to_be_removed_has_finished_no_slot() -> None:
    """It may have been known, and forgotten since."""
    shown = task(state="complete", desired="remove", since_ms=NOW - 9)
    [finish] = view_of(inventory(services=[service()], tasks=[shown])).finishes()
    assert (finish.from_ms, finish.to_ms) == (NOW - 9, NOW - 9)
