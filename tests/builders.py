"""Builders of facts, rules and scenes: each takes what matters to a test and fills in the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, settings

from autoheal.actions import Action, Escalate, ScaleDown, ScaleUp
from autoheal.actions.escalate import Severity
from autoheal.core.decision.decide import Verdicts, decide
from autoheal.core.limits import Limits
from autoheal.core.rule import (
    Aggregate,
    Comparison,
    Condition,
    EventCondition,
    Limit,
    Match,
    MetricCondition,
    Risk,
    Rule,
    RuleSet,
    Source,
    SourceCondition,
)
from autoheal.core.state import State
from autoheal.core.view.fold import (
    Dated,
    Happening,
    NodeLoad,
    ServiceTasks,
    Snapshot,
    SourceState,
    Tracked,
)
from autoheal.core.view.readings import FigureCondition, Readings
from autoheal.core.view.track_readings import TrackedTarget
from autoheal.model import (
    LABEL_ALLOW,
    LABEL_ENABLE,
    ActionKind,
    Command,
    Decision,
    Event,
    Evidence,
    Intent,
    Inventory,
    Mode,
    Node,
    NodeFigures,
    Outcome,
    OutcomeKind,
    RosterRow,
    Service,
    ServiceMode,
    SourceValue,
    Task,
)
from autoheal.records import SampleBatch, Samples, container_key, digest, identified

SECOND = 1_000
MINUTE = 60_000
HOUR = 3_600_000
# A round moment, a multiple of every step, far from zero.
NOW = 1_700_000_400_000
LONG_AGO = NOW - 100 * HOUR
STEP = 5 * SECOND

ARMED = {LABEL_ENABLE: "true", LABEL_ALLOW: "scale_up,scale_down"}
# Nothing waits for a common cause, and no budget runs out.
BRISK = Limits(group_wait_ms=0, actions_per_hour=1_000)
CPU_HIGH = MetricCondition("cpu_percent", 2 * MINUTE, Comparison.ABOVE, 80.0)
CPU_LOW = MetricCondition("cpu_percent", 15 * MINUTE, Comparison.BELOW, 20.0)


def use_hypothesis_profile() -> None:
    """Examples enough to find things, few enough to wait for; a slow machine is no failure."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    settings.register_profile(
        "autoheal", max_examples=40, deadline=None, database=None, suppress_health_check=checks
    )
    settings.load_profile("autoheal")


# Swarm's objects


def service(
    identity: str = "web",
    *,
    replicas: int | None = 2,
    index: int = 10,
    mode: ServiceMode = ServiceMode.REPLICATED,
    content: str = "content-1",
    force_update: int = 0,
    cpu_limit: float | None = 1.0,
    cpu_reservation: float | None = None,
    memory_limit: int | None = 2**30,
    update_state: str = "",
    created_at_ms: int = LONG_AGO,
    updated_at_ms: int = LONG_AGO,
    pinned: bool = True,
    stateful: bool = False,
    update_order: str = "stop-first",
    restart_condition: str = "any",
    constraints: tuple[str, ...] = (),
    labels: Mapping[str, str] = ARMED,
) -> Service:
    return Service(
        id=identity,
        name=identity,
        index=index,
        mode=mode,
        replicas=replicas,
        content=content,
        force_update=force_update,
        cpu_limit=cpu_limit,
        cpu_reservation=cpu_reservation,
        memory_limit=memory_limit,
        update_state=update_state,
        created_at_ms=created_at_ms,
        updated_at_ms=updated_at_ms,
        pinned=pinned,
        stateful=stateful,
        update_order=update_order,
        restart_condition=restart_condition,
        constraints=constraints,
        labels=dict(labels),
    )


def task(
    identity: str = "web.1",
    *,
    of: str = "web",
    node: str = "node-1",
    state: str = "running",
    desired: str = "running",
    index: int = 10,
    since_ms: int = LONG_AGO,
    force_update: int = 0,
    memory_limit: int | None = 2**30,
    exit_code: int | None = None,
    error: str = "",
) -> Task:
    return Task(
        id=identity,
        index=index,
        service=of,
        node=node,
        slot=1,
        container=container_of(identity),
        state=state,
        desired_state=desired,
        state_since_ms=since_ms,
        force_update=force_update,
        memory_limit=memory_limit,
        exit_code=exit_code,
        error=error,
    )


def node(
    identity: str = "node-1",
    *,
    index: int = 10,
    cores: float = 4.0,
    role: str = "worker",
    availability: str = "active",
    state: str = "ready",
    labels: Mapping[str, str] | None = None,
) -> Node:
    return Node(
        id=identity,
        index=index,
        hostname=identity,
        role=role,
        availability=availability,
        state=state,
        cores=cores,
        memory=8 * 2**30,
        leader=False,
        labels=dict(labels or {}),
    )


def inventory(
    *,
    services: Iterable[Service] = (),
    tasks: Iterable[Task] = (),
    nodes: Iterable[Node] = (),
    gone: Iterable[str] = (),
    keyframe: bool = True,
    index: int = 100,
    clock_ms: int = NOW,
) -> Inventory:
    return Inventory(
        keyframe=keyframe,
        index=index,
        clock_ms=clock_ms,
        services=tuple(services),
        tasks=tuple(tasks),
        nodes=tuple(nodes),
        gone=tuple(gone),
    )


# samples


def container_of(task_id: str) -> str:
    """64 hexadecimal characters that belong to this task."""
    return digest(task_id.encode()) * 2


def roster_row(
    task_id: str = "web.1",
    *,
    of: str = "web",
    cpu_limit: float | None = 1.0,
    memory_limit: int | None = 2**30,
) -> RosterRow:
    container = container_of(task_id)
    return RosterRow(container_key(container), container, task_id, of, cpu_limit, memory_limit)


def batch(
    rows: Mapping[str, Sequence[float]],
    roster: Iterable[RosterRow] | None = None,
    *,
    metrics: Sequence[str] = ("cpu_cores",),
    node_id: str = "node-1",
    cores: float | None = 4.0,
) -> SampleBatch:
    """One collector's tick: per task a figure for each of `metrics`."""
    keys = tuple(container_key(container_of(task_id)) for task_id in rows)
    columns = np.asarray(list(rows.values()), dtype=np.float32).reshape(len(rows), len(metrics))
    return SampleBatch(
        node=node_id,
        samples=Samples(tuple(metrics), keys, np.ascontiguousarray(columns.T)),
        figures=NodeFigures(cores, 10.0, 8 * 2**30, 20.0),
        roster=None if roster is None else tuple(roster),
    )


def event(kind: str = "oom_killed", *, of: str = "web") -> Event:
    return Event(kind, of, f"{of}.1", container_of(f"{of}.1"), "node-1", 137, 2**30)


# rules


def metric_condition(
    metric: str = "cpu_percent",
    over_ms: int = 2 * MINUTE,
    comparison: Comparison = Comparison.ABOVE,
    threshold: float = 80.0,
    over_tasks: Aggregate = Aggregate.MEAN,
    over_time: Aggregate = Aggregate.MEAN,
    ahead_ms: int = 0,
) -> MetricCondition:
    return MetricCondition(metric, over_ms, comparison, threshold, over_tasks, over_time, ahead_ms)


def source_condition(
    name: str = "jobs",
    over_ms: int = MINUTE,
    comparison: Comparison = Comparison.ABOVE,
    threshold: float = 50.0,
    over_time: Aggregate = Aggregate.MEAN,
    *,
    ahead_ms: int = 0,
    per_task: bool = False,
) -> SourceCondition:
    return SourceCondition(name, over_ms, comparison, threshold, over_time, ahead_ms, per_task)


def source(name: str = "jobs", *, stale_after_ms: int = MINUTE) -> Source:
    return Source(name, "redis", (), 15 * SECOND, 5 * SECOND, stale_after_ms)


def source_value(value: float | None, error: str = "", name: str = "jobs") -> SourceValue:
    """What the source of this name told."""
    return SourceValue(name, value, error, source(name).definition)


def event_condition(
    event_name: str = "oom_killed",
    over_ms: int = 10 * MINUTE,
    comparison: Comparison = Comparison.AT_LEAST,
    threshold: float = 1.0,
    exit_codes: tuple[int, int] | None = None,
    reason: str = "",
) -> EventCondition:
    return EventCondition(event_name, over_ms, comparison, threshold, exit_codes, reason)


def rule(
    name: str,
    then: Action,
    when: Condition,
    *,
    for_ms: int = 0,
    cooldown_ms: int = 0,
    priority: int = 0,
    mode: Mode = Mode.LIVE,
    match: str = "*",
    limit: Limit | None = None,
    clears_within_ms: int = 0,
    otherwise: Escalate | None = None,
    allow_risk: tuple[Risk, ...] = (),
) -> Rule:
    """A rule whose hash follows its meaning."""
    made = Rule(
        name,
        "",
        when,
        then,
        Match(match),
        for_ms,
        cooldown_ms,
        priority,
        mode,
        limit,
        clears_within_ms,
        otherwise,
        allow_risk,
    )
    return dataclasses.replace(made, hash=digest(repr(made).encode()))


def scale_up(
    name: str = "cpu-high",
    *,
    maximum: int = 10,
    by: int = 1,
    when: Condition = CPU_HIGH,
    for_ms: int = 0,
    cooldown_ms: int = 0,
    priority: int = 0,
    mode: Mode = Mode.LIVE,
    match: str = "*",
) -> Rule:
    return rule(
        name,
        ScaleUp(max=maximum, by=by),
        when,
        for_ms=for_ms,
        cooldown_ms=cooldown_ms,
        priority=priority,
        mode=mode,
        match=match,
    )


def scale_down(
    name: str = "cpu-low",
    *,
    minimum: int = 1,
    by: int = 1,
    when: Condition = CPU_LOW,
    cooldown_ms: int = 0,
    priority: int = 0,
    mode: Mode = Mode.LIVE,
) -> Rule:
    return rule(
        name,
        ScaleDown(min=minimum, by=by),
        when,
        cooldown_ms=cooldown_ms,
        priority=priority,
        mode=mode,
    )


def escalate(
    name: str = "page",
    *,
    severity: Severity = "critical",
    when: Condition = CPU_HIGH,
    for_ms: int = 0,
    mode: Mode = Mode.LIVE,
    match: str = "*",
) -> Rule:
    return rule(name, Escalate(severity), when, for_ms=for_ms, mode=mode, match=match)


def rule_set(*rules: Rule, sources: Iterable[Source] = ()) -> RuleSet:
    """The rules and sources by name, as the rule files give them."""
    ordered = tuple(sorted(rules, key=lambda each: each.name))
    named = tuple(sorted(sources, key=lambda each: each.name))
    return RuleSet(digest(repr((*ordered, *named)).encode()), ordered, named)


# decisions and outcomes


def decision(
    *,
    action: ActionKind = ActionKind.SCALE_UP,
    service_id: str = "web",
    start: int = 2,
    target: int = 3,
    evidence: tuple[Evidence, ...] = (),
) -> Decision:
    made = Decision(
        id="",
        action=action,
        service=service_id,
        service_name=service_id,
        start=start,
        target=target,
        version=10,
        rule="cpu-high",
        rule_hash="rule",
        rule_set="rules",
        reason="because",
        evidence=evidence,
        severity="",
        tick=1,
        epoch=1,
        max_mode=Mode.LIVE,
        decided_at_ms=NOW,
        expires_at_ms=NOW + MINUTE,
    )
    return identified(made)


def outcome(
    of: Decision | str,
    kind: OutcomeKind,
    *,
    service_id: str = "web",
    index: int = 0,
    stale: bool = False,
) -> Outcome:
    identity, owner = (of, service_id) if isinstance(of, str) else (of.id, of.service)
    return Outcome(identity, owner, kind, "because", Mode.LIVE, index, stale)


# a hand-made world around `decide`


def readings_of(condition: FigureCondition, figures: Mapping[str, float | None]) -> Readings:
    """What the condition reads when each service shows this figure; None is no data."""
    values = np.asarray([0.0 if v is None else v for v in figures.values()], dtype=np.float64)
    known = np.asarray([v is not None for v in figures.values()], dtype=bool)
    true = condition.comparison.operator(values, condition.threshold) & known
    return Readings({name: i for i, name in enumerate(figures)}, values, known, true)


# What each action changes in a service.
LEVERS = {
    ActionKind.SCALE_UP: "replicas",
    ActionKind.SCALE_DOWN: "replicas",
    ActionKind.RAISE_MEMORY: "memory_limit",
    ActionKind.RESTART: "force_update",
}


@dataclass
class Scene:
    """Services, what they show, and the state that ticks lead to.

    `figures` holds what every metric and source condition reads per service, `figures_for` what one
    condition reads instead, `tracked` what targets read. What was decided stays in `last`.
    """

    rules: RuleSet
    services: dict[str, Service] = field(default_factory=dict)
    figures: dict[str, float | None] = field(default_factory=dict)
    figures_for: dict[FigureCondition, dict[str, float | None]] = field(default_factory=dict)
    tracked: dict[TrackedTarget, Tracked] = field(default_factory=dict)
    sources: dict[str, SourceState] = field(default_factory=dict)
    limits: Limits = field(default_factory=lambda: BRISK)
    now_ms: int = NOW
    state: State = field(default_factory=State)
    events: dict[tuple[str, str], list[Happening]] = field(default_factory=dict)
    outcomes: list[Dated[Outcome]] = field(default_factory=list)
    intents: list[Dated[Intent]] = field(default_factory=list)
    commands: list[Dated[Command]] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)
    current: dict[str, int] = field(default_factory=dict)
    lost_on: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lost_lately: dict[str, tuple[str, ...]] = field(default_factory=dict)
    finished: dict[str, int] = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=lambda: {"node-1": node()})
    loads: dict[str, NodeLoad] = field(
        default_factory=lambda: {"node-1": NodeLoad(10.0, 20.0, 8 * 2**30)}
    )
    inventory_age_ms: int = 0
    last: Verdicts | None = None

    def put(self, *services: Service) -> None:
        """Replace services, running as many tasks as they want."""
        for each in services:
            self.services[each.id] = each
            self.running[each.id] = each.replicas or 0

    def alter(self, identity: str = "web", **changes: object) -> None:
        """Somebody changes a service: a new version, now."""
        before = self.services[identity]
        changed = {"index": before.index + 1, "updated_at_ms": self.now_ms, **changes}
        self.put(dataclasses.replace(before, **changed))  # type: ignore[arg-type]  # any field by name

    def label(self, identity: str = "web", /, **labels: str) -> dict[str, str]:
        """The service's labels with these beside them; `_` stands for the dot."""
        extra = {name.replace("_", "."): value for name, value in labels.items()}
        return {**self.services[identity].labels, **extra}

    def snapshot(self) -> Snapshot:
        """The world as `decide` is shown it."""
        conditions: list[FigureCondition] = [
            *self.rules.metric_conditions,
            *self.rules.source_conditions,
        ]
        return Snapshot(
            epoch=1,
            inventory_at_ms=self.now_ms - self.inventory_age_ms,
            services=tuple(self.services[identity] for identity in sorted(self.services)),
            nodes=tuple(self.nodes[identity] for identity in sorted(self.nodes)),
            tasks={identity: self._tasks(identity) for identity in self.services},
            loads=dict(self.loads),
            readings={c: readings_of(c, self.figures_for.get(c, self.figures)) for c in conditions},
            events={key: sorted(each, key=_ms) for key, each in self.events.items()},
            outcomes=tuple(self.outcomes),
            intents=tuple(self.intents),
            commands=tuple(self.commands),
            sources=dict(self.sources),
            tracked=dict(self.tracked),
        )

    def _tasks(self, identity: str) -> ServiceTasks:
        """As many tasks as are said to run, all on node-1; all current unless said otherwise."""
        running = tuple(f"{identity}.{slot}" for slot in range(1, self.running[identity] + 1))
        return ServiceTasks(
            running=running,
            current=self.current.get(identity, len(running)),
            wanted=self.services[identity].replicas or 0,
            finished=self.finished.get(identity, 0),
            hosts={"node-1": len(running)} if running else {},
            lost_on=self.lost_on.get(identity, ()),
            lost_lately=self.lost_on.get(identity, ()) or self.lost_lately.get(identity, ()),
            complaint=self.complaints.get(identity, ""),
        )

    def happen(self, kind: str, identity: str = "web", *, memory_limit: int | None = 2**30) -> None:
        """An event, now."""
        happening = Happening(self.now_ms, f"{identity}.1", memory_limit=memory_limit)
        self.events.setdefault((kind, identity), []).append(happening)

    def tick(self, after_ms: int = STEP) -> tuple[Decision, ...]:
        """Let time pass and decide."""
        self.now_ms += after_ms
        self.last = decide(self.rules, self.limits, self.state, self.snapshot(), self.now_ms)
        self.state = self.last.state
        return self.last.decisions

    def wait(self, length_ms: int) -> tuple[Decision, ...]:
        """Tick step by step until this much time has passed; everything decided on the way."""
        decided: tuple[Decision, ...] = ()
        for _ in range(length_ms // self.limits.step_ms):
            decided += self.tick(self.limits.step_ms)
        return decided

    def held(self, identity: str = "web") -> dict[str, str]:
        """The guard that held each rule back at the last tick."""
        assert self.last is not None
        return {each.rule: each.guard for each in self.last.held if each.service == identity}

    def report(
        self, of: Decision, kind: OutcomeKind, *, stale: bool = False, index: int | None = None
    ) -> None:
        """An outcome is written, now."""
        shown = self.services[of.service].index if index is None else index
        record = outcome(of, kind, stale=stale, index=shown)
        self.outcomes.append(Dated(self.now_ms, record))

    def intend(self, of: Decision) -> None:
        """An executor says that it is about to act, now."""
        self.intents.append(Dated(self.now_ms, Intent(of.id, of.service, of.version, "executor")))

    def apply(self, of: Decision, *, running: int | None = None) -> None:
        """The executor carries the decision out and says so; the service shows it at once."""
        labels = self.label(of.service, autoheal_decision=of.id)
        before = self.running[of.service]
        self.alter(of.service, labels=labels, **{LEVERS[of.action]: of.target})
        shown = of.target if LEVERS[of.action] == "replicas" else before
        self.running[of.service] = shown if running is None else running
        self.report(of, OutcomeKind.APPLIED)


def _ms(happening: Happening) -> int:
    return happening.ms


def scene(*rules: Rule, figures: Mapping[str, float | None] | None = None) -> Scene:
    """A scene with one armed service `web`, or one per figure, and a first look taken."""
    shown: dict[str, float | None] = {"web": 90.0} if figures is None else dict(figures)
    made = Scene(rules=rule_set(*rules), figures=shown)
    made.put(*(service(identity) for identity in shown))
    return made
