"""Checksums: a chain through the records of a stream, and a seal on each row that can change.

A link of the chain covers the link before it, so a record that was altered, moved, swapped or taken out
shows. Both find accidents, not forgers: who can write the file can also compute them.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..contract import InboxEntry

LINK_SIZE: Final = 8

_NUMBERS: Final = struct.Struct(">qq")
_LENGTH: Final = struct.Struct(">I")
_SIGNED_32: Final = 1 << 31
_NO_CHECKSUM: Final = 1 << 63
"""Greater than all integers of SQLite."""


def first_link(stream: str) -> bytes:
    """What the chain of a stream starts from: its name, so that records cannot move to another stream."""
    return hashlib.blake2b(stream.encode(), digest_size=LINK_SIZE).digest()


def link(before: bytes, version: int, at: int, kind: bytes, data: bytes) -> bytes:
    """The link of one record; `kind` as `framed` makes it."""
    return hashlib.blake2b(
        before + _NUMBERS.pack(version, at) + kind + data,
        digest_size=LINK_SIZE,
    ).digest()


def is_linked(chain: bytes, before: bytes, record: tuple[int, int, bytes, bytes]) -> bool:
    """Whether a record's chain is its link; what a damaged file gives for them may be of any type."""
    try:
        return chain == link(before, *record)
    except (TypeError, struct.error):
        return False


def framed(text: str) -> bytes:
    """Encode a text with its length before it, so that it cannot run into what follows."""
    encoded = text.encode()
    return _LENGTH.pack(len(encoded)) + encoded


def seal(fields: str, data: bytes | None = b"") -> int:
    """A checksum of a row, small enough to cost four bytes; `fields` are its columns in one text.

    A row without the data that it must have is a damaged one: its checksum is one that no row can hold.
    """
    if data is None:
        return _NO_CHECKSUM
    return zlib.crc32(data, zlib.crc32(fields.encode())) - _SIGNED_32


def header_seal(name: str, kind: str, status: str, numbers: tuple[int | None, ...]) -> int:
    """The checksum of a stream's row; words count by what they say, not by their number."""
    return seal(f"{name}\0{kind}\0{status}\0{numbers}")


def signal_seal(stream: int, entry: InboxEntry) -> int:
    """The checksum of a signal's row; `stream` is the number of its stream."""
    return seal(f"{stream}\0{entry.id}\0{entry.at}\0{entry.name}\0{entry.key}", entry.data)


def dead_letter_seal(signal: int, at: int, reason: str) -> int:
    """The checksum of a dead letter's row; the signal itself has its own."""
    return seal(f"{signal}\0{at}\0{reason}")
