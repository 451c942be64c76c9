"""Carries decisions out, each at most once. The only part that writes to Docker.

It is given decisions, never specs: signed, with the version of the service they were made on. It
reads the service itself, changes one leaf, and posts the spec with that version, so that Swarm's
own compare-and-swap lets through one write at most: whatever was lost, repeated or sent by two
executors, the version has moved after the first. All the rest serves to *know* what happened.

    OPEN       nothing was written down: it may be refused, left for later, or begun
    INTENDED   our intent is on its way to the store; nothing was sent to Docker
    DOUBTFUL   a write was sent, or an earlier executor may have sent one
    (final)    an outcome was reported; only the id is remembered

    OPEN      -> INTENDED   all checks passed and the actuator is live
    INTENDED  -> DOUBTFUL   the intent is durable, the write is sent
    OPEN      -> DOUBTFUL   the intent of another executor, or of an earlier life, was read
    any       -> (final)    REFUSED, WOULD_APPLY, APPLIED, NOT_APPLIED: exactly one of these

A DOUBTFUL write is reported as UNCONFIRMED, blocks every other write, and is settled by what Swarm
shows (`_look`): our label in Spec or PreviousSpec: it was applied; a version past the decision's:
it is dead. A version that has not moved proves nothing, for the manager we ask may be cut off and a
frozen one may still commit. Then a second write with the same version is sent, which Swarm accepts
only if the first was not and never will be:

* the same write, while the decision would still be allowed to begin;
* else one that changes nothing but a label (`autoheal.withdrawn`): an old decision is never carried
  out late, and cannot be any more.

A step that fails leaves things as they are. `tick` may end with an exception at any point (the
store is away, the disk is full) or with the process; the next tick, or the next executor, goes on
from what is durable: decisions, intents, outcomes, and the service itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from functools import partial
from typing import Any, Protocol

from autoheal.actions import ACTIONS
from autoheal.actions.replicas import REPLICAS
from autoheal.adapters.actuators import Actuator
from autoheal.adapters.service_spec import (
    Observed,
    carried_out,
    differences,
    labels,
    leaf_of,
    listed,
    observed,
    withdrawn,
)
from autoheal.adapters.tenure import News, Tenure, TenureOver
from autoheal.errors import BadRecordError, RemoteError, RemoteRefused, RemoteUnreachable
from autoheal.model import (
    LABEL_ALLOW,
    LABEL_DECISION,
    LABEL_DRY_RUN,
    LABEL_ENABLE,
    LABEL_MAX,
    LABEL_MIN,
    LABEL_ROLE,
    UPDATE_AT_REST,
    Decision,
    Intent,
    Mode,
    Outcome,
    OutcomeKind,
)
from autoheal.ports import Clock, Entry, JsonObject, Store
from autoheal.records import (
    DECISIONS,
    INTENTS,
    OUTCOMES,
    digest,
    pack_intent,
    pack_outcome,
    signature_holds,
    unpack_decision,
    unpack_intent,
    unpack_outcome,
)
from autoheal.telemetry import Telemetry

LEASE = "executor"
ENGINE_LEASE = "engine"
# Settling is tried at a pace that slows down; a person is called when that does not help.
DOUBLINGS_MAX = 4
LOOKS_BEFORE_ALARM = 6
# Docker answers 500 to this as well as to a lost quorum; only the text tells them apart.
OUT_OF_SEQUENCE = "update out of sequence"
NOT_FOUND = 404
CLIENT_ERRORS = range(400, 500)

log = logging.getLogger(__name__)


class Audit(Protocol):
    """A trail that outlives the store."""

    def record(self, what: str, body: Mapping[str, object]) -> None:
        """Make one line durable. Raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """The executor's times. `docker_timeout_s` is that of the client behind the actuator."""

    lease_ttl_s: float = 15.0
    docker_timeout_s: float = 5.0
    settle_s: float = 2.0
    history_ms: int = 7 * 24 * 3600 * 1000

    @property
    def margin_s(self) -> float:
        """What the lease must still last to begin: a read or a write, and a read after it."""
        return 2 * self.docker_timeout_s


class Stage(Enum):
    """How far a decision without a final outcome has come; see the module's docstring."""

    OPEN = "open"
    INTENDED = "intended"
    DOUBTFUL = "doubtful"


@dataclass(slots=True)
class _Case:
    """A decision without a final outcome. `reported`: the stream holds its UNCONFIRMED."""

    decision: Decision
    signed: bool
    stage: Stage = Stage.OPEN
    audited: bool = False
    reported: bool = False
    settle_at: float = 0.0
    looks: int = 0


@dataclass(frozen=True, slots=True)
class _Papers:
    """What can be said of a decision without looking at its service."""

    decision: Decision
    signed: bool
    engine_epoch: int
    now_ms: int


# What refuses a decision, in this order; each gives the reason or None.


def _unsigned(papers: _Papers) -> str | None:
    return None if papers.signed else "the signature does not hold"


def _of_another_epoch(papers: _Papers) -> str | None:
    made, now = papers.decision.epoch, papers.engine_epoch
    return None if made == now else f"decided in epoch {made}, the engine is in epoch {now}"


def _expired(papers: _Papers) -> str | None:
    late_ms = papers.now_ms - papers.decision.expires_at_ms
    return f"expired {late_ms} ms ago" if late_ms >= 0 else None


ON_PAPER: tuple[Callable[[_Papers], str | None], ...] = (_unsigned, _of_another_epoch, _expired)


def _stale(decision: Decision, service: Observed) -> str | None:
    if service.index == decision.version:
        return None
    return f"stale: decided on version {decision.version}, the service is at {service.index}"


def _not_replicated(_: Decision, service: Observed) -> str | None:
    return "not a replicated service" if REPLICAS.read(service.spec) is None else None


def _switched_off(_: Decision, service: Observed) -> str | None:
    return "replicas 0 means off: hands off" if REPLICAS.read(service.spec) == 0 else None


def _elsewhere(decision: Decision, service: Observed) -> str | None:
    present = leaf_of(decision).read(service.spec)
    if present == decision.start:
        return None
    shown = ACTIONS[decision.action].shown
    has = "none" if present is None else shown(present)
    return f"decided from {shown(decision.start)}, the service has {has}"


def _updating(_: Decision, service: Observed) -> str | None:
    state = service.update_state
    return None if state in UPDATE_AT_REST else f"an update of the service is in state {state}"


def _out_of_range(decision: Decision, _: Observed) -> str | None:
    return ACTIONS[decision.action].objection(decision.start, decision.target)


def _part_of_autoheal(_: Decision, service: Observed) -> str | None:
    return "a part of autoheal itself" if LABEL_ROLE in service.labels else None


def _mislabelled(_: Decision, service: Observed) -> str | None:
    mistakes = service.terms.mistakes
    return f"its labels are in doubt: {'; '.join(mistakes)}" if mistakes else None


def _outside_labels(decision: Decision, service: Observed) -> str | None:
    if leaf_of(decision) is not REPLICAS:
        return None
    terms, target = service.terms, decision.target
    if terms.minimum is not None and target < terms.minimum:
        return f"the target {target} is below the label {LABEL_MIN}, {terms.minimum}"
    if terms.maximum is not None and target > terms.maximum:
        return f"the target {target} is above the label {LABEL_MAX}, {terms.maximum}"
    return None


OF_SERVICE: tuple[Callable[[Decision, Observed], str | None], ...] = (
    _stale,
    _not_replicated,
    _switched_off,
    _elsewhere,
    _updating,
    _out_of_range,
    _part_of_autoheal,
    _mislabelled,
    _outside_labels,
)


# What carries an allowed decision no further than WOULD_APPLY.


def _not_enabled(_: Decision, service: Observed) -> str | None:
    enabled = service.terms.enabled
    return None if enabled else f"the service has no label {LABEL_ENABLE}=true"


def _not_allowed(decision: Decision, service: Observed) -> str | None:
    action = decision.action.value
    if action in service.terms.allowed:
        return None
    return f"the service's label {LABEL_ALLOW} does not name {action}"


def _on_dry_run(_: Decision, service: Observed) -> str | None:
    return f"the service has the label {LABEL_DRY_RUN}=true" if service.terms.dry_run else None


def _on_trial(decision: Decision, _: Observed) -> str | None:
    return "decided for dry run only" if decision.max_mode is Mode.DRY_RUN else None


UNARMED: tuple[Callable[[Decision, Observed], str | None], ...] = (
    _not_enabled,
    _not_allowed,
    _on_dry_run,
    _on_trial,
)


class Executor:
    """The loop. `holder` names this process's life; `key` verifies the engine's signatures.

    Raises ValueError if a write and its reading back do not fit into the lease.
    """

    def __init__(
        self,
        *,
        store: Store,
        actuator: Actuator,
        audit: Audit,
        clock: Clock,
        telemetry: Telemetry,
        key: bytes,
        holder: str,
        pace: Pace | None = None,
    ) -> None:
        pace = pace or Pace()
        if pace.margin_s >= pace.lease_ttl_s:
            raise ValueError(f"a lease of {pace.lease_ttl_s:g} s is too short for Docker's timeout")
        self._store = store
        self._actuator = actuator
        self._audit = audit
        self._clock = clock
        self._outcomes = telemetry.outcomes
        self._key = key
        self._holder = holder
        self._pace = pace
        self._now_ms = 0
        self._settle_at = 0.0
        self._cases: dict[str, _Case] = {}
        self._concluded: dict[str, int] = {}
        self._tenure = Tenure(
            store,
            clock,
            telemetry,
            name=LEASE,
            holder=holder,
            ttl_s=pace.lease_ttl_s,
            streams=(DECISIONS, INTENTS, OUTCOMES),
            history_ms=pace.history_ms,
        )

    @property
    def is_leader(self) -> bool:
        """Whether this executor held the lease at its last tick."""
        return self._tenure.is_held

    @property
    def cursors(self) -> Mapping[str, str]:
        """Where reading stands, for `Store.wait`; empty while another executor is in office."""
        return self._tenure.cursors

    def tick(self) -> None:
        """Take in what is new; settle what is in doubt; attempt what is open.

        Raises ConnectionError (the store is away) and OSError (the audit trail cannot be written):
        nothing was begun that the next tick does not settle.
        """
        if not self._tenure.hold():
            return
        try:
            news = self._tenure.read()
            self._fold(news)
            if news.complete:
                self._settle_one()
                self._attempt_all()
        except TenureOver as over:
            log.warning("%s; going on at the next tick", over)

    def stop(self) -> None:
        """Give up the lease, so that a standby goes on at once. Raises ConnectionError."""
        self._tenure.end()

    # Folding the streams

    def _fold(self, news: News) -> None:
        self._now_ms = news.now_ms
        if news.afresh:
            self._cases, self._concluded = {}, {}
        # Ids order entries within a stream only; an intent follows its decision by meaning.
        for stream, fold in (
            (DECISIONS, self._fold_decision),
            (INTENTS, self._fold_intent),
            (OUTCOMES, self._fold_outcome),
        ):
            for entry in news.entries:
                if entry.stream == stream:
                    self._fold_entry(fold, entry)
        self._forget()

    def _fold_entry(self, fold: Callable[[Entry], None], entry: Entry) -> None:
        try:
            fold(entry)
        except BadRecordError as error:
            log.warning("%s entry %s is left out: %s", entry.stream, entry.id, error)

    def _fold_decision(self, entry: Entry) -> None:
        decision = unpack_decision(entry.fields)
        if ACTIONS[decision.action].leaf is None:
            return  # the notifier's
        signed = signature_holds(entry.fields, self._key)
        if not signed:
            # Under the id it claims, its refusal could become the outcome of a genuine decision.
            decision = replace(decision, id=digest(entry.fields["body"]))
        elif decision.expires_at_ms <= self._now_ms - self._pace.history_ms:
            log.warning("decision %s is older than what is remembered: left out", decision.id)
            return
        if decision.id not in self._cases and decision.id not in self._concluded:
            self._cases[decision.id] = _Case(decision, signed)

    def _fold_intent(self, entry: Entry) -> None:
        intent = unpack_intent(entry.fields)
        case = self._cases.get(intent.decision)
        if case is None or not case.signed:
            return
        if case.stage is Stage.OPEN or intent.executor != self._holder:
            case.stage = Stage.DOUBTFUL

    def _fold_outcome(self, entry: Entry) -> None:
        outcome = unpack_outcome(entry.fields)
        if outcome.kind is not OutcomeKind.UNCONFIRMED:
            self._cases.pop(outcome.decision, None)
            self._concluded[outcome.decision] = entry.ms
        elif (case := self._cases.get(outcome.decision)) is not None and case.signed:
            case.stage, case.reported = Stage.DOUBTFUL, True

    def _forget(self) -> None:
        """Drop ids whose decision, delivered once more, would be left out as too old."""
        oldest_ms = self._now_ms - 2 * self._pace.history_ms
        for name in [name for name, ms in self._concluded.items() if ms < oldest_ms]:
            del self._concluded[name]

    # Attempting what is open

    def _attempt_all(self) -> None:
        for case in list(self._cases.values()):
            if case.stage is not Stage.DOUBTFUL:
                self._tenure.require(self._pace.margin_s)
                self._attempt(case)

    def _attempt(self, case: _Case) -> None:
        self._audit_once(case)
        decision = case.decision
        if reason := self._objection_on_paper(case):
            self._conclude(case, OutcomeKind.REFUSED, reason)
            return
        try:
            service = self._read(decision)
        except RemoteError as error:
            log.warning("%s waits: its service cannot be read: %s", _words(decision), error)
            return
        if service is None:
            self._conclude(case, OutcomeKind.REFUSED, "the service does not exist", stale=True)
        elif reason := _first(OF_SERVICE, decision, service):
            stale = service.index != decision.version
            self._conclude(case, OutcomeKind.REFUSED, reason, stale=stale)
        elif reason := _first(UNARMED, decision, service) or self._actuator.held_back:
            self._conclude(case, OutcomeKind.WOULD_APPLY, reason)
        elif not self._busy_beside(case):
            self._carry_out(case, service)

    def _objection_on_paper(self, case: _Case) -> str | None:
        engine_epoch, now_ms = self._store.epoch(ENGINE_LEASE), self._store.now_ms()
        papers = _Papers(case.decision, case.signed, engine_epoch, now_ms)
        return next((reason for check in ON_PAPER if (reason := check(papers))), None)

    def _busy_beside(self, case: _Case) -> bool:
        """Whether another write is begun and not ended: there is one at a time."""
        others = (other for other in self._cases.values() if other is not case)
        return any(other.stage is not Stage.OPEN for other in others)

    def _carry_out(self, case: _Case, service: Observed) -> None:
        if case.stage is Stage.OPEN:
            self._intend(case)
            # Making it durable took time, and perhaps several ticks.
            if reason := self._objection_on_paper(case):
                self._conclude(case, OutcomeKind.REFUSED, reason)
                return
        self._tenure.require(self._pace.margin_s)
        posted = carried_out(case.decision, service.spec)
        case.stage = Stage.DOUBTFUL
        answer, words = self._post(case.decision, posted)
        match answer:
            case _Answer.ACCEPTED:
                self._read_back(case, service, posted)
            case _Answer.DECLINED:
                self._conclude(case, OutcomeKind.NOT_APPLIED, words)
            case _Answer.OUTDATED:
                self._look_again(case, words)
            case _Answer.UNKNOWN:
                self._doubt(case, words)

    def _intend(self, case: _Case) -> None:
        """Say it before doing it. If this raises, the intent is counted as written."""
        decision = case.decision
        intent = Intent(decision.id, decision.service, decision.version, self._holder)
        case.stage = Stage.INTENDED
        self._tenure.then(partial(self._audit.record, "intent", asdict(intent)))
        self._tenure.append(INTENTS, pack_intent(intent))
        self._tenure.flush()

    def _post(self, decision: Decision, spec: JsonObject) -> tuple[_Answer, str]:
        try:
            self._actuator.update_service(decision.service, decision.version, spec)
        except RemoteRefused as error:
            if OUT_OF_SEQUENCE in error.detail:
                return _Answer.OUTDATED, str(error)
            if error.status in CLIENT_ERRORS:
                return _Answer.DECLINED, str(error)
            return _Answer.UNKNOWN, str(error)
        except RemoteUnreachable as error:
            return _Answer.UNKNOWN, f"no answer: {error}"
        return _Answer.ACCEPTED, ""

    def _read_back(self, case: _Case, before: Observed, posted: Mapping[str, Any]) -> None:
        """Docker accepted the write: see that it did that and nothing else."""
        decision = case.decision
        try:
            after = self._read(decision)
        except RemoteError as error:
            self._doubt(case, f"accepted, but it could not be read back: {error}")
            return
        if after is None:
            self._conclude(case, OutcomeKind.APPLIED, "accepted; the service was then removed")
        elif after.index <= decision.version:
            self._doubt(case, "accepted, but the manager that was asked does not show it yet")
        elif paths := [
            *differences(posted, after.spec, ""),
            *differences(before.spec, after.previous or before.spec, "PreviousSpec"),
        ]:
            reason = f"accepted, but the service differs in {listed(paths)}"
            log.error("%s: %s", _words(decision), reason)
            self._conclude(case, OutcomeKind.APPLIED, reason, index=after.index)
        else:
            reason = "the service reads back as posted"
            self._conclude(case, OutcomeKind.APPLIED, reason, index=after.index)

    # Settling what is in doubt

    def _settle_one(self) -> None:
        now = self._clock.monotonic()
        doubtful = [case for case in self._cases.values() if case.stage is Stage.DOUBTFUL]
        if doubtful and now >= self._settle_at:
            self._tenure.require(self._pace.margin_s)
            case = min(doubtful, key=lambda each: each.settle_at)
            pause_s = self._pace.settle_s * 2 ** min(case.looks, DOUBLINGS_MAX)
            case.settle_at = self._settle_at = now + pause_s
            case.looks += 1
            if case.looks == LOOKS_BEFORE_ALARM:
                log.error("%s cannot be settled, and holds all others back", _words(case.decision))
            self._settle(case)

    def _settle(self, case: _Case) -> None:
        decision = case.decision
        try:
            service = self._read(decision)
        except RemoteError as error:
            self._doubt(case, f"the service cannot be read: {error}")
            return
        if self._look(case, service):
            return
        if service is None or service.index != decision.version:
            self._doubt(case, "the manager that was asked lags behind")
        elif reason := _first(UNARMED, decision, service) or self._actuator.held_back:
            self._doubt(case, f"the version has not moved, and nothing is sent: {reason}")
        elif reason := self._objection_on_paper(case) or _first(OF_SERVICE, decision, service):
            self._tenure.require(self._pace.margin_s)
            self._withdraw(case, service, reason)
        else:
            self._tenure.require(self._pace.margin_s)
            self._repeat(case, service)

    def _look(self, case: _Case, service: Observed | None) -> bool:
        """Conclude the case if Swarm shows what became of its write."""
        decision = case.decision
        if service is None:
            reason = "the service does not exist any more"
            self._conclude(case, OutcomeKind.NOT_APPLIED, reason, stale=True)
        elif service.labels.get(LABEL_DECISION) == decision.id:
            reason = "settled: the service carries the label of this decision"
            self._conclude(case, OutcomeKind.APPLIED, reason, index=service.index)
        elif labels(service.previous or {}).get(LABEL_DECISION) == decision.id:
            reason = "settled: the service's previous spec carries the label of this decision"
            self._conclude(case, OutcomeKind.APPLIED, reason, index=service.index)
        elif service.index > decision.version:
            reason = f"the write is dead: the version moved to {service.index}"
            self._conclude(case, OutcomeKind.NOT_APPLIED, reason, stale=True)
        else:
            return False
        return True

    def _look_again(self, case: _Case, words: str) -> None:
        """Swarm knows a newer version: another's, or our own write that reached it twice."""
        try:
            settled = self._look(case, self._read(case.decision))
        except RemoteError as error:
            self._doubt(case, f"{words}; and the service cannot be read: {error}")
            return
        if not settled:
            self._doubt(case, words)

    def _repeat(self, case: _Case, service: Observed) -> None:
        """Send the same write with the same version: it can be accepted once."""
        posted = carried_out(case.decision, service.spec)
        answer, words = self._post(case.decision, posted)
        if answer is _Answer.ACCEPTED:
            self._read_back(case, service, posted)
        else:
            self._doubt(case, words)

    def _withdraw(self, case: _Case, service: Observed, reason: str) -> None:
        """Move the version without touching the leaf, so that the write in doubt is dead."""
        answer, words = self._post(case.decision, withdrawn(case.decision, service.spec))
        if answer is _Answer.ACCEPTED:
            self._conclude(case, OutcomeKind.NOT_APPLIED, f"withdrawn by a label: {reason}")
        else:
            self._doubt(case, words)

    # Reading and reporting

    def _read(self, decision: Decision) -> Observed | None:
        """The service now, None if there is none. Raises RemoteError."""
        try:
            return observed(self._actuator.get(f"/services/{decision.service}"))
        except RemoteRefused as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def _doubt(self, case: _Case, words: str) -> None:
        self._settle_at = self._clock.monotonic() + self._pace.settle_s
        if case.reported:
            log.info("%s: still unconfirmed: %s", _words(case.decision), words)
        else:
            case.reported = True
            self._report(case, OutcomeKind.UNCONFIRMED, words)

    def _conclude(
        self, case: _Case, kind: OutcomeKind, reason: str, *, index: int = 0, stale: bool = False
    ) -> None:
        decision = case.decision
        del self._cases[decision.id]
        self._concluded[decision.id] = self._now_ms
        self._report(case, kind, reason, index=index, stale=stale)

    def _report(
        self, case: _Case, kind: OutcomeKind, reason: str, *, index: int = 0, stale: bool = False
    ) -> None:
        decision = case.decision
        outcome = Outcome(
            decision=decision.id,
            service=decision.service,
            kind=kind,
            reason=reason,
            mode=self._mode(case, kind),
            index=index,
            stale=stale,
        )
        log.log(_LEVELS[kind], "%s: %s: %s", _words(decision), kind.value, reason)
        self._outcomes.labels(kind.value).inc()
        self._tenure.append(OUTCOMES, pack_outcome(outcome))
        self._tenure.then(partial(self._audit.record, "outcome", asdict(outcome)))
        self._tenure.flush()

    def _mode(self, case: _Case, kind: OutcomeKind) -> Mode:
        if case.stage is not Stage.OPEN:
            return Mode.LIVE  # there is an intent, perhaps of an executor that was live
        if kind is OutcomeKind.WOULD_APPLY or self._actuator.mode is Mode.DRY_RUN:
            return Mode.DRY_RUN
        return case.decision.max_mode

    def _audit_once(self, case: _Case) -> None:
        if not case.audited:
            case.audited = True
            self._tenure.then(partial(self._audit.record, "decision", asdict(case.decision)))
            self._tenure.flush()


class _Answer(Enum):
    """What Docker's answer to a write tells."""

    ACCEPTED = "accepted"
    DECLINED = "declined"  # as a mistake of ours: it was not applied
    OUTDATED = "outdated"  # the version is not the one posted
    UNKNOWN = "unknown"


_LEVELS = {
    OutcomeKind.WOULD_APPLY: logging.INFO,
    OutcomeKind.APPLIED: logging.INFO,
    OutcomeKind.REFUSED: logging.WARNING,
    OutcomeKind.NOT_APPLIED: logging.WARNING,
    OutcomeKind.UNCONFIRMED: logging.WARNING,
}


def _first(
    checks: Sequence[Callable[[Decision, Observed], str | None]],
    decision: Decision,
    service: Observed,
) -> str | None:
    return next((reason for check in checks if (reason := check(decision, service))), None)


def _words(decision: Decision) -> str:
    steps = ACTIONS[decision.action].steps(decision.start, decision.target)
    what = f"{decision.action.value} {decision.service_name} {steps}".rstrip()
    return f"{decision.id}: {what} (rule {decision.rule})"
