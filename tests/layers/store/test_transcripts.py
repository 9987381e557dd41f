"""Every store can be written down and read back; rubbish is refused with its line, and nothing is written."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tempfile
from pathlib import Path

import pytest
from conformance.builders import AT, Clock
from hypothesis import given, settings
from hypothesis import strategies as st
from persistasaurus.store import (
    Appended,
    HeaderChange,
    NewRecord,
    NotAnExport,
    PastSignal,
    Restore,
    SqliteStore,
    StoreLimits,
    StreamState,
)
from persistasaurus.store.tools.export import export
from persistasaurus.store.tools.importer import import_
from persistasaurus.store.tools.transcript import RecordLine, encode, form, is_too_deep
from persistasaurus.store.tools.transcript_reader import DEFAULT_LIMITS, TranscriptReader, read_export

INSTANTS = st.integers(-(2**63), 2**63 - 1)
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
).map(lambda value: json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))
PAYLOADS = (
    st.binary(max_size=20) | VALUES | st.text(max_size=20).map(lambda text: text.encode(errors="replace"))
)
RECORDS = st.builds(NewRecord, at=INSTANTS, kind=NAMES, data=PAYLOADS)
STATES = st.sampled_from(list(StreamState))


@st.composite
def flows(draw, name):
    records = draw(st.lists(RECORDS, min_size=1, max_size=4))
    state = draw(STATES)
    header = HeaderChange(draw(NAMES), state, draw(st.none() | INSTANTS))
    return Restore(name, draw(NAMES), header, tuple(records), tuple(draw(signals(len(records), state))))


@st.composite
def signals(draw, records, state):
    found = []
    for key in draw(st.lists(NAMES, unique=True, max_size=3)):
        settled = st.integers(1, records)
        settled = draw(settled if state is StreamState.ENDED else st.none() | settled)
        dead = None if settled is None else draw(st.none() | st.tuples(INSTANTS, st.text(max_size=5)))
        found.append(PastSignal(draw(NAMES), key, draw(PAYLOADS), draw(INSTANTS), settled, dead))
    return found


@st.composite
def stores(draw):
    names = draw(st.lists(NAMES, unique=True, max_size=3))
    return [draw(flows(name)) for name in names]


def written(path, restored):
    """Make a store and write it down."""
    with contextlib.closing(SqliteStore.open(path, now=Clock())) as store:
        for outcome in store.commit(restored):
            assert isinstance(outcome, Appended), outcome
        assert store.verify() == []
    return exported(path)


def exported(path):
    pieces = []
    export(path, pieces.append)
    return b"".join(pieces)


def read(data, limits=DEFAULT_LIMITS):
    return list(TranscriptReader(io.BytesIO(data), limits).flows())


@given(restored=stores())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_every_store_comes_back_as_it_was(restored):
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first.db"), Path(folder, "second.db")
        text = written(first, restored)
        import_(io.BytesIO(text), second, now=Clock())

        assert read(text) == restored
        assert exported(second) == text


# Rubbish

SAMPLE = [
    Restore(
        f"flow-{n}",
        "signup",
        HeaderChange("waiting", StreamState.OPEN, AT),
        (NewRecord(AT, "started", b'{"a":[1]}'), NewRecord(AT, "raw", b"\xff"), NewRecord(AT, "text", b"x")),
        (PastSignal("go", "k1", b"1", AT, 2, (AT, "late")), PastSignal("go", "k2", b"{}", AT)),
    )
    for n in range(2)
]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return written(tmp_path_factory.mktemp("sample") / "sample.db", SAMPLE)


@pytest.fixture
def refused(tmp_path):
    """Import rubbish; return the error, when nothing was written."""

    def refuse(data):
        other = tmp_path / "other.db"
        with pytest.raises(NotAnExport) as caught:
            import_(io.BytesIO(data), other, now=Clock())
        assert not other.exists()
        return caught.value

    return refuse


def test_cut_anywhere_it_is_refused_with_the_line(sample):
    for size in range(len(sample)):
        with pytest.raises(NotAnExport) as caught:
            read(sample[:size])
        assert caught.value.line == sample[:size].count(b"\n") + 1


@given(st.data())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_flipped_byte_is_found(sample, data):
    at = data.draw(st.integers(0, len(sample) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != sample[at]))

    with pytest.raises(NotAnExport):
        read(sample[:at] + bytes([byte]) + sample[at + 1 :])


@given(st.lists(st.binary(max_size=30) | VALUES, max_size=5), st.integers(0, 13))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_other_lines_are_refused(sample, lines, keep):
    kept = sample.splitlines(keepends=True)[:keep]

    with pytest.raises(NotAnExport):
        read(b"".join(kept) + b"".join(line + b"\n" for line in lines))


@given(st.integers(0, 12), st.sampled_from(["remove", "repeat", "swap"]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_lines_that_are_missing_or_moved_are_found(sample, at, what):
    lines = sample.splitlines(keepends=True)
    if what == "remove":
        del lines[at]
    elif what == "repeat":
        lines.insert(at, lines[at])
    else:
        lines[at], lines[at + 1] = lines[at + 1], lines[at]
    if b"".join(lines) == sample:
        return

    with pytest.raises(NotAnExport):
        read(b"".join(lines))


def tampered(sample, line, **changes):
    """Change the fields of a line, and make the checksum fit again."""
    lines = sample.splitlines()[:-1]
    fields = json.loads(lines[line - 1]) | changes
    lines[line - 1] = json.dumps({k: v for k, v in fields.items() if v is not ...}).encode()
    return sealed(lines, sample)


def sealed(lines, sample):
    body = b"".join(line + b"\n" for line in lines)
    last = json.loads(sample.splitlines()[-1]) | {"sha256": hashlib.sha256(body).hexdigest()}
    return body + json.dumps(last).replace('{"end": ', '{"end":').encode() + b"\n"


DEEP = json.loads("[" * 250 + "]" * 250)
RUBBISH = {
    "not ours": (1, {"format": "other"}, "line 1: the file is not an export"),
    "a later version": (1, {"version": 2}, "line 1: the export has version 2, this code knows 1"),
    "an unknown field in front": (1, {"zip": True}, "line 1: the file is not an export"),
    "a flow without records": (2, {"records": 0}, "line 2: flow 'flow-0' has no records"),
    "more records than there are": (2, {"records": 4}, "line 6: record 4 is expected"),
    "fewer records than there are": (2, {"records": 2}, "line 2: flow 'flow-0' does not have the records"),
    "a number beyond all": (2, {"records": 10**30}, "line 2: a flow, or the end is expected"),
    "a negative number": (2, {"signals": -1}, "line 2: a flow, or the end is expected"),
    "more signals than there are": (2, {"signals": 10**9}, "line 8: signal 3 is expected"),
    "another chain": (2, {"chain": "0" * 16}, "line 2: flow 'flow-0' does not have the records"),
    "no chain": (2, {"chain": "x"}, "line 2: a flow"),
    "an unknown state": (2, {"state": "odd"}, "line 2: a flow"),
    "a waiting signal of an ended flow": (2, {"state": "ended"}, "line 7: signal 'k2' can no longer wait"),
    "NUL in a name": (2, {"flow": "a\0b"}, "line 2: a flow"),
    "a line break in a name": (2, {"flow": "a\nb"}, "line 2: a flow"),
    "no name": (2, {"flow": ""}, "line 2: a flow"),
    "a long name": (2, {"flow": "x" * 1001}, "line 2: a flow"),
    "a name of another type": (2, {"flow": 1}, "line 2: a flow"),
    "an instant beyond all": (2, {"wake_at": 2**63}, "line 2: a flow"),
    "a gap": (4, {"version": 3}, "line 4: record 2 is expected, not 3"),
    "an unknown kind of line": (4, {"surprise": 1}, "line 4: record 2 is expected"),
    "a record without an instant": (4, {"at": ...}, "line 4: record 2 is expected"),
    "a fraction for an instant": (4, {"at": 1.5}, "line 4: record 2 is expected"),
    "another kind": (4, {"kind": "other"}, "line 2: flow 'flow-0' does not have the records"),
    "no payload": (4, {"base64": ...}, "line 4: one of `data`, `text` and `base64` is expected"),
    "two payloads": (4, {"text": "x"}, "line 4: one of `data`, `text` and `base64` is expected"),
    "no base64": (4, {"base64": "%%%"}, "line 4: "),
    "depth": (3, {"data": DEEP}, "line 3: it is nested too deeply"),
    "half a character": (5, {"text": "\ud800"}, "line 5: "),
    "a signal twice": (7, {"key": "k1"}, "line 7: signal 'k1' occurs twice"),
    "settled by nothing": (6, {"settled": 4}, "line 6: signal 'k1' is settled by a record that is not there"),
    "dead and waiting": (6, {"settled": ...}, "line 6: signal 'k1' can no longer wait"),
    "a flow twice": (8, {"flow": "flow-0"}, "line 8: flow 'flow-0' occurs twice"),
}


@pytest.mark.parametrize("case", RUBBISH)
def test_rubbish_with_a_checksum_that_fits_is_refused_with_its_line(sample, refused, case):
    line, changes, message = RUBBISH[case]

    error = refused(tampered(sample, line, **changes))

    assert str(error).startswith(message)
    assert len(str(error)) < 300


def test_what_follows_the_end_is_refused(sample, refused):
    assert "something follows the end" in str(refused(sample + b"\n"))
    assert "something follows the end" in str(refused(sample + sample))


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"{}\n", b"[]\n", b"PK\x03\x04", b"\xef\xbb\xbf{}\n", b"[" * 10**6]
)
def test_what_is_something_else_is_refused_at_once(refused, data):
    assert refused(data).line == 1


def test_counts_that_do_not_fit_are_refused(sample, refused):
    assert "does not match" in str(refused(sample.replace(b'"end":{"flows":2', b'"end":{"flows":3')))


@pytest.mark.parametrize(
    ("payload", "as_what"),
    [
        (b"[" * 219 + b"]" * 219, "data"),
        (b"[" * 220 + b"]" * 220, "text"),
        (b"[" + b",".join([b"[{}]"] * 300) + b"]", "data"),
        (b'["' + b"[" * 300 + b'"]', "data"),
        (b"[1] ", "text"),
    ],
    ids=["just not too deep", "too deep", "long", "brackets in a text", "a space behind it"],
)
def test_what_is_nested_too_deeply_or_would_not_stay_the_same_is_written_as_text(payload, as_what):
    line = encode(RecordLine(version=1, at=AT, kind="k", **form(payload)))

    assert list(form(payload)) == [as_what]
    assert not is_too_deep(line)


@pytest.mark.parametrize(
    ("text", "level"),
    [(b"[[],[]]", 2), (b'{"a":[{}]}', 3), (b'[{"a":[{}]}]', 4), (b"[[],[[]]]", 3), (b'["[[["]', 1)],
)
def test_only_what_is_nested_more_deeply_than_allowed_is_too_deep(text, level):
    assert not is_too_deep(text, level)
    assert is_too_deep(text, level - 1)


def test_payloads_and_lines_beyond_the_limits_are_refused(sample):
    assert read(sample, StoreLimits(data=9)) == SAMPLE
    with pytest.raises(NotAnExport, match=r"line 3: the payload has 9 bytes, more than the limit of 8"):
        read(sample, StoreLimits(data=8))
    with pytest.raises(NotAnExport, match=r"line 2: it exceeds"):
        read(sample.splitlines(keepends=True)[0] + b"x" * 100_000, StoreLimits(data=1))


def test_a_file_says_where_it_is_wrong(sample, tmp_path):
    path = tmp_path / "export.jsonl"
    path.write_bytes(sample)
    assert read_export(path) == SAMPLE
    path.write_bytes(sample[:-30])
    with pytest.raises(NotAnExport, match=r"line 14: the file ends here"):
        read_export(path)


# Never to be changed: files like this one are out there.
VERSION_1 = Path(__file__).with_name("export_1.jsonl")


def test_an_export_of_the_first_version_is_read_for_ever(tmp_path):
    ada = Restore(
        "signup-ada",
        "signup",
        HeaderChange("waiting", StreamState.OPEN, 1760000000000099),
        (
            NewRecord(1760000000000000, "flow_started", b'{"type":"flow_started"}'),
            NewRecord(1760000000000042, "odd", b"\xff\x00"),
        ),
        (
            PastSignal("confirm", "mail-1", b'["yes"]', 1760000000000050, 2, (1760000000000060, "too late")),
            PastSignal("confirm", "mail-2", b"no\nJSON", 1760000000000070),
        ),
    )

    assert read_export(VERSION_1) == [ada]
    assert written(tmp_path / "ada.db", [ada]) == VERSION_1.read_bytes()
