"""The node's own load, from the kernel: /proc/stat and /proc/meminfo tell of the whole machine."""

from __future__ import annotations

import re
from pathlib import Path

from autoheal.model import NodeFigures

KIB = 1024
_IDLE, _IOWAIT, _STEAL = 3, 4, 7


class ProcNode:
    """NodeSource over `proc_root`. What cannot be read is None, never 0."""

    def __init__(self, proc_root: str = "/proc") -> None:
        self._root = Path(proc_root)
        self._last: tuple[int, int] | None = None

    def figures(self) -> NodeFigures:
        """CPU since the last call (None on the first), memory now."""
        stat = self._lines("stat")
        memory, memory_percent = _memory(self._lines("meminfo"))
        cores = sum(1 for line in stat if re.match(r"cpu\d+ ", line))
        return NodeFigures(float(cores) or None, self._cpu_percent(stat), memory, memory_percent)

    def _cpu_percent(self, stat: list[str]) -> float | None:
        """Time that was not idle, of all time; waiting for a disk is idle."""
        last, self._last = self._last, _busy_and_total(stat)
        if last is None or self._last is None:
            return None
        busy, total = self._last[0] - last[0], self._last[1] - last[1]
        # some kernels let idle and iowait go back a little
        return min(100.0, 100.0 * busy / total) if total > 0 and busy >= 0 else None

    def _lines(self, name: str) -> list[str]:
        try:
            return (self._root / name).read_text().splitlines()
        except OSError:
            return []


def _busy_and_total(stat: list[str]) -> tuple[int, int] | None:
    for line in stat:
        if line.startswith("cpu "):
            # guest time, in the columns after steal, is part of user time already
            ticks = [int(word) for word in line.split()[1 : _STEAL + 2]]
            if len(ticks) <= _IOWAIT:
                return None
            total = sum(ticks)
            return total - ticks[_IDLE] - ticks[_IOWAIT], total
    return None


def _memory(meminfo: list[str]) -> tuple[int | None, float | None]:
    """Bytes in all, and percent of them that could not be given to a new process."""
    kib = dict(
        re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", "\n".join(meminfo), re.MULTILINE)
    )
    if "MemTotal" not in kib:
        return None, None
    total = int(kib["MemTotal"])
    if "MemAvailable" not in kib or not total:
        return total * KIB or None, None
    return total * KIB, 100.0 * (total - int(kib["MemAvailable"])) / total
