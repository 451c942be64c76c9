"""What a service's labels allow: they opt in or tighten, never loosen.

`autoheal.enable=true` and `autoheal.allow=scale_up,restart` together let live rules act;
`autoheal.min` and `autoheal.max` narrow the replicas that rules may set; `autoheal.dry-run=true`
takes it all back. A label that cannot be read is a mistake, and a service with a mistake is left
alone: nobody can tell what was meant.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from autoheal.model import (
    LABEL_ALLOW,
    LABEL_DECISION,
    LABEL_DRY_RUN,
    LABEL_ENABLE,
    LABEL_MAX,
    LABEL_MIN,
    LABEL_ROLE,
    LABEL_WITHDRAWN,
    OWN_LABELS,
    ActionKind,
)

REPLICAS_MAX = 10_000
ALLOWED = tuple(kind.value for kind in ActionKind if kind is not ActionKind.ESCALATE)
_KNOWN = frozenset(
    {
        LABEL_ALLOW,
        LABEL_DECISION,
        LABEL_DRY_RUN,
        LABEL_ENABLE,
        LABEL_MAX,
        LABEL_MIN,
        LABEL_ROLE,
        LABEL_WITHDRAWN,
    }
)
_SHOWN_MAX = 40
_UNKNOWN_NAMED_MAX = 5
_COUNT = re.compile(r"[1-9][0-9]{0,4}")
_TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Terms:
    """A service's labels as read; `mistakes` are in words, one per label that cannot be."""

    enabled: bool = False
    allowed: frozenset[str] = frozenset()
    dry_run: bool = False
    minimum: int | None = None
    maximum: int | None = None
    mistakes: tuple[str, ...] = ()

    def arms(self, action: ActionKind) -> bool:
        """Whether this action may be carried out on the service."""
        return self.enabled and action in self.allowed and not self.dry_run and not self.mistakes


def read_terms(labels: Mapping[str, str]) -> Terms:
    """The terms that a service's labels set. Labels that are not ours are not looked at."""
    reader = _Reader(labels)
    terms = Terms(
        enabled=reader.truth(LABEL_ENABLE),
        allowed=reader.actions(),
        dry_run=reader.truth(LABEL_DRY_RUN),
        minimum=reader.count(LABEL_MIN),
        maximum=reader.count(LABEL_MAX),
    )
    reader.compare(terms.minimum, terms.maximum)
    return dataclasses.replace(terms, mistakes=tuple(reader.mistakes))


class _Reader:
    """Reads one label after the other and collects what cannot be read."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels
        unknown = sorted(
            name for name in labels if name.startswith(OWN_LABELS) and name not in _KNOWN
        )
        self.mistakes = [
            f"there is no label {_quoted(name)}" for name in unknown[:_UNKNOWN_NAMED_MAX]
        ]

    def truth(self, name: str) -> bool:
        value = self._labels.get(name, "false")
        if value not in _TRUTHS:
            self._note(name, "is neither true nor false")
        return _TRUTHS.get(value, False)

    def count(self, name: str) -> int | None:
        value = self._labels.get(name)
        if value is None:
            return None
        if not _COUNT.fullmatch(value) or int(value) > REPLICAS_MAX:
            self._note(name, f"is not a whole number from 1 to {REPLICAS_MAX}")
            return None
        return int(value)

    def actions(self) -> frozenset[str]:
        value = self._labels.get(LABEL_ALLOW)
        if value is None:
            return frozenset()
        words = value.split(",")
        if not set(words) <= set(ALLOWED):
            self._note(LABEL_ALLOW, f"is not a list of {', '.join(ALLOWED)} with commas only")
            return frozenset()
        return frozenset(words)

    def compare(self, minimum: int | None, maximum: int | None) -> None:
        if minimum is not None and maximum is not None and minimum > maximum:
            self.mistakes.append(f"{LABEL_MIN} is above {LABEL_MAX}")

    def _note(self, name: str, what: str) -> None:
        self.mistakes.append(f"{name} {_quoted(self._labels[name])} {what}")


def _quoted(text: str) -> str:
    """The beginning of a user's text, on one line; what is not plain ASCII shows as its code."""
    return json.dumps(text[:_SHOWN_MAX])
