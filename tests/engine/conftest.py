"""What the engine's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.scenes import Clock, Scene
from store.servers import DURABLE, TcpServer


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    server = TcpServer("redis", tmp_path, *DURABLE)
    yield Scene(server, Clock())
    server.stop()
