"""A service as Docker tells it, and the two changes that autoheal makes to its spec."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoheal.actions import ACTIONS, Leaf
from autoheal.errors import RemoteUnreachable
from autoheal.labels import Terms, read_terms
from autoheal.model import LABEL_DECISION, LABEL_WITHDRAWN, Decision

PATHS_NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class Observed:
    """A service at one version: its spec, the one before it, and Swarm's word for the update."""

    index: int
    spec: dict[str, Any]
    previous: dict[str, Any] | None
    update_state: str

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the service itself, not of its containers."""
        return labels(self.spec)

    @property
    def terms(self) -> Terms:
        """What those labels allow."""
        return read_terms(self.labels)


def leaf_of(decision: Decision) -> Leaf:
    """What the decision changes. An escalation changes nothing and never gets here."""
    leaf = ACTIONS[decision.action].leaf
    if leaf is None:
        raise AssertionError(f"{decision.action.value} changes no service")
    return leaf


def observed(answer: Any) -> Observed:  # noqa: ANN401  # JSON as Docker sends it
    """The answer to GET /services/{id}. Raises RemoteUnreachable if it is something else."""
    try:
        return Observed(
            index=int(answer["Version"]["Index"]),
            spec=dict(answer["Spec"]),
            previous=answer.get("PreviousSpec"),
            update_state=(answer.get("UpdateStatus") or {}).get("State") or "",
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RemoteUnreachable(f"what answers does not describe a service: {error!r}") from error


def labels(spec: Mapping[str, Any]) -> Mapping[str, str]:
    """The spec's own labels; Docker may send null for none."""
    return spec.get("Labels") or {}


def carried_out(decision: Decision, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with the decision's target in its leaf, and signed with the decision's id."""
    changed = leaf_of(decision).write(spec, decision.target)
    changed["Labels"] = {**labels(spec), LABEL_DECISION: decision.id}
    return changed


def withdrawn(decision: Decision, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec as it is but for a label: to post it moves the version and restarts nothing."""
    changed = copy.deepcopy(dict(spec))
    changed["Labels"] = {**labels(spec), LABEL_WITHDRAWN: decision.id}
    return changed


def differences(left: Any, right: Any, path: str) -> Iterator[str]:  # noqa: ANN401  # any JSON
    """The paths at which two JSON values differ."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for key in sorted(left.keys() | right.keys()):
            below = f"{path}.{key}" if path else key
            if key in left and key in right:
                yield from differences(left[key], right[key], below)
            else:
                yield below
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for position, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from differences(one, other, f"{path}[{position}]")
    elif left != right or type(left) is not type(right):
        yield path


def listed(paths: Sequence[str]) -> str:
    """The paths for people, the first few by name."""
    more = len(paths) - PATHS_NAMED_MAX
    named = ", ".join(paths[:PATHS_NAMED_MAX])
    return f"{named} and {more} more" if more > 0 else named
