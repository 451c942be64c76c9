"""Which processes belong to a rig, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FIGURES_MODULE = "rig.figures"
OWN_PROGRAMS = frozenset(
    {
        "dockerd",
        "containerd",
        "containerd-shim",
        "containerd-shim-runc-v1",
        "containerd-shim-runc-v2",
        "docker-registry",
        "registry",
    }
)


def arguments_of(process_id: int) -> list[str]:
    """Return the command line; empty for a process that has ended."""
    try:
        raw = Path(f"/proc/{process_id}/cmdline").read_bytes()
    except OSError:
        return []
    return raw.decode(errors="replace").rstrip("\0").split("\0") if raw else []


def started_at(process_id: int) -> int | None:
    """Return the start time in ticks, which tells a process from a later one of its number."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return None
    # The command's name may hold spaces and brackets: count fields after its closing bracket.
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def thread_states(process_id: int) -> list[str]:
    """Return the state letter of each of a process's threads."""
    states = []
    for entry in Path(f"/proc/{process_id}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            states.append(entry.read_text().rpartition(")")[2].split()[0])
    return states


def every_process_id() -> list[int]:
    """Return the numbers of all processes of this machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def belongs_to(arguments: list[str], work: Path) -> bool:
    """Say whether a command line is one that a rig with this work directory has started.

    The program is checked too: a shell or an editor that mentions the directory is not ours.
    """
    if not arguments:
        return False
    ours = Path(arguments[0]).name in OWN_PROGRAMS or FIGURES_MODULE in arguments
    mark = f"{work}/"
    return ours and any(mark in f"{argument}/" for argument in arguments[1:])


def rig_processes(work: Path) -> list[int]:
    """Return the daemons, shims and helpers of the rig in this work directory."""
    return [number for number in every_process_id() if belongs_to(arguments_of(number), work)]


def port_forwarders(namespaces: Iterable[Path]) -> list[int]:
    """Return the docker-proxy processes in these namespaces: they name no directory."""
    inodes = set()
    for namespace in namespaces:
        with contextlib.suppress(OSError):
            inodes.add(namespace.stat().st_ino)
    found = []
    for number in every_process_id():
        arguments = arguments_of(number)
        if not arguments or Path(arguments[0]).name != "docker-proxy":
            continue
        with contextlib.suppress(OSError):
            if Path(f"/proc/{number}/ns/net").stat().st_ino in inodes:
                found.append(number)
    return found


def send(process_ids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process that still exists."""
    for process_id in process_ids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, number)
