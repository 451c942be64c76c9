"""The engine: folds the streams, decides, commits. It has no access to Docker.

Every engine folds; the one that holds the lease also decides. A tick is a cut of the streams: its
`now` and the entries before it determine it, so the record of its `now` is enough to repeat it.
State, decisions and the tick record are committed together under the lease's epoch, or not at all;
a commit whose reply was lost is settled by asking again before anything else is decided.

A store whose clock jumps, that is another one than before, or that went back in time is not
trusted: the engine then decides nothing for one window, and says so.

Other rules take over between two ticks. What they look back on is folded beforehand, beside the
ticks, so that no decision waits for it and none is made on half of it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from autoheal import records, rulefile
from autoheal.core.decision.decide import Verdicts, decide
from autoheal.core.limits import Limits
from autoheal.core.rule import RuleSet
from autoheal.core.state import OVERALL_FIELD, ServiceState, State, pack_overall, pack_service
from autoheal.core.state import unpack as unpack_state
from autoheal.core.view.fold import ENDED_TASKS_KEPT_MS, Fold
from autoheal.core.view.window import SPARE_SLOTS
from autoheal.errors import AutohealError, BadRecordError, UserError
from autoheal.model import Incident, IncidentEnd, TickRecord
from autoheal.ports import Clock, Cut, Entry, Lease, Store, Write
from autoheal.telemetry import Telemetry
from autoheal.units import format_duration

LEASE = "engine"
CLOCK_JUMP_MS = 5_000
# Small steps add up against the same anchor; honest drift must not.
ANCHOR_S = 60.0
# A fold must reach back past the oldest slot far enough to meet a roster and an inventory keyframe.
KEYFRAME_MARGIN_MS = 6 * 60_000
# What is folded at a stretch of the past that other rules look back on: some tenths of a second.
PIECE_ENTRIES = 2_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The rules in force and the texts they were read from, by file name."""

    rules: RuleSet
    texts: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class _Anchor:
    """A cut whose time was trusted: our monotonic seconds around it, and its `now`."""

    before: float
    after: float
    now_ms: int


@dataclass(slots=True)
class _Commit:
    """A commit that may have happened or not."""

    verdicts: Verdicts
    state: Mapping[str, bytes | None]
    writes: tuple[Write, ...]
    packed: Packed


class _Past:
    """The recent past as far as one set of rules looks back: its fold and what that has read.

    `since_ms` is where it begins.
    """

    def __init__(self, store: Store, rulebook: Rulebook, limits: Limits, decided_ms: int) -> None:
        self.rulebook = rulebook
        since_ms = store.now_ms() - reach_ms(rulebook.rules, limits)
        # What became of the last decisions is news, however long nobody was there to read it.
        self.since_ms = max(0, min(since_ms, decided_ms or since_ms))
        self.fold = Fold(rulebook.rules, limits)
        self.reader = store.reader(Fold.STREAMS, since_ms=self.since_ms)
        self._unfolded: deque[Entry] = deque()
        self._is_waiting = False

    def catch_up(self) -> bool:
        """Fold one piece; whether that was all there is. Raises ConnectionError; call again."""
        cut = None if self._unfolded else self.reader.cut()
        if cut is not None:
            self._unfolded.extend(cut.entries)
        is_all = cut is not None and len(self._unfolded) <= PIECE_ENTRIES
        for _ in range(min(PIECE_ENTRIES, len(self._unfolded))):
            entry = self._unfolded.popleft()
            # One that cannot be read has been told of by the fold that the ticks rest on.
            self.fold.fold(entry.stream, entry.ms, entry.at_ms, entry.fields)
        # Only while it waits, and ticks decide: before, what nobody decided on yet may be in it.
        if cut is not None and is_all and self._is_waiting:
            self.fold.forget(cut.now_ms)
        return is_all

    def tell_of_waiting(self) -> None:
        """Say, once, why nothing can be decided on this yet."""
        if not self._is_waiting:
            self._is_waiting = True
            log.warning("the new rules wait for a whole inventory: the store holds no recent one")


class Packed:
    """What a state was when it was last packed, so that a tick packs and writes only changes."""

    def __init__(self, state: State | None = None) -> None:
        self._services: dict[str, ServiceState] = {}
        self._digests: dict[str, str] = {}
        if state is not None:
            self.changes(state)

    def changes(self, state: State) -> dict[str, bytes | None]:
        """The fields that differ from the last state seen; None for those that are gone."""
        changed: dict[str, bytes | None] = {}
        for service, value in state.services.items():
            if self._services.get(service) != value:
                packed = changed[service] = pack_service(value)
                self._digests[service] = records.digest(packed)
        for service in self._services.keys() - state.services.keys():
            changed[service] = None
            del self._digests[service]
        self._services = dict(state.services)
        return changed

    def digest(self, state: State) -> str:
        """A digest of the whole state."""
        lines = [f"{service} {digest}" for service, digest in sorted(self._digests.items())]
        return records.digest("\n".join([pack_overall(state).decode(), *lines]).encode())

    def copy(self) -> Packed:
        """An independent copy."""
        copy = Packed()
        copy._services = dict(self._services)
        copy._digests = dict(self._digests)
        return copy


class Engine:
    """One engine; `tick()` once per step and when something happened."""

    def __init__(
        self,
        *,
        store: Store,
        rulebook: Rulebook,
        limits: Limits,
        key: bytes,
        clock: Clock,
        telemetry: Telemetry,
        holder: str,
        lease_ttl_s: float,
    ) -> None:
        self._store = store
        self._rulebook = rulebook
        self._past: _Past | None = None
        self._limits = limits
        self._key = key
        self._clock = clock
        self._telemetry = telemetry
        self._holder = holder
        self._lease_ttl_s = lease_ttl_s
        self._limits_text = records.canonical(dataclasses.asdict(limits))
        self._lease: Lease | None = None
        self._state: State | None = None
        self._packed = Packed()
        self._pending: _Commit | None = None
        self._sequence = 0
        self._anchor: _Anchor | None = None
        self._run_id: str | None = None
        self._rules_kept = False
        self._silent_until_ms = 0
        self._spoilt: set[str] = set()
        # Another thread leaves here what the next tick is to rest on.
        self._prepared: deque[_Past] = deque(maxlen=1)
        # What only that thread looks at.
        self._coming: _Past | None = None
        self._taken = rulebook.rules.hash
        telemetry.rules.set(len(rulebook.rules.rules))

    @property
    def cursors(self) -> Mapping[str, str]:
        """What has been read, for waiting for more."""
        return {} if self._past is None else self._past.reader.cursors

    @property
    def is_leader(self) -> bool:
        """Whether this engine held the lease at its last tick."""
        return self._lease is not None

    @property
    def is_ready(self) -> bool:
        """Whether a whole inventory has been read."""
        return self._past is not None and self._past.fold.ready

    def take(self, rulebook: Rulebook) -> bool:
        """Have these rules in force from the next tick on. For one thread beside the ticking one.

        False: call again, and more of the past that they look back on will have been folded; the
        rules in force stay till then. Raises ConnectionError and UserError; they stay then too.
        """
        if rulebook.rules.hash == self._taken:
            self._coming = None
            return True
        coming = self._coming
        if coming is None or coming.rulebook.rules.hash != rulebook.rules.hash:
            decided_ms = kept_state(self._store).now_ms
            coming = self._coming = _Past(self._store, rulebook, self._limits, decided_ms)
        if not coming.catch_up():
            return False
        if self.is_ready and not coming.fold.ready:
            coming.tell_of_waiting()
            return False
        self._prepared.append(coming)
        self._coming = None
        self._taken = rulebook.rules.hash
        return True

    def drop(self) -> None:
        """Keep nothing of rules that `take` has not put in force yet. For the thread of `take`."""
        self._coming = None

    def tick(self) -> None:
        """Fold what is new and, as the leader, decide. Raises ConnectionError; call again then."""
        self._lead()
        before = self._clock.monotonic()
        past = self._newest_past()
        cut = past.reader.cut()
        silent = self._is_silent(cut, before, self._clock.monotonic())
        for entry in cut.entries:
            spoilt = past.fold.fold(entry.stream, entry.ms, entry.at_ms, entry.fields)
            if spoilt is not None:
                self._pass_over(entry.stream, spoilt)
        try:
            if self._lease is not None and past.fold.ready and not silent:
                self._decide(past, self._lease, cut.now_ms)
        finally:
            past.fold.forget(cut.now_ms)

    def _pass_over(self, stream: str, why: str) -> None:
        """Tell of an entry that cannot be read: in the log once per stream, there may be many."""
        self._telemetry.bad_entries.labels(stream).inc()
        if stream not in self._spoilt:
            self._spoilt.add(stream)
            log.warning("%s: entries of another version are passed over: %s", stream, why)

    def _decide(self, past: _Past, lease: Lease, now_ms: int) -> None:
        if self._pending is not None and not self._commit(self._pending):
            return
        state = self._load()
        if now_ms < state.now_ms - CLOCK_JUMP_MS:
            behind = format_duration((state.now_ms - now_ms) // 1000 * 1000)
            raise AutohealError(
                f"the store's clock is {behind} behind the last tick: waiting for it"
            )
        if now_ms <= state.now_ms:
            return
        self._keep_rules()
        snapshot = past.fold.snapshot(now_ms=now_ms, since_ms=state.now_ms, epoch=lease.epoch)
        verdicts = decide(past.rulebook.rules, self._limits, state, snapshot, now_ms)
        self._commit(self._prepare(verdicts, past.since_ms))

    def stop(self) -> None:
        """Give up the lease, so that a standby goes on at once. Raises ConnectionError."""
        if self._lease is not None:
            self._store.release(self._lease)
            self._step_down()

    # the lease

    def _lead(self) -> None:
        """Gain, keep or notice the loss of the lease."""
        if self._lease is not None:
            renewed = self._store.renew(self._lease, self._lease_ttl_s)
            if renewed is None:
                self._lead_lost("the lease was lost")
            self._lease = renewed
        if self._lease is None:
            self._lease = self._store.acquire(LEASE, self._holder, self._lease_ttl_s)
            if self._lease is not None:
                log.info("leading, epoch %d", self._lease.epoch)
                self._rules_kept = False
        self._telemetry.leader.labels(LEASE).set(0 if self._lease is None else 1)

    def _lead_lost(self, why: str) -> None:
        log.warning("no longer leading: %s", why)
        self._step_down()

    def _step_down(self) -> None:
        """Forget what only a leader may hold: the next one goes on from the store."""
        self._lease = None
        self._state = None
        self._pending = None
        self._telemetry.leader.labels(LEASE).set(0)
        self._tell_state(State())

    def _keep_rules(self) -> None:
        """Keep the rules' texts and the limits before the first tick that rests on them."""
        if self._rules_kept:
            return
        self._store.put(f"limits:{records.digest(self._limits_text)}", self._limits_text)
        texts = {name: text.decode() for name, text in sorted(self._rulebook.texts.items())}
        self._store.put(f"rules:{self._rulebook.rules.hash}", records.canonical(texts))
        self._rules_kept = True

    def _load(self) -> State:
        """The state to go on from: what the last leader committed."""
        if self._state is None:
            self._state = self._stored()
            self._packed = Packed(self._state)
        return self._state

    def _stored(self) -> State:
        """What the store holds; whoever cannot read it must not keep others from leading."""
        try:
            return kept_state(self._store)
        except UserError:
            self.stop()
            raise

    # reading

    def _newest_past(self) -> _Past:
        """What this tick rests on: rules that were taken since the last one take over."""
        if self._prepared:
            self._past = self._prepared.pop()
            self._rulebook = self._past.rulebook
            self._rules_kept = False
            self._telemetry.rules.set(len(self._rulebook.rules.rules))
        if self._past is None:
            decided_ms = self._stored().now_ms
            self._past = _Past(self._store, self._rulebook, self._limits, decided_ms)
        return self._past

    def _is_silent(self, cut: Cut, before: float, after: float) -> bool:
        """Whether the store's clock or identity gives reason not to decide now.

        `before` and `after` are our monotonic times around the cut.
        """
        reason = self._distrust(cut, before, after)
        if reason is not None:
            window_ms = max(self._rulebook.rules.longest_window_ms, self._limits.step_ms)
            self._silent_until_ms = cut.now_ms + window_ms
            log.error("%s: deciding nothing for %s", reason, format_duration(window_ms))
        anchor = self._anchor
        if anchor is None or reason is not None or before - anchor.after > ANCHOR_S:
            self._anchor = _Anchor(before, after, cut.now_ms)
        self._run_id = cut.run_id
        return cut.now_ms < self._silent_until_ms

    def _distrust(self, cut: Cut, before: float, after: float) -> str | None:
        """A reader's `now` never goes back: a clock that did shows as one that stands still."""
        if self._run_id not in (None, cut.run_id):
            return "the store was restarted or replaced"
        if self._anchor is None:
            return None
        passed_ms = cut.now_ms - self._anchor.now_ms
        at_least_ms = (before - self._anchor.after) * 1000
        at_most_ms = (after - self._anchor.before) * 1000
        if passed_ms < at_least_ms - CLOCK_JUMP_MS:
            return f"the store's clock went back by {at_least_ms - passed_ms:.0f} ms"
        if passed_ms > at_most_ms + CLOCK_JUMP_MS:
            return f"the store's clock jumped ahead by {passed_ms - at_most_ms:.0f} ms"
        return None

    # committing

    def _prepare(self, verdicts: Verdicts, since_ms: int) -> _Commit:
        """Everything one tick writes."""
        packed = self._packed.copy()
        fields = packed.changes(verdicts.state)
        fields[OVERALL_FIELD] = pack_overall(verdicts.state)
        record = TickRecord(
            number=verdicts.state.tick,
            now_ms=verdicts.state.now_ms,
            since_ms=since_ms,
            epoch=verdicts.state.epoch,
            rule_set=verdicts.state.rule_set,
            limits=records.digest(self._limits_text),
            state_digest=packed.digest(verdicts.state),
            decisions=len(verdicts.decisions),
        )
        taken = self._clock.monotonic()
        entries = [(records.TICKS, records.pack_tick(record))]
        entries += [
            (records.DECISIONS, records.pack_decision(d, self._key)) for d in verdicts.decisions
        ]
        entries += [(records.INCIDENTS, records.pack_incident(i)) for i in verdicts.incidents]
        writes = []
        for stream, entry in entries:
            self._sequence += 1
            writes.append(Write(stream, entry, self._sequence, taken))
        return _Commit(verdicts, fields, tuple(writes), packed)

    def _commit(self, commit: _Commit) -> bool:
        """Write it, or find out that it was written. False: another engine leads."""
        if self._lease is None:
            return False
        self._pending = commit
        done = self._store.commit(
            self._lease, state=commit.state, marker=OVERALL_FIELD, writes=commit.writes
        )
        self._pending = None
        if not done:
            self._lead_lost("a newer epoch began")
            return False
        self._state = commit.verdicts.state
        self._packed = commit.packed
        self._tell(commit.verdicts)
        return True

    def _tell(self, verdicts: Verdicts) -> None:
        """Metrics, and one line per decision and per incident that is over."""
        for decision in verdicts.decisions:
            self._telemetry.decisions.labels(decision.action, decision.max_mode).inc()
            log.info("%s: %s [%s]", decision.service_name, decision.reason, decision.max_mode)
        for held in verdicts.held:
            self._telemetry.held.labels(held.guard).inc()
        for incident in verdicts.incidents:
            if incident.end != IncidentEnd.OPEN:
                log.info("%s: %s", incident.service_name, _in_words(incident))
                self._measure(incident)
        self._tell_state(verdicts.state)

    def _measure(self, incident: Incident) -> None:
        """Count an incident that is over, and the times it took, in seconds."""
        telemetry = self._telemetry
        telemetry.incidents.labels(incident.end).inc()
        for histogram, at_ms in (
            (telemetry.time_to_detect, incident.detected_ms),
            (telemetry.time_to_act, incident.acted_ms),
            (telemetry.time_to_recover, incident.recovered_ms),
        ):
            if at_ms is not None:
                histogram.observe((at_ms - incident.opened_ms) / 1000)

    def _tell_state(self, state: State) -> None:
        """What only the leader knows; of a state that is empty, nothing is the matter."""
        order = {"closed": 0, "half-open": 1, "open": 2}
        self._telemetry.breaker_open.set(order[state.breaker.circuit])
        quarantined = sum(len(service.quarantined) for service in state.services.values())
        self._telemetry.quarantined.set(quarantined)
        self._telemetry.outage.set(0 if state.outage_ms is None else 1)


def _in_words(incident: Incident) -> str:
    """An incident that is over, in one line; times are from the first evidence on."""
    times = (
        ("detected", incident.detected_ms),
        ("acted", incident.acted_ms),
        ("told", incident.escalated_ms),
        ("recovered", incident.recovered_ms),
    )
    took = [
        f"{what} after {format_duration((at_ms - incident.opened_ms) // 1000 * 1000)}"
        for what, at_ms in times
        if at_ms is not None
    ]
    if incident.recovered_ms is None:
        took.append("the service was removed or switched off")
    return f"incident {incident.end}: {incident.evidence}: {', '.join(took)}"


def reach_ms(rules: RuleSet, limits: Limits) -> int:
    """How far back a fold must begin to be whole: the windows, and a keyframe before them."""
    # A rule may look back on nodes that were saturated, each instant of which is a mean itself.
    sampled_ms = rules.longest_window_ms + limits.saturated_window_ms
    window_ms = max(sampled_ms, rules.longest_source_window_ms) + SPARE_SLOTS * limits.step_ms
    harm_ms = max(limits.outage_window_ms, limits.recovery_ms)
    happened_ms = max(rules.longest_event_window_ms, harm_ms, ENDED_TASKS_KEPT_MS)
    return max(window_ms, happened_ms) + KEYFRAME_MARGIN_MS


def kept_state(store: Store) -> State:
    """The state that was committed last. Raises UserError if another version wrote it."""
    try:
        return unpack_state(store.state())
    except BadRecordError as error:
        raise UserError(
            f"another version of autoheal wrote the state in this store ({error}): run that one, or"
            " delete the key ah:state, and cooldowns, limits and quarantines start anew"
        ) from error


def kept_rules(store: Store, name: str) -> RuleSet:
    """The rules that an engine kept under this hash.

    Raises UserError if they are gone, or mean something else here.
    """
    texts = records.parse(_kept(store, f"rules:{name}"))
    rules = rulefile.parse({file: text.encode() for file, text in texts.items()})
    if rules.hash != name:
        raise UserError(
            f"the rules {name} read differently now: another version of autoheal, or other time"
            " zone data"
        )
    return rules


def kept_limits(store: Store, name: str) -> Limits:
    """The limits that an engine kept under this digest.

    Raises UserError if they are gone, or are those of another version.
    """
    try:
        return Limits(**records.parse(_kept(store, f"limits:{name}")))
    except TypeError as error:
        raise UserError(f"another version of autoheal kept the limits {name}: {error}") from error


def _kept(store: Store, key: str) -> bytes:
    value = store.get(key)
    if value is None:
        raise UserError(f"the store no longer has {key}: nothing older can be repeated")
    return value
