"""Ways to fail, for real: services on a rig, what breaks each of them, and what it deserves.

A scene is played on a stage: its service is created, is well, and fails as services fail; some are
repaired in the end, as people would. All scenes run one small program, which obeys orders:
    /switch/NAME.WORD    'all', or the hostname of the one container that is meant

RELEASE=broken in its environment is a release that ends at once, so that a redeploy can repair it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from autoheal.model import (
    ActionKind,
    Decision,
    Incident,
    IncidentEnd,
    Judgement,
    Outcome,
    OutcomeKind,
)
from autoheal.units import format_size
from parts import Parts
from rig.swarm import Rig

PROGRAM = r"""
trap 'exit 0' TERM
[ "$RELEASE" = broken ] && exit 3
ordered() { [ -e "/switch/$0.$1" ] && grep -qsx -e all -e "$HOSTNAME" "/switch/$0.$1"; }
fill() { head -c 24m /dev/zero | tr '\0' .; }
while :; do
    [ -z "$full" ] && ordered fill && { held=$(fill); full=yes; }
    ordered job && { (echo 1000 >/proc/self/oom_score_adj; held=$(fill)); sleep 2; }
    ordered leak && head -c 384k /dev/zero 2>/dev/null >>/dev/shm/leak
    ordered crash && exit 3
    [ -e /dev/shm/heap ] || { ordered heap && head -c 28m /dev/zero >/dev/shm/heap; }
    sleep 0.5 & wait $!
done
"""
# Docker gives a container's /dev/shm 64 MiB: a leak into it ends there, a little below this limit.
ROOMY = "68m"
# The program needs twice what it fills, for a moment: more than this, less than it is raised to.
TIGHT = "16m"
ENABLED: Mapping[str, str] = {
    "autoheal.enable": "true",
    "autoheal.allow": "restart,raise_memory,scale_up,scale_down",
}
BROKEN = ("--env=RELEASE=broken",)
START_FIRST = ("--update-order=start-first",)
POLL_S = 0.5
REST_MS = 10_000
ESCALATE = ActionKind.ESCALATE.value
RESOLVE = "resolve"

Course = Iterator[tuple[str, Callable[[], object]]]


@dataclass(frozen=True)
class Deserved:
    """What the framework gives a failure, and nothing more.

    `evidence` begins the incident's own words. `decided` are the actions in order; the end of an
    escalation is 'resolve'. `judgements` are those of the actions that were carried out: "" where
    the rule does not ask for one.
    """

    evidence: str
    decided: tuple[str, ...] = ()
    end: IncidentEnd = IncidentEnd.CLEARED
    judgements: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """One failure of one service; `course` plays it and yields what it waits for.

    `told_as` names what people are told of in its stead: a node, or the Swarm.
    """

    name: str
    injected: str
    deserved: Deserved
    course: Callable[[Play], Course]
    replicas: int = 1
    memory: str = "32m"
    has_health_check: bool = False
    options: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    has_image: bool = True
    told_as: str = ""

    def called(self, name: str) -> Scene:
        """The same failure of another service."""
        return replace(self, name=name)


class Stage:
    """A rig and an autoheal: where scenes are played."""

    def __init__(self, rig: Rig, parts: Parts) -> None:
        self.rig = rig
        self.parts = parts
        self.image = rig.push_image(name="patient")
        self.missing_image = f"{rig.registry()}/absent:1@sha256:{64 * '0'}"
        self.decisions: list[Decision] = []
        self.outcomes: list[Outcome] = []
        self.incidents: list[Incident] = []
        self.rested: set[str] = set()

    def look(self) -> None:
        """Read what autoheal has recorded so far; it must be alive."""
        dead = [process.name for process in self.parts.processes if not process.alive]
        assert not dead, f"ended by themselves: {dead}"
        self.decisions = self.parts.decisions()
        self.outcomes = self.parts.outcomes()
        self.incidents = self.parts.incidents()

    def create(self, scene: Scene) -> str:
        """Create the scene's service and return its id."""
        options = ["--restart-delay=1s", "--update-monitor=1s", *scene.options]
        if scene.has_health_check:
            order = f"/switch/{scene.name}.sick"
            options += [
                f"--health-cmd=! grep -qsx -e all -e $HOSTNAME {order}",
                "--health-interval=1s",
                "--health-retries=2",
            ]
        return self.rig.create_service(
            scene.name,
            replicas=scene.replicas,
            image=self.image if scene.has_image else self.missing_image,
            command=["sh", "-c", PROGRAM, scene.name],
            labels=ENABLED,
            memory=scene.memory,
            constraints=scene.constraints,
            extra=options,
        )


@dataclass
class Play:
    """A scene that is being played, and what came of it."""

    stage: Stage
    scene: Scene
    service: str = ""
    injected_ms: int = 0
    course: Course = field(init=False)
    waits: tuple[str, Callable[[], object]] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.course = self.scene.course(self)

    @property
    def name(self) -> str:
        """The service's name."""
        return self.scene.name

    def go_on(self) -> bool:
        """Go on as far as possible without waiting; whether the scene is over."""
        while self.waits is None or self.waits[1]():
            self.waits = next(self.course, None)
            if self.waits is None:
                return True
        return False

    # what a course does

    def create(self) -> None:
        """Create the service."""
        self.service = self.stage.create(self.scene)

    def inject(self) -> None:
        """Note that it is now that the failure begins."""
        self.injected_ms = self.stage.parts.memory.now_ms()

    def order(self, word: str, whom: str = "all") -> None:
        """Let the program do it; the file is seen whole or not at all."""
        part = self.stage.rig.switch_dir / f".{self.name}.part"
        part.write_text(f"{whom}\n")
        part.rename(self.stage.rig.switch_dir / f"{self.name}.{word}")

    def relieve(self, word: str) -> None:
        """Take the order back."""
        (self.stage.rig.switch_dir / f"{self.name}.{word}").unlink()

    def order_one(self, word: str) -> None:
        """Let one container do it, and none that replaces it."""
        task, *_ = self.stage.rig.running_tasks(self.name)
        self.order(word, task.container_id[:12])  # Docker's default for a hostname

    def redeploy(self, *changes: str) -> None:
        """Deploy a release that is not broken."""
        self.stage.rig.update_service(self.name, "--env-add=RELEASE=good", *changes)

    # what a course waits for

    def runs(self) -> tuple[str, Callable[[], object]]:
        """All its tasks run and autoheal no longer holds it for having been deployed."""
        wanted = self.scene.replicas
        hold_ms = self.stage.parts.deploy_hold_ms
        since: list[int] = []

        def rested() -> bool:
            now_ms = self.stage.parts.memory.now_ms()
            if not since and len(self.stage.rig.running_tasks(self.name)) == wanted:
                since.append(now_ms)
            if since and now_ms - since[0] > hold_ms:
                self.stage.rested.add(self.name)
            return self.name in self.stage.rested

        return f"{wanted} running, the deploy forgotten", rested

    def others_run(self, names: Iterable[str]) -> tuple[str, Callable[[], object]]:
        """The others have come as far: what follows, follows for all of them together."""
        wanted = set(names)
        return f"{sorted(wanted)} run", lambda: wanted <= self.stage.rested

    def is_given_up(self) -> tuple[str, Callable[[], object]]:
        """No task runs or is to run: Swarm replaces it no more."""

        def all_over() -> object:
            tasks = self.stage.rig.tasks(self.name)
            return tasks and all(task["DesiredState"] == "shutdown" for task in tasks)

        return "Swarm gives up", all_over

    def has_failed(self, times: int) -> tuple[str, Callable[[], object]]:
        """So many of its tasks have failed, of those that Swarm remembers."""

        def enough() -> object:
            tasks = self.stage.rig.tasks(self.name)
            return sum(task["Status"]["State"] == "failed" for task in tasks) >= times

        return f"{times} tasks have failed", enough

    def rests(self) -> tuple[str, Callable[[], object]]:
        """Long enough that whatever is due would have been decided."""
        until_ms = self.stage.parts.memory.now_ms() + REST_MS
        return "nothing more happens", lambda: self.stage.parts.memory.now_ms() >= until_ms

    def has_decided(self, count: int) -> tuple[str, Callable[[], object]]:
        """So many decisions have been made on it."""
        words = f"{count} decided of {', '.join(self.scene.deserved.decided) or 'nothing'}"
        return words, lambda: len(self.decisions) >= count

    def is_over(self) -> tuple[str, Callable[[], object]]:
        """Its incident has been opened and has ended."""
        return (
            "the incident ends",
            lambda: (
                any(incident.end != IncidentEnd.OPEN for incident in self.incidents)
                and all(incident.end != IncidentEnd.OPEN for incident in self.incidents)
            ),
        )

    # what came of it

    @property
    def decisions(self) -> list[Decision]:
        """What was decided on it, or on what stands for it."""
        names = {self.name, self.scene.told_as}
        return [each for each in self.stage.decisions if each.service_name in names]

    @property
    def outcomes(self) -> list[Outcome]:
        """What came of those decisions."""
        ids = {decision.id for decision in self.decisions}
        return [outcome for outcome in self.stage.outcomes if outcome.decision in ids]

    @property
    def incidents(self) -> list[Incident]:
        """Its incidents, in the order of their opening."""
        return [each for each in self.stage.incidents if each.service_name == self.name]

    @property
    def row(self) -> Row:
        """The scene in one line."""
        return Row.of(self)


@dataclass(frozen=True)
class Row:
    """What was injected, seen, decided, done, and what came of it; seconds from the injection."""

    scene: str
    injected: str
    evidence: str
    decided: str
    done: str
    outcome: str
    detect_s: float | None
    act_s: float | None
    recover_s: float | None

    @classmethod
    def of(cls, play: Play) -> Row:
        """The row of a scene that was played."""
        first = play.incidents[0] if play.incidents else None
        deeds = [deed for incident in play.incidents for deed in incident.deeds]
        ends = [incident.end for incident in play.incidents]

        def after(*times: int | None) -> float | None:
            ms = next((ms for ms in times if ms is not None), None)
            return None if ms is None else (ms - play.injected_ms) / 1000

        return cls(
            scene=play.name,
            injected=play.scene.injected,
            evidence=first.evidence if first else "-",
            decided="; ".join(in_words(decision) for decision in play.decisions) or "nothing",
            done=" ".join(outcome.kind.value for outcome in play.outcomes) or "-",
            outcome=" ".join([*ends, *(deed.judgement for deed in deeds)]) or "-",
            # Where no rule fired, it was detected when it was first seen.
            detect_s=after(first.detected_ms, first.opened_ms) if first else None,
            act_s=after(first.acted_ms, first.escalated_ms) if first else None,
            recover_s=after(first.recovered_ms) if first else None,
        )


def action_of(decision: Decision) -> str:
    """A decision's action; the end of an escalation is told apart."""
    if decision.action is ActionKind.ESCALATE and decision.target == 0:
        return RESOLVE
    return decision.action.value


def told(plays: Iterable[Play], action: str) -> set[str]:
    """The ids of the pages begun (`ESCALATE`) or ended (`RESOLVE`); plays may share them."""
    decisions = (decision for play in plays for decision in play.decisions)
    return {decision.id for decision in decisions if action_of(decision) == action}


def in_words(decision: Decision) -> str:
    """A decision, shortly."""
    words = f"{action_of(decision)} by {decision.rule}"
    if decision.action is ActionKind.RAISE_MEMORY:
        words += f" {format_size(decision.start)} to {format_size(decision.target)}"
    return words


def table(rows: Sequence[Row]) -> str:
    """Rows for reading."""
    head = [name.removesuffix("_s") for name in Row.__dataclass_fields__]
    cells = ([_cell(getattr(row, name)) for name in Row.__dataclass_fields__] for row in rows)
    lines = [head, *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: str | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return value or "-"


def play_all(stage: Stage, scenes: Sequence[Scene], limit_s: float) -> dict[str, Play]:
    """Play scenes side by side until all are over; by name."""
    plays = {scene.name: Play(stage, scene) for scene in scenes}
    waiting = list(plays.values())
    deadline = time.monotonic() + limit_s
    while True:
        stage.look()
        waiting = [play for play in waiting if not play.go_on()]
        if not waiting:
            return plays
        late = {play.name: play.waits and play.waits[0] for play in waiting}
        assert time.monotonic() < deadline, f"after {limit_s:g} s still waiting: {late}"
        time.sleep(POLL_S)


# The courses -------------------------------------------------------------------------------------


def ordered(word: str) -> Callable[[Play], Course]:
    """It is well until all its tasks get an order, and recovers by what is decided."""

    def course(play: Play) -> Course:
        play.create()
        yield play.runs()
        play.inject()
        play.order(word)
        yield play.is_over()

    return course


def ordered_one(word: str) -> Callable[[Play], Course]:
    """One of its tasks gets an order, and Swarm's replacement is well."""

    def course(play: Play) -> Course:
        play.create()
        yield play.runs()
        play.inject()
        play.order_one(word)
        yield play.is_over()

    return course


def crash_loop(play: Play) -> Course:
    """Broken from the start, and nobody repairs it: in the end it is removed."""
    play.inject()
    play.create()
    yield play.has_decided(1)
    # As many failures again: none of them may be a reason for anything.
    yield play.has_failed(5)
    play.stage.rig.remove_service(play.name)
    yield play.is_over()


def crash_loop_repaired(play: Play) -> Course:
    """Broken from the start, until a better release is deployed."""
    play.inject()
    play.create()
    yield play.has_decided(1)
    play.redeploy()
    yield play.is_over()


def exhausted(play: Play) -> Course:
    """It crashes until Swarm gives up."""
    play.inject()
    play.create()
    yield play.is_given_up()
    yield play.has_decided(1)
    play.redeploy()
    yield play.is_over()


def stuck(play: Play) -> Course:
    """Unhealthy until Swarm gives up; new tasks would be well by then."""
    play.create()
    yield play.runs()
    play.inject()
    play.order("sick")
    yield play.is_given_up()
    play.relieve("sick")
    yield play.is_over()


def still_stuck(play: Play) -> Course:
    """Unhealthy, and so is every new task, until people see to it."""
    play.create()
    yield play.runs()
    play.inject()
    play.order("sick")
    yield play.is_given_up()
    yield play.has_decided(2)
    play.relieve("sick")
    play.redeploy()
    yield play.is_over()


def leak(play: Play) -> Course:
    """Its memory fills steadily; new tasks have enough for as long as anybody looks."""
    play.create()
    yield play.runs()
    play.inject()
    play.order("leak")
    yield play.has_decided(1)
    play.relieve("leak")
    yield play.is_over()


def no_image(play: Play) -> Course:
    """Its image is not in the registry, until people name one that is."""
    play.inject()
    play.create()
    yield play.has_decided(1)
    play.redeploy(f"--image={play.stage.image}")
    yield play.is_over()


def no_place(play: Play) -> Course:
    """No node is what it asks for, until people ask for less."""
    play.inject()
    play.create()
    yield play.has_decided(1)
    play.redeploy("--constraint-rm", *play.scene.constraints)
    yield play.is_over()


def evicted(play: Play) -> Course:
    """Its node is no longer what it asks for, and no other is."""
    rig = play.stage.rig
    home = rig.workers[0].node_id
    rig.manager.docker("node", "update", "--label-add", "room=yes", home)
    play.create()
    yield play.runs()
    play.inject()
    rig.manager.docker("node", "update", "--label-rm", "room", home)
    yield play.has_decided(1)
    rig.manager.docker("node", "update", "--label-add", "room=yes", home)
    yield play.is_over()


def killed_by_hand(play: Play) -> Course:
    """Somebody kills its container: 137, as after an OOM kill, and it is none."""
    play.create()
    yield play.runs()
    task, *_ = play.stage.rig.running_tasks(play.name)
    play.inject()
    task.node.docker("kill", task.container_id)
    yield play.is_over()


def drained(play: Play) -> Course:
    """A node is drained: Swarm moves its task."""
    rig = play.stage.rig
    play.create()
    yield play.runs()
    node = rig.workers[0]
    play.inject()
    rig.manager.docker("node", "update", "--availability=drain", node.name)
    yield (
        "its tasks move",
        lambda: (
            {task.node.name for task in rig.running_tasks(play.name)}
            == {each.name for each in rig.nodes} - {node.name}
        ),
    )
    yield play.rests()
    rig.manager.docker("node", "update", "--availability=active", node.name)
    yield play.rests()


def node_lost(play: Play) -> Course:
    """The node that it must run on loses its power, and gets it back."""
    stage = play.stage
    node = stage.rig.workers[1]
    play.create()
    yield play.runs()
    yield play.others_run(scene.name for scene in NODE_SCENES)
    play.inject()
    stage.parts.lose_collector(node)
    node.kill(containers=True)
    yield play.has_decided(1)
    yield play.rests()
    node.heal()
    stage.parts.collector(node)
    yield play.is_over()


def beside(play: Play) -> Course:
    """It runs on the same node, and must, too."""
    play.create()
    yield play.runs()
    yield play.others_run(scene.name for scene in NODE_SCENES)
    play.inject()
    yield play.is_over()


def moved(play: Play) -> Course:
    """It has a task on the same node, and may have it elsewhere."""
    rig = play.stage.rig
    play.create()
    yield play.runs()
    yield play.others_run(scene.name for scene in NODE_SCENES)
    play.inject()
    yield (
        "the node is down",
        lambda: any(entry["Status"]["State"] == "down" for entry in rig.reader.get("/nodes")),
    )
    yield "its task is moved", lambda: len(rig.running_tasks(play.name)) == play.scene.replicas
    yield play.is_over()


# The scenes --------------------------------------------------------------------------------------

_TOLD = (ESCALATE, RESOLVE)
_REMEDIED, _ESCALATED, _CLEARED = IncidentEnd.REMEDIED, IncidentEnd.ESCALATED, IncidentEnd.CLEARED
_HELPED, _DID_NOT_HELP = (Judgement.RECOVERED,), (Judgement.INEFFECTIVE,)
_RAISED = Deserved("oom_killed", ("raise_memory",), _REMEDIED, ("",))

OOM = Scene(
    "oom",
    "needs more than its limit: PID 1 is killed",
    _RAISED,
    ordered("fill"),
    replicas=2,
    memory=TIGHT,
)
OOM_CHILD = Scene(
    "oom-child",
    "a child needs more: it is killed, PID 1 lives",
    _RAISED,
    ordered("job"),
    memory=TIGHT,
    options=START_FIRST,
)
CRASH_LOOP = Scene(
    "crash-loop",
    "ends with 3 at each start",
    Deserved("task_failed, exit code 3", _TOLD, _ESCALATED),
    crash_loop,
    options=BROKEN,
)
REPAIRED = Scene(
    "repaired",
    "a crash loop; a redeploy repairs it",
    Deserved("task_failed, exit code 3", _TOLD, _ESCALATED),
    crash_loop_repaired,
    options=BROKEN,
)
ONCE = Scene(
    "once",
    "one task of two ends with 3, once",
    Deserved("task_failed, exit code 3"),
    ordered_one("crash"),
    replicas=2,
)
EXHAUSTED = Scene(
    "exhausted",
    "ends with 3 until Swarm gives up",
    Deserved("task_failed, exit code 3", _TOLD, _ESCALATED),
    exhausted,
    options=(*BROKEN, "--restart-max-attempts=2"),
)
REPLACED = Scene(
    "replaced",
    "one task of two turns unhealthy, Swarm replaces it",
    Deserved("unhealthy"),
    ordered_one("sick"),
    replicas=2,
    has_health_check=True,
)
STUCK = Scene(
    "stuck",
    "unhealthy, restart policy used up; then well",
    Deserved("unhealthy", ("restart",), _REMEDIED, _HELPED),
    stuck,
    has_health_check=True,
    options=("--restart-max-attempts=1",),
)
STILL_STUCK = Scene(
    "still-stuck",
    "unhealthy, ends with 0, not replaced; stays so",
    Deserved("unhealthy", ("restart", *_TOLD), _ESCALATED, _DID_NOT_HELP),
    still_stuck,
    has_health_check=True,
    options=("--restart-condition=on-failure",),
)
LEAK = Scene(
    "leak",
    "memory climbs",
    Deserved("max over tasks, slope of memory_percent", ("restart",), _REMEDIED, _HELPED),
    leak,
    replicas=2,
    memory=ROOMY,
)
IMAGE = Scene(
    "image",
    "an image that is in no registry",
    Deserved("task_rejected (image)", _TOLD, _ESCALATED),
    no_image,
    has_image=False,
)
PLACEMENT = Scene(
    "placement",
    "a constraint that no node meets",
    Deserved("min tasks_pending", _TOLD, _ESCALATED),
    no_place,
    constraints=("node.labels.zone==nowhere",),
)
EVICTED = Scene(
    "evicted",
    "its node no longer meets the constraint",
    Deserved("task_rejected (placement)", _TOLD, _ESCALATED),
    evicted,
    constraints=("node.labels.room==yes",),
)
KILLED = Scene(
    "killed",
    "docker kill: 137",
    Deserved("task_failed, exit code 137"),
    killed_by_hand,
)
SCENES = (
    OOM,
    OOM_CHILD,
    CRASH_LOOP,
    REPAIRED,
    ONCE,
    EXHAUSTED,
    REPLACED,
    STUCK,
    STILL_STUCK,
    LEAK,
    IMAGE,
    PLACEMENT,
    EVICTED,
    KILLED,
)


_DOWN = "min nodes_down"
_ON_W2 = ("node.hostname==w2",)
DRAINED = Scene("drained", "one of its nodes is drained", Deserved(""), drained, replicas=3)
NODE_LOST = Scene(
    "node-lost",
    "the node that it must run on loses power",
    Deserved(_DOWN, _TOLD, _ESCALATED),
    node_lost,
    constraints=_ON_W2,
    told_as="node w2",
)
NODE_SCENES = (
    NODE_LOST,
    Scene(
        "lost-too",
        "the same",
        Deserved(_DOWN, _TOLD, _ESCALATED),
        beside,
        constraints=_ON_W2,
        told_as="node w2",
    ),
    Scene(
        "moved",
        "one of its nodes loses power",
        Deserved(_DOWN, _TOLD, _ESCALATED),
        moved,
        replicas=3,
        told_as="node w2",
    ),
)


def applied(play: Play) -> list[Decision]:
    """The decisions that were carried out."""
    done = {o.decision for o in play.outcomes if o.kind is OutcomeKind.APPLIED}
    return [decision for decision in play.decisions if decision.id in done]
