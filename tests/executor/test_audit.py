from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

import pytest

from autoheal.adapters.audit import AuditLog
from executor.fakes import START_MS, FakeClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_record_is_one_line_of_json_with_its_time(path: Path) -> None:
    clock = FakeClock()
    audit = AuditLog(path, clock)
    audit.record("intent", {"decision": "d1", "reason": "two\nlines, ünï"})
    clock.advance(1.5)
    audit.record("outcome", {"decision": "d1"})
    assert rows(path) == [
        {
            "at": "2023-11-14T22:13:20.000Z",
            "record": "intent",
            "decision": "d1",
            "reason": "two\nlines, ünï",
        },
        {"at": "2023-11-14T22:13:21.500Z", "record": "outcome", "decision": "d1"},
    ]
    assert START_MS == 1_700_000_000_000


def test_an_outcomes_kind_does_not_hide_that_it_is_an_outcome(path: Path) -> None:
    AuditLog(path, FakeClock()).record("outcome", {"kind": "APPLIED"})
    (row,) = rows(path)
    assert (row["record"], row["kind"]) == ("outcome", "APPLIED")


def test_only_the_owner_may_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        AuditLog(path, FakeClock()).record("intent", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_line_and_the_files_name_are_synced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{file}").readlink()))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    audit = AuditLog(path, FakeClock())
    audit.record("intent", {})
    assert synced == [str(path), str(path.parent)]
    audit.record("intent", {})
    assert synced[2:] == [str(path)]


def test_a_line_that_was_cut_off_does_not_swallow_the_next(path: Path) -> None:
    path.write_text('{"at": "2023-')
    AuditLog(path, FakeClock()).record("intent", {})
    first, second = path.read_text().splitlines()
    assert first == '{"at": "2023-'
    assert json.loads(second)["record"] == "intent"


def test_the_file_may_be_moved_away(path: Path) -> None:
    audit = AuditLog(path, FakeClock())
    audit.record("intent", {"decision": "d1"})
    path.rename(path.with_suffix(".1"))
    audit.record("intent", {"decision": "d2"})
    assert [row["decision"] for row in rows(path)] == ["d2"]


def test_a_disk_that_is_full_is_an_error() -> None:
    with pytest.raises(OSError, match="No space left"):
        AuditLog(Path("/dev/full"), FakeClock()).record("intent", {})


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AuditLog(tmp_path / "no" / "audit", FakeClock()).record("intent", {})


def test_without_a_path_the_lines_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    AuditLog(None, FakeClock()).record("intent", {"decision": "d1"})
    (record,) = caplog.records
    assert json.loads(record.getMessage())["decision"] == "d1"
