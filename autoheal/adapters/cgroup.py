"""Figures of containers from the kernel's own files: 0.1 ms each, also while Docker hangs.

Both hierarchies are read. A container's directory is the same below every controller of v1; it is
found once, by the first of these that leads to a directory:

1. where Docker puts it: `docker/<id>`, `system.slice/docker-<id>.scope`, or wherever another
   container was found before (a daemon's --cgroup-parent);
2. what /proc/<pid>/cgroup says of the container's first process;
3. a walk over the tree, at most every 15 seconds.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from autoheal.adapters.readings import NAN, Limits, Rates, Reading, working_set
from autoheal.model import RosterRow
from autoheal.records import container_key

if TYPE_CHECKING:
    from autoheal.ports import Clock, Container
    from autoheal.records import Samples

FILE_BYTES_MAX = 65_536
WALK_DEPTH_MAX = 6
WALK_EVERY_S = 15.0
MISSED_S = 5.0
V1_UNLIMITED = 2**60

_log = logging.getLogger(__name__)
_ID = re.compile(r"(?:.*-)?([0-9a-f]{64})(?:\.scope)?")


class _Hierarchy(Protocol):
    """Where the files of a container are, and how they spell things."""

    @property
    def anchor(self) -> str:
        """The directory below which containers are looked for."""
        ...

    def reading(self, container: str, at: float) -> Reading: ...
    def limits(self, container: str) -> Limits: ...


class CgroupStats:
    """StatsSource over cgroup files. Not for several threads at once.

    `cgroup_root` is where the host's cgroup file system is mounted; `proc_root` the host's /proc;
    `pid_of` tells a container's first process, None if it cannot.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        cgroup_root: str = "/sys/fs/cgroup",
        proc_root: str = "/proc",
        pid_of: Callable[[str], int | None] | None = None,
    ) -> None:
        self._clock = clock
        self._hierarchy = _hierarchy(cgroup_root)
        self._paths = _Paths(self._hierarchy.anchor, proc_root, pid_of, clock)
        self._rates = Rates()

    def sample(self, containers: Sequence[Container]) -> Samples:
        """One column per container whose files are there; what one file lacks is NaN."""
        readings: dict[str, Reading] = {}
        self._paths.keep({container.id for container in containers})
        for container in containers:
            path = self._paths.find(container.id)
            if path is None:
                continue
            reading = self._hierarchy.reading(path, self._clock.monotonic())
            # Without a process the container is dead, though Docker may not have removed its
            # directory yet: its zeros are no figures.
            if reading.empty or reading.pids == 0:
                self._paths.forget(container.id)
            else:
                readings[container.id] = reading
        return self._rates.samples(readings)

    def roster(self, containers: Sequence[Container]) -> tuple[RosterRow, ...]:
        """The limits in force; a container whose directory is gone is left out."""
        rows = []
        for container in containers:
            path = self._paths.find(container.id)
            if path is None:
                continue
            limits = self._hierarchy.limits(path)
            if Path(self._hierarchy.anchor, path).is_dir():
                rows.append(
                    RosterRow(
                        container_key(container.id),
                        container.id,
                        container.task,
                        container.service,
                        limits.cpu,
                        limits.memory,
                    )
                )
        return tuple(rows)


class _V1:
    """One tree per controller."""

    def __init__(self, root: str) -> None:
        self._cpu = _controller(root, "cpu", "cpu,cpuacct", "cpuacct,cpu")
        self._cpuacct = _controller(root, "cpuacct", "cpu,cpuacct", "cpuacct,cpu")
        self._memory = _controller(root, "memory")
        self._pids = _controller(root, "pids")
        self.anchor = self._cpuacct

    def reading(self, container: str, at: float) -> Reading:
        cpu_stat = _table(f"{self._cpu}/{container}/cpu.stat")
        memory = f"{self._memory}/{container}"
        memory_stat = _table(f"{memory}/memory.stat")
        return Reading(
            at=at,
            cpu_seconds=_number(_text(f"{self._cpuacct}/{container}/cpuacct.usage")) / 1e9,
            periods=cpu_stat.get("nr_periods", NAN),
            throttled=cpu_stat.get("nr_throttled", NAN),
            memory_bytes=working_set(
                _number(_text(f"{memory}/memory.usage_in_bytes")),
                memory_stat.get("total_inactive_file", NAN),
            ),
            pids=_number(_text(f"{self._pids}/{container}/pids.current")),
        )

    def limits(self, container: str) -> Limits:
        quota = _number(_text(f"{self._cpu}/{container}/cpu.cfs_quota_us"))
        period = _number(_text(f"{self._cpu}/{container}/cpu.cfs_period_us"))
        memory = _number(_text(f"{self._memory}/{container}/memory.limit_in_bytes"))
        return Limits(
            cpu=quota / period if quota > 0 and period > 0 else None,
            memory=int(memory) if memory < V1_UNLIMITED else None,
        )


class _V2:
    """One tree for all controllers."""

    def __init__(self, root: str) -> None:
        self.anchor = root

    def reading(self, container: str, at: float) -> Reading:
        directory = f"{self.anchor}/{container}"
        cpu_stat = _table(f"{directory}/cpu.stat")
        return Reading(
            at=at,
            cpu_seconds=cpu_stat.get("usage_usec", NAN) / 1e6,
            periods=cpu_stat.get("nr_periods", NAN),
            throttled=cpu_stat.get("nr_throttled", NAN),
            memory_bytes=working_set(
                _number(_text(f"{directory}/memory.current")),
                _table(f"{directory}/memory.stat").get("inactive_file", NAN),
            ),
            pids=_number(_text(f"{directory}/pids.current")),
        )

    def limits(self, container: str) -> Limits:
        directory = f"{self.anchor}/{container}"
        quota, _, period = (_text(f"{directory}/cpu.max") or "max").partition(" ")
        memory = _number(_text(f"{directory}/memory.max"))
        return Limits(
            cpu=_number(quota) / _number(period) if _number(quota) > 0 < _number(period) else None,
            memory=int(memory) if memory >= 0 else None,
        )


class _Paths:
    """Container id -> its directory below the anchor, found once."""

    def __init__(
        self,
        anchor: str,
        proc_root: str,
        pid_of: Callable[[str], int | None] | None,
        clock: Clock,
    ) -> None:
        self._anchor = anchor
        self._proc_root = proc_root
        self._pid_of = pid_of
        self._clock = clock
        self._found: dict[str, str] = {}
        self._missed: dict[str, float] = {}
        self._places = ["docker/{}", "system.slice/docker-{}.scope"]
        self._walk_after = clock.monotonic()

    def find(self, container: str) -> str | None:
        """Its directory, None if there is none (any more)."""
        path = self._found.get(container)
        if path is None and self._clock.monotonic() < self._missed.get(container, 0.0):
            return None
        if path is None:
            path = self._at_known_place(container) or self._of_process(container)
        if path is None and self._clock.monotonic() >= self._walk_after:
            self._walk_after = self._clock.monotonic() + WALK_EVERY_S
            path = self._walked(container)
        if path is None:
            self._missed[container] = self._clock.monotonic() + MISSED_S
        elif container not in self._found:
            self._remember(container, path)
        return path

    def forget(self, container: str) -> None:
        """It is not there any more."""
        self._found.pop(container, None)

    def keep(self, containers: set[str]) -> None:
        """Forget all others."""
        for container in self._found.keys() - containers:
            self.forget(container)
        for container in self._missed.keys() - containers:
            del self._missed[container]

    def _remember(self, container: str, path: str) -> None:
        self._found[container] = path
        place = path.replace("{", "{{").replace("}", "}}").replace(container, "{}")
        if place not in self._places:
            self._places.append(place)
            _log.info("containers' cgroups are also found at %s", place)

    def _at_known_place(self, container: str) -> str | None:
        for place in self._places:
            path = place.format(container)
            if Path(self._anchor, path).is_dir():
                return path
        return None

    def _of_process(self, container: str) -> str | None:
        pid = self._pid_of(container) if self._pid_of else None
        lines = _text(f"{self._proc_root}/{pid}/cgroup") if pid else None
        for line in (lines or "").splitlines():
            path = line.split(":", 2)[-1].strip("/")
            # a container's init may have moved into a cgroup of its own below the container's
            head, found, tail = path.partition(container)
            path = head + found + tail.partition("/")[0]
            if found and ".." not in path and Path(self._anchor, path).is_dir():
                return path
        return None

    def _walked(self, container: str) -> str | None:
        for directory, children, _ in os.walk(self._anchor):
            path = Path(directory).relative_to(self._anchor)
            for child in children:
                found = _ID.fullmatch(child)
                if found and found.group(1) == container:
                    return str(path / child)
            deeper = [child for child in children if not _ID.fullmatch(child)]
            children[:] = deeper if len(path.parts) + 1 < WALK_DEPTH_MAX else []
        return None


def _hierarchy(root: str) -> _Hierarchy:
    """v2 has its list of controllers at the root; v1 has a directory for each."""
    return _V2(root) if Path(root, "cgroup.controllers").exists() else _V1(root)


def _controller(root: str, *names: str) -> str:
    for name in names:
        if Path(root, name).is_dir():
            return f"{root}/{name}"
    return f"{root}/{names[0]}"


def _text(path: str) -> str | None:
    """A whole file, None if it cannot be read: never there, gone by now, or not for us."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(descriptor, FILE_BYTES_MAX).decode()
    except OSError:
        return None  # the cgroup was removed between the two calls
    finally:
        os.close(descriptor)


def _number(text: str | None) -> float:
    """NaN for what is no number, 'max' among them."""
    try:
        return float(int(text or ""))
    except ValueError:
        return NAN


def _table(path: str) -> dict[str, float]:
    """Lines of 'name number'."""
    pairs = (line.partition(" ") for line in (_text(path) or "").splitlines())
    return {name: _number(value) for name, _, value in pairs}
