"""Events as conditions count them: what is derived, once each, in order, and forgotten."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from autoheal.core.view.happenings import Happening, Happenings, reason_of, tasks_of
from autoheal.core.view.swarm_view import Span
from autoheal.metrics import REJECTIONS
from autoheal.model import Event
from builders import MINUTE, NOW, container_of, task

KEPT = 10 * MINUTE
FAILED = ("task_failed", "web")
REJECTED = ("task_rejected", "web")


def died(
    exit_code: int | None = 1,
    *,
    of: str = "web.1",
    stopped: bool | None = False,
    kind: str = "died",
) -> Event:
    return Event(kind, "web", of, container_of(of), "node-1", exit_code, None, stopped)


def span(
    state: str = "failed",
    *,
    of: str = "web.1",
    ended_ms: int | None = NOW,
    exit_code: int | None = None,
    error: str = "",
) -> Span:
    shown = task(of, state=state, exit_code=exit_code, error=error)
    return Span(shown, None, ended_ms)


def test_an_event_is_shown_with_its_time_and_task() -> None:
    made = Happenings(KEPT)
    made.hear(died(0, kind="unhealthy"), NOW, None)
    assert made.by_kind(NOW) == {("unhealthy", "web"): (Happening(NOW, "web.1", 0),)}


def test_the_tasks_to_which_something_happened_are_told_for_all_services() -> None:
    made = Happenings(KEPT)
    made.hear(died(0, kind="unhealthy"), NOW, None)
    other = died(0, of="api.1", kind="unhealthy")
    made.hear(dataclasses.replace(other, service="api"), NOW, None)
    made.hear(died(0, of="web.2"), NOW, None)
    assert tasks_of("unhealthy", made.by_kind(NOW)) == {"web.1", "api.1"}


@pytest.mark.parametrize(
    ("event", "failed"),
    [
        (died(1), True),
        (died(137), True),
        (died(0), False),
        (died(None), False),
        (died(137, stopped=True), False),
        (died(137, stopped=None), False),
        (died(1, kind="unhealthy"), False),
    ],
)
def test_a_task_fails_when_its_container_ends_by_itself_with_an_error(
    event: Event, *, failed: bool
) -> None:
    made = Happenings(KEPT)
    made.hear(event, NOW, None)
    expected = (Happening(NOW, "web.1", event.exit_code),) if failed else ()
    assert made.by_kind(NOW).get(FAILED, ()) == expected


def test_a_failure_is_counted_once_whoever_tells_it_first() -> None:
    def hear(made: Happenings) -> None:
        made.hear(died(3), NOW - 5, None)

    def notice(made: Happenings) -> None:
        made.notice(span(exit_code=3, ended_ms=NOW - 4), NOW)

    for order in itertools.permutations([hear, notice, notice]):
        made = Happenings(KEPT)
        for tell in order:
            tell(made)
        assert [each.exit_code for each in made.by_kind(NOW)[FAILED]] == [3]


def test_a_later_teller_adds_the_exit_code_and_leaves_the_time() -> None:
    made = Happenings(KEPT)
    made.notice(span(ended_ms=NOW - 9), NOW)
    made.hear(died(3), NOW - 5, None)
    made.notice(span(exit_code=4), NOW)
    assert made.by_kind(NOW)[FAILED] == (Happening(NOW - 9, "web.1", 3),)


def test_each_task_fails_for_itself() -> None:
    made = Happenings(KEPT)
    made.hear(died(of="web.2"), NOW, None)
    made.hear(died(of="web.1"), NOW, None)
    assert [each.task for each in made.by_kind(NOW)[FAILED]] == ["web.1", "web.2"]


def test_a_rejection_carries_the_kind_of_its_reason() -> None:
    made = Happenings(KEPT)
    made.notice(span("rejected", error="No such image: web@sha256:0123"), NOW)
    assert made.by_kind(NOW) == {REJECTED: (Happening(NOW, "web.1", None, "image"),)}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("assigned node no longer meets constraints", "placement"),
        ("no suitable node (scheduling constraints not satisfied on 3 nodes)", "placement"),
        ("insufficient resources on 1 node", "placement"),
        ("host-mode port already in use on 1 node", "placement"),
        ("No such image: registry:5000/web@sha256:0123", "image"),
        ("pull access denied for web, repository does not exist", "image"),
        ("denied: requested access to the resource is denied", "image"),
        ("manifest for web:9 not found: manifest unknown", "image"),
        ("Get https://registry-1.docker.io/v2/: net/http: request canceled", "image"),
        ('invalid mount config for type "bind": bind source path does not exist', "other"),
        ("mkdir /data: permission denied", "other"),
        ("attached to volume which is being drained", "other"),
        ("", "other"),
    ],
)
def test_the_reason_is_read_from_swarms_words(error: str, reason: str) -> None:
    assert reason_of(error) == reason
    assert reason in REJECTIONS


@pytest.mark.parametrize(("ended_ms", "shown"), [(NOW - KEPT, False), (NOW - KEPT + 1, True)])
def test_old_failures_in_swarms_history_are_passed_over(ended_ms: int, *, shown: bool) -> None:
    made = Happenings(KEPT)
    made.notice(span(ended_ms=ended_ms), NOW)
    assert bool(made.by_kind(NOW)) is shown


def test_the_same_event_twice_is_one_and_order_is_by_time() -> None:
    made = Happenings(KEPT)
    for at_ms in (NOW, NOW - 2, NOW, NOW - 1):
        made.hear(died(0), at_ms, None)
    assert [each.ms for each in made.by_kind(NOW)["died", "web"]] == [NOW - 2, NOW - 1, NOW]


def oom(limit: int | None, *, of: str = "web.1") -> Event:
    return Event("oom_killed", "web", of, container_of(of), "node-1", None, limit)


@pytest.mark.parametrize(
    ("event_limit", "task_limit", "shown"), [(64, 32, 64), (None, 32, 32), (None, None, None)]
)
def test_the_limit_at_a_kill_is_the_events_else_the_tasks(
    event_limit: int | None, task_limit: int | None, shown: int | None
) -> None:
    made = Happenings(KEPT)
    made.hear(oom(event_limit), NOW, task_limit)
    assert made.by_kind(NOW)["oom_killed", "web"] == (Happening(NOW, "web.1", memory_limit=shown),)


def test_a_task_that_is_shown_after_its_kill_tells_the_limit_then() -> None:
    made = Happenings(KEPT)
    for at_ms, limit in ((NOW - 3, None), (NOW - 2, 16), (NOW - 1, None)):
        made.hear(oom(limit), at_ms, None)
    made.hear(oom(None, of="web.2"), NOW, None)
    made.learn_limits([task("web.1", memory_limit=32)])
    made.learn_limits([task("web.1", memory_limit=99)])
    limits = [each.memory_limit for each in made.by_kind(NOW)["oom_killed", "web"]]
    assert limits == [32, 16, 32, None]


def test_what_is_too_old_is_forgotten_and_may_be_told_anew() -> None:
    made = Happenings(KEPT)
    made.hear(died(), NOW - KEPT, None)
    made.hear(oom(None), NOW - KEPT, None)
    made.hear(died(of="web.2"), NOW - KEPT + 1, None)
    made.forget(NOW)
    assert {kind: len(each) for kind, each in made.by_kind(NOW).items()} == {
        ("died", "web"): 1,
        FAILED: 1,
    }
    made.learn_limits([task("web.1")])
    made.hear(died(), NOW, None)
    made.hear(died(of="web.2"), NOW, None)
    assert [each.task for each in made.by_kind(NOW)[FAILED]] == ["web.2", "web.1"]


def test_what_is_too_old_does_not_show_though_nothing_was_forgotten_yet() -> None:
    made = Happenings(KEPT)
    made.hear(died(0), NOW - KEPT, None)
    assert made.by_kind(NOW) == {}
    made.hear(died(0), NOW - KEPT + 1, None)
    assert [each.ms for each in made.by_kind(NOW)["died", "web"]] == [NOW - KEPT + 1]
