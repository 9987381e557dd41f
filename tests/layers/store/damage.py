"""Damage to closed stores, as disks do it; and places with little room."""

from __future__ import annotations

import resource
from contextlib import contextmanager

import apsw

PAGE = 4096


def root_of(path, name):
    """Return the number of the page at the root of a table or an index."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).get
    finally:
        connection.close()


def edit(path, offset, data):
    """Write over some bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def tamper(path, statement):
    """Change rows of a closed store as somebody with another program would."""
    other = apsw.Connection(str(path))
    other.execute(statement).fetchall()
    assert other.changes() > 0
    other.close()


def spoil_root(path, name):
    """Make the page at the root of a table or an index unreadable."""
    edit(path, (root_of(path, name) - 1) * PAGE, b"\xee" * 8)


def spoil_page_with(path, content):
    """Make a page unreadable that holds what is nowhere else."""
    image = path.read_bytes()
    assert image.count(content) == 1
    edit(path, image.index(content) // PAGE * PAGE, b"\xee" * 8)


@contextmanager
def room_for(size):
    """Let no file grow beyond so many bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def pages_of(path, name, kind="leaf"):
    """Return the numbers of a table's or an index's pages: those of its leaves, or those above them."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found = connection.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ?", (name, kind))
        return sorted(page for (page,) in found)
    finally:
        connection.close()


def spoil_pages(path, pages):
    """Make pages unreadable."""
    for page in pages:
        edit(path, (page - 1) * PAGE, b"\xee" * 8)


def lose_entry(path, index, entry, leaf=0):
    """Have an index lead to the next row instead of to this one; all of its pages can still be read."""
    page = (pages_of(path, index)[leaf] - 1) * PAGE
    at = page + 8 + 2 * entry
    edit(path, at, path.read_bytes()[at + 2 : at + 4])
