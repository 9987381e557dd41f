"""Text that only the holder of a key can have made: what links carry, and no one can alter.

    v1.<key id>.<flow>.<wait>.<action>.<expires>.<nonce>.<says>.<HMAC-SHA256 of all before>

Each has one spelling: the signature is compared as text, and covers everything before it. Requests with a
link are counted by its signature, so it must not be possible to respell one. That is why this is not a
`Signer` of itsdangerous, which decodes a signature before it compares it, and so accepts several spellings of
each.
"""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING, Final

import msgspec

from ...actors.runtime.primitives import new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .keys import KeyRing, SigningKey

LENGTH_MAX: Final = 4096
"""How long a token may be: longer ones are refused before they are looked at."""

_LINK: Final = "v1"
_DONE: Final = "d1"


class Claim(msgspec.Struct, frozen=True):
    """What a link says: this action, for the n-th wait of this flow for this signal, until then.

    `expires_at` is in seconds since the epoch, UTC.
    """

    flow_id: str
    signal: str
    wait: int
    action: str
    expires_at: int
    says: str = ""

    def token(self, keys: KeyRing) -> str:
        """Sign it with the newest key. All tokens differ. Raises ValueError: it would be too long."""
        wait = _encode(f"{self.wait}:{self.signal}")
        parts = (_encode(self.flow_id), wait, self.action, str(self.expires_at), new_id(), _encode(self.says))
        token = sign(keys, _LINK, parts)
        if len(token) > LENGTH_MAX:
            raise ValueError(f"the link would be {len(token)} characters long; the limit is {LENGTH_MAX}")
        return token

    @classmethod
    def of(cls, keys: KeyRing, token: str) -> Claim | None:
        """Read a token; None: none of the keys has signed it."""
        try:
            flow, wait, action, expires_at, _nonce, says = verify(keys, _LINK, token)
            number, _, signal = _decode(wait).partition(":")
            return cls(_decode(flow), signal, int(number), action, int(expires_at), _decode(says))
        except ValueError:
            return None


class DonePage(msgspec.Struct, frozen=True):
    """That an action was done, for the page that says so. It does not name the flow.

    Instants are in seconds since the epoch, UTC.
    """

    action: str
    at: int
    expires_at: int

    def token(self, keys: KeyRing) -> str:
        return sign(keys, _DONE, (self.action, str(self.at), str(self.expires_at)))

    @classmethod
    def of(cls, keys: KeyRing, token: str) -> DonePage | None:
        """Read a token; None: none of the keys has signed it."""
        try:
            action, at, expires_at = verify(keys, _DONE, token)
            return cls(action, int(at), int(expires_at))
        except ValueError:
            return None


def sign(keys: KeyRing, version: str, parts: Sequence[str]) -> str:
    """Sign parts, which contain no dots, with the newest key."""
    key = keys.keys[0]
    body = ".".join((version, key.id, *parts))
    return f"{body}.{_mac(key, body)}"


def verify(keys: KeyRing, version: str, text: str) -> list[str]:
    """Return the parts of what one of the keys has signed; [] for everything else.

    Nothing of the text is trusted, or decoded, before its signature has been checked. That takes the same
    time whatever is wrong with it.
    """
    if len(text) > LENGTH_MAX or not text.isascii():
        return []
    body, _, given = text.rpartition(".")
    parts = body.split(".")
    accepted = keys.keys
    named = next((key for key in accepted if parts[1:2] == [key.id]), None)
    fits = hmac.compare_digest(_mac(named or accepted[0], body), given)
    return parts[2:] if fits and named is not None and parts[0] == version else []


def _mac(key: SigningKey, body: str) -> str:
    return _base64(hmac.digest(key.secret, body.encode(), "sha256"))


def _encode(text: str) -> str:
    return _base64(text.encode())


def _decode(part: str) -> str:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True).decode()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
