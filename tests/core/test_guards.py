"""What holds an action back, guard by guard: at its edge, its words, its place in the list."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.actions import Plan, RaiseMemory, Restart, Track
from autoheal.actions.track import Direction, Policy, Target
from autoheal.core.breaker import Breaker, Circuit
from autoheal.core.decision.changes import look
from autoheal.core.decision.guards import GUARDS, Candidate, Situation, objection
from autoheal.core.limits import Limits
from autoheal.core.rule import Combinator, Combined, Limit, Risk, Rule
from autoheal.core.state import Flight, Lane, LaneState, Phase, RuleState, ServiceState, Trial
from autoheal.core.view.node_window import NodeLoad
from autoheal.labels import read_terms
from autoheal.model import (
    LABEL_ALLOW,
    LABEL_ENABLE,
    LABEL_ROLE,
    LABEL_STACK,
    ActionKind,
    Mode,
    Service,
    ServiceMode,
)
from autoheal.units import Size
from builders import (
    ARMED,
    CPU_LOW,
    HOUR,
    LONG_AGO,
    MINUTE,
    NOW,
    SECOND,
    STEP,
    Scene,
    escalate,
    event_condition,
    node,
    rule,
    scale_down,
    scale_up,
    scene,
    service,
)

DAY = 24 * HOUR
STACK = {**ARMED, LABEL_STACK: "shop"}
UP = scale_up("up")
DOWN = scale_down("down")
RESTART = rule("restart", Restart(), event_condition("unhealthy"))
RAISE = rule("raise", RaiseMemory(max=Size(2**31)), event_condition())
PAGE = escalate("page")
TRACK = rule(
    "track",
    Track(
        (Target(70.0, MINUTE, metric="cpu_percent"),),
        1,
        9,
        down=Direction(7 * MINUTE, (Policy(MINUTE, tasks=1),)),
    ),
    Combined(Combinator.ALL, ()),
)
ACTING = {each.name: each for each in (UP, DOWN, RESTART, RAISE)}
ROLLING = (RESTART, RAISE)
SCALING = (UP, DOWN)

Case = tuple[Candidate, Situation]


# one candidate in one situation, without obstacles unless a test puts them there


def wanting(
    wants: Rule = UP,
    of: Service | None = None,
    *,
    lane: Lane = Lane.RULES,
    max_mode: Mode = Mode.LIVE,
    is_healthy: bool = True,
    action: ActionKind | None = None,
    **state: object,
) -> Candidate:
    """A rule that wants to act on a service of which nothing else is known."""
    shown = service() if of is None else of
    known = ServiceState(
        name=shown.name,
        seen=look(shown),
        deployed_ms=LONG_AGO,
        rules={wants.name: RuleState(wants.hash, LONG_AGO, firing=True)},
    )
    return Candidate(
        service=shown,
        state=dataclasses.replace(known, **state),  # type: ignore[arg-type]  # any field by name
        rule=wants,
        action=action or wants.then.kind,
        plan=Plan(2, 3, "from 2 to 3"),
        lane=lane,
        max_mode=max_mode,
        evidence=(),
        terms=read_terms(shown.labels),
        is_healthy=is_healthy,
    )


def calm(**changes: object) -> Situation:
    """One node with room, fresh news, nothing done yet."""
    situation = Situation(
        now_ms=NOW,
        limits=Limits(),
        inventory_at_ms=NOW,
        stack_deployed_ms={},
        breaker=Breaker(),
        nodes=(node(),),
        loads={"node-1": NodeLoad(10.0, 20.0, 2**33)},
        nodes_changed_ms=None,
        outage_ms=None,
        spent={},
    )
    return dataclasses.replace(situation, **changes)  # type: ignore[arg-type]  # any field by name


def altered(wants: Rule, **changes: object) -> Rule:
    return dataclasses.replace(wants, **changes)  # type: ignore[arg-type]  # any field by name


def guard_of(candidate: Candidate, situation: Situation | None = None) -> str | None:
    """The name of the guard that objects."""
    found = objection(candidate, calm() if situation is None else situation)
    return None if found is None else found.guard.name


def flight(action: ActionKind = ActionKind.RESTART) -> Flight:
    return Flight("id", action, "stuck", 0, 1, Mode.LIVE, NOW, NOW, Phase.APPLIED)


@pytest.mark.parametrize("wants", [*ACTING.values(), PAGE], ids=lambda each: each.name)
@pytest.mark.parametrize("lane", Lane)
def test_nothing_holds_a_service_without_obstacles(wants: Rule, lane: Lane) -> None:
    assert objection(wanting(wants, lane=lane), calm()) is None


# what is a matter of time


def since(**times: int | None) -> Mapping[Lane, LaneState]:
    return {Lane.RULES: LaneState(**times)}  # type: ignore[arg-type]  # only times are given


def acted(ago_ms: int) -> Case:
    wants = altered(UP, limit=Limit(1, DAY))
    return wanting(wants, acted={"up": (NOW - ago_ms,)}), calm()


def spent(ago_ms: int) -> Case:
    return wanting(), calm(spent={Mode.LIVE: (NOW - ago_ms,) * 5})


def in_stack(ago_ms: int) -> Case:
    return wanting(UP, service(labels=STACK)), calm(stack_deployed_ms={"shop": NOW - ago_ms})


def waiting(wants: Rule, cooldown_ms: int, moment: str) -> Callable[[int], Case]:
    """The rule with this cooldown, so long after something was done."""
    paced = altered(wants, cooldown_ms=cooldown_ms)
    return lambda ago_ms: (wanting(paced, lanes=since(**{moment: NOW - ago_ms})), calm())


def tracked(action: ActionKind, moment: str) -> Callable[[int], Case]:
    """A tracking rule that proposes this, so long after something was done."""
    return lambda ago_ms: (
        wanting(TRACK, action=action, lanes=since(**{moment: NOW - ago_ms})),
        calm(),
    )


# Which guard holds for how long after what.
HOLDS: dict[str, tuple[str, int, Callable[[int], Case]]] = {
    "a deploy": ("deploy", 10 * MINUTE, lambda ago: (wanting(deployed_ms=NOW - ago), calm())),
    "a deploy of its stack": ("stack-deploy", 10 * MINUTE, in_stack),
    "an operator": ("operator", 5 * MINUTE, lambda ago: (wanting(operated_ms=NOW - ago), calm())),
    "a node": ("node", 10 * MINUTE, lambda ago: (wanting(), calm(nodes_changed_ms=NOW - ago))),
    "a failure": (
        "retry",
        15 * SECOND,
        lambda ago: (wanting(lanes=since(failed_ms=NOW - ago)), calm()),
    ),
    "its own action, up to its limit": ("limit", DAY, acted),
    "five actions": ("budget", HOUR, spent),
    "up after up": ("cooldown", 3 * MINUTE, waiting(UP, 3 * MINUTE, "up_ms")),
    "down after down": ("cooldown", 3 * MINUTE, waiting(DOWN, 3 * MINUTE, "down_ms")),
    "down after up, its window": ("cooldown", CPU_LOW.over_ms, waiting(DOWN, 0, "up_ms")),
    "down after up, its cooldown": (
        "cooldown",
        20 * MINUTE,
        waiting(DOWN, 20 * MINUTE, "up_ms"),
    ),
    "a tracked step down after up, the time in which it stabilizes": (
        "cooldown",
        7 * MINUTE,
        tracked(ActionKind.SCALE_DOWN, "up_ms"),
    ),
    "restart after any rolling": ("cooldown", HOUR, waiting(RESTART, HOUR, "rolled_ms")),
    "raise after any rolling": ("cooldown", HOUR, waiting(RAISE, HOUR, "rolled_ms")),
}


@pytest.mark.parametrize("name", HOLDS)
def test_a_hold_ends_to_the_millisecond(name: str) -> None:
    guard, hold_ms, after = HOLDS[name]
    assert guard_of(*after(hold_ms - 1)) == guard
    assert guard_of(*after(hold_ms)) is None
    assert guard_of(*after(hold_ms + 1)) is None


@pytest.mark.parametrize("name", HOLDS)
def test_a_clock_that_is_ahead_holds(name: str) -> None:
    guard, _, after = HOLDS[name]
    assert guard_of(*after(0)) == guard_of(*after(-HOUR)) == guard


@pytest.mark.parametrize(
    ("wants", "moments"),
    [
        (UP, ("down_ms", "rolled_ms")),
        (DOWN, ("rolled_ms",)),
        (RESTART, ("up_ms", "down_ms")),
        (RAISE, ("up_ms", "down_ms")),
    ],
    ids=lambda each: getattr(each, "name", None),
)
def test_a_cooldown_waits_only_for_what_the_action_must_not_follow(
    wants: Rule, moments: tuple[str, ...]
) -> None:
    for moment in moments:
        assert guard_of(*waiting(wants, HOUR, moment)(0)) is None


@pytest.mark.parametrize(
    ("action", "moment"),
    [
        (ActionKind.SCALE_UP, "up_ms"),
        (ActionKind.SCALE_UP, "down_ms"),
        (ActionKind.SCALE_DOWN, "down_ms"),
        (ActionKind.SCALE_DOWN, "rolled_ms"),
    ],
)
def test_a_tracked_step_is_otherwise_paced_by_its_policies_alone(
    action: ActionKind, moment: str
) -> None:
    assert guard_of(*tracked(action, moment)(0)) is None


@pytest.mark.parametrize(("action", "guard"), [("scale_up", "saturated"), ("scale_down", None)])
def test_only_a_tracked_step_up_needs_room(action: str, guard: str | None) -> None:
    full = calm(loads={"node-1": NodeLoad(95.0, 20.0, 2**33)})
    assert guard_of(wanting(TRACK, action=ActionKind(action)), full) == guard


@pytest.mark.parametrize(
    ("age_ms", "guard"),
    [(MINUTE - 1, None), (MINUTE, "stale-inventory"), (MINUTE + 1, "stale-inventory")],
)
def test_an_inventory_grows_stale(age_ms: int, guard: str | None) -> None:
    assert guard_of(wanting(), calm(inventory_at_ms=NOW - age_ms)) == guard


# what is a matter of counting


@pytest.mark.parametrize(("times", "guard"), [(2, None), (3, "limit"), (4, "limit")])
def test_a_rule_acts_as_often_as_its_limit_says(times: int, guard: str | None) -> None:
    wants = altered(RESTART, limit=Limit(3, DAY))
    assert guard_of(wanting(wants, acted={"restart": (NOW - 1,) * times})) == guard


def test_a_limit_counts_the_actions_of_its_own_rule_within_its_time() -> None:
    wants = altered(RESTART, limit=Limit(2, DAY))
    old_and_new = (NOW - DAY, NOW - DAY + 1)
    assert guard_of(wanting(wants, acted={"restart": old_and_new, "raise": (NOW,) * 9})) is None
    assert guard_of(wanting(wants, acted={"restart": (*old_and_new, NOW)})) == "limit"


def test_a_rule_without_a_limit_has_none() -> None:
    assert guard_of(wanting(RESTART, acted={"restart": (NOW,) * 99})) is None


@pytest.mark.parametrize(("times", "guard"), [(4, None), (5, "budget"), (6, "budget")])
@pytest.mark.parametrize("mode", Mode)
def test_five_actions_in_an_hour_are_all(mode: Mode, times: int, guard: str | None) -> None:
    situation = calm(spent={mode: (NOW - 1,) * times})
    assert guard_of(wanting(max_mode=mode), situation) == guard


def test_what_would_be_done_does_not_spend_the_live_budget_nor_the_other_way_round() -> None:
    for mine, other in [(Mode.LIVE, Mode.DRY_RUN), (Mode.DRY_RUN, Mode.LIVE)]:
        assert guard_of(wanting(max_mode=mine), calm(spent={other: (NOW,) * 99})) is None


# what the service is


OBJECTED: dict[str, tuple[Collection[Rule], Service, str]] = {
    "a part of autoheal": (
        ACTING.values(),
        service(labels={**ARMED, LABEL_ROLE: "engine"}),
        "own",
    ),
    "a role without a name": (ACTING.values(), service(labels={**ARMED, LABEL_ROLE: ""}), "own"),
    "switched off": (ACTING.values(), service(replicas=0), "off"),
    "updating": (ACTING.values(), service(update_state="updating"), "rollout"),
    "paused": (ACTING.values(), service(update_state="paused"), "rollout"),
    "rolling back": (ACTING.values(), service(update_state="rollback_started"), "rollout"),
    "rollback paused": (ACTING.values(), service(update_state="rollback_paused"), "rollout"),
    "a mistyped label": (ACTING.values(), service(labels={"autoheal.alow": "restart"}), "labels"),
    "global": (ACTING.values(), service(mode=ServiceMode.GLOBAL, replicas=None), "mode"),
    "a job": (ACTING.values(), service(mode=ServiceMode.REPLICATED_JOB), "mode"),
    "a global job": (ACTING.values(), service(mode=ServiceMode.GLOBAL_JOB, replicas=None), "mode"),
    "a cron service": (ACTING.values(), service(restart_condition="none"), "no-restart"),
    "one replica with a volume": (ACTING.values(), service(replicas=1, stateful=True), "volume"),
    "not pinned": (ROLLING, service(pinned=False), "unpinned"),
    "one replica, stop-first": (ROLLING, service(replicas=1), "single"),
}
ACCEPTED: dict[str, tuple[Collection[Rule], Service]] = {
    "update completed": (ACTING.values(), service(update_state="completed")),
    "rolled back": (ACTING.values(), service(update_state="rollback_completed")),
    "in a stack": (ACTING.values(), service(labels=STACK)),
    "restarted on failure": (ACTING.values(), service(restart_condition="on-failure")),
    "two replicas with a volume": (ACTING.values(), service(replicas=2, stateful=True)),
    "one replica without a volume": (SCALING, service(replicas=1)),
    "one replica, start-first": (ROLLING, service(replicas=1, update_order="start-first")),
    "two replicas, stop-first": (ROLLING, service(replicas=2)),
    "scaled without a digest": (SCALING, service(pinned=False)),
}


@pytest.mark.parametrize("name", OBJECTED)
def test_what_a_service_is_can_hold_an_action_back(name: str) -> None:
    rules, of, guard = OBJECTED[name]
    assert {guard_of(wanting(wants, of)) for wants in rules} == {guard}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_no_obstacle_holds_nothing(name: str) -> None:
    rules, of = ACCEPTED[name]
    assert {guard_of(wanting(wants, of)) for wants in rules} == {None}


@pytest.mark.parametrize("wants", ROLLING, ids=lambda each: each.name)
def test_a_single_task_that_is_not_healthy_may_be_replaced(wants: Rule) -> None:
    assert guard_of(wanting(wants, service(replicas=1), is_healthy=False)) is None


# what goes on


def test_an_outage_holds_every_action_however_long_it_lasts() -> None:
    for wants in ACTING.values():
        for ago_ms in (0, DAY):
            assert guard_of(wanting(wants), calm(outage_ms=NOW - ago_ms)) == "outage"


@pytest.mark.parametrize(
    ("mine", "other", "in_flight", "cooldown", "retry"),
    [
        (Lane.RULES, Lane.RULES, "in-flight", "cooldown", "retry"),
        (Lane.RULES, Lane.TRIAL, None, None, None),
        (Lane.TRIAL, Lane.RULES, "in-flight", "cooldown", None),
        (Lane.TRIAL, Lane.TRIAL, "in-flight", "cooldown", "retry"),
    ],
)
def test_a_rule_on_trial_respects_real_actions_and_a_real_one_no_trial(
    mine: Lane, other: Lane, in_flight: str | None, cooldown: str | None, retry: str | None
) -> None:
    wants = altered(UP, cooldown_ms=MINUTE)

    def held(state: LaneState) -> str | None:
        return guard_of(wanting(wants, lane=mine, lanes={other: state}))

    assert held(LaneState(flight=flight())) == in_flight
    assert held(LaneState(up_ms=NOW)) == cooldown
    assert held(LaneState(failed_ms=NOW)) == retry


@pytest.mark.parametrize("until_ms", [NOW + MINUTE, NOW, NOW - MINUTE])
def test_a_rule_waits_until_its_last_action_is_judged(until_ms: int) -> None:
    trial = Trial("id", ActionKind.RESTART, Mode.LIVE, until_ms)
    assert guard_of(wanting(RESTART, trials={"restart": trial})) == "judging"
    assert guard_of(wanting(RAISE, trials={"restart": trial})) is None


def test_a_quarantine_is_of_one_rule_and_does_not_end_by_itself() -> None:
    assert guard_of(wanting(RESTART, quarantined={"restart": LONG_AGO})) == "quarantine"
    assert guard_of(wanting(RAISE, quarantined={"restart": LONG_AGO})) is None


@pytest.mark.parametrize(
    ("breaker", "guard"),
    [
        (Breaker(Circuit.CLOSED, failures=2), None),
        (Breaker(Circuit.OPEN), "breaker"),
        (Breaker(Circuit.HALF_OPEN), None),
        (Breaker(Circuit.HALF_OPEN, probe="id"), "breaker"),
    ],
)
def test_only_what_reaches_docker_waits_for_its_breaker(
    breaker: Breaker, guard: str | None
) -> None:
    assert guard_of(wanting(), calm(breaker=breaker)) == guard
    assert guard_of(wanting(max_mode=Mode.DRY_RUN), calm(breaker=breaker)) is None


# room for another task


def crowd(*loads: NodeLoad | None, **last: str) -> Situation:
    """A node per load; the last one as said."""
    nodes = [node(f"node-{number}") for number, _ in enumerate(loads, 1)]
    nodes[-1] = dataclasses.replace(nodes[-1], **last)  # type: ignore[arg-type]  # any field by name
    known = {at.id: load for at, load in zip(nodes, loads, strict=True) if load is not None}
    return calm(nodes=tuple(nodes), loads=known)


FREE_NODE = NodeLoad(89.9, 89.9)
FULL_NODE = NodeLoad(90.0, 20.0)


@pytest.mark.parametrize(
    ("situation", "guard"),
    [
        (crowd(NodeLoad(89.9, 20.0)), None),
        (crowd(NodeLoad(90.0, 20.0)), "saturated"),
        (crowd(NodeLoad(90.1, 20.0)), "saturated"),
        (crowd(NodeLoad(20.0, 89.9)), None),
        (crowd(NodeLoad(20.0, 90.0)), "saturated"),
        (crowd(NodeLoad(20.0, 90.1)), "saturated"),
        (crowd(NodeLoad(None, 20.0)), "saturated"),
        (crowd(None), "saturated"),
        (crowd(FULL_NODE, None, FREE_NODE), None),
        (crowd(FULL_NODE, None), "saturated"),
        (crowd(FULL_NODE, FREE_NODE, availability="drain"), "saturated"),
        (crowd(FULL_NODE, FREE_NODE, state="down"), "saturated"),
        (crowd(FREE_NODE, FULL_NODE, availability="drain"), None),
        (calm(nodes=()), "saturated"),
    ],
)
def test_only_a_scale_up_needs_a_node_that_is_known_to_have_room(
    situation: Situation, guard: str | None
) -> None:
    assert guard_of(wanting(UP), situation) == guard
    assert {guard_of(wanting(wants), situation) for wants in (DOWN, RESTART, RAISE)} == {None}


def test_only_nodes_that_the_constraints_admit_count() -> None:
    situation = crowd(FULL_NODE, FREE_NODE, role="manager")
    assert guard_of(wanting(UP), situation) is None
    bound = service(constraints=("node.role == worker",))
    assert guard_of(wanting(UP, bound), situation) == "saturated"


def test_a_setting_says_when_a_node_is_saturated() -> None:
    situation = dataclasses.replace(crowd(FULL_NODE), limits=Limits(saturated_percent=91))
    assert guard_of(wanting(UP), situation) is None


# every guard at once: a service burdened with these obstacles and no others


def burdened(wants: Rule, names: Collection[str]) -> Case:
    """A candidate to which exactly the guards of these names object, taken one by one.

    What does not concern the action (room for a restart, a digest for a scale-up) is no obstacle.
    """
    extra: dict[str, str] = {}
    if "own" in names:
        extra[LABEL_ROLE] = "engine"
    if "labels" in names:
        extra["autoheal.alow"] = "restart"
    lonely = 1 if {"volume", "single"} & set(names) else 2
    burden = service(
        replicas=0 if "off" in names else lonely,
        labels={**STACK, **extra},
        update_state="paused" if "rollout" in names else "",
        mode=ServiceMode.GLOBAL if "mode" in names else ServiceMode.REPLICATED,
        restart_condition="none" if "no-restart" in names else "any",
        stateful="volume" in names,
        pinned="unpinned" not in names,
    )
    limited = Limit(1, DAY) if "limit" in names else None
    paced = altered(wants, cooldown_ms=MINUTE, limit=limited)
    candidate = wanting(paced, burden, is_healthy="single" in names)
    state = _history(candidate.state, wants, names)
    return dataclasses.replace(candidate, state=state), _surroundings(names)


def _history(state: ServiceState, wants: Rule, names: Collection[str]) -> ServiceState:
    replaced_ms = NOW if "cooldown" in names else None
    lane = LaneState(
        up_ms=replaced_ms,
        rolled_ms=replaced_ms,
        failed_ms=NOW if "retry" in names else None,
        flight=flight() if "in-flight" in names else None,
    )
    trial = Trial("id", wants.then.kind, Mode.LIVE, NOW + MINUTE)
    return dataclasses.replace(
        state,
        deployed_ms=NOW if "deploy" in names else LONG_AGO,
        rules={wants.name: RuleState(wants.hash, NOW if "group-wait" in names else LONG_AGO)},
        operated_ms=NOW if "operator" in names else None,
        lanes={Lane.RULES: lane},
        trials={wants.name: trial} if "judging" in names else {},
        quarantined={wants.name: NOW} if "quarantine" in names else {},
        acted={wants.name: (NOW,)},
    )


def _surroundings(names: Collection[str]) -> Situation:
    return calm(
        inventory_at_ms=LONG_AGO if "stale-inventory" in names else NOW,
        outage_ms=NOW if "outage" in names else None,
        stack_deployed_ms={"shop": NOW} if "stack-deploy" in names else {},
        nodes_changed_ms=NOW if "node" in names else None,
        loads={} if "saturated" in names else {"node-1": FREE_NODE},
        spent={Mode.LIVE: (NOW,) * 5} if "budget" in names else {},
        breaker=Breaker(Circuit.OPEN if "breaker" in names else Circuit.CLOSED),
    )


NEVER = ("own", "off")
PASSING = (
    *("group-wait", "stale-inventory", "outage", "in-flight", "rollout", "deploy", "stack-deploy"),
    *("operator", "node", "judging", "cooldown"),
)
LASTING = ("labels", "mode", "no-restart", "volume", "unpinned", "single", "quarantine", "limit")
WAITS = ("saturated", "retry", "budget", "breaker")
TOP_DOWN = (*NEVER, *PASSING, *LASTING, *WAITS)
OF_NO_CONCERN = {
    "up": {"group-wait", "unpinned", "single"},
    "down": {"group-wait", "unpinned", "single", "saturated"},
    "restart": {"saturated"},
    "raise": {"saturated"},
}
RISKY = {
    Risk.VOLUME: "volume",
    Risk.SINGLE: "single",
    Risk.UNPINNED: "unpinned",
    Risk.NO_RESTART: "no-restart",
}
RULES = st.sampled_from(sorted(ACTING))
OBSTACLES = st.sets(st.sampled_from(TOP_DOWN))


def test_the_list_is_read_top_down() -> None:
    assert tuple(guard.name for guard in GUARDS) == TOP_DOWN


def test_only_what_waiting_does_not_change_is_lasting() -> None:
    assert tuple(guard.name for guard in GUARDS if guard.lasting) == LASTING


@pytest.mark.parametrize("name", ACTING)
@pytest.mark.parametrize("obstacle", TOP_DOWN)
def test_an_obstacle_holds_the_actions_that_it_concerns(obstacle: str, name: str) -> None:
    expected = None if obstacle in OF_NO_CONCERN[name] else obstacle
    assert guard_of(*burdened(ACTING[name], {obstacle})) == expected


@given(name=RULES, obstacles=OBSTACLES, risks=st.sets(st.sampled_from(Risk)))
def test_the_first_guard_that_objects_is_the_reason(
    name: str, obstacles: set[str], risks: set[Risk]
) -> None:
    wants = altered(ACTING[name], allow_risk=tuple(risks))
    left = obstacles - OF_NO_CONCERN[name] - {RISKY[risk] for risk in risks}
    expected = next((guard for guard in TOP_DOWN if guard in left), None)
    assert guard_of(*burdened(wants, obstacles)) == expected


@pytest.mark.parametrize("risk", Risk)
@pytest.mark.parametrize("obstacle", TOP_DOWN)
def test_a_risk_that_is_asked_for_lifts_its_guard_and_no_other(obstacle: str, risk: Risk) -> None:
    for name, wants in ACTING.items():
        case = burdened(altered(wants, allow_risk=(risk,)), {obstacle})
        lifted = obstacle == RISKY[risk] or obstacle in OF_NO_CONCERN[name]
        assert guard_of(*case) == (None if lifted else obstacle)


def test_nobody_is_paged_while_something_may_pass_by_itself() -> None:
    for obstacle in PASSING:
        found = objection(*burdened(RESTART, {obstacle, *LASTING}))
        assert found is not None
        assert not found.guard.lasting


def test_our_own_waits_never_keep_a_page_back() -> None:
    for obstacle in LASTING:
        found = objection(*burdened(RESTART, {obstacle, *WAITS}))
        assert found is not None
        assert found.guard.lasting


@given(obstacles=OBSTACLES)
def test_an_escalation_is_held_for_what_is_off_or_our_own_and_for_the_group_wait_only(
    obstacles: set[str],
) -> None:
    expected = next((name for name in (*NEVER, "group-wait") if name in obstacles), None)
    assert guard_of(*burdened(PAGE, obstacles)) == expected


# words


WORDS: dict[str, str] = {
    "own": "it is a part of autoheal itself",
    "off": "0 replicas means switched off",
    "group-wait": "watched for a common cause, 30s more",
    "stale-inventory": "the last inventory came 4d4h ago",
    "outage": "an outage began 0s ago: too many services are sick at once",
    "in-flight": "the restart of rule stuck is applied and not settled",
    "rollout": "its update is paused",
    "deploy": "deployed 0s ago",
    "stack-deploy": "its stack shop was deployed 0s ago",
    "operator": "an operator changed it 0s ago",
    "node": "a node came or went 0s ago",
    "judging": "whether its last restart helped is known in 1m",
    "cooldown": "its tasks were replaced 0s ago, the wait is 1m",
    "labels": 'its labels cannot be read: there is no label "autoheal.alow"',
    "mode": "it is a global service, and only replicated ones are acted on",
    "no-restart": "its restart condition is none, as for jobs: nobody wants it run again unasked",
    "volume": "its only replica writes to a volume",
    "unpinned": "its image has no digest, so new tasks may run other code",
    "single": "its only task is healthy and would be stopped before the next one starts",
    "quarantine": "seen 0s ago not to help; not tried again before 'autoheal reset web restart'",
    "limit": "the limit of the rule is spent: 1 in 1d",
    "retry": "the last attempt failed 0s ago",
    "budget": "5 actions were taken in the last hour, and 5 are allowed",
    "breaker": "the breaker around Docker is open",
}


NO_ROOM = "no node is known to have room for another task"


def words_of(case: Case) -> str:
    found = objection(*case)
    assert found is not None
    return found.words


@pytest.mark.parametrize("obstacle", WORDS)
def test_a_guard_says_why(obstacle: str) -> None:
    assert words_of(burdened(RESTART, {obstacle})) == WORDS[obstacle]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ((wanting(deployed_ms=NOW - 10 * MINUTE + 1), calm()), "deployed 9m59s ago"),
        ((wanting(deployed_ms=NOW + HOUR), calm()), "deployed 0s ago"),
        (waiting(UP, 3 * MINUTE, "up_ms")(MINUTE), "it was scaled 1m ago, the wait is 3m"),
        (waiting(DOWN, 0, "up_ms")(MINUTE), "it was scaled 1m ago, the wait is 15m"),
        (
            (wanting(), crowd(FULL_NODE, None)),
            f"{NO_ROOM}: node-1 is saturated, node-2 is not measured",
        ),
        (
            (wanting(), crowd(*[FULL_NODE] * 3)),
            f"{NO_ROOM}: node-1 is saturated, node-2 is saturated, node-3 is saturated",
        ),
        (
            (wanting(), crowd(*[FULL_NODE] * 5)),
            f"{NO_ROOM}: node-1 is saturated, node-2 is saturated, node-3 is saturated and 2 more",
        ),
        (
            (wanting(), crowd(FREE_NODE, availability="pause")),
            "no node could take another task",
        ),
    ],
)
def test_the_words_tell_the_figures(case: Case, words: str) -> None:
    assert words_of(case) == words


# through `decide`: `web` with an obstacle, `sentinel` without


AT = NOW + STEP


def two(prepare: Callable[[Scene], None]) -> Scene:
    """As many may act as want to."""
    world = scene(scale_up(), figures={"web": 90.0, "sentinel": 90.0})
    world.limits = dataclasses.replace(world.limits, actions_at_once=9)
    prepare(world)
    return world


def put(**changes: object) -> Callable[[Scene], None]:
    return lambda world: world.put(service(**changes))  # type: ignore[arg-type]  # any field by name


def operated(ago_ms: int) -> Callable[[Scene], None]:
    def prepare(world: Scene) -> None:
        world.figures = {"web": None, "sentinel": None}
        world.tick()
        world.alter(replicas=5, updated_at_ms=AT + STEP - ago_ms)
        world.figures = {"web": 90.0, "sentinel": 90.0}

    return prepare


def neighbour_deployed(ago_ms: int) -> Callable[[Scene], None]:
    def prepare(world: Scene) -> None:
        world.put(service(labels=STACK))
        world.put(service("neighbour", labels=STACK, updated_at_ms=AT - ago_ms))

    return prepare


HELD: dict[str, tuple[Callable[[Scene], None], str]] = {
    "a part of autoheal": (put(labels={**ARMED, LABEL_ROLE: "engine"}), "own"),
    "switched off": (put(replicas=0), "off"),
    "global": (put(mode=ServiceMode.GLOBAL, replicas=None), "mode"),
    "a mistyped label": (put(labels={**ARMED, "autoheal.alow": "restart"}), "labels"),
    "one replica with a volume": (put(replicas=1, stateful=True), "volume"),
    "updating": (put(update_state="updating"), "rollout"),
    "deployed not long enough ago": (put(updated_at_ms=AT - 10 * MINUTE + 1), "deploy"),
    "stack deployed not long enough ago": (neighbour_deployed(10 * MINUTE - 1), "stack-deploy"),
    "an operator, not long enough ago": (operated(5 * MINUTE - 1), "operator"),
}
FREE: dict[str, Callable[[Scene], None]] = {
    "update completed": put(update_state="completed"),
    "deployed long enough ago": put(updated_at_ms=AT - 10 * MINUTE),
    "stack deployed long enough ago": neighbour_deployed(10 * MINUTE),
    "an operator, long enough ago": operated(5 * MINUTE),
}


@pytest.mark.parametrize("name", HELD)
def test_an_obstacle_holds_its_service_and_no_other(name: str) -> None:
    prepare, guard = HELD[name]
    world = two(prepare)
    assert [d.service for d in world.tick()] == ["sentinel"]
    assert world.held() == {"cpu-high": guard}


@pytest.mark.parametrize("name", FREE)
def test_without_an_obstacle_both_are_acted_on(name: str) -> None:
    assert [d.service for d in two(FREE[name]).tick()] == ["sentinel", "web"]


@pytest.mark.parametrize("name", [n for n, (_, g) in HELD.items() if g not in ("own", "off")])
def test_no_obstacle_but_own_and_off_keeps_a_page_back(name: str) -> None:
    world = two(HELD[name][0])
    world.rules = dataclasses.replace(world.rules, rules=(escalate(),))
    world.inventory_age_ms = HOUR
    assert {d.service for d in world.wait(MINUTE)} >= {"web", "sentinel"}


@pytest.mark.parametrize("name", [n for n, (_, g) in HELD.items() if g in ("own", "off")])
def test_nobody_is_paged_for_what_is_off_or_our_own(name: str) -> None:
    world = two(HELD[name][0])
    world.rules = dataclasses.replace(world.rules, rules=(escalate(),))
    assert [d.service for d in world.wait(MINUTE)] == ["sentinel"]


@pytest.mark.parametrize(
    ("labels", "mode", "reach"),
    [
        (ARMED, Mode.LIVE, Mode.LIVE),
        (ARMED, Mode.DRY_RUN, Mode.DRY_RUN),
        ({LABEL_ENABLE: "true", LABEL_ALLOW: "scale_down"}, Mode.LIVE, Mode.DRY_RUN),
        ({LABEL_ENABLE: "true"}, Mode.LIVE, Mode.DRY_RUN),
        ({LABEL_ENABLE: "false", LABEL_ALLOW: "scale_up"}, Mode.LIVE, Mode.DRY_RUN),
        ({LABEL_ALLOW: "scale_up"}, Mode.LIVE, Mode.DRY_RUN),
        ({}, Mode.LIVE, Mode.DRY_RUN),
    ],
)
def test_only_both_labels_arm_a_service(labels: dict[str, str], mode: Mode, reach: Mode) -> None:
    world = scene(scale_up(mode=mode))
    world.put(service(labels=labels))
    assert [d.max_mode for d in world.tick()] == [reach]


def test_the_reason_is_remembered_until_the_rule_is_free() -> None:
    world = two(put(update_state="updating"))
    world.tick()
    assert world.state.services["web"].rules["cpu-high"].held == "rollout"
    world.alter(update_state="completed")
    world.tick()
    assert world.state.services["web"].rules["cpu-high"].held == ""
