"""An outage: so many services fall sick together that their common cause is not ours to treat.

Services that lost tasks with a node are not counted: that cause is known, and told for itself.
"""

from __future__ import annotations

from autoheal.core.decision import incidents, pages
from autoheal.core.decision.tick import Tick, View, is_ours


def watch(tick: Tick) -> None:
    """Begin or end the outage. Counts what this tick's incidents are."""
    watched = [view for view in tick.views.values() if _is_watched(view)]
    sick = {
        view.service.name: incident.opened_ms
        for view in watched
        if (incident := tick.services[view.service.id].incident) and not tick.lost_on(view)
    }
    limits = tick.limits
    threshold = max(limits.outage_services, limits.outage_percent * len(watched) / 100)
    since_ms = tick.now_ms - limits.outage_window_ms
    fresh = sorted(name for name, opened_ms in sick.items() if opened_ms > since_ms)
    if tick.outage_ms is None and len(fresh) > threshold:
        tick.outage_ms = tick.now_ms
        pages.begin_outage(tick, fresh, threshold)
    elif tick.outage_ms is not None and len(sick) <= threshold:
        tick.outage_ms = None
        pages.end_outage(tick)
    if tick.outage_ms is not None:
        for view in watched:
            incidents.escalated(tick, view.service.id)


def _is_watched(view: View) -> bool:
    return not is_ours(view.service) and view.service.replicas != 0
