"""The replica count of a replicated service: what scale_up and scale_down share.

A count that is set lies within the rule's bound and within both bounds of the service's labels. A
service outside a bound is left there: nothing is done merely to enter it.
"""

from __future__ import annotations

import copy
from typing import Any

from autoheal.actions.base import Leaf, Spec, Subject, Unable
from autoheal.model import LABEL_MAX, LABEL_MIN

REPLICAS_MIN = 1


def _read(spec: Spec) -> int | None:
    replicated = spec.get("Mode", {}).get("Replicated")
    if replicated is None:
        return None
    # Swarm stores an omitted count as 1 (swarmkit defaults), but an old spec may lack the field.
    return int(replicated.get("Replicas", 1))


def _write(spec: Spec, replicas: int) -> dict[str, Any]:
    changed = copy.deepcopy(dict(spec))
    changed["Mode"]["Replicated"]["Replicas"] = replicas
    return changed


REPLICAS = Leaf(path="Mode.Replicated.Replicas", read=_read, write=_write)


def highest(subject: Subject, of_rule: int) -> tuple[int, str]:
    """The higher bound in force, and whose it is."""
    if subject.maximum is not None and subject.maximum < of_rule:
        return subject.maximum, f"its label {LABEL_MAX}"
    return of_rule, "the rule's maximum"


def lowest(subject: Subject, of_rule: int) -> tuple[int, str]:
    """The lower bound in force, and whose it is."""
    if subject.minimum is not None and subject.minimum > of_rule:
        return subject.minimum, f"its label {LABEL_MIN}"
    return of_rule, "the rule's minimum"


def outside_labels(subject: Subject, target: int) -> Unable | None:
    """Unable, if a step would end on the far side of a bound that the labels set."""
    if subject.minimum is not None and target < subject.minimum:
        words = f"{target} replicas are still below its label {LABEL_MIN}, {subject.minimum}"
    elif subject.maximum is not None and target > subject.maximum:
        words = f"{target} replicas are still above its label {LABEL_MAX}, {subject.maximum}"
    else:
        return None
    return Unable(words)


def too_few(target: int) -> str | None:
    """Why a count may not be set: 0 means off, and only people switch off."""
    return None if target >= REPLICAS_MIN else f"the target {target} is below {REPLICAS_MIN}"
