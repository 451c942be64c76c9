"""Time per tick of folding and deciding: `PYTHONPATH=tests python -m benchmarks.decide`.

All rules that ship, over 100 and 1,000 services with 3 tasks each, 50 services' tasks per node. Per
tick: every node's samples and an inventory heartbeat are unpacked and folded, what is old is
forgotten, a snapshot is taken and decided.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import sys
import time
from pathlib import Path

from autoheal import records, rulefile
from autoheal.core.decision.decide import decide
from autoheal.core.limits import Limits
from autoheal.core.state import State
from autoheal.core.view.fold import Fold
from autoheal.metrics import MEASURED
from builders import (
    NOW,
    STEP,
    batch,
    inventory,
    node,
    roster_row,
    service,
    task,
)

TASKS = 3
SERVICES_PER_NODE = 50
WARM_UP_TICKS = 200
MEASURED_TICKS = 40
RULES = rulefile.load([Path(__file__).parents[2] / "rules"]).rules


class Bench:
    """A cluster of this many services, and the engine's part of a tick."""

    def __init__(self, services: int, cores: float) -> None:
        self.cores = cores
        self.limits = Limits(warm_up_ms=0)
        self.fold = Fold(RULES, self.limits)
        self.state = State()
        self.now_ms = NOW
        self.names = [f"service-{number:04}" for number in range(services)]
        nodes = [f"node-{start}" for start in range(0, services, SERVICES_PER_NODE)]
        whole = inventory(
            services=[service(name, replicas=TASKS) for name in self.names],
            tasks=[
                task(f"{name}.{n}", of=name, node=nodes[place // SERVICES_PER_NODE])
                for place, name in enumerate(self.names)
                for n in range(TASKS)
            ],
            nodes=[node(name) for name in nodes],
        )
        self.fold.fold(records.INVENTORY, NOW, NOW, records.pack_inventory(whole))
        self.first, self.later = self._batches(with_roster=True), self._batches(with_roster=False)
        self.heartbeat = records.pack_inventory(inventory(keyframe=False))
        self.parts: dict[str, list[float]] = {"fold": [], "snapshot": [], "decide": []}

    def _batches(self, *, with_roster: bool) -> list[dict[str, bytes]]:
        packed = []
        for start in range(0, len(self.names), SERVICES_PER_NODE):
            rows: dict[str, list[float]] = {}
            roster = []
            for name in self.names[start : start + SERVICES_PER_NODE]:
                for number in range(TASKS):
                    rows[f"{name}.{number}"] = [self.cores, 2.0**28, 1.0, 20.0]
                    roster.append(roster_row(f"{name}.{number}", of=name))
            made = batch(
                rows,
                roster if with_roster else None,
                metrics=MEASURED,
                node_id=f"node-{start}",
            )
            packed.append(records.pack_samples(made))
        return packed

    def tick(self) -> None:
        """One step of time."""
        began = time.perf_counter()
        for fields in self.first if self.now_ms == NOW else self.later:
            self.fold.fold(records.SAMPLES, self.now_ms, self.now_ms, fields)
        self.fold.fold(records.INVENTORY, self.now_ms, self.now_ms, self.heartbeat)
        self.now_ms += STEP
        self.fold.forget(self.now_ms)
        folded = time.perf_counter()
        snapshot = self.fold.snapshot(now_ms=self.now_ms, since_ms=self.state.now_ms, epoch=1)
        seen = time.perf_counter()
        self.state = decide(RULES, self.limits, self.state, snapshot, self.now_ms).state
        ended = time.perf_counter()
        parts = (folded - began, seen - folded, ended - seen)
        for name, seconds in zip(self.parts, parts, strict=True):
            self.parts[name].append(seconds)

    def measure(self) -> float:
        """Milliseconds per tick, the median; prints where they went."""
        for _ in range(WARM_UP_TICKS):
            self.tick()
        for times in self.parts.values():
            times.clear()
        for _ in range(MEASURED_TICKS):
            self.tick()
        medians = {name: 1000 * statistics.median(times) for name, times in self.parts.items()}
        total = sum(medians.values())
        parts = ", ".join(f"{name} {value:.2f}" for name, value in medians.items())
        show(f"{len(self.names):5} services: {total:8.2f} ms per tick ({parts})")
        return total


def show(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> None:
    """Both sizes, calm and with every service wanting to act; `--profile` shows the last."""
    for words, cores in (("calm", 0.5), ("every service wants to scale down", 0.1)):
        show(f"{words}:")
        small, large = Bench(100, cores), Bench(1_000, cores)
        before = small.measure()
        show(f"ten times the services take {large.measure() / before:.1f} times as long")
        if "--profile" in sys.argv:
            profile = cProfile.Profile()
            profile.enable()
            for _ in range(MEASURED_TICKS):
                large.tick()
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
