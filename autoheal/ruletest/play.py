"""Playing a scenario: what the engine would have decided, tick by tick, with the real core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoheal.core.decision.changes import look
from autoheal.core.decision.decide import Verdicts, decide
from autoheal.core.decision.tick import Held
from autoheal.core.rule import Rule
from autoheal.core.state import Lane, LaneState, RuleState, ServiceState, State, TrackState
from autoheal.core.view.fold import Fold, Snapshot
from autoheal.errors import AutohealError
from autoheal.model import Decision, Service
from autoheal.ruletest.scenario import LONG_MS, Past, RulePast, Scenario
from autoheal.ruletest.world import World

EPOCH = 1


@dataclass(frozen=True, slots=True)
class Moment:
    """One tick: what was looked at, and what came of it."""

    now_ms: int
    snapshot: Snapshot
    verdicts: Verdicts


@dataclass(frozen=True, slots=True)
class Played:
    """A scenario and what was decided in it; `moments` are the ticks that it asks about."""

    scenario: Scenario
    decisions: Sequence[Decision]
    moments: Sequence[Moment]

    def moment(self, at_ms: int) -> Moment:
        """The tick at this time, which the scenario asks about."""
        return next(each for each in self.moments if each.now_ms == at_ms)

    def held(self, at_ms: int) -> Sequence[Held]:
        """What was held back at this time."""
        return self.moment(at_ms).verdicts.held


def play(scenario: Scenario) -> Played:
    """All ticks of a scenario. Equal scenarios give equal decisions, to the byte."""
    fold, world = Fold(scenario.rules, scenario.limits), World(scenario)
    state = beginning(scenario, world)
    decisions: list[Decision] = []
    moments: list[Moment] = []
    step_ms = scenario.limits.step_ms
    for now_ms in range(scenario.zero_ms + step_ms, scenario.until_ms + 1, step_ms):
        for entry in world.until(now_ms):
            spoilt = fold.fold(entry.stream, entry.ms, entry.ms, entry.fields)
            if spoilt is not None:
                raise AutohealError(f"{scenario.file}:{scenario.line}: {entry.stream}: {spoilt}")
        snapshot = fold.snapshot(now_ms=now_ms, since_ms=state.now_ms, epoch=EPOCH)
        fold.forget(now_ms)
        verdicts = decide(scenario.rules, scenario.limits, state, snapshot, now_ms)
        state = verdicts.state
        world.answer(verdicts.decisions, now_ms)
        decisions += verdicts.decisions
        if now_ms in scenario.asked_ms:
            moments.append(Moment(now_ms, snapshot, verdicts))
    return Played(scenario, decisions, moments)


def beginning(scenario: Scenario, world: World) -> State:
    """What is remembered when the test begins: an engine that has been at it for long."""
    services = {
        name: _remembered(service, scenario.past.get(name, Past()), scenario)
        for name, service in world.services.items()
    }
    return State(
        now_ms=scenario.zero_ms,
        began_ms=scenario.zero_ms - LONG_MS,
        epoch=EPOCH,
        rule_set=scenario.rules.hash,
        nodes=dict.fromkeys(world.nodes, "in"),
        services=services,
    )


def _remembered(service: Service, past: Past, scenario: Scenario) -> ServiceState:
    known = {rule.name: rule for rule in scenario.rules.rules}
    lane = LaneState(up_ms=past.up_ms, down_ms=past.down_ms, rolled_ms=past.rolled_ms)
    rules = past.rules.items()
    return ServiceState(
        name=service.name,
        seen=look(service),
        deployed_ms=max(service.created_at_ms, service.updated_at_ms),
        operated_ms=past.operated_ms,
        lanes={} if lane == LaneState() else {Lane.RULES: lane},
        rules={
            name: _rule_state(known[name], rule)
            for name, rule in rules
            if rule.active_ms is not None
        },
        acted={name: rule.acted_ms for name, rule in rules if rule.acted_ms},
        tracks={
            name: TrackState(rule.recommendations, rule.scaled)
            for name, rule in rules
            if rule.recommendations or rule.scaled
        },
        quarantined={
            name: rule.quarantined_ms for name, rule in rules if rule.quarantined_ms is not None
        },
    )


def _rule_state(rule: Rule, past: RulePast) -> RuleState:
    return RuleState(rule.hash, past.active_ms or 0, firing=past.is_firing)
