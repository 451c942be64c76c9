"""What a service's labels allow: strict characters, and hands off where there is any doubt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.labels import ALLOWED, REPLICAS_MAX, Terms, read_terms
from autoheal.model import (
    LABEL_ALLOW,
    LABEL_DECISION,
    LABEL_DRY_RUN,
    LABEL_ENABLE,
    LABEL_MAX,
    LABEL_MIN,
    LABEL_ROLE,
    LABEL_WITHDRAWN,
    ActionKind,
)

ALL = ",".join(ALLOWED)
ACTS = [kind for kind in ActionKind if kind is not ActionKind.ESCALATE]


def test_a_service_without_labels_allows_nothing_and_is_no_mistake() -> None:
    assert read_terms({}) == Terms()
    assert not any(read_terms({}).arms(kind) for kind in ActionKind)


def test_every_label_is_read() -> None:
    labels = {
        LABEL_ENABLE: "true",
        LABEL_ALLOW: "scale_up,restart",
        LABEL_DRY_RUN: "false",
        LABEL_MIN: "2",
        LABEL_MAX: "8",
    }
    allowed = frozenset({"scale_up", "restart"})
    assert read_terms(labels) == Terms(enabled=True, allowed=allowed, minimum=2, maximum=8)


@pytest.mark.parametrize("kind", ActionKind)
def test_an_action_is_armed_by_being_enabled_and_named(kind: ActionKind) -> None:
    armed = {LABEL_ENABLE: "true", LABEL_ALLOW: ALL}
    assert read_terms(armed).arms(kind) is (kind is not ActionKind.ESCALATE)
    assert not read_terms({LABEL_ENABLE: "true"}).arms(kind)
    assert not read_terms({LABEL_ALLOW: ALL}).arms(kind)
    assert not read_terms({**armed, LABEL_ENABLE: "false"}).arms(kind)
    others = ",".join(other for other in ALLOWED if other != kind)
    assert not read_terms({**armed, LABEL_ALLOW: others}).arms(kind)


@pytest.mark.parametrize("kind", ACTS)
def test_the_dry_run_label_takes_it_all_back(kind: ActionKind) -> None:
    labels = {LABEL_ENABLE: "true", LABEL_ALLOW: ALL, LABEL_DRY_RUN: "true"}
    assert not read_terms(labels).arms(kind)
    assert read_terms(labels).mistakes == ()


@pytest.mark.parametrize("name", [LABEL_ENABLE, LABEL_DRY_RUN])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (" true", '" true"'),
        ("true ", '"true "'),
        ("true\n", r'"true\n"'),
        ("TRUE", '"TRUE"'),
        ("True", '"True"'),
        ("FALSE", '"FALSE"'),
        ("1", '"1"'),
        ("0", '"0"'),
        ("yes", '"yes"'),
        ("on", '"on"'),
        ("", '""'),
        ("\uff54rue", r'"\uff54rue"'),
        ("x" * 1000, '"' + "x" * 40 + '"'),
    ],
)
def test_a_truth_is_true_or_false_and_nothing_else(name: str, value: str, shown: str) -> None:
    terms = read_terms({name: value})
    assert terms.mistakes == (f"{name} {shown} is neither true nor false",)
    assert not terms.enabled
    assert not terms.dry_run


@pytest.mark.parametrize("name", [LABEL_MIN, LABEL_MAX])
@pytest.mark.parametrize("value", ["1", "3", "10", "999", "9999", "10000"])
def test_a_count_is_read(name: str, value: str) -> None:
    terms = read_terms({name: value})
    assert terms.mistakes == ()
    assert (terms.minimum if name == LABEL_MIN else terms.maximum) == int(value)
    assert (terms.maximum if name == LABEL_MIN else terms.minimum) is None


@pytest.mark.parametrize("name", [LABEL_MIN, LABEL_MAX])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0", '"0"'),
        ("-1", '"-1"'),
        ("+3", '"+3"'),
        ("03", '"03"'),
        ("3 ", '"3 "'),
        (" 3", '" 3"'),
        ("3\n", r'"3\n"'),
        ("3.0", '"3.0"'),
        ("3e1", '"3e1"'),
        ("1_0", '"1_0"'),
        ("0x3", '"0x3"'),
        ("\uff13", r'"\uff13"'),
        ("\u0663", r'"\u0663"'),
        ("\u00b3", r'"\u00b3"'),
        ("10001", '"10001"'),
        ("99999", '"99999"'),
        ("100000", '"100000"'),
        ("9" * 5000, '"' + "9" * 40 + '"'),
        ("", '""'),
        ("three", '"three"'),
    ],
)
def test_a_count_is_plain_digits_within_reason(name: str, value: str, shown: str) -> None:
    terms = read_terms({name: value})
    assert terms.mistakes == (f"{name} {shown} is not a whole number from 1 to {REPLICAS_MAX}",)
    assert (terms.minimum, terms.maximum) == (None, None)


@pytest.mark.parametrize(
    ("minimum", "maximum", "mistakes"),
    [
        ("2", "3", ()),
        ("3", "3", ()),
        ("4", "3", ("autoheal.min is above autoheal.max",)),
        ("10", "9", ("autoheal.min is above autoheal.max",)),
    ],
)
def test_the_minimum_may_not_be_above_the_maximum(
    minimum: str, maximum: str, mistakes: tuple[str, ...]
) -> None:
    assert read_terms({LABEL_MIN: minimum, LABEL_MAX: maximum}).mistakes == mistakes


@pytest.mark.parametrize("value", ["scale_up", "restart,scale_up", "scale_up,scale_up", ALL])
def test_a_list_of_actions_is_read(value: str) -> None:
    terms = read_terms({LABEL_ALLOW: value})
    assert terms.mistakes == ()
    assert terms.allowed == frozenset(value.split(","))


@pytest.mark.parametrize(
    "value",
    [
        "",
        ",",
        "scale_up,",
        ",scale_up",
        "scale_up,,restart",
        "scale_up, restart",
        " scale_up",
        "scale_up;restart",
        "scale_up restart",
        "scale-up",
        "Scale_Up",
        "scale_upwards",
        "scale_up,reboot",
        "escalate",
        "all",
        "*",
        "true",
    ],
)
def test_a_list_with_anything_else_in_it_allows_nothing(value: str) -> None:
    terms = read_terms({LABEL_ENABLE: "true", LABEL_ALLOW: value})
    (mistake,) = terms.mistakes
    known = "scale_up, raise_memory, restart, scale_down"
    assert mistake == f'autoheal.allow "{value}" is not a list of {known} with commas only'
    assert terms.allowed == frozenset()
    assert not any(terms.arms(kind) for kind in ActionKind)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("autoheal.enabled", '"autoheal.enabled"'),
        ("autoheal.Enable", '"autoheal.Enable"'),
        ("autoheal.dry_run", '"autoheal.dry_run"'),
        ("autoheal.", '"autoheal."'),
        ("autoheal.max ", '"autoheal.max "'),
        ("autoheal.m\u0430x", r'"autoheal.m\u0430x"'),
        ("autoheal.a\nb", r'"autoheal.a\nb"'),
        ("autoheal." + "x" * 100, '"autoheal.' + "x" * 31 + '"'),
    ],
)
def test_a_name_of_ours_that_we_do_not_know_is_a_mistake(name: str, shown: str) -> None:
    assert read_terms({name: "true"}).mistakes == (f"there is no label {shown}",)


def test_of_many_unknown_names_a_few_are_told() -> None:
    terms = read_terms({f"autoheal.x{number}": "" for number in range(1000)})
    assert 1 < len(terms.mistakes) < 10


@pytest.mark.parametrize(
    "name",
    [
        "autoheal",
        "autoheal_x",
        "autoheal-enable",
        "Autoheal.enable",
        "my.autoheal.enable",
        "AUTOHEAL_CONTAINER_LABEL",
    ],
)
def test_labels_that_are_not_ours_mean_nothing(name: str) -> None:
    assert read_terms({name: "anything"}) == Terms()


@pytest.mark.parametrize("name", [LABEL_DECISION, LABEL_WITHDRAWN, LABEL_ROLE])
def test_labels_that_autoheal_writes_are_known(name: str) -> None:
    assert read_terms({name: "0123abcd"}) == Terms()


@pytest.mark.parametrize(
    "slip",
    [
        {LABEL_DRY_RUN: "no"},
        {LABEL_MIN: "0"},
        {LABEL_MAX: "many"},
        {LABEL_MIN: "3", LABEL_MAX: "2"},
        {"autoheal.dryrun": "true"},
    ],
)
def test_one_mistake_disarms_everything(slip: dict[str, str]) -> None:
    terms = read_terms({LABEL_ENABLE: "true", LABEL_ALLOW: ALL, **slip})
    assert len(terms.mistakes) == 1
    assert not any(terms.arms(kind) for kind in ActionKind)


def test_every_mistake_is_told_in_an_order_that_does_not_depend_on_the_labels() -> None:
    labels = {LABEL_MAX: "x", LABEL_ENABLE: "x", "autoheal.b": "", "autoheal.a": ""}
    told = read_terms(labels).mistakes
    assert told == read_terms(dict(reversed(labels.items()))).mistakes
    assert [words.split('"')[1] for words in told] == ["autoheal.a", "autoheal.b", "x", "x"]


NAMES = [LABEL_ENABLE, LABEL_ALLOW, LABEL_DRY_RUN, LABEL_MIN, LABEL_MAX]
VALUES = st.sampled_from(["true", "false", "3", "1", ALL, "restart", ""]) | st.text(max_size=6)


@given(
    labels=st.dictionaries(st.sampled_from(NAMES), VALUES),
    more=st.dictionaries(
        st.sampled_from([LABEL_DRY_RUN, LABEL_MIN, LABEL_MAX]) | st.text(max_size=12), VALUES
    ),
)
def test_a_label_more_never_arms_what_was_not_armed_unless_it_opts_in(
    labels: dict[str, str], more: dict[str, str]
) -> None:
    extra = {name: text for name, text in more.items() if name not in labels}
    before, after = read_terms(labels), read_terms({**labels, **extra})
    for kind in ActionKind:
        assert before.arms(kind) or not after.arms(kind)
