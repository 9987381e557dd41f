"""A page that cannot be read is the affair of those who have something on it."""

from __future__ import annotations

import shutil
import struct

import apsw
import pytest
from conformance.builders import ADA, AT, BOB, accept, append, create, header, record, signal
from persistasaurus.store import (
    Append,
    Appended,
    Delivered,
    GlobalRecord,
    InboxFull,
    QueryFailed,
    Record,
    RecordCorrupt,
    SignalConflict,
    SqliteStore,
    StoreError,
    StoreReader,
    StoreUnusable,
    StreamNotFound,
    StreamState,
    Unreadable,
    WrongExpectedVersion,
)
from persistasaurus.store.sqlite.indexes import damaged_indexes
from persistasaurus.store.sqlite.leftovers import Leftovers
from store.damage import PAGE, edit, lose_entry, pages_of, root_of, spoil_pages, spoil_root

COUNT = 400
NAMES = [f"flow-{n:03d}" + "x" * 100 for n in range(COUNT)]
NAME_INDEX = "sqlite_autoindex_stream_1"
RECORD_INDEX = "sqlite_autoindex_record_1"
INBOX_INDEX = "sqlite_autoindex_inbox_1"
PARKED = header("parked", StreamState.HELD)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store in which each table and each index has several pages."""
    path = tmp_path_factory.mktemp("whole") / "flows.db"
    store = SqliteStore.open(path, now=lambda: AT)
    accept(
        store,
        *[
            create(n, record(b"1" * 200), change=header("waiting", wake_at=AT + i))
            for i, n in enumerate(NAMES)
        ],
    )
    accept(store, *[append(1, record(b"2" * 200, at=AT + i), stream=n) for i, n in enumerate(NAMES)])
    accept(store, *[signal("k" * 100 + n, b'"%d"' % i, stream=n, at=AT + i) for i, n in enumerate(NAMES)])
    store.close()
    return path


@pytest.fixture
def path(whole, tmp_path):
    return shutil.copy(whole, tmp_path / "flows.db")


def at_rest(path, table, column):
    """Return the keys of the rows that can be read, each by itself."""
    connection = apsw.Connection(str(path))
    try:
        found = []
        for key in range(1, COUNT * 2 + 1):
            try:
                found += connection.execute(
                    f"SELECT {column} FROM {table} NOT INDEXED WHERE rowid = ?", (key,)
                )
            except apsw.CorruptError:
                continue
        return {key for (key,) in found}
    finally:
        connection.close()


def spoil(path, name, *places, kind="leaf"):
    pages = pages_of(path, name, kind)
    assert len(pages) > 1 or kind != "leaf"
    spoil_pages(path, [pages[place] for place in places] if places else pages)


def rest_of(path, answers):
    """Compare what is left of streams with what was there."""
    with StoreReader.open(path) as reader:
        return answers(reader)


# ------------------------------------------------------------------------------------------- reading
@pytest.mark.parametrize("name", [NAME_INDEX, "stream_due", RECORD_INDEX, INBOX_INDEX])
@pytest.mark.parametrize("kind", ["leaf", "internal"])
def test_an_index_that_cannot_be_read_hides_no_stream(path, whole, name, kind):
    with StoreReader.open(whole) as reader:
        expected = [h.stream for h in reader.headers(limit=1000)]
    spoil(path, name, kind=kind)

    with StoreReader.open(path) as reader:
        assert [h.stream for h in reader.headers(limit=1000)] == expected == NAMES
        assert [h.stream for h in reader.headers(limit=5, after=NAMES[3])] == NAMES[4:9]
        assert [h.stream for h in reader.due(AT + 5)] == NAMES[:6]
        assert [h.stream for h in reader.due(AT + 9, after=(AT + 5, NAMES[5]), limit=2)] == NAMES[6:8]
        assert reader.next_wake_at() == AT
        assert reader.header(NAMES[7]).stream == NAMES[7]
        assert reader.header(NAMES[7]).is_sound
        assert [r.version for r in reader.read(NAMES[7])] == [1, 2]
        assert [r.version for r in reader.read(NAMES[7], after=1, limit=1)] == [2]
        assert reader.newest_at() == AT + COUNT - 1


@pytest.mark.parametrize("place", [0, 1, -1])
def test_streams_whose_headers_cannot_be_read_are_listed_by_their_names(path, place):
    spoil(path, "stream", place)
    left = at_rest(path, "stream", "id")
    lost = [n for i, n in enumerate(NAMES) if i + 1 not in left]
    assert 0 < len(lost) < 100

    with StoreReader.open(path) as reader:
        found = reader.headers(limit=1000)
        assert [h.stream for h in found] == NAMES
        assert [h.stream for h in found if h.damage] == lost
        assert [h.stream for h in found if not h.is_sound] == lost
        assert [h.stream for h in reader.headers(limit=1000, status="waiting")] == [
            n for n in NAMES if n not in lost
        ]
        assert [h.stream for h in reader.due(AT + COUNT)] == NAMES
        assert [h.stream for h in _inspected(reader)] == lost
        header = reader.header(lost[0])
        assert (header.version, header.state, header.type, header.created_at) == (
            2,
            StreamState.HELD,
            "?",
            AT,
        )
        assert "cannot be read" in header.damage
        assert [r.version for r in reader.read(lost[0])] == [1, 2]


def _inspected(reader):
    damaged, after = [], 0
    while after is not None:
        found = reader.inspect(after=after, limit=70)
        damaged += found.damaged
        after = found.after
    return damaged


def test_streams_of_which_not_even_the_name_is_left_are_listed_by_their_numbers(path):
    spoil(path, "stream", 1)
    spoil(path, NAME_INDEX)

    with StoreReader.open(path) as reader:
        found = reader.headers(limit=1000)
        lost = [h for h in found if h.damage]
        assert len(found) == COUNT
        assert all(h.stream.startswith("stream ") and h.stream.endswith("?") for h in lost)
        with pytest.raises(StoreUnusable, match="damaged"):
            reader.header("nobody knows")


def test_numbers_that_were_given_out_for_nothing_are_no_streams_and_no_records(path):
    tamper(path, "DELETE FROM stream WHERE id = 10", "DELETE FROM record WHERE stream = 10")
    spoil(path, "stream", 0)
    spoil(path, "record", 0)
    for table, column in (("stream", "id"), ("record", "position")):
        assert not {9, 11} & at_rest(path, table, column)

    with StoreReader.open(path) as reader:
        assert [h.stream for h in reader.headers(limit=1000)] == [n for n in NAMES if n != NAMES[9]]
        found = {one.position for one in reader.scan_all(limit=1000)}
        assert found == {*range(1, 2 * COUNT + 1)} - {10, COUNT + 10}


def test_a_stream_that_is_due_and_has_no_header_any_more_is_told_by_its_name(path):
    _without_index(path, "DELETE FROM stream WHERE id = 3")

    with StoreReader.open(path) as reader:
        due = reader.due(AT + 5)
        assert [h.wake_at for h in due] == [AT + n for n in range(6)]
        assert [h.stream for h in due if h.damage] == ["stream 3?"]


def test_where_the_index_of_words_cannot_be_read_streams_are_found_by_their_status(path):
    spoil_root(path, "sqlite_autoindex_word_1")

    with StoreReader.open(path) as reader:
        assert [h.stream for h in reader.headers(status="waiting", limit=1000)] == NAMES
        assert reader.headers(status="never so") == []


def test_records_that_cannot_be_read_are_named_with_their_stream_and_version(path):
    spoil(path, "record", 2)
    left = at_rest(path, "record", "position")
    lost = sorted(set(range(1, 2 * COUNT + 1)) - left)

    with StoreReader.open(path) as reader:
        found = reader.scan_all(limit=1000)
        gaps = [one for one in found if isinstance(one, Unreadable)]
        sound = [one for one in found if isinstance(one, GlobalRecord)]
        assert [gap.position for gap in gaps if "malformed" in gap.reason] == lost
        assert [gap.stream for gap in gaps[: len(lost)]] == [NAMES[n - 1] for n in lost]
        assert {gap.version for gap in gaps[: len(lost)]} == {1}
        # Those behind them are there, and nothing is left to check them by.
        assert [(gap.stream, gap.version) for gap in gaps[len(lost) :]] == [(NAMES[n - 1], 2) for n in lost]
        assert len(sound) == 2 * (COUNT - len(lost))
        assert len(reader.scan_all(after=lost[-1], limit=7)) == 7
        with pytest.raises(RecordCorrupt, match=NAMES[lost[0] - 1]):
            reader.read_all(limit=1000)


def test_a_history_goes_on_behind_a_record_that_cannot_be_read(store):
    accept(store, create(change=header()), *[append(n, record(b"%d" % n * 1000)) for n in range(1, 20)])
    path = store.path
    store.close()
    image = path.read_bytes()
    spoil_pages(path, [image.index(b"1010101010") // 4096 + 1])

    with StoreReader.open(path) as reader:
        found = reader.scan(ADA)
        gaps = [one.version for one in found if isinstance(one, Unreadable)]
        assert [one.version for one in found] == list(range(1, 21))
        assert 11 in gaps
        assert len(gaps) < 8
        with pytest.raises(RecordCorrupt, match=f"record {gaps[0]} "):
            reader.read(ADA)
        behind = reader.scan(ADA, after=gaps[-1], limit=2)
        assert [type(one) for one in behind] == [Record, Record]
        assert [one.version for one in reader.scan(ADA, after=gaps[0])] == list(range(gaps[0] + 1, 21))


@pytest.fixture
def store(tmp_path):
    store = SqliteStore.open(tmp_path / "one.db", now=lambda: AT)
    yield store
    store.close()


@pytest.mark.parametrize(
    ("statement", "versions"),
    [
        ("DELETE FROM record WHERE version = 2", [2]),
        ("DELETE FROM record WHERE version = 4", [4]),
        ("UPDATE record SET data = '7' WHERE version = 2", [2]),
    ],
)
def test_a_record_that_is_gone_or_altered_stands_in_its_place(store, statement, versions):
    accept(
        store, create(), *[append(n, record()) for n in range(1, 3)], append(3, record(), change=header("x"))
    )
    path = store.path
    store.close()
    tamper(path, statement)

    with StoreReader.open(path) as reader:
        found = reader.scan(ADA)
        assert [one.version for one in found if isinstance(one, Unreadable)][:1] == versions
        with pytest.raises(RecordCorrupt, match=f"record {versions[0]} "):
            reader.read(ADA)


def tamper(path, *statements):
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement).fetchall()
    connection.close()


def test_when_the_newest_cannot_be_read_the_one_before_tells_the_time(path):
    tamper(
        path,
        f"UPDATE record SET at = at + 1000000 WHERE position > {2 * COUNT - 3}",
        "UPDATE inbox SET at = 7",
    )
    with StoreReader.open(path) as reader:
        assert reader.newest_at() == AT + COUNT - 4

    spoil(path, "inbox", -1)
    spoil(path, "record", -1)
    with StoreReader.open(path) as reader:
        assert AT + COUNT - 40 < reader.newest_at() < AT + COUNT - 3


def test_when_nothing_can_be_read_nothing_tells_the_time(path):
    spoil(path, "record")
    spoil(path, "inbox")

    with StoreReader.open(path) as reader:
        assert reader.newest_at() is None


def test_an_inbox_that_cannot_be_read_is_named(path):
    spoil(path, "inbox", 1)

    with StoreReader.open(path) as reader:
        damaged = []
        for name in NAMES:
            try:
                assert len(reader.inbox(name)) == 1
            except RecordCorrupt as error:
                damaged.append(error.stream)
        assert 0 < len(damaged) < 100


# ------------------------------------------------------------------------------------------- loading
def read_apart(reader, name, limit):
    """Read a stream question by question: what `load` is to say of it, damaged or not."""
    try:
        found = reader.header(name)
        if found is None:
            return None
        is_long = found.version > limit
        records = said(lambda: reader.read(name, limit=limit if is_long else None))
        return found, records, said(lambda: reader.inbox(name)), is_long
    except StoreError as error:
        return type(error), str(error)


def said(read):
    try:
        return read()
    except RecordCorrupt as error:
        return str(error)


def loaded(reader, names, limit):
    for one in reader.load(names, records=limit):
        if one is None:
            yield None
        elif isinstance(one, Exception):
            yield type(one), str(one)
        else:
            records, signals = (str(s) if isinstance(s, Exception) else s for s in (one.records, one.signals))
            yield one.header, records, signals, one.has_more


ROWS = {
    "header": "UPDATE stream SET wake_at = 5 WHERE id % 7 = 1",
    "name": "UPDATE stream SET name = name || 'y' WHERE id % 7 = 1",
    "text": "UPDATE stream SET name = CAST(x'ff' || id AS TEXT) WHERE id % 7 = 1",
    "record": "UPDATE record SET data = 'x' WHERE position % 7 = 1",
    "first record": "DELETE FROM record WHERE version = 1 AND stream % 7 = 1",
    "last record": "DELETE FROM record WHERE version = 2 AND stream % 7 = 1",
    "records": "DELETE FROM record WHERE stream % 7 = 1",
    "version": "UPDATE record SET version = 9 WHERE version = 2 AND stream % 7 = 1",
    "kind": "UPDATE record SET kind = 99 WHERE position % 7 = 1",
    "signal": "UPDATE inbox SET data = 'x' WHERE id % 7 = 1",
    "key": "UPDATE inbox SET key = CAST(x'ff' || id AS TEXT) WHERE id % 7 = 1",
}


@pytest.mark.parametrize("limit", [1, 2, 9])
@pytest.mark.parametrize("row", ROWS)
def test_damaged_rows_are_told_of_a_page_of_streams_as_of_each_by_itself(path, row, limit):
    tamper(path, ROWS[row])

    with StoreReader.open(path) as reader:
        page = NAMES[:40]
        expected = [read_apart(reader, name, limit) for name in page]
        assert [*loaded(reader, page, limit)] == expected
        assert [next(loaded(reader, [name], limit)) for name in page] == expected


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize(
    "name", ["stream", "record", "inbox", "word", NAME_INDEX, RECORD_INDEX, INBOX_INDEX, "inbox_waiting"]
)
def test_a_page_that_cannot_be_read_concerns_its_streams_alone_when_many_are_loaded(path, name, place):
    if len(pages_of(path, name, "leaf")) > 1:
        spoil(path, name, place)
    else:
        spoil_root(path, name)

    with StoreReader.open(path) as reader:
        for page in (["nobody", *NAMES[:40]], NAMES[-40:]):
            assert [*loaded(reader, page, 9)] == [read_apart(reader, name, 9) for name in page]


def test_a_stream_whose_name_is_damaged_in_its_table_alone_is_loaded_by_its_index(path):
    at = (pages_of(path, "stream")[0] - 1) * PAGE
    page = path.read_bytes()[at : at + PAGE]
    assert NAMES[0].encode() in page
    edit(path, at, page.replace(NAMES[0].encode(), b"F" + NAMES[0].encode()[1:]))

    with StoreReader.open(path) as reader:
        assert [*loaded(reader, NAMES[:3], 9)] == [read_apart(reader, name, 9) for name in NAMES[:3]]
        assert [h.stream for h in reader.headers(limit=3)] != NAMES[:3] or reader.headers(limit=3)[0].damage


def test_an_index_entry_of_another_stream_is_seen_when_many_are_loaded(path):
    lose_entry(path, RECORD_INDEX, 5)

    with StoreReader.open(path) as reader:
        assert [*loaded(reader, NAMES[:40], 9)] == [read_apart(reader, name, 9) for name in NAMES[:40]]


# ------------------------------------------------------------------------------------------- looking
def test_a_header_whose_name_alone_is_damaged_is_found_by_the_index(path):
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE stream SET name = 'other' WHERE id = 5")
    connection.close()
    with StoreReader.open(path) as reader:
        (found,) = _inspected(reader)
        assert (found.stream, found.is_sound) == ("other", False)

    image = bytearray(path.read_bytes())
    pages = pages_of(path, "stream")
    for page in pages:
        start = (page - 1) * 4096
        at = image.find(NAMES[10].encode(), start, start + 4096)
        if at >= 0:
            image[at] ^= 1
    path.write_bytes(image)
    with StoreReader.open(path) as reader:
        found = next(h for h in reader.headers(limit=1000) if h.stream == NAMES[10])
        assert found.is_sound
        assert found.damage == "its name does not match its checksum"
        assert reader.header(NAMES[10]).damage is None


def test_a_stream_that_is_due_by_the_index_and_not_by_its_header_comes_when_the_index_says(path):
    _without_index(path, "UPDATE stream SET wake_at = wake_at + 5000000 WHERE id = 3")

    with StoreReader.open(path) as reader:
        due = reader.due(AT + 5)
        assert [h.stream for h in due] == NAMES[:6]
        assert [h.stream for h in due if h.damage] == [NAMES[2]]
        assert due[2].wake_at == AT + 2
        found = reader.inspect()
        assert found.is_index_damaged
        assert [h.stream for h in found.damaged] == [NAMES[2]]
    store = SqliteStore.open(path, now=lambda: AT)
    assert store.mend() == ["stream_due"]
    assert store.mend() == []
    assert not store.inspect().is_index_damaged
    store.close()


def _without_index(path, statement):
    """Change a table behind the back of its index."""
    root = root_of(path, "stream_due")
    connection = apsw.Connection(str(path))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    connection.pragma("writable_schema", "ON")
    (row,) = connection.execute(
        "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE name = 'stream_due'"
    )
    connection.execute("DELETE FROM sqlite_schema WHERE name = 'stream_due'")
    connection.close()
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    connection.pragma("writable_schema", "ON")
    connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
    connection.close()
    assert root_of(path, "stream_due") == root


# ------------------------------------------------------------------------------------------- writing
def opened(path):
    return SqliteStore.open(path, now=lambda: AT)


def test_a_write_that_meets_a_damaged_page_harms_no_other(path):
    spoil(path, "record", -4)
    store = opened(path)
    left = at_rest(path, "record", "position")
    (lost,) = {NAMES[n - COUNT - 1] for n in (min(set(range(COUNT + 1, 2 * COUNT)) - left),)}
    writes = [append(2, record(), stream=n) for n in (NAMES[0], lost, NAMES[1])]

    first, refused, last = store.commit([*writes])

    assert (first, last) == (Appended(3), Appended(3))
    assert isinstance(refused, RecordCorrupt)
    assert refused.stream == lost
    header_only = Append(lost, 2, (), PARKED)
    outcomes = store.commit([header_only, append(3, record(), stream=NAMES[0])])
    assert outcomes == [Appended(2), Appended(4)]
    assert store.header(lost).status == "parked"
    assert store.header(lost).damage
    store.close()


@pytest.mark.parametrize("place", [1, -1])
def test_a_stream_whose_header_cannot_be_read_takes_nothing_and_the_others_do(path, place):
    spoil(path, "stream", place)
    left = at_rest(path, "stream", "id")
    lost = next(n for i, n in enumerate(NAMES) if i + 1 not in left)
    store = opened(path)

    for _ in range(2):
        outcomes = store.commit(
            [
                Append(lost, 2, (record(),), PARKED, "signup"),
                signal("new", stream=lost),
                append(2, record(), stream=NAMES[100], change=header("waiting")),
                signal("new", stream=NAMES[101]),
            ]
        )
        assert [type(o) for o in outcomes[:2]] == [RecordCorrupt, RecordCorrupt]
    assert isinstance(outcomes[2], WrongExpectedVersion)  # by the second time
    assert isinstance(outcomes[3], Delivered)
    store.close()


def test_a_new_stream_is_not_begun_where_there_may_be_one_already(path):
    spoil(path, NAME_INDEX)
    spoil(path, "stream", 1)
    store = opened(path)

    new, old = store.commit([create("new"), append(2, record(), stream=NAMES[5])])

    assert isinstance(new, RecordCorrupt)
    assert old == Appended(3)
    store.close()


def test_where_no_record_can_be_written_nothing_can(path):
    spoil(path, RECORD_INDEX, kind="internal")
    spoil(path, "record", 1)
    store = opened(path)

    with pytest.raises(StoreUnusable, match="replace it by a backup"):
        store.commit([append(2, record(), stream=NAMES[0])])
    store.close()


def test_a_store_whose_last_record_cannot_be_read_is_refused_and_says_what_to_do(path):
    spoil(path, "record", -1)

    with pytest.raises(StoreUnusable, match="`persistasaurus export --skip-damaged`"):
        opened(path)


def test_numbers_are_not_given_out_again_where_the_table_cannot_tell_them(path):
    spoil(path, "stream", -1)
    spoil(path, "inbox", -1)
    store = opened(path)

    assert store._writer._numbers == (2 * COUNT, COUNT, COUNT)
    store.close()


def test_an_inbox_that_cannot_be_read_takes_nothing_and_its_stream_can_be_parked(path):
    spoil(path, "inbox", 1)
    store = opened(path)
    lost = next(n for n in NAMES if _is_unreadable(store, n))

    parking = append(2, record(), stream=lost, change=PARKED)
    outcomes = store.commit([signal("new", stream=lost), parking, append(2, record(), stream=NAMES[-1])])

    assert isinstance(outcomes[0], RecordCorrupt)
    assert outcomes[1:] == [Appended(3), Appended(3)]
    store.close()


def _is_unreadable(store, name):
    try:
        store.inbox(name)
    except RecordCorrupt:
        return True
    return False


def test_a_damaged_header_is_made_anew_by_an_append_that_says_all_of_it(path):
    tamper(path, "UPDATE stream SET wake_at = 5, created_at = 5, type = 99 WHERE id = 1")
    store = opened(path)

    refused = store.commit(
        [
            append(2, record(), stream=NAMES[0]),
            append(2, record(), stream=NAMES[0], change=PARKED),
            signal("new", stream=NAMES[0]),
        ]
    )
    assert [type(outcome) for outcome in refused] == [RecordCorrupt] * 3
    assert not store.header(NAMES[0]).is_sound
    accept(store, Append(NAMES[0], 2, (record(),), header("waiting", wake_at=AT + 9), "signup"))

    found = store.header(NAMES[0])
    assert (found.damage, found.type, found.created_at, found.wake_at) == (None, "signup", AT, AT)
    assert [f for f in store.verify() if f.stream == NAMES[0]] == []
    store.close()


# ------------------------------------------------------------------------------------------- signals
@pytest.mark.parametrize("column", ["name", "data"])
@pytest.mark.parametrize("damage", ["CAST(x'ff6174' AS TEXT)", "'later'"])
def test_a_signal_that_is_sent_again_mends_what_was_damaged_of_it(path, column, damage):
    key, data = "k" * 100 + NAMES[0], b'"0"'
    tamper(path, f"UPDATE inbox SET {column} = {damage} WHERE id = 1")
    store = opened(path)
    with pytest.raises(RecordCorrupt):
        store.inbox(NAMES[0])

    conflict, again = store.commit(
        [signal(key, b'"other"', stream=NAMES[0]), signal(key, data, stream=NAMES[0], at=AT + 5)]
    )

    assert isinstance(conflict, RecordCorrupt)
    assert again == Delivered(1, AT, duplicate=True)
    assert [entry.data for entry in store.inbox(NAMES[0])] == [data]
    assert store.verify() == []
    store.close()


# ------------------------------------------------------------------------------- indexes made anew
INDEXES = (
    NAME_INDEX,
    RECORD_INDEX,
    INBOX_INDEX,
    "stream_due",
    "inbox_waiting",
    "sqlite_autoindex_word_1",
    "sqlite_autoindex_dead_letter_1",
)


@pytest.fixture(scope="module")
def with_letters(whole, tmp_path_factory):
    """The same store, with dead letters."""
    path = shutil.copy(whole, tmp_path_factory.mktemp("letters") / "flows.db")
    store = opened(path)
    done = header("failed", StreamState.ENDED)
    accept(store, *[append(2, record(), change=done, stream=name) for name in NAMES[:5]])
    store.close()
    return path


@pytest.fixture
def lettered(with_letters, tmp_path):
    return shutil.copy(with_letters, tmp_path / "letters.db")


def mended(path):
    connection = apsw.Connection(str(path))
    try:
        return [index.name for index in damaged_indexes(connection)]
    finally:
        connection.close()


def test_indexes_that_are_whole_are_left_alone(lettered):
    assert mended(lettered) == []


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("damage", ["lost", "unreadable"])
def test_an_index_that_does_not_fit_its_table_is_made_anew(lettered, index, damage, caplog):
    if damage == "lost":
        lose_entry(lettered, index, 1)
    else:
        spoil_root(lettered, index)
    assert mended(lettered) == [index]
    store = opened(lettered)

    assert store.mend() == [index]

    assert f"The index {index} of the store was damaged" in caplog.text
    assert [f for f in store.verify() if "never used" not in f.reason] == []
    accept(store, create("new"), append(2, record(), stream=NAMES[9]), signal("new", stream=NAMES[9]))
    store.close()
    assert mended(lettered) == []
    with StoreReader.open(lettered) as reader:
        assert [r.version for r in reader.read(NAMES[0])] == [1, 2, 3]
        assert len(reader.dead_letters()) == 5
        assert reader.header("new") is not None


@pytest.mark.parametrize(
    ("index", "statement"),
    [
        (NAME_INDEX, "UPDATE stream SET created_at = 7 WHERE id = {}"),
        (RECORD_INDEX, "UPDATE record SET at = 7 WHERE stream = {}"),
        (INBOX_INDEX, "UPDATE inbox SET at = 7 WHERE stream = {}"),
        ("sqlite_autoindex_dead_letter_1", "UPDATE dead_letter SET at = 7 WHERE inbox = {}"),
    ],
)
def test_an_index_is_left_alone_where_its_table_does_not_match_its_checksums(lettered, index, statement):
    tamper(lettered, *[statement.format(stream) for stream in range(1, 8)])
    lose_entry(lettered, index, 1)

    assert mended(lettered) == []


@pytest.mark.parametrize("word", ["waiting", "step_completed"])
def test_the_index_of_words_is_left_alone_where_a_word_itself_is_damaged(path, word):
    image = path.read_bytes()
    (page,) = pages_of(path, "word")
    at = image.index(word.encode(), (page - 1) * 4096, page * 4096)
    edit(path, at, b"W")

    assert mended(path) == []


def test_the_index_of_words_is_left_alone_where_those_who_use_them_cannot_be_read(path):
    lose_entry(path, "sqlite_autoindex_word_1", 0)
    spoil(path, "record", 1)

    assert mended(path) == []


def test_an_index_that_is_damaged_like_its_table_is_left_alone(path):
    spoil(path, RECORD_INDEX, 1)
    spoil(path, "record", 1)
    store = opened(path)

    assert store.mend() == []

    assert len(store.headers(limit=1000)) == COUNT
    store.close()


def test_of_an_index_that_lacks_nearly_everything_not_each_row_is_looked_at(path):
    connection = apsw.Connection(str(path))
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)"
        " INSERT INTO dead_letter (inbox, at, reason, seal) SELECT i, 0, '', 0 FROM n"
    )
    connection.close()
    (root,) = pages_of(path, "sqlite_autoindex_dead_letter_1", "internal")
    edit(path, (root - 1) * 4096, b"\x0a\0\0\0\0\x10\0\0")  # a leaf without entries

    assert mended(path) == ["sqlite_autoindex_dead_letter_1"]


def test_records_that_their_index_has_lost_are_read_from_the_table_before_and_after_it_is_mended(path):
    lose_entry(path, RECORD_INDEX, 2)
    lost = NAMES[1]
    with StoreReader.open(path) as reader:
        assert [r.version for r in reader.read(lost)] == [1, 2]
        assert [r.version for r in reader.scan(lost)] == [1, 2]

    store = opened(path)
    assert [r.version for r in store.read(lost)] == [1, 2]
    accept(store, append(2, record(), stream=lost), append(2, record(), stream=NAMES[2]))

    assert [r.version for r in store.read(lost)] == [1, 2, 3]
    assert store.verify() == []
    store.close()


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("name", INDEXES)
def test_whatever_bit_flips_in_an_entry_of_an_index_nobody_is_told_what_is_not_an_answer(
    store, tmp_path, name, place
):
    streams = [ADA, BOB]
    changes = [header("waiting", wake_at=AT), header("failed", StreamState.ENDED)]
    accept(store, *[create(n, record()) for n in streams], *[signal("k", stream=n) for n in streams])
    accept(store, create("once", record()))
    accept(store, *[append(1, record(), stream=n, change=c) for n, c in zip(streams, changes, strict=True)])
    store.close()
    path = store.path.with_name("flipped.db")
    image = store.path.read_bytes()
    (page,) = pages_of(store.path, name)
    start = (page - 1) * 4096
    (count,) = struct.unpack_from(">H", image, start + 3)
    pointers = struct.unpack_from(f">{count}H", image, start + 8)
    at = start + pointers[place]

    for byte in range(at, at + 1 + image[at]):
        for bit in range(8):
            flipped = bytearray(image)
            flipped[byte] ^= 1 << bit
            path.write_bytes(flipped)
            with StoreReader.open(path) as reader:
                for found in _answers(reader, streams):
                    assert isinstance(found, list)


def _answers(reader, streams):
    def numbers(headers):
        assert all(type(h.version) is int for h in headers)
        return headers

    yield numbers(reader.headers())
    yield numbers(reader.due(AT + 9))
    yield reader.scan_all()
    yield reader.verify()
    yield reader.dead_letters()
    for stream in streams:
        for ask in (reader.header, reader.scan, reader.read, reader.inbox):
            try:
                ask(stream)
            except (RecordCorrupt, StreamNotFound, StoreUnusable):
                continue


@pytest.mark.parametrize("version", [2, 11, 20])
def test_a_record_whose_number_is_damaged_in_the_index_is_read_from_the_table(store, version):
    accept(store, create(change=header()), *[append(n, record()) for n in range(1, 20)])
    path = store.path
    store.close()
    (page,) = pages_of(path, RECORD_INDEX)
    # The head of an entry, and in it the types of stream, version and position; then version and position.
    entry = bytes([4, 9, 1, 1, version, version])
    at = path.read_bytes().index(entry, (page - 1) * 4096, page * 4096)
    edit(path, at + 2, bytes([15]))  # a text, which is behind all numbers

    with StoreReader.open(path) as reader:
        assert [one.version for one in reader.read(ADA)] == list(range(1, 21))
        assert reader.header(ADA).version == 20
        assert reader.verify() != []
    store = opened(path)
    assert store.mend() == [RECORD_INDEX]
    assert store.verify() == []
    store.close()


def test_of_two_rows_that_say_to_be_the_same_record_the_one_with_its_checksum_is_read(path):
    connection = apsw.Connection(str(path))
    row = connection.execute("SELECT * FROM record WHERE stream = 2 AND version = 1").fetchone()
    connection.close()
    lose_entry(path, RECORD_INDEX, 2)
    # It becomes damaged, and was there as well behind all others.
    _put(path, "UPDATE record SET at = 7 WHERE position = ?", row[:1])
    _put(path, "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?)", (2 * COUNT + 1, *row[1:]))
    lose_entry(path, RECORD_INDEX, 2)

    with StoreReader.open(path) as reader:
        assert [r.at for r in reader.read(NAMES[1])] == [row[3], AT + 1]


def _put(path, statement, values):
    connection = apsw.Connection(str(path))
    connection.execute(statement, values).fetchall()
    connection.close()


def test_a_history_that_is_damaged_itself_is_compared_with_its_table_once(path):
    tamper(path, "UPDATE record SET data = '7' WHERE stream = 2 AND version = 1")
    store = opened(path)
    with pytest.raises(RecordCorrupt):
        store.read(NAMES[1])
    accept(store, append(2, record(), stream=NAMES[0]))

    with pytest.raises(RecordCorrupt, match="record 1 of"):
        store.read(NAMES[1])
    assert not store._queries.doubts_index
    store.close()


def test_an_index_of_names_is_not_made_anew_for_a_row_that_is_damaged_itself(path):
    image = bytearray(path.read_bytes())
    for page in pages_of(path, "stream"):
        start = (page - 1) * 4096
        at = image.find(NAMES[10].encode(), start, start + 4096)
        if at >= 0:
            image[at] ^= 1
    path.write_bytes(image)
    assert mended(path) == []


# -------------------------------------------------------------------------- letters, words, statements
def test_dead_letters_that_cannot_be_read_are_told_beside_the_others(lettered):
    expected = StoreReader.open(lettered).dead_letters()
    assert len(expected) == 5
    spoil(lettered, "inbox", 0)

    with StoreReader.open(lettered) as reader:
        found = reader.dead_letters()
        assert [(one.id, one.stream, one.key, one.at) for one in found] == [
            (one.id, one.stream, one.key, one.at) for one in expected
        ]
        assert all("its signal cannot be read" in one.reason for one in found)
        assert reader.dead_letters(stream=NAMES[2], limit=1)[0].stream == NAMES[2]
        assert [one.id for one in reader.dead_letters(after=expected[2].id)] == [4, 5]


def test_dead_letters_themselves_that_cannot_be_read_are_known_by_their_index(lettered):
    spoil_root(lettered, "dead_letter")
    with StoreReader.open(lettered) as reader:
        found = reader.dead_letters()
        assert [one.id for one in found] == [1, 2, 3, 4, 5]
        assert {one.stream for one in found} == set(NAMES[:5])
        assert all("it cannot be read" in one.reason for one in found)


def test_without_an_index_each_number_may_have_been_a_dead_letter(lettered):
    tamper(lettered, "DELETE FROM dead_letter WHERE id = 3")
    spoil_root(lettered, "dead_letter")
    with StoreReader.open(lettered) as reader:
        assert [one.id for one in reader.dead_letters()] == [1, 2, 4, 5]

    spoil_root(lettered, "sqlite_autoindex_dead_letter_1")
    with StoreReader.open(lettered) as reader:
        assert reader.dead_letters() == []


def test_a_dead_letter_beside_a_damaged_index_is_told_all_the_same(lettered):
    spoil_root(lettered, "sqlite_autoindex_dead_letter_1")
    spoil(lettered, "inbox", 0)
    with StoreReader.open(lettered) as reader:
        assert [one.stream for one in reader.dead_letters()] == NAMES[:5]


def test_statements_that_meet_a_damaged_page_are_answered_from_what_is_left(lettered):
    statement = "SELECT count(*) FROM flows"
    with StoreReader.open(lettered) as reader:
        answer = reader.query(statement)
        assert answer.damage is None
        (everything,) = next(answer)
    spoil(lettered, "record", 3)
    spoil(lettered, "inbox", 2)
    tamper(lettered, "UPDATE word SET word = CAST(x'ff6174' AS TEXT) WHERE word = 'signup'")

    with StoreReader.open(lettered) as reader:
        records = reader.query("SELECT sum(length(data)), count(*) FROM record")
        assert "of record" in records.damage
        assert "of inbox" in records.damage
        ((_, count),) = list(records)
        assert 2 * COUNT - 60 < count < 2 * COUNT + 5
        assert list(reader.query("SELECT sum(length(data)) > 0 FROM record, word WHERE word.id = ?", (1,)))
        assert next(reader.query("SELECT count(*), sum(length(args)) FROM flows"))[0] == everything


def test_a_row_with_another_ones_key_is_left_out_of_what_is_left(path):
    lose_entry(path, RECORD_INDEX, 2)
    _put(path, "INSERT INTO record VALUES (?, 2, 1, 0, 0, x'', '{}')", (2 * COUNT + 1,))
    spoil(path, "record", 5)

    with StoreReader.open(path) as reader:
        found = list(reader.query("SELECT at FROM record NOT INDEXED WHERE stream = 2"))
        assert found == [(AT,), (AT + 1,)]


def test_what_a_statement_itself_is_to_blame_for_is_told_of_a_damaged_store_as_well(path):
    spoil(path, "record", 3)
    with StoreReader.open(path) as reader, pytest.raises(QueryFailed):
        reader.query("SELECT nothing FROM nowhere")


def test_where_nothing_can_be_copied_a_statement_fails(path, monkeypatch):
    spoil(path, "record", 3)
    monkeypatch.setattr(Leftovers, "_copy", lambda *_: 1 / 0)
    with StoreReader.open(path) as reader, pytest.raises(ZeroDivisionError):
        reader.query("SELECT sum(length(data)) FROM record")


def words_of(path):
    with StoreReader.open(path) as reader:
        return reader.damaged_words()


def test_words_that_are_damaged_are_told_by_whoever_uses_them(path):
    assert words_of(path) == []
    tamper(path, "UPDATE word SET word = 'waitinh' WHERE word = 'waiting'")
    found = words_of(path)
    assert "waitinh" in found
    tamper(path, "UPDATE word SET word = 'waiting' WHERE word = 'waitinh'")
    assert words_of(path) == []

    tamper(path, "UPDATE word SET word = 'Step' WHERE word = 'step_completed'")
    assert words_of(path) == ["Step"]
    tamper(path, "DELETE FROM word WHERE word = 'Step'")
    (missing,) = words_of(path)
    assert missing.startswith("word ")


def test_a_word_that_one_damaged_header_alone_uses_is_not_suspected(store):
    accept(store, create())
    path = store.path
    store.close()
    tamper(path, "UPDATE stream SET created_at = 7")
    assert words_of(path) == []

    (page,) = pages_of(path, "word")
    edit(path, path.read_bytes().index(b"signup", (page - 1) * 4096), b"S")
    assert words_of(path) == ["Signup"]


# ----------------------------------------------------------------------- signals whose key is damaged
def test_a_signal_whose_key_is_damaged_is_known_again_when_it_is_resent(path):
    key, other = "k" * 100 + NAMES[0], "k" * 100 + NAMES[1]
    store = opened(path)
    entry = store.inbox(NAMES[0])[0]
    accept(store, append(2, record(), stream=NAMES[0], consumed=(entry.id,)))
    store.close()
    tamper(path, "UPDATE inbox SET key = 'other' WHERE id IN (1, 2)")
    store = opened(path)

    settled, waiting, new = store.commit(
        [
            signal(key, b'"0"', stream=NAMES[0]),
            signal(other, b'"1"', stream=NAMES[1]),
            signal("new", b'"0"', stream=NAMES[0]),
        ]
    )

    assert settled == Delivered(1, AT, duplicate=True)
    assert waiting == Delivered(2, AT + 1, duplicate=True)
    assert not new.duplicate
    assert [one.key for one in store.inbox(NAMES[1])] == [other]
    assert store.verify() == []
    store.close()


def test_another_signal_under_a_key_that_is_damaged_is_a_conflict(path):
    tamper(path, "UPDATE inbox SET key = 'other' WHERE id = 1")
    store = opened(path)

    (outcome,) = store.commit([signal("k" * 100 + NAMES[0], b'"9"', stream=NAMES[0])])

    assert isinstance(outcome, SignalConflict)
    store.close()


def test_of_very_many_signals_some_are_looked_at_and_the_index_tells_of_the_others(store):
    accept(store, create(), *[signal(f"key-{number:04d}", b"1") for number in range(1000)])
    path = store.path
    store.close()
    store = opened(path)

    again, conflict, new = store.commit(
        [signal("key-0007", b"1"), signal("key-0008", b"2"), signal("key-1000", b"1")]
    )

    assert again.duplicate
    assert isinstance(conflict, SignalConflict)
    assert isinstance(new, InboxFull | Delivered)
    store.close()


def test_a_signal_is_new_where_the_ones_before_it_cannot_be_read_and_their_index_can(path):
    store = opened(path)
    accept(store, *[append(2, record(), stream=n, consumed=(i + 1,)) for i, n in enumerate(NAMES)])
    store.close()
    spoil(path, "inbox", 1)
    store = opened(path)

    outcomes = store.commit([signal("new", stream=name) for name in NAMES])

    assert all(isinstance(outcome, Delivered) and not outcome.duplicate for outcome in outcomes)
    store.close()
