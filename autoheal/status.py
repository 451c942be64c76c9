"""`autoheal status`: what the loop knows and wants right now, read from the store alone.

The window is folded here as an engine folds it, so the figures are those that a tick would see.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from autoheal import records
from autoheal.core.decide import may_reach
from autoheal.core.evidence import describe, evaluate
from autoheal.core.fold import Fold, Snapshot
from autoheal.core.rule import Rule, RuleSet
from autoheal.core.state import ServiceState, State
from autoheal.core.state import unpack as unpack_state
from autoheal.engine import LEASE, kept_limits, kept_rules, reach_ms
from autoheal.errors import UserError
from autoheal.model import Decision, Outcome, Service, TickRecord, Verdict
from autoheal.ports import Entry, Insight, Reach
from autoheal.units import format_duration, format_size

LAST_DECISIONS = 10
HOUR_MS = 3_600_000
STREAMS = (
    records.SAMPLES,
    records.EVENTS,
    records.INVENTORY,
    records.TICKS,
    records.DECISIONS,
    records.OUTCOMES,
)


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule on one service."""

    rule: str
    state: str
    reads: str
    held: str


@dataclass(frozen=True, slots=True)
class ServiceLine:
    """One service: what runs, how far autoheal may go, what is in flight, and its rules."""

    name: str
    tasks: str
    may: str
    in_flight: str
    rules: tuple[RuleLine, ...]


@dataclass(frozen=True, slots=True)
class DecisionLine:
    """One decision with its reason, and what became of it and why."""

    at: str
    service: str
    what: str
    rule: str
    outcome: str
    reason: str
    because: str


@dataclass(frozen=True, slots=True)
class Status:
    """Everything `status` shows; `memory` tells per stream how far back it reaches."""

    engine: str
    executor: str
    tick: int
    tick_age_s: float
    breaker: str
    services: tuple[ServiceLine, ...]
    decisions: tuple[DecisionLine, ...]
    memory: Mapping[str, str]


def gather(store: Insight) -> Status:
    """Read it all. Raises ConnectionError, and UserError where no engine has ticked lately."""
    now_ms = store.now_ms()
    tick = _last_tick(store, now_ms)
    rules, limits = kept_rules(store, tick.rule_set), kept_limits(store, tick.limits)
    state = unpack_state(store.state())
    fold = Fold(rules, step_ms=limits.step_ms, warm_up_ms=limits.warm_up_ms)
    cut = store.reader(Fold.STREAMS, since_ms=now_ms - reach_ms(rules, limits)).cut()
    for entry in cut.entries:
        fold.fold(entry.stream, entry.ms, entry.at_ms, entry.fields)
    snapshot = fold.snapshot(now_ms=cut.now_ms, since_ms=cut.now_ms, epoch=tick.epoch)
    return Status(
        engine=store.holder(LEASE) or "nobody",
        executor=store.holder("executor") or "nobody",
        tick=tick.number,
        tick_age_s=round((now_ms - tick.now_ms) / 1000, 1),
        breaker=state.breaker.circuit,
        services=tuple(_services(rules, state, snapshot, cut.now_ms)),
        decisions=_decisions(store, now_ms),
        memory={s: _reach(r, now_ms) for s, r in store.reach(STREAMS).items()},
    )


def _last_tick(store: Insight, now_ms: int) -> TickRecord:
    entries = _read(store, records.TICKS, since_ms=now_ms - HOUR_MS)
    if not entries:
        raise UserError("no engine has decided anything in the last hour (is one running?)")
    return records.unpack_tick(entries[-1].fields)


def _read(store: Insight, stream: str, *, since_ms: int) -> Sequence[Entry]:
    return store.reader((stream,), since_ms=max(0, since_ms)).cut().entries


def _services(
    rules: RuleSet, state: State, snapshot: Snapshot, now_ms: int
) -> Iterable[ServiceLine]:
    for service in sorted(snapshot.services, key=lambda service: service.name):
        known = state.services.get(service.id)
        if known is None:
            continue
        matching = [rule for rule in rules.rules if rule.match.holds(service.name)]
        flying = [lane.flight for lane in known.lanes.values() if lane.flight is not None]
        running = snapshot.running.get(service.id, 0)
        yield ServiceLine(
            name=service.name,
            tasks=f"{running}/{'-' if service.replicas is None else service.replicas}",
            may=_may(matching, service),
            in_flight=", ".join(f"{f.action} {f.start}->{f.target} {f.phase}" for f in flying),
            rules=tuple(_rule(rule, service, known, snapshot, now_ms) for rule in matching),
        )


def _may(rules: Sequence[Rule], service: Service) -> str:
    """What autoheal may do here in live mode."""
    live = sorted({r.then.kind for r in rules if r.then.leaf and may_reach(r, service) == "live"})
    return ",".join(live) or "watch only"


def _rule(
    rule: Rule, service: Service, known: ServiceState, snapshot: Snapshot, now_ms: int
) -> RuleLine:
    reading = evaluate(rule, service, known, (now_ms, snapshot))
    evidence = describe(rule, reading)
    value = "no data" if reading.verdict is Verdict.NO_DATA else f"{reading.value:g}"
    stepped = known.rules.get(rule.name)
    state = "inactive"
    if stepped is not None:
        since = format_duration((now_ms - stepped.active_ms) // 1000 * 1000)
        state = f"{'firing' if stepped.firing else 'pending'} {since}"
    held = "" if stepped is None else stepped.held
    return RuleLine(rule.name, state, f"{evidence.what} {value} ({evidence.bound})", held)


def _decisions(store: Insight, now_ms: int) -> tuple[DecisionLine, ...]:
    """The newest decisions, newest first."""
    entries = _read(store, records.DECISIONS, since_ms=now_ms - 24 * HOUR_MS)[-LAST_DECISIONS:]
    outcomes = {
        outcome.decision: outcome
        for outcome in (
            records.unpack_outcome(entry.fields)
            for entry in _read(store, records.OUTCOMES, since_ms=now_ms - 24 * HOUR_MS)
        )
    }
    decisions = [records.unpack_decision(entry.fields) for entry in reversed(entries)]
    return tuple(_decision(decision, outcomes.get(decision.id)) for decision in decisions)


def _decision(decision: Decision, outcome: Outcome | None) -> DecisionLine:
    at = datetime.fromtimestamp(decision.decided_at_ms / 1000, UTC)
    steps = f" {decision.start}->{decision.target}" if decision.action != "escalate" else ""
    return DecisionLine(
        at=at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        service=decision.service_name,
        what=f"{decision.action}{steps}",
        rule=decision.rule,
        outcome="open" if outcome is None else outcome.kind,
        reason=decision.reason,
        because="" if outcome is None else outcome.reason,
    )


def _reach(reach: Reach, now_ms: int) -> str:
    if reach.oldest_ms is None:
        return "empty"
    age = format_duration(max(0, now_ms - reach.oldest_ms) // 1000 * 1000)
    return f"{age} back, {reach.entries} entries, {format_size(reach.bytes)}"


# words


def render_json(status: Status) -> str:
    """The status for programs."""
    return json.dumps(dataclasses.asdict(status), indent=2) + "\n"


def render(status: Status) -> str:
    """The status as people read it."""
    lines = [
        f"engine    {status.engine}, tick {status.tick}, {status.tick_age_s:g}s ago",
        f"executor  {status.executor}, breaker {status.breaker}",
        "",
        *_table(("SERVICE", "TASKS", "MAY", "IN FLIGHT"), _service_rows(status)),
        "",
        *_table(("SERVICE", "RULE", "STATE", "HELD BY", "READS"), _rule_rows(status)),
        "",
        *_table(("DECIDED", "SERVICE", "ACTION", "RULE", "BECAUSE"), _past_rows(status)),
        "",
        *_table(("MEMORY", "REACHES"), [(s, words) for s, words in status.memory.items()]),
    ]
    return "\n".join(lines) + "\n"


def _service_rows(status: Status) -> list[tuple[str, ...]]:
    return [(s.name, s.tasks, s.may, s.in_flight or "-") for s in status.services]


def _rule_rows(status: Status) -> list[tuple[str, ...]]:
    return [
        (service.name, rule.rule, rule.state, rule.held or "-", rule.reads)
        for service in status.services
        for rule in service.rules
    ]


def _past_rows(status: Status) -> list[tuple[str, ...]]:
    """Two lines per decision: why it was made, and what became of it."""
    rows: list[tuple[str, ...]] = []
    for each in status.decisions:
        rows.append((each.at, each.service, each.what, each.rule, each.reason))
        outcome = f"{each.outcome}: {each.because}" if each.because else each.outcome
        rows.append(("", "", "", "", f"-> {outcome}"))
    return rows


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell."""
    if not rows:
        return [f"{header[0]}: none"]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
