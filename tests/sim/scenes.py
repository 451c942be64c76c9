"""Twelve scenes of a Swarm's life, each with the facts that came of it.

A scene is a generator: it does something to its services, yields what it waits for, and notes the
facts. Scenes may be played side by side, but for the last, which takes nodes away.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autoheal.errors import RemoteRefused
from sim.ground import BROKEN, GOOD, MIB, OTHER, RELEASE, Ground, Patient, Restart, Rollout, Word
from sim.observer import Facts, Life, Observer, Seen, repeatable

POLL_S = 0.25
REST_S = 2.0
NO_SUCH_SERVICE = 25 * "0"

Spec = dict[str, Any]
Course = Iterator[tuple[str, Callable[[], bool]]]


class Play:
    """One scene that is being played."""

    def __init__(self, scene: Scene, ground: Ground, observer: Observer) -> None:
        self.scene = scene
        self.ground = ground
        self.observer = observer
        self.steps: list[Facts] = []
        self.services: list[Service] = []
        self.waits: tuple[str, Callable[[], bool]] | None = None
        self.facts: Facts = {}
        self._course = scene.course(self)
        self._looks = 0

    def go_on(self) -> bool:
        """Go on as far as possible without waiting; whether the scene is over."""
        self._looks += 1
        while self.waits is None or self.waits[1]():
            self.waits = next(self._course, None)
            if self.waits is None:
                self.facts = self._told()
                return True
        return False

    def create(self, name: str, patient: Patient) -> Service:
        """A service of this scene; its name is for the facts."""
        full_name = f"{self.scene.name}-{name}"
        service = Service(self, full_name, self.ground.create(full_name, patient))
        self.services.append(service)
        return service

    def note(self, step: str, facts: object) -> None:
        """Keep facts of now."""
        self.steps.append({"step": step, "facts": facts})

    def passes(self, seconds: float) -> Course:
        """Some time passes."""
        until = self._looks + seconds / POLL_S
        yield f"{seconds:g} s", lambda: self._looks >= until

    def _told(self) -> Facts:
        slots = {each.name: self.observer.slots(each.id) for each in self.services}
        return {"told": self.scene.told, "steps": self.steps, "tasks by slot": slots}


@dataclass(frozen=True)
class Service:
    """A service of a scene: what is done to it, and what is waited for."""

    play: Play
    name: str
    id: str

    @property
    def seen(self) -> Seen:
        """What the observer has seen of it."""
        return self.play.observer.seen(self.id)

    # what is done to it

    def disturb(self) -> None:
        """Something is done to it: it has to come to rest anew."""
        if self.play.observer.knows(self.id):
            self.seen.unchanged = 0

    def change(self, step: str, change: Callable[[Spec], object], *, behind: int = 0) -> None:
        """Read, change, write; note the answer. `behind` makes the version a stale one."""
        raw = self.play.ground.swarm.get(f"/services/{self.id}")
        spec = copy.deepcopy(raw["Spec"])
        change(spec)
        self.disturb()
        self.play.note(step, self.answer(raw["Version"]["Index"] - behind, spec))

    def answer(self, version: int, spec: Spec) -> str:
        """Swarm's answer to a write."""
        return write(self.play.ground, self.id, version, spec)

    def order(self, word: Word) -> None:
        """Order all its tasks."""
        self.disturb()
        self.play.ground.order(self.name, word)

    def order_one(self, word: Word) -> None:
        """Order one of its containers, and none that replaces it."""
        self.disturb()
        self.play.ground.order(self.name, word, self.one_life().task.container)

    def relieve(self, word: Word) -> None:
        """Take the order back."""
        self.play.ground.relieve(self.name, word)

    def one_life(self) -> Life:
        """One of its tasks that run."""
        return min(
            (life for life in self.seen.lives.values() if life.runs),
            key=lambda life: life.task.slot,
        )

    # what is waited for

    def rests(self, step: str, running: int, *, fleeting: str = "") -> Course:
        """So many tasks run, nothing is on its way, nothing changes for a while: note that.

        `fleeting` names what may pass too fast to be seen.
        """

        def at_rest() -> bool:
            if not self.play.observer.knows(self.id):
                return False
            seen = self.seen
            calm = seen.unchanged * POLL_S >= REST_S
            return calm and seen.is_settled and len(seen.running) == running

        yield f"{self.name}: {step}, {running} run", at_rest
        facts = self.play.observer.now(self.id)
        self.play.note(step, {self.name: {k: v for k, v in facts.items() if k != fleeting}})

    def has_ended(self, state: str, times: int = 1) -> Course:
        """So many of its tasks have ended so."""
        yield f"{self.name}: {times} {state}", lambda: self.seen.ended(state) >= times

    def is_ended(self) -> Course:
        """One of its tasks shall run no more."""
        yield (
            f"{self.name}: a task is over",
            lambda: any(life.task.desired_state == "shutdown" for life in self.seen.lives.values()),
        )

    def has_tasks(self, state: str) -> Course:
        """It has a task in that state."""

        def has() -> bool:
            known = self.play.observer.knows(self.id)
            return known and any(life.state == state for life in self.seen.lives.values())

        yield f"{self.name}: a task is {state}", has

    def is_updated(self, state: str) -> Course:
        """Its rollout has come to that state."""
        yield f"{self.name}: {state}", lambda: self.seen.service.update_state == state


def write(ground: Ground, service: str, version: int, spec: Spec) -> str:
    """Write a service; Swarm's answer in its own words."""
    try:
        ground.swarm.update_service(service, version, spec)
    except RemoteRefused as refused:
        return f"{refused.status}: {repeatable(refused.detail)}"
    return "ok"


# Changes of a spec -------------------------------------------------------------------------------


def nothing(spec: Spec) -> None:
    """The spec as it is."""


def replicas(count: int) -> Callable[[Spec], None]:
    """So many replicas."""

    def change(spec: Spec) -> None:
        spec["Mode"]["Replicated"]["Replicas"] = count

    return change


def label(value: str) -> Callable[[Spec], None]:
    """A label of the service itself."""

    def change(spec: Spec) -> None:
        spec["Labels"] = {**(spec.get("Labels") or {}), "note": value}

    return change


def memory(mib: int) -> Callable[[Spec], None]:
    """Another memory limit."""

    def change(spec: Spec) -> None:
        spec["TaskTemplate"]["Resources"]["Limits"]["MemoryBytes"] = mib * MIB

    return change


def release(which: str) -> Callable[[Spec], None]:
    """A deploy: the environment tells the release."""

    def change(spec: Spec) -> None:
        container = spec["TaskTemplate"]["ContainerSpec"]
        container["Env"] = [
            f"{RELEASE}={which}" if entry.startswith(f"{RELEASE}=") else entry
            for entry in container["Env"]
        ]

    return change


def restart(spec: Spec) -> None:
    """All tasks anew."""
    template = spec["TaskTemplate"]
    template["ForceUpdate"] = (template.get("ForceUpdate") or 0) + 1


# The courses -------------------------------------------------------------------------------------


def scale(play: Play) -> Course:
    web = play.create("web", Patient())
    yield from web.rests("created", 1)
    web.change("ask for 3", replicas(3))
    yield from web.rests("scaled up", 3)
    web.change("ask for 1", replicas(1))
    yield from web.rests("scaled down", 1)


def rolling_restart(play: Play) -> Course:
    stop_first = play.create("stop-first", Patient(replicas=2))
    start_first = play.create(
        "start-first", Patient(replicas=2, rollout=Rollout(order="start-first"))
    )
    deaf = play.create("deaf", Patient(heeds_term=False))
    every = ((stop_first, 2), (start_first, 2), (deaf, 1))
    for service, count in every:
        yield from service.rests("created", count)
    for service, _ in every:
        service.change(f"restart {service.name}", restart)
    for service, count in every:
        yield from service.is_updated("completed")
        yield from service.rests("restarted", count)


def compare_and_swap(play: Play) -> Course:
    web = play.create("web", Patient(replicas=2))
    yield from web.rests("created", 2)
    web.change("restart with a stale version", restart, behind=1)
    yield from web.rests("refused", 2)
    web.change("restart", restart)
    yield from web.is_updated("completed")
    yield from web.rests("restarted", 2)
    web.change("write what is there", nothing)
    yield from web.rests("written", 2)
    web.change("label it", label("seen"))
    yield from web.rests("labelled", 2)
    raw = play.ground.swarm.get(f"/services/{web.id}")
    first = web.answer(raw["Version"]["Index"], raw["Spec"])
    second = web.answer(raw["Version"]["Index"], raw["Spec"])
    play.note("write twice to one version", [first, second])
    unknown = write(play.ground, NO_SUCH_SERVICE, raw["Version"]["Index"], raw["Spec"])
    play.note("write to a service that is none", unknown)
    yield from web.rests("untouched", 2)


def raise_memory(play: Play) -> Course:
    web = play.create("web", Patient(replicas=2, memory_mib=32))
    web.order("burn")
    yield from web.rests("created", 2)
    yield from _figures(play, web)
    web.change("raise the limit", memory(64))
    yield from web.is_updated("completed")
    yield from web.rests("raised", 2)
    yield from _figures(play, web)


def _figures(play: Play, service: Service) -> Course:
    """Other scenes use the machine, too: it is enough that all tasks were at their limit once."""
    while True:
        play.ground.figures()
        yield from play.passes(2.0)
        tasks = service.seen.running
        figures = [own for task, own in play.ground.figures().items() if task in tasks]
        if len(figures) == len(tasks) and all(80 < own.cpu_percent < 120 for own in figures):
            break
    roomy = all(0 < own.memory_percent < 50 for own in figures)
    play.note(
        "figures",
        f"{len(figures)} use their CPU limit, {'have' if roomy else 'lack'} room in memory",
    )


def out_of_memory(play: Play) -> Course:
    first = play.create("first-process", Patient(replicas=2))
    child = play.create("child", Patient())
    yield from first.rests("created", 2)
    yield from child.rests("created", 1)
    first.order_one("fill")
    child.order("job")
    yield from first.has_ended("failed")
    yield from first.rests("replaced", 2)
    yield (
        "the child is killed",
        lambda: any(event.service == child.id for event in play.ground.events()),
    )
    child.relieve("job")
    yield from child.rests("lives on", 1)


def crash_loop(play: Play) -> Course:
    web = play.create("web", Patient(is_broken=True))
    yield "it exists", lambda: play.observer.knows(web.id)
    yield from web.has_ended("failed", 8)
    web.change("deploy a good release", release(GOOD))
    yield from web.is_updated("completed")
    yield from web.rests("repaired", 1)
    play.note("tasks remembered by slot", play.observer.remembered(web.id))


def restart_policies(play: Play) -> Course:
    never = play.create("never", Patient(restart=Restart(condition="none")))
    on_failure = play.create("on-failure", Patient(restart=Restart(condition="on-failure")))
    twice = play.create("twice", Patient(restart=Restart(max_attempts=2)))
    every = (never, on_failure, twice)
    for service in every:
        yield from service.rests("created", 1)
    never.order("crash")
    on_failure.order("finish")
    twice.order("crash")
    yield from never.has_ended("failed")
    yield from on_failure.has_ended("complete")
    yield from twice.has_ended("failed", 3)
    yield from play.passes(3.0)
    never.relieve("crash")
    on_failure.relieve("finish")
    twice.relieve("crash")
    for service in every:
        yield from service.rests("given up", 0)
        play.note("tasks so far", {service.name: len(service.seen.lives)})
        service.change(f"restart {service.name}", restart)
    for service in every:
        yield from service.rests("runs again", 1)
    twice.order_one("crash")
    yield from twice.has_ended("failed", 4)
    yield from twice.rests("replaced again", 1)


def health(play: Play) -> Course:
    sick = Patient(has_health_check=True)
    replaced = play.create("replaced", sick)
    over = play.create(
        "over", Patient(has_health_check=True, restart=Restart(condition="on-failure"))
    )
    deaf = play.create(
        "deaf",
        Patient(has_health_check=True, heeds_term=False, restart=Restart(condition="on-failure")),
    )
    every = (replaced, over, deaf)
    for service in every:
        yield from service.rests("created", 1)
    for service in every:
        service.order_one("sick")
    for service, running in ((replaced, 1), (over, 0), (deaf, 1)):
        yield from service.is_ended()
        yield from service.rests("after it was unhealthy", running)


def broken_release(play: Play) -> Course:
    patient = Patient(replicas=2, rollout=Rollout(delay_s=2), restart=Restart(delay_s=2))
    web = play.create("web", patient)
    yield from web.rests("created", 2)
    web.change("deploy a broken release", release(BROKEN))
    yield from web.is_updated("paused")
    yield from web.has_ended("failed", 3)
    play.note("paused", web.seen.service.update_state)
    web.change("deploy the good release again", release(GOOD))
    yield from web.is_updated("completed")
    yield from web.rests("repaired", 2)


def rollback(play: Play) -> Course:
    at_once = play.create(
        "at-once", Patient(replicas=2, rollout=Rollout(failure_action="rollback", delay_s=2))
    )
    # Both at once: else Swarm may restart the failed one before it comes to roll it back.
    later = play.create(
        "later",
        Patient(replicas=2, rollout=Rollout(failure_action="rollback", parallelism=2, monitor_s=8)),
    )
    for service, which in ((at_once, BROKEN), (later, OTHER)):
        yield from service.rests("created", 2)
        service.change("label it", label("seen"))
        yield from service.rests("labelled", 2)
        service.change(f"deploy a release: {which}", release(which))
    yield (
        "later: the new release runs",
        lambda: later.seen.is_of(OTHER) and len(later.seen.running) == 2,
    )
    later.order_one("crash")
    yield from later.is_updated("rollback_completed")
    yield from later.rests("rolled back", 2)
    yield from at_once.is_updated("rollback_completed")
    # Where Swarm has replaced the failed task by then, there is nothing left to roll back.
    yield from at_once.rests("rolled back", 2, fleeting="updates")


def no_place(play: Play) -> Course:
    nowhere = play.create("nowhere", Patient(constraints=("node.labels.zone==nowhere",)))
    absent = play.create("absent", Patient(has_image=False))
    killed = play.create("killed", Patient())
    finished = play.create("finished", Patient())
    yield from killed.rests("created", 1)
    yield from finished.rests("created", 1)
    play.ground.kill(killed.one_life().task.container)
    finished.order_one("finish")
    yield from killed.has_ended("failed")
    yield from killed.rests("replaced", 1)
    yield from finished.has_ended("complete")
    yield from finished.rests("replaced", 1)
    yield from nowhere.has_tasks("pending")
    yield from absent.has_ended("rejected", 3)


def lost_node(play: Play) -> Course:
    *others, lost = play.ground.nodes
    web = play.create("web", Patient(replicas=3))
    bound = play.create("bound", Patient(constraints=(f"node.hostname=={lost}",)))
    yield from web.rests("created", 3)
    yield from bound.rests("created", 1)
    play.ground.lose_node(lost)
    yield from _becomes(play, lost, "down active", (web,))
    yield from web.rests("moved", 3)
    yield from bound.has_tasks("pending")
    play.note("of the lost node", _stages(play, (web, bound), lost))
    play.ground.return_node(lost)
    yield from _becomes(play, lost, "ready active", (web, bound))
    yield from bound.rests("runs again", 1)
    yield from web.rests("not moved back", 3)
    play.note("of the returned node", _stages(play, (web, bound), lost))
    homes = play.observer.homes(web.id)
    drained = next(name for name in others if sum(life.runs for life in homes[name]) == 1)
    play.ground.drain(drained)
    yield from _becomes(play, drained, "ready drain", (web,))
    yield from web.rests("off the drained node", 3)
    play.note("of the drained node", _stages(play, (web,), drained))
    play.ground.activate(drained)
    yield from _becomes(play, drained, "ready active", (web,))
    yield from web.rests("not moved back either", 3)
    for told, hostname in (("lost", lost), ("drained", drained)):
        play.note(f"states of the {told} node", play.observer.node_states(hostname))


def _becomes(play: Play, hostname: str, state: str, services: Sequence[Service]) -> Course:
    """A node's state and availability change, and perhaps the services with them."""
    yield f"{hostname}: {state}", lambda: play.observer.node_states(hostname)[-1] == state
    for service in services:
        service.disturb()


def _stages(play: Play, services: Sequence[Service], hostname: str) -> dict[str, list[str]]:
    """State and desired state of a node's tasks."""
    return {
        service.name: sorted(
            f"{life.task.state}/{life.task.desired_state}"
            for life in play.observer.homes(service.id)[hostname]
        )
        for service in services
    }


# The scenes --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A scene by its name, told in a line; one that takes nodes away is played alone."""

    name: str
    told: str
    course: Callable[[Play], Course]
    alone: bool = False


SCENES = (
    Scene("scale", "scaled to 3 and back to 1", scale),
    Scene("restart", "all tasks anew: stop-first, start-first, deaf to TERM", rolling_restart),
    Scene("swap", "writes are compare-and-swap on the version", compare_and_swap),
    Scene("memory", "the memory limit is raised while tasks use their CPU limit", raise_memory),
    Scene("oom", "killed for memory: the first process, a child", out_of_memory),
    Scene("loop", "a crash loop, repaired by a deploy", crash_loop),
    Scene("policy", "restart policies that end, and what starts them again", restart_policies),
    Scene("health", "health checks fail", health),
    Scene("pause", "a broken release is paused, then repaired", broken_release),
    Scene("rollback", "a broken release is rolled back", rollback),
    Scene("place", "no place, no image; killed from outside; finished", no_place),
    Scene("node", "a node is lost and returns; another is drained", lost_node, alone=True),
)
SIDE_BY_SIDE = tuple(scene for scene in SCENES if not scene.alone)
ALONE = tuple(scene for scene in SCENES if scene.alone)


class NotOverError(AssertionError):
    """A scene does not come to its end."""


def play_all(ground: Ground, scenes: Sequence[Scene], limit_s: float) -> dict[str, Facts]:
    """Play scenes side by side; their facts, by name."""
    observer = Observer(ground)
    plays = [Play(scene, ground, observer) for scene in scenes]
    waiting = list(plays)
    for _ in range(int(limit_s / POLL_S)):
        observer.look()
        waiting = [play for play in waiting if not play.go_on()]
        if not waiting:
            return {play.scene.name: play.facts for play in plays}
        ground.pass_time(POLL_S)
    late = {play.scene.name: play.waits and play.waits[0] for play in waiting}
    raise NotOverError(f"after {limit_s:g} s of looking still waiting: {late}")
