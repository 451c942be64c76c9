from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from queue import Empty, Queue

import numpy as np
import pytest

from adapters.fakes import HandClock, container
from autoheal.adapters.containers import TaskContainer
from autoheal.collector import Collector, Sources
from autoheal.errors import RemoteError, RemoteUnreachable
from autoheal.metrics import MEASURED
from autoheal.model import Event, NodeFigures, RosterRow
from autoheal.outbox import Outbox
from autoheal.ports import Container
from autoheal.records import (
    EVENTS,
    SAMPLES,
    SampleBatch,
    Samples,
    container_key,
    unpack_event,
    unpack_samples,
)
from autoheal.telemetry import Telemetry
from collector.fakes import Store, value

A, B = container("a"), container("b")
FIGURES = NodeFigures(2.0, 12.5, 1000, 50.0)
MIB = 2**20


@dataclass
class Node:
    """All sources of one node in one."""

    clock: HandClock
    running: list[TaskContainer] = field(default_factory=lambda: [A])
    unreadable: set[str] = field(default_factory=set)
    limit: int | None = 64 * MIB
    failure: RemoteError | None = None
    happening: Queue[Event | RemoteError] = field(default_factory=Queue)
    # What each connection brings, in order; when there is none left, what is `happening`.
    script: list[list[Event | RemoteError | None]] = field(default_factory=list)
    connections: int = 0

    def containers(self) -> Sequence[Container]:
        if self.failure is not None:
            raise self.failure
        self.clock.pass_seconds(0.25)
        return list(self.running)

    def sample(self, containers: Sequence[Container]) -> Samples:
        self.clock.pass_seconds(0.5)
        keys = tuple(container_key(c.id) for c in containers if c.id not in self.unreadable)
        return Samples(MEASURED, keys, np.full((len(MEASURED), len(keys)), math.nan, np.float32))

    def roster(self, containers: Sequence[Container]) -> tuple[RosterRow, ...]:
        return tuple(
            RosterRow(container_key(c.id), c.id, c.task, c.service, None, self.limit)
            for c in containers
            if c.id not in self.unreadable
        )

    def figures(self) -> NodeFigures:
        return FIGURES

    def events(self, stop: Callable[[], bool]) -> Iterator[Event | None]:
        self.connections += 1
        happening = self.script.pop(0) if self.script else self._live(stop)
        for event in happening:
            if isinstance(event, RemoteError):
                raise event
            yield event

    def _live(self, stop: Callable[[], bool]) -> Iterator[Event | RemoteError | None]:
        while not stop():
            try:
                yield self.happening.get(timeout=0.01)
            except Empty:
                yield None


@dataclass
class Scene:
    clock: HandClock = field(default_factory=HandClock)
    store: Store = field(default_factory=Store)
    failures: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.node = Node(self.clock)
        self.telemetry = Telemetry(self.clock)
        self.collector = Collector(
            "n1",
            Sources(self.node, self.node, self.node, self.node),
            self.clock,
            self.telemetry,
            samples=Outbox("samples", self.store, self.telemetry, entries_max=3),
            events=Outbox("events", self.store, self.telemetry),
        )

    def close(self) -> None:
        self.collector.stop()

    def tick(self, after_s: float = 5.0) -> None:
        self.clock.pass_seconds(after_s)
        try:
            self.collector.tick()
        except (RemoteError, ConnectionError) as error:
            self.failures.append(error)

    @property
    def batches(self) -> list[SampleBatch]:
        return [unpack_samples(w.fields) for w in self.store.kept if w.stream == SAMPLES]

    @property
    def events(self) -> list[Event]:
        return [unpack_event(w.fields) for w in self.store.kept if w.stream == EVENTS]

    @property
    def rosters(self) -> list[bool]:
        return [batch.roster is not None for batch in self.batches]

    def count(self, name: str, **labels: str) -> float:
        return value(self.telemetry, name, **labels)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with closing(Scene()) as scene:
        yield scene


def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not come to pass within 5 s")


class TestTick:
    def test_one_sample_of_everything(self, scene: Scene) -> None:
        scene.node.running = [A, B]
        scene.tick()
        (batch,) = scene.batches
        assert (batch.node, batch.figures) == ("n1", FIGURES)
        assert batch.samples.keys == (container_key(A.id), container_key(B.id))
        assert batch.samples.metrics == MEASURED
        assert scene.store.kept[0].taken == 105.25, "after the list, before the figures"
        assert scene.count("autoheal_samples_total") == 2
        assert scene.failures == []

    def test_the_roster_comes_on_change_and_every_five_minutes(self, scene: Scene) -> None:
        scene.tick()
        scene.tick()
        scene.node.running = [A, B]
        scene.tick()
        scene.tick()
        scene.node.running = [B]
        scene.tick()
        scene.tick()
        scene.tick(300)
        scene.tick()
        assert scene.rosters == [True, False, True, False, True, False, True, False]

    def test_the_roster_comes_again_after_the_store_was_away(self, scene: Scene) -> None:
        scene.tick()
        scene.store.away = True
        scene.tick()
        assert [type(failure) for failure in scene.failures] == [ConnectionError]
        scene.store.away = False
        for _ in range(3):
            scene.tick()
        assert scene.rosters == [True, False, False, True, False]

    def test_a_roster_that_was_dropped_comes_again(self, scene: Scene) -> None:
        scene.store.away = True
        for _ in range(5):
            scene.tick()
        scene.store.away = False
        for _ in range(3):
            scene.tick()
        assert any(scene.rosters)
        assert scene.rosters[-1] is False

    def test_what_cannot_be_read_is_counted_and_asked_again(self, scene: Scene) -> None:
        scene.node.running = [A, B]
        scene.node.unreadable = {B.id}
        scene.tick()
        assert scene.count("autoheal_samples_missing_total") == 1
        scene.node.unreadable = set()
        scene.tick()
        scene.tick()
        assert scene.rosters == [True, True, False]

    def test_without_docker_nothing_is_told_but_what_waits_is_sent(self, scene: Scene) -> None:
        scene.store.away = True
        scene.tick()
        scene.store.away = False
        scene.node.failure = RemoteUnreachable("no answer")
        scene.tick()
        assert len(scene.batches) == 1
        kinds = [type(failure) for failure in scene.failures]
        assert kinds == [ConnectionError, RemoteUnreachable]

    def test_no_containers_is_a_sample_too(self, scene: Scene) -> None:
        scene.node.running = []
        scene.tick()
        (batch,) = scene.batches
        assert (batch.samples.keys, batch.roster) == ((), ())


OOM = Event("oom_killed", "service-a", "task-a", A.id, "n1")


class TestEvents:
    def test_each_is_written_at_once_with_the_limit_of_the_time(self, scene: Scene) -> None:
        scene.tick()
        scene.collector.start()
        scene.node.happening.put(OOM)
        until(lambda: bool(scene.events))
        (event,) = scene.events
        assert (event.kind, event.memory_limit) == ("oom_killed", 64 * MIB)
        assert scene.count("autoheal_events_total", kind="oom_killed") == 1

    def test_what_its_node_saw_is_told_as_it_was(self, scene: Scene) -> None:
        end = Event("died", "service-a", "task-a", A.id, "n1", exit_code=137, stopped=True)
        scene.tick()
        scene.collector.start()
        scene.node.happening.put(end)
        until(lambda: bool(scene.events))
        assert scene.events == [dataclasses.replace(end, memory_limit=64 * MIB)]

    def test_a_container_that_just_left_has_still_its_limit(self, scene: Scene) -> None:
        scene.tick()
        scene.node.running = [B]
        scene.tick()
        scene.collector.start()
        scene.node.happening.put(OOM)
        until(lambda: bool(scene.events))
        assert scene.events[0].memory_limit == 64 * MIB

    def test_a_container_never_seen_has_none(self, scene: Scene) -> None:
        scene.collector.start()
        scene.node.happening.put(OOM)
        until(lambda: bool(scene.events))
        assert scene.events[0].memory_limit is None

    def test_what_the_store_missed_follows_with_the_next_sign_of_life(self, scene: Scene) -> None:
        scene.store.away = True
        scene.collector.start()
        scene.node.happening.put(OOM)
        until(lambda: len(scene.store.calls) >= 2)
        scene.store.away = False
        until(lambda: bool(scene.events))
        assert len(scene.events) == 1

    def test_a_broken_stream_is_followed_again(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("autoheal.collector.RECONNECT_FIRST_S", 0.01)
        scene.collector.start()
        scene.node.happening.put(RemoteUnreachable("cut"))
        scene.node.happening.put(OOM)
        until(lambda: bool(scene.events))
        assert scene.node.connections == 2
        assert scene.count("autoheal_loop_failures_total", loop="events") == 1
        assert scene.count("autoheal_loop_ticks_total", loop="events") > 0

    def test_it_outlives_what_nobody_foresaw(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A store that refuses (a changed password) raises no ConnectionError."""
        monkeypatch.setattr("autoheal.collector.RECONNECT_FIRST_S", 0.01)
        refusals = [ValueError("wrong password")]
        flush = scene.collector._events.flush

        def refused_once() -> bool:
            if refusals:
                raise refusals.pop()
            return flush()

        monkeypatch.setattr(scene.collector._events, "flush", refused_once)
        scene.node.happening.put(OOM)
        scene.collector.start()
        until(lambda: bool(scene.events))
        assert scene.count("autoheal_loop_failures_total", loop="events") == 1

    def test_it_ends_soon_even_while_it_waits_to_reconnect(self, scene: Scene) -> None:
        scene.node.happening.put(RemoteUnreachable("cut"))
        scene.collector.start()
        until(lambda: scene.count("autoheal_loop_failures_total", loop="events") == 1)
        began = time.monotonic()
        scene.collector.stop()
        assert time.monotonic() - began < 0.5
        assert "events" not in {thread.name for thread in threading.enumerate()}

    def test_a_stream_that_ends_is_followed_again(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("autoheal.collector.RECONNECT_FIRST_S", 0.01)
        scene.node.script = [[], [OOM]]
        scene.collector.start()
        until(lambda: bool(scene.events))
        assert scene.count("autoheal_loop_failures_total", loop="events") == 0

    @pytest.mark.parametrize(
        ("script", "pauses"),
        [
            ([RemoteUnreachable("cut")], [1, 2, 4, 8, 16, 30, 30]),
            ([], [1, 2, 4, 8, 16, 30, 30]),
            ([None, RemoteUnreachable("cut")], [1, 1, 1]),
            ([OOM, RemoteUnreachable("cut")], [1, 1, 1]),
        ],
        ids=["breaks", "ends", "breaks after a sign of life", "breaks after an event"],
    )
    def test_it_waits_longer_until_something_is_heard(
        self,
        scene: Scene,
        monkeypatch: pytest.MonkeyPatch,
        script: list[Event | RemoteError | None],
        pauses: list[float],
    ) -> None:
        waited: list[float] = []
        stopping = scene.collector._stopping

        def wait(timeout: float) -> None:
            waited.append(timeout)
            if len(waited) == len(pauses):
                stopping.set()

        monkeypatch.setattr(stopping, "wait", wait)
        scene.node.script = [script] * len(pauses)
        scene.collector._follow()
        assert waited == pauses

    def test_stop_without_start(self, scene: Scene) -> None:
        scene.collector.stop()


class TestHear:
    """The events step by step, as whoever has one thread for everything follows them."""

    def test_one_step_is_all_up_to_the_next_sign_of_life(self, scene: Scene) -> None:
        later = dataclasses.replace(OOM, task="task-later")
        scene.node.script = [[OOM, OOM, None, later, None]]
        assert scene.collector.hear()
        assert [event.task for event in scene.events] == ["task-a", "task-a"]
        assert scene.collector.hear()
        assert scene.events[2:] == [later]
        assert scene.node.connections == 1

    def test_a_stream_that_ends_is_begun_anew_by_the_next_step(self, scene: Scene) -> None:
        scene.node.script = [[OOM], [None]]
        assert not scene.collector.hear()
        assert len(scene.events) == 1
        assert scene.collector.hear()
        assert scene.node.connections == 2

    def test_a_stream_that_breaks_is_begun_anew_by_the_next_step(self, scene: Scene) -> None:
        scene.node.script = [[None, OOM, RemoteUnreachable("cut")], [None]]
        assert scene.collector.hear()
        with pytest.raises(RemoteUnreachable):
            scene.collector.hear()
        assert len(scene.events) == 1
        assert scene.collector.hear()
        assert scene.node.connections == 2

    def test_what_the_store_missed_follows_with_the_next_step(self, scene: Scene) -> None:
        scene.node.script = [[OOM, None, None]]
        scene.store.away = True
        assert scene.collector.hear(), "Docker lives, whatever the store does"
        scene.store.away = False
        assert scene.collector.hear()
        assert len(scene.events) == 1

    def test_once_stopped_the_stream_ends(self, scene: Scene) -> None:
        scene.collector.stop()
        assert not scene.collector.hear()
