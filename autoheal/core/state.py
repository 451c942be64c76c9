"""What decisions remember from tick to tick, and its bytes: a field per service, `_` for the rest.

The window is not state; it is folded anew. All of this survives a restart and a change of leader.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from autoheal.core.breaker import Breaker, Circuit
from autoheal.errors import BadRecordError
from autoheal.model import ActionKind, Deed, Incident, Mode
from autoheal.records import canonical, parse

OVERALL_FIELD = "_"


class Lane(StrEnum):
    """Rules on trial (`mode: dry-run`) arbitrate apart, so that they never block a real one."""

    RULES = "rules"
    TRIAL = "trial"


class Phase(StrEnum):
    """How far the action in flight has come."""

    DECIDED = "decided"
    UNCONFIRMED = "unconfirmed"
    APPLIED = "applied"


@dataclass(frozen=True, slots=True)
class Flight:
    """An action that is not settled yet. `version` is the service's after it, once applied.

    `remaining` is the smallest number of tasks that were seen to be still to come or to go,
    `progressed_ms` when it last became smaller.
    """

    decision: str
    action: ActionKind
    rule: str
    start: int
    target: int
    max_mode: Mode
    decided_ms: int
    expires_ms: int
    phase: Phase = Phase.DECIDED
    applied_ms: int = 0
    version: int = 0
    remaining: int | None = None
    progressed_ms: int = 0


@dataclass(frozen=True, slots=True)
class LaneState:
    """A service's actions in one lane: when each direction last acted, and what is in flight.

    `rolled_ms` is when every task was last replaced, `failed_ms` when a decision last came to
    nothing, `last_decision` the last one that Docker is known to have applied.
    """

    up_ms: int | None = None
    down_ms: int | None = None
    rolled_ms: int | None = None
    failed_ms: int | None = None
    last_decision: str = ""
    flight: Flight | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a service looked like, to notice who changed it."""

    index: int
    content: str
    replicas: int | None
    force_update: int
    memory_limit: int | None
    decision: str


@dataclass(frozen=True, slots=True)
class RuleState:
    """One rule on one service that is not inactive. `held` names the guard that held it back."""

    hash: str
    active_ms: int
    firing: bool = False
    held: str = ""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A rule's reason to tell people of a service, while it lasts; `page` is what tells them.

    `because` is not "" where the rule's action could not be done, or did not help: then it is not
    over before the service is whole. It rings since `since_ms`; `quiet_ms` is since when nothing
    has been amiss, while the rule keeps firing, None while something is.
    """

    page: str
    severity: str
    max_mode: Mode
    because: str = ""
    since_ms: int = 0
    quiet_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """An escalation that is firing: what raised it and how, so that its end is told alike.

    It stands for all alarms that name it; `subject` and `name` as in Decision.service and
    service_name.
    """

    decision: str
    rule: str
    severity: str
    max_mode: Mode
    subject: str
    name: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A settled action that is being watched: it helped if all is well at `until_ms`."""

    decision: str
    action: ActionKind
    max_mode: Mode
    until_ms: int


@dataclass(frozen=True, slots=True)
class TrackState:
    """What target tracking remembers of one rule on one service.

    `recommendations` are (time, replicas) as computed, before stabilization, oldest first, no more
    of them than the stabilization windows can still tell apart; `scaled` are (time, change) of the
    rule's own durable actions, as far back as its policies look. `hash` is that of the rule that
    asked for the recommendations; "" is not told, as in older states: then they count for any.
    """

    recommendations: tuple[tuple[int, int], ...] = ()
    scaled: tuple[tuple[int, int], ...] = ()
    hash: str = ""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """Everything remembered of one service. Mappings hold only what is not at its default.

    `acted` holds, by rule, the times of its durable actions, oldest first, as far back as its limit
    counts, `settled` when the last of them had ended; `failures` how many attempts in a row came to
    nothing, not those that a change overtook; `trials` what is being watched; `quarantined` since
    when a rule may not act here, until a person resets it, and `forgiven` when a person did.
    `harmed_ms` is when evidence of a failure was last seen, `calm_ms` since when nothing has been
    amiss in the open incident. `tracks` is what target tracking remembers, by rule.
    """

    name: str
    seen: Seen
    deployed_ms: int
    operated_ms: int | None = None
    rules: Mapping[str, RuleState] = field(default_factory=dict)
    lanes: Mapping[Lane, LaneState] = field(default_factory=dict)
    escalated: Mapping[str, Alarm] = field(default_factory=dict)
    acted: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    settled: Mapping[str, int] = field(default_factory=dict)
    trials: Mapping[str, Trial] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    forgiven: Mapping[str, int] = field(default_factory=dict)
    incident: Incident | None = None
    calm_ms: int | None = None
    harmed_ms: int = 0
    tracks: Mapping[str, TrackState] = field(default_factory=dict)

    def lane(self, lane: Lane) -> LaneState:
        """The lane, empty if nothing was done in it yet."""
        return self.lanes.get(lane, LaneState())

    def with_lane(self, lane: Lane, changed: LaneState) -> ServiceState:
        """The same with one lane replaced."""
        return dataclasses.replace(self, lanes={**self.lanes, lane: changed})


@dataclass(frozen=True, slots=True)
class State:
    """The whole: `tick` counts commits, `now_ms` is the last tick's, `began_ms` the first one's.

    `nodes` is what each node last was, `nodes_changed_ms` when one last came or went. `spent` holds
    the times of the last hour's durable actions per max_mode, `pages` the escalations that are
    firing, `outage_ms` since when so many are sick that nothing is done.
    """

    tick: int = 0
    now_ms: int = 0
    began_ms: int = 0
    epoch: int = 0
    rule_set: str = ""
    breaker: Breaker = field(default_factory=Breaker)
    nodes: Mapping[str, str] = field(default_factory=dict)
    nodes_changed_ms: int | None = None
    spent: Mapping[Mode, tuple[int, ...]] = field(default_factory=dict)
    pages: Mapping[str, Page] = field(default_factory=dict)
    outage_ms: int | None = None
    services: Mapping[str, ServiceState] = field(default_factory=dict)


def pack_overall(state: State) -> bytes:
    """The field `_`."""
    body = {
        "tick": state.tick,
        "now_ms": state.now_ms,
        "began_ms": state.began_ms,
        "epoch": state.epoch,
        "rule_set": state.rule_set,
        "breaker": dataclasses.asdict(state.breaker),
        "nodes": dict(state.nodes),
        "nodes_changed_ms": state.nodes_changed_ms,
        "spent": dict(state.spent),
        "pages": {name: dataclasses.asdict(page) for name, page in state.pages.items()},
        "outage_ms": state.outage_ms,
    }
    return canonical(body)


def pack_service(service: ServiceState) -> bytes:
    """The field of one service."""
    return canonical(dataclasses.asdict(service))


def unpack(fields: Mapping[str, bytes]) -> State:
    """The state that was packed into these fields; the initial one from none."""
    if OVERALL_FIELD not in fields:
        return State()
    try:
        overall = parse(fields[OVERALL_FIELD])
        breaker = overall.pop("breaker")
        spent = overall.pop("spent")
        pages = overall.pop("pages")
        return State(
            breaker=Breaker(**{**breaker, "circuit": Circuit(breaker["circuit"])}),
            spent={Mode(mode): tuple(times) for mode, times in spent.items()},
            pages={name: _page(page) for name, page in pages.items()},
            services={
                name: _service(parse(data))
                for name, data in sorted(fields.items())
                if name != OVERALL_FIELD
            },
            **overall,
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BadRecordError(f"state: {error}") from error


def _service(body: dict[str, Any]) -> ServiceState:
    return ServiceState(
        **{
            **body,
            "seen": Seen(**body["seen"]),
            "rules": {name: RuleState(**rule) for name, rule in body["rules"].items()},
            "escalated": {name: _alarm(alarm) for name, alarm in body["escalated"].items()},
            "lanes": {Lane(name): _lane(lane) for name, lane in body["lanes"].items()},
            "acted": {name: tuple(times) for name, times in body["acted"].items()},
            "trials": {name: _trial(trial) for name, trial in body["trials"].items()},
            "tracks": {name: _track(track) for name, track in body["tracks"].items()},
            "incident": None if body["incident"] is None else _incident(body["incident"]),
        }
    )


def _track(body: dict[str, Any]) -> TrackState:
    dated = {
        "recommendations": tuple((ms, replicas) for ms, replicas in body["recommendations"]),
        "scaled": tuple((ms, change) for ms, change in body["scaled"]),
    }
    return TrackState(**{**body, **dated})


def _alarm(body: dict[str, Any]) -> Alarm:
    return Alarm(**{**body, "max_mode": Mode(body["max_mode"])})


def _page(body: dict[str, Any]) -> Page:
    return Page(**{**body, "max_mode": Mode(body["max_mode"])})


def _trial(body: dict[str, Any]) -> Trial:
    modes = {"action": ActionKind(body["action"]), "max_mode": Mode(body["max_mode"])}
    return Trial(**{**body, **modes})


def _incident(body: dict[str, Any]) -> Incident:
    return Incident(**{**body, "deeds": tuple(Deed(**deed) for deed in body["deeds"])})


def _lane(body: dict[str, Any]) -> LaneState:
    flight = body["flight"]
    return LaneState(**{**body, "flight": None if flight is None else _flight(flight)})


def _flight(body: dict[str, Any]) -> Flight:
    return Flight(
        **{
            **body,
            "action": ActionKind(body["action"]),
            "max_mode": Mode(body["max_mode"]),
            "phase": Phase(body["phase"]),
        }
    )
