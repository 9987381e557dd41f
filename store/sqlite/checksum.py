"""Checksums: a chain through the records of a stream, and a seal on each row that can change.

A link of the chain covers the link before it, so it reveals a record that was altered, moved, swapped or
removed. Both detect accidents, not forgery: anyone who can write the file can also compute them.
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
    """Return the start of a stream's chain: from its name, so that records cannot move to another stream."""
    return hashlib.blake2b(stream.encode(), digest_size=LINK_SIZE).digest()


def link(before: bytes, version: int, at: int, kind: bytes, data: bytes) -> bytes:
    """Return the link of one record; `kind` is `framed`."""
    return hashlib.blake2b(before + _NUMBERS.pack(version, at) + kind + data, digest_size=LINK_SIZE).digest()


def is_linked(chain: bytes, before: bytes, record: tuple[int, int, bytes, bytes]) -> bool:
    """Return whether a record's chain is its link; in a damaged file, columns may have any type."""
    try:
        return chain == link(before, *record)
    except (TypeError, struct.error):
        return False


def framed(text: str) -> bytes:
    """Encode a text with its length before it, so that it cannot run into what follows."""
    encoded = text.encode()
    return _LENGTH.pack(len(encoded)) + encoded


def seal(fields: str, data: bytes | None = b"") -> int:
    """Return the checksum of a row, which fits in four bytes; `fields` are its columns in one text.

    A row without its data is damaged: it gets a checksum that no row can hold.
    """
    if data is None:
        return _NO_CHECKSUM
    return zlib.crc32(data, zlib.crc32(fields.encode())) - _SIGNED_32


def header_seal(name: str, kind: str, status: str, numbers: tuple[int | None, ...]) -> int:
    """Return the checksum of a stream's row; it covers words by their text, not by their number."""
    return seal(f"{name}\0{kind}\0{status}\0{numbers}")


def signal_seal(stream: int, entry: InboxEntry) -> int:
    """Return the checksum of a signal's row; `stream` is the number of its stream."""
    return seal(f"{stream}\0{entry.id}\0{entry.at}\0{entry.name}\0{entry.key}", entry.data)


def dead_letter_seal(signal: int, at: int, reason: str) -> int:
    """Return the checksum of a dead letter's row; the signal has its own."""
    return seal(f"{signal}\0{at}\0{reason}")
