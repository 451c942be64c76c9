"""The breaker makes only the moves of its table, and lets one probe through at a time."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from autoheal.core.breaker import TRANSITIONS, Breaker, Circuit, Signal
from autoheal.core.state import State, pack_overall, unpack

LIMIT = 3
COOL_OFF = 100
LEGAL = {
    (Circuit.CLOSED, Circuit.OPEN),
    (Circuit.OPEN, Circuit.HALF_OPEN),
    (Circuit.HALF_OPEN, Circuit.CLOSED),
    (Circuit.HALF_OPEN, Circuit.OPEN),
}


def test_the_table_holds_the_legal_moves_and_no_other() -> None:
    assert {(start, end) for (start, _), end in TRANSITIONS.items()} == LEGAL
    assert len(TRANSITIONS) == 4
    assert TRANSITIONS[Circuit.HALF_OPEN, Signal.SUCCESS] is Circuit.CLOSED


@pytest.mark.parametrize(
    ("failures", "circuit"), [(2, Circuit.CLOSED), (3, Circuit.OPEN), (4, Circuit.OPEN)]
)
def test_failures_in_a_row_open_it(failures: int, circuit: Circuit) -> None:
    breaker = Breaker()
    for number in range(failures):
        breaker = breaker.failed("d", 10 + number, LIMIT)
    assert breaker.circuit is circuit
    assert breaker.opened_ms == (12 if circuit is Circuit.OPEN else 0)


def test_a_success_starts_the_count_over() -> None:
    breaker = Breaker().failed("d", 1, LIMIT).failed("d", 2, LIMIT).succeeded()
    assert breaker.failed("d", 3, LIMIT).circuit is Circuit.CLOSED


@pytest.mark.parametrize(
    ("after_ms", "circuit"),
    [(99, Circuit.OPEN), (100, Circuit.HALF_OPEN), (101, Circuit.HALF_OPEN)],
)
def test_it_is_half_open_after_the_cool_off(after_ms: int, circuit: Circuit) -> None:
    breaker = Breaker(Circuit.OPEN, LIMIT, opened_ms=1000)
    assert breaker.at(1000 + after_ms, COOL_OFF).circuit is circuit
    assert not breaker.admits


def test_half_open_admits_one_probe() -> None:
    half_open = Breaker(Circuit.HALF_OPEN, LIMIT)
    assert half_open.admits
    assert not half_open.sent("probe").admits
    assert half_open.sent("probe").abandoned("probe").admits


def test_only_the_end_of_the_probe_itself_admits_another() -> None:
    probing = Breaker(Circuit.HALF_OPEN, LIMIT).sent("probe")
    assert not probing.abandoned("earlier").admits
    reopened = probing.failed("earlier", 5, LIMIT).at(5 + COOL_OFF, COOL_OFF)
    assert (reopened.circuit, reopened.admits) == (Circuit.HALF_OPEN, False)
    reopened = probing.failed("probe", 5, LIMIT).at(5 + COOL_OFF, COOL_OFF)
    assert (reopened.circuit, reopened.admits) == (Circuit.HALF_OPEN, True)


def test_sending_means_nothing_to_a_closed_breaker() -> None:
    assert Breaker().sent("d") == Breaker()


class BreakerMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, with a restart anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now_ms = 0
        self.in_flight: list[str] = []
        self.sent = 0
        self.probes: set[str] = set()

    def become(self, breaker: Breaker) -> None:
        move = (self.breaker.circuit, breaker.circuit)
        assert move[0] is move[1] or move in LEGAL
        self.breaker = breaker

    @rule(after_ms=st.integers(0, 150))
    def time_passes(self, after_ms: int) -> None:
        self.now_ms += after_ms
        self.become(self.breaker.at(self.now_ms, COOL_OFF))

    @precondition(lambda self: self.breaker.admits)
    @rule()
    def an_action_is_sent(self) -> None:
        self.sent += 1
        name = f"d{self.sent}"
        if self.breaker.circuit is Circuit.HALF_OPEN:
            self.probes.add(name)
        self.in_flight.append(name)
        self.become(self.breaker.sent(name))

    def ended(self, data: st.DataObject) -> str:
        name = data.draw(st.sampled_from(self.in_flight))
        self.in_flight.remove(name)
        self.probes.discard(name)
        return name

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def one_succeeds(self, data: st.DataObject) -> None:
        self.ended(data)
        self.probes.clear()
        self.become(self.breaker.succeeded())

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def one_fails(self, data: st.DataObject) -> None:
        self.become(self.breaker.failed(self.ended(data), self.now_ms, LIMIT))

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def one_tells_nothing(self, data: st.DataObject) -> None:
        self.become(self.breaker.abandoned(self.ended(data)))

    @rule()
    def the_engine_restarts(self) -> None:
        self.become(unpack({"_": pack_overall(State(breaker=self.breaker))}).breaker)

    @invariant()
    def an_open_breaker_admits_nothing_and_a_half_open_one_probe(self) -> None:
        assert not (self.breaker.circuit is Circuit.OPEN and self.breaker.admits)
        assert len(self.probes) <= 1


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
