"""What was seen of a Swarm, reduced to facts that hold every time, whatever the timing.

The observer looks through the product's ports, as often as time allows, and remembers every task,
also those that Swarm forgets. Left out of the facts: ids, moments, the slots' numbers, what a task
passes through on its way to running, how often a crash loop has turned.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

from autoheal.adapters.swarm_objects import milliseconds, service_from, task_from
from autoheal.core.view.swarm_view import ENDED_STATES
from autoheal.model import Event, Service, Task
from sim.ground import MIB, RELEASE, Ground

Facts = dict[str, Any]

PENDING, RUNNING, SHUTDOWN, REMOVE = "pending", "running", "shutdown", "remove"
AGAIN = " (again and again)"
# Ended by themselves: what follows them is Swarm's restart, after the policy's delay.
_BY_THEMSELVES = frozenset({"failed", "complete"})
_NANO_IN_MILLI = 10**6
_UNREPEATABLE = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "HEX"),
    (re.compile(r"\b[0-9a-z]{25}\b"), "ID"),
    (re.compile(r"\S+/absent:\S+?(?=[\s,\"]|:?$)"), "IMAGE"),
)


@dataclass
class Life:
    """One task, from its first sight to its last; times are the task's own, in ms since 1970."""

    raw: dict[str, Any]
    task: Task
    first_ms: int
    began_ms: int | None = None
    gone: bool = False
    path: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Life:
        """A task at first sight."""
        life = cls(raw, task_from(raw), milliseconds(raw["CreatedAt"]))
        life.see(raw)
        return life

    def see(self, raw: dict[str, Any]) -> None:
        """The same task, later."""
        self.raw, self.task, self.gone = raw, task_from(raw), False
        stage = (self.task.state, self.task.desired_state)
        if not self.path or self.path[-1] != stage:
            self.path.append(stage)
        if self.began_ms is None and self.task.container and self.state in {RUNNING, *ENDED_STATES}:
            self.began_ms = self.task.state_since_ms

    @property
    def state(self) -> str:
        """Its last state."""
        return self.task.state

    @property
    def runs(self) -> bool:
        """It runs and shall run."""
        return not self.gone and self.state == RUNNING == self.task.desired_state

    @property
    def is_wanted(self) -> bool:
        """It shall run, now or after a delay."""
        return not self.gone and self.task.desired_state in {RUNNING, "ready"}

    @property
    def was_removed(self) -> bool:
        """It is not replaced, its slot is gone: Swarm forgets it as soon as it has ended."""
        vanished_alive = self.gone and self.state not in ENDED_STATES
        return vanished_alive or self.task.desired_state == REMOVE


@dataclass
class Seen:
    """One service, as seen so far."""

    raw: dict[str, Any]
    update: str = ""
    updates: list[str] = field(default_factory=list)
    lives: dict[str, Life] = field(default_factory=dict)
    unchanged: int = 0
    noted_version: int = 0
    noted_running: frozenset[str] = frozenset()

    @property
    def service(self) -> Service:
        """As the product reads it."""
        return service_from(self.raw)

    @property
    def running(self) -> frozenset[str]:
        """The ids of the tasks that run and shall run."""
        return frozenset(life.task.id for life in self.lives.values() if life.runs)

    @property
    def is_settled(self) -> bool:
        """Nothing is on its way."""
        on_its_way = any(life.is_wanted and not life.runs for life in self.lives.values())
        return not on_its_way and self.service.update_state not in {"updating", "rollback_started"}

    def is_of(self, release: str) -> bool:
        """Whether the tasks that run are all of that release."""
        return all(release_of(self.lives[task].raw["Spec"]) == release for task in self.running)

    def ended(self, state: str) -> int:
        """How many tasks have ended so."""
        return sum(life.state == state for life in self.lives.values())


class Observer:
    """Looks at a ground, and tells facts of what it has seen."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._services: dict[str, Seen] = {}
        self._node_states: dict[str, list[str]] = {name: [] for name in ground.nodes}
        self._hostnames: dict[str, str] = {}

    def look(self) -> None:
        """See what is there now. Raises RemoteError."""
        services = self._ground.swarm.get("/services")
        nodes = self._ground.swarm.get("/nodes")
        tasks = self._ground.swarm.get("/tasks")
        for raw in nodes:
            self._see_node(raw)
        for raw in services:
            own = [task for task in tasks if task["ServiceID"] == raw["ID"]]
            self._see_service(raw, own)

    def seen(self, service: str) -> Seen:
        """What was seen of a service, by its id."""
        return self._services[service]

    def knows(self, service: str) -> bool:
        """Whether it was seen."""
        return service in self._services

    def node_states(self, hostname: str) -> list[str]:
        """The node's states one after the other."""
        return self._node_states[hostname]

    def now(self, service: str) -> Facts:
        """A service at rest, and what has happened since it was last asked for."""
        seen = self._services[service]
        running = seen.running
        places = Counter(seen.lives[task].task.node for task in running)
        facts = {
            "spec": service_in_words(seen.raw["Spec"]),
            "previous spec": service_in_words(seen.raw.get("PreviousSpec")),
            "version": "moved" if seen.service.index > seen.noted_version else "as before",
            "updates": list(seen.updates),
            "update at rest": seen.service.update_state,
            "running": len(running),
            "kept": len(running & seen.noted_running),
            "running per node": sorted(places.values(), reverse=True),
        }
        seen.noted_version, seen.noted_running = seen.service.index, running
        seen.updates.clear()
        return facts

    def slots(self, service: str) -> list[list[str]]:
        """The lives in each slot, the oldest first; the slots in an order of no meaning."""
        lives = [life for life in self._services[service].lives.values() if self._counts(life)]
        lives.sort(key=lambda life: (life.task.slot, life.first_ms))
        slots = groupby(lives, key=lambda life: life.task.slot)
        return sorted(self._slot(list(own)) for _, own in slots)

    def remembered(self, service: str) -> list[int]:
        """How many tasks Swarm remembers in each slot."""
        lives = self._services[service].lives.values()
        return sorted(Counter(life.task.slot for life in lives if not life.gone).values())

    def homes(self, service: str) -> dict[str, list[Life]]:
        """The tasks that Swarm remembers, by their nodes' hostnames."""
        lives = [life for life in self._services[service].lives.values() if not life.gone]
        return {
            hostname: [life for life in lives if life.task.node == node]
            for node, hostname in self._hostnames.items()
        }

    # what was seen

    def _see_node(self, raw: dict[str, Any]) -> None:
        hostname = raw["Description"]["Hostname"]
        self._hostnames[raw["ID"]] = hostname
        states = self._node_states[hostname]
        state = f"{raw['Status']['State']} {raw['Spec']['Availability']}"
        if not states or states[-1] != state:
            states.append(state)

    def _see_service(self, raw: dict[str, Any], tasks: Sequence[dict[str, Any]]) -> None:
        seen = self._services.setdefault(raw["ID"], Seen(raw))
        before = _fingerprint(seen)
        seen.raw = raw
        status = raw.get("UpdateStatus") or {}
        update = f"{status['State']}: {repeatable(status['Message'])}" if status else ""
        if update and update != seen.update:
            seen.updates.append(update)
        seen.update = update
        for life in seen.lives.values():
            life.gone = True
        for task in tasks:
            if task["ID"] in seen.lives:
                seen.lives[task["ID"]].see(task)
            else:
                seen.lives[task["ID"]] = Life.of(task)
        seen.unchanged = seen.unchanged + 1 if before == _fingerprint(seen) else 0

    # facts

    def _counts(self, life: Life) -> bool:
        """Whether it has come to rest and was more than planned: an update may overtake it."""
        if life.was_removed:
            return True
        if life.state == PENDING:  # for good, and not for a moment
            return life.task.desired_state == RUNNING and bool(life.task.error)
        if life.state not in ENDED_STATES:
            return life.runs
        if life.task.desired_state != SHUTDOWN:
            return False
        overtaken = life.state == SHUTDOWN and not life.task.exit_code and not self._heard(life)
        return not overtaken

    def _slot(self, lives: Sequence[Life]) -> list[str]:
        handovers = [*(self._handover(*pair) for pair in pairwise(lives)), ""]
        lines = [
            " | ".join(part for part in (*self._life(life), handover) if part)
            for life, handover in zip(lives, handovers, strict=True)
        ]
        return [line + AGAIN * (len(list(same)) > 1) for line, same in groupby(lines)]

    def _handover(self, life: Life, successor: Life) -> str:
        """How a task followed another in its slot, if anybody heard of both."""
        ran = life.state in ENDED_STATES and life.task.container and self._heard(life)
        if not ran or successor.began_ms is None:
            return ""
        pause_ms = successor.began_ms - life.task.state_since_ms
        if life.state not in _BY_THEMSELVES:
            return f"successor runs {'before' if pause_ms < 0 else 'after'} its end"
        if life.raw["Spec"] != successor.raw["Spec"]:
            return ""  # by an update, which waits for no delay
        delay_ms = (life.raw["Spec"].get("RestartPolicy") or {}).get("Delay", 0) / _NANO_IN_MILLI
        return f"successor runs {'before' if pause_ms < delay_ms else 'after'} the delay"

    def _life(self, life: Life) -> Iterator[str]:
        yield in_words(life.raw["Spec"])
        if life.was_removed:
            yield "removed"
        else:
            code = life.task.exit_code
            yield f"{life.state}/{life.task.desired_state}{'' if code is None else f' {code}'}"
            yield repeatable(life.task.error)
        yield ", ".join(self._heard(life))

    def _heard(self, life: Life) -> list[str]:
        own = (event for event in self._ground.events() if event.task == life.task.id)
        return [words for words, _ in groupby(event_in_words(event) for event in own)]


def service_in_words(spec: dict[str, Any] | None) -> str:
    """Of a service's spec, what the scenes change."""
    if spec is None:
        return "none"
    count = spec["Mode"]["Replicated"]["Replicas"]
    labels = "".join(f", {key}={value}" for key, value in (spec.get("Labels") or {}).items())
    return f"{count} x {in_words(spec['TaskTemplate'])}{labels}"


def in_words(template: dict[str, Any]) -> str:
    """Of a task's spec, what the scenes change."""
    memory_mib = template["Resources"]["Limits"]["MemoryBytes"] // MIB
    force = template.get("ForceUpdate") or 0
    return f"{release_of(template)}, {memory_mib} MiB, force {force}"


def release_of(template: dict[str, Any]) -> str:
    """The release that a task's environment tells."""
    environment: dict[str, str] = dict(
        entry.split("=", 1) for entry in template["ContainerSpec"]["Env"]
    )
    return environment[RELEASE]


def repeatable(text: str) -> str:
    """Docker's words without ids and addresses."""
    for pattern, word in _UNREPEATABLE:
        text = pattern.sub(word, text)
    return text


def event_in_words(event: Event) -> str:
    """An event, shortly."""
    if event.exit_code is None:
        return event.kind
    return f"{event.kind} {event.exit_code}{' stopped' if event.stopped else ''}"


def _fingerprint(seen: Seen) -> object:
    lives = seen.lives.values()
    return (
        seen.service.index,
        seen.service.update_state,
        frozenset((each.task.id, each.state, each.task.desired_state, each.gone) for each in lives),
    )
