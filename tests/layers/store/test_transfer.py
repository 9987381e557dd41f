"""What was exported comes back as it was, or is refused as a whole."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import tempfile

import apsw
import pytest
from conformance.builders import (
    ADA,
    AT,
    BOB,
    ENDED,
    accept,
    append,
    create,
    header,
    record,
    signal,
    write_one,
)
from conformance.recorder import sync_error
from persistasaurus.store import (
    Appended,
    ImportConflict,
    NewRecord,
    NotAnExport,
    NotWritten,
    RecordCorrupt,
    RecordTooLarge,
    Restore,
    SqliteStore,
    StoreError,
    StoreLimits,
    StoreOwned,
    StoreUnusable,
    StreamNotFound,
    StreamState,
)
from persistasaurus.store.sqlite import store as sqlite
from persistasaurus.store.sqlite import stream_dump, stream_scan
from persistasaurus.store.tools import importer
from persistasaurus.store.tools.export import export, export_file
from persistasaurus.store.tools.importer import import_
from persistasaurus.store.tools.transcript_reader import DEFAULT_LIMITS, TranscriptReader, read_export
from store.damage import room_for, spoil_page_with, spoil_root, tamper

BODIES = [
    b'{"type":"flow_started","args":[1, 2.50, "caf\xc3\xa9"]}',
    b"",
    b"plain \n text",
    b' {"spaces":"around"}',
    b'{"two":\n"lines"}',
    b"\xff\x00\xfe",
    b"NaN",
    b"1e999",
    b'"\\ud800"',
    b"null",
    b'{"a":1,"a":2}',
    b"[" * 300 + b"]" * 300,
    b"[" * 100_000,
    "\u2028\x7f\x00".encode(),
]


@pytest.fixture
def filled(store):
    """A store with a bit of everything."""
    accept(store, create(ADA, *[record(body, kind=f"kind-{n % 3}") for n, body in enumerate(BODIES)]))
    accept(store, create(BOB, record(), kind="hello", change=header("waiting", wake_at=AT + 99)))
    accept(store, *[signal(f"mail-{n}", b'{"n":%d}' % n, stream=BOB, at=AT + n) for n in range(4)])
    ids = [entry.id for entry in store.inbox(BOB)]
    accept(store, append(1, record(at=AT + 9), stream=BOB, consumed=ids[:1], rejected=((ids[1], "no date"),)))
    accept(store, create("done"), signal(stream="done"))
    accept(store, append(1, record(b'{"end":true}'), stream="done", change=ENDED))
    accept(store, create("held", change=header("parked", StreamState.HELD)), signal(stream="held"))
    return store


@pytest.fixture
def text(tmp_path):
    return tmp_path / "store.jsonl"


@pytest.fixture
def other(tmp_path):
    return tmp_path / "other.db"


@pytest.fixture
def batches_of_one(monkeypatch):
    monkeypatch.setattr(importer, "_BATCH_FLOWS", 1)
    monkeypatch.setattr(importer, "_REPORTED", 1)


@pytest.fixture
def telling_all(monkeypatch):
    monkeypatch.setattr("persistasaurus.store.tools.export._REPORTED", 1)


@pytest.fixture
def moved(filled, path, text, other, clock):
    """What was exported, and imported into another store."""
    return export_file(path, text), import_(text, other, now=clock)


def exported(path, **options):
    pieces = []
    export(path, pieces.append, **options)
    return b"".join(pieces)


def read_export_of(path):
    return list(TranscriptReader(io.BytesIO(exported(path)), DEFAULT_LIMITS).flows())


def listing(directory):
    return {path.name for path in directory.iterdir()}


def test_what_is_imported_is_exported_again_byte_by_byte(moved, path, text, other):
    first, done = moved

    assert exported(other) == text.read_bytes() == exported(path)
    assert (done.flows, done.records, done.signals) == (first.flows, first.records, first.signals)


@pytest.mark.usefixtures("moved")
def test_an_imported_store_answers_as_the_exported_one(filled, other, open_store):
    copy = open_store(other)

    assert copy.verify() == []
    for found in filled.headers():
        assert copy.header(found.stream) == found
        assert copy.read(found.stream) == filled.read(found.stream)
        before, after = filled.inbox(found.stream), copy.inbox(found.stream)
        assert [(e.at, e.name, e.key, e.data) for e in before] == [
            (e.at, e.name, e.key, e.data) for e in after
        ]
    assert sorted((d.stream, d.key, d.at, d.reason) for d in filled.dead_letters()) == sorted(
        (d.stream, d.key, d.at, d.reason) for d in copy.dead_letters()
    )


@pytest.mark.usefixtures("moved")
def test_signals_that_were_consumed_are_still_known_as_duplicates(other, open_store):
    again = write_one(open_store(other), signal("mail-0", b'{"n":0}', stream=BOB, at=AT + 500))

    assert (again.duplicate, again.at) == (True, AT)


def test_it_is_read_back_without_a_store(filled, path, text):
    export_file(path, text)

    flows = read_export(text)

    assert [(flow.stream, flow.type) for flow in flows] == [(h.stream, h.type) for h in filled.headers()]
    assert [r.data for r in flows[0].records] == BODIES


def test_payloads_stay_readable_where_they_can(filled, path):
    lines = exported(path, flows=[ADA]).splitlines()
    forms = ["data", *["text"] * 4, "base64", *["text"] * 3, "data", "data", "text", "text", "text"]

    found = [json.loads(line) for line in lines[2 : 2 + len(BODIES)]]

    assert [next(form for form in ("data", "text", "base64") if form in line) for line in found] == forms
    assert base64.b64decode(found[5]["base64"]) == BODIES[5]
    assert BODIES[0] in lines[2]


def test_single_flows_are_exported_in_the_order_of_their_creation(filled, path, text):
    export_file(path, text, flows=["done", ADA, "done"])

    assert [flow.stream for flow in read_export(text)] == [ADA, "done"]
    with pytest.raises(StreamNotFound, match="nobody"):
        export_file(path, text, flows=[ADA, "nobody"], overwrite=True)
    with pytest.raises(StreamNotFound, match="nobody"):
        exported(path, flows=["nobody"])


def test_an_export_is_of_one_instant_and_waits_for_nobody(filled, path):
    """The reader of a pipe takes its time: the engine goes on, and empties its log."""
    pieces = []

    def slow(piece):
        pieces.append(piece)
        accept(filled, append(1, record(), stream="held"))
        filled._truncate(filled._ready())

    export(path, slow)

    assert path.with_name("flows.db-wal").stat().st_size == 0
    assert b"".join(pieces) != exported(path)


@pytest.mark.usefixtures("telling_all")
def test_what_is_committed_meanwhile_is_not_in_it(filled, path, text):
    told = []

    def commit(done, total):
        told.append((done, total))
        accept(filled, append(len(told), record(), stream="held"), create(f"new-{len(told)}"))

    before, records = exported(path), len(filled.read_all())
    export_file(path, text, on_progress=commit)

    assert text.read_bytes() == before
    assert told[-1] == (records, records)


@pytest.mark.usefixtures("filled", "telling_all")
def test_progress_counts_the_records_that_were_asked_for(path, text):
    told = []

    export_file(path, text, flows=[ADA], on_progress=lambda done, total: told.append((done, total)))

    all_of_them = len(BODIES)
    assert told == [*((done, all_of_them) for done in range(1, all_of_them + 1)), (all_of_them, all_of_them)]


@pytest.mark.usefixtures("filled", "telling_all")
@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_an_export_that_is_stopped_leaves_nothing(path, text, error):
    before = listing(path.parent)

    def stop(done, total):
        raise error

    with pytest.raises(error):
        export_file(path, text, on_progress=stop)
    with pytest.raises(error):
        export(path, lambda piece: stop(0, 0))

    assert listing(path.parent) == before


def test_an_export_never_overwrites_what_it_should_not(filled, path, text):
    text.write_bytes(b"precious")

    for target in (text, path, path.with_name("flows.db-wal")):
        with pytest.raises(NotWritten):
            export_file(path, target, overwrite=target != text)

    assert text.read_bytes() == b"precious"
    assert filled.verify() == []


def test_an_export_overwrites_nothing_that_it_was_not_told_to(filled, path, text):
    text.write_text("mine")
    with pytest.raises(NotWritten, match="already exists"):
        export_file(path, text)

    assert text.read_text() == "mine"


def test_a_damaged_flow_is_named_and_can_be_left_out(filled, path, text):
    filled.close()
    other = apsw.Connection(str(path))
    other.execute("UPDATE record SET data = '{}' WHERE position = 8").fetchall()
    other.close()

    with pytest.raises(RecordCorrupt, match=r"record 8 of stream 'signup-ada'"):
        export_file(path, text)
    assert not text.exists()

    skipped = export_file(path, text, skip_damaged=True).skipped
    assert [damage.stream for damage in skipped] == [ADA]
    assert [flow.stream for flow in read_export(text)] == [BOB, "done", "held"]


def test_nothing_is_left_of_a_damaged_flow_that_was_the_last(store, path, text):
    accept(store, create(ADA), create(BOB, *[record(b"x" * 1000) for _ in range(3)]))
    store.close()
    tamper(path, "UPDATE record SET data = '7' WHERE position = 4")

    export_file(path, text, skip_damaged=True)

    assert [flow.stream for flow in read_export(text)] == [ADA]
    assert exported(path, skip_damaged=True) == text.read_bytes()


DAMAGE = {
    "a header": (
        "UPDATE stream SET state = 1 WHERE id = 3",
        "^stream 'done' .* header does not match its checksum",
    ),
    "no record": (
        "DELETE FROM record WHERE stream = 3",
        "^stream 'done' .* header does not match its checksum",
    ),
    "a missing record": (
        "DELETE FROM record WHERE stream = 3 AND version = 1",
        "^record 1 of stream 'done' .* missing",
    ),
    "a missing end": (
        "DELETE FROM record WHERE stream = 3 AND version = 2",
        "^record 2 of stream 'done' .* missing",
    ),
    "a signal": ("UPDATE inbox SET data = '7' WHERE stream = 3", "^stream 'done' .* signal 5 does not match"),
    "a dead letter": (
        "UPDATE dead_letter SET reason = 'none' WHERE inbox = 5",
        "^stream 'done' .* dead letter of signal 5 does not match",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_flow_is_exported_as_it_was_written_or_not_at_all(filled, path, text, case):
    statement, reason = DAMAGE[case]
    filled.close()
    tamper(path, statement)

    with pytest.raises(RecordCorrupt, match=reason):
        export_file(path, text)
    assert not text.exists()

    skipped = export_file(path, text, skip_damaged=True).skipped
    assert [damage.stream for damage in skipped] == ["done"]
    assert [flow.stream for flow in read_export(text)] == [ADA, BOB, "held"]


def test_flows_on_a_page_that_cannot_be_read_are_left_out(store, path, text):
    accept(store, *[create(f"flow-{n:03d}", record(b"x" * 1000 + b"%d" % n)) for n in range(100)])
    store.close()
    spoil_page_with(path, b"x" * 1000 + b"50")

    with pytest.raises(RecordCorrupt, match=r"stream 'flow-0..' is corrupt"):
        export_file(path, text)
    skipped = {damage.stream for damage in export_file(path, text, skip_damaged=True).skipped}

    assert "flow-050" in skipped
    assert len(skipped) < 10
    assert {flow.stream for flow in read_export(text)} | skipped == {f"flow-{n:03d}" for n in range(100)}


def test_a_store_that_cannot_be_read_is_not_exported(filled, path, text):
    filled.close()
    spoil_root(path, "owner")

    with pytest.raises(StoreUnusable, match="the file is damaged"):
        export_file(path, text, skip_damaged=True)

    assert not text.exists()


def test_a_flow_that_is_longer_than_a_page_is_exported_whole(filled, path, text, monkeypatch):
    monkeypatch.setattr(stream_scan, "_PAGE", 3)

    export_file(path, text, flows=[ADA])

    (flow,) = read_export(text)
    assert [r.data for r in flow.records] == BODIES


@pytest.mark.parametrize("length", [10, 3_000_000])
def test_a_disk_that_is_full_is_told_and_nothing_is_left(store, path, text, length):
    """Some of it is met when a line is written, and some when the last of them are sent to the disk."""
    accept(store, create(ADA, record(b"x" * length)))
    pieces = []

    with room_for(20), pytest.raises(NotWritten, match="and was removed: File too large"):
        export_file(path, text)
    with room_for(20), pytest.raises(NotWritten, match="and was removed: File too large"):
        export(path, pieces.append)

    assert (text.exists(), pieces) == (False, [])
    export_file(path, text)


def test_a_disk_that_is_full_when_a_damaged_flow_is_taken_back_is_told(store, path, text, open_store):
    accept(store, create(ADA))
    store.close()
    tamper(path, "UPDATE record SET data = '7'")
    open_store()

    with room_for(20), pytest.raises(NotWritten, match="and was removed: File too large"):
        export_file(path, text, skip_damaged=True)

    assert not text.exists()


def test_without_any_place_for_a_temporary_file_nothing_is_handed_out(filled, path, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    pieces = []

    with pytest.raises(NotWritten, match="No such file"):
        export(path, pieces.append)

    assert pieces == []


# Importing


@pytest.mark.usefixtures("moved")
def test_the_same_import_again_changes_nothing(text, other, clock):
    again = import_(text, other, now=clock)

    assert (again.flows, again.present, again.conflicts) == (0, 4, ())
    assert exported(other) == text.read_bytes()


def test_it_can_come_through_a_pipe(filled, path, other, clock):
    class Pipe(io.RawIOBase):
        def __init__(self, data):
            self.data = io.BytesIO(data)

        def read(self, size=-1):
            return self.data.read(size)

    import_(Pipe(exported(path)), other, now=clock)

    assert exported(other) == exported(path)


def test_a_pipe_that_breaks_is_no_export(other, clock):
    class Broken(io.RawIOBase):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(NotAnExport, match="could not be read to its end: Input/output error"):
        import_(Broken(), other, now=clock)

    assert not other.exists()


def test_a_pipe_that_holds_more_than_there_is_room_for_is_told(other, clock):
    for size in (100, 1_000_000):
        pipe = io.BytesIO(b"x" * size)
        with room_for(20), pytest.raises(NotAnExport, match="could not be read to its end: File too large"):
            import_(pipe, other, now=clock)

    assert not other.exists()


@pytest.mark.usefixtures("filled")
def test_other_flows_of_the_store_stay(path, text, other, clock):
    export_file(path, text)
    with contextlib.closing(SqliteStore.open(other, now=clock)) as there:
        accept(there, create("older"), signal(stream="older"))

    import_(text, other, now=clock)

    assert [flow.stream for flow in read_export_of(other)] == ["older", ADA, BOB, "done", "held"]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "difference",
    [
        create("done", record(b'"other"')),
        create("done", record(), record(b'{"end":true}')),
        create("done", record(kind="flow_started"), record(b'{"end":true}'), change=ENDED),
    ],
    ids=["other records", "another status", "other signals"],
)
def test_a_flow_with_another_history_is_a_conflict(path, text, other, clock, difference):
    export_file(path, text)
    with contextlib.closing(SqliteStore.open(other, now=clock)) as there:
        accept(there, difference)
    before = exported(other)

    with pytest.raises(ImportConflict, match="'done'") as caught:
        import_(text, other, now=clock)
    assert caught.value.streams == ("done",)
    assert exported(other) == before

    done = import_(text, other, now=clock, skip_conflicts=True)
    assert (done.flows, done.conflicts) == (3, ("done",))
    assert exported(other, flows=["done"]) == before


@pytest.mark.usefixtures("moved")
def test_a_flow_that_is_damaged_in_the_store_is_a_conflict(text, other, clock):
    tamper(other, "UPDATE record SET data = '7' WHERE stream = 2")

    with pytest.raises(ImportConflict, match="'signup-bob'") as caught:
        import_(text, other, now=clock)

    assert caught.value.streams == (BOB,)
    assert import_(text, other, now=clock, skip_conflicts=True).present == 3


@pytest.mark.usefixtures("moved")
def test_a_store_that_cannot_be_compared_with_is_told(text, other, clock):
    spoil_root(other, "sqlite_autoindex_stream_1")

    with pytest.raises(StoreUnusable, match="the file is damaged"):
        import_(text, other, now=clock)


@pytest.mark.parametrize(("flows", "end"), [(5, ": '0', '1', '2', '3', '4'"), (7, ", '4' and 2 more")])
def test_a_few_of_the_flows_with_another_history_are_named(flows, end):
    refusal = importer._refusal({str(number) for number in range(flows)})

    assert str(refusal).endswith(end)
    assert len(refusal.streams) == flows


def test_a_flow_that_the_store_refuses_ends_the_import(open_store):
    """No text that was checked holds one; nothing is left out without a word all the same."""
    store = open_store(limits=StoreLimits(data=10))
    records = (NewRecord(AT, "started", b"x" * 11),)

    with pytest.raises(RecordTooLarge):
        importer._Writing(store, None).run(iter([Restore(ADA, "signup", header(), records)]))

    assert store.header(ADA) is None


def test_an_open_store_is_not_imported_into(filled, path, text):
    export_file(path, text)

    with pytest.raises(StoreOwned, match="already open in this process"):
        import_(text, path, now=lambda: 0)


def test_a_store_is_not_read_as_an_export(filled, path, other, clock):
    with pytest.raises(NotAnExport, match="is a store"):
        import_(path, other, now=clock)

    assert not other.exists()
    assert write_one(filled, append(1, record(), stream="held")) == Appended(2)


def test_what_is_not_there_is_named(tmp_path, other, clock):
    with pytest.raises(NotAnExport, match=r"cannot read .*missing\.jsonl: No such file"):
        import_(tmp_path / "missing.jsonl", other, now=clock)


def test_into_something_that_is_no_store(filled, path, text, other, clock):
    export_file(path, text)
    other.write_bytes(b"once upon a time " * 100)

    with pytest.raises(StoreUnusable):
        import_(text, other, now=clock)

    assert other.read_bytes() == b"once upon a time " * 100


@pytest.mark.usefixtures("filled", "batches_of_one")
def test_an_import_that_fails_at_any_commit_is_finished_by_the_next(path, text, tmp_path, clock, recorder):
    export_file(path, text)
    whole = {flow.stream: flow for flow in read_export(text)}
    for at in itertools.count(1):
        other = tmp_path / f"other-{at}.db"
        recorder.fail("wal", "sync", sync_error, at=at)
        try:
            import_(text, other, now=clock, vfs=recorder.vfs_name)
            break
        except StoreError:
            recorder.forgive()
        with contextlib.suppress(StoreUnusable):  # it failed so early that there is no store yet
            assert all(whole[flow.stream] == flow for flow in read_export_of(other))
        import_(text, other, now=clock)
        assert exported(other) == text.read_bytes()

    assert at > 5


@pytest.mark.usefixtures("filled", "batches_of_one")
def test_an_import_tells_how_much_of_the_text_it_has_read(path, text, other, clock):
    export_file(path, text)
    lines, told = text.read_bytes().splitlines(keepends=True), []
    begins = [0, *itertools.accumulate(map(len, lines))]
    ends = [at for at, line in zip(begins, lines, strict=False) if line.startswith((b'{"flow":', b'{"end":'))]

    import_(text, other, now=clock, on_progress=lambda done, total: told.append((done, total)))

    size = text.stat().st_size
    assert [done for done, _ in told] == [*ends[1:], size, *(2 * size + end for end in ends[1:]), 3 * size]
    assert {total for _, total in told} == {3 * size}


@pytest.mark.usefixtures("batches_of_one")
def test_an_import_keeps_the_log_short(store, path, text, other, monkeypatch):
    many = [create(f"flow-{n}", record(b"x" * 5000)) for n in range(100)]
    accept(store, *many)
    export_file(path, text)
    monkeypatch.setattr(sqlite, "LOG_PAGES_WHEN_IDLE", 20)
    sizes = []
    log = other.with_name(f"{other.name}-wal")
    import_(
        text, other, now=lambda: 0, on_progress=lambda *_: log.exists() and sizes.append(log.stat().st_size)
    )

    assert 0 < max(sizes) < 50 * sqlite.PAGE_SIZE


@pytest.mark.usefixtures("filled", "batches_of_one")
def test_an_import_that_is_stopped_is_finished_by_the_next(path, text, other, clock):
    export_file(path, text)

    def stop(done, total):
        if done > total * 0.8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_(text, other, now=clock, on_progress=stop)
    assert 0 < len(read_export_of(other)) < 4

    import_(text, other, now=clock)
    assert exported(other) == text.read_bytes()


DAMAGED = {
    "streams that go round in a circle": ("_KEYS", lambda row: (0,), StoreUnusable),
    "an instant of another type": ("_SIGNALS", lambda row: (*row[:5], "2", *row[6:]), RecordCorrupt),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_a_damaged_index_or_column_says_is_not_exported(monkeypatch, open_store, path, case):
    query, spoilt, error = DAMAGED[case]
    accept(open_store(path), create(), signal())
    real, damaged = stream_dump.rows, getattr(stream_dump, query)

    def rows(connection, statement, values=()):
        found = real(connection, statement, values)
        return [spoilt(row) for row in found] if statement == damaged else found

    monkeypatch.setattr(stream_dump, "rows", rows)

    with pytest.raises(error):
        export(path, lambda _: None)
