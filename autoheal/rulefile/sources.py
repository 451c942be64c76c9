"""The `sources` of a file: figures from elsewhere, each with a name that rules can use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from autoheal.core.rule import Source
from autoheal.rulefile.fields import Fields, Shape, Spot, open_map, open_names
from autoheal.rulefile.kinds import Kinds
from autoheal.rulefile.mistakes import Notes, quoted, shown, suggestion
from autoheal.rulefile.tree import Kind, Scalar, described
from autoheal.units import format_duration

SOURCES_MAX = 100
EVERY_MS = 15_000
EVERY_MS_MIN = 1_000
EVERY_MS_MAX = 3_600_000
TIMEOUT_MS = 2_000
TIMEOUT_MS_MIN = 100
TIMEOUT_MS_MAX = 60_000
STALE_AFTER_MS = 60_000
STALE_AFTER_MS_MIN = 1_000
STALE_AFTER_MS_MAX = 24 * 3_600_000

PER_CHOICES = ("service", "task")
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
URL_CHARACTERS_MAX = 2048
_URL = re.compile(rf"[!-~]{{1,{URL_CHARACTERS_MAX}}}")
QUERY = re.compile(r"(?=\s*\S)[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]{1,4096}")
KEY = re.compile(r"[^\x00-\x1f\x7f]{1,512}")
_STEP = r"(?:[A-Za-z0-9_$-]{1,64}|\[[0-9]{1,6}\])"
JSON_PATH = re.compile(rf"{_STEP}(?:\.[A-Za-z0-9_$-]{{1,64}}|\[[0-9]{{1,6}}\]){{0,20}}")
FILE = re.compile(r"/[^\x00-\x1f\x7f]{1,1023}")

_DATABASE = re.compile(r"(?:/[0-9]{0,4})?")
_PASSWORD = re.compile(r"//[^/?#]*:[^/?#]+@")
_HTTP = ("http", "https")
_REDIS = ("redis", "rediss")
SCHEMES = {"prometheus": _HTTP, "redis": _REDIS, "json": _HTTP}
_TIMES = ("every", "timeout", "stale_after")

PROMETHEUS_SHAPE = Shape(
    ("prometheus", "query", *_TIMES, "password_file", "token_file"),
    ("prometheus", "query"),
    '{prometheus: "http://prometheus:9090", query: "sum(jobs_waiting)"}',
)
REDIS_SHAPE = Shape(
    ("redis", "list", "stream", *_TIMES, "password_file"),
    ("redis",),
    '{redis: "redis://queue:6379/0", list: jobs}',
)
JSON_SHAPE = Shape(
    ("json", "path", *_TIMES, "password_file", "token_file"),
    ("json", "path"),
    '{json: "http://shop:8080/stats", path: "queues[0].length"}',
)
SHAPES = {"prometheus": PROMETHEUS_SHAPE, "redis": REDIS_SHAPE, "json": JSON_SHAPE}
REDIS_KEYS = ("list", "stream")
_KINDS = Kinds("source", tuple(SHAPES), REDIS_SHAPE.example, {})
_NAME_HINT = "lower case, digits and dashes, 63 at most, such as jobs"


@dataclass(frozen=True, slots=True)
class SourceNames:
    """The names that rules can use; not `complete` if some could not be read."""

    names: tuple[str, ...]
    complete: bool


class SourceReader:
    """Reads the sources of one file after the other; a name may occur once in all of them."""

    def __init__(self, notes: Notes) -> None:
        self.sources: list[Source] = []
        self._notes = notes
        self.places: dict[str, str] = {}
        # A file that could not be had may define any.
        self._complete = not len(notes)

    @property
    def names(self) -> SourceNames:
        """The names known so far."""
        return SourceNames(tuple(sorted(self.places)), self._complete)

    def miss(self) -> None:
        """Some sources cannot be read: from now on no name is surely unknown."""
        self._complete = False

    def read(self, spot: Spot) -> None:
        """Add the sources of one file."""
        noted = len(self._notes)
        found = open_names(spot, "a name", NAME, _NAME_HINT, f"{{jobs: {REDIS_SHAPE.example}}}")
        if len(self._notes) > noted:
            self.miss()
        for name, each in found.items():
            if name in self.places:
                each.note(f"the name {name} is taken", f"by {self.places[name]}")
                continue
            self.places[name] = f"{each.file}:{each.node.line}:{each.node.column}"
            self.sources.append(_source(name, each))
        if len(self.places) > SOURCES_MAX:
            spot.note(f"{len(self.places)} sources are too many", f"at most {SOURCES_MAX}")


def source_name(spot: Spot | None, known: SourceNames) -> str:
    """The name of a source; "" if the key is absent, or, noted, if there is no such source."""
    if spot is None:
        return ""
    node = spot.node
    if not isinstance(node, Scalar) or node.kind is Kind.NOTHING:
        spot.note(f"{described(node)} is not the name of a source", "such as jobs")
        return ""
    if node.text in known.names or not known.complete:
        return node.text
    hint = suggestion(node.text, known.names) if known.names else "name it under sources:"
    spot.note(f"unknown source {shown(node.text)}", hint)
    return ""


def read_per_task(fields: Fields) -> bool:
    """Whether a source's figure is divided among the tasks of the service."""
    return fields.word("per", "way to divide", PER_CHOICES) == "task"


def _source(name: str, spot: Spot) -> Source:
    """The source at this spot; a stand-in, if it cannot be told what it is."""
    kind = _KINDS.of(spot)
    fields = open_map(spot, SHAPES[kind]) if kind else None
    if kind is None or fields is None:
        return Source(name, "", (), 0, 0, 0)
    what, options = _READERS[kind](fields)
    url = _url(fields.spot(kind), SCHEMES[kind], has_query=kind == "json")
    options |= {"url": url, **_secrets(fields, url)}
    every_ms, timeout_ms, stale_after_ms = _times(fields)
    return Source(name, what, tuple(sorted(options.items())), every_ms, timeout_ms, stale_after_ms)


def _prometheus(fields: Fields) -> tuple[str, dict[str, str]]:
    query = fields.text("query", "a query", QUERY, 'such as "sum(jobs_waiting)"')
    return "prometheus", {"query": query.strip()}


def _redis(fields: Fields) -> tuple[str, dict[str, str]]:
    key = fields.exactly_one(REDIS_KEYS, "there is no key to measure") or "list"
    return f"redis_{key}", {"key": fields.text(key, f"the key of a {key}", KEY, "such as jobs")}


def _json(fields: Fields) -> tuple[str, dict[str, str]]:
    hint = 'names and places, such as "queues[0].length"'
    return "json", {"path": fields.text("path", "a path to a number", JSON_PATH, hint)}


_READERS = {"prometheus": _prometheus, "redis": _redis, "json": _json}


def _url(spot: Spot | None, schemes: tuple[str, str], *, has_query: bool) -> str:
    if spot is None:
        return ""
    node = spot.node
    example = f"such as {schemes[0]}://host:{6379 if schemes[0] == 'redis' else 8080}"
    if not isinstance(node, Scalar) or node.kind is not Kind.TEXT:
        spot.note(f"{described(node)} is not a URL", example)
        return ""
    # Not shown: it would end in a log. The search is quadratic in the length.
    if len(node.text) <= URL_CHARACTERS_MAX and _PASSWORD.search(node.text):
        spot.note("the URL holds a password", "put it into a file, and name that as password_file")
        return ""
    mistake = _url_mistake(node.text, schemes, has_query=has_query)
    if mistake is None:
        return node.text
    what, hint = mistake
    spot.note(what, hint or example)
    return ""


def _url_mistake(text: str, schemes: tuple[str, str], *, has_query: bool) -> tuple[str, str] | None:
    """What is wrong with a URL, and a hint, "" where an example says it best."""
    parts = _split(text)
    if parts is None or not text.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        return f"{_harmless(text)} is no {schemes[0]} URL", ""
    if parts.fragment or (parts.query and not has_query):
        return f"{_harmless(text)} goes on after its path", "end it before ? or #"
    if schemes is _REDIS and not _DATABASE.fullmatch(parts.path):
        return f"{quoted(parts.path)} is not a database", "a number, such as /0"
    return None


def _harmless(url: str) -> str:
    """A URL in a message, without what may be a secret in it."""
    without_query = re.sub(r"[?#].*", "", url)
    return quoted(re.sub(r"^([a-z]+://)?.*@", r"\1...@", without_query))


def _split(text: str) -> SplitResult | None:
    """The parts of a URL with a host and a possible port; None if it is none."""
    if not _URL.fullmatch(text):
        return None
    try:
        parts = urlsplit(text)
        is_whole = parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if is_whole else None


def _secrets(fields: Fields, url: str) -> dict[str, str]:
    """The files that hold what proves who asks."""
    password, token = fields.spot("password_file"), fields.spot("token_file")
    if password is not None and token is not None:
        token.note("a token beside a password", "one of password_file, token_file")
    if password is not None and url.startswith("http") and not urlsplit(url).username:
        password.note("a password of nobody", "name the user in the URL: http://user@host")
    found = {
        key: fields.text(key, "a file", FILE, f"such as /run/secrets/{key.partition('_')[0]}")
        for key in ("password_file", "token_file")
    }
    return {key: file for key, file in found.items() if file}


def _times(fields: Fields) -> tuple[int, int, int]:
    """How often it is read, how long that may take, how long a value counts; in ms."""
    noted = fields.noted
    every_ms = fields.duration("every", least_ms=EVERY_MS_MIN, most_ms=EVERY_MS_MAX) or EVERY_MS
    timeout_ms = (
        fields.duration("timeout", least_ms=TIMEOUT_MS_MIN, most_ms=TIMEOUT_MS_MAX) or TIMEOUT_MS
    )
    stale_after_ms = (
        fields.duration("stale_after", least_ms=STALE_AFTER_MS_MIN, most_ms=STALE_AFTER_MS_MAX)
        or STALE_AFTER_MS
    )
    if fields.noted == noted:
        _refuse_overlap(fields, every_ms, timeout_ms)
        _refuse_gap(fields, every_ms, stale_after_ms)
    return every_ms, timeout_ms, stale_after_ms


def _refuse_overlap(fields: Fields, every_ms: int, timeout_ms: int) -> None:
    spot = fields.spot("timeout") or fields.spot("every")
    if spot is not None and timeout_ms > every_ms:
        every, timeout = format_duration(every_ms), format_duration(timeout_ms)
        spot.note(
            f"a timeout of {timeout} is longer than every {every}", f"give it {every} at most"
        )


def _refuse_gap(fields: Fields, every_ms: int, stale_after_ms: int) -> None:
    """Note a value that goes stale before the next one can come."""
    spot = fields.spot("stale_after") or fields.spot("every")
    if spot is not None and stale_after_ms <= every_ms:
        every, stale = format_duration(every_ms), format_duration(stale_after_ms)
        hint = "give a longer stale_after"
        spot.note(f"a value is stale after {stale}, and the next comes after {every}", hint)
