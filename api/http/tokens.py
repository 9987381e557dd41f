"""Bearer tokens: the one beside a store, and named ones from a file.

The file beside a store, `<store>.token`, holds one token, which permits everything. It is made when the
store is first served; guard it like the store itself. A file of named tokens is TOML:

    [tokens.grafana]
    scopes = ["read"]
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

    [tokens.deploy]
    scopes = ["read", "start"]
    token = "pst_..."            # or the token itself, 32 characters at least

Both files must belong to the user that reads them, and be closed to everyone else.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from ...actors.runtime.primitives import new_id
from ...flows.errors import PersistasaurusError
from ..private_file import create_once, read_private
from .middleware.asgi import headers
from .middleware.identity import EVERYTHING, Access, Scope

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from .middleware.asgi import ASGIScope

SHORTEST: Final = 32

_PREFIX: Final = "pst_"
_FORM: Final = re.compile(rf"[A-Za-z0-9\-._~+/]{{{SHORTEST},256}}=*")
_CREDENTIALS: Final = re.compile(rb"bearer +([!-~]{1,512})", re.IGNORECASE)
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_OWNER: Final = "owner"


class TokensUnusable(PersistasaurusError):
    """Tokens that cannot be read or trusted. The message says what to do, and contains no token."""

    code = "tokens-unusable"


class Tokens:
    """An access check by `Authorization: Bearer ...`, and by nothing else. It keeps hashes, not tokens.

    `chosen`: someone configured these tokens. The token that is made beside a store is not chosen, so it is
    valid only on loopback and unix sockets.
    """

    def __init__(self, known: Iterable[tuple[bytes, Access]], *, chosen: bool = True) -> None:
        self._known = tuple(known)
        self.chosen = chosen

    def __repr__(self) -> str:
        return f"Tokens({', '.join(access.name for _, access in self._known)})"

    def __call__(self, scope: ASGIScope) -> Access | None:
        """Return whose token a request carries; None: it is unknown, malformed, missing or repeated."""
        given = headers(scope, b"authorization")
        match = _CREDENTIALS.fullmatch(given[0].strip()) if len(given) == 1 else None
        return self._find(match[1]) if match else None

    def _find(self, token: bytes) -> Access | None:
        digest, found = hashlib.sha256(token).digest(), None
        for known, access in self._known:
            # All of them, each time, so that the time taken reveals nothing.
            if hmac.compare_digest(known, digest):
                found = access
        return found

    @classmethod
    def of(cls, tokens: Mapping[str, Access]) -> Tokens:
        """Take tokens from a program.

        Raises:
            TokensUnusable: there are none, or one could be guessed or cannot be sent.
        """
        return cls(_distinct((_digest(token, access.name), access) for token, access in tokens.items()))

    @classmethod
    def beside(cls, store: str | os.PathLike[str]) -> Tokens:
        """Take the token of a store from `<store>.token`, which is made if it does not exist.

        Processes that start at the same time get the same one.

        Raises:
            TokensUnusable: the file, or its folder, is open to others.
        """
        path = token_path(store)
        try:
            create_once(path, new_token() + "\n")
            token = read_private(path).strip()
        except OSError as error:
            raise TokensUnusable(f"cannot use the token in {path}: {_reason(error)}") from error
        return cls([(_digest(token, _OWNER), Access(_OWNER, EVERYTHING))], chosen=False)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Tokens:
        """Take named tokens from a TOML file; the module's documentation shows its form.

        Raises:
            TokensUnusable: the file does not exist, is open to others, or is not of that form.
        """
        try:
            named = msgspec.convert(tomllib.loads(read_private(Path(path))), _TokenFile).tokens
        except OSError as error:
            raise TokensUnusable(f"cannot read the tokens in {path}: {_reason(error)}") from error
        except tomllib.TOMLDecodeError:
            # Its own message may quote a token.
            raise TokensUnusable(f"cannot read the tokens in {path}: it is not TOML") from None
        except msgspec.ValidationError as error:
            raise TokensUnusable(f"cannot read the tokens in {path}: {error}") from None
        return cls(
            _distinct((entry.digest(name), Access(name, entry.scopes)) for name, entry in named.items())
        )


def new_token() -> str:
    """Make a token of 256 random bits."""
    return _PREFIX + new_id() + new_id()


def token_path(store: str | os.PathLike[str]) -> Path:
    """Return where the token of a store is: beside the file that the path resolves to."""
    resolved = Path(store).resolve()
    return resolved.with_name(resolved.name + ".token")


class _NamedToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    scopes: Annotated[frozenset[Scope], msgspec.Meta(min_length=1)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{64}$")] | None = None
    token: str | None = None

    def __post_init__(self) -> None:
        if (self.sha256 is None) == (self.token is None):
            raise ValueError("a token is given by either `sha256` or `token`")

    def __repr__(self) -> str:
        return f"_NamedToken({', '.join(sorted(self.scopes))})"

    def digest(self, name: str) -> bytes:
        return bytes.fromhex(self.sha256) if self.sha256 else _digest(self.token or "", name)


class _TokenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: dict[Annotated[str, msgspec.Meta(pattern=_NAME)], _NamedToken]


def _digest(token: str, name: str) -> bytes:
    if not _FORM.fullmatch(token):
        raise TokensUnusable(
            f"the token {name!r} must have {SHORTEST} characters at least, letters, digits and -._~+/ only"
        )
    return hashlib.sha256(token.encode()).digest()


def _distinct(known: Iterable[tuple[bytes, Access]]) -> list[tuple[bytes, Access]]:
    found = list(known)
    if not found:
        raise TokensUnusable("there must be at least one token")
    if len({digest for digest, _ in found}) < len(found):
        raise TokensUnusable("two names have the same token, so callers could not be distinguished")
    return found


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a symbolic link, and could lead anywhere"
    return error.strerror or str(error)
