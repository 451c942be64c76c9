"""Failures over and over, and none for a long time, on a real Swarm.

    cd tests; python -m benchmarks.remediation --times 50      OOM kills and crash loops
    cd tests; python -m benchmarks.remediation --healthy 30m   nothing but noise

Repetitions are of fresh services, in batches, under the shipped rules with the budgets raised: the
same must be decided every time. A failure is watched for `group_wait` on purpose before it is acted
on; that time is part of what is printed.

The healthy run has the shipped rules and the default settings; in a shorter one than half an hour
their durations are shorter by as much. Noisy load, two deploys, a flapping health check, a service
that sits at 90 % of its memory: nothing may be decided but for two sentinels, which need memory
early and late, so that it is known that autoheal would have acted.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autoheal.settings import load_settings
from autoheal.units import format_duration, parse_duration
from parts import Parts, quickened
from rig.swarm import Rig
from swarm.failures import (
    CRASH_LOOP,
    ENABLED,
    OOM,
    POLL_S,
    Play,
    Scene,
    Stage,
    in_words,
    play_all,
)

RULES = Path(__file__).parents[2] / "rules"
BATCH = 5
BATCH_LIMIT_S = 300.0
BUDGETS = {
    "AUTOHEAL_ACTIONS_AT_ONCE": str(BATCH),
    "AUTOHEAL_ACTIONS_PER_HOUR": "1000",
    "AUTOHEAL_OUTAGE_SERVICES": "1000",
    # Fresh services are deployed services, and a batch ends with its last incident.
    "AUTOHEAL_DEPLOY_HOLD": "4s",
    "AUTOHEAL_RECOVERY_AFTER": "10s",
    "AUTOHEAL_GROUP_WAIT": "30s",
}
HALF_AN_HOUR_MS = 30 * 60_000
# Those that QUICK shortens for tests, and those that hold something back.
DURATIONS = (
    "step", "inventory_interval", "warm_up", "deploy_hold", "operator_hold", "node_hold",
    "group_wait", "stable_after", "recovery_after", "settle_timeout", "outage_window",
    "saturated_window", "lease_ttl",
)  # fmt: skip
# A lease outlasts three steps, and two of Docker's timeouts.
SHORTEST_MS = {"lease_ttl": 5_000}
NOISE = (0.02, 0.06, 0.03, 0.07, 0.01, 0.05)
NOISE_S = 5.0
FLAP_S = 10.0
SICK_S = 1.0


def show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def stage(rules: dict[str, str], settings: dict[str, str]) -> Iterator[Stage]:
    """A rig and a live autoheal, for as long as it takes."""
    with (
        tempfile.TemporaryDirectory() as name,
        Rig(f"b{os.getpid()}", managers=1, workers=2) as rig,
    ):
        directory = Path(name)
        pack = directory / "pack"
        pack.mkdir()
        for file, text in rules.items():
            (pack / file).write_text(text)
        with Parts(rig, directory, "", **{**settings, "AUTOHEAL_RULES": str(pack)}) as parts:
            parts.everything("live")
            yield Stage(rig, parts)
            parts.stop()


# Repetitions -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repetition:
    """One failure of one fresh service: what was decided, and the seconds that its incident took.

    `as_deserved`: the scene's decisions and no others, in one incident and no more.
    """

    scene: str
    decided: tuple[str, ...]
    as_deserved: bool
    detect_s: float
    act_s: float
    whole_s: float

    @classmethod
    def of(cls, scene: Scene, play: Play) -> Repetition:
        decided = tuple(in_words(decision) for decision in play.decisions)
        actions = tuple(words.partition(" ")[0] for words in decided)
        incident = play.incidents[0]  # a scene is over when its incidents are: there is one
        acted_ms = incident.acted_ms or incident.escalated_ms or 0
        detected_ms = incident.detected_ms or 0
        return cls(
            scene.name,
            decided,
            actions == scene.deserved.decided and len(play.incidents) == 1,
            (detected_ms - incident.opened_ms) / 1000,
            (acted_ms - detected_ms) / 1000,
            (acted_ms - play.injected_ms) / 1000,
        )


def repeat(times: int) -> bool:
    """Both failures so many times; whether the same was decided every time, and rightly."""
    done: list[Repetition] = []
    text = (RULES / "remediation.yaml").read_text()
    with stage({"remediation.yaml": text}, BUDGETS) as on:
        for first in range(0, times, BATCH):
            numbers = range(first, min(times, first + BATCH))
            done += _batch(on, numbers)
            show(f"{len(done)} of {2 * times}")
    alike = [_report(scene, done) for scene in (OOM, CRASH_LOOP)]
    return all(alike)


def _batch(on: Stage, numbers: range) -> list[Repetition]:
    scenes = {f"{s.name}-{number}": s for s in (OOM, CRASH_LOOP) for number in numbers}
    fresh = [scene.called(name) for name, scene in scenes.items()]
    plays = play_all(on, fresh, BATCH_LIMIT_S)
    on.look()
    done = [Repetition.of(scene, plays[name]) for name, scene in scenes.items()]
    on.rig.remove_all_services()
    return done


def _report(scene: Scene, done: Sequence[Repetition]) -> bool:
    rows = [each for each in done if each.scene == scene.name]
    decided = Counter(each.decided for each in rows)
    show(f"\n{scene.name}, {len(rows)} times:")
    for words, count in decided.most_common():
        show(f"  {count:4} times  {', '.join(words) or 'nothing'}")
    for what, seconds in (
        ("first evidence to detected", [each.detect_s for each in rows]),
        ("detected to acted", [each.act_s for each in rows]),
        ("injected to acted", [each.whole_s for each in rows]),
    ):
        show(f"  {what:28} p50 {statistics.median(seconds):6.2f} s  max {max(seconds):6.2f} s")
    wrong = sum(not each.as_deserved for each in rows)
    if wrong:
        show(f"  {wrong:4} times  NOT {', '.join(scene.deserved.decided)} in one incident")
    return len(decided) == 1 and not wrong


# A healthy half hour -----------------------------------------------------------------------------

EARLY, LATE = OOM.called("sentinel-early"), OOM.called("sentinel-late")
AT = {EARLY.name: 0.45, LATE.name: 0.8}
DEPLOYS = (0.3, 0.6)
CALM = tuple(OOM.called(name) for name in ("calm-1", "calm-2", "calm-3", "calm-4", "deployed"))
FLAPPING = Scene(
    "flapping", "a health check that fails now and then", OOM.deserved, OOM.course,
    replicas=2, has_health_check=True,
)  # fmt: skip
HEAP = Scene("jvm", "90 % of its memory", OOM.deserved, OOM.course, replicas=2)


def be_healthy(duration_ms: int) -> bool:
    """So long; whether nothing was decided but for the sentinels."""
    times = max(1, round(HALF_AN_HOUR_MS / duration_ms))
    rules = {path.name: quickened(path.read_text(), times) for path in RULES.glob("*.yaml")}
    packs = {name: text for name, text in rules.items() if not name.endswith(".test.yaml")}
    with stage(packs, _defaults(times)) as on:
        _live(on, duration_ms)
        on.look()
        events = Counter((event.kind, event.service) for event in on.parts.events())
        names = {on.rig.service(name)["ID"]: name for name in _names()}
        for (kind, service), count in sorted(events.items()):
            show(f"  {count:5} times {kind} in {names.get(service, service)}")
    for decision in on.decisions:
        show(f"decided: {decision.service_name}: {in_words(decision)}: {decision.reason}")
    for incident in on.incidents:
        show(f"incident: {incident.service_name}: {incident.evidence}: {incident.end}")
    acted = [(decision.service_name, decision.action.value) for decision in on.decisions]
    return acted == [(name, "raise_memory") for name in AT]


def _defaults(times: int) -> dict[str, str]:
    """The default settings, this many times quicker."""
    defaults = load_settings({})
    values = {name: getattr(defaults, f"{name}_ms") for name in DURATIONS}
    return {
        f"AUTOHEAL_{name.upper()}": format_duration(
            max(SHORTEST_MS.get(name, 1_000), value // times)
        )
        for name, value in values.items()
    }


def _names() -> list[str]:
    scenes = (EARLY, LATE, FLAPPING, HEAP, *CALM)
    return ["noisy", *(scene.name for scene in scenes)]


def _live(on: Stage, duration_ms: int) -> None:
    plays = {s.name: Play(on, s) for s in (EARLY, LATE, FLAPPING, HEAP, *CALM)}
    for play in plays.values():
        play.create()
    on.rig.create_service("noisy", replicas=2, image=on.image, labels=ENABLED)
    plays[HEAP.name].order("heap")
    began = time.monotonic()
    due = sorted([(share, "deployed") for share in DEPLOYS] + [(at, n) for n, at in AT.items()])
    noise = itertools.cycle(NOISE)
    noisy_at = flap_at = began
    while (gone := (time.monotonic() - began) * 1000 / duration_ms) < 1:
        now = time.monotonic()
        if now >= noisy_at:
            on.rig.burn("noisy", cores=next(noise))
            noisy_at = now + NOISE_S
        if now >= flap_at:
            plays[FLAPPING.name].order("sick")
            time.sleep(SICK_S)
            plays[FLAPPING.name].relieve("sick")
            flap_at = now + FLAP_S
        while due and gone >= due[0][0]:
            _happen(plays[due.pop(0)[1]], gone)
        on.look()
        time.sleep(POLL_S)


def _happen(play: Play, gone: float) -> None:
    show(f"after {100 * gone:.0f} %: {play.name}")
    if play.name in AT:
        play.order("fill")
    else:
        play.redeploy(f"--env-add=AT={gone:.2f}")


def main() -> int:
    """Both, or what is asked for; 0 if all was as it must be."""
    parser = argparse.ArgumentParser(description="Repeated failures, and none at all.")
    parser.add_argument("--times", type=int, default=0, help="repetitions of each failure")
    parser.add_argument("--healthy", default="", help="how long nothing is to happen, as 30m")
    chosen = parser.parse_args()
    well = True
    if chosen.times:
        well = repeat(chosen.times) and well
    if chosen.healthy:
        well = be_healthy(parse_duration(chosen.healthy)) and well
    show("as it must be" if well else "NOT as it must be")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
