"""A node's parent cgroup: its capacity as limits, its use as figures; cgroup v1 and v2.

On v1 each controller is a hierarchy of its own; pressure figures come from the v2 hierarchy that is
mounted beside them.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rig.processes import send

if TYPE_CHECKING:
    import signal

PERIOD_US = 100_000
RESOURCES = ("cpu", "io", "memory")


@dataclass(frozen=True)
class Hierarchy:
    """One mounted cgroup tree."""

    mount: Path
    controllers: frozenset[str]
    unified: bool


@dataclass(frozen=True)
class Use:
    """What the containers of one node have used so far, and use now."""

    user_seconds: float
    system_seconds: float
    working_set_bytes: int
    pressure: dict[str, str]


def hierarchies() -> list[Hierarchy]:
    """Return every cgroup tree that is mounted, each once."""
    found: dict[Path, Hierarchy] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount_text, kind, options, *_ = line.split()
        mount = Path(mount_text)
        if kind == "cgroup":
            found[mount] = Hierarchy(mount, frozenset(options.split(",")), unified=False)
        elif kind == "cgroup2":
            controllers = (mount / "cgroup.controllers").read_text().split()
            found[mount] = Hierarchy(mount, frozenset(controllers), unified=True)
    return list(found.values())


def _holding(controller: str) -> Hierarchy:
    return next(tree for tree in hierarchies() if controller in tree.controllers)


def create(group: str, cpus: float, memory_bytes: int) -> None:
    """Create a cgroup (a path like rig/node) in the trees that hold its limits and figures."""
    for tree in hierarchies():
        if tree.unified or tree.controllers & {"cpu", "cpuacct", "memory"}:
            _make(tree, group)
    quota_us = int(cpus * PERIOD_US)
    processor, memory = _holding("cpu"), _holding("memory")
    if processor.unified:
        (processor.mount / group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
    else:
        (processor.mount / group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (processor.mount / group / "cpu.cfs_quota_us").write_text(str(quota_us))
    limit = "memory.max" if memory.unified else "memory.limit_in_bytes"
    (memory.mount / group / limit).write_text(str(memory_bytes))


def _make(tree: Hierarchy, group: str) -> None:
    directory = tree.mount
    for part in group.split("/"):
        if tree.unified and tree.controllers:
            _delegate(directory, tree.controllers)
        directory /= part
        directory.mkdir(exist_ok=True)


def _delegate(directory: Path, controllers: frozenset[str]) -> None:
    """On v2, children have only the controllers that their parent passes on."""
    for controller in sorted(controllers & {"cpu", "cpuset", "io", "memory", "pids"}):
        with contextlib.suppress(OSError):
            (directory / "cgroup.subtree_control").write_text(f"+{controller}")


def use_of(group: str) -> Use:
    """Read what a node's containers use; raise FileNotFoundError when the cgroup is gone."""
    processor, memory = _holding("cpu"), _holding("memory")
    if processor.unified:
        numbers = _numbers(processor.mount / group / "cpu.stat")
        user, system = numbers["user_usec"] / 1e6, numbers["system_usec"] / 1e6
    else:
        account = _holding("cpuacct").mount / group
        user = int((account / "cpuacct.usage_user").read_text()) / 1e9
        system = int((account / "cpuacct.usage_sys").read_text()) / 1e9
    current = "memory.current" if memory.unified else "memory.usage_in_bytes"
    inactive = "inactive_file" if memory.unified else "total_inactive_file"
    used_bytes = int((memory.mount / group / current).read_text())
    idle_bytes = _numbers(memory.mount / group / "memory.stat")[inactive]
    return Use(user, system, max(0, used_bytes - idle_bytes), _pressure(group))


def _numbers(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text().splitlines())
    return {name: int(value) for name, value in pairs}


def _pressure(group: str) -> dict[str, str]:
    """Read the pressure files that this kernel has for the cgroup: none is an honest answer."""
    found = {}
    for tree in hierarchies():
        for resource in RESOURCES if tree.unified else ():
            with contextlib.suppress(OSError):
                found[resource] = (tree.mount / group / f"{resource}.pressure").read_text()
    return found


def directories(group: str) -> list[Path]:
    """Return the cgroup's directories of all trees, the deepest first."""
    found = []
    for tree in hierarchies():
        for directory, _, _ in os.walk(tree.mount / group, topdown=False):
            found.append(Path(directory))
    return found


def process_ids(group: str) -> set[int]:
    """Return every process in the cgroup and below."""
    found: set[int] = set()
    for directory in directories(group):
        with contextlib.suppress(OSError):
            found |= {int(line) for line in (directory / "cgroup.procs").read_text().split()}
    # 0 stands for a process of another PID namespace, which has no number here.
    return found - {0}


def signal_all(group: str, number: signal.Signals) -> None:
    """Send a signal to every process in the cgroup, paused ones included."""
    for directory in directories(group):
        # A v1 freezer holds even SIGKILL back.
        with contextlib.suppress(OSError):
            if (directory / "freezer.state").exists():
                (directory / "freezer.state").write_text("THAWED")
    send(process_ids(group), number)


def remove(group: str, timeout_seconds: float = 5.0) -> None:
    """Remove the empty cgroup; it stays busy for a moment after its last process."""
    deadline = time.monotonic() + timeout_seconds
    while remaining := directories(group):
        for directory in remaining:
            with contextlib.suppress(OSError):
                directory.rmdir()
        if time.monotonic() >= deadline:
            return
        time.sleep(0.02)
