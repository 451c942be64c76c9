"""What people tell the engine: `autoheal reset` lets a rule act again on a service.

The command is an entry in a stream, as all that decisions rest on; the engine takes it in at its
next tick.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autoheal import records
from autoheal.core.rule import Limit, RuleSet
from autoheal.core.state import ServiceState, State
from autoheal.engine import kept_rules, kept_state
from autoheal.errors import UserError
from autoheal.model import COMMAND_RESET, Command
from autoheal.ports import Clock, Store, Write
from autoheal.units import format_duration


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be told the engine, None if nothing, and what to say to the person."""

    command: Command | None
    words: str


def reset(store: Store, clock: Clock, service: str, rule: str, *, by: str) -> str:
    """Reset a rule ("": all rules) on a service, both by name; what to say to the person.

    Raises UserError for names that nobody knows, and ConnectionError.
    """
    state = kept_state(store)
    if not state.rule_set:
        raise UserError("no engine has ticked on this store yet (is one running?)")
    rules = kept_rules(store, state.rule_set)
    answer = answer_reset(state, rules, service, rule, by=by, now_ms=store.now_ms())
    if answer.command is not None:
        fields = records.pack_command(answer.command)
        store.append([Write(records.COMMANDS, fields, sequence=1, taken=clock.monotonic())])
    return answer.words


def answer_reset(
    state: State, rules: RuleSet, service: str, rule: str, *, by: str, now_ms: int
) -> Answer:
    """The answer to `reset`. Raises UserError for names that nobody knows."""
    named = {known.name: identity for identity, known in state.services.items()}
    identity = named[_known("service", service, named)]
    blocked = _blocked(state.services[identity], rules, now_ms)
    if rule:
        _known("rule", rule, {each.name for each in rules.rules} | blocked.keys())
        blocked = {name: why for name, why in blocked.items() if name == rule}
    if not blocked:
        whom = f"rule {rule}" if rule else "any rule"
        return Answer(None, f"nothing to reset: on {service} nothing is held against {whom}")
    listed = ", ".join(f"{name} ({why})" for name, why in blocked.items())
    words = f"from the engine's next tick on autoheal may act on {service} again by {listed}"
    return Answer(Command(COMMAND_RESET, identity, rule, by), words)


def _known(what: str, name: str, names: Iterable[str]) -> str:
    """The name, if there is one such."""
    listed = sorted(names)
    if name in listed:
        return name
    near = difflib.get_close_matches(name, listed, 1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    raise UserError(f"there is no {what} {name}{meant}")


def _blocked(service: ServiceState, rules: RuleSet, now_ms: int) -> Mapping[str, str]:
    """By rule, sorted, what keeps it from acting, or will soon."""
    blocked = {}
    for each in rules.rules:
        if each.limit is not None and (count := _count(service, each.name, each.limit, now_ms)):
            per = format_duration(each.limit.per_ms)
            blocked[each.name] = f"{count} of {each.limit.times} in {per} spent"
    for name, count in service.failures.items():
        blocked[name] = f"{count} attempts in a row came to nothing"
    for name, since_ms in service.quarantined.items():
        lasts = format_duration(max(0, now_ms - since_ms) // 1000 * 1000)
        blocked[name] = f"quarantined for {lasts}"
    return dict(sorted(blocked.items()))


def _count(service: ServiceState, rule: str, limit: Limit, now_ms: int) -> int:
    """How many actions count against a rule's limit."""
    since_ms = max(now_ms - limit.per_ms, service.forgiven.get(rule, 0))
    return sum(at_ms > since_ms for at_ms in service.acted.get(rule, ()))
