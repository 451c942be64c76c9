"""Tells Prometheus' Alertmanager: POST /api/v2/alerts, as Prometheus itself does.

Alertmanager keeps an alert firing until its `endsAt`. A firing alert is therefore sent again and
again with an end a few intervals ahead: should autoheal die, the alert resolves by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoheal.adapters.delivery import (
    TIMEOUT_S,
    Endpoint,
    description,
    lower_mode,
    rfc3339,
    summary,
)
from autoheal.model import Mode
from autoheal.ports import Alert, Clock

ALERT_NAME = "AutohealEscalation"
RESENDS_UNTIL_END = 4


class Alertmanager:
    """One Alertmanager at `url`, told at least every `resend_s` while an alert fires.

    `mode` is how far this process goes. Raises UserError if the URL is none.
    """

    name = "alertmanager"

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        mode: Mode,
        resend_s: float = 60.0,
        token: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._endpoint = Endpoint(
            url.rstrip("/") + "/api/v2/alerts", token=token, timeout_s=timeout_s
        )
        self._clock = clock
        self._mode = mode
        self._firing_ms = round(RESENDS_UNTIL_END * resend_s * 1000)

    def send(self, alerts: Sequence[Alert]) -> None:
        """Deliver the present state of these alerts, all in one request. Raises RemoteError."""
        now_ms = self._clock.wall_ms()
        self._endpoint.post([self._body(alert, now_ms) for alert in alerts])

    def _body(self, alert: Alert, now_ms: int) -> dict[str, Any]:
        """The alert's times are the store's; its clock may be ahead of ours and Alertmanager's."""
        decision = alert.decision
        started_ms = min(alert.started_ms, now_ms)
        if alert.ended_ms is None:
            ended_ms = now_ms + self._firing_ms
        else:
            ended_ms = max(min(alert.ended_ms, now_ms), started_ms + 1)
        return {
            "labels": {
                "alertname": ALERT_NAME,
                "rule": decision.rule,
                "service": decision.service_name,
                "severity": decision.severity,
                "mode": lower_mode(decision.max_mode, self._mode).value,
                **_shared(decision.service),
            },
            "annotations": {
                "summary": summary(decision),
                "description": description(decision),
                "decision": decision.id,
            },
            "startsAt": rfc3339(started_ms),
            "endsAt": rfc3339(ended_ms),
        }


def _shared(subject: str) -> dict[str, str]:
    """What services share that one alert stands for: nodes of one name are still told apart."""
    kind, separator, identity = subject.partition(":")
    return {kind: identity} if separator else {}
