"""Dry run on a real Swarm: the same first decisions as live, and not one request that writes."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from autoheal.model import Decision, OutcomeKind
from parts import Parts, until
from rig.docker_proxy import DockerProxy
from rig.swarm import Rig

ARMED = {"autoheal.enable": "true", "autoheal.allow": "scale_up,scale_down"}
RULES = """
version: 1
rules:
  - name: cpu-high
    when: {metric: cpu_percent, over: 4s, above: 50}
    then: {action: scale_up, by: 1, max: 2}
    cooldown: 60s
  - name: cpu-low
    when: {metric: cpu_percent, over: 6s, below: 20}
    then: {action: scale_down, by: 1, min: 1}
    cooldown: 60s
  - name: hot
    match: {service: "hot"}
    when: {metric: cpu_percent, over: 4s, above: 50}
    then: {action: escalate, severity: warning}
"""
# What the loop should first say of each.
SERVICES = {"busy": 1, "plain": 1, "idle": 2, "hot": 1}
READS = {"GET", "HEAD"}

First = tuple[str, str, int, int, str]


def first_decisions(parts: Parts) -> dict[str, First]:
    first: dict[str, First] = {}
    for decision in parts.decisions():
        first.setdefault(decision.service_name, brief(decision))
    return first


def brief(decision: Decision) -> First:
    name = decision.service_name
    return name, decision.action.value, decision.start, decision.target, decision.rule


def create_services(rig: Rig) -> None:
    for name, replicas in SERVICES.items():
        labels = None if name == "plain" else ARMED
        rig.create_service(name, replicas=replicas, labels=labels, cpus=0.05)
        if name != "idle":
            rig.burn(name)
    # Beside them what is never acted on, in either mode.
    rig.create_service("everywhere", mode="global", labels=ARMED, cpus=0.05)
    rig.create_service("off", replicas=0, labels=ARMED, cpus=0.05)
    rig.create_service("job", mode="replicated-job", labels=ARMED, cpus=0.05)
    rig.create_service("rolling", replicas=2, labels=ARMED, cpus=0.05, extra=["--update-delay=10m"])
    for name in ("everywhere", "job", "rolling"):
        rig.burn(name)
    for name, replicas in SERVICES.items():
        rig.wait_running(name, replicas)
    rig.wait_running("rolling", 2)
    rig.update_service("rolling", "--env-add", "RELEASE=2")


def decide_all(parts: Parts) -> dict[str, First]:
    until(lambda: len(first_decisions(parts)) >= len(SERVICES), 90, "each service decided on")
    return first_decisions(parts)


def test_dry_run_decides_as_live_does_and_only_reads(swarm: Rig, tmp_path: Path) -> None:
    create_services(swarm)
    versions = {name: swarm.version(name) for name in SERVICES}
    with ExitStack() as stack:
        proxies = {
            node.name: stack.enter_context(
                DockerProxy(Path(node.socket).with_name("proxy.sock"), node.socket)
            )
            for node in swarm.nodes
        }
        directory = tmp_path / "dry"
        directory.mkdir()
        parts = stack.enter_context(Parts(swarm, directory, RULES))
        for node in swarm.nodes:
            parts.collector(node, proxies[node.name].url)
        parts.engine()
        parts.executor("dry-run", docker_url=proxies[swarm.manager.name].url)
        dry = decide_all(parts)
        until(
            lambda: OutcomeKind.WOULD_APPLY in parts.kinds_of("busy"), 30, "the executor answered"
        )
        parts.stop()
        assert {outcome.kind for outcome in parts.outcomes()} == {OutcomeKind.WOULD_APPLY}
        requests = [request for proxy in proxies.values() for request in proxy.requests]
        assert len(requests) > len(SERVICES), "the proxies saw the loop at work"
        assert [request for request in requests if request.method not in READS] == []
    assert {name: swarm.version(name) for name in SERVICES} == versions

    directory = tmp_path / "live"
    directory.mkdir()
    with Parts(swarm, directory, RULES) as parts:
        parts.everything("live")
        live = decide_all(parts)
        until(lambda: swarm.replicas("busy") == 2, 60, "live mode acts")
        parts.stop()

    assert dry == live
    assert dry == {
        "busy": ("busy", "scale_up", 1, 2, "cpu-high"),
        "plain": ("plain", "scale_up", 1, 2, "cpu-high"),
        "idle": ("idle", "scale_down", 2, 1, "cpu-low"),
        "hot": ("hot", "escalate", 0, 1, "hot"),
    }
