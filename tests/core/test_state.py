"""The state comes back from its bytes, whatever is in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.core.breaker import Breaker, Circuit
from autoheal.core.state import (
    OVERALL_FIELD,
    Alarm,
    Flight,
    Lane,
    LaneState,
    Page,
    Phase,
    RuleState,
    Seen,
    ServiceState,
    State,
    TrackState,
    Trial,
    pack_overall,
    pack_service,
    unpack,
)
from autoheal.errors import BadRecordError
from autoheal.model import ActionKind, Deed, Incident, Mode
from builders import NOW

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
whole = st.integers(0, 2**53)
maybe = st.none() | whole

flights = st.builds(
    Flight,
    text,
    st.sampled_from(ActionKind),
    text,
    whole,
    whole,
    st.sampled_from(Mode),
    whole,
    whole,
    st.sampled_from(Phase),
    whole,
    whole,
    maybe,
    whole,
)
lanes = st.builds(LaneState, maybe, maybe, maybe, maybe, text, st.none() | flights)
trials = st.builds(Trial, text, st.sampled_from(ActionKind), st.sampled_from(Mode), whole)
deeds = st.builds(Deed, text, text, text, text, whole, text)
incidents = st.builds(
    Incident,
    *[text] * 4,
    whole,
    text,
    *[maybe] * 4,
    text,
    st.lists(deeds, max_size=2).map(tuple),
)
dated = st.lists(st.tuples(whole, whole), max_size=3).map(tuple)
tracks = st.builds(TrackState, dated, dated, text)
pages = st.builds(Page, text, text, text, st.sampled_from(Mode), text, text)
services = st.builds(
    ServiceState,
    text,
    st.builds(Seen, whole, text, maybe, whole, maybe, text),
    whole,
    maybe,
    st.dictionaries(text, st.builds(RuleState, text, whole, st.booleans(), text), max_size=2),
    st.dictionaries(st.sampled_from(Lane), lanes, max_size=2),
    st.dictionaries(
        text, st.builds(Alarm, text, text, st.sampled_from(Mode), text, whole), max_size=2
    ),
    st.dictionaries(text, st.lists(whole, max_size=3).map(tuple), max_size=2),
    st.dictionaries(text, whole, max_size=2),
    st.dictionaries(text, trials, max_size=2),
    st.dictionaries(text, whole, max_size=2),
    st.dictionaries(text, whole, max_size=2),
    st.dictionaries(text, whole, max_size=2),
    st.none() | incidents,
    maybe,
    whole,
    st.dictionaries(text, tracks, max_size=2),
)
identities = text.filter(lambda name: name != OVERALL_FIELD)
breakers = st.builds(Breaker, st.sampled_from(Circuit), whole, whole, text)
states = st.builds(
    State,
    whole,
    whole,
    whole,
    whole,
    text,
    breakers,
    st.dictionaries(text, text, max_size=2),
    maybe,
    st.dictionaries(st.sampled_from(Mode), st.lists(whole, max_size=2).map(tuple), max_size=2),
    st.dictionaries(text, pages, max_size=2),
    maybe,
    st.dictionaries(identities, services, max_size=3),
)


def pack(state: State) -> dict[str, bytes]:
    fields = {name: pack_service(each) for name, each in state.services.items()}
    return {**fields, OVERALL_FIELD: pack_overall(state)}


@given(states)
def test_a_state_comes_back_the_same_to_the_byte(state: State) -> None:
    back = unpack(pack(state))
    assert back == state
    assert pack(back) == pack(state)


@given(states)
def test_the_order_of_fields_does_not_matter(state: State) -> None:
    fields = pack(state)
    assert unpack(dict(reversed(list(fields.items())))) == state


def test_nothing_stored_is_the_first_state() -> None:
    assert unpack({}) == State()
    assert unpack({"web": b"without the whole it means nothing"}) == State()


def test_what_tracking_remembered_without_a_hash_comes_back() -> None:
    track = b'"tracks":{"load":{"recommendations":[[1,2]],"scaled":[]}}'
    fields = {**GOOD, "web": GOOD["web"].replace(b'"tracks":{}', track)}
    assert unpack(fields).services["web"].tracks == {"load": TrackState(((1, 2),))}


GOOD = pack(
    State(
        services={
            "web": ServiceState(
                "web",
                Seen(1, "c", 2, 0, None, ""),
                NOW,
                rules={"r": RuleState("h", NOW)},
                lanes={
                    Lane.RULES: LaneState(
                        flight=Flight("d", ActionKind.SCALE_UP, "r", 1, 2, Mode.LIVE, NOW, NOW)
                    )
                },
            )
        }
    )
)


@pytest.mark.parametrize("field", ["web", OVERALL_FIELD])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'{"', b'["'),
        (b'"circuit":"closed"', b'"circuit":"ajar"'),
        (b'"circuit":"closed"', b'"surplus":1'),
        (b'"probe"', b'"probes"'),
        (b'"tick"', b'"tock"'),
        (b'"phase":"decided"', b'"phase":"elsewhere"'),
        (b'"lanes":{"rules"', b'"lanes":{"alleys"'),
        (b'"hash"', b'"mash"'),
        (b'"seen":{', b'"saw":{'),
    ],
)
def test_a_spoilt_state_is_a_bad_record(field: str, old: bytes, new: bytes) -> None:
    spoilt = {**GOOD, field: GOOD[field].replace(old, new, 1)}
    if spoilt[field] == GOOD[field]:
        assert unpack(spoilt) == unpack(GOOD)
        return
    with pytest.raises(BadRecordError):
        unpack(spoilt)


@pytest.mark.parametrize("field", ["web", OVERALL_FIELD])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"7",
        b"[]",
        b"null",
        b"{}",
        b'{"breaker":7}',
        b'{"seen":{},"rules":[],"lanes":[]}',
        b'{"seen":{"index":1},"rules":{},"lanes":{}}',
    ],
)
def test_other_bytes_are_a_bad_record(field: str, data: bytes) -> None:
    with pytest.raises(BadRecordError):
        unpack({**GOOD, field: data})
