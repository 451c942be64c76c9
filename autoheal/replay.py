"""Recorded ticks decided again, from the streams alone.

Each recorded tick names the `now` of its cut, where its engine had begun to read, the rules and the
limits; everything else that `decide` looks at is in the streams. What comes out must be, byte for
byte, what was recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoheal import records
from autoheal.core.decision.decide import decide
from autoheal.core.state import State
from autoheal.core.view.fold import Fold
from autoheal.engine import Packed, kept_limits, kept_rules
from autoheal.errors import UserError
from autoheal.model import TickRecord
from autoheal.ports import Entry, Store


@dataclass(frozen=True, slots=True)
class Repeated:
    """One tick as recorded and as decided again: canonical decisions, digest of the state."""

    tick: TickRecord
    recorded: tuple[bytes, ...]
    repeated: tuple[bytes, ...]
    state_digest: str

    @property
    def agrees(self) -> bool:
        """Whether both say the same, to the byte."""
        return self.recorded == self.repeated and self.state_digest == self.tick.state_digest


class _Life:
    """One engine's life: its rules, its limits, and its fold, taken forward tick by tick."""

    def __init__(self, store: Store, tick: TickRecord, inputs: Sequence[Entry]) -> None:
        self.identity = _identity(tick)
        self.rules = kept_rules(store, tick.rule_set)
        self.limits = kept_limits(store, tick.limits)
        self._inputs = [entry for entry in inputs if entry.ms >= tick.since_ms]
        self._position = 0
        self._fold = Fold(self.rules, self.limits)

    def fold(self, now_ms: int) -> Fold:
        """The fold of everything before `now_ms`."""
        while self._position < len(self._inputs) and self._inputs[self._position].ms < now_ms:
            entry = self._inputs[self._position]
            self._fold.fold(entry.stream, entry.ms, entry.at_ms, entry.fields)
            self._position += 1
        return self._fold


def repeat(store: Store) -> Iterator[Repeated]:
    """Every recorded tick, from the first one. Raises UserError where the streams do not reach."""
    entries = (
        store.reader((*Fold.STREAMS, records.TICKS, records.DECISIONS), since_ms=0).cut().entries
    )
    ticks = [records.unpack_tick(e.fields) for e in entries if e.stream == records.TICKS]
    inputs = [entry for entry in entries if entry.stream in Fold.STREAMS]
    recorded = _by_tick(entries)
    state, packed = State(), Packed()
    life: _Life | None = None
    for tick in ticks:
        if tick.number != state.tick + 1:
            raise UserError(f"tick {state.tick + 1} is not in the store: its memory begins later")
        if life is None or life.identity != _identity(tick):
            life = _Life(store, tick, inputs)
        fold = life.fold(tick.now_ms)
        snapshot = fold.snapshot(now_ms=tick.now_ms, since_ms=state.now_ms, epoch=tick.epoch)
        fold.forget(tick.now_ms)
        verdicts = decide(life.rules, life.limits, state, snapshot, tick.now_ms)
        state = verdicts.state
        packed.changes(state)
        repeated = tuple(records.decision_body(decision) for decision in verdicts.decisions)
        yield Repeated(tick, recorded.get(tick.number, ()), repeated, packed.digest(state))


def _identity(tick: TickRecord) -> tuple[int, int, str, str]:
    return tick.epoch, tick.since_ms, tick.rule_set, tick.limits


def _by_tick(entries: Sequence[Entry]) -> dict[int, tuple[bytes, ...]]:
    bodies: dict[int, tuple[bytes, ...]] = {}
    for entry in entries:
        if entry.stream == records.DECISIONS:
            number = records.unpack_decision(entry.fields).tick
            bodies[number] = (*bodies.get(number, ()), entry.fields["body"])
    return bodies
