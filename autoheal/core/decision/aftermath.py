"""What became of what was done: outcomes, the end of actions, and whether they helped.

An action that was to heal is judged: by the rule's condition once `clears_within` has passed since
it settled, and at once if it did not settle in time. One that did not help is quarantined: that
rule does not act on that service again until a person resets it.
"""

from __future__ import annotations

import dataclasses

from autoheal.core.decision import flights, incidents
from autoheal.core.decision.evidence import waits_for_a_slope
from autoheal.core.decision.pages import Cause
from autoheal.core.decision.subject import subject
from autoheal.core.decision.tick import Tick, View
from autoheal.core.rule import Rule
from autoheal.core.state import Trial
from autoheal.model import Judgement, Mode, OutcomeKind, Service, Verdict

# What was tried, and so counts against the hour's budget.
_SPENT = frozenset({OutcomeKind.APPLIED, OutcomeKind.WOULD_APPLY, OutcomeKind.NOT_APPLIED})


def conclude(tick: Tick) -> None:
    """Take in intents and outcomes since the last tick, then let time settle the rest."""
    since_ms, services = tick.before.now_ms, tick.services
    for intent in tick.snapshot.intents:
        known = services.get(intent.record.service)
        if known is not None and since_ms <= intent.ms < tick.now_ms:
            services[intent.record.service] = flights.intended(known, intent.record.decision)
    for outcome in tick.snapshot.outcomes:
        known = services.get(outcome.record.service)
        if known is not None and since_ms <= outcome.ms < tick.now_ms:
            done = flights.concluded(known, tick.breaker, outcome.record, outcome.ms, tick.limits)
            services[outcome.record.service], tick.breaker = done.service, done.breaker
            if done.flight is not None and outcome.record.kind is not OutcomeKind.UNCONFIRMED:
                _spend(tick, done.flight.max_mode, outcome.record.kind, outcome.ms)
                incidents.acted(
                    tick, outcome.record.service, done.flight, outcome.record, outcome.ms
                )
    for seen in tick.snapshot.services:
        _settle(tick, seen)
    probe = tick.breaker.probe
    if probe and all(f.decision != probe for s in services.values() for _, f in flights.flights(s)):
        tick.breaker = tick.breaker.abandoned(probe)


def _spend(tick: Tick, mode: Mode, kind: OutcomeKind, at_ms: int) -> None:
    if kind in _SPENT:
        tick.spent[mode] = (*tick.spent.get(mode, ()), at_ms)


def _settle(tick: Tick, seen: Service) -> None:
    """Actions that have ended; those that must show that they helped are watched from here on."""
    state, settled = flights.moved_on(
        tick.services[seen.id], seen, tick.tasks(seen.id), tick.now_ms, tick.limits
    )
    trials, ended = dict(state.trials), dict(state.settled)
    for each in settled:
        ended[each.flight.rule] = tick.now_ms
        rule = _rule_named(tick, each.flight.rule)
        if rule is not None and rule.then.heals and (rule.clears_within_ms or not each.in_time):
            wait_ms = rule.clears_within_ms if each.in_time else 0
            flight = each.flight
            trials[rule.name] = Trial(
                flight.decision, flight.action, flight.max_mode, tick.now_ms + wait_ms
            )
    if settled:
        state = dataclasses.replace(state, trials=trials, settled=ended)
    tick.services[seen.id] = state


def _rule_named(tick: Tick, name: str) -> Rule | None:
    return next((rule for rule in tick.rules.rules if rule.name == name), None)


def judge(tick: Tick, view: View) -> list[Cause]:
    """Say of actions whose time is up whether they helped; one that did not is not tried again."""
    identity, causes = view.service.id, []
    for name, trial in sorted(tick.services[identity].trials.items()):
        rule = view.rules.get(name)
        if rule is not None and tick.now_ms < trial.until_ms:
            continue
        state = tick.services[identity]
        unknown = rule is not None and view.verdicts[name] is Verdict.NO_DATA
        if rule is not None and unknown and waits_for_a_slope(rule, state, tick.now_ms):
            continue
        trials = {key: value for key, value in state.trials.items() if key != name}
        tick.services[identity] = dataclasses.replace(state, trials=trials)
        if rule is not None and view.verdicts[name] is Verdict.FALSE and view.is_whole:
            incidents.judged(tick, identity, trial.decision, Judgement.RECOVERED)
        elif rule is not None:
            causes.append(_condemned(tick, view, rule, trial))
    return causes


def _condemned(tick: Tick, view: View, rule: Rule, trial: Trial) -> Cause:
    """Put the rule into quarantine on the service; why people must be told."""
    identity = view.service.id
    incidents.judged(tick, identity, trial.decision, Judgement.INEFFECTIVE)
    state = tick.services[identity]
    quarantined = {**state.quarantined, rule.name: tick.now_ms}
    tick.services[identity] = dataclasses.replace(state, quarantined=quarantined)
    because = (
        f"{trial.action} did not help; it is not tried again before"
        f" 'autoheal reset {view.service.name} {rule.name}'"
    )
    return Cause(view, rule, because, rule.then.fix(subject(tick, view, rule)))
