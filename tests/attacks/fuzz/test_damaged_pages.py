"""An engine on a file with a damaged page: whoever has nothing on it goes on, and the log names the others.

PERSISTASAURUS_INPUTS=1000000 pytest tests/attacks/fuzz is a campaign;
PERSISTASAURUS_SEED=7 chooses another one.
"""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import closing
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw
import pytest
from fuzz.targets import closing_stores
from persistasaurus import Flow, flow, sleep, step, wait_for
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.flows.errors import PersistasaurusError
from persistasaurus.store import StoreError, StoreReader
from persistasaurus.store.sqlite import writer
from persistasaurus.store.sqlite.indexes import damaged_indexes
from persistasaurus.store.sqlite.queries import Queries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from persistasaurus.store.sqlite.indexes import DamagedIndex

FILES = int(os.environ.get("PERSISTASAURUS_INPUTS", "2500")) // 50
SEED = int(os.environ.get("PERSISTASAURUS_SEED", "1"))
FLOWS = 40
PAGE = 4096
MINUTE_S = 60
EXPECTED = {f"flow-{n:02d}": n if n % 2 else n + 1 for n in range(FLOWS)}
ROWS = {
    "stream": "id",
    "record": "position",
    "inbox": "id",
    "word": "id",
    "owner": "one",
    "dead_letter": "id",
}


class Works(Flow):
    @flow
    async def waits(self, number: int) -> int:
        await self.noted(number)
        sent = await wait_for("go", int)
        return number + sent if sent else int(await wait_for("later", str))

    @flow
    async def sleeps(self, number: int) -> int:
        await sleep(timedelta(minutes=1))
        await self.noted(number)
        return number

    @step
    def noted(self, number: int) -> str:
        return f"{number} " * 40


class Original(NamedTuple):
    path: Path
    rows: dict[str, dict[int, Any]]
    names: dict[int, str]
    pages: dict[int, bool]
    """Those of tables and indexes, and whether it is an index; without the schema no store can be opened."""
    last: int
    """The one to which all records go."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    path = tmp_path_factory.mktemp("pages") / "flows.db"
    with closing_stores(path) as open_store, Simulation([Works], store=open_store) as simulation:
        for number in range(FLOWS):
            kind = Works.sleeps if number % 2 else Works.waits
            handle = simulation.system.start(kind, number, flow_id=f"flow-{number:02d}")
            if number % 6 == 0:
                handle.signal("later", "x" * 200, signal_id="early")
        simulation.run_until_idle()
        for number in range(0, FLOWS, 10):
            simulation.system.flow(f"flow-{number:02d}").signal("go", 1, signal_id="go")
        simulation.run_until_idle()
    rows = {table: rows_of(path, table) for table in ROWS}
    names = {key: row[1] for key, row in rows["stream"].items()}
    with closing(apsw.Connection(str(path))) as connection:
        found = connection.execute("SELECT pageno, name FROM dbstat WHERE name <> 'sqlite_schema'")
        pages = {page: name not in ROWS for page, name in sorted(found)}
        last = "SELECT pageno FROM dbstat WHERE name = 'record' AND pagetype = 'leaf' ORDER BY path DESC"
        return Original(path, rows, names, pages, connection.execute(last).get[0])


def rows_of(path: Path, table: str, keys: Any = None) -> dict[int, Any]:
    """Read the rows of a table one by one, by its pages alone; without those that cannot be read."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    found: dict[int, Any] = {}
    column = ROWS[table]
    try:
        keys = (
            keys
            if keys is not None
            else [key for (key,) in connection.execute(f"SELECT {column} FROM {table} NOT INDEXED")]
        )
        for key in keys:
            try:
                row = connection.execute(
                    f"SELECT * FROM {table} NOT INDEXED WHERE {column} = ?", (key,)
                ).fetchall()
            except (apsw.Error, UnicodeDecodeError):
                continue
            found |= {key: row[0]} if row else {}
    finally:
        connection.close()
    return found


def spoilt(path: Path, page: int, rng: Random) -> str:
    """Damage a page, as disks do it; say how."""
    image = bytearray(path.read_bytes())
    at = (page - 1) * PAGE
    how = rng.choice(["flip", "flip", "head", "noise", "zeros", "part"])
    match how:
        case "flip":
            image[at + rng.randrange(PAGE)] ^= 1 << rng.randrange(8)
        case "head":
            image[at : at + 8] = b"\xee" * 8
        case "noise":
            image[at : at + PAGE] = rng.randbytes(PAGE)
        case "zeros":
            image[at : at + PAGE] = bytes(PAGE)
        case _:
            start, length = at + rng.randrange(PAGE - 100), rng.randrange(1, 100)
            image[start : start + length] = rng.randbytes(length)
    path.write_bytes(image)
    return how


def touched(original: Original, path: Path, page: int) -> set[str] | None:
    """Return the flows of which a row is not as it was; None: it concerns everybody."""
    hit: set[int] = set()
    for table, rows in original.rows.items():
        now = rows_of(path, table, list(rows))
        lost = [key for key in rows if now.get(key) != rows[key]]
        if lost and table in ("word", "owner"):
            return None
        match table:
            case "stream":
                hit.update(lost)
            case "record" | "inbox":
                hit.update(rows[key][1] for key in lost)
            case _:
                pass
    if not takes(path, "INSERT INTO word (word) VALUES (?)", [(f"word {n}",) for n in range(20)]):
        return None
    records = [(10_000 + n, 10_000 + n, n, b"x" * 200) for n in range(400)]
    if original.last == page or not takes(path, "INSERT INTO record VALUES (?, ?, ?, 0, 0, x'', ?)", records):
        return None
    for key in original.names:
        if not takes(path, "INSERT INTO record VALUES (10000, ?, 100, 0, 0, x'', '')", [(key,)]):
            hit.add(key)
    signals = [(10_000 + n, key, f"go-{n}") for key in original.names for n in range(2)]
    if not takes(path, "INSERT INTO inbox VALUES (?, ?, 'go', ?, 0, NULL, 0, '1')", signals):
        hit.update(key for key, name in original.names.items() if is_waiting(name))
    return {original.names[key] for key in hit}


def is_waiting(name: str) -> bool:
    return int(name[-2:]) % 2 == 0


def takes(path: Path, statement: str, values: list[Any]) -> bool:
    """Try whether something can be written."""
    connection = apsw.Connection(str(path))
    try:
        connection.execute("BEGIN")
        connection.executemany(statement, values)
        connection.execute("ROLLBACK")
    except apsw.Error:
        return False
    finally:
        connection.close()
    return True


def run_on(path: Path) -> dict[str, Any]:
    """Let an engine run on, send everybody what it waits for, and return what has become of each."""
    with closing_stores(path) as open_store, Simulation([Works], store=open_store) as simulation:
        simulation.run_until_idle()
        simulation.advance(5)
        system = simulation.system
        for number in range(0, FLOWS, 2):
            told(lambda number=number: system.flow(f"flow-{number:02d}").signal("go", 1, signal_id="go"))
        simulation.run_until_idle()
        simulation.advance(2 * MINUTE_S)
        found = {
            f"flow-{number:02d}": told(lambda number=number: system.flow(f"flow-{number:02d}").result(0.001))
            for number in range(FLOWS)
        }
        system.flows(limit=1000)
        return found


def told(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except (PersistasaurusError, TimeoutError) as error:
        return error


class Verdict(NamedTuple):
    """What has become of the flows of a damaged file."""

    harmed: str | None
    """Who was harmed, and how; None: nobody who should not have been."""
    is_refused: bool
    is_for_all: bool
    """Whether the damage concerns everybody."""
    named: int
    """How many flows have not gone on, and were named."""


def judged(original: Original, path: Path, number: int, caplog: pytest.LogCaptureFixture) -> Verdict:
    """Damage a copy of the file, let an engine run on it, and look what has become of its flows."""
    rng = Random(f"{SEED}-{number}")
    shutil.copy(original.path, path)
    page = rng.choice([*original.pages])
    again = f"{spoilt(path, page, rng)} in page {page}: file {number} of PERSISTASAURUS_SEED={SEED}"
    # All that is in an index is in its table.
    victims = set[str]() if original.pages[page] else touched(original, path, page)
    caplog.clear()
    try:
        with StoreReader.open(path) as reader:
            reader.headers(limit=1000)
        found = run_on(path)
    except StoreError:
        return Verdict(None, is_refused=True, is_for_all=False, named=0)
    except BaseException as error:
        error.add_note(again)
        raise
    if victims is None:
        return Verdict(None, is_refused=False, is_for_all=True, named=0)
    named = 0
    for name, result in EXPECTED.items():
        if found[name] == result:
            continue
        named += 1
        # Of one that had ended before, whoever asks is told.
        is_told = name in caplog.text or (int(name[-2:]) % 10 == 0 and name in str(found[name]))
        if name not in victims or not is_told:
            harm = "nobody is told of it" if name in victims else f"it has not gone on: {found[name]!r}"
            return Verdict(f"{name}: {harm}, {again}", is_refused=False, is_for_all=False, named=named)
    return Verdict(None, is_refused=False, is_for_all=False, named=named)


@pytest.mark.timeout(0 if FILES > 1000 else 240)
def test_flows_that_have_nothing_on_a_damaged_page_go_on_and_the_others_are_named(
    original: Original, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    named = refused = halted = 0
    for number in range(FILES):
        verdict = judged(original, tmp_path / f"{number}.db", number, caplog)
        assert verdict.harmed is None
        named += verdict.named
        refused += verdict.is_refused
        halted += verdict.is_for_all
    assert named, "hardly anything was hit"
    assert refused < FILES // 3
    assert halted < FILES // 3


def cleared_by_sqlite(connection: apsw.Connection, index: DamagedIndex) -> None:
    connection.execute(f"REINDEX {index.name}").fetchall()


# Each with the file of the first seed that shows it.
BUGS: dict[str, tuple[str, Any, int]] = {
    "indexes are not compared with their tables": ("damaged_indexes", lambda _: [], 65),
    "indexes that can be read are taken for whole": (
        "damaged_indexes",
        lambda connection: [one for one in damaged_indexes(connection) if not one.is_readable],
        65,
    ),
    "SQLite is to clear indexes that it cannot read": ("make_anew", cleared_by_sqlite, 97),
}


@pytest.mark.skipif("PERSISTASAURUS_SEED" in os.environ, reason="the files are those of the first seed")
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_seen(
    bug: str,
    original: Original,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, change, number = BUGS[bug]
    monkeypatch.setattr(writer, name, change)
    monkeypatch.setattr(Queries, "doubts_index", property(lambda _: False, lambda *_: None), raising=False)

    assert judged(original, tmp_path / "flows.db", number, caplog).harmed is not None, (
        f"nobody sees that {bug}"
    )
