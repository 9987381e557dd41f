"""A store as text: one JSON value a line, so that it can be read, compared and kept.

    {"format":"persistasaurus.export","version":1}
    {"flow":"signup-ada","type":"signup","status":"waiting","state":"open","records":2,"signals":1,"chain":…}
    {"version":1,"at":1760000000000000,"kind":"flow_started","data":{…}}
    {"version":2,"at":1760000000000042,"kind":"signal_awaited","data":{…}}
    {"signal":"confirm","key":"mail-1","at":1760000000000077,"data":[…]}
    {"end":{"flows":1,"records":2,"signals":1},"sha256":"…"}

- Flows come in the order of their creation, each with its records, then its signals in the order of their
  arrival. Event-sourced actors are flows of their own type here.
- Instants are microseconds since the epoch, UTC. `wake_at` is the alarm that the flow has set.
- A payload keeps its bytes: as `data` if it is a JSON value on one line, else as `text` if it is UTF-8, else
  as `base64`.
- A signal that no longer waits has `settled`, the version at which it was consumed or given up. A dead letter
  has `dead`, with instant and reason.
- `chain` is the checksum of the last record, over all before it. `sha256` is over all lines before the last
  one, as `head -n -1 FILE | sha256sum` computes it. The same content gives the same bytes.
"""

from __future__ import annotations

import base64
import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

FORMAT: Final = "persistasaurus.export"
VERSION: Final = 1
DEPTH_MAX: Final = 220
"""Deeper than any event; deeper payloads are written as text, and never read as JSON."""

Instant = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, Meta(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
"""The name of a flow, a signal or a kind, which fits in one line."""


class Line(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all lines."""


class FirstLine(Line, frozen=True):
    """Identifies the format."""

    format: str
    version: int


class FlowLine(Line, frozen=True):
    """Announces a flow."""

    flow: Name
    type: Name
    status: Name
    state: Literal["open", "held", "ended", "failed"]
    records: Count
    signals: Count
    chain: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    wake_at: Instant | None = None


class Payload(Line, frozen=True, kw_only=True):
    """Base of lines with bytes, in one of three forms."""

    data: Raw | UnsetType = UNSET
    text: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET

    def payload(self) -> bytes:
        """Return the bytes.

        Raises:
            ValueError: there is not exactly one form of them, or it is not valid.
        """
        match self.data, self.text, self.base64:
            case Raw() as data, UnsetType(), UnsetType():
                return bytes(data)
            case UnsetType(), str() as text, UnsetType():
                return text.encode()
            case UnsetType(), UnsetType(), str() as encoded:
                return base64.b64decode(encoded, validate=True)
            case _:
                raise ValueError("one of `data`, `text` and `base64` is expected")


class RecordLine(Payload, frozen=True):
    """A record of the last announced flow."""

    version: Count
    at: Instant
    kind: Name


class SignalLine(Payload, frozen=True):
    """A signal of the last announced flow."""

    signal: Name
    key: Name
    at: Instant
    settled: Count | None = None
    dead: tuple[Instant, str] | None = None


class Counts(Line, frozen=True):
    """The numbers of flows, records and signals."""

    flows: Count
    records: Count
    signals: Count


class LastLine(Line, frozen=True):
    """Confirms that nothing is missing or changed."""

    end: Counts
    sha256: str


encode: Final = msgspec.json.encode
_decode_any: Final = msgspec.json.Decoder().decode
_SPACE: Final = 0x20

_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKETS: Final = re.compile(rb"[\[\]{}]")


def form(data: bytes) -> dict[str, Any]:
    """Return a payload as the field of its line, in the first form that fits."""
    if _is_value(data):
        return {"data": Raw(data)}
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _is_value(data: bytes) -> bool:
    """Return whether the bytes are a JSON value that fits in a line unchanged."""
    if not data or data[0] <= _SPACE or data[-1] <= _SPACE or b"\n" in data or b"\r" in data:
        return False
    if is_too_deep(data, DEPTH_MAX - 1):
        return False
    try:
        _decode_any(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True


def is_too_deep(data: bytes, limit: int = DEPTH_MAX) -> bool:
    """Return whether JSON is nested deeper than `limit`, without decoding, which could exhaust a stack."""
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    level = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        level += 1 if bracket in b"[{" else -1
        if level > limit:
            return True
    return False
