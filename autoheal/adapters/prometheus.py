"""A figure from Prometheus: an instant query that gives one sample.

Of several samples none is picked: how they make one figure is for the query to say.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from autoheal.adapters.http_get import HttpGet
from autoheal.errors import RemoteError
from autoheal.ports import Clock

QUERY_PATH = "/api/v1/query"
ERROR_CHARACTERS_MAX = 150


class PrometheusQuery:
    """The answer of the Prometheus at `url` to `query`, as of now."""

    def __init__(
        self,
        url: str,
        query: str,
        clock: Clock,
        *,
        timeout_ms: int,
        password_file: str | None = None,
        token_file: str | None = None,
    ) -> None:
        self._api = HttpGet(
            f"{url.rstrip('/')}{QUERY_PATH}?{urlencode({'query': query})}",
            clock,
            timeout_ms=timeout_ms,
            password_file=password_file,
            token_file=token_file,
        )

    def read(self) -> float:
        """See ports.FigureSource."""
        answer = self._api.get()
        body = _parsed(answer.body)
        if not answer.is_ok:
            words = " ".join(str(body.get("error", "")).split())
            raise answer.refusal(words[:ERROR_CHARACTERS_MAX])
        if body.get("warnings"):
            raise RemoteError(f"{answer.name}: a partial answer: {_warning(body['warnings'])}")
        try:
            return _figure(body["data"]["resultType"], body["data"]["result"])
        except (KeyError, TypeError, ValueError, IndexError):
            raise RemoteError(f"{answer.name}: not an answer of Prometheus") from None


def _parsed(body: bytes) -> dict[str, Any]:
    """The object in an answer; empty if it holds none, as that of a proxy may."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _warning(warnings: Any) -> str:  # noqa: ANN401  # JSON
    """The first of them, on one line."""
    first = warnings[0] if isinstance(warnings, list) else warnings
    return " ".join(str(first).split())[:ERROR_CHARACTERS_MAX]


def _figure(kind: str, result: Any) -> float:  # noqa: ANN401  # JSON
    """The one sample. Raises RemoteError where there is another number of them."""
    if kind == "scalar":
        return float(result[1])
    if kind != "vector":
        raise RemoteError(f"the query gives a {kind}, not one figure")
    if not result:
        raise RemoteError("the query gives nothing: no series is there now")
    if len(result) > 1:
        raise RemoteError(
            f"the query gives {len(result)} series: aggregate them to one, as with sum(...)"
        )
    if "histogram" in result[0]:
        raise RemoteError("the query gives a histogram: take one figure of it")
    return float(result[0]["value"][1])
