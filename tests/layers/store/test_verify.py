"""Damage is found, and named."""

from __future__ import annotations

import random

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
from persistasaurus.store import Corruption, RecordCorrupt, StoreError, StoreUnusable, StreamState
from persistasaurus.store.sqlite import checksum, verify
from store.damage import PAGE, edit, root_of, tamper

BODIES = [b'{"record":"number %d of many that are alike"}' % n for n in range(1, 9)]


@pytest.fixture
def closed(store, path):
    """A closed store with a bit of everything."""
    accept(store, create(ADA, *[record(body, kind=f"kind-{n % 3}") for n, body in enumerate(BODIES[:5])]))
    accept(store, create(BOB, *[record(body) for body in BODIES[5:]], kind="hello"))
    accept(store, *[signal(f"mail-{n}", b'"signal %d"' % n, stream=BOB) for n in range(5)])
    accept(store, append(3, stream=BOB, consumed=(1,), rejected=((2, "not a date"),)))
    accept(store, create("done", record(b"{}")), signal(stream="done"))
    accept(store, append(1, record(b'{"end":true}'), stream="done", change=ENDED))
    accept(store, create("asleep", change=header("waiting", wake_at=2**50)))
    assert store.verify() == []
    store.close()
    return path


def flip(path, offset, bit):
    image = bytearray(path.read_bytes())
    image[offset] ^= 1 << bit
    path.write_bytes(image)


def contents(store):
    headers = store.headers()
    return (
        headers,
        [store.read(h.stream) for h in headers],
        store.read_all(),
        [store.inbox(h.stream) for h in headers],
        store.dead_letters(),
    )


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("place", [0, 12, 25, -1])
def test_a_bit_flipped_in_any_record_is_found_and_named(closed, open_store, number, place):
    image = closed.read_bytes()
    body = BODIES[number]
    assert image.count(body) == 1
    offset = image.index(body) + place % len(body)
    flip(closed, offset, number % 8)
    stream, version = (ADA, number + 1) if number < 5 else (BOB, number - 4)

    store = open_store()

    assert Corruption(stream, version, "the record does not match its checksum") in store.verify()
    with pytest.raises(RecordCorrupt) as caught:
        store.read(stream)
    assert (caught.value.stream, caught.value.version) == (stream, version)
    with pytest.raises(RecordCorrupt):
        store.read(stream, after=version - 1)
    with pytest.raises(RecordCorrupt):
        store.read_all()


def test_other_streams_are_read_beside_a_damaged_one(closed, open_store):
    flip(closed, closed.read_bytes().index(BODIES[2]), 0)

    store = open_store()

    assert [r.data for r in store.read(BOB)] == BODIES[5:]
    assert [r.data for r in store.read(ADA, limit=2)] == BODIES[:2]
    assert [r.data for r in store.read(ADA, after=3)] == BODIES[3:5]
    assert write_one(store, append(3, record(), stream=BOB)).version == 4


@pytest.mark.parametrize("seed", range(8))
def test_no_flipped_bit_is_believed(closed, open_store, seed):
    image = closed.read_bytes()
    rng = random.Random(seed)
    store = open_store()
    truth = contents(store)
    store.close()
    found = harmless = 0

    for _ in range(50):
        closed.write_bytes(image)
        closed.with_name("flows.db-wal").write_bytes(b"")
        flip(closed, rng.randrange(len(image)), rng.randrange(8))
        try:
            store = open_store()
        except StoreUnusable:
            found += 1
            continue
        try:
            unharmed = contents(store) == truth
        except StoreError:
            unharmed = False
        findings = store.verify()
        store.close()
        assert unharmed or findings
        found += bool(findings)
        harmless += not findings

    assert found
    assert harmless


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("DELETE FROM record WHERE position = 2", (ADA, 2, "missing")),
        ("DELETE FROM record WHERE position = 5", (ADA, 5, "last records are missing")),
        ("DELETE FROM stream WHERE id = 1", (None, None, "no header")),
        ("UPDATE record SET at = at + 1 WHERE position = 3", (ADA, 3, "checksum")),
        ("UPDATE record SET kind = kind + 1 WHERE position = 3", (ADA, 3, "checksum")),
        ("UPDATE record SET version = 77 WHERE position = 3", (ADA, 3, "missing")),
        ("UPDATE record SET stream = 1, version = 6 WHERE position = 6", (ADA, 6, "checksum")),
        ("UPDATE record SET chain = zeroblob(8) WHERE position = 3", (ADA, 3, "checksum")),
        ("UPDATE word SET word = 'kind-x' WHERE word = 'kind-1'", (ADA, 2, "checksum")),
        ("UPDATE stream SET status = type WHERE id = 1", (ADA, None, "header")),
        ("UPDATE stream SET state = 1 WHERE id = 1", (ADA, None, "header")),
        ("UPDATE stream SET wake_at = wake_at + 1 WHERE name = 'asleep'", ("asleep", None, "header")),
        ("UPDATE stream SET alarm = NULL WHERE name = 'asleep'", ("asleep", None, "header")),
        ("UPDATE stream SET name = 'bod' WHERE id = 2", ("bod", None, "header")),
        ("UPDATE stream SET wake_at = NULL WHERE id = 2", (BOB, None, "a signal waits")),
        ("UPDATE inbox SET data = '\"signal x\"' WHERE id = 3", (BOB, None, "signal 3")),
        ("UPDATE inbox SET key = 'mail-x' WHERE id = 3", (BOB, None, "signal 3")),
        ("UPDATE dead_letter SET reason = 'none' WHERE id = 1", (BOB, None, "dead letter 1")),
    ],
)
def test_what_somebody_changed_is_found_and_named(closed, open_store, statement, finding):
    tamper(closed, statement)
    stream, version, reason = finding

    findings = open_store().verify()

    assert [(f.stream, f.version) for f in findings if reason in f.reason][:1] == [(stream, version)]


def test_a_missing_record_is_named_when_it_is_read(closed, open_store):
    tamper(closed, "DELETE FROM record WHERE position = 2")
    store = open_store()

    with pytest.raises(RecordCorrupt, match=r"record 2 .* missing"):
        store.read(ADA)
    with pytest.raises(RecordCorrupt, match=r"record 2 .* missing"):
        store.read(ADA, after=2)


def test_a_flow_that_has_lost_all_its_records_casts_doubt_on_no_other(closed, open_store):
    tamper(closed, "DELETE FROM record WHERE stream = 1")

    lost = Corruption(ADA, 1, "the last records are missing: the header was at 5")
    assert open_store().verify() == [lost]


def test_a_flow_whose_state_is_damaged_is_held_until_somebody_has_looked(closed, open_store):
    tamper(closed, "UPDATE stream SET state = 7 WHERE id = 1")
    store = open_store()

    assert store.header(ADA).state is StreamState.HELD
    assert Corruption(ADA, None, "the header does not match its checksum") in store.verify()


def test_a_damaged_signal_is_named_when_it_is_read(closed, open_store):
    tamper(closed, "UPDATE inbox SET name = 'other' WHERE id = 4")

    with pytest.raises(RecordCorrupt, match=f"{BOB}.* signal 4") as caught:
        open_store().inbox(BOB)
    assert caught.value.version is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE record SET data = CAST(x'ff80' AS TEXT) WHERE position = 3",
        "UPDATE stream SET name = CAST(x'ff80' AS TEXT) WHERE id = 1",
        "UPDATE word SET word = CAST(x'ff80' AS TEXT)  WHERE word = 'kind-1'",
        "UPDATE inbox SET name = CAST(x'ff80' AS TEXT), key = CAST(x'ff' AS TEXT) WHERE id = 3",
        "UPDATE dead_letter SET reason = CAST(x'ff80' AS TEXT)",
    ],
)
def test_bytes_that_are_no_text_are_found_and_keep_nobody_from_the_rest(closed, open_store, statement):
    tamper(closed, statement)
    store = open_store()

    assert store.verify()
    assert [r.data for r in store.read("done")] == [b"{}", b'{"end":true}']
    assert len(store.headers()) == 4
    assert len(store.due(2**60)) == 2
    assert len(store.dead_letters()) == 2
    assert write_one(store, append(1, record(), stream="asleep")).version == 2
    assert write_one(store, create("new")).version == 1


def test_a_page_that_cannot_be_read_is_found_and_the_streams_on_it_are_named(store, path, open_store):
    accept(store, *[create(f"flow-{n:03d}", record(b"x" * 1000 + b"%d" % n)) for n in range(100)])
    store.close()
    image = bytearray(path.read_bytes())
    page = image.index(b"x" * 1000 + b"50") // 4096 * 4096
    image[page : page + 100] = b"\xee" * 100
    path.write_bytes(image)

    store = open_store()
    findings = store.verify()

    named = {finding.stream for finding in findings} - {None}
    assert "flow-050" in named
    assert len(named) < 10
    with pytest.raises(RecordCorrupt, match="flow-050"):
        store.read("flow-050")
    assert store.read("flow-000")
    assert store.read("flow-099")


@pytest.mark.parametrize(
    ("place", "byte"), [(9, b"\x0d"), (7, b"\x01")], ids=["no number", "the number before"]
)
def test_an_index_that_is_out_of_order_is_found(store, path, open_store, place, byte):
    """The second of its entries, from the end of its page: the type of the version, and the version."""
    accept(store, create(ADA, *[record(at=AT + n) for n in range(3)]))
    store.close()
    edit(path, root_of(path, "sqlite_autoindex_record_1") * PAGE - place, byte)

    lost = Corruption(ADA, None, "its records cannot be read: the rows are out of order")
    assert lost in open_store().verify()


def test_streams_that_a_damaged_page_leads_round_in_a_circle_are_told_of_once(store, monkeypatch):
    accept(store, create(ADA), create(BOB))
    real = verify.rows

    def rows(connection, query, values=()):
        found = real(connection, query, values)
        return [(1, *row[1:]) for row in found] if query == verify._HEADERS else found

    monkeypatch.setattr(verify, "rows", rows)
    monkeypatch.setattr(verify, "_PAGE", 2)

    assert Corruption(None, None, "the file cannot be read: the rows are out of order") in store.verify()


def test_a_header_whose_version_is_no_number_is_told_and_what_follows_is_looked_at(store, monkeypatch):
    accept(store, create(ADA), create(BOB))
    real = verify.rows

    def rows(connection, query, values=()):
        found = real(connection, query, values)
        return [(*row[:7], "many", *row[8:]) for row in found] if query == verify._HEADERS else found

    monkeypatch.setattr(verify, "rows", rows)

    spoilt = "the header does not match its checksum"
    assert store.verify() == [Corruption(ADA, None, spoilt), Corruption(BOB, None, spoilt)]


def test_verifying_goes_on_beside_the_writer(store):
    accept(store, create(ADA))
    for number in range(1, 20):
        accept(store, append(number, record(), change=header("waiting", wake_at=number)))
        assert store.verify() == []


def test_more_streams_than_one_page_are_verified(store, path, open_store):
    accept(store, *[create(f"flow-{n}") for n in range(1201)])
    accept(store, *[signal(stream=f"flow-{n}") for n in range(1201)])
    assert store.verify() == []
    store.close()
    tamper(path, "UPDATE record SET at = at + 1 WHERE position IN (1, 500, 501, 1201)")

    assert [f.stream for f in open_store().verify()] == ["flow-0", "flow-499", "flow-500", "flow-1200"]


def test_columns_of_another_type_than_was_written_match_no_checksum():
    chain = checksum.link(b"", 1, 2, b"kind", b"data")

    assert checksum.is_linked(chain, b"", (1, 2, b"kind", b"data"))
    for damaged in (("1", 2, b"kind", b"data"), (1, None, b"kind", b"data"), (1, 2, b"kind", None)):
        assert not checksum.is_linked(chain, b"", damaged)
    assert checksum.seal("fields", None) > 2**63 - 1


def test_checksums_are_the_same_in_every_release():
    assert checksum.first_link("ada").hex() == "15b0da4321160527"
    assert checksum.link(b"before", 1, 2, checksum.framed("kind"), b"data").hex() == "abbfc9c32ee2ef85"
    assert checksum.seal("fields", b"data") == 974018780
