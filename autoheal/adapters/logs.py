"""One line per log record on standard error, for people or for programs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from autoheal.settings import LogFormat, LogLevel


def configure(level: LogLevel, log_format: LogFormat) -> None:
    """Send all records of `level` and above to standard error. May be called again."""
    tracebacks = level is LogLevel.DEBUG
    handler = _LineHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(tracebacks=tracebacks)
        if log_format is LogFormat.JSON
        else TextFormatter(tracebacks=tracebacks)
    )
    root = logging.getLogger()
    for earlier in [entry for entry in root.handlers if isinstance(entry, _LineHandler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # They tell of every job and every connection.
    for chatty in ("apscheduler", "urllib3", "docker"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _LineHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic in stubs only
    """Ours, so that a second `configure` replaces it and leaves foreign handlers alone."""


class TextFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z INFO engine: message`.

    An exception is its type and text; its traceback follows, escaped, where `tracebacks`.
    """

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        line = f"{_time(record)} {record.levelname} {_logger(record)}: {_message(record)}"
        if self._tracebacks and record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode()
            for character in line
        )


class JsonFormatter(logging.Formatter):
    """The same as an object: time, level, logger, message, and traceback where `tracebacks`."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """One line: JSON escapes what would break it."""
        entry = {
            "time": _time(record),
            "level": record.levelname,
            "logger": _logger(record),
            "message": _message(record),
        }
        if self._tracebacks and record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _logger(record: logging.LogRecord) -> str:
    return record.name.removeprefix("autoheal.").removeprefix("adapters.")


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    return message if error is None else f"{message}: {type(error).__name__}: {error}"
