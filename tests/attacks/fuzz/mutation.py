"""Bytes that are nearly right: flipped, cut, doubled, mixed, and nested deeper than anything should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

_PIECES = (
    b"null", b"true", b"1e999", b"NaN", b'""', b"[]", b"{}", b"\\ud800", b"\xff", b"\0", b"\xed\xa0\x80",
    b'"type":', b'"type":"flow_started",', b"9" * 400, b"[" * 5000, b'{"a":' * 5000, b'"' * 3, b"\\", b",",
    b"18446744073709551616", b"-9223372036854775809", b"9999-99-99T99:99:99Z", b"\n",
    b"\r", b"\xe2\x80\xae", b"%%",
)  # fmt: skip


def mutated(rng: Random, corpus: Sequence[bytes]) -> bytes:
    """Change one of the corpus in one to four places."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randint(1, 20)]
            case 2:
                data[at:at] = rng.choice(_PIECES)
            case 3:
                data[at:at] = data[: rng.randint(0, 200)]
            case 4:
                other = rng.choice(corpus)
                data[at:] = other[rng.randrange(len(other) + 1) :]
            case 5:
                data[at : at + 1] = rng.randbytes(rng.randint(1, 4))
            case _:
                del data[at:]
    return bytes(data)
