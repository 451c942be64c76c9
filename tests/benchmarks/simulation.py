"""How fast simulated time passes: simulated seconds a second, for 20 services on 3 nodes.

    PYTHONPATH=tests python -m benchmarks.simulation [--minutes 10]

Twice for each step of the engine: the world alone, and with a whole autoheal in it that samples,
remembers in the embedded store, decides by the rules that ship and acts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from autoheal.app.rules import rulebook
from autoheal.app.simulated import QUANTA, passing_store, simulation
from autoheal.settings import load_settings
from autoheal.sim.load import Constant, Noisy
from autoheal.sim.program import MIB, Program
from autoheal.sim.scenario import MINUTE_MS, SECOND_MS, Scenario
from autoheal.sim.spec import service_spec

SERVICES = 20
SEED = 1
STEPS_S = (5, 30)


def calm(services: int) -> Scenario:
    """So many services of three tasks, at a load that wanders and asks for nothing."""
    names = [f"service-{number}" for number in range(services)]
    return Scenario(
        name="calm",
        about="nothing happens",
        focus=names[0],
        live_at_ms=0,
        total_ms=MINUTE_MS,
        services=[
            (
                service_spec(name, replicas=3),
                Program(
                    load=Noisy(Constant(0.6), SEED, name, 0.1, 60 * SECOND_MS), memory=100 * MIB
                ),
            )
            for name in names
        ],
        happenings=(),
    )


def world_alone(step_s: int) -> Callable[[], None]:
    """One step of the world, in the quanta that a simulation uses."""
    world = calm(SERVICES).world(SEED, step_s * SECOND_MS // QUANTA)
    return lambda: world.advance(step_s * SECOND_MS)


def simulated_seconds_a_second(step: Callable[[], object], step_s: int, minutes: int) -> float:
    """Run for so many simulated minutes."""
    steps = minutes * 60 // step_s
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return steps * step_s / (time.perf_counter() - began)


def main() -> None:
    """Print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=int, default=10, help="simulated minutes of each run")
    minutes = parser.parse_args().minutes
    for step_s in STEPS_S:
        alone = simulated_seconds_a_second(world_alone(step_s), step_s, minutes)
        scenario = calm(SERVICES)
        world = scenario.world(SEED, step_s * SECOND_MS // QUANTA)
        times = {"step": f"{step_s}s", "lease_ttl": f"{3 * step_s}s"}
        settings = load_settings({}, overrides=times, file=None)
        with passing_store(world.clock) as store:
            whole = simulation(settings, scenario, world, store, rulebook(settings))
            with_autoheal = simulated_seconds_a_second(whole.step, step_s, minutes)
        print(  # noqa: T201  # what it is for
            f"{SERVICES} services, step {step_s} s: {alone:,.0f} simulated seconds a second,"
            f" with autoheal {with_autoheal:,.0f}"
        )


if __name__ == "__main__":
    main()
