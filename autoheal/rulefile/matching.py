"""The `match` of a rule: patterns of what a service is called, and where it belongs."""

from __future__ import annotations

import re

from autoheal.core.rule import Match
from autoheal.rulefile.fields import Shape, Spot, open_map, open_names
from autoheal.rulefile.mistakes import quoted
from autoheal.rulefile.tree import Kind, Scalar, described

LABELS_MAX = 20

NAME_PATTERN = re.compile(r"[A-Za-z0-9_.*?\[\]!-]{1,128}")
LABEL_NAME = re.compile(r"[!-~]{1,128}")
LABEL_PATTERN = re.compile(r"[^\x00-\x1f\x7f]{0,256}")
_LABELS = '{tier: "web*"}'

MATCH_SHAPE = Shape(("service", "stack", "labels"), (), '{service: "web-*"}')


def read_match(spot: Spot | None) -> Match:
    """Which services are meant; all, if the key is absent."""
    fields = open_map(spot, MATCH_SHAPE) if spot else None
    if fields is None:
        return Match()
    fields.require_one(MATCH_SHAPE.keys, "there is nothing to match")
    hint = 'such as "web-*"'
    return Match(
        service=fields.text("service", "a pattern of service names", NAME_PATTERN, hint) or "*",
        stack=fields.text("stack", "a pattern of stack names", NAME_PATTERN, 'such as "shop-*"')
        or None,
        labels=_labels(fields.spot("labels")),
    )


def _labels(spot: Spot | None) -> tuple[tuple[str, str], ...]:
    if spot is None:
        return ()
    found = open_names(spot, "a label's name", LABEL_NAME, "such as tier", _LABELS)
    if len(found) > LABELS_MAX:
        spot.note(f"{len(found)} labels are too many", f"at most {LABELS_MAX}")
    return tuple(sorted((name, _pattern(value)) for name, value in found.items()))


def _pattern(spot: Spot) -> str:
    node = spot.node
    if isinstance(node, Scalar) and node.kind is Kind.TEXT:
        if LABEL_PATTERN.fullmatch(node.text):
            return node.text
        spot.note(f"{quoted(node.text)} is not a pattern of a label's value", 'such as "web*"')
        return ""
    is_value = isinstance(node, Scalar) and node.kind is not Kind.NOTHING
    hint = f'quote it: "{node.text}"' if is_value and isinstance(node, Scalar) else 'such as "web*"'
    spot.note(f"{described(node)} is not a pattern of a label's value", hint)
    return ""
