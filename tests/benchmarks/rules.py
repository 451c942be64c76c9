"""Rules checked, tested and reloaded: `PYTHONPATH=tests python -m benchmarks.rules`.

200 rules in 20 files are checked, and the packs that ship are tested, by the commands as people run
them, the start of Python included. Then an engine ticks on a real store that holds an hour of 1,000
services with 3 tasks each, while rules that look back over all of it take the place of others.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from autoheal import records, rulefile
from autoheal.adapters.clock import SystemClock
from autoheal.app import stores
from autoheal.core.limits import Limits
from autoheal.engine import Engine, Rulebook
from autoheal.metrics import MEASURED
from autoheal.telemetry import Telemetry
from builders import MINUTE, STEP, batch, inventory, node, roster_row, service, task
from store.servers import TcpServer, raw

FILES = 20
RULES_PER_FILE = 10
CHECK_GOAL_S = 2.0
TEST_GOAL_S = 3.0
SERVICES = 1_000
SERVICES_PER_NODE = 50
TASKS = 3
HISTORY_MS = 75 * MINUTE
KEYFRAME_MS = 5 * MINUTE
PAUSE_S = 0.5
TICKS_BEFORE = 20
SHIPPED = Path(__file__).parents[2] / "rules"

RULE = """
  - name: cpu-{number}
    match: {{service: "web-{number}-*"}}
    when:
      all:
        - {{metric: cpu_percent, over: 5m, above: 80}}
        - {{metric: memory_percent, over: 10m, over_tasks: p95, over_time: max, below: 90}}
        - not: {{event: oom_killed, over: 10m, at_least: 1}}
    for: 1m
    then: {{action: scale_up, by: 1, max: 10}}
    cooldown: 3m
    limit: {{times: 3, per: 24h}}
    otherwise: {{action: escalate, severity: critical}}
"""
# A metric that no shipped rule looks at, over a window longer than any of theirs.
FAR = """rules:
  - name: far
    when: {metric: pids, over: 1h, above: 1000000}
    then: {action: escalate}
"""


def show(line: str) -> None:
    sys.stdout.write(f"{line}\n")


# The commands


def command(*arguments: str) -> tuple[float, str]:
    """Seconds that it took, and the last line that it wrote."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "autoheal", *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    took = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"autoheal {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return took, done.stdout.splitlines()[-1]


def check_many(directory: Path) -> None:
    for file in range(FILES):
        numbers = range(file * RULES_PER_FILE, (file + 1) * RULES_PER_FILE)
        rules = "".join(RULE.format(number=number) for number in numbers)
        (directory / f"{file:02}.yaml").write_text(f"rules:\n{rules}")
    took, said = command("check", str(directory))
    show(f"autoheal check: {said}: {took:.2f} s (goal {CHECK_GOAL_S:g} s)")


def test_shipped() -> None:
    before = _processor_s()
    took, said = command("test", str(SHIPPED))
    busy = _processor_s() - before
    goal = f"goal {TEST_GOAL_S:g} s; {busy:.2f} s of CPU"
    show(f"autoheal test, the packs that ship: {said}: {took:.2f} s ({goal})")


def _processor_s() -> float:
    """CPU time of the commands so far: on a busy machine it says more than the clock."""
    times = os.times()
    return times.children_user + times.children_system


# A tick during a reload


def nodes() -> Iterator[tuple[str, list[str]]]:
    """The nodes, each with the tasks on it."""
    for start in range(0, SERVICES, SERVICES_PER_NODE):
        names = (f"service-{n:04}" for n in range(start, start + SERVICES_PER_NODE))
        yield f"node-{start}", [f"{name}.{n}" for name in names for n in range(TASKS)]


def samples() -> list[tuple[dict[str, bytes], dict[str, bytes]]]:
    """Per node what is written at each step, with the roster and without."""
    packed = []
    for name, tasks in nodes():
        rows = {each: [0.5, 2.0**28, 1.0, 20.0] for each in tasks}
        roster = [roster_row(each, of=each.rpartition(".")[0]) for each in tasks]
        first, later = (
            records.pack_samples(batch(rows, each, metrics=MEASURED, node_id=name))
            for each in (roster, None)
        )
        packed.append((first, later))
    return packed


def keyframe(at_ms: int) -> dict[str, bytes]:
    placed = list(nodes())
    whole = inventory(
        services=[service(f"service-{n:04}", replicas=TASKS) for n in range(SERVICES)],
        tasks=[
            task(each, of=each.rpartition(".")[0], node=name)
            for name, tasks in placed
            for each in tasks
        ],
        nodes=[node(name) for name, _ in placed],
        clock_ms=at_ms,
    )
    return records.pack_inventory(whole)


def fill(url: str, now_ms: int) -> int:
    """Write the past; how many entries it has."""
    entries = 0
    packed = samples()
    with raw(url) as client:
        for ms in range(now_ms - HISTORY_MS, now_ms, STEP):
            pipe = client.pipeline(transaction=False)
            if (ms - now_ms) % KEYFRAME_MS == 0:
                add(pipe, records.INVENTORY, ms, 0, keyframe(ms))
            for place, (first, later) in enumerate(packed):
                fields = first if (ms - now_ms) % KEYFRAME_MS == 0 else later
                add(pipe, records.SAMPLES, ms, place, fields)
            entries += len(pipe)
            pipe.execute()
    return entries


def add(pipe, stream: str, ms: int, place: int, fields: Mapping[str, bytes]) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001  # redis' pipeline, which has no useful type
    stamp = {"b": f"{stream}-{place}", "q": ms, "a": 0}
    pipe.xadd(f"ah:{stream}", {**stamp, **fields}, id=f"{ms}-{place}")


def tick(engine: Engine) -> float:
    """Seconds that one tick took."""
    time.sleep(PAUSE_S)
    began = time.perf_counter()
    engine.tick()
    return time.perf_counter() - began


def reload_while_it_ticks(directory: Path) -> None:
    server = TcpServer("redis", directory, "--save", "")
    try:
        clock = SystemClock()
        entries = fill(server.url, clock.wall_ms())
        shipped = rulefile.load([SHIPPED])
        engine = Engine(
            store=stores.Memory(stores.connect_to(server.url, clock), clock),
            rulebook=Rulebook(shipped.rules, shipped.texts),
            limits=Limits(step_ms=STEP),
            key=b"k" * 32,
            clock=clock,
            telemetry=Telemetry(clock),
            holder="benchmark",
            lease_ttl_s=60.0,
        )
        began = time.perf_counter()
        engine.tick()
        show(f"{entries:,} entries; the first tick: {time.perf_counter() - began:.2f} s")
        measure(engine, Rulebook(rulefile.parse({"far": FAR.encode()}), {"far": FAR.encode()}))
    finally:
        server.stop()


def measure(engine: Engine, far: Rulebook) -> None:
    """Ticks before, during and after the reload."""
    longest_take: list[float] = []

    def take() -> None:
        taken = False
        while not taken:
            began = time.perf_counter()
            taken = engine.take(far)
            longest_take.append(time.perf_counter() - began)
            time.sleep(0.1)

    before = [tick(engine) for _ in range(TICKS_BEFORE)]
    thread = threading.Thread(target=take)
    began = time.perf_counter()
    thread.start()
    during = [tick(engine)]
    while thread.is_alive():
        during.append(tick(engine))
    took = time.perf_counter() - began
    swap = tick(engine)
    tell("ticks before it", before)
    tell(f"ticks during the {took:.1f} s of it", during)
    show(f"the tick that swaps: {1000 * swap:.0f} ms; longest piece {max(longest_take):.2f} s")
    late_s = max(0.0, max(*during, swap) - STEP / 1000)
    show(f"late by at most {late_s:.2f} s (goal: no more than one interval, {STEP / 1000:g} s)")


def tell(words: str, seconds: list[float]) -> None:
    median, longest = 1000 * statistics.median(seconds), 1000 * max(seconds)
    show(f"{words}: median {median:.0f} ms, longest {longest:.0f} ms")


def main() -> None:
    """All three."""
    with tempfile.TemporaryDirectory() as directory:
        check_many(Path(directory))
    test_shipped()
    with tempfile.TemporaryDirectory() as directory:
        reload_while_it_ticks(Path(directory))


if __name__ == "__main__":
    main()
