"""Which containers of this node belong to Swarm tasks, and the process behind one."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoheal.errors import RemoteError

if TYPE_CHECKING:
    from autoheal.ports import Clock, SwarmReader

LABEL_TASK = "com.docker.swarm.task.id"
LABEL_SERVICE = "com.docker.swarm.service.id"
REFRESH_S = 15.0

_log = logging.getLogger(__name__)
_FILTERS = json.dumps({"label": [LABEL_TASK]})


@dataclass(frozen=True, slots=True)
class TaskContainer:
    """A running container of a Swarm task."""

    id: str
    task: str
    service: str


class TaskContainers:
    """The containers of Swarm tasks on this node, as Docker listed them a short while ago.

    The list is read again every `refresh_s` seconds and after `poke()`. While Docker does not
    answer, the last list stays in force: their cgroups tell on their own which of them live.
    """

    def __init__(self, reader: SwarmReader, clock: Clock, *, refresh_s: float = REFRESH_S) -> None:
        self._reader = reader
        self._clock = clock
        self._refresh_s = refresh_s
        self._known: tuple[TaskContainer, ...] | None = None
        self._due_at = clock.monotonic()
        self._failing = False

    def poke(self) -> None:
        """A container came or went: the next call reads the list again. For any thread."""
        if not self._failing:  # else an engine that hangs would cost every tick a timeout
            self._due_at = self._clock.monotonic()

    def containers(self) -> tuple[TaskContainer, ...]:
        """All of them, in the order of their ids. Raises RemoteError while none were ever read."""
        now = self._clock.monotonic()
        if self._known is not None and now < self._due_at:
            return self._known
        self._due_at = now + self._refresh_s  # before the read: a poke during it counts
        try:
            self._known = _sorted(self._reader.get("/containers/json", filters=_FILTERS))
        except RemoteError as error:
            if self._known is None:
                raise
            self._note(failing=True, why=str(error))
            self._due_at = self._clock.monotonic() + self._refresh_s
        else:
            self._note(failing=False, why="Docker answers again")
        return self._known

    def _note(self, *, failing: bool, why: str) -> None:
        if failing != self._failing:
            state = "stays as it was" if failing else "is fresh again"
            _log.warning("the list of containers %s: %s", state, why)
        self._failing = failing


def container_pid(reader: SwarmReader, container: str) -> int | None:
    """The first process of a container, None where Docker cannot tell."""
    try:
        state = reader.get(f"/containers/{container}/json").get("State") or {}
    except RemoteError as error:
        _log.info("the process of container %.12s is unknown: %s", container, error)
        return None
    return state.get("Pid") or None


def _sorted(rows: list[dict[str, Any]]) -> tuple[TaskContainer, ...]:
    found = []
    for row in rows:
        labels = row.get("Labels") or {}
        if labels.get(LABEL_TASK):
            found.append(
                TaskContainer(row["Id"], labels[LABEL_TASK], labels.get(LABEL_SERVICE, ""))
            )
    return tuple(sorted(found, key=lambda container: container.id))
