"""Names as Docker gives them, from a counter and a seed instead of from chance."""

from __future__ import annotations

from hashlib import blake2b

OBJECT_ID_CHARACTERS = 25
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Identities:
    """Gives out ids that never repeat, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._given = 0

    def object_id(self) -> str:
        """Swarm's form, for a service, a task or a node: 25 characters."""
        number = int.from_bytes(self._next(), "big")
        digits = []
        for _ in range(OBJECT_ID_CHARACTERS):
            number, digit = divmod(number, len(_DIGITS))
            digits.append(_DIGITS[digit])
        return "".join(digits)

    def container_id(self) -> str:
        """Docker's form: 64 hexadecimal characters."""
        return self._next().hex()

    def _next(self) -> bytes:
        self._given += 1
        return blake2b(f"{self._seed}/{self._given}".encode(), digest_size=32).digest()
