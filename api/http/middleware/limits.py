"""What one caller may ask of the server: sizes, times and rates, with safe defaults."""

from __future__ import annotations

import msgspec


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of the HTTP API. Sizes are in bytes, times in seconds, rates per second.

    Raises:
        ValueError: a limit that would let nothing through, or anything.
    """

    body_bytes: int = 1024 * 1024
    """The largest body of a request, whatever its framing (413)."""
    head_bytes: int = 32 * 1024
    """The largest request line with all headers (431; 400 if it has not ended by then)."""
    headers: int = 100
    """How many headers a request may have (431)."""
    head_seconds: float = 10
    """From the first byte of a request to the end of its headers (408). Enforced by `serve`."""
    idle_seconds: float = 15
    """How long a connection without a request is kept open. Enforced by `serve`; like `head_seconds`, not on
    a unix socket, where a connection that has never sent a request may stay."""
    body_seconds: float = 20
    """From the headers to the end of the body (408)."""
    request_seconds: float = 60
    """From the headers to the last byte of the answer (503). Streams have no such limit."""
    write_seconds: float = 30
    """How long a client may read nothing of an answer that waits for it. Enforced by `serve`."""
    drain_seconds: float = 10
    """How long requests in progress may take after the server was asked to stop. Enforced by `serve`."""
    connections: int = 512
    """Open connections. When there are as many, one without a request is closed to make room; when all have
    one, the next is refused (503). Enforced by `serve`; a server of one's own needs a limit of its own."""
    streams: int = 16
    """Server-sent events that are open at once, for each caller (429)."""
    in_flight: int = 256
    """Requests that are being answered at once, streams and long polls among them, for each caller (429)."""
    caller_rate: float = 1000
    """Requests of each token (429)."""
    caller_burst: int = 2000
    """Requests of each token at once, after a pause."""
    stranger_rate: float = 20
    """Requests without a valid token from each address, or IPv6 network of 64 bits; and with each genuine
    link from all addresses (429). `/health` is not counted."""
    stranger_burst: int = 200
    """Requests without a valid token at once, after a pause."""
    flow_signal_rate: float = 10
    """Signals to one flow from all callers (429)."""
    flow_signal_burst: int = 100
    """Signals to one flow at once, after a pause."""
    remembered: int = 10_000
    """Callers, addresses and flows whose rates are kept in memory; the least recently used go first."""

    def __post_init__(self) -> None:
        """Refuse what is not a limit."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"the limit {name} must be a number above zero, not {value}")
