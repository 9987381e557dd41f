"""`verify`, `backup`, `export` and `import`: whole or not at all, and in nobody's way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest
from cli.terminal import COMMAND, Running, run
from persistasaurus.store import StoreReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.conftest import Ask

    Begin = Callable[..., Running]

SHOP = __file__.replace("test_keeping.py", "shop.py")


def flows_in(store: Path) -> list[str]:
    with StoreReader.open(store) as reader:
        assert reader.verify() == []
        return [header.stream for header in reader.headers()]


def damage(store: Path) -> None:
    connection = apsw.Connection(str(store))
    connection.execute('UPDATE record SET data = \'{"type":"flow_completed","result":9}\' WHERE position = 2')
    connection.close()


# ------------------------------------------------------------------------------------------ verify
def test_a_store_that_is_intact_is_exit_code_0(ask: Ask, store: Path) -> None:
    assert ask("verify").stdout == "Intact: every record is as it was written.\n"
    assert json.loads(ask("verify", "--json").stdout) == {
        "store": str(store),
        "is_intact": True,
        "findings": [],
    }


def test_damage_is_named_with_flow_and_event_and_is_exit_code_1(ask: Ask, store: Path) -> None:
    damage(store)

    told = ask("verify", "--json")

    assert told.exit_code == 1
    (finding,) = json.loads(told.stdout)["findings"]
    assert (finding["flow_id"], finding["version"]) == ("order-1", 2)
    assert "order-1" in ask("verify").stdout


def test_a_damaged_flow_is_told_as_such_by_whoever_reads_it(ask: Ask, store: Path) -> None:
    damage(store)

    for command in ("show", "explain"):
        told = ask(command, "order-1")
        assert told.exit_code == 0
        assert "It is damaged: event 2 cannot be read: its checksum does not match." in told.stdout
        assert "damaged" not in ask(command, "sum-1").stdout
    findings = json.loads(ask("explain", "order-1", "--json").stdout)["findings"]
    (finding,) = [finding for finding in findings if finding["kind"] == "damaged"]
    assert finding["command"] == f"persistasaurus verify --store {store}"


def test_events_behind_a_damaged_one_are_shown_and_followed(ask: Ask, store: Path) -> None:
    whole = [json.loads(line) for line in ask("events", "order-1", "--json").stdout.splitlines()]
    damage(store)
    expected = {"flow_id": "order-1", "version": 2, "unreadable": "its checksum does not match"}

    told = ask("events", "order-1", "--json")
    assert told.exit_code == 1
    assert [json.loads(line) for line in told.stdout.splitlines()] == [whole[0], expected, *whole[2:]]
    assert "cannot be read" in ask("events", "order-1").stdout
    assert "cannot be read" in ask("events", "order-1", "--full").stdout


def test_followers_are_told_of_a_damaged_event_and_of_all_behind_it(begin: Begin, store: Path) -> None:
    damage(store)
    expected = {"flow_id": "order-1", "version": 2, "unreadable": "its checksum does not match"}

    for words, place in ((("order-1",), {}), (("--after", "0"), {"position": 2})):
        following = begin("follow", *words, "--store", store, "--json")
        following.until('"version":3')
        lines = [json.loads(line) for line in following.said.splitlines() if line.endswith("}")]
        assert [one for one in lines if "unreadable" in one] == [expected | place]
        following = begin("follow", *words, "--store", store, "--brief")
        following.until("event 2 cannot be read")


def test_a_flow_of_which_the_header_is_damaged_is_listed_and_said_to_be_so(ask: Ask, store: Path) -> None:
    flows = [json.loads(line)["flow_id"] for line in ask("list", "--json").stdout.splitlines()]
    connection = apsw.Connection(str(store))
    connection.execute("UPDATE stream SET wake_at = 5 WHERE name = 'order-1'")
    connection.close()
    reason = "its header does not match its checksum"

    for newest in ((), ("--newest",)):
        told = [json.loads(line) for line in ask("list", *newest, "--json").stdout.splitlines()]
        assert sorted(one["flow_id"] for one in told) == sorted(flows)
        assert [one["damage"] for one in told if "damage" in one] == [reason]
        assert f"order-1 is damaged: {reason}" in ask("list", *newest).stdout
    assert "It is damaged" in ask("explain", "order-1").stdout


# ------------------------------------------------------------------------------------------ backup
def test_a_backup_is_a_store_also_while_an_engine_runs(store: Path, tmp_path: Path) -> None:
    engine = Running("run", SHOP, "--store", store, on_terminal=False)
    try:
        engine.until("Ctrl-C stops it")
        told = run("backup", tmp_path / "copy.db", "--store", store, "--json")
    finally:
        engine.close()

    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["backup"] == str(tmp_path / "copy.db")
    assert flows_in(tmp_path / "copy.db") == flows_in(store)


def test_a_file_that_is_there_stays_unless_said_otherwise(ask: Ask, tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_text("Dear Ada")

    told = ask("backup", letter)

    assert told.exit_code == 1
    assert "already exists" in told.stderr
    assert letter.read_text() == "Dear Ada"
    assert ask("backup", letter, "--overwrite").exit_code == 0
    assert len(flows_in(letter)) == 8


def test_a_store_is_never_backed_up_over_itself(ask: Ask, store: Path) -> None:
    assert ask("backup", store, "--overwrite").exit_code == 1
    assert len(flows_in(store)) == 8


WRITING = [
    ["backup", "{}"],
    ["export", "-o", "{}"],
    ["diagram", "sum-1", "--svg", "{}"],
    ["diagram", "sum-1", "--json", "--svg", "{}"],
]
OURS = ["", "-wal", "-shm", ".lock", ".token", ".keys"]


@pytest.mark.parametrize("force", [[], ["--force"], ["--overwrite"]], ids=" ".join)
@pytest.mark.parametrize("words", WRITING, ids=" ".join)
def test_no_command_writes_over_a_store_or_what_belongs_to_it(
    ask: Ask, store: Path, tmp_path: Path, words: list[str], force: list[str]
) -> None:
    store.with_name("flows.db.token").write_text("secret")
    store.with_name("flows.db.keys").write_text("secret")
    link, twin = tmp_path / "link", tmp_path / "twin"
    link.symlink_to(store)
    twin.hardlink_to(store.with_name("flows.db.token"))
    places = [link, twin, *(store.with_name(store.name + suffix) for suffix in OURS)]
    before = {path: path.read_bytes() for path in places if path.exists()}

    for place in places:
        told = ask(*(word.format(place) for word in words), *force)

        assert told.exit_code == 1, told.output
        assert told.stderr.count("\n") == 1
        assert {path: path.read_bytes() for path in before} == before
    assert len(flows_in(store)) == 8


@pytest.mark.parametrize("words", WRITING, ids=" ".join)
def test_no_command_writes_over_a_file_unless_it_is_forced_to(
    ask: Ask, tmp_path: Path, words: list[str]
) -> None:
    letter = tmp_path / "letter"
    letter.write_text("Dear Ada")
    asked = [word.format(letter) for word in words]

    assert "already exists" in ask(*asked).stderr
    assert letter.read_text() == "Dear Ada"
    assert ask(*asked, "--force").exit_code == 0
    assert letter.read_bytes() != b"Dear Ada"
    assert letter.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.iterdir() if "letter" in path.name) == ["letter"]


# ------------------------------------------------------------------------------- export and import
def test_what_is_exported_can_be_imported_elsewhere(ask: Ask, store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    text = ask("export").stdout

    told = ask("import", "-", "--store", other, "--json", input=text)

    assert json.loads(told.stdout)["flows"] == 8
    assert flows_in(other) == flows_in(store)
    assert json.loads(ask("import", "-", "--store", other, "--json", input=text).stdout)["present"] == 8
    assert ask("export", "--store", other).stdout == text


def test_single_flows_are_exported_to_a_file(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "sums.jsonl"

    told = ask("export", "sum-1", "sum-2", "-o", file, "--json")

    assert json.loads(told.stdout) == {"flows": 2, "events": 12, "signals": 0, "skipped": []}
    assert [json.loads(line)["flow"] for line in file.read_text().splitlines() if '"flow":' in line[:8]] == [
        "sum-1",
        "sum-2",
    ]
    assert ask("export", "sum-1", "-o", file).exit_code == 1
    assert ask("export", "nobody").exit_code == 1


def test_damaged_flows_are_left_out_when_that_is_wanted(ask: Ask, store: Path) -> None:
    damage(store)

    assert ask("export").exit_code == 3
    told = ask("export", "--skip-damaged")
    assert told.exit_code == 1
    assert '"flow":"sum-1"' in told.stdout
    assert '"flow":"order-1"' not in told.stdout
    assert "Left out: record 2 of stream 'order-1'" in told.stderr


@pytest.mark.parametrize("text", ["", "Dear Ada", '{"format":"persistasaurus.export","version":1}\n'])
def test_what_is_no_export_is_refused_and_no_store_is_made(ask: Ask, text: str, tmp_path: Path) -> None:
    told = ask("import", "--store", tmp_path / "other.db", input=text)

    assert told.exit_code == 1
    assert told.stderr.count("\n") == 1
    assert not (tmp_path / "other.db").exists()


def test_flows_with_another_history_stay_as_they_are(ask: Ask, filled: Path, tmp_path: Path) -> None:
    text = ask("export").stdout
    other = shutil.copy(filled, tmp_path / "other.db")
    engine = Running("run", SHOP, "--store", other, on_terminal=False)
    engine.until("Ctrl-C stops it")
    run("pause", "order-1", "--store", other)
    engine.interrupt()
    engine.end()
    engine.close()

    refused = ask("import", "--store", other, input=text)
    skipped = ask("import", "--store", other, "--skip-conflicts", "--json", input=text)

    assert (refused.exit_code, skipped.exit_code) == (1, 1)
    assert "order-1" in refused.stderr
    assert json.loads(skipped.stdout)["conflicts"].count("order-1") == 1


# ------------------------------------------------------------------------------------- interruption
@pytest.mark.parametrize(
    "words", [["backup", "copy.db"], ["export", "-o", "flows.jsonl"]], ids=lambda w: w[0]
)
def test_ctrl_c_leaves_nothing_of_it(words: list[str], store: Path, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from persistasaurus.api.cli.output import progress as p\n"
        "from contextlib import contextmanager\n"
        "from persistasaurus.api.cli.commands import backup, transfer\n"
        "@contextmanager\n"
        "def interrupted(what):\n"
        "    yield lambda done, total: os.kill(os.getpid(), signal.SIGINT)\n"
        "backup.progress = transfer.progress = interrupted\n"
        "from persistasaurus.api.cli.main import main; main()"
    )
    before = sorted(path.name for path in tmp_path.iterdir())
    command = [COMMAND[0], "-P", "-c", program, *words, "--store", str(store)]

    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)

    assert (told.returncode, told.stderr) == (130, "")
    assert [n for n in sorted(p.name for p in tmp_path.iterdir()) if not n.startswith("flows.db-")] == before


def test_on_a_terminal_long_work_tells_how_far_it_is(begin: Callable[..., Running], store: Path) -> None:
    verifying = begin("verify", "--store", store, on_terminal=True)

    assert verifying.end() == 0
    assert "Verifying" in verifying.said
    assert "Intact" in verifying.said


@pytest.mark.parametrize(
    "words", [["list"], ["export"], ["events", "sum-1", "--json"], ["completion", "bash"]], ids=lambda w: w[0]
)
def test_a_closed_pipe_is_quiet_and_exit_code_141(words: list[str], store: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    told = subprocess.run(
        [*COMMAND, *words],
        env={**os.environ, "PERSISTASAURUS_STORE": str(store)},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writer)

    assert told.returncode == 128 + signal.SIGPIPE
    assert "Traceback" not in told.stderr
    assert "Broken" not in told.stderr


@pytest.mark.parametrize("words", [["list"], ["completion", "bash"]], ids=lambda w: w[0])
def test_a_full_disk_at_the_other_end_is_told_in_one_line(words: list[str], store: Path) -> None:
    with Path("/dev/full").open("w") as full:
        told = subprocess.run(
            [*COMMAND, *words],
            env={**os.environ, "PERSISTASAURUS_STORE": str(store)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )

    assert told.returncode == 1
    assert told.stderr == "persistasaurus: No space left on device\n"
