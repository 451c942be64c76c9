"""A figure from Redis or Valkey: the length of a list or a stream."""

from __future__ import annotations

from contextlib import closing
from enum import Enum
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from autoheal.adapters.secret_file import read_secret
from autoheal.errors import RemoteError, RemoteUnreachable
from autoheal.units import format_duration

# What the codes of Redis' errors mean to one that has logged in with a password.
MEANINGS = {
    "WRONGPASS": "the user or the password is wrong",
    "NOPERM": "the user may not ask for this length",
}


class Measure(Enum):
    """What is measured."""

    LIST = "list"
    STREAM = "stream"


class RedisLength:
    """The length of the list or stream `key`; a key that is not there has length 0.

    Each reading has a connection of its own, without a second attempt, and reads `password_file`
    anew. A server that is slow at each step of logging in can take `timeout_ms` for each.
    """

    def __init__(
        self,
        url: str,
        key: str,
        measure: Measure,
        *,
        timeout_ms: int,
        password_file: str | None = None,
    ) -> None:
        self.name = f"{urlsplit(url).scheme}://{urlsplit(url).netloc.rpartition('@')[2]}"
        self._url = url
        self._key = key
        self._measure = measure
        self._timeout_ms = timeout_ms
        self._password_file = password_file

    def read(self) -> float:
        """See ports.FigureSource."""
        password = None if self._password_file is None else read_secret(self._password_file)
        try:
            with closing(self._client(password)) as client:
                length = self._measured(client)
        except redis.TimeoutError:
            within = format_duration(self._timeout_ms)
            raise RemoteUnreachable(f"{self.name}: no answer within {within}") from None
        except redis.RedisError as error:
            raise RemoteError(f"{self.name}: {self._words(error, password)}") from None
        except ValueError:
            length = None  # its parser met what Redis would not say
        if not isinstance(length, int):
            raise RemoteError(f"{self.name}: not an answer of Redis")
        return float(length)

    def _measured(self, client: redis.Redis) -> object:
        match self._measure:
            case Measure.LIST:
                return client.llen(self._key)
            case Measure.STREAM:
                return client.xlen(self._key)

    def _client(self, password: str | None) -> redis.Redis:
        timeout_s = self._timeout_ms / 1000
        return redis.Redis.from_url(
            self._url,
            password=password,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )

    def _words(self, error: redis.RedisError, password: str | None) -> str:
        """The system's, or the server's own; of those only the code where there is a password."""
        cause = error.__context__
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if str(error).startswith("WRONGTYPE"):
            return f"{self._key} is not a {self._measure.value}"
        return str(error) if password is None else _code(error)


def _code(error: redis.RedisError) -> str:
    """An error without the server's words: they may repeat what it was sent, whole or in part."""
    code = error.status_code
    if code is not None:
        return f"{code}: {MEANINGS.get(code, 'refused')}"
    if isinstance(error, redis.ConnectionError):
        return "the connection was lost"
    return "an error whose words may repeat the password"
