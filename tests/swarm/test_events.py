"""What happens to real containers reaches the store at once, and rules can count it."""

from __future__ import annotations

from pathlib import Path

from autoheal import records
from autoheal.model import Event
from parts import Parts, until
from rig.swarm import Rig

MEMORY = 32 * 2**20
RULES = """
version: 1
rules:
  - name: killed-for-memory
    when: {event: oom_killed, over: 5m, at_least: 1}
    then: {action: escalate, severity: critical}
"""


def events(parts: Parts) -> list[Event]:
    return [records.unpack_event(entry.fields) for entry in parts.entries(records.EVENTS)]


def test_oom_kill_exit_and_failing_health_check_are_seen_where_they_happen(
    swarm: Rig, tmp_path: Path
) -> None:
    on_worker = ["node.role==worker"]
    leaky = swarm.create_service("leaky", memory="32m", constraints=on_worker)
    sick = swarm.create_service(
        "sick",
        constraints=on_worker,
        extra=["--health-cmd=false", "--health-interval=1s", "--health-retries=1"],
    )
    swarm.create_service("well", constraints=on_worker)
    swarm.wait_running("leaky", 1)
    with Parts(swarm, tmp_path, RULES) as parts:
        parts.collectors()
        parts.engine()
        until(lambda: len(parts.ticks()) > 5, 60, "it decides")
        swarm.exhaust_memory("leaky")
        until(lambda: any(d.target == 1 for d in parts.decisions("leaky")), 60, "it is counted")
        until(lambda: any(e.kind == "unhealthy" for e in events(parts)), 60, "unhealthy is seen")
        parts.stop()
        seen = events(parts)
        assert {d.service_name for d in parts.decisions()} == {"leaky"}

    killed = [event for event in seen if event.kind == "oom_killed"]
    assert {event.service for event in killed} == {leaky}
    assert MEMORY in {event.memory_limit for event in killed}
    died = [event for event in seen if event.kind == "died" and event.service == leaky]
    assert 137 in {event.exit_code for event in died}
    assert {event.service for event in seen if event.kind == "unhealthy"} == {sick}
