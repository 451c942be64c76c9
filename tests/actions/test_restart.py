"""restart: what it would do, in words that are right for any count of tasks."""

from __future__ import annotations

import pytest

from autoheal.actions import Plan, Restart, Subject
from builders import service


@pytest.mark.parametrize("start", [0, 41])
def test_a_restart_goes_to_the_next_force_update(start: int) -> None:
    plan = Restart().plan(Subject(service(force_update=start)))
    assert isinstance(plan, Plan)
    assert (plan.start, plan.target) == (start, start + 1)


@pytest.mark.parametrize(
    ("replicas", "order", "words"),
    [
        (
            1,
            "stop-first",
            "restart: replaces its only task, which stops before the new one starts",
        ),
        (1, "start-first", "restart: replaces its only task once the new one runs"),
        (2, "stop-first", "restart: replaces both tasks in a rolling update"),
        (2, "start-first", "restart: replaces both tasks in a rolling update"),
        (3, "stop-first", "restart: replaces all 3 tasks in a rolling update"),
        (40, "start-first", "restart: replaces all 40 tasks in a rolling update"),
    ],
)
def test_its_words_say_what_is_replaced(replicas: int, order: str, words: str) -> None:
    plan = Restart().plan(Subject(service(replicas=replicas, update_order=order)))
    assert isinstance(plan, Plan)
    assert plan.words == words
