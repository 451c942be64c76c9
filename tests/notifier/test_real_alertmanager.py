"""The loop and a real Alertmanager."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from autoheal.adapters.alertmanager import Alertmanager
from autoheal.adapters.clock import SystemClock
from autoheal.model import Mode, OutcomeKind
from autoheal.notifier import Destination
from executor.fakes import World
from notifier.scenes import a_notifier, ends, fires, run
from rig.alertmanager import Alertmanager as Server
from rig.commands import wait_for


@pytest.fixture
def server() -> Iterator[Server]:
    if Server.program() is None:
        if os.environ.get("AUTOHEAL_REQUIRE_RIG") == "1":
            pytest.fail("no Alertmanager is installed, and AUTOHEAL_REQUIRE_RIG=1 asks for one")
        pytest.skip("no Alertmanager is installed")
    with Server() as started:
        yield started


def test_an_escalation_fires_in_alertmanager_and_is_resolved(server: Server) -> None:
    world = World()
    world.clock.ms = SystemClock().wall_ms()
    notifier = Alertmanager(server.url, clock=SystemClock(), mode=Mode.LIVE, resend_s=60.0)
    loop = a_notifier(world, Destination(notifier, 60.0))
    began = fires(world)
    run(world, loop)
    assert world.the_outcome_of(began).kind is OutcomeKind.APPLIED
    wait_for(lambda: len(server.alerts()) == 1, 10, "the alert to fire")
    (alert,) = server.alerts()
    assert alert["labels"] == {
        "alertname": "AutohealEscalation",
        "rule": "crash-loop",
        "service": "web",
        "severity": "critical",
        "mode": "live",
    }
    assert alert["annotations"]["decision"] == began.id
    assert alert["status"]["state"] == "active"

    over = ends(world, decided_at_ms=SystemClock().wall_ms())
    run(world, loop)
    assert world.the_outcome_of(over).kind is OutcomeKind.APPLIED
    wait_for(lambda: server.alerts() == [], 10, "the alert to be resolved")
    assert server.history() == {"firing": 1.0, "resolved": 1.0}
