"""A small demonstration, made by hand: what an audience is told, in order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import builders
from autoheal.demo.story import (
    Audience,
    Closing,
    Concluded,
    Decided,
    Fact,
    Glance,
    Happened,
    IncidentEnded,
    Opening,
    WentLive,
)
from autoheal.model import (
    ActionKind,
    Decision,
    Deed,
    Evidence,
    Incident,
    IncidentEnd,
    Judgement,
    Mode,
    Outcome,
    OutcomeKind,
)
from autoheal.records import identified
from autoheal.units import MIB

START = builders.NOW
MINUTE = builders.MINUTE
TOTAL = 60 * MINUTE
LIVE_AT = 20 * MINUTE
GLANCE_EVERY = 15 * builders.SECOND

OPENING = Opening(
    scenario="hour",
    about="an hour in a small shop",
    seed=7,
    speed=60.0,
    rules=("rules/remediation.yaml", "rules/scaling.yaml"),
    services=6,
    nodes=3,
    focus="shop_web",
    live_at_ms=LIVE_AT,
    total_ms=TOTAL,
    started_ms=START,
)


def decision(
    at_ms: int,
    action: ActionKind,
    service: str,
    steps: tuple[int, int],
    rule: str,
    reason: str,
    *,
    max_mode: Mode = Mode.LIVE,
    severity: str = "",
    service_name: str = "",
) -> Decision:
    made = dataclasses.replace(
        builders.decision(action=action, service_id=service, start=steps[0], target=steps[1]),
        rule=rule,
        reason=reason,
        max_mode=max_mode,
        severity=severity,
        service_name=service_name or service,
        evidence=(Evidence("mean cpu_percent over 2m", 91.25, "above 80"),),
        decided_at_ms=START + at_ms,
        expires_at_ms=START + at_ms + MINUTE,
    )
    return identified(made)


def outcome(of: Decision, kind: OutcomeKind, reason: str) -> Outcome:
    mode = Mode.DRY_RUN if kind is OutcomeKind.WOULD_APPLY else Mode.LIVE
    return Outcome(of.id, of.service, kind, reason, mode)


BUSY = "mean cpu_percent over 2m is 91.25, above 80: scale up from {} to {}"
DRY = "the executor runs in dry run"
READ_BACK = "the service reads back as posted"

WOULD_SCALE = decision(
    6 * MINUTE, ActionKind.SCALE_UP, "shop_web", (2, 3), "cpu-high", BUSY.format(2, 3)
)
WOULD_SCALE_AGAIN = decision(
    9 * MINUTE, ActionKind.SCALE_UP, "shop_web", (2, 3), "cpu-high", BUSY.format(2, 3)
)
SCALE = decision(
    21 * MINUTE, ActionKind.SCALE_UP, "shop_web", (2, 3), "cpu-high", BUSY.format(2, 3)
)
SCALE_DB = decision(
    22 * MINUTE,
    ActionKind.SCALE_UP,
    "shop_db",
    (1, 2),
    "cpu-high",
    BUSY.format(1, 2),
    max_mode=Mode.DRY_RUN,
)
RAISE = decision(
    25 * MINUTE + 30_000,
    ActionKind.RAISE_MEMORY,
    "shop_api",
    (256 * MIB, 356 * MIB),
    "oom",
    "oom_killed events in 10m is 1, at least 1: raise the memory limit from 256MiB to 356MiB: "
    "replaces both tasks in a rolling update; to keep it, set deploy.resources.limits.memory to "
    "356M in service api",
)
STUCK = decision(
    27 * MINUTE,
    ActionKind.RESTART,
    "shop_mail",
    (0, 1),
    "stuck",
    "unhealthy events in 15m is 1, at least 1: restart: replaces its only task, which stops "
    "before the new one starts",
)
CRASH_REASON = (
    "task_failed events in 10m is 5, at least 5 and mean tasks_stable over 1m is 0, below 100: "
    'escalate (critical); Swarm says: "task: non-zero exit (1)"'
)
PAGE = decision(
    33 * MINUTE,
    ActionKind.ESCALATE,
    "shop_jobs",
    (0, 1),
    "crash-loop",
    CRASH_REASON,
    severity="critical",
)
PAGE_OVER = decision(
    45 * MINUTE,
    ActionKind.ESCALATE,
    "shop_jobs",
    (1, 0),
    "crash-loop",
    "resolved: task_failed events in 10m is 0, no longer at least 5",
    severity="critical",
)
NODE_DOWN = decision(
    48 * MINUTE,
    ActionKind.ESCALATE,
    "node:n3",
    (0, 1),
    "node-down",
    "node worker-2 is down; it had tasks of shop_api",
    severity="critical",
    service_name="node worker-2",
)
SCALE_DOWN = decision(
    55 * MINUTE,
    ActionKind.SCALE_DOWN,
    "shop_web",
    (3, 2),
    "cpu-low",
    "mean cpu_percent over 15m is 12, below 20: scale down from 3 to 2",
)

CONCLUSIONS = (
    (WOULD_SCALE, outcome(WOULD_SCALE, OutcomeKind.WOULD_APPLY, DRY)),
    (WOULD_SCALE_AGAIN, outcome(WOULD_SCALE_AGAIN, OutcomeKind.WOULD_APPLY, DRY)),
    (SCALE, outcome(SCALE, OutcomeKind.APPLIED, READ_BACK)),
    (
        SCALE_DB,
        outcome(SCALE_DB, OutcomeKind.WOULD_APPLY, "the service has no label autoheal.enable=true"),
    ),
    (RAISE, outcome(RAISE, OutcomeKind.APPLIED, READ_BACK)),
    (
        STUCK,
        outcome(STUCK, OutcomeKind.REFUSED, "stale: decided on version 10, the service is at 12"),
    ),
    (PAGE, outcome(PAGE, OutcomeKind.APPLIED, "told: the demonstration")),
    (PAGE_OVER, outcome(PAGE_OVER, OutcomeKind.APPLIED, "told: the demonstration")),
    (NODE_DOWN, outcome(NODE_DOWN, OutcomeKind.APPLIED, "told: the demonstration")),
)


def incident(
    service: str,
    evidence: str,
    opened_ms: int,
    end: IncidentEnd,
    *,
    detected_ms: int,
    acted_ms: int | None = None,
    escalated_ms: int | None = None,
    recovered_ms: int | None = None,
) -> Incident:
    """Times are of the demonstration."""
    return Incident(
        id=f"{service} {opened_ms}",
        service=service,
        service_name=service,
        evidence=evidence,
        opened_ms=START + opened_ms,
        detected_ms=START + detected_ms,
        acted_ms=moment(acted_ms),
        escalated_ms=moment(escalated_ms),
        recovered_ms=moment(recovered_ms),
        end=end.value,
    )


def moment(at_ms: int | None) -> int | None:
    """A time of the demonstration on the store's clock."""
    return None if at_ms is None else START + at_ms


KILLED = dataclasses.replace(
    incident(
        "shop_api",
        "oom_killed, exit code 137",
        25 * MINUTE,
        IncidentEnd.REMEDIED,
        detected_ms=25 * MINUTE + 30_000,
        acted_ms=25 * MINUTE + 35_000,
        recovered_ms=28 * MINUTE + 10_500,
    ),
    rule="oom",
    deeds=(
        Deed(
            RAISE.id,
            RAISE.action.value,
            "oom",
            OutcomeKind.APPLIED.value,
            START + 25 * MINUTE + 35_000,
            Judgement.RECOVERED.value,
        ),
    ),
)
HUNG = incident(
    "shop_mail",
    "unhealthy",
    26 * MINUTE,
    IncidentEnd.CLEARED,
    detected_ms=27 * MINUTE,
    recovered_ms=29 * MINUTE,
)
CRASHED = dataclasses.replace(
    incident(
        "shop_jobs",
        "task_failed, exit code 1",
        30 * MINUTE,
        IncidentEnd.ESCALATED,
        detected_ms=33 * MINUTE,
        escalated_ms=33 * MINUTE,
        recovered_ms=44 * MINUTE,
    ),
    rule="crash-loop",
)
LOST = incident(
    "shop_api",
    "nodes_down is 1, at least 1",
    47 * MINUTE,
    IncidentEnd.OPEN,
    detected_ms=48 * MINUTE,
    escalated_ms=48 * MINUTE,
)

CLOSING = Closing(
    at_ms=TOTAL,
    incidents=(KILLED, HUNG, CRASHED, LOST),
    decisions=(*CONCLUSIONS, (SCALE_DOWN, None)),
    interrupted=False,
)


def facts() -> tuple[Fact, ...]:
    """In order of time."""
    decided = [Decided(d.decided_at_ms - START, d) for d, _ in CLOSING.decisions]
    concluded = [Concluded(d.decided_at_ms - START + 1_000, d, o) for d, o in CONCLUSIONS]
    told: list[Fact] = [
        Happened(5 * MINUTE, "customers come: the load on shop_web doubles"),
        WentLive(LIVE_AT),
        Happened(25 * MINUTE, "a deploy of shop_api needs more memory than its limit, 256MiB"),
        IncidentEnded(29 * MINUTE, KILLED),
        IncidentEnded(30 * MINUTE, HUNG),
        IncidentEnded(46 * MINUTE, CRASHED),
        Happened(47 * MINUTE, "worker-2 loses its power"),
        *decided,
        *concluded,
    ]
    return tuple(sorted(told, key=lambda fact: fact.at_ms))


def glances(until_ms: int = TOTAL) -> Iterator[Glance]:
    """Load that rises and falls, more replicas in between, and a moment without data."""
    for at_ms in range(0, until_ms + 1, GLANCE_EVERY):
        minute = at_ms / MINUTE
        load = 30.0 + 62.0 * max(0.0, 1 - abs(minute - 20) / 18)
        replicas = 3 if 21 * MINUTE < at_ms < 55 * MINUTE else 2
        running = 2 if 21 * MINUTE < at_ms < 22 * MINUTE else replicas
        cpu = None if 40 <= minute < 42 else round(load * 2 / running, 1)
        mode = Mode.LIVE if at_ms >= LIVE_AT else Mode.DRY_RUN
        yield Glance(at_ms, mode, replicas, running, cpu)


def play(audience: Audience) -> None:
    """All of it."""
    audience.open(OPENING)
    waiting = list(facts())
    for glance in glances():
        while waiting and waiting[0].at_ms <= glance.at_ms:
            audience.tell(waiting.pop(0))
        audience.glance(glance)
    audience.close(CLOSING)
