"""A figure from any service that answers with JSON: the number at a path, such as a.b[0].c."""

from __future__ import annotations

import json
import re
from typing import Any

from autoheal.adapters.http_get import HttpGet
from autoheal.errors import RemoteError
from autoheal.ports import Clock

_STEP = re.compile(r"\.?([^.\[\]]+)|\[([0-9]+)\]")
_WORDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


class JsonNumber:
    """The number at `path` in what lies at `url`."""

    def __init__(
        self,
        url: str,
        path: str,
        clock: Clock,
        *,
        timeout_ms: int,
        password_file: str | None = None,
        token_file: str | None = None,
    ) -> None:
        self._page = HttpGet(
            url, clock, timeout_ms=timeout_ms, password_file=password_file, token_file=token_file
        )
        self._steps = tuple(_STEP.finditer(path))

    def read(self) -> float:
        """See ports.FigureSource."""
        answer = self._page.get()
        if not answer.is_ok:
            raise answer.refusal()
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError):
            raise RemoteError(f"{answer.name}: the answer is not JSON") from None
        return self._number(found)

    def _number(self, found: Any) -> float:  # noqa: ANN401  # JSON
        path = ""
        for step in self._steps:
            inner = _inner(found, step)
            if inner is None:
                place = path or "the answer"
                raise RemoteError(f"no {step[0]} in {place}, which is {_described(found)}")
            path, found = path + step[0], inner[0]
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise RemoteError(f"{path} is {_described(found)}, not a number")
        try:
            return float(found)
        except OverflowError:
            raise RemoteError(f"{path} is too large a number") from None


def _inner(found: Any, step: re.Match[str]) -> tuple[Any] | None:  # noqa: ANN401  # JSON
    """What a step leads to; None if there is no such thing, for null is something."""
    name, place = step[1], step[2]
    if place is None:
        return (found[name],) if isinstance(found, dict) and name in found else None
    if isinstance(found, list) and int(place) < len(found):
        return (found[int(place)],)
    return None


def _described(found: Any) -> str:  # noqa: ANN401  # JSON
    return _WORDS.get(type(found), "a number")
