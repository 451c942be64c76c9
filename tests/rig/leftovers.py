"""Finding and removing everything that a rig owns by its name alone: its owner may be long dead."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from pathlib import Path

from rig import cgroups, network
from rig.commands import RigError, run
from rig.processes import port_forwarders, rig_processes, send
from rig.state import bridge_name, check_name, existing_names, read_state, rig_group, work_directory

KILL_TIMEOUT_SECONDS = 15.0
SHIM_SOCKETS = Path("/run/containerd/s")
# The engine keeps the load balancers of overlay networks here, whatever its --data-root.
LOAD_BALANCERS = Path("/var/lib/docker/network/files")


def mounts_below(work: Path) -> list[str]:
    """Return the mount points inside a directory, the deepest first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(
        (point for point in points if point.startswith(f"{work}/")), key=len, reverse=True
    )


def remaining(name: str) -> list[str]:
    """Name everything of a rig that still exists, one line each; empty when nothing does."""
    work, bridge = work_directory(name), bridge_name(name)
    lines = [f"process {number}" for number in _living(name)]
    lines += [f"mount {point}" for point in mounts_below(work)]
    lines += [f"namespace {namespace}" for namespace in network.namespaces_of(bridge)]
    lines += [f"interface {link}" for link in network.links_of(bridge)]
    lines += [f"cgroup {directory}" for directory in cgroups.directories(rig_group(name))]
    if work.exists():
        lines.append(f"directory {work}")
    return lines


def remove(name: str) -> None:
    """Remove everything of a rig that exists; raise when something resists."""
    check_name(name)
    if not remaining(name):
        return
    _end_processes(name)
    work = work_directory(name)
    for directory in work.glob("*/containerd"):
        unlink_shim_sockets(directory)
    _remove_load_balancers(work)
    for point in mounts_below(work):
        with contextlib.suppress(RigError):
            run("umount", "--lazy", point)
    network.remove(bridge_name(name))
    cgroups.remove(rig_group(name))
    shutil.rmtree(work, ignore_errors=True)
    if left := remaining(name):
        message = f"rig {name} left behind: {'; '.join(left)}"
        raise RigError(message)


def remove_orphans() -> list[str]:
    """Remove the rigs whose owner was killed, and return their names."""
    removed = []
    with network.exclusive():  # Two at it would see each other's half-removed things.
        for name in existing_names():
            state = read_state(name)
            if state is not None and state.owner_pid != 0 and not state.owner_lives():
                remove(name)
                removed.append(name)
    return removed


def _living(name: str) -> list[int]:
    bridge = bridge_name(name)
    namespaces = [network.NAMESPACES / namespace for namespace in network.namespaces_of(bridge)]
    found = set(rig_processes(work_directory(name)))
    return sorted(found | set(port_forwarders(namespaces)) | cgroups.process_ids(rig_group(name)))


def _end_processes(name: str) -> None:
    """Kill until none is left: a daemon that dies last may have started one more container."""
    deadline = time.monotonic() + KILL_TIMEOUT_SECONDS
    while living := _living(name):
        if time.monotonic() >= deadline:
            return
        send(living, signal.SIGKILL)
        cgroups.signal_all(rig_group(name), signal.SIGKILL)
        time.sleep(0.05)


def unlink_shim_sockets(directory: Path) -> None:
    """Remove what one containerd's killed shims leave in a place that all containerds share."""
    for address in directory.glob("state/io.containerd.runtime.v2.task/*/*/address"):
        socket = Path(address.read_text().removeprefix("unix://"))
        if socket.parent == SHIM_SOCKETS:
            socket.unlink(missing_ok=True)


def _remove_load_balancers(work: Path) -> None:
    """Remove the load balancers of the networks whose id stands in a network store of the rig."""
    stores = [store.read_bytes() for store in work.glob("*/data/network/files/local-kv.db")]
    for directory in LOAD_BALANCERS.glob("lb_*"):
        network_id = directory.name.removeprefix("lb_").encode()
        if any(network_id in store for store in stores):
            shutil.rmtree(directory, ignore_errors=True)
