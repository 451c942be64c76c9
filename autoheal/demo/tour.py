"""The tour: an hour in which everything happens that autoheal treats, and some that it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoheal.sim.load import Constant, Load, Noisy, Spike, Sum
from autoheal.sim.program import MIB, Order, Program
from autoheal.sim.scenario import ARMED, MINUTE_MS, SECOND_MS, START_MS, Happening, Scenario
from autoheal.sim.spec import released, service_spec
from autoheal.sim.world import World

TWICE = {"MaxAttempts": 2}


def tour(seed: int) -> Scenario:
    """An hour of a small shop."""
    return Scenario(
        name="tour",
        about="an hour of a small shop, in which much goes wrong",
        focus="web",
        live_at_ms=15 * MINUTE_MS,
        total_ms=60 * MINUTE_MS,
        services=_services(seed),
        happenings=_happenings(),
        settings={
            # The default of five an hour is meant for real trouble, and this is a year's of it.
            "AUTOHEAL_ACTIONS_PER_HOUR": "20",
        },
    )


def _services(seed: int) -> Sequence[tuple[Mapping[str, Any], Program]]:
    return (
        (service_spec("web", replicas=2, labels=ARMED), Program(load=_visitors(seed))),
        (
            service_spec("reports", replicas=2, labels=ARMED),
            Program(load=_steady(seed, "reports", 0.3), memory=60 * MIB),
        ),
        (
            service_spec("mailer", replicas=2, labels=ARMED, check_every_s=10, restart=TWICE),
            Program(load=_steady(seed, "mailer", 0.3)),
        ),
        (
            service_spec("search", replicas=2, memory=512 * MIB, labels=ARMED),
            Program(load=_steady(seed, "search", 0.4), memory=150 * MIB),
        ),
        (
            service_spec("checkout", replicas=2, labels=ARMED),
            Program(load=_steady(seed, "checkout", 0.35), broken=frozenset({"2"})),
        ),
        (
            service_spec("cache", replicas=2, memory=400 * MIB, labels=ARMED),
            Program(load=_steady(seed, "cache", 0.3), memory=360 * MIB),
        ),
        (service_spec("wiki", replicas=2), Program(load=_readers(seed))),
    )


def _happenings() -> Sequence[Happening]:
    return (
        Happening(1 * MINUTE_MS, "web: a campaign begins, visitors triple"),
        Happening(6 * MINUTE_MS, "search: one of its tasks crashes, once", _crash_once),
        Happening(6 * MINUTE_MS + 2 * SECOND_MS, "", _stop_crashing),
        Happening(9 * MINUTE_MS, "web: the campaign ends"),
        Happening(0, "search: a release of yesterday leaks memory", _leak),
        Happening(17 * MINUTE_MS, "web: a second campaign begins"),
        Happening(26 * MINUTE_MS, "web: the second campaign ends"),
        Happening(
            28 * MINUTE_MS,
            "reports: the month-end run needs more memory than the limit",
            lambda world: world.service("reports").orders.give(Order.FILL, 250 * MIB),
        ),
        Happening(
            31 * MINUTE_MS,
            "mailer: its relay hangs, health checks fail until Swarm gives up",
            lambda world: world.service("mailer").orders.give(Order.SICK),
        ),
        Happening(
            34 * MINUTE_MS,
            "mailer: the relay answers again; nobody starts the mailer",
            lambda world: world.service("mailer").orders.relieve(Order.SICK),
        ),
        Happening(
            43 * MINUTE_MS,
            "checkout: release 2 is deployed, and ends as soon as it starts",
            lambda world: world.update("checkout", lambda spec: released(spec, "2")),
        ),
        Happening(48 * MINUTE_MS, "wiki: readers come; it has no autoheal labels"),
        Happening(
            51 * MINUTE_MS,
            "checkout: release 3 is deployed, and works",
            lambda world: world.update("checkout", lambda spec: released(spec, "3")),
        ),
    )


def _crash_once(world: World) -> None:
    task, *_ = world.running("search")
    if task.container is not None:
        world.service("search").orders.give(Order.CRASH, to=task.container.id)


def _stop_crashing(world: World) -> None:
    world.service("search").orders.relieve(Order.CRASH)


def _leak(world: World) -> None:
    world.service("search").orders.give(Order.LEAK, 160 * 1024)


def _steady(seed: int, name: str, cores: float) -> Load:
    return Noisy(Constant(cores), seed, name, share=0.15, period_ms=90 * SECOND_MS)


def _campaign(first_minute: int, last_minute: int, cores: float) -> Load:
    rise_ms = 30 * SECOND_MS
    start_ms = START_MS + first_minute * MINUTE_MS
    hold_ms = (last_minute - first_minute) * MINUTE_MS - rise_ms
    return Spike(0.0, cores, start_ms, rise_ms, hold_ms, rise_ms)


def _visitors(seed: int) -> Load:
    load = Sum((Constant(0.28), _campaign(1, 9, 0.7), _campaign(17, 26, 1.1)))
    return Noisy(load, seed, "web", share=0.1, period_ms=60 * SECOND_MS)


def _readers(seed: int) -> Load:
    load = Sum((Constant(0.3), _campaign(48, 52, 0.8)))
    return Noisy(load, seed, "wiki", share=0.1, period_ms=60 * SECOND_MS)
