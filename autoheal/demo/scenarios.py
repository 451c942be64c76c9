"""The scenarios that ship, by name. To add one: a module that builds it, and its row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from autoheal.demo.day import day
from autoheal.demo.outage import outage
from autoheal.demo.tour import tour
from autoheal.sim.scenario import Scenario

SCENARIOS: Mapping[str, Callable[[int], Scenario]] = {
    "tour": tour,
    "outage": outage,
    "day": day,
}
