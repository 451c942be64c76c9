"""The tick being worked on: what it looks at, what it has found so far, what it will leave behind.

It lives no longer than one call of `decide`, and only the modules of core that make up a tick
change it. Order never depends on a set or a hash: services go by id, rules by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autoheal.core.breaker import Breaker
from autoheal.core.decision.arbiter import Loss
from autoheal.core.limits import Limits
from autoheal.core.rule import Rule, RuleSet
from autoheal.core.state import Page, RuleState, ServiceState, State
from autoheal.core.view.fold import ServiceTasks, Snapshot
from autoheal.labels import Terms
from autoheal.model import (
    LABEL_ROLE,
    ActionKind,
    Decision,
    Evidence,
    Incident,
    Mode,
    Service,
    Verdict,
)
from autoheal.records import identified

if TYPE_CHECKING:
    from autoheal.core.decision.tracking import Tracking

NO_TASKS = ServiceTasks()


@dataclass(frozen=True, slots=True)
class Held:
    """A rule that wanted to act and did not, and why."""

    service: str
    rule: str
    guard: str
    words: str


@dataclass(frozen=True, slots=True)
class View:
    """One service as this tick sees it: its rules by name, and what each of them says."""

    service: Service
    terms: Terms
    tasks: ServiceTasks
    rules: Mapping[str, Rule]
    verdicts: Mapping[str, Verdict]

    @property
    def is_whole(self) -> bool:
        """Whether all tasks that should run do, or have ended as they should."""
        return len(self.tasks.running) + self.tasks.finished >= self.tasks.wanted


@dataclass(slots=True)
class Tick:
    """The inputs, and the state as it becomes; `outside_hours` names the rules not in force now.

    `trackings` is what target tracking came to, by service.
    """

    rules: RuleSet
    limits: Limits
    snapshot: Snapshot
    now_ms: int
    before: State
    breaker: Breaker
    services: dict[str, ServiceState] = field(default_factory=dict)
    stacks: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    nodes_changed_ms: int | None = None
    spent: dict[Mode, tuple[int, ...]] = field(default_factory=dict)
    pages: dict[str, Page] = field(default_factory=dict)
    outage_ms: int | None = None
    began_ms: int = 0
    outside_hours: frozenset[str] = frozenset()
    views: dict[str, View] = field(default_factory=dict)
    trackings: dict[str, Sequence[Tracking]] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)

    @property
    def now(self) -> tuple[int, Snapshot]:
        """The instant, as conditions are asked."""
        return self.now_ms, self.snapshot

    @property
    def is_late(self) -> bool:
        """Whether the last tick is so long ago that nobody knows what held in between."""
        limits = self.limits
        on_time_ms = max((limits.missed_ticks + 1) * limits.step_ms, limits.handover_ms)
        return self.now_ms - self.before.now_ms > on_time_ms

    def tasks(self, service: str) -> ServiceTasks:
        """The tasks of a service."""
        return self.snapshot.tasks.get(service, NO_TASKS)

    def lost_on(self, view: View) -> tuple[str, ...]:
        """The nodes that went down a short while ago with tasks of the service."""
        then_ms = self.nodes_changed_ms
        recent = then_ms is not None and self.now_ms - then_ms < self.limits.node_hold_ms
        return view.tasks.lost_on if recent else ()

    def lose(self, service: str, losses: Iterable[Loss]) -> None:
        """Record why rules did not act; the guard's name also in the state, for `status`."""
        state = self.services[service]
        rules: dict[str, RuleState] = dict(state.rules)
        for loss in losses:
            self.held.append(Held(service, loss.rule.name, loss.guard, loss.words))
            if loss.rule.name in rules:
                held = dataclasses.replace(rules[loss.rule.name], held=loss.guard)
                rules[loss.rule.name] = held
        if rules != state.rules:
            self.services[service] = dataclasses.replace(state, rules=rules)

    def record(self, service: str, incident: Incident | None) -> None:
        """The service's incident has changed; None: it is over, and told before."""
        self.services[service] = dataclasses.replace(self.services[service], incident=incident)
        if incident is not None:
            self.incidents.append(incident)

    def escalation(  # everything that tells one page from another
        self,
        page: Page,
        *,
        start: int,
        target: int,
        reason: str,
        evidence: tuple[Evidence, ...] = (),
    ) -> Decision:
        """The decision that begins or ends a page; it is sent."""
        rule = next((rule for rule in self.rules.rules if rule.name == page.rule), None)
        seen = self.services.get(page.subject)
        decision = identified(
            Decision(
                id="",
                action=ActionKind.ESCALATE,
                service=page.subject,
                service_name=page.name,
                start=start,
                target=target,
                version=seen.seen.index if seen else 0,
                rule=page.rule,
                rule_hash=rule.hash if rule else "",
                rule_set=self.rules.hash,
                reason=reason,
                evidence=evidence,
                severity=page.severity,
                tick=self.before.tick + 1,
                epoch=self.snapshot.epoch,
                max_mode=page.max_mode,
                decided_at_ms=self.now_ms,
                expires_at_ms=self.now_ms + self.limits.decision_expiry_ms,
            )
        )
        self.decisions.append(decision)
        return decision


def is_ours(service: Service) -> bool:
    """Whether the service is a part of autoheal itself."""
    return LABEL_ROLE in service.labels
