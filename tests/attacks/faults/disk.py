"""A disk that loses its power: what it may hold afterwards, given what was asked of it before.

It knows of each file what was synced and what was only written, and of the folder which names were made
and taken away, and whether that was synced. The rest is up to a policy.
"""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from conformance.recorder import SECTOR, sectors

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

Operation: TypeAlias = "tuple[Any, ...]"
Image: TypeAlias = dict[str, bytes]

POLICIES: Final = ("all", "none", "torn", "sectors", "garbage")
"""What is on the disk of what was not synced.

all: everything, in order. none: nothing. torn: everything, and a part of the write after it. sectors: any
sectors of any of the writes, and a part of the folder's changes. garbage: as before, and some sectors hold
neither the old nor the new.
"""

_SUFFIXES: Final = {"db": "", "wal": "-wal", "journal": "-journal"}


class Disk:
    """Follows a record of operations, one after the other."""

    def __init__(self, files: Mapping[str, bytes] = {"db": b""}, *, powersafe: bool = True) -> None:
        self.powersafe = powersafe
        self._names = {name: number for number, name in enumerate(files)}
        self._seen = dict(self._names)
        self._moves: list[Operation] = []
        self._synced = [bytearray(data) for data in files.values()]
        self._written: list[list[Operation]] = [[] for _ in files]

    def copy(self) -> Disk:
        """Return a disk that goes its own way from here."""
        return copy.deepcopy(self)

    @property
    def is_settled(self) -> bool:
        """Whether all policies but `torn` come to the same."""
        return not self._moves and not any(self._written)

    def apply(self, operation: Operation, rng: random.Random) -> None:
        """Take an operation in; `rng` decides what a sync that failed has written all the same."""
        kind, name, *details = operation
        if name not in _SUFFIXES:
            return
        if kind == "create":
            self._create(name)
        elif kind == "unlink":
            self._seen.pop(name, None)
            self._moves.append(operation)
            self._settle_names(due=details[0])
        elif kind == "sync":
            self._settle(self._seen[name])
            self._settle_names(due=details[0])
        elif kind == "unsynced":
            self._give_up(self._seen[name], rng)
        else:
            self._written[self._seen[name]].append(operation)

    def _create(self, name: str) -> None:
        number = self._seen[name] = len(self._synced)
        self._synced.append(bytearray())
        self._written.append([])
        self._moves.append(("create", name, number))

    def _settle(self, number: int) -> None:
        for operation in self._written[number]:
            _write(self._synced[number], operation)
        self._written[number].clear()

    def _settle_names(self, *, due: bool) -> None:
        if due:
            _move(self._names, self._moves)
            self._moves.clear()

    def _give_up(self, number: int, rng: random.Random) -> None:
        # The kernel takes these pages for clean from now on: what is not there yet never will be.
        for operation in self._written[number]:
            if rng.random() < 0.5:
                _write(self._synced[number], operation)
        self._written[number].clear()

    def image(self, policy: str, rng: random.Random, following: Operation | None = None) -> Image:
        """Return what the files hold when the power comes back; `following` is the write it tears."""
        names = dict(self._names)
        if policy in ("all", "torn"):
            _move(names, self._moves)
        elif policy != "none":
            _move(names, self._moves[: rng.randint(0, len(self._moves))])
        return {name: self._content(number, policy, rng, following) for name, number in names.items()}

    def _content(self, number: int, policy: str, rng: random.Random, following: Operation | None) -> bytes:
        data = bytearray(self._synced[number])
        for operation in self._kept(number, policy, rng):
            _write(data, operation)
        if policy == "torn" and following is not None and following[0] == "write":
            kind, name, offset, body = following
            if self._seen.get(name) == number:
                _write(data, (kind, name, offset, body[: rng.randint(0, len(body))]))
        return bytes(data)

    def _kept(self, number: int, policy: str, rng: random.Random) -> Iterator[Operation]:
        written = self._written[number]
        if policy in ("all", "torn"):
            yield from written
        elif policy != "none":
            for operation in written:
                for part in sectors(operation):
                    yield from self._damaged(part, rng, garbage=policy == "garbage")

    def _damaged(self, part: Operation, rng: random.Random, *, garbage: bool) -> Iterator[Operation]:
        chance = rng.random()
        if chance < 0.5:
            yield part
        elif garbage and chance < 0.65 and part[0] == "write":
            kind, name, offset, body = part
            start, size = offset, len(body)
            if not self.powersafe:
                start, size = offset - offset % SECTOR, SECTOR
            yield (kind, name, start, rng.randbytes(size))


def _write(data: bytearray, operation: Operation) -> None:
    if operation[0] == "truncate":
        size = operation[2]
        del data[size:]
        data.extend(bytes(size - len(data)))
        return
    _, _, offset, body = operation
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(body)] = body


def _move(names: dict[str, int], moves: Sequence[Operation]) -> None:
    for kind, name, *details in moves:
        if kind == "create":
            names[name] = details[0]
        else:
            names.pop(name, None)


def lay_out(image: Image, path: Path, shared: bytes = b"") -> None:
    """Write an image where a store can be opened over it; `shared` is what the shared memory's file holds."""
    for name, suffix in _SUFFIXES.items():
        file = path.with_name(path.name + suffix)
        if name in image:
            file.write_bytes(image[name])
            os.utime(file, (1, 1))  # the machine has started since
        else:
            file.unlink(missing_ok=True)
    memory = path.with_name(path.name + "-shm")
    if shared:
        memory.write_bytes(shared)
    else:
        memory.unlink(missing_ok=True)
