"""What a container does: memory, CPU, orders, its end, its health."""

from __future__ import annotations

from typing import Any

import pytest

from autoheal.sim.container import BURN_CORES, Container, Health, Limits, Sign
from autoheal.sim.program import Order, Orders, Program, release_of
from autoheal.sim.spec import service_spec
from sim.worlds import MIB, NANO, SECOND, change

LIMIT = 256 * MIB


class Alone:
    """A container without a Swarm, and its time."""

    def __init__(
        self,
        program: Program | None = None,
        **spec: Any,  # noqa: ANN401  # as service_spec takes it
    ) -> None:
        self.orders = Orders()
        self.now_ms = 0
        template = spec.pop("template", None) or service_spec("web", **spec)["TaskTemplate"]
        self.it = Container("c1", template, program or Program(), self.orders, self.now_ms)

    def health(self) -> Health:
        return self.it.health

    def lives(self, seconds: float, share: float = 0.0, step_ms: int = SECOND) -> list[Sign]:
        told: list[Sign] = []
        for _ in range(round(seconds * SECOND / step_ms)):
            self.now_ms += step_ms
            wanted = self.it.wants_cores(self.now_ms, share)
            told += self.it.live(self.now_ms, step_ms, wanted, self.it.allowed_cores(wanted))
        return told


# Limits


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (None, Limits(None, None)),
        ({}, Limits(None, None)),
        ({"NanoCPUs": 0, "MemoryBytes": 0}, Limits(None, None)),
        ({"NanoCPUs": NANO // 4}, Limits(0.25, None)),
        ({"MemoryBytes": MIB}, Limits(None, MIB)),
    ],
)
def test_a_limit_of_0_is_none(limits: dict[str, int] | None, expected: Limits) -> None:
    assert Limits.of({"Resources": {"Limits": limits}}) == expected
    assert Limits.of({}) == Limits(None, None)


# CPU


def test_it_uses_its_share_of_the_load_up_to_its_limit() -> None:
    alone = Alone(cpus=0.5)
    alone.lives(10, share=0.3)
    assert alone.it.cpu_seconds == pytest.approx(3.0)
    assert alone.it.throttled_seconds == 0
    alone.lives(10, share=2.0)
    assert alone.it.cpu_seconds == pytest.approx(3.0 + 5.0)
    # Time in which it was stopped, not what it lacked.
    assert alone.it.throttled_seconds == 10


def test_without_a_limit_nothing_is_throttled() -> None:
    alone = Alone(cpus=None)
    alone.lives(10, share=3.0)
    assert alone.it.cpu_seconds == pytest.approx(30.0)
    assert alone.it.throttled_seconds == 0


def test_until_it_has_started_up_it_burns_and_serves_nobody() -> None:
    alone = Alone(Program(start_up_ms=5_000, start_up_cores=0.4))
    alone.lives(4, share=0.1)
    assert not alone.it.serves(alone.now_ms)
    assert alone.it.cpu_seconds == pytest.approx(4 * 0.4)
    alone.lives(1, share=0.1)
    assert alone.it.serves(alone.now_ms)
    assert alone.it.cpu_seconds == pytest.approx(4 * 0.4 + 0.1)


@pytest.mark.parametrize(("cpus", "cores"), [(0.5, 0.5), (None, BURN_CORES)])
def test_told_to_burn_it_takes_what_it_may(cpus: float | None, cores: float) -> None:
    alone = Alone(cpus=cpus)
    alone.orders.give(Order.BURN)
    alone.lives(2)
    assert alone.it.cpu_seconds == pytest.approx(2 * cores)


def test_idle_it_serves_nobody_and_lives() -> None:
    alone = Alone()
    alone.orders.give(Order.IDLE)
    alone.lives(5, share=0.2)
    assert (alone.it.cpu_seconds, alone.it.is_alive) == (0, True)
    assert not alone.it.serves(alone.now_ms)
    alone.orders.relieve(Order.IDLE)
    assert alone.it.serves(alone.now_ms)


# Memory


@pytest.mark.parametrize(
    ("held", "survives"), [(LIMIT - 1, True), (LIMIT, True), (LIMIT + 1, False)]
)
def test_it_is_killed_for_the_first_byte_above_its_limit(held: int, *, survives: bool) -> None:
    alone = Alone(Program(memory=held), memory=LIMIT)
    told = alone.lives(1)
    assert alone.it.is_alive is survives
    assert told == ([] if survives else [Sign.OOM_KILLED])
    assert alone.it.exit_code == (None if survives else 137)
    assert alone.it.memory == min(held, LIMIT)
    assert not alone.it.is_stopped


def test_without_a_limit_it_may_hold_anything() -> None:
    alone = Alone(Program(memory=2**50), memory=None)
    alone.orders.give(Order.JOB, 2**50)
    assert alone.lives(10) == []
    assert alone.it.is_alive


def test_memory_goes_with_the_cores_in_use() -> None:
    alone = Alone(Program(memory=10 * MIB, memory_per_core=100 * MIB), cpus=None)
    alone.lives(1, share=0.5)
    assert alone.it.memory == 60 * MIB
    alone.lives(1)
    assert alone.it.memory == 10 * MIB


def test_a_leak_goes_on_for_as_long_as_it_is_ordered_and_is_never_given_back() -> None:
    alone = Alone(Program(memory=0), memory=LIMIT)
    alone.orders.give(Order.LEAK, MIB)
    alone.lives(10)
    alone.orders.relieve(Order.LEAK)
    alone.lives(10)
    assert alone.it.memory == 10 * MIB
    alone.orders.give(Order.LEAK, MIB)
    assert alone.lives(246) == []
    assert alone.lives(1) == [Sign.OOM_KILLED]


def test_what_fills_it_is_given_back() -> None:
    alone = Alone(Program(memory=MIB), memory=LIMIT)
    alone.orders.give(Order.FILL, LIMIT - MIB)
    alone.lives(1)
    assert alone.it.memory == LIMIT
    alone.orders.relieve(Order.FILL)
    alone.lives(1)
    assert alone.it.memory == MIB


@pytest.mark.parametrize(("needed", "kills"), [(LIMIT - MIB, 0), (LIMIT - MIB + 1, 5)])
def test_a_job_that_needs_too_much_is_killed_every_other_second_and_it_lives_on(
    needed: int, kills: int
) -> None:
    alone = Alone(Program(memory=MIB), memory=LIMIT)
    alone.orders.give(Order.JOB, needed)
    assert alone.lives(10) == kills * [Sign.OOM_KILLED]
    assert alone.it.is_alive
    assert alone.it.memory == MIB


# Its end


@pytest.mark.parametrize(("order", "code"), [(Order.CRASH, 3), (Order.FINISH, 0)])
def test_an_order_ends_it_with_its_code(order: Order, code: int) -> None:
    alone = Alone()
    alone.orders.give(order)
    assert alone.lives(1) == []
    assert (alone.it.exit_code, alone.it.is_stopped) == (code, False)


def test_an_order_to_one_container_is_no_order_to_another() -> None:
    alone = Alone()
    alone.orders.give(Order.CRASH, to="c2")
    alone.lives(1)
    assert alone.it.is_alive
    alone.orders.give(Order.CRASH, to="c1")
    alone.lives(1)
    assert not alone.it.is_alive


def test_a_broken_release_ends_at_once() -> None:
    program = Program(broken=frozenset({"9"}))
    ended = {}
    for release in ("8", "9"):
        alone = Alone(program, release=release)
        alone.lives(1)
        ended[release] = alone.it.exit_code
    assert ended == {"8": None, "9": 3}


@pytest.mark.parametrize(
    ("template", "release"),
    [
        ({}, ""),
        ({"ContainerSpec": None}, ""),
        ({"ContainerSpec": {}}, ""),
        ({"ContainerSpec": {"Env": ["A=1", "RELEASE=7", "RELEASE=8"]}}, "7"),
        ({"ContainerSpec": {"Env": ["XRELEASE=7"]}}, ""),
    ],
)
def test_the_release_is_the_one_in_the_environment(template: dict[str, Any], release: str) -> None:
    assert release_of(template) == release


@pytest.mark.parametrize("code", [0, 1, 143])
def test_on_term_it_ends_with_its_own_code_after_its_own_time(code: int) -> None:
    alone = Alone(Program(exit_on_term=code, stop_ms=2_000))
    alone.it.stop(alone.now_ms)
    assert (alone.it.is_stopped, alone.it.serves(alone.now_ms)) == (True, False)
    alone.lives(1)
    assert alone.it.is_alive
    alone.lives(1)
    assert alone.it.exit_code == code


@pytest.mark.parametrize(("grace", "seconds"), [(None, 10), (3 * NANO, 3)])
def test_what_ignores_term_is_killed_after_the_grace_period(
    grace: int | None, seconds: int
) -> None:
    spec = service_spec("web")
    if grace is not None:
        spec = change("TaskTemplate.ContainerSpec.StopGracePeriod", grace)(spec)
    alone = Alone(Program(exit_on_term=None), template=spec["TaskTemplate"])
    alone.it.stop(alone.now_ms)
    alone.lives(seconds - 1)
    assert alone.it.is_alive
    # A second TERM does not begin a second grace period.
    alone.it.stop(alone.now_ms)
    alone.lives(1)
    assert (alone.it.exit_code, alone.it.is_stopped) == (137, True)


def test_what_has_ended_neither_lives_nor_serves_nor_stops() -> None:
    alone = Alone()
    alone.it.kill()
    used = alone.it.cpu_seconds
    assert alone.it.live(SECOND, SECOND, 1.0, 1.0) == []
    assert alone.it.wants_cores(SECOND, 1.0) == 0
    alone.it.stop(SECOND)
    assert (alone.it.exit_code, alone.it.is_stopped, alone.it.cpu_seconds) == (137, True, used)


# Health


def checked(**check: Any) -> Alone:  # noqa: ANN401  # parts of Docker's JSON
    spec = service_spec("web", check_every_s=2)
    spec["TaskTemplate"]["ContainerSpec"]["Healthcheck"].update(check)
    return Alone(template=spec["TaskTemplate"])


@pytest.mark.parametrize("check", [{"Test": ["NONE"]}, {"Test": []}])
def test_a_check_of_nothing_is_none(check: dict[str, Any]) -> None:
    alone = checked(**check)
    alone.orders.give(Order.SICK)
    assert alone.lives(100) == []
    assert alone.health() is Health.NONE


def test_it_is_healthy_after_its_first_check_and_not_before() -> None:
    alone = checked()
    alone.lives(1)
    assert alone.health() is Health.STARTING
    alone.lives(1)
    assert alone.health() is Health.HEALTHY


@pytest.mark.parametrize("retries", [1, 3, 5])
def test_it_is_unhealthy_after_so_many_failures_in_a_row_and_tells_once(retries: int) -> None:
    alone = checked(Retries=retries)
    alone.lives(2)
    alone.orders.give(Order.SICK)
    alone.lives(2 * retries - 1)
    assert alone.health() is Health.HEALTHY
    assert alone.lives(1) == [Sign.UNHEALTHY]
    assert alone.health() is Health.UNHEALTHY
    assert alone.lives(20) == []


def test_one_success_forgives_all_failures() -> None:
    alone = checked()
    alone.lives(2)
    for _ in range(5):
        alone.orders.give(Order.SICK)
        assert alone.lives(4) == []
        alone.orders.relieve(Order.SICK)
        assert alone.lives(2) == []
    assert alone.health() is Health.HEALTHY


def test_failures_in_the_start_period_do_not_count() -> None:
    alone = checked(StartPeriod=20 * NANO)
    alone.orders.give(Order.SICK)
    assert alone.lives(23) == []
    assert alone.health() is Health.STARTING
    assert alone.lives(1) == [Sign.UNHEALTHY]


def test_the_first_success_ends_the_start_period() -> None:
    alone = checked(StartPeriod=600 * NANO)
    alone.lives(2)
    alone.orders.give(Order.SICK)
    assert alone.lives(6) == [Sign.UNHEALTHY]


def test_what_the_check_leaves_out_is_as_docker_has_it() -> None:
    alone = checked(Interval=0, Retries=0)
    alone.orders.give(Order.SICK)
    assert alone.lives(89) == []
    assert alone.lives(1) == [Sign.UNHEALTHY]


def test_what_is_being_stopped_is_checked_no_more() -> None:
    alone = checked()
    alone.it.program = Program(exit_on_term=None)
    alone.lives(2)
    alone.orders.give(Order.SICK)
    alone.it.stop(alone.now_ms)
    assert alone.lives(9) == []
