"""Autoheal's own processes, started as people start them, beside a real store and a real Swarm."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from autoheal import app, records
from autoheal.app import stores
from autoheal.model import Decision, Event, Incident, Outcome, OutcomeKind, TickRecord
from autoheal.ports import Entry
from autoheal.settings import load_settings
from autoheal.units import format_duration, parse_duration
from rig.node import Node
from rig.swarm import Rig
from store.servers import DURABLE, TcpServer

STOP_S = 20.0
# Short enough for a test, long enough to be seen: every one of them is a setting.
QUICK: Mapping[str, str] = {
    "AUTOHEAL_STEP": "1s",
    "AUTOHEAL_INVENTORY_INTERVAL": "1s",
    "AUTOHEAL_WARM_UP": "2s",
    "AUTOHEAL_DEPLOY_HOLD": "4s",
    "AUTOHEAL_OPERATOR_HOLD": "10s",
    "AUTOHEAL_NODE_HOLD": "4s",
    "AUTOHEAL_GROUP_WAIT": "2s",
    "AUTOHEAL_SATURATED_WINDOW": "3s",
    "AUTOHEAL_STABLE_AFTER": "5s",
    "AUTOHEAL_RECOVERY_AFTER": "5s",
    "AUTOHEAL_ACTIONS_PER_HOUR": "1000",
    "AUTOHEAL_SETTLE_TIMEOUT": "30s",
    "AUTOHEAL_LEASE_TTL": "5s",
    "AUTOHEAL_DOCKER_TIMEOUT": "2s",
    "AUTOHEAL_RESEND_INTERVAL": "2s",
    "AUTOHEAL_LISTEN": "off",
}


def clean_environment() -> dict[str, str]:
    """This process's, without what is meant for the tests themselves."""
    return {k: v for k, v in os.environ.items() if not k.startswith("AUTOHEAL_")}


class Process:
    """One autoheal command, with its output in a file."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path, **environment: str) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                # It must not outlive a test run that is killed.
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "autoheal", *arguments],
                stdout=output,
                stderr=output,
                env={**clean_environment(), **environment},
            )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> int:
        """Ask it to end, as an orchestrator does; the exit code."""
        self._process.terminate()
        return self._process.wait(STOP_S)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Parts:
    """A store of its own, and the processes of one autoheal around it."""

    def __init__(self, rig: Rig, directory: Path, rules: str, **settings: str) -> None:
        self.rig = rig
        self.directory = directory
        self.store = TcpServer("redis", directory, *DURABLE)
        self.rules = directory / "rules.yaml"
        self.rules.write_text(rules)
        key = directory / "key"
        key.write_text(secrets.token_hex(32))
        self.environment = {
            **QUICK,
            "AUTOHEAL_STORE_URL": self.store.url,
            "AUTOHEAL_SIGNING_KEY_FILE": str(key),
            "AUTOHEAL_DATA_DIRECTORY": str(directory / "data"),
            "AUTOHEAL_RULES": str(self.rules),
            **settings,
        }
        self.processes: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.processes:
            if process.alive:
                process.kill()
        self.store.stop()
        if kind is not None:
            for process in self.processes:
                print(f"--- {process.name}\n{process.log.read_text()[-6000:]}")  # noqa: T201  # pytest shows it where the test failed

    def start(self, command: str, name: str, **environment: str) -> Process:
        log = self.directory / f"{name}.log"
        process = Process(name, [command], log, **{**self.environment, **environment})
        self.processes.append(process)
        return process

    def collector(self, node: Node, docker_url: str | None = None) -> Process:
        return self.start(
            "collector",
            f"collector-{node.name}",
            AUTOHEAL_DOCKER_URL=docker_url or node.url,
            AUTOHEAL_NODE_ROOT=str(node.figures_root),
        )

    def collectors(self) -> list[Process]:
        return [self.collector(node) for node in self.rig.nodes]

    def lose_collector(self, node: Node) -> None:
        """Its machine has lost power."""
        lost = next(each for each in self.processes if each.name == f"collector-{node.name}")
        lost.kill()
        self.processes.remove(lost)

    def engine(self, name: str = "engine") -> Process:
        return self.start("engine", name)

    def executor(
        self, mode: str, *, docker_url: str | None = None, name: str = "executor"
    ) -> Process:
        url = docker_url or self.rig.manager.url
        audit = str(self.directory / "audit.jsonl")
        return self.start(
            "executor",
            name,
            AUTOHEAL_MODE=mode,
            AUTOHEAL_DOCKER_URL=url,
            AUTOHEAL_AUDIT_FILE=audit,
        )

    def everything(self, mode: str) -> None:
        """The parts as they are deployed: a collector per node, an engine, an executor."""
        self.collectors()
        self.engine()
        self.executor(mode)

    def stop(self) -> None:
        """End all processes in good order; each must say it went well."""
        running = [process for process in self.processes if process.alive]
        codes = {process.name: process.stop() for process in running}
        assert set(codes.values()) <= {0}, codes
        self.processes.clear()

    # what the store holds

    @property
    def memory(self) -> stores.Memory:
        return app.open_memory(load_settings({"AUTOHEAL_STORE_URL": self.store.url}))

    def entries(self, stream: str) -> Sequence[Entry]:
        return self.memory.reader((stream,), since_ms=0).cut().entries

    def decisions(self, service: str | None = None) -> list[Decision]:
        found = [records.unpack_decision(e.fields) for e in self.entries(records.DECISIONS)]
        return [d for d in found if service is None or d.service_name == service]

    def outcomes(self) -> list[Outcome]:
        return [records.unpack_outcome(e.fields) for e in self.entries(records.OUTCOMES)]

    def outcomes_of(self, service: str) -> list[Outcome]:
        ids = {decision.id for decision in self.decisions(service)}
        return [outcome for outcome in self.outcomes() if outcome.decision in ids]

    def kinds_of(self, service: str) -> set[OutcomeKind]:
        return {outcome.kind for outcome in self.outcomes_of(service)}

    def events(self) -> list[Event]:
        return [records.unpack_event(e.fields) for e in self.entries(records.EVENTS)]

    def incidents(self) -> list[Incident]:
        """Each as it was written last, in the order of their opening."""
        written = (records.unpack_incident(e.fields) for e in self.entries(records.INCIDENTS))
        return list({incident.id: incident for incident in written}.values())

    @property
    def deploy_hold_ms(self) -> int:
        return parse_duration(self.environment["AUTOHEAL_DEPLOY_HOLD"])

    def ticks(self) -> list[TickRecord]:
        return [records.unpack_tick(e.fields) for e in self.entries(records.TICKS)]


_DURATION = re.compile(r"\b(over|for|per|clears_within|cooldown): ((?:[0-9]+[a-z]+)+)")
_SLOPE = re.compile(r"(over_time: slope, (?:above|at_least): )([0-9.]+)")
SHORTEST_MS = 1_000


def quickened(rules: str, times: int) -> str:
    """The same rules for a world that is so many times faster, slopes included."""

    def shorter(match: re.Match[str]) -> str:
        duration_ms = max(SHORTEST_MS, parse_duration(match[2]) // times)
        return f"{match[1]}: {format_duration(duration_ms)}"

    def steeper(match: re.Match[str]) -> str:
        return f"{match[1]}{float(match[2]) * times:g}"

    return _SLOPE.sub(steeper, _DURATION.sub(shorter, rules))


def until(condition: Callable[[], object], limit_s: float, what: str) -> None:
    """Wait for a condition; the limit ends a test that would hang."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"after {limit_s:g} s still not: {what}"
        time.sleep(0.2)
