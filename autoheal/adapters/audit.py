"""The audit trail: one JSON object per line, on disk before the call returns."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from autoheal.adapters.delivery import rfc3339
from autoheal.ports import Clock

log = logging.getLogger(__name__)


class AuditLog:
    """Appends to the file at `path`; without a path the lines go to the log.

    The file is opened anew for each line, so that it can be moved away by a log rotation.
    """

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def record(self, what: str, body: Mapping[str, object]) -> None:
        """Write one line, `what` and the fields of `body`, and wait until it is durable.

        Raises OSError (a full disk, a missing directory): then perhaps part of it is there.
        """
        row = {"at": rfc3339(self._clock.wall_ms()), "record": what, **body}
        line = json.dumps(row, sort_keys=True, ensure_ascii=True)
        if self._path is None:
            log.info("%s", line)
        else:
            _append_durably(self._path, line.encode() + b"\n")


def _append_durably(path: Path, line: bytes) -> None:
    is_new = not path.exists()
    # Buffering would hide a short write; a short write raises nothing, hence the loop.
    with open(path, "ab+", buffering=0, opener=_private) as file:
        if _ends_midway(file.fileno()):
            line = b"\n" + line
        while line:
            line = line[file.write(line) or 0 :]
        os.fsync(file.fileno())
    if is_new:
        _sync_directory(path.parent)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, mode=0o600)


def _ends_midway(file: int) -> bool:
    """Whether an earlier write was cut off: its rest must not swallow the next line."""
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


def _sync_directory(path: Path) -> None:
    """Make the file's name durable too."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
