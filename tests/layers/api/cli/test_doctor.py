"""`doctor`: each thing that is not in order is found, with what to do."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import apsw
import pytest
from cli.terminal import Running
from persistasaurus.actors.runtime.primitives import SystemClock
from persistasaurus.api.cli.reports import checkup
from persistasaurus.store import SqliteStore
from store.damage import pages_of, spoil_pages

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Ask

SHOP = __file__.replace("test_doctor.py", "shop.py")


def checks(ask: Ask, *words: str | Path) -> dict[str, dict[str, str]]:
    told = ask("doctor", "--json", *words)
    found = [json.loads(line) for line in told.stdout.splitlines()]
    assert told.exit_code == (1 if any(check["state"] == "bad" for check in found) else 0)
    assert [check for check in found if check["state"] != "ok" and not check["todo"]] == []
    return {check["name"]: check for check in found}


def test_a_store_in_order_is_all_right_and_people_see_a_line_for_each_thing(ask: Ask, store: Path) -> None:
    engine = Running("run", SHOP, "--store", store, on_terminal=False)
    try:
        engine.until("Ctrl-C stops it")
        found = checks(ask)
        told = ask("doctor")
    finally:
        engine.close()

    assert [name for name, check in found.items() if check["state"] == "bad"] == []
    assert {
        "python",
        "sqlite",
        "apsw",
        "msgspec",
        "pykka",
        "store",
        "engine",
        "sync",
        "free space",
    } <= found.keys()
    assert found["engine"]["state"] == "ok"
    assert ", schema " in found["store"]["text"]
    assert len(told.stdout.splitlines()) >= len(found)


def test_of_damaged_requests_is_told_what_helps(ask: Ask, store: Path) -> None:
    ask("signal", "confirm-ada", "confirm", "true")
    for suffix in ("-wal", "-shm"):
        store.with_name(f"{store.name}-requests{suffix}").unlink(missing_ok=True)
    store.with_name(store.name + "-requests").write_bytes(b"no database" * 1000)
    found = checks(ask)["requests"]
    assert found["state"] == "bad"
    assert "sets the file aside" in found["todo"]
    store.with_name(store.name + "-requests").unlink()
    store.with_name(store.name + "-requests").mkdir()
    found = checks(ask)["requests"]
    assert "is not a file" in found["text"]
    assert "mended" in found["todo"]


def test_that_nothing_runs_and_something_waits_is_told(ask: Ask) -> None:
    ask("signal", "confirm-ada", "confirm", "true")

    found = checks(ask)

    assert found["engine"]["state"] == "warn"
    assert found["requests"]["state"] == "warn"
    assert "1 on record" in found["requests"]["text"]


def test_what_others_keep_in_the_file_is_named(ask: Ask, store: Path) -> None:
    assert "additions" not in checks(ask)
    connection = sqlite3.connect(store)
    for name in ("_litestream_seq", "_litestream_lock", *"abcdef"):
        connection.execute(f"CREATE TABLE {name} (x)")
    connection.close()

    found = checks(ask)

    assert found["additions"]["state"] == found["store"]["state"] == "ok"
    assert "table _litestream_lock, table _litestream_seq" in found["additions"]["text"]
    assert found["additions"]["text"].endswith("and 3 more")


def test_damaged_headers_are_named(ask: Ask, store: Path) -> None:
    assert checks(ask)["headers"]["state"] == "ok"
    connection = apsw.Connection(str(store))
    connection.execute("UPDATE stream SET wake_at = 5")
    connection.close()

    found = checks(ask)["headers"]

    assert found["state"] == "bad"
    assert "order-1" in found["text"]
    assert found["text"].endswith(", ...")
    assert "persistasaurus verify" in found["todo"]


@pytest.mark.parametrize(("mode", "state"), [(0o666, "bad"), (0o644, "warn"), (0o600, "ok")])
def test_who_may_use_the_file_is_looked_at(ask: Ask, store: Path, mode: int, state: str) -> None:
    store.chmod(mode)

    assert checks(ask)["permissions"]["state"] == state


def test_a_store_that_is_not_there_or_none_is_told_and_not_made(ask: Ask, tmp_path: Path) -> None:
    assert checks(ask, "--store", tmp_path / "nowhere.db")["store"]["state"] == "warn"
    assert not (tmp_path / "nowhere.db").exists()
    (tmp_path / "letter").write_text("Dear Ada " * 100)
    assert checks(ask, "--store", tmp_path / "letter")["store"]["state"] == "bad"


@pytest.mark.parametrize(
    ("seconds", "state"), [(0.000_001, "warn"), (0.001, "ok"), (0.5, "warn")], ids=["lies", "disk", "slow"]
)
def test_how_fast_the_disk_syncs_is_measured(
    ask: Ask, seconds: float, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "_sync_seconds", lambda folder: [seconds])

    assert checks(ask)["sync"]["state"] == state


@pytest.mark.parametrize(("kind", "state"), [("tmpfs", "warn"), ("ext4", "ok"), (None, "ok")])
def test_where_the_store_lies_is_looked_at(
    ask: Ask, kind: str | None, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "filesystem_of", lambda folder: kind)

    assert checks(ask)["filesystem"]["state"] == state


def test_a_folder_that_cannot_be_written_to_is_no_traceback(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkup.tempfile, "TemporaryFile", refuse)

    assert checks(ask)["sync"]["state"] == "warn"


def test_what_is_too_old_is_bad(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup.apsw, "sqlite_lib_version", lambda: "3.40.1")

    assert checks(ask)["sqlite"]["state"] == "bad"


def test_a_clock_that_was_set_back_is_told(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup.SystemClock, "now", lambda self: 1_600_000_000_000_000)

    assert checks(ask)["clock"]["state"] == "warn"


def test_a_flow_is_late_when_an_engine_has_had_time_for_it_and_not_as_soon_as_one_has_opened(
    ask: Ask, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_hour = 3_600_000_000
    opened_at = SystemClock().now() + an_hour
    owner = SqliteStore.open(store, now=lambda: opened_at)
    try:
        for since, is_late in ((0, False), (an_hour, True)):
            at = opened_at + since
            monkeypatch.setattr(checkup.SystemClock, "now", lambda self, at=at: at)
            assert ("timers" in checks(ask)) is is_late
    finally:
        owner.close()


def test_damaged_words_and_logs_that_were_kept_are_named(ask: Ask, store: Path) -> None:
    found = checks(ask)
    assert found["words"]["state"] == "ok"
    assert "log" not in found
    connection = apsw.Connection(str(store))
    connection.execute("UPDATE word SET word = 'step_sturted' WHERE word = 'step_started'")
    connection.close()
    for salt in ("01", "02"):
        store.with_name(f"{store.name}-wal.damaged-{salt}").touch()

    found = checks(ask)

    assert found["words"]["state"] == found["log"]["state"] == "bad"
    assert "'step_sturted'" in found["words"]["text"]
    assert f"{store.name}-wal.damaged-02 and 1 more" in found["log"]["text"]


def test_what_is_left_of_a_damaged_store_is_counted(ask: Ask, store: Path) -> None:
    _spoil_newest_record(store)

    found = checks(ask)

    assert {"parked flows", "dead letters", "clock"} & {
        name for name, c in found.items() if c["state"] == "bad"
    } == set()


def test_a_statement_about_a_damaged_store_is_answered_and_says_so(ask: Ask, store: Path) -> None:
    whole = ask("sql", "SELECT count(*) FROM flows", "--json")
    assert (whole.exit_code, whole.stderr) == (0, "")
    _spoil_newest_record(store)

    told = ask("sql", "SELECT count(*), sum(length(args)) FROM flows", "--json")

    assert told.exit_code == 1
    assert json.loads(told.stdout)["count(*)"] == json.loads(whole.stdout)["count(*)"]
    assert "the store is damaged" in told.stderr
    assert "persistasaurus verify" in told.stderr


def _spoil_newest_record(store: Path) -> None:
    spoil_pages(store, pages_of(store, "record")[-1:])
