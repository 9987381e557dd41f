"""Who is measured: Persistasaurus, a naive loop, and DBOS, each at its defaults and at its best settings.

A contender offers a few things to do (`contender.py`), which `workloads.py` puts together in the same way for
all. `CONTENDERS` says what each is; its module is imported in the process that measures it, and nowhere else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from contenders.contender import Contender

ALL = ("alone", "long", "many", "wide", "signal", "burst", "start")
SYNCED = "each commit is synced"


class Entry(NamedTuple):
    """A contender with its settings.

    Those that take long are measured in one round of `every`, and with all workloads in one process if
    `together`, so that they start once. `quick`: a quick look looks at them, too.
    """

    title: str
    module: str
    arguments: dict[str, object]
    settings: str
    durability: str
    workloads: tuple[str, ...] = ALL
    every: int = 1
    together: bool = False
    quick: bool = True


CONTENDERS = {
    "engine": Entry(
        "Persistasaurus",
        "contenders.engine",
        {},
        "defaults, asked by threads",
        f"WAL, synchronous=FULL: {SYNCED}",
    ),
    "engine-batched": Entry(
        "Persistasaurus, in batches",
        "contenders.engine",
        {"batched": True},
        "defaults, asked for many things at once by one thread",
        f"WAL, synchronous=FULL: {SYNCED}",
        ("many", "wide", "burst", "start"),
    ),
    "engine-relaxed": Entry(
        "Persistasaurus, relaxed",
        "contenders.engine",
        {"relaxed": True},
        "durability=MAY_LOSE_LAST_COMMITS",
        "WAL, synchronous=NORMAL: a loss of power may take the last commits",
        ("alone", "long", "many", "wide"),
    ),
    "naive": Entry(
        "naive loop",
        "contenders.naive",
        {"journal_mode": "delete"},
        "defaults of SQLite",
        f"rollback journal, synchronous=FULL: {SYNCED}",
        every=3,
        quick=False,
    ),
    "naive-wal": Entry(
        "naive loop, tuned",
        "contenders.naive",
        {"journal_mode": "wal"},
        "WAL",
        f"WAL, synchronous=FULL: {SYNCED}",
    ),
    "dbos-sqlite": Entry(
        "DBOS on SQLite",
        "contenders.dbos_transact",
        {"journal_mode": "delete"},
        "defaults",
        f"rollback journal, synchronous=FULL: {SYNCED}",
        every=3,
        together=True,
        quick=False,
    ),
    "dbos-sqlite-wal": Entry(
        "DBOS on SQLite, tuned",
        "contenders.dbos_transact",
        {"journal_mode": "wal", "poll_s": 0.01},
        "WAL; looks for messages every 10 ms",
        f"WAL, synchronous=FULL: {SYNCED}",
        every=3,
        together=True,
    ),
    "dbos-postgres": Entry(
        "DBOS on PostgreSQL",
        "contenders.dbos_transact",
        {"postgres": True},
        "defaults, on the same machine",
        f"fsync=on, synchronous_commit=on: {SYNCED}",
        every=3,
        together=True,
        quick=False,
    ),
    "dbos-postgres-tuned": Entry(
        "DBOS on PostgreSQL, tuned",
        "contenders.dbos_transact",
        {"postgres": True, "pool": 64, "coalesce_s": 0.001},
        "64 connections, notifies after 1 ms, on the same machine",
        f"fsync=on, synchronous_commit=on: {SYNCED}",
        every=3,
        together=True,
    ),
}


def contender(name: str, folder: Path) -> Contender:
    """Make a contender that keeps what it stores in a folder.

    Raises:
        CannotStart: saying what is missing.
    """
    entry = CONTENDERS[name]
    try:
        module = import_module(entry.module)
    except ModuleNotFoundError as error:
        from contenders.contender import CannotStart  # noqa: PLC0415 - it imports what this module may not

        raise CannotStart(f"{error.name} is not installed") from error
    return module.make(folder, **entry.arguments)
