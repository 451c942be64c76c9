"""One line per record, in both formats, whatever the message holds."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from autoheal.adapters.logs import JsonFormatter, TextFormatter, configure
from autoheal.settings import LogFormat, LogLevel

CREATED = 1_767_323_045.678  # 2026-01-02T03:04:05.678Z


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def record(
    message: str, *arguments: object, name: str = "engine", error: BaseException | None = None
) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord(name, logging.INFO, "file.py", 1, message, arguments, info)
    made.created = CREATED
    return made


def raised() -> BaseException:
    with pytest.raises(LookupError) as caught:
        fail()
    return caught.value


def fail() -> None:
    raise LookupError("no\nsuch thing")


def text(made: logging.LogRecord, *, tracebacks: bool = False) -> str:
    return TextFormatter(tracebacks=tracebacks).format(made)


def as_json(made: logging.LogRecord, *, tracebacks: bool = False) -> dict[str, str]:
    line = JsonFormatter(tracebacks=tracebacks).format(made)
    assert "\n" not in line
    entry: dict[str, str] = json.loads(line)
    return entry


def test_text() -> None:
    line = "2026-01-02T03:04:05.678Z INFO engine: tick 3 of 4"
    assert text(record("tick %d of %d", 3, 4)) == line


def test_json_says_the_same() -> None:
    assert as_json(record("tick %d of %d", 3, 4)) == {
        "time": "2026-01-02T03:04:05.678Z",
        "level": "INFO",
        "logger": "engine",
        "message": "tick 3 of 4",
    }


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("engine", "engine"),
        ("autoheal.engine", "engine"),
        ("autoheal.adapters.audit", "audit"),
        ("apscheduler.scheduler", "apscheduler.scheduler"),
    ],
)
def test_our_own_loggers_go_by_their_short_names(name: str, shown: str) -> None:
    assert f" {shown}: " in text(record("x", name=name))
    assert as_json(record("x", name=name))["logger"] == shown


def test_nobody_can_forge_a_line() -> None:
    line = text(record("%s", "a\nb\r\x1b[31m\u2028ü"))
    assert line.endswith("engine: a\\nb\\r\\x1b[31m\\u2028ü")
    assert as_json(record("a\nb\u2028"))["message"] == "a\nb\u2028"


def test_an_exception_is_its_type_and_text() -> None:
    made = record("tick failed", error=raised())
    assert text(made).endswith("engine: tick failed: LookupError: no\\nsuch thing")
    entry = as_json(made)
    assert entry["message"] == "tick failed: LookupError: no\nsuch thing"
    assert "traceback" not in entry


def test_its_traceback_comes_along_when_debugging_still_on_one_line() -> None:
    made = record("tick failed", error=raised())
    line = text(made, tracebacks=True)
    assert "tick failed: LookupError: no\\nsuch thing\\nTraceback (most recent" in line
    assert "\n" not in line
    assert as_json(made, tracebacks=True)["traceback"].startswith("Traceback (most recent")


def test_configure_writes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogLevel.WARNING, LogFormat.TEXT)
    logging.getLogger("engine").info("not this")
    logging.getLogger("engine").warning("this")
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.endswith(" WARNING engine: this\n")
    assert written.err.count("\n") == 1


def test_tracebacks_only_at_debug_level(capsys: pytest.CaptureFixture[str]) -> None:
    for level, expected in ((LogLevel.INFO, False), (LogLevel.DEBUG, True)):
        configure(level, LogFormat.JSON)
        logging.getLogger("engine").error("failed", exc_info=raised())
        entry = json.loads(capsys.readouterr().err)
        assert ("traceback" in entry) == expected


def test_configuring_again_replaces_only_our_own_handler(
    capsys: pytest.CaptureFixture[str],
) -> None:
    foreign = logging.NullHandler()
    logging.getLogger().addHandler(foreign)
    configure(LogLevel.INFO, LogFormat.TEXT)
    configure(LogLevel.INFO, LogFormat.JSON)
    logging.getLogger("engine").info("once")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "once"
    assert foreign in logging.getLogger().handlers
    assert sys.stderr is not sys.__stderr__  # pytest's, gone after this test: so must ours be


def test_what_libraries_chat_about_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogLevel.DEBUG, LogFormat.TEXT)
    logging.getLogger("urllib3.connectionpool").debug("GET /x")
    logging.getLogger("apscheduler.scheduler").info("Running job")
    assert capsys.readouterr().err == ""
