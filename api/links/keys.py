"""The keys that links are signed with: the newest one signs, all are accepted.

They are in a file beside the store, `<store>.keys`, one a line, the newest first:

    a1b2c3d4 Zm9yIGV4YW1wbGUgb25seSwgbm90IGEgcmVhbCBrZXk

`rotate` adds a new one in front. Once the links of an old one have expired, or at once when it may have
leaked, `remove` it or delete its line: its links are invalid from then on, even in a running process.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...actors.runtime.primitives import new_id
from ...flows.errors import PersistasaurusError
from ..private_file import create_once, locked, read_private, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

__all__ = ["KeyFile", "KeyRing", "KeysUnusable", "SigningKey"]

KEY_BYTES: Final = 32
_MOST: Final = 100
_MEMORY: Final = ":memory:"


class KeysUnusable(PersistasaurusError):
    """Keys that cannot be read or trusted. The message says what to do, and contains no key."""

    code = "keys-unusable"


class SigningKey:
    """32 secret bytes, and the id by which a link names them."""

    __slots__ = ("id", "secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise KeysUnusable(f"a key has {KEY_BYTES} random bytes, not {len(secret)}")
        self.secret = secret
        self.id = hashlib.blake2b(secret, digest_size=4, person=b"persistas keyid").hexdigest()

    @classmethod
    def fresh(cls) -> SigningKey:
        return cls(bytes.fromhex(new_id() + new_id()))

    def __repr__(self) -> str:
        return f"<key {self.id}>"


class KeyRing:
    """Keys that the program itself keeps, the newest first, for as long as the ring lives. From any thread.

    Raises:
        KeysUnusable: there is none, or one is not 32 bytes long.
    """

    def __init__(self, *secrets: bytes) -> None:
        self._keys = _distinct([SigningKey(secret) for secret in secrets])
        if not self._keys:
            raise KeysUnusable("a key ring needs a key")

    @classmethod
    def fresh(cls) -> KeyRing:
        """Make a ring with one new key. Links that it signs die with the process."""
        return cls(SigningKey.fresh().secret)

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """The accepted keys, the newest first.

        Raises:
            KeysUnusable: they are in a file that is no longer usable.
        """
        return self._keys

    def find(self, key_id: str) -> SigningKey | None:
        """Return the key with an id, or None; raises as `keys` does."""
        return next((key for key in self.keys if key.id == key_id), None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(key.id for key in self._keys)})"


class KeyFile(KeyRing):
    """Keys in a file that only its owner can open; made with one key if it does not exist.

    A change by another process takes effect at the next use.

    Raises:
        KeysUnusable: the file or its folder is open to others, or the file holds something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with _reporting_errors(self.path):
            create_once(self.path, _text((SigningKey.fresh(),)))
        self._read = _read(self.path)

    @classmethod
    def beside(cls, store: str | os.PathLike[str]) -> KeyFile:
        """Use the keys of a store, `<store>.keys`, with links to the store resolved.

        Processes that start at the same time get the same ones.

        Raises:
            KeysUnusable: as above; or the store is in memory, where nothing is beside it.
        """
        if os.fspath(store) == _MEMORY:
            raise KeysUnusable("nothing lies beside a store in memory: give links KeyRing.fresh()")
        resolved = Path(store).resolve()
        return cls(resolved.with_name(resolved.name + ".keys"))

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """The keys in the file, the newest first.

        Raises:
            KeysUnusable: it is gone, or can no longer be trusted.
        """
        read_as, keys = self._read
        if _stamp(self.path) != read_as:
            self._read = _, keys = _read(self.path)
        return keys

    def rotate(self) -> SigningKey:
        """Add a new key in front, durably, and return it. Links of the others stay valid.

        Raises:
            KeysUnusable: the file cannot be used, or is full: remove old keys first.
        """
        key = SigningKey.fresh()
        self._change(lambda keys: (key, *keys))
        return key

    def remove(self, key_id: str) -> None:
        """Remove a key, durably: its links are invalid from then on.

        Raises:
            KeysUnusable: there is no such key, or it is the only one: rotate first.
        """

        def without(keys: tuple[SigningKey, ...]) -> tuple[SigningKey, ...]:
            kept = tuple(key for key in keys if key.id != key_id)
            if len(kept) == len(keys):
                raise KeysUnusable(f"there is no key {key_id!r} in {self.path}")
            if not kept:
                raise KeysUnusable(f"{key_id} is the only key in {self.path}: rotate first")
            return kept

        self._change(without)

    def _change(self, change: Callable[[tuple[SigningKey, ...]], tuple[SigningKey, ...]]) -> None:
        with _reporting_errors(self.path), locked(self.path):
            keys = change(_read(self.path)[1])
            if len(keys) > _MOST:
                raise KeysUnusable(f"{self.path} has {_MOST} keys, which is the most: remove old ones first")
            replace(self.path, _text(keys))
            self._read = _read(self.path)

    def __repr__(self) -> str:
        return f"KeyFile({', '.join(key.id for key in self._read[1])})"


def _distinct(keys: Sequence[SigningKey]) -> tuple[SigningKey, ...]:
    return tuple({key.id: key for key in keys}.values())


def _text(keys: Sequence[SigningKey]) -> str:
    return "".join(f"{key.id} {base64.urlsafe_b64encode(key.secret).decode().rstrip('=')}\n" for key in keys)


def _read(path: Path) -> tuple[tuple[int, ...], tuple[SigningKey, ...]]:
    """Return a file's keys, and its stamp, which is read first: the file may change meanwhile."""
    read_as = _stamp(path)
    with _reporting_errors(path):
        lines = read_private(path).splitlines()
    keys = [_key(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not keys:
        raise KeysUnusable(f"there is no key in {path}: remove it, and a new one is made at the next start")
    if len(keys) > _MOST:
        raise KeysUnusable(f"{path} has more than {_MOST} keys, which is the most: remove old ones")
    return read_as, _distinct(keys)


def _key(path: Path, number: int, line: str) -> SigningKey:
    key_id, _, encoded = line.strip().partition(" ")
    try:
        key = SigningKey(base64.b64decode(encoded.strip() + "=", altchars=b"-_", validate=True))
    except (KeysUnusable, binascii.Error, ValueError):
        raise KeysUnusable(f"{path}, line {number}: not an id and a key of {KEY_BYTES} bytes") from None
    if key.id != key_id:
        raise KeysUnusable(f"{path}, line {number}: the key is damaged, or it is not the key {key_id[:8]!r}")
    return key


def _stamp(path: Path) -> tuple[int, ...]:
    with _reporting_errors(path):
        found = path.lstat()
    return (found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@contextlib.contextmanager
def _reporting_errors(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise KeysUnusable(f"cannot use the keys in {path}: {error.strerror or error}") from error
