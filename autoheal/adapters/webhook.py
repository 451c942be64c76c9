"""Tells any program that takes JSON by HTTP: one POST per alert that begins or ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoheal.adapters.delivery import TIMEOUT_S, Endpoint, evidence_json, lower_mode, rfc3339
from autoheal.model import Mode
from autoheal.ports import Alert

FORMAT_VERSION = 1


class Webhook:
    """One receiver at `url`. `mode` is how far this process goes.

    Raises UserError if the URL is none.
    """

    name = "webhook"

    def __init__(
        self,
        url: str,
        *,
        mode: Mode,
        token: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._endpoint = Endpoint(url, token=token, timeout_s=timeout_s)
        self._mode = mode

    def send(self, alerts: Sequence[Alert]) -> None:
        """Deliver the present state of these alerts, one request each. Raises RemoteError."""
        for alert in alerts:
            self._endpoint.post(self._body(alert))

    def _body(self, alert: Alert) -> dict[str, Any]:
        decision = alert.decision
        return {
            "version": FORMAT_VERSION,
            "status": "firing" if alert.ended_ms is None else "resolved",
            "rule": decision.rule,
            "service": decision.service_name,
            "severity": decision.severity,
            "mode": lower_mode(decision.max_mode, self._mode).value,
            "reason": decision.reason,
            "evidence": evidence_json(decision.evidence),
            "decision": decision.id,
            "started": rfc3339(alert.started_ms),
            "ended": None if alert.ended_ms is None else rfc3339(alert.ended_ms),
        }
