"""Packing of what travels through the store, and the canonical bytes that are hashed and signed.

Samples are the bulk, so they are packed as one float32 matrix per node and tick; everything else is
canonical JSON: keys sorted, no spaces, ASCII, no NaN. The same value always gives the same bytes.

`unpack_*` raise BadRecordError on bytes that no writer of ours would have written.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import hmac
import json
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from autoheal.errors import BadRecordError
from autoheal.model import (
    ActionKind,
    Command,
    Decision,
    Deed,
    Event,
    Evidence,
    Incident,
    Intent,
    Inventory,
    Mode,
    Node,
    NodeFigures,
    Outcome,
    OutcomeKind,
    RosterRow,
    Service,
    ServiceMode,
    SourceValue,
    Task,
    TickRecord,
)

SAMPLES = "samples"
EVENTS = "events"
INVENTORY = "inventory"
TICKS = "ticks"
DECISIONS = "decisions"
INTENTS = "intents"
OUTCOMES = "outcomes"
INCIDENTS = "incidents"
COMMANDS = "commands"
SOURCES = "sources"

KEY_BYTES = 8
ID_CHARACTERS = 32
# Beyond this a JSON number is not the same to every reader (RFC 8259, section 6).
INTEGER_MAX = 2**53

Fields = Mapping[str, bytes]
Json = Any


@dataclass(frozen=True, slots=True)
class Samples:
    """Readings of one node at one instant: `matrix` is float32, metrics x containers, NaN missing.

    `keys` are the first 8 bytes of each container id; `metrics` names the rows.
    """

    metrics: tuple[str, ...]
    keys: tuple[bytes, ...]
    matrix: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """What one collector writes per tick; `roster` only on change and every few minutes."""

    node: str
    samples: Samples
    figures: NodeFigures
    roster: tuple[RosterRow, ...] | None


def container_key(container: str) -> bytes:
    """The 8 bytes that stand for a container id."""
    return bytes.fromhex(container[: 2 * KEY_BYTES])


def canonical(value: Json) -> bytes:
    """The one byte form of a JSON value."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def digest(data: bytes) -> str:
    """A short, stable name for some bytes: SHA-256, first 32 hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()[:ID_CHARACTERS]


def parse(data: bytes) -> Json:
    """JSON back from bytes."""
    try:
        return json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRecordError(f"not JSON: {data[:60]!r}") from error


def _no_constant(name: str) -> NoReturn:
    """NaN and Infinity are Python's, not JSON's; `canonical` writes none."""
    raise ValueError(name)


# samples


def pack_samples(batch: SampleBatch) -> dict[str, bytes]:
    """One stream entry."""
    samples = batch.samples
    fields = {
        "node": batch.node.encode(),
        "rows": ",".join(samples.metrics).encode(),
        "keys": b"".join(samples.keys),
        "matrix": np.ascontiguousarray(samples.matrix, dtype="<f4").tobytes(),
        "figures": canonical(dataclasses.asdict(batch.figures)),
    }
    if batch.roster is not None:
        fields["roster"] = canonical([_roster_to_json(row) for row in batch.roster])
    return fields


def unpack_samples(fields: Fields) -> SampleBatch:
    """The batch that `pack_samples` wrote."""
    try:
        metrics = tuple(name for name in fields["rows"].decode().split(",") if name)
        packed = fields["keys"]
        if len(packed) % KEY_BYTES:
            raise BadRecordError(f"samples: {len(packed)} bytes of container keys")
        keys = tuple(packed[i : i + KEY_BYTES] for i in range(0, len(packed), KEY_BYTES))
        matrix = np.frombuffer(fields["matrix"], dtype="<f4").reshape(len(metrics), len(keys))
        roster = fields.get("roster")
        return SampleBatch(
            node=fields["node"].decode(),
            samples=Samples(metrics, keys, matrix),
            figures=_checked(NodeFigures(**parse(fields["figures"]))),
            roster=None if roster is None else tuple(_roster_from_json(r) for r in parse(roster)),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise BadRecordError(f"samples: {error}") from error


def _roster_to_json(row: RosterRow) -> Json:
    return [row.container, row.task, row.service, row.cpu_limit, row.memory_limit]


def _roster_from_json(row: Json) -> RosterRow:
    container, task, service, cpu_limit, memory_limit = row
    key = container_key(container)
    return _checked(RosterRow(key, container, task, service, cpu_limit, memory_limit))


# everything else: one JSON body per entry


def pack_event(event: Event) -> dict[str, bytes]:
    """One stream entry."""
    return _pack(event)


def unpack_event(fields: Fields) -> Event:
    """The event that `pack_event` wrote."""
    return _unpack(Event, fields)


def pack_inventory(inventory: Inventory) -> dict[str, bytes]:
    """One stream entry."""
    return _pack(inventory)


def unpack_inventory(fields: Fields) -> Inventory:
    """The inventory that `pack_inventory` wrote."""
    body = _body(fields)
    try:
        inventory = Inventory(
            keyframe=body["keyframe"],
            index=body["index"],
            clock_ms=body["clock_ms"],
            services=tuple(_checked(_service_from_json(row)) for row in body["services"]),
            tasks=tuple(_checked(Task(**row)) for row in body["tasks"]),
            nodes=tuple(_checked(Node(**row)) for row in body["nodes"]),
            gone=_listed(body["gone"]),
        )
        return _checked(inventory)
    except (KeyError, ValueError, TypeError) as error:
        raise BadRecordError(f"inventory: {error}") from error


def _service_from_json(row: Json) -> Service:
    mode, constraints = ServiceMode(row["mode"]), _listed(row["constraints"])
    return Service(**{**row, "mode": mode, "constraints": constraints})


def _listed(value: Json) -> tuple[Json, ...]:
    """The items of a list; a text, say, has items too, but means something else."""
    if not isinstance(value, list):
        raise BadRecordError(f"{value!r:.60} is not a list")
    return tuple(value)


def decision_body(decision: Decision) -> bytes:
    """The canonical bytes of a decision, without its id."""
    body = dataclasses.asdict(decision)
    del body["id"]
    return canonical(body)


def identified(decision: Decision) -> Decision:
    """The decision with its id: the digest of everything else in it."""
    return dataclasses.replace(decision, id=digest(decision_body(decision)))


def pack_decision(decision: Decision, key: bytes) -> dict[str, bytes]:
    """One signed stream entry: HMAC-SHA256 (RFC 2104) over the canonical bytes."""
    body = decision_body(decision)
    signature = hmac.new(key, body, hashlib.sha256).hexdigest()
    return {"id": decision.id.encode(), "body": body, "hmac": signature.encode()}


def signature_holds(fields: Fields, key: bytes) -> bool:
    """Whether the entry was signed with this key and its id is the digest of its body."""
    body = fields.get("body", b"")
    expected = hmac.new(key, body, hashlib.sha256).hexdigest()
    signed = hmac.compare_digest(expected.encode(), fields.get("hmac", b""))
    return signed and digest(body).encode() == fields.get("id", b"")


def unpack_decision(fields: Fields) -> Decision:
    """The decision that `pack_decision` wrote; its signature is not looked at here."""
    body = _body(fields)
    try:
        decision = Decision(
            id=fields["id"].decode(),
            action=ActionKind(body.pop("action")),
            evidence=tuple(_checked(Evidence(**row)) for row in body.pop("evidence")),
            max_mode=Mode(body.pop("max_mode")),
            **body,
        )
        return _checked(decision)
    except (KeyError, ValueError, TypeError) as error:
        raise BadRecordError(f"decision: {error}") from error


def pack_outcome(outcome: Outcome) -> dict[str, bytes]:
    """One stream entry."""
    return _pack(outcome)


def unpack_outcome(fields: Fields) -> Outcome:
    """The outcome that `pack_outcome` wrote."""
    body = _body(fields)
    try:
        kind, mode = OutcomeKind(body.pop("kind")), Mode(body.pop("mode"))
        return _checked(Outcome(kind=kind, mode=mode, **body))
    except (KeyError, ValueError, TypeError) as error:
        raise BadRecordError(f"outcome: {error}") from error


def pack_intent(intent: Intent) -> dict[str, bytes]:
    """One stream entry."""
    return _pack(intent)


def unpack_intent(fields: Fields) -> Intent:
    """The intent that `pack_intent` wrote."""
    return _unpack(Intent, fields)


def pack_tick(tick: TickRecord) -> dict[str, bytes]:
    """One stream entry."""
    return _pack(tick)


def unpack_tick(fields: Fields) -> TickRecord:
    """The tick that `pack_tick` wrote."""
    return _unpack(TickRecord, fields)


def pack_incident(incident: Incident) -> dict[str, bytes]:
    """One stream entry."""
    return _pack(incident)


def unpack_incident(fields: Fields) -> Incident:
    """The incident that `pack_incident` wrote."""
    body = _body(fields)
    try:
        deeds = tuple(_checked(Deed(**row)) for row in body.pop("deeds"))
        return _checked(Incident(deeds=deeds, **body))
    except (KeyError, ValueError, TypeError) as error:
        raise BadRecordError(f"incident: {error}") from error


def pack_command(command: Command) -> dict[str, bytes]:
    """One stream entry."""
    return _pack(command)


def unpack_command(fields: Fields) -> Command:
    """The command that `pack_command` wrote."""
    return _unpack(Command, fields)


def pack_source(value: SourceValue) -> dict[str, bytes]:
    """One stream entry."""
    return _pack(value)


def unpack_source(fields: Fields) -> SourceValue:
    """The value that `pack_source` wrote."""
    return _unpack(SourceValue, fields)


_Record = TypeVar("_Record", Event, Intent, TickRecord, Command, SourceValue)
_Fact = TypeVar("_Fact")


def _pack(
    record: Event | Inventory | Outcome | Intent | TickRecord | Incident | Command | SourceValue,
) -> dict[str, bytes]:
    return {"body": canonical(dataclasses.asdict(record))}


def _unpack(kind: type[_Record], fields: Fields) -> _Record:
    body = _body(fields)
    try:
        return _checked(kind(**body))
    except TypeError as error:
        raise BadRecordError(f"{kind.__name__}: {error}") from error


def _body(fields: Fields) -> dict[str, Json]:
    body = parse(fields.get("body", b""))
    if not isinstance(body, dict):
        raise BadRecordError("the body is not an object")
    return cast("dict[str, Json]", body)


def _checked(fact: _Fact) -> _Fact:
    """The same, if every field holds what it is declared to. One writer must not spoil a reader."""
    kind: type = type(fact)
    for name, wanted in _declared(kind):
        if not _fits(getattr(fact, name), wanted):
            raise BadRecordError(f"{kind.__name__}: {name} is {getattr(fact, name)!r:.60}")
    return fact


@functools.cache
def _declared(kind: type) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(kind))


def _fits(value: object, wanted: Any) -> bool:  # noqa: ANN401  # a type, or a form of typing
    """Whether a value out of JSON is of the declared type. A bool is no number here."""
    if wanted in (int, float):
        return _is_number(value, whole=wanted is int)
    if isinstance(wanted, type):
        return isinstance(value, wanted)
    inner = get_args(wanted)
    if get_origin(wanted) is types.UnionType:
        return any(_fits(value, each) for each in inner)
    if get_origin(wanted) is tuple:
        return all(_fits(each, inner[0]) for each in cast("tuple[object, ...]", value))
    return isinstance(value, dict) and all(_fits(each, inner[1]) for each in value.values())


def _is_number(value: object, *, whole: bool) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= INTEGER_MAX
    return not whole and isinstance(value, float) and math.isfinite(value)
