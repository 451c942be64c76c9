"""The loops on a simulated Swarm, in simulated time, on a real embedded server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import context_store
from autoheal import records
from autoheal.app.simulated import QUANTA, SimulatedMemory, passing_store, simulation
from autoheal.demo.demonstration import Demonstration, Tempo
from autoheal.demo.story import Closing, Fact, Glance, Opening, WentLive
from autoheal.engine import Rulebook
from autoheal.model import Mode, OutcomeKind
from autoheal.ports import Entry, Lease, Store, Write
from autoheal.rulefile import load
from autoheal.settings import Settings, load_settings
from autoheal.sim.clock import SimulatedClock
from autoheal.sim.load import Constant
from autoheal.sim.program import Program
from autoheal.sim.scenario import MINUTE_MS, SECOND_MS, START_MS, Happening, Scenario
from autoheal.sim.spec import service_spec
from autoheal.sim.world import World
from autoheal.simulation import Simulation

STEP_MS = 5 * SECOND_MS
STREAMS = (
    records.SAMPLES,
    records.EVENTS,
    records.INVENTORY,
    records.TICKS,
    records.DECISIONS,
    records.INTENTS,
    records.OUTCOMES,
    records.INCIDENTS,
)
ARMED = {"autoheal.enable": "true", "autoheal.allow": "scale_up"}
BUSY = """
version: 1
rules:
  - name: busy
    when: {metric: cpu_percent, over: 30s, above: 50}
    then: {action: scale_up, by: 1, max: 4}
    cooldown: 1m
"""


def scenario(*happenings: Happening, minutes: int = 5, live_minute: int = 60) -> Scenario:
    """One busy service."""
    return Scenario(
        name="small",
        about="one busy service",
        focus="web",
        live_at_ms=live_minute * MINUTE_MS,
        total_ms=minutes * MINUTE_MS,
        services=(
            (service_spec("web", replicas=1, labels=ARMED), Program(load=Constant(2.0))),
            (service_spec("idle", replicas=2), Program()),
        ),
        happenings=happenings,
    )


class Stage:
    """A simulation on a store of its own."""

    def __init__(self, store: context_store.Store, world: World, book: Rulebook) -> None:
        self.world, self.store, self.book = world, store, book
        self.memory = SimulatedMemory(store, world.clock)

    def simulation(self, played: Scenario) -> Simulation:
        return simulation(settings(), played, self.world, self.store, self.book)

    def entries(self, *streams: str) -> Sequence[Entry]:
        """All that was written since the beginning, before now."""
        return self.memory.reader(streams or STREAMS, since_ms=START_MS).cut().entries

    def sampled(self, since_ms: int = START_MS) -> list[str]:
        """The nodes whose figures came since then, in order."""
        found = [e for e in self.entries(records.SAMPLES) if e.ms > since_ms]
        names = {machine.id: machine.hostname for machine in self.world.machines}
        return [names[records.unpack_samples(entry.fields).node] for entry in found]


def settings() -> Settings:
    return load_settings({"AUTOHEAL_STEP": "5s"})


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    rules = tmp_path / "rules.yaml"
    rules.write_text(BUSY)
    world = scenario().world(1, STEP_MS // QUANTA)
    loaded = load((rules,))
    with passing_store(world.clock) as store:
        yield Stage(store, world, Rulebook(loaded.rules, loaded.texts))


# steps


def test_a_step_takes_exactly_its_step(stage: Stage) -> None:
    playing = stage.simulation(scenario())
    for step in range(1, 13):
        playing.step()
        assert playing.elapsed_ms == step * STEP_MS
        # What the loops took is a part of the next step.
        assert START_MS + step * STEP_MS <= stage.world.now_ms < START_MS + step * STEP_MS + 100
    ticks = [records.unpack_tick(entry.fields) for entry in stage.entries(records.TICKS)]
    assert [tick.number for tick in ticks] == [*range(1, len(ticks) + 1)]
    assert len(ticks) >= 11
    apart = {b.now_ms - a.now_ms for a, b in itertools.pairwise(ticks)}
    assert apart == {STEP_MS}


def test_every_entry_is_written_in_simulated_time(stage: Stage) -> None:
    playing = stage.simulation(scenario())
    for _ in range(24):
        playing.step()
    entries = stage.entries()
    assert {entry.stream for entry in entries} >= {
        records.SAMPLES,
        records.INVENTORY,
        records.TICKS,
        records.DECISIONS,
        records.OUTCOMES,
    }
    assert min(entry.ms for entry in entries) >= START_MS
    assert max(entry.ms for entry in entries) < stage.world.now_ms
    assert {entry.ms - entry.at_ms for entry in entries} == {0}, "nothing is ever late"
    samples = [entry.ms for entry in entries if entry.stream == records.SAMPLES]
    nodes = len(stage.world.machines)
    assert samples == [
        START_MS + step * STEP_MS + node for step in range(1, 25) for node in range(nodes)
    ]


def test_what_happens_happens_at_its_time_and_in_order(stage: Stage) -> None:
    seen: list[tuple[str, int]] = []

    def told(at_s: int, name: str) -> Happening:
        return Happening(
            at_s * SECOND_MS, name, lambda world: seen.append((name, world.now_ms - START_MS))
        )

    playing = stage.simulation(scenario(told(7, "second"), told(0, "first"), told(8, "third")))
    returned = [[happening.words for happening in playing.step()] for _ in range(3)]
    assert returned == [["first"], ["second", "third"], []]
    assert [name for name, _ in seen] == ["first", "second", "third"]
    for (_, at_ms), due_ms in zip(seen, (0, 7_000, 8_000), strict=True):
        assert due_ms <= at_ms < due_ms + STEP_MS // QUANTA


def test_the_collector_of_a_lost_node_is_silent_until_it_is_back(stage: Stage) -> None:
    playing = stage.simulation(
        scenario(
            Happening(10 * SECOND_MS, "", lambda world: world.lose("worker-1")),
            Happening(30 * SECOND_MS, "", lambda world: world.restore("worker-1")),
        )
    )
    for _ in range(8):
        playing.step()
    times = {(entry.ms - START_MS) // STEP_MS for entry in stage.entries(records.SAMPLES)}
    assert times == {*range(1, 9)}
    heard = [
        (entry.ms - START_MS) // STEP_MS
        for entry, name in zip(stage.entries(records.SAMPLES), stage.sampled(), strict=True)
        if name == "worker-1"
    ]
    assert heard == [1, 2, 7, 8]


def test_going_live_hands_over_to_another_executor(stage: Stage) -> None:
    playing = stage.simulation(scenario())
    for _ in range(30):
        playing.step()
    epoch = stage.memory.epoch("executor")
    assert stage.world.service("web").replicas == 1
    playing.go_live()
    playing.step()
    assert stage.memory.epoch("executor") == epoch + 1, "at once"
    for _ in range(24):
        playing.step()
    assert stage.memory.epoch("executor") == epoch + 1
    outcomes = [records.unpack_outcome(entry.fields) for entry in stage.entries(records.OUTCOMES)]
    kinds = [(outcome.mode, outcome.kind) for outcome in outcomes]
    assert kinds[0] == (Mode.DRY_RUN, OutcomeKind.WOULD_APPLY)
    assert kinds[-1] == (Mode.LIVE, OutcomeKind.APPLIED)
    assert stage.world.service("web").replicas > 1


# the demonstration's tempo


class Watching:
    """An audience that remembers, and has had enough at some time."""

    def __init__(self, patience_ms: int = 10**9) -> None:
        self.opening: Opening | None = None
        self.facts: list[Fact] = []
        self.glances: list[Glance] = []
        self.closings: list[Closing] = []
        self._patience_ms = patience_ms

    def open(self, opening: Opening) -> None:
        self.opening = opening

    def tell(self, fact: Fact) -> None:
        self.facts.append(fact)

    def glance(self, glance: Glance) -> None:
        self.glances.append(glance)

    def close(self, closing: Closing) -> None:
        self.closings.append(closing)

    def has_had_enough(self) -> bool:
        return bool(self.glances) and self.glances[-1].at_ms >= self._patience_ms


def shown(
    stage: Stage, played: Scenario, audience: Watching, speed: float | None = None
) -> tuple[SimulatedClock, list[float]]:
    """The audience's clock afterwards, and how long it slept each time."""
    clock, sleeps = SimulatedClock(0), list[float]()

    def wait(seconds: float) -> None:
        sleeps.append(seconds)
        clock.advance_to(clock.now_ms + round(1000 * seconds))

    demonstration = Demonstration(played, stage.simulation(played), stage.memory, audience)
    tempo = Tempo(speed, clock, wait, audience.has_had_enough)
    demonstration.run(tempo, seed=1, rules=["rules.yaml"])
    return clock, sleeps


def test_it_takes_its_time_divided_by_the_speed(stage: Stage) -> None:
    clock, sleeps = shown(stage, scenario(minutes=2), Watching(), speed=60.0)
    assert clock.monotonic() == pytest.approx(120 / 60, abs=0.01)
    assert len(sleeps) == 2 * MINUTE_MS / STEP_MS


def test_without_a_speed_it_never_waits(stage: Stage) -> None:
    _, sleeps = shown(stage, scenario(minutes=1), Watching())
    assert sleeps == []


def test_an_audience_that_has_had_enough_gets_the_closing_of_what_it_saw(stage: Stage) -> None:
    audience = Watching(patience_ms=150 * SECOND_MS)
    shown(stage, scenario(minutes=60), audience)
    (closing,) = audience.closings
    assert (closing.at_ms, closing.interrupted) == (150 * SECOND_MS, True)
    assert [outcome.kind for _, outcome in closing.decisions if outcome] == [
        OutcomeKind.WOULD_APPLY
    ]


def test_it_goes_live_at_its_time_and_says_so_once(stage: Stage) -> None:
    audience = Watching()
    shown(stage, scenario(minutes=3, live_minute=1), audience)
    assert [fact.at_ms for fact in audience.facts if isinstance(fact, WentLive)] == [MINUTE_MS]
    modes = {(glance.at_ms > MINUTE_MS, glance.mode) for glance in audience.glances}
    assert modes == {(False, Mode.DRY_RUN), (True, Mode.LIVE)}
    assert not audience.closings[0].interrupted


def test_what_breaks_in_the_middle_is_raised_after_the_closing(stage: Stage) -> None:
    def fail(_: World) -> None:
        raise ConnectionError("the store is away")

    audience = Watching()
    with pytest.raises(ConnectionError, match="the store is away"):
        shown(stage, scenario(Happening(MINUTE_MS, "", fail)), audience)
    (closing,) = audience.closings
    assert closing.interrupted


# the store in simulated time


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START_MS)


@pytest.fixture
def store(clock: SimulatedClock) -> Iterator[context_store.Store]:
    with passing_store(clock) as passing:
        yield passing


@pytest.fixture
def memory(store: context_store.Store, clock: SimulatedClock) -> Store:
    return SimulatedMemory(store, clock)


def a_write(clock: SimulatedClock, sequence: int, value: bytes = b"v") -> Write:
    return Write("s", {"value": value}, sequence, clock.monotonic())


def values(memory: Store) -> list[bytes]:
    return [e.fields["value"] for e in memory.reader(["s"], since_ms=0).cut().entries]


def test_an_entry_has_the_simulated_time_and_the_age_of_what_it_tells(
    memory: Store, clock: SimulatedClock
) -> None:
    late = a_write(clock, 1)
    clock.advance_to(START_MS + 700)
    memory.append([late])
    clock.advance_to(START_MS + 701)
    (entry,) = memory.reader(["s"], since_ms=0).cut().entries
    assert (entry.ms, entry.at_ms) == (START_MS + 700, START_MS)
    assert memory.now_ms() == START_MS + 701


def test_a_cut_holds_what_is_older_than_the_simulated_now(
    memory: Store, clock: SimulatedClock
) -> None:
    reader = memory.reader(["s"], since_ms=START_MS)
    memory.append([a_write(clock, 1)])
    assert reader.cut().entries == ()
    clock.advance_to(START_MS + 1)
    memory.append([a_write(clock, 2)])
    cut = reader.cut()
    assert cut.now_ms == START_MS + 1
    assert [entry.ms for entry in cut.entries] == [START_MS]
    assert reader.cursors == {"s": cut.entries[0].id}
    clock.advance_to(START_MS + 2)
    assert [entry.ms for entry in reader.cut().entries] == [START_MS + 1]


def test_many_entries_of_one_moment_keep_their_order(memory: Store, clock: SimulatedClock) -> None:
    memory.append([a_write(clock, n, b"%d" % n) for n in range(1, 21)])
    clock.advance_to(START_MS + 1)
    assert values(memory) == [b"%d" % n for n in range(1, 21)]


def test_the_same_write_again_counts_once(memory: Store, clock: SimulatedClock) -> None:
    write = a_write(clock, 1)
    memory.append([write])
    memory.append([write])
    clock.advance_to(START_MS + 1)
    assert values(memory) == [b"v"]


def test_two_writers_with_the_same_sequence_are_two(
    store: context_store.Store, clock: SimulatedClock
) -> None:
    for value in (b"a", b"b"):
        SimulatedMemory(store, clock).append([a_write(clock, 1, value)])
    clock.advance_to(START_MS + 1)
    assert values(SimulatedMemory(store, clock)) == [b"a", b"b"]


def acquired(memory: Store, holder: str = "first") -> Lease:
    lease = memory.acquire("engine", holder, 15.0)
    assert lease is not None
    return lease


def test_a_lease_ends_for_its_holder_in_simulated_time(
    memory: Store, clock: SimulatedClock
) -> None:
    lease = acquired(memory)
    assert lease.deadline == START_MS / 1000 + 15.0
    clock.advance_to(START_MS + 10_000)
    renewed = memory.renew(lease, 15.0)
    assert renewed is not None
    assert (renewed.epoch, renewed.deadline) == (lease.epoch, START_MS / 1000 + 25.0)


def test_in_the_store_a_lease_lasts_however_long_somebody_looks(
    memory: Store, store: context_store.Store
) -> None:
    acquired(memory)
    left_ms = remaining_ms(store, "engine")
    assert left_ms > 6 * 24 * 3600 * 1000
    renewed = memory.renew(acquired(memory), 15.0)
    assert renewed is not None
    assert remaining_ms(store, "engine") > 6 * 24 * 3600 * 1000


def remaining_ms(store: context_store.Store, name: str) -> int:
    reply = store._connector.call("PTTL", store._leases._lease_key(name))
    assert isinstance(reply, int)
    return reply


def test_a_lease_is_one_holders_until_it_is_released(memory: Store) -> None:
    lease = acquired(memory)
    assert memory.acquire("engine", "second", 15.0) is None
    memory.release(lease)
    second = acquired(memory, "second")
    assert second.epoch == lease.epoch + 1 == memory.epoch("engine")
    assert memory.renew(lease, 15.0) is None
    assert memory.epoch("other") == 0


@pytest.mark.parametrize("under", ["append_under", "commit"])
def test_an_older_epoch_writes_nothing(memory: Store, clock: SimulatedClock, under: str) -> None:
    def write(lease: Lease, sequence: int) -> bool:
        writes = [a_write(clock, sequence)]
        if under == "append_under":
            return memory.append_under(lease, writes)
        state = {"web": b"%d" % sequence, "_": b"%d" % sequence}
        return memory.commit(lease, state=state, marker="_", writes=writes)

    old = acquired(memory)
    assert write(old, 1)
    new = acquired(memory)
    assert not write(old, 2)
    assert write(new, 3)
    clock.advance_to(START_MS + 1)
    assert len(values(memory)) == 2
    if under == "commit":
        assert memory.state() == {"web": b"3", "_": b"3"}


def test_a_commit_again_is_settled_by_its_marker(memory: Store, clock: SimulatedClock) -> None:
    lease = acquired(memory)
    writes = [a_write(clock, 1)]
    for _ in range(2):
        assert memory.commit(lease, state={"_": b"1", "gone": None}, marker="_", writes=writes)
    clock.advance_to(START_MS + 1)
    assert values(memory) == [b"v"]


def test_a_value_is_kept_under_its_key_and_a_wait_ends_with_news(
    memory: Store, clock: SimulatedClock
) -> None:
    memory.put("rules:1", b"text")
    assert (memory.get("rules:1"), memory.get("rules:2")) == (b"text", None)
    cursors = memory.reader(["s"], since_ms=0).cursors
    assert not memory.wait(cursors, 0.01)
    memory.append([a_write(clock, 1)])
    assert memory.wait(cursors, 60.0)
