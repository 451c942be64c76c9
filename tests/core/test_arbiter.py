"""Which of the rules that fire may act: escalate, then up, then down; priority, then name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.actions import Plan, Proposal, Subject, Track, Unable
from autoheal.core.decision.arbiter import Bid, contend, lane_of
from autoheal.core.rule import Combinator, Combined, Comparison, Rule
from autoheal.core.state import Lane
from autoheal.model import ActionKind, Mode
from builders import (
    CPU_HIGH,
    CPU_LOW,
    escalate,
    metric_condition,
    rule,
    scale_down,
    scale_up,
    scene,
    service,
)


def bid(wants: Rule, replicas: int = 2) -> Bid:
    proposal = wants.then.propose(Subject(service(replicas=replicas)))
    assert proposal is not None
    return Bid(wants, proposal)


UP, LATER_UP, STRONG_UP = scale_up("a-up"), scale_up("b-up"), scale_up("z-up", priority=1)
FULL_UP = scale_up("a-full", maximum=2)
DOWN, LATER_DOWN, BOUND_DOWN = (
    scale_down("a-down"), scale_down("b-down"), scale_down("a-bound", minimum=2),
)  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "winner", "losers"),
    [
        ([], None, {}),
        ([UP], "a-up", {}),
        ([DOWN], "a-down", {}),
        ([DOWN, UP], "a-up", {"a-down": "arbitration"}),
        ([LATER_UP, UP], "a-up", {"b-up": "arbitration"}),
        ([UP, STRONG_UP], "z-up", {"a-up": "arbitration"}),
        ([LATER_DOWN, DOWN], "a-down", {"b-down": "arbitration"}),
        ([FULL_UP], None, {"a-full": "bound"}),
        ([FULL_UP, LATER_UP], "b-up", {"a-full": "bound"}),
        ([FULL_UP, DOWN], None, {"a-full": "bound", "a-down": "arbitration"}),
        ([FULL_UP, UP, DOWN], "a-up", {"a-full": "bound", "a-down": "arbitration"}),
        ([BOUND_DOWN, LATER_DOWN], "b-down", {"a-bound": "bound"}),
        ([UP, BOUND_DOWN], "a-up", {"a-bound": "arbitration"}),
    ],
)
def test_the_table(rules: list[Rule], winner: str | None, losers: dict[str, str]) -> None:
    for ordered in (rules, rules[::-1]):
        contest = contend([bid(each) for each in ordered])
        assert (contest.winner.rule.name if contest.winner else None) == winner
        assert {loss.rule.name: loss.guard for loss in contest.losses} == losers


def test_a_loser_is_told_who_goes_first() -> None:
    lost = contend([bid(UP), bid(DOWN)]).losses
    assert [loss.words for loss in lost] == ["a-up (scale_up) goes first"]
    lost = contend([bid(FULL_UP), bid(DOWN)]).losses
    assert [loss.words for loss in lost] == [
        "2 replicas, and the rule's maximum is 2",
        "a-full (scale_up) goes first",
    ]


TRACK = rule("m-track", Track((), 1, 9), Combined(Combinator.ALL, ()))


def tracked(kind: ActionKind, held_by: str = "") -> Bid:
    """A tracking rule that proposes this, or would but for what holds it."""
    plan = Unable(held_by, lasting=False, held_by=held_by) if held_by else Plan(2, 3, "a step")
    return Bid(TRACK, Proposal(kind, plan))


@pytest.mark.parametrize(
    ("track", "others", "winner", "losers"),
    [
        (tracked(ActionKind.SCALE_UP), [DOWN], "m-track", {"a-down": "arbitration"}),
        (tracked(ActionKind.SCALE_UP), [UP], "a-up", {"m-track": "arbitration"}),
        (tracked(ActionKind.SCALE_UP), [STRONG_UP], "z-up", {"m-track": "arbitration"}),
        (tracked(ActionKind.SCALE_DOWN), [UP], "a-up", {"m-track": "arbitration"}),
        (tracked(ActionKind.SCALE_DOWN), [FULL_UP], None,
         {"a-full": "bound", "m-track": "arbitration"}),
        (tracked(ActionKind.SCALE_DOWN), [LATER_DOWN, DOWN], "a-down",
         {"b-down": "arbitration", "m-track": "arbitration"}),
        (tracked(ActionKind.SCALE_UP, "policy"), [DOWN], None,
         {"m-track": "policy", "a-down": "arbitration"}),
        (tracked(ActionKind.SCALE_UP, "stabilization"), [UP], "a-up",
         {"m-track": "stabilization"}),
        (tracked(ActionKind.SCALE_UP, "stabilization"), [scale_up("n-up")], "n-up",
         {"m-track": "stabilization"}),
        (tracked(ActionKind.SCALE_DOWN, "stabilization"), [scale_down("n-down")], "n-down",
         {"m-track": "stabilization"}),
    ],
)  # fmt: skip
def test_a_tracking_rule_has_the_rank_of_what_it_proposes(
    track: Bid, others: list[Rule], winner: str | None, losers: dict[str, str]
) -> None:
    bids = [track, *map(bid, others)]
    for ordered in (bids, bids[::-1]):
        contest = contend(ordered)
        assert (contest.winner.rule.name if contest.winner else None) == winner
        assert {loss.rule.name: loss.guard for loss in contest.losses} == losers
        assert not any(each.rule is TRACK for each in contest.stuck)


@given(st.lists(st.sampled_from([UP, LATER_UP, STRONG_UP, FULL_UP, DOWN, BOUND_DOWN]), unique=True))
def test_every_bid_wins_or_loses_with_a_reason(rules: list[Rule]) -> None:
    contest = contend([bid(each) for each in rules])
    won = [contest.winner.rule.name] if contest.winner else []
    names = sorted([loss.rule.name for loss in contest.losses] + won)
    assert names == sorted(each.name for each in rules)
    assert all(loss.words for loss in contest.losses)


def test_a_rule_on_trial_contends_in_a_lane_of_its_own() -> None:
    assert lane_of(scale_up(mode=Mode.DRY_RUN)) is Lane.TRIAL
    assert lane_of(scale_up()) is Lane.RULES


# through decide

LOW_TOO = metric_condition("cpu_percent", 60_000, Comparison.ABOVE, 1.0)


def test_up_goes_before_down_and_the_loser_is_on_record() -> None:
    world = scene(scale_up(), scale_down(when=LOW_TOO))
    assert [d.rule for d in world.tick()] == ["cpu-high"]
    assert world.held() == {"cpu-low": "arbitration"}


def test_an_up_at_its_bound_still_blocks_down() -> None:
    world = scene(scale_up(maximum=2), scale_down(when=LOW_TOO))
    assert world.tick() == ()
    assert world.held() == {"cpu-high": "bound", "cpu-low": "arbitration"}


@pytest.mark.parametrize("later_figure", [90.0, None])
def test_a_raised_alert_blocks_scaling_of_its_service_only(later_figure: float | None) -> None:
    world = scene(
        escalate(when=CPU_HIGH, match="web"),
        scale_up(when=LOW_TOO),
        figures={"web": 90.0, "sentinel": 90.0},
    )
    decided = world.tick()
    assert [(d.service, d.rule) for d in decided] == [("web", "page"), ("sentinel", "cpu-high")]
    assert world.held() == {"cpu-high": "arbitration"}
    world.figures_for[CPU_HIGH] = {"web": later_figure}
    world.tick()
    assert world.held() == {"cpu-high": "arbitration"}


def test_an_alert_of_a_rule_on_trial_blocks_no_real_rule() -> None:
    world = scene(escalate(mode=Mode.DRY_RUN), scale_up())
    assert [d.rule for d in world.tick()] == ["page", "cpu-high"]


def test_two_lanes_act_side_by_side() -> None:
    world = scene(scale_up(), scale_down("try", when=LOW_TOO, mode=Mode.DRY_RUN))
    decided = {d.rule: d.max_mode for d in world.tick()}
    assert decided == {"cpu-high": Mode.LIVE, "try": Mode.DRY_RUN}


def test_a_rule_that_is_not_firing_contends_for_nothing() -> None:
    world = scene(scale_up(for_ms=60_000), scale_down(when=CPU_LOW))
    world.figures["web"] = 90.0
    assert world.tick() == ()
    assert world.held() == {}
