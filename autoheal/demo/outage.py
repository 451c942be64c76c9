"""An outage: a node goes, then a database that many services lean on."""

from __future__ import annotations

from autoheal.sim.load import Constant, Noisy, Spike, Sum
from autoheal.sim.program import Order, Program
from autoheal.sim.scenario import ARMED, MINUTE_MS, SECOND_MS, START_MS, Happening, Scenario
from autoheal.sim.spec import service_spec
from autoheal.sim.world import World

LEANING = ("accounts", "basket", "catalog", "delivery", "emails")
OTHERS = ("front", "gateway", "history", "images")


def outage(seed: int) -> Scenario:
    """Forty minutes in which a third of everything fails for one reason."""
    return Scenario(
        name="outage",
        about="a node is lost, then a database that many services lean on",
        focus="front",
        live_at_ms=0,
        total_ms=40 * MINUTE_MS,
        services=[
            (
                service_spec(name, replicas=2, labels=ARMED),
                Program(load=Noisy(_load(name), seed, name, 0.1, 60 * SECOND_MS)),
            )
            for name in (*LEANING, *OTHERS)
        ],
        happenings=(
            Happening(2 * MINUTE_MS, "worker-2 loses its power", lambda w: w.lose("worker-2")),
            Happening(5 * MINUTE_MS, "worker-2 is back", lambda w: w.restore("worker-2")),
            Happening(
                18 * MINUTE_MS,
                f"the database is gone: {', '.join(LEANING)} end as soon as they start",
                _lean,
            ),
            Happening(19 * MINUTE_MS, "front: impatient visitors triple the load"),
            Happening(26 * MINUTE_MS, "the database is back", _recover),
        ),
    )


def _load(name: str) -> Sum:
    rush = Spike(0.0, 0.8, START_MS + 19 * MINUTE_MS, 30 * SECOND_MS, 19 * MINUTE_MS, MINUTE_MS)
    return Sum((Constant(0.4), rush) if name == "front" else (Constant(0.4),))


def _lean(world: World) -> None:
    for name in LEANING:
        world.service(name).orders.give(Order.CRASH)


def _recover(world: World) -> None:
    for name in LEANING:
        world.service(name).orders.relieve(Order.CRASH)
