"""Rule files grown from the language's own schema, with slips in them; the same from a seed.

A document is a value first, then a text: YAML takes JSON for its own. Where a slip falls, something
else stands than the schema asks for.
"""

from __future__ import annotations

import json
import random
import re
from typing import Any

from autoheal.rulefile import schema

DOCUMENT = schema.document()
KINDS = ("metric", "event", "source", "prometheus", "redis", "json")
WORDS: tuple[str, ...] = (
    "jobs",
    "web-*",
    "90s",
    "2m",
    "64MiB",
    "2GiB",
    "mon-fri",
    "sat",
    "22:00-06:00",
    "",
    "1-125",
)
WORDS += (
    "http://me@shop:8080",
    "redis://queue/0",
    "rediss://queue",
    "a[0].b",
    "/run/x",
    "0s",
    "1h",
)
LEVELS_MAX = 8

Part = dict[str, Any]


class Growth:
    """Grows documents; `slips` is how likely each value is to be something else."""

    def __init__(self, seed: int, slips: float) -> None:
        self.chance = random.Random(seed)  # noqa: S311  # a test that repeats
        self.slips = slips

    def document(self) -> Any:  # noqa: ANN401  # any JSON
        """One document."""
        return self._grown(DOCUMENT, 0)

    def text(self) -> bytes:
        """One document as YAML."""
        return json.dumps(self.document(), ensure_ascii=False).encode()

    def _grown(self, part: Part, level: int) -> Any:  # noqa: ANN401  # any JSON
        if self.chance.random() < self.slips:
            return self._anything(level)
        if "$ref" in part:
            return self._grown(DOCUMENT["$defs"][part["$ref"].rpartition("/")[2]], level)
        if part.get("type") == "object":
            return self._map(part, level)
        if part.get("type") == "array":
            many = self.chance.randint(1, 3) if level < LEVELS_MAX else 1
            return [self._grown(part["items"], level + 1) for _ in range(many)]
        for choices in ("oneOf", "anyOf"):
            if choices in part:
                return self._grown(self.chance.choice(part[choices]), level)
        return self._scalar(part)

    def _map(self, part: Part, level: int) -> dict[str, Any]:
        keys = self._keys(part)
        if self.chance.random() < self.slips:
            keys.append(self.chance.choice(("ofer", "action", "metric", "above", "x")))
        self.chance.shuffle(keys)
        keys.sort(key=lambda key: key not in KINDS)  # the kind of a thing is its first key
        properties = part.get("properties", {})
        rest = part.get("additionalProperties") or {}
        return {
            key: self._known(key) or self._grown(properties.get(key, rest), level + 1)
            for key in keys
        }

    def _known(self, key: str) -> str:
        """What the schema cannot know: a name that is free, one that is there; else nothing."""
        names = {"name": f"r{self.chance.randint(0, 999)}", "source": "jobs", "zone": "Asia/Tokyo"}
        return "" if self.chance.random() < self.slips else names.get(key, "")

    def _keys(self, part: Part) -> list[str]:
        if "properties" not in part:
            return ["jobs", *(["mails"] if self.chance.random() < 0.5 else [])]
        required = list(part.get("required", []))
        # Most rules have a condition, and it may be on a source.
        likely = [key for key in ("when", "sources") if key in part["properties"]]
        required += likely if self.chance.random() < 0.8 else []
        for choices in ("oneOf", "anyOf"):
            if choices in part:
                required += self.chance.choice(part[choices]).get("required", [])
        others = [key for key in part["properties"] if self.chance.random() < 0.1]
        return list(dict.fromkeys([*required, *others]))

    def _scalar(self, part: Part) -> Any:  # noqa: ANN401  # any JSON
        if "const" in part:
            return part["const"]
        if "enum" in part:
            return self.chance.choice(part["enum"])
        if part.get("type") in ("integer", "number"):
            least, most = part.get("minimum", 1), part.get("maximum", 1000)
            return self.chance.randint(int(least), int(most))
        fitting = [word for word in WORDS if re.search(part.get("pattern", ""), word)]
        return self.chance.choice(fitting or WORDS)

    def _anything(self, level: int) -> Any:  # noqa: ANN401  # any JSON
        choices: list[Any] = [None, True, 0, -1, 1.5, 10**400, [], {}, *WORDS]
        if level < LEVELS_MAX:
            choices += [[self._anything(level + 1)], {"over": self._anything(level + 1)}]
        return self.chance.choice(choices)
