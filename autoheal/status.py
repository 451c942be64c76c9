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
from autoheal.actions import ACTIONS, Track
from autoheal.core.decision.evidence import describe, evaluate
from autoheal.core.decision.reach import may_reach
from autoheal.core.decision.sources import SOURCE, is_in_the_dark, what_is_missing
from autoheal.core.decision.track import recommend
from autoheal.core.limits import HOUR_MS, Limits
from autoheal.core.rule import Rule, RuleSet, leaves
from autoheal.core.state import Flight, Page, ServiceState, State
from autoheal.core.view.fold import Fold, ServiceTasks, Snapshot, SourceState
from autoheal.engine import LEASE, kept_limits, kept_rules, kept_state, reach_ms
from autoheal.errors import UserError
from autoheal.labels import Terms, read_terms
from autoheal.model import ActionKind, Decision, Mode, Outcome, Service, TickRecord, Verdict
from autoheal.ports import Entry, Insight, Reach
from autoheal.units import format_duration, format_size

LAST_DECISIONS = 10
STREAMS = (
    records.SAMPLES,
    records.EVENTS,
    records.INVENTORY,
    records.TICKS,
    records.DECISIONS,
    records.OUTCOMES,
    records.INCIDENTS,
    records.COMMANDS,
    records.SOURCES,
)


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule on one service; `held` names the guard that holds it back, "" if none does."""

    rule: str
    state: str
    reads: str
    held: str


@dataclass(frozen=True, slots=True)
class IncidentLine:
    """An open incident: for how long, what was seen first, the first rule that fired ("": none)."""

    lasts: str
    evidence: str
    rule: str


@dataclass(frozen=True, slots=True)
class QuarantineLine:
    """A rule that may not act on the service until a person resets it, and for how long."""

    rule: str
    lasts: str


@dataclass(frozen=True, slots=True)
class PageLine:
    """An escalation that fires. `told_by` names what another page is about that stands for it."""

    about: str
    rule: str
    severity: str
    mode: str
    told_by: str = ""


@dataclass(frozen=True, slots=True)
class ServiceLine:
    """One service: what runs, how far autoheal may go, what is in flight, what is amiss, its rules.

    A service with `label_mistakes` is left alone.
    """

    name: str
    tasks: str
    may: str
    in_flight: str
    incident: IncidentLine | None
    quarantined: tuple[QuarantineLine, ...]
    label_mistakes: tuple[str, ...]
    pages: tuple[PageLine, ...]
    rules: tuple[RuleLine, ...]


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One source: the value that counts, how old the last one is, why it cannot be read."""

    name: str
    value: str
    age: str
    error: str


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
    """Everything `status` shows.

    `outage` is for how long there has been one, "" if there is none. `budgets` tells per max_mode
    what is spent, `pages` holds those that stand for several services, `memory` tells per stream
    how far back it reaches.
    """

    engine: str
    executor: str
    tick: int
    tick_age_s: float
    breaker: str
    outage: str
    budgets: Mapping[str, str]
    pages: tuple[PageLine, ...]
    services: tuple[ServiceLine, ...]
    sources: tuple[SourceLine, ...]
    decisions: tuple[DecisionLine, ...]
    memory: Mapping[str, str]


def gather(store: Insight) -> Status:
    """Read it all. Raises ConnectionError, and UserError where no engine has ticked lately."""
    now_ms = store.now_ms()
    tick = _last_tick(store, now_ms)
    rules, limits = kept_rules(store, tick.rule_set), kept_limits(store, tick.limits)
    state = kept_state(store)
    fold = Fold(rules, limits)
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
        outage="" if state.outage_ms is None else _lasts(state.outage_ms, now_ms),
        budgets={mode: _budget(state, limits, mode, now_ms) for mode in Mode},
        pages=tuple(_pages(state)),
        services=tuple(_services(rules, state, snapshot, cut.now_ms)),
        sources=tuple(_source(*each) for each in sorted(snapshot.sources.items())),
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
        terms = read_terms(service.labels)
        tasks = snapshot.tasks.get(service.id, ServiceTasks())
        matching = [rule for rule in rules.rules if rule.match.holds(service)]
        flying = [lane.flight for lane in known.lanes.values() if lane.flight is not None]
        wanted = "-" if service.replicas is None else service.replicas
        yield ServiceLine(
            name=service.name,
            tasks=f"{len(tasks.running)}/{wanted}",
            may=_may(matching, terms),
            in_flight=", ".join(_flight(flight) for flight in flying),
            incident=_incident(known, now_ms),
            quarantined=tuple(_quarantined(known, now_ms)),
            label_mistakes=terms.mistakes,
            pages=tuple(_alarms(service.id, known, state.pages)),
            rules=tuple(_rule(rule, service, known, snapshot, now_ms) for rule in matching),
        )


def _may(rules: Sequence[Rule], terms: Terms) -> str:
    """What autoheal may do here in live mode."""
    live = {
        kind
        for rule in rules
        if rule.then.leaf
        for kind in rule.then.kinds()
        if may_reach(rule, terms, kind) is Mode.LIVE
    }
    return ",".join(sorted(live)) or "watch only"


def _flight(flight: Flight) -> str:
    return f"{_action(flight.action, flight.start, flight.target)} {flight.phase}"


def _action(kind: ActionKind, start: int, target: int) -> str:
    """An action with where it leads, as people read it."""
    return f"{kind} {ACTIONS[kind].steps(start, target)}".rstrip()


def _lasts(since_ms: int, now_ms: int) -> str:
    return format_duration(max(0, now_ms - since_ms) // 1000 * 1000)


def _budget(state: State, limits: Limits, mode: Mode, now_ms: int) -> str:
    spent = sum(at_ms > now_ms - HOUR_MS for at_ms in state.spent.get(mode, ()))
    return f"{spent} of {limits.actions_per_hour}"


def _incident(known: ServiceState, now_ms: int) -> IncidentLine | None:
    incident = known.incident
    if incident is None:
        return None
    return IncidentLine(_lasts(incident.opened_ms, now_ms), incident.evidence, incident.rule)


def _quarantined(known: ServiceState, now_ms: int) -> Iterable[QuarantineLine]:
    for rule, since_ms in sorted(known.quarantined.items()):
        yield QuarantineLine(rule, _lasts(since_ms, now_ms))


def _pages(state: State) -> Iterable[PageLine]:
    """Those that stand for more than one service."""
    for _, page in sorted(state.pages.items()):
        if page.subject not in state.services:
            yield PageLine(page.name, page.rule, page.severity, page.max_mode)


def _alarms(service: str, known: ServiceState, pages: Mapping[str, Page]) -> Iterable[PageLine]:
    for rule, alarm in sorted(known.escalated.items()):
        page = pages.get(alarm.page)
        told_by = "" if page is None or page.subject == service else page.name
        yield PageLine(known.name, rule, alarm.severity, alarm.max_mode, told_by)


def _rule(
    rule: Rule, service: Service, known: ServiceState, snapshot: Snapshot, now_ms: int
) -> RuleLine:
    # Leaf by leaf: of a condition that holds, `describe` leaves out what does not make it so.
    parts = [dataclasses.replace(rule, when=leaf) for leaf in leaves(rule.when)]
    reads = [_reads(part, service, known, (now_ms, snapshot)) for part in parts]
    if isinstance(rule.then, Track) and service.replicas:
        readings = {each: snapshot.tracked[service.id, each] for each in rule.then.targets}
        reads.append(recommend(rule.then, readings, service).figures)
    held = _held(rule, service, known, (now_ms, snapshot))
    return RuleLine(rule.name, _stage(rule, known, now_ms), "; ".join(reads), held)


def _stage(rule: Rule, known: ServiceState, now_ms: int) -> str:
    """How far the rule is, and for how long."""
    if _is_off(rule, now_ms):
        return "outside its hours"
    stepped, alarm = known.rules.get(rule.name), known.escalated.get(rule.name)
    if stepped is not None:
        phase = "firing" if stepped.firing else "pending"
        if isinstance(rule.then, Track):
            phase = "tracking"
        return f"{phase} {_lasts(stepped.active_ms, now_ms)}"
    if alarm is not None and alarm.quiet_ms is not None:
        return f"keeps firing, quiet {_lasts(alarm.quiet_ms, now_ms)}"
    return "inactive"


def _is_off(rule: Rule, now_ms: int) -> bool:
    return rule.schedule is not None and not rule.schedule.holds(now_ms)


def _held(rule: Rule, service: Service, known: ServiceState, now: tuple[int, Snapshot]) -> str:
    """What held the rule back. One that wants nothing has no state to remember that in."""
    now_ms, snapshot = now
    stepped = known.rules.get(rule.name)
    if stepped is not None:
        return stepped.held
    verdict = evaluate(rule, service, known, now).verdict
    silent = is_in_the_dark(rule, service, verdict) and what_is_missing(rule, snapshot.sources)
    return SOURCE if silent and not _is_off(rule, now_ms) else ""


def _reads(rule: Rule, service: Service, known: ServiceState, now: tuple[int, Snapshot]) -> str:
    """What a rule of one condition sees."""
    reading = evaluate(rule, service, known, now)
    (evidence,) = describe(rule, service, known, now)
    value = "no data" if reading.verdict is Verdict.NO_DATA else f"{reading.value:g}"
    return f"{evidence.what} {value} ({evidence.bound})"


def _source(name: str, state: SourceState) -> SourceLine:
    age = "never read" if state.age_ms is None else _lasts(0, state.age_ms)
    value = "no value" if state.value is None else f"{state.value:g}"
    return SourceLine(name, value, age, state.error)


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
    return DecisionLine(
        at=at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        service=decision.service_name,
        what=_action(decision.action, decision.start, decision.target),
        rule=decision.rule,
        outcome="open" if outcome is None else outcome.kind,
        reason=decision.reason,
        because="" if outcome is None else outcome.reason,
    )


def _reach(reach: Reach, now_ms: int) -> str:
    if reach.oldest_ms is None:
        return "empty"
    age = _lasts(reach.oldest_ms, now_ms)
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
        f"actions   {_budgets(status)} in the last hour",
        *([f"outage    for {status.outage}: nothing is done"] if status.outage else []),
        "",
        *_table(("SERVICE", "TASKS", "MAY", "IN FLIGHT"), _service_rows(status)),
        "",
        *_table(("TROUBLE", "FOR", "WHAT"), _trouble_rows(status)),
        "",
        *_table(("SERVICE", "RULE", "STATE", "HELD BY", "READS"), _rule_rows(status)),
        "",
        *_sources(status),
        *_table(("DECIDED", "SERVICE", "ACTION", "RULE", "BECAUSE"), _past_rows(status)),
        "",
        *_table(("MEMORY", "REACHES"), [(s, words) for s, words in status.memory.items()]),
    ]
    return "\n".join(lines) + "\n"


def _service_rows(status: Status) -> list[tuple[str, ...]]:
    return [(s.name, s.tasks, s.may, s.in_flight or "-") for s in status.services]


def _budgets(status: Status) -> str:
    return ", ".join(f"{mode} {spent}" for mode, spent in status.budgets.items())


def _trouble_rows(status: Status) -> list[tuple[str, ...]]:
    rows = [_page_row(page) for page in status.pages]
    for service in status.services:
        rows += _service_troubles(service)
    return rows


def _service_troubles(service: ServiceLine) -> Iterable[tuple[str, ...]]:
    if service.incident is not None:
        by = f" (rule {service.incident.rule})" if service.incident.rule else ""
        yield service.name, service.incident.lasts, f"incident: {service.incident.evidence}{by}"
    for page in service.pages:
        yield _page_row(page)
    for each in service.quarantined:
        way_out = f"autoheal reset {service.name} {each.rule}"
        yield service.name, each.lasts, f"rule {each.rule} is quarantined ({way_out})"
    for mistake in service.label_mistakes:
        yield service.name, "-", f"left alone: {mistake}"


def _page_row(page: PageLine) -> tuple[str, ...]:
    told_by = f", told by the page on {page.told_by}" if page.told_by else ""
    return page.about, "-", f"page: {page.rule} ({page.severity}, {page.mode}){told_by}"


def _rule_rows(status: Status) -> list[tuple[str, ...]]:
    return [
        (service.name, rule.rule, rule.state, rule.held or "-", rule.reads)
        for service in status.services
        for rule in service.rules
    ]


def _sources(status: Status) -> list[str]:
    """A table of its own, where there are any."""
    header = ("SOURCE", "VALUE", "AGE", "CANNOT BE READ")
    rows = [(each.name, each.value, each.age, each.error or "-") for each in status.sources]
    return [*_table(header, rows), ""] if rows else []


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
