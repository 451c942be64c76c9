"""A request lost before the commit, a reply lost after it: settled, and applied at most once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoheal import records
from autoheal.model import LABEL_DECISION, OutcomeKind
from parts import Parts, until
from rig.docker_proxy import DockerProxy
from rig.swarm import Rig

ARMED = {"autoheal.enable": "true", "autoheal.allow": "scale_up"}
RULES = """
version: 1
rules:
  - name: cpu-high
    when: {metric: cpu_percent, over: 4s, above: 50}
    then: {action: scale_up, by: 1, max: 2}
    cooldown: 10m
"""


def updates(method: str, path: str) -> bool:
    return method == "POST" and "/update" in path


@pytest.fixture
def proxy(swarm: Rig) -> Iterator[DockerProxy]:
    socket = Path(swarm.manager.socket)
    with DockerProxy(socket.with_name("cut.sock"), socket) as proxy:
        yield proxy


@pytest.mark.parametrize("lost", ["the request", "the reply"])
def test_a_write_in_doubt_is_settled_and_applied_once(
    swarm: Rig, proxy: DockerProxy, tmp_path: Path, lost: str
) -> None:
    swarm.create_service("web", labels=ARMED, cpus=0.05)
    (task,) = swarm.wait_running("web", 1)
    before = swarm.service("web")
    swarm.burn("web")
    if lost == "the request":
        proxy.drop_next_request(updates)
    else:
        proxy.cut_next_reply(updates)
    with Parts(swarm, tmp_path, RULES) as parts:
        parts.collectors()
        parts.engine()
        parts.executor("live", docker_url=proxy.url)
        until(lambda: OutcomeKind.APPLIED in parts.kinds_of("web"), 90, "the write is settled")
        swarm.wait_running("web", 2)
        parts.stop()
        outcomes = [outcome.kind for outcome in parts.outcomes_of("web")]
        (decision,) = parts.decisions("web")
        intents = parts.entries(records.INTENTS)

    assert outcomes == [OutcomeKind.UNCONFIRMED, OutcomeKind.APPLIED]
    assert len(proxy.dropped) + len(proxy.cut) == 1
    assert len(intents) == 1
    after = swarm.service("web")
    assert after["Spec"]["Mode"]["Replicated"]["Replicas"] == 2
    assert after["Spec"]["Labels"][LABEL_DECISION] == decision.id
    # One update: what was there before it is what was there at first.
    assert after["PreviousSpec"] == before["Spec"]
    assert task.task_id in {running.task_id for running in swarm.running_tasks("web")}


def test_a_write_in_doubt_dies_when_an_operator_moves_the_version(
    swarm: Rig, proxy: DockerProxy, tmp_path: Path
) -> None:
    swarm.create_service("web", labels=ARMED, cpus=0.05)
    swarm.wait_running("web", 1)
    swarm.burn("web")
    # The operator is quicker than the settlement: nothing of ours gets through until then.
    for _ in range(50):
        proxy.drop_next_request(updates)
    with Parts(swarm, tmp_path, RULES) as parts:
        parts.collectors()
        parts.engine()
        parts.executor("live", docker_url=proxy.url)
        until(lambda: OutcomeKind.UNCONFIRMED in parts.kinds_of("web"), 90, "it is in doubt")
        swarm.update_service("web", "--label-add", "operator=here")
        until(lambda: OutcomeKind.NOT_APPLIED in parts.kinds_of("web"), 60, "it is settled")
        parts.stop()
        final = [o for o in parts.outcomes_of("web") if o.kind is not OutcomeKind.UNCONFIRMED]
    assert final[0].kind is OutcomeKind.NOT_APPLIED
    assert final[0].stale
    assert swarm.replicas("web") == 1
