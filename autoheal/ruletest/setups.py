"""What stands in the world of a test: services, their tasks, nodes, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autoheal.labels import REPLICAS_MAX
from autoheal.metrics import METRIC_BY_NAME
from autoheal.model import LABEL_STACK, Node, Service, ServiceMode
from autoheal.rulefile.fields import Fields, Shape, Spot, open_list, open_map
from autoheal.rulefile.mistakes import quoted, shown, suggestion
from autoheal.ruletest.parts import (
    Timing,
    by_name,
    each_by_name,
    is_none,
    known_name,
    plain_text,
    series,
    time_before,
    truth,
    whole,
)
from autoheal.ruletest.scenario import EVERY, LONG_MS, NodeSetup, Past, Place, RulePast, TaskSetup
from autoheal.ruletest.series import Series, constant

MIB = 2**20
GIB = 2**30
BYTES_MAX = 1024 * GIB
CORES_MAX = 1024
UPDATE_STATES = (
    *("completed", "updating", "paused"),
    *("rollback_started", "rollback_paused", "rollback_completed"),
)
TASK_METRICS = tuple(name for name, metric in METRIC_BY_NAME.items() if not metric.of_service)

SERVICES = "{web: {replicas: 2}}"
TASKS = '{web.1: {cpu_percent: "50+10x6"}}'
NODES = "{node-1: {cores: 4}}"
STATE = "{web: {scaled_up: -2m}}"
SOURCES = '{jobs: "0x10 500x20"}'
LABELS = '{autoheal.enable: "true"}'

CHANGEABLE = (
    *("replicas", "labels", "stack", "memory_limit", "cpu_limit", "cpu_reservation"),
    *("update_state", "update_order", "restart_condition", "pinned", "volume", "constraints"),
)
_SERVICE = Shape((*CHANGEABLE, "mode", "deployed"), (), "{replicas: 2, memory_limit: 128MiB}")
_TASK = Shape(("started", "ready", "node", *TASK_METRICS), (), '{cpu_percent: "50+10x6"}')
_NODE = Shape(
    ("cores", "memory", "role", "labels", "cpu_percent", "memory_percent"), (), "{cores: 4}"
)
_PAST = Shape(("scaled_up", "scaled_down", "replaced", "operated", "rules"), (), STATE)
_RULE_PAST = Shape(
    ("pending", "firing", "acted", "quarantined", "recommended", "scaled"),
    (),
    "{acted: [-2h, -1h]}",
)


# services


def read_services(spot: Spot | None, timing: Timing) -> dict[str, Service]:
    """The services by name; what is not said of one is healthy, and long past its last change."""
    return {
        name: _service(name, open_map(value, _SERVICE), timing)
        for name, _, value in each_by_name(spot, SERVICES)
    }


def _service(name: str, fields: Fields | None, timing: Timing) -> Service:
    since_ms = timing.zero_ms - LONG_MS
    values: dict[str, Any] = {
        "mode": ServiceMode.REPLICATED,
        "replicas": 2,
        "cpu_limit": 1.0,
        "cpu_reservation": None,
        "memory_limit": 256 * MIB,
        "update_state": "",
        "update_order": "stop-first",
        "restart_condition": "any",
        "pinned": True,
        "stateful": False,
        "constraints": (),
        "labels": {},
    }
    if fields is not None:
        values |= read_changes(fields)
        mode = fields.word("mode", "mode", [each.value for each in ServiceMode])
        values["mode"] = ServiceMode(mode or ServiceMode.REPLICATED)
        since_ms = time_before(fields.spot("deployed"), timing) or since_ms
        if values["mode"] is not ServiceMode.REPLICATED:
            what = f"not for a {values['mode']} service"
            fields.refuse("replicas", what, "it has one task per node in a test")
            values["replicas"] = None
    return Service(
        id=name,
        name=name,
        index=10,
        content="as the test begins",
        force_update=0,
        created_at_ms=since_ms,
        updated_at_ms=since_ms,
        **values,
    )


def read_changes(fields: Fields) -> dict[str, Any]:
    """The fields of a service that are said, of those that can be changed."""
    values: dict[str, Any] = {
        name: read(fields, key)
        for key, (name, read) in _CHANGES.items()
        if fields.spot(key) is not None
    }
    if fields.spot("labels") or fields.spot("stack"):
        values["labels"] = _labels(fields)
    return values


def _replicas(fields: Fields, key: str) -> int:
    return fields.whole(key, least=0, most=REPLICAS_MAX)


def _cores(fields: Fields, key: str) -> float | None:
    return None if is_none(fields.spot(key)) else fields.number(key, least=0.01, most=CORES_MAX)


def _memory(fields: Fields, key: str) -> int | None:
    return None if is_none(fields.spot(key)) else fields.size(key, least=4 * MIB, most=BYTES_MAX)


def _truth(fields: Fields, key: str) -> bool:
    return truth(fields, key, default=False)


def _constraints(fields: Fields, key: str) -> tuple[str, ...]:
    spot = fields.spot(key)
    listed = [] if spot is None else open_list(spot, 'such as ["node.role == worker"]')
    return tuple(plain_text(each) for each in listed)


def _one_of(*choices: str) -> Callable[[Fields, str], str]:
    return lambda fields, key: fields.word(key, key, choices) or choices[0]


# By key of the test file: the field of model.Service, and what reads it.
_CHANGES: Mapping[str, tuple[str, Callable[[Fields, str], Any]]] = {
    "replicas": ("replicas", _replicas),
    "memory_limit": ("memory_limit", _memory),
    "cpu_limit": ("cpu_limit", _cores),
    "cpu_reservation": ("cpu_reservation", _cores),
    "update_state": ("update_state", _one_of(*UPDATE_STATES)),
    "update_order": ("update_order", _one_of("stop-first", "start-first")),
    "restart_condition": ("restart_condition", _one_of("any", "on-failure", "none")),
    "pinned": ("pinned", _truth),
    "volume": ("stateful", _truth),
    "constraints": ("constraints", _constraints),
}


def _labels(fields: Fields) -> dict[str, str]:
    labels = by_name(fields.spot("labels"), LABELS, plain_text)
    stack = plain_text(fields.spot("stack"))
    return {**labels, LABEL_STACK: stack} if stack else labels


# tasks


def read_tasks(
    spot: Spot | None, timing: Timing, services: Mapping[str, Service], nodes: Sequence[str]
) -> dict[Place, TaskSetup]:
    """What is said of tasks, by their place; `web.*` is every one of web."""
    found: dict[Place, TaskSetup] = {}
    for name, key, value in each_by_name(spot, TASKS):
        place = read_place(key, name, services)
        fields = open_map(value, _TASK)
        if place is not None and fields is not None:
            found[place] = _task(fields, timing, nodes, services[place.service])
    return found


def read_place(
    spot: Spot, name: str, services: Mapping[str, Service], *, one: bool = False
) -> Place | None:
    """The place that a name such as web.1 means, `web.*` unless it must be one; None, and noted."""
    service, dot, number = name.rpartition(".")
    if not dot or not (_is_number(number) or (number == "*" and not one)):
        other = "" if one else ", or web.* for all of web"
        spot.note(f"{quoted(name)} is no task", f"its service and its number, such as web.1{other}")
        return None
    if not known_name(spot, service, "service", list(services)):
        return None
    return Place(service, EVERY if number == "*" else int(number))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text[:6]) <= REPLICAS_MAX


def _task(fields: Fields, timing: Timing, nodes: Sequence[str], service: Service) -> TaskSetup:
    is_ready = truth(fields, "ready", default=True)
    node = fields.spot("node")
    name = None if node is None else plain_text(node)
    if node is not None and name == "none":
        name = ""
        if is_ready:
            node.note("a task that is ready has a node", "say ready: false too")
    elif node is not None and name:
        known_name(node, name, "node", nodes)
    since_ms = time_before(fields.spot("started"), timing)
    return TaskSetup(
        since_ms=timing.zero_ms - LONG_MS if since_ms is None else since_ms,
        is_ready=is_ready,
        node=name,
        series=_task_series(fields, service),
    )


def _task_series(fields: Fields, service: Service) -> dict[str, Series]:
    if service.memory_limit is None:
        hint = "give memory_bytes, or the service a memory_limit"
        fields.refuse("memory_percent", f"{service.name} has no memory limit", hint)
    for share, metric in METRIC_BY_NAME.items():
        if metric.numerator and fields.spot(metric.numerator):
            fields.refuse(share, f"{metric.numerator} says this too", "give one of them")
    found = ((name, fields.spot(name)) for name in TASK_METRICS)
    return {name: series(spot, least=0.0) for name, spot in found if spot is not None}


# nodes


def read_nodes(spot: Spot | None) -> dict[str, NodeSetup]:
    """The nodes by name; one with room for all if none is said."""
    found = {
        name: _node(name, open_map(value, _NODE)) for name, _, value in each_by_name(spot, NODES)
    }
    return found or {"node-1": _node("node-1", None)}


def _node(name: str, fields: Fields | None) -> NodeSetup:
    cores, memory, role, labels = 16.0, 64 * GIB, "worker", {}
    loads = {"cpu_percent": constant(30.0), "memory_percent": constant(40.0)}
    if fields is not None:
        if fields.spot("cores"):
            cores = fields.number("cores", least=0.1, most=CORES_MAX)
        if fields.spot("memory"):
            memory = fields.size("memory", least=MIB, most=BYTES_MAX)
        role = fields.word("role", "role", ["worker", "manager"]) or role
        labels = by_name(fields.spot("labels"), "{zone: a}", plain_text)
        said = ((key, fields.spot(key)) for key in loads)
        loads |= {key: series(spot, least=0.0) for key, spot in said if spot is not None}
    node = Node(name, 10, name, role, "active", "ready", cores, memory, leader=False, labels=labels)
    return NodeSetup(node, **loads)


# sources


def read_sources(spot: Spot | None, known: Sequence[str] | None) -> dict[str, Series]:
    """What outside sources tell, by name; `known` are those of the rules, None if not known."""
    found = {}
    for name, key, value in each_by_name(spot, SOURCES):
        if known is not None and name not in known:
            hint = suggestion(name, known) if known else "the rules name none"
            key.note(f"there is no source {shown(name)}", hint)
        found[name] = series(value)
    return found


# what is remembered


def read_past(
    spot: Spot | None, timing: Timing, services: Sequence[str], rules: Sequence[str] | None
) -> dict[str, Past]:
    """What autoheal remembers of services when the test begins, by their names."""
    found = {}
    for name, key, value in each_by_name(spot, STATE):
        fields = open_map(value, _PAST)
        if known_name(key, name, "service", services) and fields is not None:
            found[name] = _past(fields, timing, rules)
    return found


def _past(fields: Fields, timing: Timing, rules: Sequence[str] | None) -> Past:
    found = {}
    for name, key, value in each_by_name(fields.spot("rules"), "{cpu-high: {pending: -1m}}"):
        if rules is None or known_name(key, name, "rule", rules):
            found[name] = _rule_past(open_map(value, _RULE_PAST), timing)
    return Past(
        up_ms=time_before(fields.spot("scaled_up"), timing),
        down_ms=time_before(fields.spot("scaled_down"), timing),
        rolled_ms=time_before(fields.spot("replaced"), timing),
        operated_ms=time_before(fields.spot("operated"), timing),
        rules=found,
    )


def _rule_past(fields: Fields | None, timing: Timing) -> RulePast:
    if fields is None:
        return RulePast()
    if fields.spot("firing"):
        fields.refuse("pending", "a rule is pending or firing, not both", "give one of them")
    pending, firing = fields.spot("pending"), fields.spot("firing")
    acted = fields.spot("acted")
    times = [] if acted is None else open_list(acted, "such as [-2h, -1h]")
    found = (time_before(each, timing, "-1h") for each in times)
    return RulePast(
        active_ms=time_before(pending or firing, timing, "-1m"),
        is_firing=firing is not None,
        acted_ms=tuple(sorted(ms for ms in found if ms is not None)),
        quarantined_ms=time_before(fields.spot("quarantined"), timing),
        recommendations=_counts(fields.spot("recommended"), timing, "{-4m: 6}", least=0),
        scaled=_counts(fields.spot("scaled"), timing, "{-30s: 2}", least=-REPLICAS_MAX),
    )


def _counts(
    spot: Spot | None, timing: Timing, example: str, *, least: int
) -> tuple[tuple[int, int], ...]:
    """Whole numbers, each under its time, oldest first."""
    found = []
    for _, key, value in each_by_name(spot, example):
        at_ms = time_before(key, timing, "-4m")
        count = whole(value, least=least, most=REPLICAS_MAX)
        if at_ms is not None:
            found.append((at_ms, count))
    return tuple(sorted(found))
