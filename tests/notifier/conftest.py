from __future__ import annotations

from collections.abc import Iterator

import pytest

from executor.fakes import World
from notifier.listener import Listener, listening


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as started:
        yield started
