"""Which services a `match` means."""

import pytest

import builders
from autoheal.core.rule import Match
from autoheal.model import LABEL_STACK
from autoheal.rulefile import parse
from autoheal.rulefile.matching import LABELS_MAX

TEXT = """
rules:
  - name: a
    match: %s
    when: {event: oom_killed, over: 10m, at_least: 1}
    then: {action: escalate}
"""


def match(text: str) -> Match:
    (rule,) = parse({"x.yaml": (TEXT % text).encode()}).rules
    return rule.match


WRITTEN = {
    '{service: "web-*"}': Match("web-*"),
    "{stack: shop}": Match(stack="shop"),
    "{labels: {tier: web}}": Match(labels=(("tier", "web"),)),
    '{labels: {tier: "*"}}': Match(labels=(("tier", "*"),)),
    '{labels: {z: "", com.example/A_b: "Größe 1"}}': Match(
        labels=(("com.example/A_b", "Größe 1"), ("z", ""))
    ),
    '{labels: {"1": "1"}, stack: "[ab]?", service: s}': Match("s", "[ab]?", (("1", "1"),)),
}


@pytest.mark.parametrize(("text", "expected"), WRITTEN.items(), ids=WRITTEN)
def test_a_service_is_matched_by_name_stack_and_labels(text: str, expected: Match) -> None:
    assert match(text) == expected


def test_a_service_is_matched_by_so_many_labels() -> None:
    names = ", ".join(f"l{number}: a" for number in range(LABELS_MAX))
    assert len(match(f"{{labels: {{{names}}}}}").labels) == LABELS_MAX


SHOP = {LABEL_STACK: "shop", "tier": "web", "size": "2"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("{stack: shop}", True),
        ('{stack: "sh?p"}', True),
        ("{stack: Shop}", False),
        ("{labels: {tier: web}}", True),
        ('{labels: {tier: "w*", size: "[12]"}}', True),
        ('{labels: {tier: "w*", size: "[34]"}}', False),
        ('{labels: {owner: "*"}}', False),
        ("{service: api, stack: shop, labels: {tier: web}}", True),
        ("{service: web, stack: shop, labels: {tier: web}}", False),
        ("{service: api, stack: other, labels: {tier: web}}", False),
    ],
)
def test_everything_that_is_named_must_fit(text: str, *, holds: bool) -> None:
    assert match(text).holds(builders.service("api", labels=SHOP)) is holds


@pytest.mark.parametrize(("text", "holds"), [('{stack: "*"}', True), ('{stack: "?*"}', False)])
def test_a_service_of_no_stack_has_a_stack_without_a_name(text: str, *, holds: bool) -> None:
    assert match(text).holds(builders.service("api", labels={})) is holds
