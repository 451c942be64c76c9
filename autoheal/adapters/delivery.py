"""What Alertmanager and the webhook share: one careful POST, and how an alert is put in words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import requests

from autoheal.errors import RemoteRefused, RemoteUnreachable, UserError
from autoheal.model import Decision, Evidence, Mode

TIMEOUT_S = 5.0
DETAIL_CHARACTERS_MAX = 200
_OK = range(200, 300)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Endpoint:
    """A URL that JSON is posted to. Secrets in it (user, path, query) never reach an error's text.

    User and password in the URL become basic authentication; `token` goes out as a bearer token.
    Raises UserError if the URL is none.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        parts = _parts(url)
        host = parts.netloc.rpartition("@")[2]
        self.name = f"{parts.scheme}://{host}"
        self._url = urlunsplit(parts._replace(netloc=host))
        self._timeout_s = timeout_s
        self._session = requests.Session()
        if parts.username is not None:
            self._session.auth = (unquote(parts.username), unquote(parts.password or ""))
        if token is not None:
            self._session.auth = _Bearer(token)

    def post(self, body: object) -> None:
        """POST `body` as JSON. Raises RemoteUnreachable, RemoteRefused."""
        try:
            with self._session.post(
                self._url,
                json=body,
                timeout=self._timeout_s,
                allow_redirects=False,
                stream=True,
            ) as response:
                if response.status_code not in _OK:
                    raise RemoteRefused(response.status_code, _detail(response))
        except requests.RequestException as error:
            # The client's own text holds the URL's path and query, which may be secret.
            raise RemoteUnreachable(f"{self.name}: {type(error).__name__}") from None


def _parts(url: str) -> SplitResult:
    """The parser's own words would repeat the URL, and with it a password."""
    mistake = UserError("the URL of a notifier must start with http:// or https:// and a host")
    try:
        parts = urlsplit(url)
        is_sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise mistake from None
    if not is_sound:
        raise mistake
    return parts


class _Bearer(requests.auth.AuthBase):
    """As an `auth`, so that no .netrc entry can replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _detail(response: requests.Response) -> str:
    start = next(response.iter_content(4 * DETAIL_CHARACTERS_MAX), b"")
    return " ".join(start.decode(errors="replace").split())[:DETAIL_CHARACTERS_MAX]


def rfc3339(ms: int) -> str:
    """A time as RFC 3339, to the millisecond, in UTC."""
    text = (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def lower_mode(left: Mode, right: Mode) -> Mode:
    """The mode that goes less far."""
    return Mode.LIVE if left is right is Mode.LIVE else Mode.DRY_RUN


def summary(decision: Decision) -> str:
    """One sentence for a pager."""
    return f"{decision.service_name}: {decision.rule}: {decision.reason}"


def description(decision: Decision) -> str:
    """The reason, and a line per figure that it rests on."""
    return "\n".join([decision.reason, *map(_figure, decision.evidence)])


def evidence_json(evidence: Sequence[Evidence]) -> list[dict[str, Any]]:
    """The figures for a program."""
    return [{"what": row.what, "value": row.value, "bound": row.bound} for row in evidence]


def _figure(row: Evidence) -> str:
    return f"{row.what}: {row.value:g} ({row.bound})"
