"""DBOS Transact: workflows and steps in a library, recorded in SQLite or PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

from dbos import DBOS, SetWorkflowID
from provenance import versions_of

from contenders.contender import CannotStart, Contender, Sizes
from contenders.postgres import VARIABLE, VERSION

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

waiting = 0
"""How many workflows have come to their wait. DBOS does not say."""
arriving = threading.Condition()


@DBOS.step()
def one(number: int) -> int:
    return 1 if number >= 0 else 0


@DBOS.workflow()
def sequence(steps: int) -> int:
    total = 0
    for number in range(steps):
        total += one(number)
    return total


@DBOS.workflow()
def wait() -> int:
    global waiting  # noqa: PLW0603 - a workflow is a function, and has nothing else to count on
    with arriving:
        waiting += 1
        arriving.notify_all()
    return DBOS.recv("go", timeout_seconds=600)


class Dbos(Contender):
    """DBOS with the settings that are passed on to it."""

    def __init__(self, config: dict[str, Any], sizes: Sizes) -> None:
        self._config = config
        self.sizes = sizes
        self._ids = count()
        self._started = 0

    def __enter__(self) -> Self:
        DBOS(config=self._config)
        DBOS.launch()
        return self

    def __exit__(self, *_: object) -> None:
        DBOS.destroy()

    def versions(self) -> dict[str, str]:
        return versions_of("dbos", "sqlalchemy") | {"sqlite": sqlite3.sqlite_version}

    def start(self, steps: int) -> Any:
        return DBOS.start_workflow(sequence, steps)

    def result(self, handle: Any) -> int:
        return handle.get_result()

    def run(self, steps: int) -> int:
        return sequence(steps)

    def start_waiting(self) -> Any:
        with SetWorkflowID(f"w-{next(self._ids)}"):
            handle = DBOS.start_workflow(wait)
        self._started += 1
        return handle

    def until_waiting(self) -> None:
        with arriving:
            assert arriving.wait_for(lambda: waiting >= self._started, timeout=120)
        # It is on its way into recv, which looks into the database once before it waits.
        threading.Event().wait(0.5)

    def signal(self, handle: Any, value: int) -> None:
        DBOS.send(handle.get_workflow_id(), value, "go")


class DbosOnPostgres(Dbos):
    """The same, with a server."""

    def versions(self) -> dict[str, str]:
        return versions_of("dbos", "sqlalchemy", "psycopg") | {
            "postgresql": os.environ.get(VERSION, "of unknown version")
        }


def make(  # noqa: PLR0913 - settings, all with defaults
    folder: Path,
    *,
    postgres: bool = False,
    journal_mode: str = "",
    poll_s: float | None = None,
    coalesce_s: float | None = None,
    pool: int | None = None,
) -> Contender:
    config: dict[str, Any] = {"name": "bench", "log_level": "ERROR"}
    if poll_s is not None:
        config["notification_listener_polling_interval_sec"] = poll_s
    if coalesce_s is not None:
        config["notification_coalesce_sec"] = coalesce_s
    if pool is not None:
        config["sys_db_pool_size"] = pool
    if postgres:
        url = os.environ.get(VARIABLE, "")
        if "://" not in url:
            raise CannotStart(url or f"{VARIABLE} names no server")
        config["system_database_url"] = f"{url}/bench_{os.getpid()}"
        sizes = Sizes(alone=40, long=200, many=120, wide=15, start=120, signal=30, burst=120)
        return DbosOnPostgres(config, sizes)
    path = folder / "dbos.sqlite"
    with sqlite3.connect(path) as sql:  # the mode of the journal stays with the file
        sql.execute(f"PRAGMA journal_mode = {journal_mode}")
    sql.close()
    config["system_database_url"] = f"sqlite:///{path}"
    slow = journal_mode == "delete"
    return Dbos(
        config,
        Sizes(alone=15, long=80, many=40, wide=4, start=60, signal=5, burst=60)
        if slow
        else Sizes(alone=30, long=200, many=100, wide=10, start=100, signal=20, burst=100),
    )
