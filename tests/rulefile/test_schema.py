"""The JSON Schema says of a file what the reader says, as far as a schema can."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from autoheal.rulefile import RuleFileError, parse, schema
from autoheal.rulefile.mistakes import Notes
from autoheal.rulefile.tree import Items, Kind, Map, Node, Refused, read_tree
from autoheal.units import parse_size
from rulefile.growing import Growth

ROOT = Path(__file__).parents[2]
PACKS = sorted(
    file for file in (ROOT / "rules").glob("*.yaml") if not file.name.endswith(".test.yaml")
)
PAGE = (ROOT / "docs" / "rules.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
DOCUMENT = schema.document()
VALIDATOR = Draft202012Validator(DOCUMENT)


def value(node: Node) -> Any:  # noqa: ANN401  # any JSON
    """What a tree means to whoever knows JSON only."""
    assert not isinstance(node, Refused)
    if isinstance(node, Map):
        return {key.text: value(each) for key, each in node.entries}
    if isinstance(node, Items):
        return [value(each) for each in node.nodes]
    return SCALARS[node.kind](node.text)


SCALARS: dict[Kind, Callable[[str], object]] = {
    Kind.TEXT: str,
    Kind.WHOLE: lambda text: int(text[:4000]),  # Python reads no more digits
    Kind.REAL: float,
    Kind.TRUTH: lambda text: text.lower() == "true",
    Kind.NOTHING: lambda _: None,
}


def is_valid(text: str) -> bool:
    node = read_tree("x.yaml", text.encode(), notes := Notes())
    assert node is not None
    assert not len(notes)
    return VALIDATOR.is_valid(value(node))


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema.document())


@pytest.mark.parametrize("block", BLOCKS)
def test_each_example_in_the_documentation_is_valid(block: str) -> None:
    assert is_valid(block)


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.name)
def test_each_shipped_pack_is_valid_and_names_the_schema(pack: Path) -> None:
    text = pack.read_text()
    assert is_valid(text)
    first = text.partition("\n")[0]
    modeline = re.fullmatch(r"# yaml-language-server: \$schema=(.+)", first)
    assert modeline is not None
    assert (pack.parent / modeline[1]).read_text() == schema.text()


def test_the_command_prints_the_schema_that_ships() -> None:
    command = [sys.executable, "-m", "autoheal", "schema"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == (ROOT / "rules" / "schema.json").read_text()
    assert json.loads(printed) == schema.document()


BAD = Path(__file__).parent / "bad"


def readable(file: Path) -> Node | None:
    """The tree of a bad file, if what is wrong with it is not its YAML."""
    node = read_tree(file.name, file.read_bytes(), notes := Notes())
    return None if len(notes) else node


BAD_FILES = [file for file in sorted(BAD.glob("*.yaml")) if readable(file)]

# What a schema cannot tell, by what it would take to see it: the bad files that it lets pass.
BEYOND = {
    "how long, or how large": """
        ahead-too-long ahead-too-short clears-within-too-long clears-within-zero
        cooldown-too-long for-too-long keep-firing-too-long limit-per-too-long
        limit-per-too-short over-more-than-a-day over-unprintable over-zero policy-per-too-long
        policy-per-too-short raise-max-below-docker raise-max-too-large raise-max-unprintable
        source-every-too-long source-every-too-short source-stale-too-long
        source-stale-too-short source-timeout-too-long source-timeout-too-short
        stabilization-too-long
    """,
    "a key that stands there twice: JSON keeps the last": """
        comparison-duplicate duplicate-key-in-source duplicate-key-of-file duplicate-key
        match-label-twice source-twice
    """,
    "what is first, how deep, how many in all": """
        condition-kind-not-first conditions-too-deep conditions-too-many source-kind-not-first
        target-kind-not-first
    """,
    "what is within a text or a number": """
        day-range-of-one exit-code-range-inverted exit-code-range-too-large
        source-password-in-url source-password-with-slash source-url-brackets
        source-url-database source-url-fragment source-url-port source-url-query
        source-url-redis-password-query source-url-without-host threshold-too-large
        version-one-point-zero zone-city zone-local zone-misspelt zone-offset zone-path
        zone-unknown
    """,
    "what stands elsewhere": """
        day-twice-in-range day-twice name-taken source-default-stale-before-next
        source-default-timeout-longer-than-every source-nearly source-not-defined
        source-password-of-nobody source-stale-before-next source-timeout-longer-than-every
        source-unknown target-metric-twice target-source-twice target-source-unknown
        track-min-above-max
    """,
    "what it would mean": """
        event-above-less-than-none event-at-least-none event-not-below-none hours-same
        raise-at-no-kill raise-at-not-below-none raise-killed-or-not raise-not-killed
        raise-nothing raise-without-kill schedule-always schedule-never source-raise-memory
    """,
}
LET_PASS = {name for names in BEYOND.values() for name in names.split()}


@pytest.mark.parametrize("file", BAD_FILES, ids=lambda file: file.stem)
def test_a_bad_file_is_invalid_unless_no_schema_could_tell(file: Path) -> None:
    node = readable(file)
    assert node is not None
    assert VALIDATOR.is_valid(value(node)) is (file.stem in LET_PASS)


def test_most_of_what_is_refused_is_invalid() -> None:
    assert {file.stem for file in BAD_FILES} >= LET_PASS
    assert len(LET_PASS) < len(BAD_FILES) / 4


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.02, 0.1]))
def test_the_schema_refuses_nothing_that_is_read(seed: int, slips: float) -> None:
    document = Growth(seed, slips).document()
    try:
        parse({"x.yaml": json.dumps(document).encode()})
    except RuleFileError:
        return
    assert VALIDATOR.is_valid(document)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rules: []", True),
        ("version: 1\nsources: {jobs: {redis: 'redis://q', stream: s}}", True),
        ("version: 1", False),
        ("rules: {}", False),
        ("rules:", False),
    ],
)
def test_a_file_has_rules_or_sources(text: str, *, expected: bool) -> None:
    assert is_valid(text) is expected


@settings(deadline=None)
@given(st.text("0123456789 msdh.-٣", max_size=8))
def test_a_duration_is_one_for_both(text: str) -> None:
    pattern = DOCUMENT["$defs"]["rule"]["properties"]["for"]["pattern"]
    rule = "{name: a, when: {event: died, over: 1m, above: 0}, then: {action: escalate}, for: %s}"
    try:
        parse({"x.yaml": (f"rules: [{rule}]" % json.dumps(text)).encode()})
    except RuleFileError as error:
        refused = "is not a duration" in str(error)
    else:
        refused = False
    assert bool(re.search(pattern, text)) is not refused


@settings(deadline=None)
@given(st.from_regex(r"[0-9]{1,2}(\.[0-9])? ?([KMGT]?i?B)?", fullmatch=True))
def test_a_size_is_one_for_both(text: str) -> None:
    pattern = DOCUMENT["$defs"]["raise_memory"]["properties"]["max"]["pattern"]
    try:
        parse_size(text)
    except ValueError:
        assert not re.search(pattern, text)
    else:
        assert re.search(pattern, text)
