from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.engine import VERSION, Engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A running engine that knows its version and nothing else."""
    engine = Engine(tmp_path / "docker.sock")
    engine.says("/version", VERSION)
    engine.start()
    yield engine
    engine.stop()
