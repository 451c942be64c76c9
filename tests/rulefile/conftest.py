"""Tests marked `slow` run only if they are asked for: AUTOHEAL_SLOW=1, or -m slow."""

import os

import pytest

SLOW_VARIABLE = "AUTOHEAL_SLOW"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get(SLOW_VARIABLE) == "1" or "slow" in config.getoption("markexpr"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)
