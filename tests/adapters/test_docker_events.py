from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest

from adapters.engine import Engine, Handler, Seen
from autoheal.adapters.clock import SystemClock
from autoheal.adapters.docker_api import ReadOnlyDocker
from autoheal.adapters.docker_events import DockerEvents
from autoheal.errors import RemoteRefused, RemoteUnreachable
from autoheal.model import Event

Script = Callable[[Seen, Handler], None]
LABELS = {"com.docker.swarm.task.id": "t1", "com.docker.swarm.service.id": "s1"}
CONTAINER = "c" * 64
START_NS = 1_700_000_000 * 10**9


def event(action: str, at: int, *, kind: str = "container", **attributes: str) -> dict[str, Any]:
    return {
        "Type": kind,
        "Action": action,
        "Actor": {"ID": CONTAINER, "Attributes": {**LABELS, **attributes}},
        "time": (START_NS + at) // 10**9,
        "timeNano": START_NS + at,
    }


def sends(*events: dict[str, Any]) -> Script:
    """These events, then the end of the window."""

    def script(_: Seen, handler: Handler) -> None:
        handler.begin_stream()
        for one in events:
            handler.chunk(json.dumps(one).encode() + b"\n")
        handler.end_stream()

    return script


def is_cut_after(*events: dict[str, Any]) -> Script:
    def script(_: Seen, handler: Handler) -> None:
        handler.begin_stream()
        for one in events:
            handler.chunk(json.dumps(one).encode() + b"\n")
        handler.cut()

    return script


def falls_silent(_: Seen, handler: Handler) -> None:
    handler.begin_stream()
    time.sleep(2)


@dataclass
class Stage:
    """An engine that plays one script per request, and the source that follows it."""

    engine: Engine
    docker: ReadOnlyDocker
    source: DockerEvents = field(init=False)
    scripts: list[Script] = field(default_factory=list)
    changes: int = 0
    waits: list[float] = field(default_factory=list)

    def play(self, *scripts: Script) -> None:
        self.scripts.extend(scripts)

    def perform(self, seen: Seen, handler: Handler) -> None:
        script = self.scripts.pop(0) if self.scripts else sends()
        script(seen, handler)

    def changed(self) -> None:
        self.changes += 1

    def heard(self, count: int) -> list[Event | None]:
        return list(islice(self.source.events(lambda: False), count))

    @property
    def requests(self) -> list[dict[str, str]]:
        return [s.parameters for s in self.engine.seen if s.path.endswith("/events")]


@pytest.fixture
def stage(engine: Engine) -> Iterator[Stage]:
    with closing(ReadOnlyDocker(engine.url, timeout_s=1)) as docker:
        stage = Stage(engine, docker)
        stage.source = DockerEvents(
            docker,
            SystemClock(),
            "n1",
            on_change=stage.changed,
            window_s=0.2,
            grace_s=0.2,
            wait=stage.waits.append,
        )
        stage.source._since_ns = START_NS
        engine.routes["/events"] = stage.perform
        yield stage


def told(kind: str, exit_code: int | None = None, *, stopped: bool = False) -> Event:
    ended = stopped if kind == "died" else None
    return Event(kind, "s1", "t1", CONTAINER, "n1", exit_code, stopped=ended)


def killed(at: int, signal: str = "9") -> dict[str, Any]:
    return event("kill", at, signal=signal)


def died(at: int, exit_code: str = "137") -> dict[str, Any]:
    return event("die", at, exitCode=exit_code)


def of_container(container: str, raw: dict[str, Any]) -> dict[str, Any]:
    return raw | {"Actor": raw["Actor"] | {"ID": container}}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (event("oom", 1), told("oom_killed")),
        (event("die", 1, exitCode="137"), told("died", 137)),
        (event("die", 1), told("died")),
        (event("die", 1, exitCode="?"), told("died")),
        (event("health_status: unhealthy", 1), told("unhealthy")),
        (event("health_status: healthy", 1), None),
        (event("start", 1), None),
        (event("update", 1, kind="service"), None),
        (event("die", 1, kind="network"), None),
    ],
)
def test_each_action(stage: Stage, raw: dict[str, Any], expected: Event | None) -> None:
    stage.play(sends(raw))
    assert stage.heard(2)[0] == expected


def test_reads_action_and_actor_not_what_newer_engines_lack(stage: Stage) -> None:
    misleading = event("die", 1, exitCode="1") | {"status": "oom", "id": "0" * 64, "from": "x"}
    stage.play(sends(misleading))
    assert stage.heard(1) == [told("died", 1)]


def test_only_tasks_of_the_swarm_count(stage: Stage) -> None:
    stranger = event("oom", 1)
    stranger["Actor"]["Attributes"] = {"image": "x"}
    stage.play(sends(stranger, event("oom", 2)))
    assert stage.heard(2) == [told("oom_killed"), None]


def test_an_event_is_heard_before_its_window_ends(stage: Stage) -> None:
    def slow(_: Seen, handler: Handler) -> None:
        handler.begin_stream()
        handler.chunk(json.dumps(event("oom", 1)).encode() + b"\n")
        time.sleep(0.3)
        handler.end_stream()

    stage.play(slow)
    began = time.monotonic()
    assert stage.heard(1) == [told("oom_killed")]
    assert time.monotonic() - began < 0.25


def test_asks_from_the_last_event_on_and_drops_what_is_replayed(stage: Stage) -> None:
    oom, end = event("oom", 5), died(6)
    stage.play(sends(oom), sends(oom, end), sends(end))
    assert stage.heard(5) == [told("oom_killed"), None, told("died", 137), None, None]
    since = [request["since"] for request in stage.requests]
    assert since == ["1700000000.000000000", "1700000000.000000005", "1700000000.000000006"]


def test_asks_for_what_it_needs_until_shortly_ahead(stage: Stage) -> None:
    stage.heard(1)
    (request,) = stage.requests
    assert 0 < float(request["until"]) - time.time() < 1
    filters = json.loads(request["filters"])
    assert filters["type"] == ["container", "service", "node"]
    assert {"oom", "kill", "die", "health_status", "start"} <= set(filters["event"])


def test_two_at_one_instant_are_two(stage: Stage) -> None:
    other = event("oom", 5)
    other["Actor"]["ID"] = "d" * 64
    stage.play(sends(event("oom", 5), event("die", 5), other))
    assert [e.kind for e in stage.heard(3) if e] == ["oom_killed", "died", "oom_killed"]


def test_a_cut_is_raised_and_the_next_call_goes_on_where_it_was(stage: Stage) -> None:
    oom, end = event("oom", 5), died(6)
    stage.play(is_cut_after(oom), sends(oom, end))
    following = stage.source.events(lambda: False)
    assert next(following) == told("oom_killed")
    with pytest.raises(RemoteUnreachable, match="cut"):
        next(following)
    assert stage.heard(2) == [told("died", 137), None]
    assert stage.requests[-1]["since"] == "1700000000.000000005"


def test_an_engine_that_hangs_is_noticed(stage: Stage) -> None:
    stage.play(falls_silent)
    began = time.monotonic()
    with pytest.raises(RemoteUnreachable, match="nothing within"):
        stage.heard(1)
    assert time.monotonic() - began < 1.5


def test_a_refusal_is_raised(stage: Stage) -> None:
    stage.play(lambda _, handler: handler.json({"message": "denied"}, 403))
    with pytest.raises(RemoteRefused):
        stage.heard(1)


def test_silence_is_no_failure(stage: Stage) -> None:
    assert stage.heard(3) == [None, None, None]


def test_changes_are_told_for_news_and_after_each_gap(stage: Stage) -> None:
    start = event("start", 1)
    stage.play(sends(), sends(start), sends(start), is_cut_after(), sends(), sends())
    following = stage.source.events(lambda: False)
    counts = []
    for _ in range(3):
        next(following)
        counts.append(stage.changes)
    with pytest.raises(RemoteUnreachable):
        next(following)
    stage.heard(2)
    counts.append(stage.changes)
    assert counts == [1, 2, 2, 3]


def test_a_window_that_ends_early_is_waited_for(stage: Stage) -> None:
    stage.heard(3)
    assert len(stage.waits) == 2
    assert all(0 < wait <= 0.2 for wait in stage.waits)


def test_a_clock_set_back_does_not_deafen(stage: Stage) -> None:
    stage.source._since_ns = int((time.time() + 3600) * 1e9)
    stage.heard(1)
    (request,) = stage.requests
    assert float(request["since"]) <= time.time() < float(request["until"])


def test_nonsense_is_passed_over_aloud(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def nonsense(_: Seen, handler: Handler) -> None:
        handler.begin_stream()
        handler.chunk(b"not json\n\n[1]\n" + json.dumps(event("oom", 1)).encode() + b"\n")
        handler.end_stream()

    stage.play(nonsense)
    with caplog.at_level(logging.WARNING):
        assert stage.heard(1) == [told("oom_killed")]
    assert len(caplog.records) == 2


def test_stops_when_told(stage: Stage) -> None:
    stage.play(sends(event("start", 1), event("oom", 2)))
    answers = iter([False, True])
    assert list(stage.source.events(lambda: next(answers))) == []


def test_what_it_remembers_is_bounded(stage: Stage) -> None:
    stage.play(sends(*(event("start", at) for at in range(1500))))
    stage.heard(1)
    assert len(stage.source._seen) == 1024


@pytest.mark.parametrize(("later_s", "kills"), [(0.0, 1), (0.999, 1), (1.0, 2), (60.0, 2)])
def test_one_kill_that_is_told_many_times_at_once_is_one(
    stage: Stage, later_s: float, kills: int
) -> None:
    stage.play(sends(event("oom", 1), event("oom", 2), event("oom", 2 + int(later_s * 10**9))))
    heard = stage.heard(kills + 1)
    assert heard == [*[told("oom_killed")] * kills, None]


def test_kills_of_two_containers_are_two(stage: Stage) -> None:
    stage.play(sends(event("oom", 1), of_container("f" * 64, event("oom", 2))))
    assert len([each for each in stage.heard(2) if each]) == 2


class TestStopped:
    """Who ended a container: Docker tells of the signals that it sends, and of no others."""

    @pytest.mark.parametrize(
        ("events", "stopped"),
        [
            pytest.param([died(1, "3")], False, id="a crash"),
            pytest.param([event("oom", 1), died(2)], False, id="the kernel, for memory"),
            pytest.param([killed(1), died(2)], True, id="docker kill"),
            pytest.param([killed(1, "15"), killed(2, "9"), died(3)], True, id="out of patience"),
            pytest.param([killed(1, "1"), died(2, "1")], False, id="a reload, then a crash"),
            pytest.param([killed(1, "1"), killed(2, "15"), died(3)], True, id="a reload, a stop"),
            pytest.param([killed(1, "15"), killed(2, "1"), died(3)], True, id="a stop, a reload"),
            pytest.param(
                [event("health_status: unhealthy", 1), killed(2, "15"), died(3)],
                True,
                id="Swarm, for its health",
            ),
        ],
    )
    def test_the_end_says_whether_a_signal_came_first(
        self, stage: Stage, events: list[dict[str, Any]], stopped: bool
    ) -> None:
        stage.play(sends(*events))
        heard = [each for each in stage.heard(3) if each and each.kind == "died"]
        assert [each.stopped for each in heard] == [stopped]

    @pytest.mark.parametrize(
        ("signal", "stopped"),
        [
            ("15", True),
            ("9", True),
            ("2", True),
            ("3", True),
            ("SIGTERM", True),
            ("TERM", True),
            ("sigquit", True),
            ("KILL", True),
            ("37", True),
            ("RTMIN+3", True),
            ("", True),
            ("1", False),
            ("HUP", False),
            ("SIGHUP", False),
            ("sighup", False),
            ("10", False),
            ("SIGUSR1", False),
            ("12", False),
            ("USR2", False),
            ("28", False),
            ("SIGWINCH", False),
        ],
    )
    def test_signals_to_live_on_with_do_not_count(
        self, stage: Stage, signal: str, stopped: bool
    ) -> None:
        stage.play(sends(killed(1, signal), died(2)))
        assert stage.heard(1) == [told("died", 137, stopped=stopped)]

    @pytest.mark.parametrize(("later_s", "stopped"), [(599.9, True), (600, False)])
    def test_a_signal_long_ago_ended_nothing(
        self, stage: Stage, later_s: float, stopped: bool
    ) -> None:
        stage.play(sends(killed(1, "3"), died(1 + int(later_s * 10**9))))
        assert stage.heard(1) == [told("died", 137, stopped=stopped)]

    def test_a_signal_that_is_not_named_counts(self, stage: Stage) -> None:
        stage.play(sends(event("kill", 1), died(2)))
        assert stage.heard(1) == [told("died", 137, stopped=True)]

    def test_only_the_end_is_marked_and_ends_the_memory(self, stage: Stage) -> None:
        stage.play(sends(killed(1, "15"), event("oom", 2), died(3)))
        assert stage.heard(2) == [told("oom_killed"), told("died", 137, stopped=True)]

    @pytest.mark.parametrize(
        ("later_s", "counts"), [(0, False), (59.9, False), (60, True), (600, True)]
    )
    def test_a_health_check_that_fails_while_it_is_being_stopped_says_nothing(
        self, stage: Stage, later_s: float, counts: bool
    ) -> None:
        sick = event("health_status: unhealthy", 1 + int(later_s * 10**9))
        stage.play(sends(killed(1, "15"), sick))
        assert [each for each in stage.heard(1) if each] == ([told("unhealthy")] if counts else [])

    def test_a_signal_is_neither_told_nor_a_change(self, stage: Stage) -> None:
        stage.play(sends(), sends(killed(1)), sends())
        assert stage.heard(3) == [None, None, None]
        assert stage.changes == 1, "the one at the start"
        assert stage.requests[-1]["since"] == "1700000000.000000001"

    def test_it_is_remembered_across_windows(self, stage: Stage) -> None:
        stage.play(sends(killed(1)), sends(killed(1)), sends(died(2)))
        assert stage.heard(3) == [None, None, told("died", 137, stopped=True)]

    def test_it_is_remembered_across_a_gap(self, stage: Stage) -> None:
        stage.play(is_cut_after(killed(1)), sends(killed(1), died(2)))
        with pytest.raises(RemoteUnreachable):
            stage.heard(1)
        assert stage.heard(2) == [told("died", 137, stopped=True), None]

    def test_what_came_in_a_gap_is_replayed(self, stage: Stage) -> None:
        start = event("start", 1)
        stage.play(is_cut_after(start), sends(start, killed(2, "15"), killed(3), died(4)))
        with pytest.raises(RemoteUnreachable):
            stage.heard(1)
        assert stage.heard(2) == [told("died", 137, stopped=True), None]

    def test_an_end_that_is_replayed_is_not_told_anew(self, stage: Stage) -> None:
        stage.play(sends(killed(1), died(2)), sends(killed(1), died(2)))
        assert stage.heard(3) == [told("died", 137, stopped=True), None, None]

    def test_the_next_life_of_a_container_begins_anew(self, stage: Stage) -> None:
        stage.play(sends(killed(1), died(2), event("start", 3), died(4, "3")))
        assert stage.heard(2) == [told("died", 137, stopped=True), told("died", 3)]

    def test_a_signal_to_one_is_none_to_another(self, stage: Stage) -> None:
        stage.play(sends(of_container("d", killed(1)), died(2), of_container("d", died(3))))
        assert [each.stopped for each in stage.heard(2) if each] == [False, True]

    def test_what_is_remembered_is_bounded_and_the_newest_stay(self, stage: Stage) -> None:
        many = [of_container(f"{number:04d}", killed(number)) for number in range(1, 1500)]
        again = of_container("0476", killed(1600))  # it was to be the next to be forgotten
        ends = [of_container(letters, died(2000)) for letters in ("0475", "0476", "0477", "1499")]
        stage.play(sends(*many, again, of_container("9999", killed(1700)), *ends))
        assert [each.stopped for each in stage.heard(4) if each] == [False, True, False, True]
        stage.heard(1)
        assert len(stage.source._signalled) == 1022

    def test_strangers_take_no_room(self, stage: Stage) -> None:
        stranger = killed(1)
        stranger["Actor"]["Attributes"] = {"image": "x", "signal": "9"}
        stage.play(sends(stranger))
        stage.heard(1)
        assert not stage.source._signalled
