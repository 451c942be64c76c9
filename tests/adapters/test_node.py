from __future__ import annotations

from pathlib import Path

import pytest

from adapters.fakes import write
from autoheal.adapters.node import ProcNode
from autoheal.model import NodeFigures

MEMINFO = "MemTotal:        8000000 kB\nMemFree:          100 kB\nMemAvailable:    2000000 kB\n"
NOTHING = NodeFigures(None, None, None, None)


def stat(user: int, idle: int, iowait: int = 0, steal: int = 0, guest: int = 0) -> str:
    total = f"cpu  {user} 0 0 {idle} {iowait} 0 0 {steal} {guest} 0\n"
    return total + "cpu0 1 0 0 1 0 0 0 0 0 0\ncpu1 1 0 0 1 0 0 0 0 0 0\nintr 5\ncpufreq 1\n"


def test_golden_figures(tmp_path: Path) -> None:
    write(tmp_path, {"stat": stat(1000, 5000), "meminfo": MEMINFO})
    node = ProcNode(str(tmp_path))
    assert node.figures() == NodeFigures(2.0, None, 8_192_000_000, 75.0)
    # 30 user and 10 steal of 100; guest time is in user time already
    write(tmp_path, {"stat": stat(1030, 5040, iowait=20, steal=10, guest=25)})
    assert node.figures().cpu_percent == 40.0


def test_what_is_missing_is_none(tmp_path: Path) -> None:
    assert ProcNode(str(tmp_path)).figures() == NOTHING
    write(tmp_path, {"stat": "nonsense\ncpu  1 2\n", "meminfo": "MemFree: 1 kB\n"})
    node = ProcNode(str(tmp_path))
    node.figures()
    assert node.figures() == NOTHING
    write(tmp_path, {"meminfo": "MemTotal:        8000000 kB\n"})
    assert node.figures() == NodeFigures(None, None, 8_192_000_000, None)


@pytest.mark.parametrize("after", [stat(1000, 5000), stat(900, 5200), stat(10, 20)])
def test_counters_that_stand_or_go_back_give_no_percentage(tmp_path: Path, after: str) -> None:
    write(tmp_path, {"stat": stat(1000, 5000)})
    node = ProcNode(str(tmp_path))
    node.figures()
    write(tmp_path, {"stat": after})
    assert node.figures().cpu_percent is None


def test_never_more_than_everything(tmp_path: Path) -> None:
    write(tmp_path, {"stat": stat(1000, 5000)})
    node = ProcNode(str(tmp_path))
    node.figures()
    write(tmp_path, {"stat": stat(1100, 4999)})
    assert node.figures().cpu_percent == 100.0


def test_of_this_machine() -> None:
    figures = ProcNode().figures()
    assert figures.cores
    assert figures.memory
    assert figures.memory_percent is not None
    assert 0 < figures.memory_percent < 100
