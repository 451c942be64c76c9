"""Whether two patterns have a text in common is told exactly, as fnmatch reads them."""

import fnmatch
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.lint.globs import intersect

TOKENS = [
    "a",
    "b",
    "*",
    "?",
    "[ab]",
    "[!a]",
    "[!ab]",
    "[a-b]",
    "[!b-c]",
    "[b-a]",
    "]",
    "[",
    "!",
    "-",
]
PATTERNS = st.lists(st.sampled_from(TOKENS), max_size=5).map("".join)
LETTERS = "abcd[]!-"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("web", "web", True),
        ("web", "wob", False),
        ("web", "web2", False),
        ("web*", "web", True),
        ("web-*", "web", False),
        ("web-*", "*-api", True),
        ("web-*", "api-*", False),
        ("*a", "*b", False),
        ("a*", "*a", True),
        ("*x*", "*y*", True),
        ("*", "anything", True),
        ("?", "", False),
        ("", "", True),
        ("", "*", True),
        ("web-?", "web-[0-9]", True),
        ("web-[0-4]", "web-[5-9]", False),
        ("web-[0-5]", "web-[5-9]", True),
        ("web-[!0-9]", "web-[0-9]", False),
        ("web-[!0-8]", "web-[0-9]", True),
        ("[!a]", "[!b]", True),
        ("[!a]", "a", False),
        ("web-[", "web-?", True),
        ("[]a]", "]", True),
        ("[!]a]", "]", False),
        ("[z-a]", "*", False),
        ("[z-a]", "[z-a]", False),
        ("[z-a]*", "*", False),
        ("*[!a]", "b*a", False),
        ("[a-c]", "[!ac]", True),
        ("[a-c]", "[!abc]", False),
        ("[!]", "[!]", True),
        ("[]", "?]", True),
        ("a**b", "ab", True),
        ("Web", "web", False),
    ],
)
def test_patterns_meet_where_a_text_fits_both(one: str, other: str, expected: bool) -> None:
    assert intersect(one, other) is expected
    assert intersect(other, one) is expected


@given(PATTERNS, PATTERNS, st.text(LETTERS, max_size=6))
def test_patterns_that_a_text_fits_are_never_told_apart(one: str, other: str, text: str) -> None:
    if fnmatch.fnmatchcase(text, one) and fnmatch.fnmatchcase(text, other):
        assert intersect(one, other)


@given(st.text(LETTERS, min_size=1, max_size=6), st.data())
def test_two_patterns_made_from_one_text_meet(text: str, data: st.DataObject) -> None:
    assert intersect(loosened(text, data), loosened(text, data))


SHORT = st.lists(st.sampled_from(["a", "b", "*", "?", "[ab]", "[!a]", "[!ab]"]), max_size=3)


@given(SHORT.map("".join), SHORT.map("".join))
def test_patterns_meet_exactly_where_some_text_of_a_few_letters_fits_both(
    one: str, other: str
) -> None:
    texts = ["".join(t) for size in range(7) for t in itertools.product("abc", repeat=size)]
    shared = any(fnmatch.fnmatchcase(t, one) and fnmatch.fnmatchcase(t, other) for t in texts)
    assert intersect(one, other) is shared


def loosened(text: str, data: st.DataObject) -> str:
    """A pattern that the text fits."""
    parts = []
    for letter in text:
        written = letter if letter != "[" else "[[]"
        parts.append(
            data.draw(st.sampled_from([written, "?", "*", "*?", f"[{letter}x]", "*" + written]))
        )
    pattern = "".join(parts)
    return pattern if fnmatch.fnmatchcase(text, pattern) else "*"
