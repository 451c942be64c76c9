"""The engine on a real store: who leads, what is committed, and what makes it hold still."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import builders
from autoheal import records, replay, rulefile, status
from autoheal.adapters.clock import SystemClock
from autoheal.app import stores
from autoheal.core import changes
from autoheal.core.limits import Limits
from autoheal.core.state import (
    OVERALL_FIELD,
    Flight,
    Lane,
    LaneState,
    ServiceState,
    State,
    pack_overall,
    pack_service,
    unpack,
)
from autoheal.engine import Engine, Rulebook
from autoheal.errors import AutohealError
from autoheal.model import ActionKind, Mode, Outcome, OutcomeKind
from autoheal.ports import Lease, Write
from autoheal.telemetry import Telemetry
from store.servers import DURABLE, TcpServer, raw

KEY = b"k" * 32
STEP_MS = 1_000
WINDOW_S = 4
RULES = {
    "rules.yaml": b"""
rules:
  - name: cpu-high
    when: {metric: cpu_cores, over: 4s, above: 0.5}
    then: {action: scale_up, by: 1, max: 5}
"""
}
LIMITS = Limits(
    step_ms=STEP_MS,
    deploy_hold_ms=0,
    operator_hold_ms=0,
    warm_up_ms=0,
    inventory_stale_ms=600_000,
    handover_ms=600_000,
)


class Clock(SystemClock):
    """The real clock, which a test can put forward."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Memory(stores.Memory):
    """The real store, with faults on order."""

    lose_commit_replies = 0

    def commit(
        self,
        lease: Lease,
        *,
        state: Mapping[str, bytes | None],
        marker: str,
        writes: Sequence[Write],
    ) -> bool:
        done = super().commit(lease, state=state, marker=marker, writes=writes)
        if self.lose_commit_replies:
            self.lose_commit_replies -= 1
            raise ConnectionError("the reply was lost")
        return done


@dataclass
class Scene:
    """A store, a world written into it, and engines on it."""

    server: TcpServer
    clock: Clock
    sequence: int = 0

    def memory(self) -> Memory:
        return Memory(stores.connect_to(self.server.url, self.clock), self.clock)

    def engine(self, name: str, memory: stores.Memory | None = None) -> Engine:
        return Engine(
            store=memory or self.memory(),
            rulebook=Rulebook(rulefile.parse(RULES), RULES),
            limits=LIMITS,
            key=KEY,
            clock=self.clock,
            telemetry=Telemetry(self.clock),
            holder=name,
            lease_ttl_s=30.0,
        )

    def write(self, stream: str, fields: Mapping[str, bytes], *, age_s: float = 0.0) -> None:
        self.sequence += 1
        taken = self.clock.monotonic() - age_s
        self.writer.append([Write(stream, fields, self.sequence, taken)])

    def publish(self, *, cores: float = 0.9) -> None:
        """One busy service, seen for the whole window."""
        wall = self.clock.wall_ms()
        an_hour_ago = wall - builders.HOUR
        service = builders.service(
            replicas=1, created_at_ms=an_hour_ago, updated_at_ms=an_hour_ago, labels=builders.ARMED
        )
        task = builders.task(since_ms=an_hour_ago)
        inventory = builders.inventory(
            services=[service], tasks=[task], keyframe=True, clock_ms=wall
        )
        self.write(records.INVENTORY, records.pack_inventory(inventory))
        for age_s in range(WINDOW_S + 2, -1, -1):
            sampled = builders.batch({"web.1": [cores]}, roster=[builders.roster_row()])
            self.write(records.SAMPLES, records.pack_samples(sampled), age_s=age_s)

    def __post_init__(self) -> None:
        self.writer = self.memory()

    def entries(self, stream: str) -> Sequence[Mapping[str, bytes]]:
        found = self.memory().reader((stream,), since_ms=0).cut().entries
        return [entry.fields for entry in found]

    def ticks(self) -> list[int]:
        return [records.unpack_tick(fields).number for fields in self.entries(records.TICKS)]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    server = TcpServer("redis", tmp_path, *DURABLE)
    yield Scene(server, Clock())
    server.stop()


def tick_until(engine: Engine, condition: Callable[[], object], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        engine.tick()
        time.sleep(0.01)


def test_it_decides_nothing_before_a_whole_inventory(scene: Scene) -> None:
    engine = scene.engine("one")
    for _ in range(3):
        engine.tick()
    assert engine.is_leader
    assert not engine.is_ready
    assert scene.ticks() == []


def test_it_commits_a_signed_decision_with_the_tick_that_made_it(scene: Scene) -> None:
    scene.publish()
    engine = scene.engine("one")
    tick_until(engine, lambda: scene.entries(records.DECISIONS))
    (fields,) = scene.entries(records.DECISIONS)
    decision = records.unpack_decision(fields)
    assert records.signature_holds(fields, KEY)
    assert (decision.start, decision.target, decision.max_mode) == (1, 2, Mode.LIVE)
    assert "is 0.9, above 0.5: scale up from 1 to 2" in decision.reason
    assert decision.tick in scene.ticks()


def test_a_standby_folds_but_writes_nothing_and_goes_on_where_the_leader_stopped(
    scene: Scene,
) -> None:
    scene.publish()
    leader, standby = scene.engine("one"), scene.engine("two")
    tick_until(leader, lambda: scene.entries(records.DECISIONS))
    before = scene.ticks()
    for _ in range(3):
        standby.tick()
    assert standby.is_ready
    assert not standby.is_leader
    assert scene.ticks() == before
    leader.stop()
    tick_until(standby, lambda: len(scene.ticks()) > len(before))
    assert scene.ticks()[: len(before) + 1] == [*before, before[-1] + 1]
    assert len(scene.entries(records.DECISIONS)) == 1, "what is in flight is still in flight"


def test_what_became_of_a_decision_is_read_however_long_no_engine_ran(scene: Scene) -> None:
    """The outcome is older than any window; without it the cooldown would not be charged."""
    hours_ms = 3 * builders.HOUR
    then_ms = scene.memory().now_ms() - hours_ms
    flight = Flight("d1", ActionKind.SCALE_UP, "cpu-high", 1, 2, Mode.LIVE, then_ms, then_ms + 1)
    seen = changes.look(builders.service(replicas=1))
    left = ServiceState("web", seen, 0, lanes={Lane.RULES: LaneState(flight=flight)})
    state = State(1, then_ms, 1, services={"web": left})
    outcome = Outcome("d1", "web", OutcomeKind.APPLIED, "", Mode.LIVE, index=10)
    with raw(scene.server.url) as client:
        fields = {"web": pack_service(left), OVERALL_FIELD: pack_overall(state)}
        client.hset("ah:state", mapping=fields)  # type: ignore[arg-type]  # bytes are fine
        stamped = {"b": "x", "q": 1, "a": 0, **records.pack_outcome(outcome)}
        client.xadd("ah:outcomes", stamped, id=f"{then_ms + 1000}-0")  # type: ignore[arg-type]  # likewise
    scene.publish()
    engine = scene.engine("one")
    tick_until(engine, scene.ticks)
    lane = unpack(scene.memory().state()).services["web"].lane(Lane.RULES)
    assert lane.up_ms == then_ms + 1000
    assert lane.last_decision == "d1"


def test_a_commit_whose_reply_was_lost_happens_once(scene: Scene) -> None:
    scene.publish()
    memory = scene.memory()
    engine = scene.engine("one", memory)
    memory.lose_commit_replies = 1
    with pytest.raises(ConnectionError):
        tick_until(engine, lambda: False)
    tick_until(engine, lambda: len(scene.ticks()) >= 3)
    assert scene.ticks() == list(range(1, len(scene.ticks()) + 1))
    assert len(scene.entries(records.DECISIONS)) == 1


def test_an_engine_that_lost_its_lease_unawares_writes_nothing(scene: Scene) -> None:
    scene.publish()
    memory = scene.memory()
    engine = scene.engine("one", memory)
    tick_until(engine, scene.ticks)
    before = scene.ticks()
    real = memory.commit

    def overtaken(
        lease: Lease,
        *,
        state: Mapping[str, bytes | None],
        marker: str,
        writes: Sequence[Write],
    ) -> bool:
        with raw(scene.server.url) as client:
            client.delete("ah:lease:engine")
        assert scene.memory().acquire("engine", "two", 30.0) is not None
        return real(lease, state=state, marker=marker, writes=writes)

    memory.commit = overtaken  # type: ignore[method-assign]  # the moment that cannot be timed
    tick_until(engine, lambda: not engine.is_leader)
    assert scene.ticks() == before


@pytest.mark.parametrize("ahead_s", [60.0, -60.0])
def test_when_the_stores_clock_jumps_it_decides_nothing_for_a_window(
    scene: Scene, caplog: pytest.LogCaptureFixture, ahead_s: float
) -> None:
    scene.publish()
    engine = scene.engine("one")
    tick_until(engine, scene.ticks)
    before = scene.ticks()
    scene.clock.ahead_s = ahead_s  # against ours, the store's clock went the other way
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            engine.tick()
    assert scene.ticks() == before
    went = "went back" if ahead_s > 0 else "jumped ahead"
    assert f"the store's clock {went} by " in caplog.text
    assert f"deciding nothing for {WINDOW_S}s" in caplog.text
    tick_until(engine, lambda: len(scene.ticks()) > len(before))


def test_a_clock_that_stands_still_is_noticed_however_often_it_is_looked_at(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader's `now` never goes back, so a clock that did shows as one that stands still."""
    scene.publish()
    engine = scene.engine("one")
    tick_until(engine, scene.ticks)
    with caplog.at_level(logging.ERROR):
        for _ in range(6):
            scene.clock.ahead_s += 1.0
            engine.tick()
    assert "the store's clock went back by " in caplog.text


def test_a_store_whose_clock_is_behind_the_last_tick_is_told_of(scene: Scene) -> None:
    scene.publish()
    ahead = State(tick=1, now_ms=scene.memory().now_ms() + builders.HOUR, epoch=1)
    with raw(scene.server.url) as client:
        client.hset("ah:state", OVERALL_FIELD, pack_overall(ahead))
    engine = scene.engine("one")
    with pytest.raises(AutohealError, match="the store's clock is 59m59s behind the last tick"):
        tick_until(engine, lambda: False)
    assert scene.ticks() == []


def test_rules_that_could_not_be_kept_are_kept_before_the_first_tick(scene: Scene) -> None:
    scene.publish()
    memory = scene.memory()
    put, failures = memory.put, [ConnectionError("away")]

    def once_away(key: str, value: bytes) -> None:
        if failures:
            raise failures.pop()
        put(key, value)

    memory.put = once_away  # type: ignore[method-assign]  # the moment that cannot be timed
    engine = scene.engine("one", memory)
    with pytest.raises(ConnectionError):
        tick_until(engine, lambda: False)
    tick_until(engine, scene.ticks)
    assert all(each.agrees for each in replay.repeat(scene.memory()))


def test_another_run_of_the_store_is_not_trusted_for_a_window(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.publish()
    engine = scene.engine("one")
    tick_until(engine, scene.ticks)
    before = scene.ticks()
    scene.server.restart()
    with caplog.at_level(logging.ERROR):
        deadline = time.monotonic() + 20
        while "the store was restarted or replaced" not in caplog.text:
            assert time.monotonic() < deadline
            try:
                engine.tick()
            except ConnectionError:
                time.sleep(0.05)
    assert scene.ticks() == before
    tick_until(engine, lambda: len(scene.ticks()) > len(before))
    assert scene.ticks()[-1] == len(scene.ticks())


def test_recorded_ticks_can_be_repeated_from_what_the_engine_kept(scene: Scene) -> None:
    scene.publish()
    engine = scene.engine("one")
    tick_until(engine, lambda: scene.entries(records.DECISIONS))
    decision = records.unpack_decision(scene.entries(records.DECISIONS)[0])
    outcome = Outcome(
        decision.id, decision.service, OutcomeKind.WOULD_APPLY, "dry run", Mode.DRY_RUN
    )
    scene.write(records.OUTCOMES, records.pack_outcome(outcome))
    count = len(scene.ticks())
    tick_until(engine, lambda: len(scene.ticks()) > count + 2)
    engine.stop()
    successor = scene.engine("two")
    tick_until(successor, lambda: len(scene.ticks()) > count + 5)
    repeated = list(replay.repeat(scene.memory()))
    assert [each.tick.number for each in repeated] == scene.ticks()
    assert all(each.agrees for each in repeated)
    assert sum(len(each.repeated) for each in repeated) == len(scene.entries(records.DECISIONS))
    assert {each.tick.epoch for each in repeated} == {1, 2}


def test_a_repetition_notices_a_single_lost_sample(scene: Scene) -> None:
    """The comparison can fail: with other inputs the same ticks do not agree."""
    scene.publish()
    engine = scene.engine("one")
    tick_until(engine, lambda: scene.entries(records.DECISIONS))
    samples = scene.memory().reader((records.SAMPLES,), since_ms=0).cut().entries
    with raw(scene.server.url) as client:
        assert client.xdel("ah:samples", samples[len(samples) // 2].id) == 1
    assert not all(each.agrees for each in replay.repeat(scene.memory()))


def test_status_shows_what_the_loop_knows_and_wants(scene: Scene) -> None:
    scene.publish()
    engine = scene.engine("one")
    tick_until(engine, lambda: scene.entries(records.DECISIONS))
    shown = status.gather(scene.memory())
    assert shown.engine == "one"
    assert shown.executor == "nobody"
    (service,) = shown.services
    assert (service.name, service.tasks, service.may) == ("web", "1/1", "scale_up")
    assert service.in_flight == "scale_up 1->2 decided"
    (rule,) = service.rules
    assert rule.reads == "mean cpu_cores over 4s 0.9 (above 0.5)"
    assert rule.state.startswith("firing ")
    (decided,) = shown.decisions
    assert (decided.service, decided.what, decided.outcome) == ("web", "scale_up 1->2", "open")
    assert shown.memory[records.SAMPLES].endswith("B")
    assert "web" in status.render(shown)
    assert '"in_flight": "scale_up 1->2 decided"' in status.render_json(shown)
