"""A rule of which is said that it never acts does not win where the other one fires as well."""

from hypothesis import given
from hypothesis import strategies as st

import builders
from autoheal.actions import Action, Proposal, Restart, ScaleDown, ScaleUp, Subject
from autoheal.core.decision.arbiter import Bid, contend
from autoheal.core.rule import Rule
from autoheal.lint import lint

COUNTS = st.integers(1, 6)
ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(ScaleUp, COUNTS), st.builds(ScaleDown, COUNTS), st.just(Restart())
)


def rule(name: str, then: Action, priority: int) -> Rule:
    return builders.rule(name, then, builders.CPU_HIGH, priority=priority)


def winner(one: Rule, other: Rule, replicas: int) -> str | None:
    subject = Subject(builders.service(replicas=replicas))
    contest = contend(
        [Bid(each, Proposal(each.then.kind, each.then.plan(subject))) for each in (one, other)]
    )
    return contest.winner.rule.name if contest.winner else None


@given(ACTIONS, ACTIONS, st.integers(0, 1), st.integers(0, 1))
def test_what_is_said_never_to_act_is_exactly_what_never_wins(
    one: Action, other: Action, one_priority: int, other_priority: int
) -> None:
    a, b = rule("a", one, one_priority), rule("b", other, other_priority)
    told = {each.subject for each in lint(builders.rule_set(a, b)) if each.code == "never-acts"}
    # From no task to more than any bound.
    winners = {f"rule {winner(a, b, replicas)}" for replicas in range(8)}
    assert not told & winners
    both_can = {f"rule {each.name}" for each in (a, b) if can_act(each)}
    assert told >= both_can - winners


def can_act(rule: Rule) -> bool:
    return any(winner(rule, rule, replicas) for replicas in range(8))
