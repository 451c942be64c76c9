from __future__ import annotations

import pytest

from adapters.fakes import HandClock, TableReader
from autoheal.adapters.containers import TaskContainer, TaskContainers, container_pid
from autoheal.errors import RemoteUnreachable

LIST = "/containers/json"


def row(letter: str) -> dict[str, object]:
    labels = {
        "com.docker.swarm.task.id": f"task-{letter}",
        "com.docker.swarm.service.id": f"service-{letter}",
    }
    return {"Id": letter * 64, "Labels": labels}


@pytest.fixture
def reader() -> TableReader:
    return TableReader({LIST: [row("b"), row("a"), {"Id": "c" * 64, "Labels": None}]})


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def test_lists_the_containers_of_tasks_in_order(reader: TableReader, clock: HandClock) -> None:
    assert TaskContainers(reader, clock).containers() == (
        TaskContainer("a" * 64, "task-a", "service-a"),
        TaskContainer("b" * 64, "task-b", "service-b"),
    )


def test_reads_again_after_a_while_and_when_poked(reader: TableReader, clock: HandClock) -> None:
    source = TaskContainers(reader, clock, refresh_s=15)
    source.containers()
    clock.pass_seconds(14)
    source.containers()
    assert len(reader.asked) == 1
    source.poke()
    source.containers()
    source.containers()
    assert len(reader.asked) == 2
    clock.pass_seconds(15)
    source.containers()
    assert len(reader.asked) == 3


def test_keeps_the_last_list_while_docker_is_away(reader: TableReader, clock: HandClock) -> None:
    source = TaskContainers(reader, clock, refresh_s=15)
    known = source.containers()
    reader.failure = RemoteUnreachable("no answer")
    clock.pass_seconds(20)
    assert source.containers() == known
    source.poke()
    assert source.containers() == known
    assert len(reader.asked) == 2, "a hanging engine is not asked in every tick"
    reader.failure = None
    reader.answers[LIST] = []
    clock.pass_seconds(15)
    assert source.containers() == ()


def test_raises_while_it_knows_nothing(reader: TableReader, clock: HandClock) -> None:
    reader.failure = RemoteUnreachable("no answer")
    source = TaskContainers(reader, clock)
    with pytest.raises(RemoteUnreachable):
        source.containers()
    reader.failure = None
    assert len(source.containers()) == 2


def test_the_first_process(reader: TableReader) -> None:
    reader.answers["/containers/x/json"] = {"State": {"Pid": 42}}
    reader.answers["/containers/y/json"] = {"State": {"Pid": 0}}
    assert container_pid(reader, "x") == 42
    assert container_pid(reader, "y") is None
    assert container_pid(reader, "z") is None
