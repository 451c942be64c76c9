"""A healthy day: noisy load, deploys, a nightly job, a JVM; and one sentinel that needs help.

Nothing is wrong with any service but the sentinel, so nothing but the sentinel is to be touched.
"""

from __future__ import annotations

from autoheal.sim.load import Constant, Day, Load, Noisy, Spike, Sum, Trace
from autoheal.sim.program import MIB, Program
from autoheal.sim.scenario import (
    ARMED,
    HOUR_MS,
    MINUTE_MS,
    SECOND_MS,
    START_MS,
    Happening,
    Scenario,
)
from autoheal.sim.spec import released, service_spec

SENTINEL = "sentinel"
HOURS = 24
# People deploy while others are awake, and one of them late.
DEPLOYS = ((1, "web", "2"), (3, "api", "2"), (6, "web", "3"), (7, "worker", "2"), (13, "api", "3"))


def day(seed: int) -> Scenario:
    """A day of services that are well, beside one that is not."""
    return Scenario(
        name="day",
        about="a healthy day with noisy load and deploys, beside a sentinel",
        focus=SENTINEL,
        live_at_ms=0,
        total_ms=HOURS * HOUR_MS,
        services=(
            (
                service_spec("web", replicas=3, labels=ARMED, check_every_s=10),
                Program(
                    load=_noisy(seed, "web", Day(0.45, 0.95, peak_hour=14)),
                    memory_per_core=60 * MIB,
                    start_up_ms=20 * SECOND_MS,
                    start_up_cores=2.0,
                ),
            ),
            (
                service_spec("api", replicas=2, cpus=1.0, labels=ARMED, check_every_s=10),
                Program(load=_noisy(seed, "api", Day(0.55, 1.2, peak_hour=11)), memory=120 * MIB),
            ),
            (
                service_spec("worker", replicas=4, labels=ARMED),
                Program(load=_noisy(seed, "worker", _batches()), memory=90 * MIB),
            ),
            (
                service_spec("ledger", replicas=2, memory=512 * MIB, labels=ARMED),
                # A JVM: it takes what it is given, and sits there.
                Program(load=_noisy(seed, "ledger", Constant(0.4)), memory=460 * MIB),
            ),
            (
                service_spec("backup", replicas=1, labels=ARMED),
                Program(load=_noisy(seed, "backup", Sum((Constant(0.15), _nightly())))),
            ),
            (
                service_spec(SENTINEL, replicas=2, labels=ARMED),
                Program(load=_noisy(seed, SENTINEL, Sum((Constant(0.4), _rush())))),
            ),
        ),
        happenings=(
            *(_deploy(hour, name, release) for hour, name, release in DEPLOYS),
            Happening(5 * HOUR_MS, f"{SENTINEL}: an hour of more than it can carry"),
        ),
        settings={
            # A day is long: three times the default step halves its waiting and changes no window.
            "AUTOHEAL_STEP": "15s",
            "AUTOHEAL_LEASE_TTL": "45s",
        },
    )


def _deploy(hour: int, name: str, release: str) -> Happening:
    return Happening(
        hour * HOUR_MS,
        f"{name}: release {release} is deployed",
        lambda world: world.update(name, lambda spec: released(spec, release)),
    )


def _noisy(seed: int, name: str, load: Load) -> Load:
    slow = Noisy(load, seed, f"{name} by the hour", share=0.08, period_ms=20 * MINUTE_MS)
    return Noisy(slow, seed, name, share=0.15, period_ms=40 * SECOND_MS)


def _batches() -> Load:
    """Every ten minutes a batch that takes all there is, for a minute."""
    busy, idle = 1.9, 0.7
    edges = ((0, idle), (540_000, idle), (545_000, busy), (595_000, busy), (600_000, idle))
    return Trace(edges, period_ms=10 * MINUTE_MS)


def _nightly() -> Load:
    start_ms = START_MS + 17 * HOUR_MS
    return Spike(0.0, 0.4, start_ms, 5 * SECOND_MS, 60 * SECOND_MS, 5 * SECOND_MS)


def _rush() -> Load:
    start_ms = START_MS + 5 * HOUR_MS
    return Spike(0.0, 0.9, start_ms, MINUTE_MS, HOUR_MS, MINUTE_MS)
