"""An outage: so many services fall sick together that their common cause is not ours to treat.

Services that lost tasks with a node are not counted: that cause is known, and told for itself.
"""

from __future__ import annotations

from autoheal.core.decision import incidents, pages
from autoheal.core.decision.tick import Tick, View, is_ours


def watch(tick: Tick) -> None:
    """Begin or end the outage. Counts what this tick's incidents are."""
    watched = [view for view in tick.views.values() if _is_watched(view)]
    limits = tick.limits
    threshold = max(limits.outage_services, limits.outage_percent * len(watched) / 100)
    since_ms = (tick.now_ms if tick.outage_ms is None else tick.outage_ms) - limits.outage_window_ms
    sick = [view for view in watched if _fell_sick(tick, view, since_ms)]
    if tick.outage_ms is None and len(sick) > threshold:
        tick.outage_ms = tick.now_ms
        pages.begin_outage(tick, sorted(view.service.name for view in sick), threshold)
    elif tick.outage_ms is not None and len(sick) <= threshold:
        tick.outage_ms = None
        pages.end_outage(tick)
    if tick.outage_ms is not None:
        for view in sick:
            incidents.escalated(tick, view.service.id)


def _fell_sick(tick: Tick, view: View, since_ms: int) -> bool:
    """Whether an incident was opened since then that goes on, and is not a node's.

    What autoheal finds in the first window has not fallen sick together, as far as anybody knows.
    """
    incident = tick.services[view.service.id].incident
    opened_ms = 0 if incident is None else incident.opened_ms
    known_ms = tick.began_ms + tick.limits.outage_window_ms
    return opened_ms > since_ms and opened_ms >= known_ms and not view.tasks.lost_lately


def _is_watched(view: View) -> bool:
    return not is_ours(view.service) and view.service.replicas != 0
