"""One YAML document as a tree of nodes that know where they stand.

ruamel.yaml parses; the tree is built from its events, because that is where aliases and tags still
show. Scalars are told apart by the core schema of YAML 1.2 (10.3.2), less its octal and hexadecimal
numbers: `on`, `22:00` and `2024-01-01` are texts. The few patterns are ours, so that a stored text
means the same under every version of ruamel.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from autoheal.rulefile.mistakes import Mistake, Notes, quoted, shortened

TEXT_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 20
_YAML_VERSION = (1, 2)


class Kind(Enum):
    """What a scalar is."""

    TEXT = "text"
    WHOLE = "whole number"
    REAL = "number"
    TRUTH = "true or false"
    NOTHING = "nothing"


_PLAIN_KINDS = (
    (re.compile(r"|~|null|Null|NULL"), Kind.NOTHING),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), Kind.TRUTH),
    (re.compile(r"[-+]?[0-9]+"), Kind.WHOLE),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), Kind.REAL),
)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value; `text` is what was written, without quotes."""

    line: int
    column: int
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Map:
    """Keys and values in the order written; duplicates are still in it.

    `complete` is False where an entry was refused: then an absent key says nothing.
    """

    line: int
    column: int
    entries: tuple[tuple[Scalar, Node], ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    line: int
    column: int
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """What stands here has been noted as a mistake already."""

    line: int
    column: int


Node = Scalar | Map | Items | Refused


def described(node: Node) -> str:
    """A value in a message."""
    match node:
        case Map():
            return "a map"
        case Items():
            return "a list"
        case Scalar(kind=Kind.TEXT):
            return quoted(node.text)
        case Scalar(kind=Kind.NOTHING):
            return "an empty value"
        case Scalar():
            return shortened(node.text)
        case Refused():
            return "a refused value"


def read_tree(file: str, text: bytes, notes: Notes) -> Node | None:
    """The document in the text; None if it cannot be read at all, which is then noted."""
    if len(text) > TEXT_BYTES_MAX:
        notes.add(Mistake(file, 1, 1, "the file is larger than 1 MiB", "split it"))
        return None
    try:
        characters = text.decode()
    except UnicodeDecodeError as error:
        before = text[: error.start].decode()
        notes.add(_at_end_of(file, before, "this is not UTF-8", "save the file as UTF-8"))
        return None
    return _Document(file, characters, notes).read()


class _Unreadable(Exception):  # noqa: N818  # not an error to anyone: it only ends the reading
    """The rest of the document cannot be read; why has been noted."""


class _Document:
    """Builds the tree of one document from the parser's events."""

    def __init__(self, file: str, text: str, notes: Notes) -> None:
        self._file = file
        self._text = text
        self._notes = notes
        self._events: Iterator[Event] = YAML(typ="safe", pure=True).parse(text)
        self._line = self._column = 1  # of the last event

    def read(self) -> Node | None:
        try:
            return self._document()
        except _Unreadable:
            return None

    def _document(self) -> Node | None:
        self._next()  # the start of the stream
        start = self._next()
        if not isinstance(start, DocumentStartEvent):
            self._note("the file is empty", "begin with rules:")
            return None
        if start.version not in (None, _YAML_VERSION):
            self._note("only YAML 1.2 is read", "remove the %YAML line")
        root = self._node(self._next(), depth=1)
        self._next()  # the end of the document
        if not isinstance(self._next(), StreamEndEvent):
            self._note("a second document begins here", "one document per file")
        return root

    def _node(self, event: Event, depth: int) -> Node:
        line, column = self._line, self._column
        if isinstance(event, ScalarEvent | CollectionStartEvent):
            self._refuse_properties(event)
        if depth > DEPTH_MAX:
            self._note("this is nested too deeply", f"at most {DEPTH_MAX} levels")
            raise _Unreadable
        match event:
            case ScalarEvent():
                return Scalar(line, column, _kind(event), event.value)
            case SequenceStartEvent():
                return Items(line, column, tuple(self._nodes(depth)))
            case MappingStartEvent():
                return self._map(line, column, depth)
            case _:  # an alias: the parser gives nothing else here
                hint = "write the value out; a text that begins with * needs quotes"
                self._note("aliases are not allowed", hint)
                return Refused(line, column)

    def _nodes(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := self._next(), SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _map(self, line: int, column: int, depth: int) -> Map:
        entries: list[tuple[Scalar, Node]] = []
        complete = True
        while not isinstance(event := self._next(), MappingEndEvent):
            key = self._key(event, depth + 1)
            value = self._node(self._next(), depth + 1)
            if key is None:
                complete = False
            else:
                entries.append((key, _in_sight(value, key)))
        return Map(line, column, tuple(entries), complete)

    def _key(self, event: Event, depth: int) -> Scalar | None:
        """The key, or None if it was refused."""
        if isinstance(event, ScalarEvent) and event.value == "<<" and event.implicit[0]:
            self._note("merge keys are not allowed", "write the keys out")
            return None
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            self._note("a key must be a word", "quote a text that begins with { or [")
        key = self._node(event, depth)
        return key if isinstance(key, Scalar) else None

    def _refuse_properties(self, event: ScalarEvent | CollectionStartEvent) -> None:
        if event.anchor is not None:
            self._note("anchors are not allowed", "remove the &name; aliases cannot be used either")
        if event.ctag is not None:
            self._note("tags are not allowed", "remove the !name; quote a text that begins with !")

    def _next(self) -> Event:
        try:
            event = next(self._events)
        except ReaderError as error:
            before = self._text[: error.position]
            what = f"the character U+{error.character:04X} is not allowed"
            self._notes.add(_at_end_of(self._file, before, what, "remove it"))
            raise _Unreadable from error
        except MarkedYAMLError as error:
            self._note_syntax(error)
            raise _Unreadable from error
        # The parser lets an escape such as "\U99999999" through to chr().
        except (YAMLError, ValueError, OverflowError) as error:
            self._note("this is not YAML, here or a little further on", "check quotes and escapes")
            raise _Unreadable from error
        self._line, self._column = event.start_mark.line + 1, event.start_mark.column + 1
        return event

    def _note_syntax(self, error: MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        self._line, self._column = mark.line + 1, mark.column + 1
        problem = " ".join(str(error.problem).split())
        context = " ".join(str(error.context or "").split())
        words = f"this is not YAML: {problem} {context}".rstrip()
        self._note(words, _syntax_hint(context, problem))

    def _note(self, what: str, hint: str) -> None:
        self._notes.add(Mistake(self._file, self._line, self._column, what, hint))


def _in_sight(value: Node, key: Scalar) -> Node:
    """The value; if nothing was written, its place is the key's, where the parser says the next."""
    if isinstance(value, Scalar) and value.kind is Kind.NOTHING and not value.text:
        return replace(value, line=key.line, column=key.column)
    return value


def _syntax_hint(context: str, problem: str) -> str:
    if r"'\t'" in problem:
        return "indent with spaces, not tabs"
    if "alias" in context:
        return 'a text that begins with * needs quotes: "*-web"'
    if "cannot start any token" in problem:
        return "quote the text"
    return ""


def _kind(event: ScalarEvent) -> Kind:
    """What a scalar is. `implicit[0]` is the parser's word for 'plain': neither quotes nor tag."""
    if event.implicit[0]:
        for pattern, kind in _PLAIN_KINDS:
            if pattern.fullmatch(event.value):
                return kind
    return Kind.TEXT


def _at_end_of(file: str, before: str, what: str, hint: str) -> Mistake:
    """A mistake at the first character after these."""
    line = before.count("\n") + 1
    return Mistake(file, line, len(before) - (before.rfind("\n") + 1) + 1, what, hint)
