"""What is packed comes back the same, and has one byte form."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal import records
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
    Outcome,
    OutcomeKind,
    Service,
    ServiceMode,
    Task,
    TickRecord,
)
from builders import batch, container_of, decision, roster_row

KEY = b"k" * 32

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
whole = st.integers(0, 2**53)
real = st.floats(0, 1e6)
optional_real = st.none() | real
optional_whole = st.none() | whole

exit_code = st.none() | st.integers(-1, 255)
labels = st.dictionaries(text, text, max_size=3)

events = st.builds(Event, text, text, text, text, text, exit_code, optional_whole, st.booleans())
services = st.builds(
    Service,
    text,
    text,
    whole,
    st.sampled_from(ServiceMode),
    optional_whole,
    text,
    whole,
    optional_real,
    optional_real,
    optional_whole,
    text,
    whole,
    whole,
    st.booleans(),
    st.booleans(),
    text,
    text,
    st.lists(text, max_size=3).map(tuple),
    labels,
)
tasks = st.builds(
    Task,
    text,
    whole,
    text,
    text,
    whole,
    text,
    text,
    text,
    whole,
    whole,
    optional_whole,
    exit_code,
    text,
)
nodes = st.builds(Node, text, whole, text, text, text, text, real, whole, st.booleans(), labels)
inventories = st.builds(
    Inventory,
    st.booleans(),
    whole,
    whole,
    st.lists(services, max_size=2).map(tuple),
    st.lists(tasks, max_size=2).map(tuple),
    st.lists(nodes, max_size=2).map(tuple),
    st.lists(text, max_size=3).map(tuple),
)
outcomes = st.builds(
    Outcome,
    text,
    text,
    st.sampled_from(OutcomeKind),
    text,
    st.sampled_from(Mode),
    whole,
    st.booleans(),
)
intents = st.builds(Intent, text, text, whole, text)
ticks = st.builds(TickRecord, whole, whole, whole, whole, text, text, text, whole)
deeds = st.lists(st.builds(Deed, text, text, text, text, whole, text), max_size=2).map(tuple)
incidents = st.builds(
    Incident,
    text,
    text,
    text,
    text,
    whole,
    text,
    optional_whole,
    optional_whole,
    optional_whole,
    optional_whole,
    text,
    deeds,
)
commands = st.builds(Command, text, text, text, text)
evidence = st.lists(st.builds(Evidence, text, real, text), max_size=2).map(tuple)
decisions = st.builds(
    Decision,
    st.just(""),
    st.sampled_from(ActionKind),
    text,
    text,
    whole,
    whole,
    whole,
    text,
    text,
    text,
    text,
    evidence,
    text,
    whole,
    whole,
    st.sampled_from(Mode),
    whole,
    whole,
).map(records.identified)


@given(events)
def test_an_event_comes_back(record: Event) -> None:
    assert records.unpack_event(records.pack_event(record)) == record


@given(inventories)
def test_an_inventory_comes_back(record: Inventory) -> None:
    assert records.unpack_inventory(records.pack_inventory(record)) == record


@given(outcomes)
def test_an_outcome_comes_back(record: Outcome) -> None:
    assert records.unpack_outcome(records.pack_outcome(record)) == record


@given(intents)
def test_an_intent_comes_back(record: Intent) -> None:
    assert records.unpack_intent(records.pack_intent(record)) == record


@given(ticks)
def test_a_tick_comes_back(record: TickRecord) -> None:
    assert records.unpack_tick(records.pack_tick(record)) == record


@given(incidents)
def test_an_incident_comes_back(record: Incident) -> None:
    assert records.unpack_incident(records.pack_incident(record)) == record


@given(commands)
def test_a_command_comes_back(record: Command) -> None:
    assert records.unpack_command(records.pack_command(record)) == record


@given(decisions)
def test_a_decision_comes_back_and_its_signature_holds(record: Decision) -> None:
    fields = records.pack_decision(record, KEY)
    assert records.unpack_decision(fields) == record
    assert records.signature_holds(fields, KEY)


@given(
    figures=st.dictionaries(
        st.text("abc", min_size=1, max_size=5),
        st.tuples(st.floats(width=32, allow_nan=False), st.just(float("nan"))),
        max_size=4,
    ),
    with_roster=st.booleans(),
    cores=optional_real,
)
def test_samples_come_back(
    figures: dict[str, tuple[float, float]], cores: float | None, *, with_roster: bool
) -> None:
    roster = [roster_row(name, cpu_limit=cores) for name in figures] if with_roster else None
    made = batch(figures, roster, metrics=("cpu_cores", "pids"), cores=cores)
    back = records.unpack_samples(records.pack_samples(made))
    assert (back.node, back.figures, back.roster) == (made.node, made.figures, made.roster)
    assert (back.samples.metrics, back.samples.keys) == (made.samples.metrics, made.samples.keys)
    np.testing.assert_array_equal(back.samples.matrix, made.samples.matrix)


def test_a_collector_without_containers_writes_an_empty_matrix() -> None:
    back = records.unpack_samples(records.pack_samples(batch({}, [], metrics=())))
    assert back.samples.keys == ()
    assert back.samples.metrics == ()
    assert back.roster == ()


def test_a_container_key_is_the_first_eight_bytes_of_its_id() -> None:
    assert records.container_key("0123456789abcdef" + "f" * 48) == bytes.fromhex("0123456789abcdef")


# canonical bytes


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"b": 1, "a": [1.5, None, True]}, b'{"a":[1.5,null,true],"b":1}'),
        ("é", b'"\\u00e9"'),
        ({}, b"{}"),
    ],
)
def test_canonical_bytes_are_sorted_without_spaces_and_ascii(value: Any, data: bytes) -> None:  # noqa: ANN401  # any JSON
    assert records.canonical(value) == data


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_has_no_canonical_bytes(value: float) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        records.canonical({"value": value})


@given(st.dictionaries(text, st.none() | whole | text | real, max_size=6))
def test_canonical_bytes_do_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    turned = dict(reversed(list(value.items())))
    assert records.canonical(turned) == records.canonical(value)
    assert records.parse(records.canonical(value)) == value


def test_a_digest_is_the_start_of_the_sha_256() -> None:
    assert records.digest(b"") == "e3b0c44298fc1c149afbf4c8996fb924"


# identity and signature


@given(decisions)
def test_the_id_is_the_digest_of_everything_else(record: Decision) -> None:
    assert record.id == records.digest(records.decision_body(record))
    assert records.identified(dataclasses.replace(record, id="other")) == record


CHANGES: dict[str, Any] = {
    "action": ActionKind.SCALE_DOWN,
    "service": "other",
    "service_name": "other",
    "start": 7,
    "target": 7,
    "version": 7,
    "rule": "other",
    "rule_hash": "other",
    "rule_set": "other",
    "reason": "other",
    "evidence": (Evidence("figure", 1.0, "above 0"),),
    "severity": "other",
    "tick": 7,
    "epoch": 7,
    "max_mode": Mode.DRY_RUN,
    "decided_at_ms": 7,
    "expires_at_ms": 7,
}


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Decision) if f.name != "id"])
def test_changing_anything_changes_the_id(name: str) -> None:
    other = dataclasses.replace(decision(), **{name: CHANGES[name]})
    assert records.identified(other).id != decision().id


def test_a_signature_by_another_key_does_not_hold() -> None:
    assert not records.signature_holds(records.pack_decision(decision(), KEY), b"another key")


@pytest.mark.parametrize("name", ["id", "body", "hmac"])
def test_a_tampered_or_missing_field_breaks_the_signature(name: str) -> None:
    fields = records.pack_decision(decision(), KEY)
    other = records.pack_decision(decision(target=9), KEY)
    tampered = {**fields, name: other[name]}
    missing = {key: value for key, value in fields.items() if key != name}
    assert not records.signature_holds(tampered, KEY)
    assert not records.signature_holds(missing, KEY)


def test_the_signature_is_the_hmac_sha_256_of_the_body() -> None:
    fields = records.pack_decision(decision(), b"key")
    other = dict(fields, id=b"0" * 32)
    assert len(fields["hmac"]) == 64
    assert not records.signature_holds(other, b"key")


# bytes that no writer of ours would have written

UNPACKERS: dict[str, Any] = {
    "event": records.unpack_event,
    "inventory": records.unpack_inventory,
    "decision": records.unpack_decision,
    "outcome": records.unpack_outcome,
    "intent": records.unpack_intent,
    "tick": records.unpack_tick,
    "incident": records.unpack_incident,
    "command": records.unpack_command,
    "samples": records.unpack_samples,
}
GOOD: dict[str, dict[str, bytes]] = {
    "event": records.pack_event(Event("died", "s", "t", "c", "n", 1, 2, stopped=True)),
    "inventory": records.pack_inventory(
        Inventory(
            keyframe=True,
            index=1,
            clock_ms=1,
            services=(
                Service(
                    "s", "s", 1, ServiceMode.REPLICATED, 1, "c", 0, 1.0, None, 5, "", 1, 1,
                    True, False, "stop-first", "any", ("node.role==worker",), {"a": "b"},
                ),
            ),
            tasks=(Task("t", 1, "s", "n", 1, "c", "failed", "shutdown", 1, 0, 5, 137, "x"),),
            nodes=(Node("n", 1, "h", "worker", "active", "ready", 4.0, 8, True, {"a": "b"}),),
            gone=("x",),
        )
    ),
    "decision": records.pack_decision(decision(evidence=(Evidence("a", 1.0, "b"),)), KEY),
    "outcome": records.pack_outcome(Outcome("d", "s", OutcomeKind.APPLIED, "r", Mode.LIVE, 1)),
    "intent": records.pack_intent(Intent("d", "s", 1, "x")),
    "tick": records.pack_tick(TickRecord(1, 2, 3, 4, "r", "l", "d", 0)),
    "incident": records.pack_incident(
        Incident("i", "s", "s", "e", 1, "r", 2, 3, 4, 5, "open", (Deed("d", "a", "r", "o", 3, ""),))
    ),
    "command": records.pack_command(Command("reset", "s", "r", "b")),
    "samples": records.pack_samples(batch({"a": [1.0], "b": [2.0]}, [roster_row("a")])),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNPACKERS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"{}",
        b'"text"',
        b'{"surplus":1}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"value":NaN}',
    ],
)
def test_bad_bytes_are_a_bad_record_and_nothing_else(kind: str, body: bytes) -> None:
    name = "figures" if kind == "samples" else "body"
    with pytest.raises(BadRecordError):
        UNPACKERS[kind]({**GOOD[kind], name: body})


@pytest.mark.parametrize("kind", UNPACKERS)
def test_a_missing_field_is_a_bad_record(kind: str) -> None:
    with pytest.raises(BadRecordError):
        UNPACKERS[kind]({})


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401  # any JSON
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in items:
        found.append((*path, key))
        if isinstance(inner, dict | list):
            found += _leaves(inner, (*path, key))
    return found


def _replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:  # noqa: ANN401  # any JSON
    target = value
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = by
    return value


JSON_FIELD = {"samples": "roster"}
STRANGE: list[Any] = [None, True, -1, 1.5, 10**400, "text", [], {}, [[]], {"a": 1}, {"a": {}}]


@pytest.mark.parametrize("kind", UNPACKERS)
def test_any_leaf_of_another_type_is_a_bad_record_or_harmless(kind: str) -> None:
    """One writer with another idea of a field must not stop every reader for good."""
    field = JSON_FIELD.get(kind, "body")
    for path in _leaves(records.parse(GOOD[kind][field])):
        before = records.parse(GOOD[kind][field])
        for key in path:
            before = before[key]
        for strange in STRANGE:
            body = _replaced(records.parse(GOOD[kind][field]), path, strange)
            spoilt = {**GOOD[kind], field: records.canonical(body)}
            try:
                UNPACKERS[kind](spoilt)
            except BadRecordError:
                continue
            assert _may_stand_for(strange, before), (path, before, strange)


def _may_stand_for(strange: Any, before: Any) -> bool:  # noqa: ANN401  # any JSON
    """Whether a writer of ours could have written this where it once wrote that."""
    if strange is None or before is None:
        return True
    if isinstance(before, bool) or isinstance(strange, bool):
        return isinstance(before, bool) and isinstance(strange, bool)
    if isinstance(before, float):
        return isinstance(strange, int | float) and abs(strange) < 2**53
    if isinstance(before, int):
        return isinstance(strange, int) and abs(strange) < 2**53
    if isinstance(before, list | dict):
        return len(strange) == 0
    return isinstance(strange, type(before))


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"NaN", b"Infinity"])
def test_a_number_without_an_end_is_a_bad_record(number: bytes) -> None:
    figures = GOOD["samples"]["figures"].replace(b'"cpu_percent":10.0', b'"cpu_percent":' + number)
    assert figures != GOOD["samples"]["figures"]
    with pytest.raises(BadRecordError):
        records.unpack_samples({**GOOD["samples"], "figures": figures})


@pytest.mark.parametrize("keys", [b"", b"1234567", b"123456789", b"12345678", b"1" * 24])
def test_keys_and_matrix_must_agree(keys: bytes) -> None:
    with pytest.raises(BadRecordError):
        records.unpack_samples({**GOOD["samples"], "keys": keys})


def test_half_a_key_is_a_bad_record() -> None:
    keys = GOOD["samples"]["keys"][:12]
    with pytest.raises(BadRecordError, match="12 bytes of container keys"):
        records.unpack_samples({**GOOD["samples"], "keys": keys})


@given(st.sampled_from(sorted(UNPACKERS)), st.binary(max_size=40), st.data())
def test_random_bytes_are_never_another_error(kind: str, junk: bytes, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(GOOD[kind])))
    whole_field = GOOD[kind][name]
    place = data.draw(st.integers(0, len(whole_field)))
    try:
        UNPACKERS[kind]({**GOOD[kind], name: whole_field[:place] + junk + whole_field[place:]})
    except BadRecordError:
        return


def test_a_container_id_that_is_not_hexadecimal_is_a_bad_record() -> None:
    roster = GOOD["samples"]["roster"].replace(container_of("a").encode(), b"no container")
    with pytest.raises(BadRecordError):
        records.unpack_samples({**GOOD["samples"], "roster": roster})


@pytest.mark.parametrize("data", [b"NaN", b"[Infinity]", b'{"a":-Infinity}'])
def test_what_only_python_calls_a_number_is_not_parsed(data: bytes) -> None:
    with pytest.raises(BadRecordError, match="not JSON"):
        records.parse(data)
