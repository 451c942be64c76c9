"""Delivers escalations: tells people when an alert begins, and again when it is over.

An alert is what a rule says of a service, or of what several share, with a severity and in a mode:
what makes it another alert to people makes it another one here. Its decisions are its transitions,
target 1 begins it and target 0 ends it. The fold of all decisions that are kept gives the active
alerts. A transition without an outcome is still to be delivered, to every destination, and gets its
outcome when each of them has it or has given up:

* a destination that is told once (a webhook) gets each transition in order. What is an hour old is
  given up, except that an alert which still fires is tried at least once;
* a destination that is told again and again (Alertmanager) gets the present state of an alert at
  once and then at every interval while it fires; the end is tried for a few intervals, after which
  the alert has ended over there by itself.

Destinations fail on their own: each has its own queue and its own pause, doubled at each failure.
Delivery is at least once: whoever takes over repeats what has no outcome.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Protocol

from autoheal.actions.escalate import FIRING
from autoheal.adapters.alertmanager import RESENDS_UNTIL_END
from autoheal.adapters.delivery import lower_mode
from autoheal.adapters.tenure import News, Tenure, TenureOver
from autoheal.errors import BadRecordError, RemoteError
from autoheal.model import ActionKind, Decision, Mode, Outcome, OutcomeKind
from autoheal.ports import Clock, Entry, Notifier, Store
from autoheal.records import (
    DECISIONS,
    OUTCOMES,
    pack_outcome,
    signature_holds,
    unpack_decision,
    unpack_outcome,
)
from autoheal.telemetry import Telemetry

LEASE = "notifier"
PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 60.0
GIVE_UP_MS = 3_600_000
BATCH_ALERTS_MAX = 100
ROUNDS_MAX = 20
SEEN_MAX = 100_000
NOBODY_TO_TELL = "no Alertmanager or webhook is configured"

log = logging.getLogger(__name__)

Identity = tuple[str, str, str, Mode]


@dataclass(frozen=True, slots=True)
class Destination:
    """Whom to tell: every `resend_s` while an alert fires, or each transition once if None."""

    notifier: Notifier
    resend_s: float | None = None


@dataclass(frozen=True, slots=True)
class Escalation:
    """An alert as people see it: a port's Alert."""

    decision: Decision
    started_ms: int
    ended_ms: int | None = None

    @property
    def identity(self) -> Identity:
        """What stays the same from the beginning to the end."""
        return _identity(self.decision)


def _identity(decision: Decision) -> Identity:
    return decision.rule, decision.service, decision.severity, decision.max_mode


@dataclass(frozen=True, slots=True)
class Transition:
    """One decision, and the alert as it was from then on."""

    decision: Decision
    alert: Escalation


@dataclass(frozen=True, slots=True)
class Delivery:
    """A destination is done with a transition; `failure` tells why it was given up, if it was."""

    decision: str
    failure: str | None = None


class NotifierLoop:
    """The loop. `mode` is how far this process goes; `key` verifies the engine's signatures."""

    def __init__(
        self,
        *,
        store: Store,
        destinations: Sequence[Destination],
        clock: Clock,
        telemetry: Telemetry,
        key: bytes,
        holder: str,
        mode: Mode,
        lease_ttl_s: float = 15.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._key = key
        self._mode = mode
        self._alerts: dict[Identity, Escalation] = {}
        self._seen: dict[str, None] = {}
        self._open: dict[str, _Undelivered] = {}
        self._routes: tuple[_Route, ...] = tuple(
            _Once(each.notifier) if each.resend_s is None else _Again(each.notifier, each.resend_s)
            for each in destinations
        )
        self._tenure = Tenure(
            store,
            clock,
            telemetry,
            name=LEASE,
            holder=holder,
            ttl_s=lease_ttl_s,
            streams=(DECISIONS, OUTCOMES),
            history_ms=None,
        )

    @property
    def is_leader(self) -> bool:
        """Whether this notifier held the lease at its last tick."""
        return self._tenure.is_held

    @property
    def cursors(self) -> Mapping[str, str]:
        """Where reading stands, for `Store.wait`; empty while another notifier is in office."""
        return self._tenure.cursors

    def tick(self) -> None:
        """Take in what is new and tell those who are due. Raises ConnectionError; call again."""
        if not self._tenure.hold():
            return
        try:
            news = self._tenure.read()
            self._fold(news)
            if news.complete:
                self._give_up()
                self._deliver()
        except TenureOver as over:
            log.warning("%s; going on at the next tick", over)

    def stop(self) -> None:
        """Give up the lease, so that a standby goes on at once. Raises ConnectionError."""
        self._tenure.end()

    # Folding the streams

    def _fold(self, news: News) -> None:
        if news.afresh:
            self._alerts, self._seen, self._open = {}, {}, {}
            for route in self._routes:
                route.forget()
        begun = [found for entry in news.entries if (found := self._transition(entry))]
        concluded = {name for entry in news.entries if (name := self._concluded(entry))}
        for transition in begun:
            is_known = transition.decision.id in concluded
            if not is_known:
                undelivered = _Undelivered(transition.decision, set(self._routes))
                self._open[transition.decision.id] = undelivered
            for route in self._routes:
                route.take(transition, is_known=is_known)
        for decision in concluded:
            self._open.pop(decision, None)

    def _transition(self, entry: Entry) -> Transition | None:
        """What an entry begins or ends; None for a forgery, a repetition and anything else."""
        if entry.stream != DECISIONS:
            return None
        try:
            decision = unpack_decision(entry.fields)
        except BadRecordError as error:
            log.warning("decisions entry %s is left out: %s", entry.id, error)
            return None
        if decision.action is not ActionKind.ESCALATE or decision.id in self._seen:
            return None
        if not signature_holds(entry.fields, self._key):
            log.error("escalation %s is left out: its signature does not hold", decision.id)
            return None
        self._seen[decision.id] = None
        if len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        return Transition(decision, self._turned(decision))

    def _turned(self, decision: Decision) -> Escalation:
        """The alert as this decision leaves it."""
        at_ms = decision.decided_at_ms
        identity = _identity(decision)
        before = self._alerts.pop(identity, None)
        if decision.target == FIRING:
            started_ms = at_ms if before is None else before.started_ms
            self._alerts[identity] = Escalation(decision, started_ms)
            return self._alerts[identity]
        if before is None:
            # Its beginning is no longer kept.
            return Escalation(decision, at_ms, at_ms)
        return replace(before, ended_ms=at_ms)

    def _concluded(self, entry: Entry) -> str | None:
        """The decision that an entry gives the final outcome of."""
        if entry.stream != OUTCOMES:
            return None
        try:
            outcome = unpack_outcome(entry.fields)
        except BadRecordError as error:
            log.warning("outcomes entry %s is left out: %s", entry.id, error)
            return None
        return None if outcome.kind is OutcomeKind.UNCONFIRMED else outcome.decision

    # Telling people

    def _give_up(self) -> None:
        """Let go of what came too late, and report what nobody waits for."""
        now_ms = self._store.now_ms()
        firing = {alert.decision.id for alert in self._alerts.values()}
        for route in self._routes:
            self._settle(route, list(route.overdue(now_ms, firing)))
        self._conclude()

    def _deliver(self) -> None:
        """Send what is due, to each destination in turn so that a slow one delays nobody long."""
        for _ in range(ROUNDS_MAX):
            now = self._clock.monotonic()
            due = [(route, batch) for route in self._routes if (batch := route.due(now))]
            for route, batch in due:
                self._tenure.require()
                self._send(route, batch)
            if not due:
                return

    def _send(self, route: _Route, batch: Sequence[Escalation]) -> None:
        name = route.notifier.name
        try:
            route.notifier.send(batch)
        except RemoteError as error:
            log.warning("%s could not be told: %s", name, error)
            self._telemetry.notifications.labels(name, "failed").inc()
            route.failed(self._clock.monotonic(), str(error))
            return
        self._telemetry.notifications.labels(name, "delivered").inc()
        self._settle(route, list(route.delivered(self._clock.monotonic(), batch)))
        self._conclude()

    def _settle(self, route: _Route, done: Sequence[Delivery]) -> None:
        name = route.notifier.name
        for delivery in done:
            if delivery.failure is not None:
                self._telemetry.notifications.labels(name, "dropped").inc()
            if (undelivered := self._open.get(delivery.decision)) is not None:
                undelivered.waiting.discard(route)
                if delivery.failure is not None:
                    undelivered.failures.append(f"{name}: {delivery.failure}")

    def _conclude(self) -> None:
        """Report the outcome of every transition that no destination waits for."""
        for undelivered in [each for each in self._open.values() if not each.waiting]:
            decision = undelivered.decision
            del self._open[decision.id]
            if not self._routes:
                kind, reason = OutcomeKind.WOULD_APPLY, NOBODY_TO_TELL
            elif undelivered.failures:
                kind, reason = OutcomeKind.NOT_APPLIED, "; ".join(undelivered.failures)
            else:
                told = ", ".join(route.notifier.name for route in self._routes)
                kind, reason = OutcomeKind.APPLIED, f"told: {told}"
            self._report(decision, kind, reason)

    def _report(self, decision: Decision, kind: OutcomeKind, reason: str) -> None:
        what = "firing" if decision.target == FIRING else "resolved"
        log.info(
            "%s: %s on %s is %s: %s: %s",
            decision.id,
            decision.rule,
            decision.service_name,
            what,
            kind.value,
            reason,
        )
        mode = lower_mode(decision.max_mode, self._mode)
        outcome = Outcome(decision.id, decision.service, kind, reason, mode)
        self._telemetry.outcomes.labels(kind.value).inc()
        self._tenure.append(OUTCOMES, pack_outcome(outcome))
        self._tenure.flush()


@dataclass(slots=True)
class _Undelivered:
    """A transition without an outcome, and the routes that still have to deliver it."""

    decision: Decision
    waiting: set[_Route]
    failures: list[str] = field(default_factory=list)


class _Pause:
    """How long to leave a destination alone, and why."""

    def __init__(self) -> None:
        self.error = ""
        self._until = 0.0
        self._length_s = PAUSE_S_MIN

    @property
    def words(self) -> str:
        return f"given up: {self.error or 'found too late'}"

    def is_over(self, now: float) -> bool:
        return now >= self._until

    def begin(self, now: float, error: str) -> None:
        self.error = error
        self._until = now + self._length_s
        self._length_s = min(2 * self._length_s, PAUSE_S_MAX)

    def end(self) -> None:
        self.error, self._until, self._length_s = "", 0.0, PAUSE_S_MIN


class _Route(Protocol):
    """What one destination has yet to be told. `now` is monotonic, `now_ms` the store's time."""

    notifier: Notifier

    def forget(self) -> None:
        """History begins anew."""
        ...

    def take(self, transition: Transition, *, is_known: bool) -> None:
        """Take up a transition; `is_known` when it was delivered in an earlier life."""
        ...

    def overdue(self, now_ms: int, firing: AbstractSet[str]) -> Iterator[Delivery]:
        """Give up what is too old. `firing` are the decisions behind the active alerts."""
        ...

    def due(self, now: float) -> Sequence[Escalation]:
        """What to send now."""
        ...

    def delivered(self, now: float, batch: Sequence[Escalation]) -> Iterator[Delivery]:
        """It was sent."""
        ...

    def failed(self, now: float, error: str) -> None:
        """It was not: leave the destination alone for a while."""
        ...


class _Once:
    """Each transition once, in order."""

    def __init__(self, notifier: Notifier) -> None:
        self.notifier = notifier
        self._pause = _Pause()
        self._queue: deque[Transition] = deque()

    def forget(self) -> None:
        self._queue.clear()

    def take(self, transition: Transition, *, is_known: bool) -> None:
        if not is_known:
            self._queue.append(transition)

    def overdue(self, now_ms: int, firing: AbstractSet[str]) -> Iterator[Delivery]:
        while self._queue and now_ms - self._queue[0].decision.decided_at_ms >= GIVE_UP_MS:
            decision = self._queue[0].decision.id
            if decision in firing and not self._pause.error:
                return
            self._queue.popleft()
            yield Delivery(decision, self._pause.words)

    def due(self, now: float) -> Sequence[Escalation]:
        return (self._queue[0].alert,) if self._queue and self._pause.is_over(now) else ()

    def delivered(self, now: float, batch: Sequence[Escalation]) -> Iterator[Delivery]:
        del now, batch
        self._pause.end()
        yield Delivery(self._queue.popleft().decision.id)

    def failed(self, now: float, error: str) -> None:
        self._pause.begin(now, error)


@dataclass(slots=True)
class _Told:
    """The present state of one alert, and the transitions that its next delivery settles."""

    alert: Escalation
    pending: list[str] = field(default_factory=list)
    again_at: float = 0.0


class _Again:
    """The present state of each alert, at once and then every `resend_s` while it fires."""

    def __init__(self, notifier: Notifier, resend_s: float) -> None:
        if resend_s <= 0:
            raise ValueError("the interval between repetitions must be positive")
        self.notifier = notifier
        self._resend_s = resend_s
        self._pause = _Pause()
        self._told: dict[Identity, _Told] = {}

    def forget(self) -> None:
        self._told.clear()

    def take(self, transition: Transition, *, is_known: bool) -> None:
        alert = transition.alert
        told = self._told.setdefault(alert.identity, _Told(alert))
        told.alert, told.again_at = alert, 0.0
        if not is_known:
            told.pending.append(transition.decision.id)
        elif alert.ended_ms is not None and not told.pending:
            del self._told[alert.identity]

    def overdue(self, now_ms: int, firing: AbstractSet[str]) -> Iterator[Delivery]:
        del firing
        long_ms = RESENDS_UNTIL_END * self._resend_s * 1000
        for identity, told in list(self._told.items()):
            ended_ms = told.alert.ended_ms
            if ended_ms is not None and now_ms - ended_ms >= long_ms:
                del self._told[identity]
                yield from (Delivery(name, self._pause.words) for name in told.pending)

    def due(self, now: float) -> Sequence[Escalation]:
        if not self._pause.is_over(now):
            return ()
        due = [told.alert for told in self._told.values() if now >= told.again_at]
        return due[:BATCH_ALERTS_MAX]

    def delivered(self, now: float, batch: Sequence[Escalation]) -> Iterator[Delivery]:
        self._pause.end()
        for alert in batch:
            told = self._told[alert.identity]
            yield from map(Delivery, told.pending)
            told.pending, told.again_at = [], now + self._resend_s
            if alert.ended_ms is not None:
                del self._told[alert.identity]

    def failed(self, now: float, error: str) -> None:
        self._pause.begin(now, error)
