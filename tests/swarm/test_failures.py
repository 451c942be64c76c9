"""What breaks around the loop: it goes on by itself, does nothing wrong, and loses nothing."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

from autoheal import records
from autoheal.model import Decision, OutcomeKind
from parts import QUICK, Parts, Process, until
from rig.swarm import Rig

ARMED = {"autoheal.enable": "true", "autoheal.allow": "scale_up,scale_down"}
FOR_S = 20.0
LEASE_S = float(QUICK["AUTOHEAL_LEASE_TTL"].removesuffix("s"))
STEP_S = float(QUICK["AUTOHEAL_STEP"].removesuffix("s"))
FREEZE_S = 20.0
SCALING = """
version: 1
rules:
  - name: cpu-high
    when: {metric: cpu_percent, over: 5s, above: 50}
    then: {action: scale_up, by: 1, max: 3}
    cooldown: 4s
  - name: cpu-low
    when: {metric: cpu_percent, over: 10s, below: 20}
    then: {action: scale_down, by: 1, min: 1}
    cooldown: 4s
"""
PENDING = f"""
version: 1
rules:
  - name: cpu-high
    when: {{metric: cpu_percent, over: 4s, above: 50}}
    for: {FOR_S:g}s
    then: {{action: scale_up, by: 1, max: 2}}
"""


def leader(engines: dict[str, Process]) -> str:
    """The name of the engine that leads, by its own log."""
    return next(name for name, e in engines.items() if "leading, epoch" in e.log.read_text())


def test_a_standby_goes_on_within_the_lease_and_keeps_pending_rules(
    swarm: Rig, tmp_path: Path
) -> None:
    swarm.create_service("web", labels=ARMED, cpus=0.05)
    swarm.wait_running("web", 1)
    swarm.burn("web")
    with Parts(swarm, tmp_path, PENDING) as parts:
        parts.collectors()
        parts.executor("live")
        engines = {name: parts.engine(name) for name in ("one", "two")}
        until(lambda: b'"active_ms"' in b"".join(parts.memory.state().values()), 60, "pending")
        pending_ms = parts.memory.now_ms()
        time.sleep(FOR_S / 4)
        engines[leader(engines)].kill()
        killed_ms = parts.memory.now_ms()
        until(lambda: swarm.replicas("web") == 2, 60, "the standby acts")
        ticks = parts.ticks()
        (decision,) = parts.decisions("web")
        parts.stop()

    before = [tick for tick in ticks if tick.now_ms < killed_ms]
    after = [tick for tick in ticks if tick.now_ms >= killed_ms]
    assert after[0].epoch > before[-1].epoch
    assert after[0].number == before[-1].number + 1, "it went on from the same state"
    gap_s = (after[0].now_ms - killed_ms) / 1000
    # Half a second for what the two of them and this machine take besides.
    assert gap_s <= LEASE_S + STEP_S + 0.5, "it led within the lease and one tick"
    waited_s = (decision.decided_at_ms - pending_ms) / 1000
    assert FOR_S - 3 <= waited_s <= FOR_S + 3 * STEP_S, "pending was not started over"


def ids(parts: Parts) -> set[tuple[str, str]]:
    streams = (
        records.SAMPLES, records.EVENTS, records.INVENTORY, records.TICKS, records.DECISIONS,
        records.INTENTS, records.OUTCOMES,
    )  # fmt: skip
    return {(stream, entry.id) for stream in streams for entry in parts.entries(stream)}


def sample_times(parts: Parts) -> dict[str, list[int]]:
    """When each node was sampled."""
    times: dict[str, list[int]] = {}
    for entry in parts.entries(records.SAMPLES):
        times.setdefault(records.unpack_samples(entry.fields).node, []).append(entry.at_ms)
    assert len(times) == len(parts.rig.nodes)
    return {node: sorted(at) for node, at in times.items()}


def decided_since(parts: Parts, ms: int) -> list[Decision]:
    return [d for d in parts.decisions() if d.decided_at_ms >= ms]


def test_a_store_that_is_killed_and_started_again_loses_nothing_and_the_loop_goes_on(
    swarm: Rig, tmp_path: Path
) -> None:
    swarm.create_service("web", labels=ARMED, cpus=0.05)
    # At their bounds: whatever would be decided for these two is wrong.
    swarm.create_service("idle", labels=ARMED, cpus=0.05)
    swarm.create_service("full", replicas=3, labels=ARMED, cpus=0.05)
    swarm.wait_running("web", 1)
    swarm.wait_running("full", 3)
    swarm.burn("web")
    swarm.burn("full")
    with Parts(swarm, tmp_path, SCALING) as parts:
        parts.everything("live")
        until(lambda: swarm.replicas("web") == 2, 90, "it acts")
        acknowledged = ids(parts)
        parts.store.kill()
        time.sleep(5)
        parts.store.restart()
        kept = ids(parts)
        back_ms = parts.memory.now_ms()
        until(lambda: swarm.replicas("web") == 3, 90, "it goes on by itself")
        assert acknowledged <= kept
        assert all(process.alive for process in parts.processes)
        # The pause was bridged: samples taken while the store was away are there too.
        for times in sample_times(parts).values():
            assert max(later - earlier for earlier, later in pairwise(times)) < 2500
        assert {d.service_name for d in decided_since(parts, 0)} == {"web"}
        assert [(d.start, d.target) for d in decided_since(parts, back_ms)][:1] == [(2, 3)]
        parts.stop()


def test_a_frozen_docker_engine_delays_the_loop_and_nothing_else(
    swarm: Rig, tmp_path: Path
) -> None:
    swarm.create_service("web", labels=ARMED, cpus=0.05)
    swarm.wait_running("web", 1)
    with Parts(swarm, tmp_path, SCALING) as parts:
        parts.everything("live")
        until(lambda: len(parts.ticks()) > 10, 60, "it decides")
        swarm.burn("web")
        swarm.manager.freeze()
        time.sleep(FREEZE_S)
        swarm.manager.thaw()
        thawed_ms = parts.memory.now_ms()
        until(lambda: swarm.replicas("web") == 3, 120, "it goes on by itself")
        final = {
            o.decision: o.kind for o in parts.outcomes() if o.kind is not OutcomeKind.UNCONFIRMED
        }
        applied = [d for d in parts.decisions() if final.get(d.id) is OutcomeKind.APPLIED]
        assert [(d.start, d.target) for d in applied] == [(1, 2), (2, 3)]
        written = [entry.ms for entry in parts.entries(records.OUTCOMES)]
        assert min(written) >= thawed_ms, "nothing was said to be done while it was frozen"
        assert all(process.alive for process in parts.processes)
        parts.stop()


def test_without_one_workers_samples_nothing_is_scaled_down_and_others_are_still_served(
    swarm: Rig, tmp_path: Path
) -> None:
    """`spread` is idle, but part of it is in the dark; `seen` is idle and wholly in view."""
    swarm.create_service("spread", replicas=3, labels=ARMED, cpus=0.05)
    swarm.wait_running("spread", 3)
    on_manager = ["node.role==manager"]
    swarm.create_service("seen", replicas=2, labels=ARMED, cpus=0.05, constraints=on_manager)
    swarm.wait_running("seen", 2)
    swarm.burn("seen")
    swarm.burn("spread")
    with Parts(swarm, tmp_path, SCALING.replace("max: 3", "max: 2")) as parts:
        collectors = dict(zip((node.name for node in swarm.nodes), parts.collectors(), strict=True))
        parts.engine()
        parts.executor("live")
        until(lambda: len(parts.ticks()) > 10, 60, "it decides")
        collectors["w1"].kill()
        time.sleep(3)
        swarm.burn("seen", on=False)
        swarm.burn("spread", on=False)
        until(lambda: swarm.replicas("seen") == 1, 60, "the sentinel is acted on")
        time.sleep(10)
        assert parts.decisions("spread") == []
        assert swarm.replicas("spread") == 3
        parts.collector(swarm.node("w1"))
        until(lambda: swarm.replicas("spread") == 2, 60, "with the samples back it is acted on")
        parts.stop()
