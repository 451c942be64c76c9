"""An engine as people start it takes rules that change, and says what it did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.scenes import Scene
from parts import clean_environment

UP = "{name: up, when: {metric: cpu_cores, over: 1m, above: 0.5}, then: {action: escalate}}"
RULES = f"rules:\n  - {UP}\n"
LIMIT_S = 30.0


class Process:
    """`autoheal engine` on a store of its own; its output is in a file."""

    def __init__(self, scene: Scene, directory: Path, interval: str) -> None:
        self.rules = directory / "rules"
        self.rules.mkdir()
        self.write(RULES)
        self._log = directory / "log"
        environment = {
            **clean_environment(),
            "AUTOHEAL_STORE_URL": scene.server.url,
            "AUTOHEAL_SIGNING_KEY": "k" * 32,
            "AUTOHEAL_RULES": str(self.rules),
            "AUTOHEAL_RELOAD_INTERVAL": interval,
            "AUTOHEAL_LISTEN": "off",
        }
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "autoheal", "engine"],
                stdout=output,
                stderr=output,
                env=environment,
            )

    def write(self, content: str) -> None:
        (self.rules / "rules.yaml").write_text(content)

    def hang_up(self) -> None:
        os.kill(self._process.pid, signal.SIGHUP)

    def until(self, *words: str) -> None:
        """Wait until the log says all of this."""
        deadline = time.monotonic() + LIMIT_S
        while not all(word in self._log.read_text() for word in words):
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(LIMIT_S)


@pytest.fixture
def start(scene: Scene, tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    started: list[Process] = []

    def begin(interval: str) -> Process:
        process = Process(scene, tmp_path, interval)
        started.append(process)
        process.until("mode dry-run")
        return process

    yield begin
    for process in started:
        assert process.stop() == 0


def test_it_looks_by_itself_every_interval(start: Callable[[str], Process]) -> None:
    process = start("1s")
    process.write(RULES + f"  - {UP}\n".replace("up", "up-2"))
    process.until("rules reloaded: 2 rules, ")


def test_it_looks_at_once_when_it_is_told_to(start: Callable[[str], Process]) -> None:
    process = start("1h")
    process.hang_up()
    process.until("rules reloaded: 1 rules, ")
    process.write(RULES.replace("above", "abuv"))
    process.hang_up()
    process.until("rules not reloaded, those in force stay: ", "did you mean above?")


def test_rules_that_look_back_further_than_samples_are_kept_are_not_taken(
    start: Callable[[str], Process],
) -> None:
    process = start("1s")
    process.write(RULES.replace("1m", "3h"))
    process.until("rules not reloaded", "AUTOHEAL_SAMPLES_AGE (2h) must be at least")
