from __future__ import annotations

import pytest

from executor.fakes import World


@pytest.fixture
def world() -> World:
    return World()
