"""Rules that change while the engine runs: what is taken, when, and what goes on as it was."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import builders
from autoheal import engine as engine_module
from autoheal import records, replay, rulefile
from autoheal.adapters.clock import SystemClock
from autoheal.app.process import Process
from autoheal.app.rules import add_reload
from autoheal.engine import Engine, Rulebook, kept_rules
from autoheal.errors import UserError
from autoheal.model import Incident, TickRecord
from autoheal.reload import Reloader
from autoheal.rulefile import Loaded
from autoheal.telemetry import Telemetry
from engine.scenes import Scene, tick_until
from store.servers import raw

# Of the window a fifth may be missing: a slow machine has that much time for a test.
SEEN_S = 125
CPU = "{metric: cpu_cores, over: 2m, above: 0.5}"
UP = "{action: scale_up, by: 1, max: 5}"
LATER = f"  - {{name: later, when: {CPU}, for: 1h, then: {UP}}}\n"
SURE = f"  - {{name: sure, when: {CPU}, then: {UP}}}\n"
PERCENT = f"  - {{name: percent, when: {{metric: cpu_percent, over: 2m, above: 50}}, then: {UP}}}\n"
KILLED = (
    "  - {name: killed, when: {event: oom_killed, over: 10m, at_least: 1},"
    " then: {action: escalate}}\n"
)
FAR = f"  - {{name: far, when: {{metric: cpu_cores, over: 1h, above: 0.5}}, then: {UP}}}\n"
NOBODY = f"  - {{name: nobody, match: {{service: x}}, when: {CPU}, then: {UP}}}\n"


def text(*rules: str) -> str:
    return "rules:\n" + "".join(rules)


GOOD, OTHER = text(LATER), text(LATER, SURE)
BAD = text(LATER.replace("above", "abuv"))


# Which files are taken


@dataclass
class Watched:
    """A directory of rules, and a reloader that hands over to nobody."""

    directory: Path
    is_slow: bool = False
    drops: int = 0
    taken: list[Loaded] = field(default_factory=list)
    refuse: Callable[[Loaded], None] = lambda _: None
    clock: SystemClock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        self.telemetry = Telemetry(self.clock)
        self.write(GOOD)
        self.begin(self.directory)

    def begin(self, *paths: Path) -> None:
        self.reloader = Reloader(
            paths,
            rulefile.load(paths).texts,
            refuse=self.judge,
            take=self.take,
            drop=self.drop,
            rest=lambda _: False,
            clock=self.clock,
            telemetry=self.telemetry,
        )
        self.look()

    def write(self, content: str, name: str = "rules.yaml") -> None:
        (self.directory / name).write_text(content)

    def judge(self, loaded: Loaded) -> None:
        self.refuse(loaded)

    def take(self, loaded: Loaded) -> bool:
        if self.is_slow:
            return False
        self.taken.append(loaded)
        return True

    def drop(self) -> None:
        self.drops += 1

    def look(self) -> None:
        """One look, and those that are due before their time."""
        look(self.reloader)

    @property
    def names(self) -> list[list[str]]:
        """The rules of each set that was taken."""
        return [[rule.name for rule in loaded.rules.rules] for loaded in self.taken]

    @property
    def is_successful(self) -> float | None:
        return self.telemetry.registry.get_sample_value("autoheal_rules_reload_successful")


def look(reloader: Reloader) -> None:
    reloader.tick()
    for _ in range(1_000):
        if not reloader.wait(0):
            return
        reloader.tick()
    raise AssertionError("the next look is always due")


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    directory = tmp_path / "rules"
    directory.mkdir()
    return Watched(directory)


def test_what_was_in_force_at_the_start_is_not_taken_again(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        watched.look()
    assert watched.taken == []
    assert caplog.messages == []
    assert watched.is_successful == 1


def test_a_change_is_taken_and_told_of(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    before = watched.clock.wall_ms() / 1000
    watched.write(OTHER)
    with caplog.at_level(logging.INFO):
        watched.look()
    assert watched.names == [["later", "sure"]]
    (loaded,) = watched.taken
    assert caplog.messages == [f"rules reloaded: 2 rules, {loaded.rules.hash}"]
    at = watched.telemetry.registry.get_sample_value(
        "autoheal_rules_reload_success_timestamp_seconds"
    )
    assert at is not None
    assert at >= before


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda d: (d / "more.yaml").write_text(text(SURE)), ["later", "sure"]),
        (lambda d: (d / "rules.yaml").rename(d / "other.yaml"), ["later"]),
        (lambda d: (d / "rules.yaml").write_text(f"# Better said.\n{GOOD}"), ["later"]),
    ],
    ids=["a file more", "another name", "another comment"],
)
def test_whatever_changes_in_a_directory_is_noticed(
    watched: Watched, change: Callable[[Path], object], names: list[str]
) -> None:
    change(watched.directory)
    watched.look()
    assert watched.names == [names]


def test_what_is_no_rule_file_is_not_looked_at(watched: Watched) -> None:
    (watched.directory / ".rules.yaml.swp").write_text("x")
    (watched.directory / "notes.txt").write_text("x")
    watched.reloader.tick()
    assert not watched.reloader.wait(0)
    assert watched.taken == []


def same_stamp(path: Path, content: str) -> None:
    """Other content of the same size, in place, with the times of before."""
    times = path.stat()
    assert len(content) == times.st_size
    path.write_text(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_files_are_read_only_when_they_look_different_or_somebody_asks(watched: Watched) -> None:
    same_stamp(watched.directory / "rules.yaml", GOOD.replace("later", "after"))
    watched.look()
    assert watched.names == []
    watched.reloader.ask()
    watched.look()
    assert watched.names == [["after"]]


def test_a_file_put_in_the_place_of_another_is_noticed_though_size_and_time_are_the_same(
    watched: Watched,
) -> None:
    path, new = watched.directory / "rules.yaml", watched.directory.parent / "new"
    new.write_text(GOOD.replace("later", "after"))
    times = path.stat()
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.replace(path)
    watched.look()
    assert watched.names == [["after"]]


def test_a_directory_that_is_linked_anew_is_noticed(tmp_path: Path) -> None:
    """As configs are mounted: rules.yaml is ..data/rules.yaml, and ..data another directory."""
    directory = tmp_path / "rules"
    for number, content in (("..1", GOOD), ("..2", OTHER)):
        (directory / number).mkdir(parents=True)
        (directory / number / "rules.yaml").write_text(content)
    (directory / "..data").symlink_to("..1")
    (directory / "rules.yaml").symlink_to("..data/rules.yaml")
    (tmp_path / "start").mkdir()
    watched = Watched(tmp_path / "start")
    watched.begin(directory)
    (directory / "..new").symlink_to("..2")
    (directory / "..new").rename(directory / "..data")
    watched.look()
    assert watched.names == [["later", "sure"]]


def test_a_half_written_file_is_not_judged(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    whole = OTHER
    for length in range(10, len(whole), 10):
        watched.write(whole[:length])
        watched.reloader.tick()
        assert watched.reloader.wait(0), "it looks again soon"
    watched.write(whole)
    watched.look()
    assert watched.names == [["later", "sure"]]
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


def test_what_changes_while_it_is_judged_is_judged_again(watched: Watched) -> None:
    writes = [text(LATER, SURE, NOBODY)]

    def write_once(_: Loaded) -> None:
        if writes:
            watched.write(writes.pop())

    watched.refuse = write_once
    watched.write(OTHER)
    watched.look()
    assert watched.names == [["later", "nobody", "sure"]]


def test_a_file_that_is_as_before_again_leaves_nothing_to_look_for(watched: Watched) -> None:
    aside = watched.directory.parent / "aside"
    (watched.directory / "rules.yaml").rename(aside)
    watched.reloader.tick()
    aside.rename(watched.directory / "rules.yaml")
    watched.reloader.tick()
    assert not watched.reloader.wait(0)
    assert watched.taken == []


# Mistakes


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


def test_a_mistake_is_told_once_and_again_only_when_it_is_another_or_mended(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watched.write(BAD)
    watched.look()
    watched.look()
    (told,) = errors(caplog)
    file = watched.directory / "rules.yaml"
    assert told.startswith(f"rules not reloaded, those in force stay: {file}:2:")
    assert "abuv" in told
    assert watched.is_successful == 0
    watched.write(BAD)
    watched.look()
    assert len(errors(caplog)) == 1, "the same mistake at the same place"
    watched.write(f"# still wrong\n{BAD}")
    watched.look()
    assert len(errors(caplog)) == 2, "another place"
    assert watched.taken == []
    watched.write(GOOD)
    watched.look()
    assert watched.is_successful == 1
    assert caplog.messages[-1].startswith("rules reloaded: 1 rules, ")
    assert watched.names == [["later"]]
    watched.write(f"# still wrong\n{BAD}")
    watched.look()
    assert len(errors(caplog)) == 3, "it is back"


def test_of_many_mistakes_the_first_are_told_on_one_line(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = LATER.replace("above", "abuv")
    watched.write(text(*[wrong.replace("later", f"later-{number}") for number in range(5)]))
    watched.look()
    (told,) = errors(caplog)
    assert "\n" not in told
    assert [f"rules.yaml:{line}:" in told for line in range(2, 7)] == [True] * 3 + [False] * 2
    assert told.endswith("; and 2 more")


def test_a_directory_that_is_gone_is_a_mistake_and_mended_when_it_is_back(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    away = watched.directory.with_name("away")
    watched.directory.rename(away)
    watched.look()
    assert watched.is_successful == 0
    assert "cannot be read: No such file or directory" in errors(caplog)[0]
    away.rename(watched.directory)
    watched.look()
    assert watched.is_successful == 1


def test_an_empty_directory_is_a_mistake(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    (watched.directory / "rules.yaml").unlink()
    watched.look()
    assert "no rule file in this directory" in errors(caplog)[0]
    assert watched.taken == []


def test_rules_that_the_settings_contradict_are_not_taken(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(loaded: Loaded) -> None:
        if loaded.rules.longest_window_ms > builders.MINUTE:
            raise UserError("AUTOHEAL_SAMPLES_AGE (1m) must be at least 1h")

    watched.refuse = refuse
    watched.write(text(FAR))
    watched.look()
    assert watched.taken == []
    assert errors(caplog) == [
        "rules not reloaded, those in force stay: AUTOHEAL_SAMPLES_AGE (1m) must be at least 1h"
    ]
    assert watched.is_successful == 0


def test_who_asks_is_answered_though_nothing_changed(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watched.reloader.ask()
    assert watched.reloader.wait(0)
    watched.look()
    assert [m.partition(",")[0] for m in caplog.messages] == ["rules reloaded: 1 rules"]
    watched.write(BAD)
    watched.look()
    watched.reloader.ask()
    watched.look()
    assert len(errors(caplog)) == 2


def test_what_cannot_be_put_in_force_yet_is_tried_until_it_is(watched: Watched) -> None:
    watched.is_slow = True
    watched.write(OTHER)
    for _ in range(3):
        watched.reloader.tick()
        assert watched.reloader.wait(0)
    watched.is_slow = False
    watched.look()
    assert watched.names == [["later", "sure"]]


def test_what_could_not_be_put_in_force_is_tried_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Loaded) -> bool:
        raise ConnectionError("the store is away")

    watched.write(OTHER)
    with monkeypatch.context() as patched:
        patched.setattr(watched.reloader, "_take", away)
        with pytest.raises(ConnectionError):
            watched.look()
    watched.look()
    assert watched.names == [["later", "sure"]]


def test_who_reads_no_rules_tells_of_no_mistake_in_them() -> None:
    value = Telemetry(SystemClock()).registry.get_sample_value
    assert value("autoheal_rules_reload_successful") == 1


def test_a_mistake_takes_the_place_of_what_is_not_in_force_yet(watched: Watched) -> None:
    watched.is_slow = True
    watched.write(OTHER)
    for _ in range(3):
        watched.reloader.tick()
    watched.write(BAD)
    for _ in range(2):
        watched.reloader.tick()
    watched.is_slow = False
    watched.look()
    assert watched.taken == []
    assert watched.is_successful == 0


@pytest.mark.parametrize("content", [BAD, GOOD], ids=["a mistake", "as it was"])
def test_what_is_no_longer_wanted_is_dropped(watched: Watched, content: str) -> None:
    watched.is_slow = True
    watched.write(OTHER)
    for _ in range(3):
        watched.reloader.tick()
    watched.drops = 0
    watched.write(content)
    for _ in range(2):
        watched.reloader.tick()
    assert watched.drops == 1
    assert watched.taken == []


def test_without_reloading_sighup_ends_nothing_and_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = SimpleNamespace(settings=SimpleNamespace(reload_interval_ms=0))
    unused: Any = None
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        add_reload(cast("Process", process), unused, unused, unused)
        with caplog.at_level(logging.INFO):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert caplog.messages == ["SIGHUP: rules are not reloaded here"]


# What the engine does with them


@dataclass
class Running:
    """An engine whose rules lie in a directory."""

    scene: Scene
    engine: Engine
    directory: Path

    def __post_init__(self) -> None:
        self.reloader = Reloader(
            [self.directory],
            rulefile.load([self.directory]).texts,
            refuse=lambda _: None,
            take=self.take,
            drop=self.engine.drop,
            rest=lambda _: False,
            clock=self.scene.clock,
            telemetry=self.engine._telemetry,
        )

    def take(self, loaded: Loaded) -> bool:
        return self.engine.take(Rulebook(loaded.rules, loaded.texts))

    def change(self, *rules: str) -> None:
        """Write these rules, and look until they are taken."""
        (self.directory / "rules.yaml").write_text(text(*rules))
        look(self.reloader)

    @property
    def ticks(self) -> list[TickRecord]:
        return [records.unpack_tick(fields) for fields in self.scene.entries(records.TICKS)]

    @property
    def rule_sets(self) -> list[str]:
        """The rule sets in the order in which ticks rested on them."""
        return list(dict.fromkeys(tick.rule_set for tick in self.ticks))

    def go_on(self, ticks: int = 2) -> None:
        """So many ticks more."""
        count = len(self.scene.ticks())
        tick_until(self.engine, lambda: len(self.scene.ticks()) >= count + ticks)


@pytest.fixture
def run(scene: Scene, tmp_path: Path) -> Callable[..., Running]:
    directory = tmp_path / "rules"
    directory.mkdir()

    def begin(*rules: str) -> Running:
        (directory / "rules.yaml").write_text(text(*rules))
        running = Running(scene, scene.engine("one", rules=texts(*rules)), directory)
        scene.publish(seen_s=SEEN_S)
        running.go_on()
        return running

    return begin


def texts(*rules: str) -> Mapping[str, bytes]:
    return {"rules.yaml": text(*rules).encode()}


def rulebook(*rules: str) -> Rulebook:
    return Rulebook(rulefile.parse(texts(*rules)), texts(*rules))


def not_none(past: engine_module._Past | None) -> engine_module._Past:
    assert past is not None
    return past


Run = Callable[..., Running]


def test_rules_that_did_not_change_stay_pending_and_those_that_did_begin_anew(
    run: Run, scene: Scene
) -> None:
    running = run(LATER, FAR.replace("1h", "100s").replace("then", "for: 1h, then"))
    before = scene.web().rules
    running.change(LATER, FAR.replace("1h", "110s").replace("then", "for: 1h, then"), NOBODY)
    running.go_on()
    after = scene.web().rules
    assert after["later"] == before["later"]
    assert after["far"].active_ms > before["far"].active_ms
    assert len(running.rule_sets) == 2


@pytest.mark.parametrize(
    ("rule", "name"), [(PERCENT, "percent"), (KILLED, "killed")], ids=["samples", "events"]
)
def test_a_new_rule_decides_at_its_first_tick_on_history_that_no_rule_needed_before(
    run: Run, scene: Scene, rule: str, name: str
) -> None:
    running = run(LATER)
    scene.kill_for_memory()
    running.go_on()
    running.change(LATER, rule)
    count = len(scene.ticks())
    running.go_on(1)
    (fields,) = scene.entries(records.DECISIONS)
    decision = records.unpack_decision(fields)
    assert (decision.rule, decision.tick) == (name, count + 1)


def test_a_window_that_reaches_back_beyond_the_store_has_no_data_and_holds_nobody_up(
    run: Run, scene: Scene
) -> None:
    running = run(LATER)
    running.change(FAR, SURE)
    running.go_on()
    assert "far" not in scene.web().rules
    (fields,) = scene.entries(records.DECISIONS)
    assert records.unpack_decision(fields).rule == "sure"


def test_while_history_is_folded_ticks_go_on_with_the_old_rules(
    run: Run, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run(LATER)
    monkeypatch.setattr(engine_module, "PIECE_ENTRIES", 1)
    old = running.rule_sets
    new = rulebook(LATER, SURE)
    pieces = 0
    while not running.engine.take(new):
        pieces += 1
        if pieces < 5:
            running.go_on(1)
            assert running.rule_sets == old
    assert pieces > 5
    running.go_on(1)
    assert running.rule_sets == [*old, new.rules.hash]
    assert scene.ticks() == list(range(1, len(scene.ticks()) + 1))


def test_rules_can_be_taken_on_another_thread_while_it_ticks(run: Run, scene: Scene) -> None:
    running = run(LATER)

    def change_often() -> None:
        for number in range(20):
            other = rulebook(LATER.replace("1h", f"{number + 2}h"))
            while not running.engine.take(other):
                pass

    thread = threading.Thread(target=change_often)
    thread.start()
    tick_until(running.engine, lambda: not thread.is_alive())
    thread.join()
    running.go_on(1)
    assert running.ticks[-1].rule_set == rulebook(LATER.replace("1h", "21h")).rules.hash
    assert all(each.agrees for each in replay.repeat(scene.memory()))


def test_rules_that_others_replaced_before_a_tick_never_were_in_force(run: Run) -> None:
    running = run(LATER)
    old = running.rule_sets
    running.change(LATER, SURE)
    running.change(LATER)
    running.go_on()
    assert running.rule_sets == old


def test_rules_that_others_replaced_while_they_were_prepared_never_are_in_force(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run(LATER)
    old, new = running.rule_sets, rulebook(LATER, NOBODY)
    with monkeypatch.context() as patched:
        patched.setattr(engine_module, "PIECE_ENTRIES", 1)
        assert not running.engine.take(rulebook(LATER, SURE))
    while not running.engine.take(new):
        pass
    running.go_on()
    assert running.rule_sets == [*old, new.rules.hash]


def test_of_rules_that_are_no_longer_wanted_nothing_is_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run(LATER)
    old = running.rule_sets
    monkeypatch.setattr(engine_module, "PIECE_ENTRIES", 1)
    assert not running.engine.take(rulebook(LATER, SURE))
    kept = weakref.ref(not_none(running.engine._coming).fold)
    for _ in range(2):
        running.engine.drop()
    gc.collect()
    assert kept() is None
    running.go_on()
    assert running.rule_sets == old


def test_what_waits_for_an_inventory_forgets_what_is_old(
    run: Run, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run(LATER)
    with raw(scene.server.url) as client:
        client.xtrim("ah:inventory", maxlen=0)
    new = rulebook(LATER, SURE)
    assert not running.engine.take(new)
    forgot: list[int] = []
    fold = not_none(running.engine._coming).fold
    monkeypatch.setattr(fold, "forget", forgot.append)
    for _ in range(2):
        assert not running.engine.take(new)
    assert len(forgot) == 2
    assert forgot == sorted(forgot)


def test_kept_rules_that_read_differently_now_are_refused(run: Run, scene: Scene) -> None:
    (name,) = run(LATER).rule_sets
    memory = scene.memory()
    assert kept_rules(memory, name).hash == name
    other = {file: text.decode() for file, text in texts(SURE).items()}
    memory.put(f"rules:{name}", records.canonical(other))
    with pytest.raises(UserError) as error:
        kept_rules(memory, name)
    assert str(error.value) == (
        f"the rules {name} read differently now: another version of autoheal, or other time zone"
        " data"
    )


def test_files_that_mean_the_same_change_nothing(run: Run, scene: Scene) -> None:
    running = run(LATER, SURE)
    before = running.ticks[-1]
    running.change("  # a comment\n", SURE, LATER)
    running.go_on()
    after = running.ticks[-1]
    assert (after.rule_set, after.since_ms) == (before.rule_set, before.since_ms)
    assert len(scene.entries(records.DECISIONS)) == 1


def test_the_number_of_rules_is_that_of_those_in_force(run: Run) -> None:
    running = run(LATER)
    value = running.engine._telemetry.registry.get_sample_value
    running.change(LATER, SURE, NOBODY)
    assert value("autoheal_rules") == 1
    running.go_on(1)
    assert value("autoheal_rules") == 3


def test_with_a_mistake_the_last_good_rules_decide(run: Run, scene: Scene) -> None:
    running = run(LATER)
    running.change(SURE.replace("above", "abuv"))
    running.go_on()
    assert len(running.rule_sets) == 1
    assert "later" in scene.web().rules


def test_alarms_of_a_rule_that_was_removed_end_and_say_so(run: Run, scene: Scene) -> None:
    running = run(LATER, KILLED)
    scene.kill_for_memory()
    tick_until(running.engine, lambda: scene.web().escalated)
    running.change(LATER)
    running.go_on()
    assert scene.web().escalated == {}
    last = records.unpack_decision(scene.entries(records.DECISIONS)[-1])
    assert last.reason == "resolved: the rule was removed"
    incident: Incident = scene.incidents()[-1]
    assert incident.rule == "killed"


def test_who_loses_the_lease_in_the_middle_goes_on_with_the_new_rules_when_it_leads_again(
    run: Run, scene: Scene
) -> None:
    running = run(LATER)
    new = rulebook(LATER, NOBODY)
    while not running.engine.take(new):
        pass
    other = scene.engine("two", rules=texts(LATER))
    with raw(scene.server.url) as client:
        client.delete("ah:lease:engine")
    tick_until(other, lambda: other.is_leader)
    running.engine.tick()
    assert not running.engine.is_leader
    tick_until(other, lambda: running.ticks[-1].epoch == 2)
    pending = scene.web().rules["later"]
    other.stop()
    tick_until(running.engine, lambda: running.ticks[-1].epoch == 3)
    assert [tick.rule_set == new.rules.hash for tick in running.ticks] == [
        tick.epoch == 3 for tick in running.ticks
    ]
    assert scene.web().rules["later"] == pending
    assert all(each.agrees for each in replay.repeat(scene.memory()))


def test_a_standby_takes_rules_too(run: Run, scene: Scene) -> None:
    running = run(LATER)
    standby = scene.engine("two", rules=texts(LATER))
    standby.tick()
    new = rulebook(LATER, NOBODY)
    while not standby.take(new):
        pass
    standby.tick()
    running.engine.stop()
    tick_until(standby, lambda: running.ticks[-1].epoch == 2)
    assert running.ticks[-1].rule_set == new.rules.hash


def test_rules_can_be_taken_before_the_first_tick(scene: Scene) -> None:
    scene.publish(seen_s=SEEN_S)
    engine = scene.engine("one", rules=texts(LATER))
    new = rulebook(LATER, NOBODY)
    while not engine.take(new):
        pass
    tick_until(engine, scene.ticks)
    (first, *_) = [records.unpack_tick(f) for f in scene.entries(records.TICKS)]
    assert first.rule_set == new.rules.hash


def test_without_a_whole_inventory_in_the_store_the_old_rules_go_on(
    run: Run, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    running = run(LATER)
    with raw(scene.server.url) as client:
        client.xtrim("ah:inventory", maxlen=0)
    new = rulebook(LATER, SURE)
    for _ in range(3):
        assert not running.engine.take(new)
    running.go_on()
    assert len(running.rule_sets) == 1
    told = [m for m in caplog.messages if "wait for a whole inventory" in m]
    assert len(told) == 1
    scene.publish(seen_s=SEEN_S)
    running.go_on(1)
    while not running.engine.take(new):
        pass
    running.go_on(1)
    assert running.rule_sets[-1] == new.rules.hash


def test_a_commit_that_was_not_confirmed_is_settled_before_the_new_rules_decide(
    scene: Scene,
) -> None:
    scene.publish(seen_s=SEEN_S)
    memory = scene.memory()
    engine = scene.engine("one", memory, texts(LATER))
    tick_until(engine, scene.ticks)
    while not engine.take(rulebook(LATER, SURE)):
        pass
    memory.lose_commit_replies = 1
    with pytest.raises(ConnectionError):
        tick_until(engine, lambda: False)
    while not engine.take(rulebook(LATER, SURE, NOBODY)):
        pass
    tick_until(engine, lambda: len(scene.ticks()) >= 5)
    assert scene.ticks() == list(range(1, len(scene.ticks()) + 1))
    assert len(scene.entries(records.DECISIONS)) == 1
    assert all(each.agrees for each in replay.repeat(scene.memory()))


def test_ticks_before_and_after_a_reload_can_be_repeated(run: Run, scene: Scene) -> None:
    running = run(LATER)
    running.change(LATER, KILLED)
    scene.kill_for_memory()
    running.go_on(3)
    running.change(SURE, PERCENT)
    running.go_on(3)
    running.change(LATER)
    running.go_on(3)
    repeated = list(replay.repeat(scene.memory()))
    assert [each.tick.number for each in repeated] == scene.ticks()
    assert all(each.agrees for each in repeated)
    assert len({each.tick.rule_set for each in repeated}) == 3
    assert sum(len(each.repeated) for each in repeated) >= 3


def test_a_past_folded_anew_changes_no_byte_of_what_is_decided(
    run: Run, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded ticks rest on several folds; repeated on the first one alone they agree."""
    running = run(LATER, SURE, KILLED)
    scene.kill_for_memory()
    for _ in range(3):
        running.go_on(2)
        running.engine._taken = ""
        while not running.engine.take(rulebook(LATER, SURE, KILLED)):
            pass
    running.go_on(2)
    assert len({tick.since_ms for tick in running.ticks}) == 4
    monkeypatch.setattr(replay, "_identity", lambda tick: (tick.epoch, tick.rule_set))
    assert all(each.agrees for each in replay.repeat(scene.memory()))


def test_a_restart_with_other_files_keeps_what_is_pending_by_rules_that_did_not_change(
    run: Run, scene: Scene
) -> None:
    """As with a Swarm config, which is another one, and another process, at every change."""
    running = run(LATER, KILLED)
    before = scene.web().rules["later"]
    running.engine.stop()
    successor = scene.engine("two", rules=texts(LATER, NOBODY))
    count = len(scene.ticks())
    tick_until(successor, lambda: len(scene.ticks()) > count + 1)
    assert scene.web().rules["later"] == before
    assert len(running.rule_sets) == 2
    assert all(each.agrees for each in replay.repeat(scene.memory()))
