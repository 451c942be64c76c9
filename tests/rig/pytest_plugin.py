"""What pytest must know of the rig: its marker and fixtures, when its tests skip, how many ran.

Loaded by tests/conftest.py with `pytest_plugins = ["rig.pytest_plugin"]`.

Every test in tests/swarm carries the marker `rig`; tests elsewhere may carry it too. Where no
rig can run they are skipped, with the reason in one line; with AUTOHEAL_REQUIRE_RIG=1 they fail.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rig.node import unavailable_reason
from rig.swarm import Rig

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

REQUIRE_VARIABLE = "AUTOHEAL_REQUIRE_RIG"
MARKER = "rig"
SWARM_TESTS = Path(__file__).resolve().parent.parent / "swarm"
RAN: set[str] = set()
REASON = unavailable_reason()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", f"{MARKER}: needs a real Swarm on this machine (root and dockerd)"
    )
    RAN.clear()


@pytest.hookimpl(tryfirst=True)  # Before -m chooses tests by marker.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in tests/swarm."""
    for item in items:
        if SWARM_TESTS in item.path.parents:
            item.add_marker(MARKER)


@pytest.hookimpl(tryfirst=True)  # Before fixtures are set up: the rig itself is one.
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a rig test where no rig can run."""
    if REASON is not None and item.get_closest_marker(MARKER) is not None:
        pytest.skip(REASON)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn skips of rig tests into failures where they are required."""
    report = yield
    if item.get_closest_marker(MARKER) is None or hasattr(report, "wasxfail"):
        return report
    if report.skipped and os.environ.get(REQUIRE_VARIABLE) == "1":
        report.outcome = "failed"
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"{REQUIRE_VARIABLE}=1, but: {why}"
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember which rig tests came as far as their own code."""
    if MARKER in report.keywords and report.when == "call" and not report.skipped:
        RAN.add(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many rig tests ran, so that none running is seen."""
    terminalreporter.write_line(f"rig tests run: {len(RAN)}")


@pytest.fixture(scope="session")
def swarm_rig() -> Iterator[Rig]:
    """Provide one manager and two workers, started once for all tests. Tests use `swarm`."""
    with Rig(f"t{os.getpid()}", managers=1, workers=2) as rig:
        yield rig


@pytest.fixture
def swarm(swarm_rig: Rig) -> Iterator[Rig]:
    """Provide the shared rig, healthy and empty again after each test: see Rig.reset."""
    yield swarm_rig
    swarm_rig.reset()
