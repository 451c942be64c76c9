"""Words that several actions share."""

from __future__ import annotations

from autoheal.model import Service

_BOTH = 2
_START_FIRST = "start-first"


def replaces(service: Service) -> str:
    """What a change of the task's spec does to the tasks that run."""
    count = service.replicas or 0
    if count > _BOTH:
        return f"replaces all {count} tasks in a rolling update"
    if count == _BOTH:
        return "replaces both tasks in a rolling update"
    if service.update_order == _START_FIRST:
        return "replaces its only task once the new one runs"
    return "replaces its only task, which stops before the new one starts"


def name_in_compose(service: Service) -> str:
    """What the service is called in the compose file: its name without that of the stack."""
    return service.name.removeprefix(f"{service.stack}_") if service.stack else service.name
