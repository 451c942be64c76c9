"""Keeps each node's /proc figures fresh, once a second: `python -m rig.figures WORK_DIRECTORY`.

A node has `cpus` processors' worth of time, and its busy share of it is what its cgroup was given.
So, in proc/stat, busy + idle = uptime * cpus, and busy = the cgroup's CPU time. Nothing is
remembered, so a restarted refresher goes on smoothly.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rig import cgroups
from rig.state import State

if TYPE_CHECKING:
    from rig.state import NodeState

REFRESH_SECONDS = 1.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def stat_text(use: cgroups.Use, cpus: float, uptime_seconds: float) -> str:
    """Write proc/stat of a node with this many processors."""
    user = int(use.user_seconds * TICKS_PER_SECOND)
    system = int(use.system_seconds * TICKS_PER_SECOND)
    idle = max(0, int(uptime_seconds * cpus * TICKS_PER_SECOND) - user - system)
    count = max(1, round(cpus))
    lines = [_processor_line("cpu", user, system, idle)]
    lines += [
        _processor_line(f"cpu{index}", user // count, system // count, idle // count)
        for index in range(count)
    ]
    lines.append(f"btime {int(time.time() - uptime_seconds)}")
    return "\n".join(lines) + "\n"


def _processor_line(name: str, user: int, system: int, idle: int) -> str:
    # user nice system idle iowait irq softirq steal guest guest_nice
    return f"{name} {user} 0 {system} {idle} 0 0 0 0 0 0"


def meminfo_text(use: cgroups.Use, memory_bytes: int) -> str:
    """Write proc/meminfo of a node with this much memory and no swap."""
    total_kib = memory_bytes // 1024
    available_kib = max(0, memory_bytes - use.working_set_bytes) // 1024
    rows = {
        "MemTotal": total_kib,
        "MemFree": available_kib,
        "MemAvailable": available_kib,
        "Buffers": 0,
        "Cached": 0,
        "SwapTotal": 0,
        "SwapFree": 0,
    }
    return "".join(f"{name + ':':<16}{kib:>8} kB\n" for name, kib in rows.items())


def refresh(node: NodeState, group: str, root: Path) -> None:
    """Write one node's figures once."""
    use = cgroups.use_of(group)
    uptime_seconds = float(Path("/proc/uptime").read_text().split()[0])
    replace(root / "proc/stat", stat_text(use, node.cpus, uptime_seconds))
    replace(root / "proc/meminfo", meminfo_text(use, node.memory_bytes))
    for resource, text in use.pressure.items():
        replace(root / f"proc/pressure/{resource}", text)


def replace(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.rename(path)


def main() -> None:
    """Refresh until the rig's work directory or its cgroups are gone."""
    state = State.load(Path(sys.argv[1]))
    while True:
        try:
            for node in state.nodes:
                refresh(node, state.group_of(node), state.root_of(node))
        except FileNotFoundError:
            return
        time.sleep(REFRESH_SECONDS)


if __name__ == "__main__":
    main()
