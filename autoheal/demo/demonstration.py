"""A scenario from beginning to end, told to an audience at the speed it wants to watch at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from autoheal import records
from autoheal.demo.story import (
    Audience,
    Closing,
    Concluded,
    Decided,
    Glance,
    Happened,
    IncidentEnded,
    Opening,
    WentLive,
)
from autoheal.model import Decision, Incident, IncidentEnd, Mode, Outcome, OutcomeKind
from autoheal.ports import Clock, Entry, Reader, Store
from autoheal.sim.objects import Service, TaskState
from autoheal.sim.scenario import Scenario
from autoheal.simulation import Simulation

STREAMS = (records.DECISIONS, records.OUTCOMES, records.INCIDENTS)


@dataclass(frozen=True, slots=True)
class Tempo:
    """How fast it is shown: simulated seconds a second, None for as fast as it goes.

    `clock` is the audience's. `wait` sleeps for some seconds, or less when the end is asked for;
    `is_over` tells that it was. What was late is not caught up with.
    """

    speed: float | None
    clock: Clock
    wait: Callable[[float], None]
    is_over: Callable[[], bool]


@dataclass(slots=True)
class Record:
    """What autoheal has written so far, as anybody can read it in the store."""

    decisions: dict[str, Decision] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)


class Demonstration:
    """Steps the simulation, reads what autoheal wrote, and tells it."""

    def __init__(
        self, scenario: Scenario, simulation: Simulation, store: Store, audience: Audience
    ) -> None:
        self._scenario = scenario
        self._simulation = simulation
        self._audience = audience
        self._start_ms = simulation.world.now_ms
        self._reader: Reader = store.reader(STREAMS, since_ms=self._start_ms)
        self._gauge = _Gauge(simulation.world.service(scenario.focus))
        self._record = Record()

    def run(self, tempo: Tempo, *, seed: int, rules: Sequence[str]) -> Record:
        """Show it all, or until the audience has had enough; what autoheal wrote."""
        self._audience.open(self._opening(tempo, seed, rules))
        try:
            self._play(tempo)
        except Exception:
            # What was seen until something broke is told all the same.
            self._audience.close(self._closing())
            raise
        self._audience.close(self._closing())
        return self._record

    def _play(self, tempo: Tempo) -> None:
        due = tempo.clock.monotonic()
        while self._simulation.elapsed_ms < self._scenario.total_ms and not tempo.is_over():
            before_ms = self._simulation.elapsed_ms
            self._step()
            if tempo.speed is not None:
                lasts = (self._simulation.elapsed_ms - before_ms) / 1000 / tempo.speed
                now = tempo.clock.monotonic()
                due = max(due + lasts, now - lasts)
                tempo.wait(max(0.0, due - now))

    def _step(self) -> None:
        if self._simulation.mode is Mode.DRY_RUN and self._is_to_go_live():
            self._simulation.go_live()
            self._audience.tell(WentLive(self._simulation.elapsed_ms))
        for happening in self._simulation.step():
            if happening.words:
                self._audience.tell(Happened(happening.at_ms, happening.words))
        for entry in self._reader.cut().entries:
            self._tell(entry)
        self._audience.glance(self._glance())

    def _is_to_go_live(self) -> bool:
        return self._simulation.elapsed_ms >= self._scenario.live_at_ms

    def _tell(self, entry: Entry) -> None:
        at_ms = entry.at_ms - self._start_ms
        match entry.stream:
            case records.DECISIONS:
                decision = records.unpack_decision(entry.fields)
                self._record.decisions[decision.id] = decision
                self._audience.tell(Decided(at_ms, decision))
            case records.OUTCOMES:
                self._tell_outcome(at_ms, records.unpack_outcome(entry.fields))
            case _:
                incident = records.unpack_incident(entry.fields)
                self._record.incidents[incident.id] = incident
                if incident.end != IncidentEnd.OPEN:
                    self._audience.tell(IncidentEnded(at_ms, incident))

    def _tell_outcome(self, at_ms: int, outcome: Outcome) -> None:
        decision = self._record.decisions.get(outcome.decision)
        if decision is None:
            return  # of a decision that its engine never wrote: the executor has refused it
        if outcome.kind is not OutcomeKind.UNCONFIRMED:
            self._record.outcomes[outcome.decision] = outcome
        self._audience.tell(Concluded(at_ms, decision, outcome))

    def _opening(self, tempo: Tempo, seed: int, rules: Sequence[str]) -> Opening:
        scenario = self._scenario
        return Opening(
            scenario=scenario.name,
            about=scenario.about,
            seed=seed,
            speed=tempo.speed,
            rules=rules,
            services=len(scenario.services),
            nodes=len(scenario.nodes),
            focus=scenario.focus,
            live_at_ms=scenario.live_at_ms,
            total_ms=scenario.total_ms,
            started_ms=self._start_ms,
        )

    def _glance(self) -> Glance:
        service = self._gauge.service
        running = [task for task in service.tasks if task.state is TaskState.RUNNING]
        return Glance(
            at_ms=self._simulation.elapsed_ms,
            mode=self._simulation.mode,
            replicas=service.replicas,
            running=len(running),
            cpu_percent=self._gauge.cpu_percent(self._simulation.world.now_ms),
        )

    def _closing(self) -> Closing:
        record = self._record
        return Closing(
            at_ms=self._simulation.elapsed_ms,
            incidents=tuple(record.incidents.values()),
            decisions=tuple((d, record.outcomes.get(d.id)) for d in record.decisions.values()),
            interrupted=self._simulation.elapsed_ms < self._scenario.total_ms,
        )


class _Gauge:
    """The CPU of a service's tasks since the last look, of what their limits allow."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._last: dict[str, float] = {}
        self._looked_ms = 0

    def cpu_percent(self, now_ms: int) -> float | None:
        """The mean over tasks; None where nothing can be told yet."""
        seconds = (now_ms - self._looked_ms) / 1000
        containers = [
            task.container
            for task in self.service.tasks
            if task.container is not None and task.container.is_alive
        ]
        shares = [
            100 * (each.cpu_seconds - self._last[each.id]) / seconds / each.limits.cpu
            for each in containers
            if each.id in self._last and each.limits.cpu
        ]
        self._last = {each.id: each.cpu_seconds for each in containers}
        self._looked_ms = now_ms
        return sum(shares) / len(shares) if shares else None
