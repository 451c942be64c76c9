"""Docker's event stream of this node, in windows of a few seconds.

Each request asks for the events from the last one we know until a moment shortly ahead, and the
engine ends its answer then. So an engine that hangs shows within `grace_s`, nothing waits longer
than a window to be stopped, and a cut needs no treatment of its own: the next request replays what
was missed. Docker replays the last 256 events of any kind, so a long gap may lose some; whoever
listens to `on_change` reads its lists again after every gap.

Events that come twice (the replay includes the last one) are known by time, container and action.

An exit code does not say who ended a container: 137 is the kernel's OOM killer, `docker kill` and a
Swarm that lost patience alike. Docker tells of every signal that it sends (`kill`), always before
the `die` it leads to, and of none that it did not send; so the signalled are remembered until they
end. Signals that people send to a container that is to live on do not count.
"""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from autoheal.adapters.containers import LABEL_SERVICE, LABEL_TASK
from autoheal.errors import RemoteError
from autoheal.model import Event

if TYPE_CHECKING:
    from autoheal.adapters.docker_api import ReadOnlyDocker
    from autoheal.ports import Clock

WINDOW_S = 2.0
GRACE_S = 8.0
REMEMBERED_MAX = 1024
NANO = 10**9
MILLI_IN_NANO = 10**6

OOM_KILLED = "oom_killed"
SAME_KILL_S = 1
UNHEALTHY = "unhealthy"
# A container may survive a signal; what befalls it long after is its own affair again. A stop may
# take as long as its grace period.
STOPPING_S = 60
STOPPED_S = 600

_KINDS = {"oom": OOM_KILLED, "die": "died", "health_status: unhealthy": UNHEALTHY}
_FILTERS = json.dumps(
    {
        "type": ["container", "service", "node"],
        "event": ["oom", "kill", "die", "health_status", "start", "create", "update", "remove"],
    }
)
# Reload, reopen the logs, look at the new size of the terminal. An event does not tell which signal
# stops its container: where it is one of these, only the KILL that may follow shows.
_HARMLESS_SIGNALS = frozenset({"1", "HUP", "10", "USR1", "12", "USR2", "28", "WINCH"})

_log = logging.getLogger(__name__)
_Key = TypeVar("_Key")


class DockerEvents:
    """EventSource over GET /events of the engine on this very node: both read one clock.

    `on_change` is called when containers, services or nodes may have changed, and after every gap;
    from the thread that iterates. `wait` sleeps for some seconds.
    """

    def __init__(  # the parts it joins, and its two times
        self,
        docker: ReadOnlyDocker,
        clock: Clock,
        node: str,
        *,
        on_change: Callable[[], None] = lambda: None,
        window_s: float = WINDOW_S,
        grace_s: float = GRACE_S,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._docker = docker
        self._clock = clock
        self._node = node
        self._on_change = on_change
        self._window_s = window_s
        self._grace_s = grace_s
        self._wait = wait
        self._since_ns = clock.wall_ms() * MILLI_IN_NANO
        self._seen: OrderedDict[tuple[int, str, str], int] = OrderedDict()
        self._signalled: OrderedDict[str, int] = OrderedDict()
        self._killed: OrderedDict[str, int] = OrderedDict()
        self._gap = True

    def events(self, stop: Callable[[], bool]) -> Iterator[Event | None]:
        """Events as they happen, None after each window. Goes on where an earlier call broke off.

        Raises RemoteUnreachable, RemoteRefused.
        """
        while not stop():
            began = self._clock.monotonic()
            try:
                for raw in self._window():
                    if event := self._accepted(raw):
                        yield event
                    if stop():
                        return
            except RemoteError:
                self._gap = True
                raise
            self._close_gap()
            yield None
            early_s = began + self._window_s - self._clock.monotonic()
            if early_s > 0:  # an engine whose clock is ahead ends at once: do not spin
                self._wait(min(early_s, self._window_s))

    def _window(self) -> Iterator[dict[str, Any]]:
        now_ns = self._clock.wall_ms() * MILLI_IN_NANO
        until_ns = now_ns + int(self._window_s * NANO)
        self._since_ns = min(self._since_ns, now_ns)  # the node's clock may have been set back
        lines = self._docker.lines(
            "/events",
            silence_s=self._window_s + self._grace_s,
            since=_timestamp(self._since_ns),
            until=_timestamp(until_ns),
            filters=_FILTERS,
        )
        for line in lines:
            raw = _decoded(line)
            if raw is not None:
                yield raw

    def _close_gap(self) -> None:
        if self._gap:
            self._gap = False
            self._on_change()

    def _accepted(self, raw: Mapping[str, Any]) -> Event | None:
        """The event if rules can count it and it is new; others are only a sign of change."""
        actor = raw.get("Actor") or {}
        action = raw.get("Action") or ""
        container = actor.get("ID") or ""
        at_ns = raw.get("timeNano") or (raw.get("time") or 0) * NANO
        if not self._is_new((at_ns, container, action), at_ns):
            return None
        self._since_ns = max(self._since_ns, at_ns)
        attributes = actor.get("Attributes") or {}
        if action == "kill":
            self._note_signal(container, attributes, at_ns)
            return None
        self._on_change()
        kind = _KINDS.get(action)
        if raw.get("Type") != "container" or kind is None or not attributes.get(LABEL_TASK):
            return None
        if kind == UNHEALTHY and self._is_stopping(container, at_ns):
            return None
        if kind == OOM_KILLED and not self._is_new_kill(container, at_ns):
            return None
        died = action == "die"
        return Event(
            kind=kind,
            service=attributes.get(LABEL_SERVICE, ""),
            task=attributes[LABEL_TASK],
            container=container,
            node=self._node,
            exit_code=_exit_code(attributes) if died else None,
            stopped=self._was_signalled(container, at_ns) if died else None,
        )

    def _note_signal(self, container: str, attributes: Mapping[str, str], at_ns: int) -> None:
        word = attributes.get("signal", "").upper().removeprefix("SIG")
        if attributes.get(LABEL_TASK) and word not in _HARMLESS_SIGNALS:
            _remember(self._signalled, container, at_ns)

    def _is_stopping(self, container: str, at_ns: int) -> bool:
        """Whether it is being stopped: that a health check fails meanwhile says nothing."""
        signalled_ns = self._signalled.get(container)
        return signalled_ns is not None and at_ns - signalled_ns < STOPPING_S * NANO

    def _is_new_kill(self, container: str, at_ns: int) -> bool:
        """Whether a kill is not yet told: Docker tells of one up to thirty times at once."""
        told_ns = self._killed.get(container)
        if told_ns is not None and abs(at_ns - told_ns) < SAME_KILL_S * NANO:
            return False
        _remember(self._killed, container, at_ns)
        return True

    def _was_signalled(self, container: str, at_ns: int) -> bool:
        """Whether a signal was to end it. Asked once, at its end: it may be started again."""
        signalled_ns = self._signalled.pop(container, None)
        return signalled_ns is not None and at_ns - signalled_ns < STOPPED_S * NANO

    def _is_new(self, key: tuple[int, str, str], at_ns: int) -> bool:
        if key in self._seen:
            return False
        _remember(self._seen, key, at_ns)
        return True


def _remember(memory: OrderedDict[_Key, int], key: _Key, at_ns: int) -> None:
    """Keep the key and its time, as the newest; the oldest goes when there are too many."""
    memory[key] = at_ns
    memory.move_to_end(key)
    if len(memory) > REMEMBERED_MAX:
        memory.popitem(last=False)


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        raw = json.loads(line) if line else None
    except ValueError:
        raw = None
    if not isinstance(raw, dict):
        if line:
            _log.warning("Docker sent an event that is none: %r", line[:80])
        return None
    return raw


def _exit_code(attributes: Mapping[str, str]) -> int | None:
    text = attributes.get("exitCode", "")
    return int(text) if text.isdecimal() else None


def _timestamp(nanoseconds: int) -> str:
    """Docker's own form: seconds, a point, nine digits."""
    return f"{nanoseconds // NANO}.{nanoseconds % NANO:09d}"
