"""A PostgreSQL server: the one that a variable names, or a fresh one from the installed programs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "PERSISTASAURUS_BENCH_POSTGRES"
"""The address of a server, postgresql://user@host:port without a database, or why there is none."""
VERSION = f"{VARIABLE}_VERSION"
PATIENCE_S = 60


@contextmanager
def postgres(folder: Path, *, wanted: bool) -> Iterator[dict[str, str]]:
    """Provide a server, if it is wanted, as variables for those who use it; its data is in a folder.

    A server of our own has the settings that `initdb` writes: fsync and synchronous_commit are on.
    """
    if not wanted or VARIABLE in os.environ:
        yield {}
        return
    programs = _programs()
    if programs is None:
        yield {VARIABLE: f"there is no PostgreSQL: no initdb, and {VARIABLE} names no server"}
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=".bench-postgres-") as place:
        data = Path(place) / "data"
        try:
            port = _start(programs, Path(place), data)
        except (OSError, subprocess.SubprocessError) as error:
            told = (getattr(error, "stderr", None) or "").strip().splitlines()
            yield {VARIABLE: f"PostgreSQL does not start: {told[-1] if told else error}"}
            return
        try:
            yield {VARIABLE: f"postgresql://bench@127.0.0.1:{port}", VERSION: _version(programs)}
        finally:
            _run(programs / "pg_ctl", "stop", "--mode=immediate", "--wait", f"--pgdata={data}")


def _programs() -> Path | None:
    """Find where the programs of the newest version are."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return places[-1].parent if places else None


def _start(programs: Path, place: Path, data: Path) -> int:
    """Make a cluster and start it; return its port."""
    if os.geteuid() == 0:  # PostgreSQL refuses to be root
        shutil.chown(place, "nobody")
    _run(programs / "initdb", f"--pgdata={data}", "--username=bench", "--auth=trust", "--encoding=UTF8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {place} -c max_connections=200"
    _run(
        programs / "pg_ctl",
        "start",
        "--wait",
        f"--pgdata={data}",
        f"--log={place}/log",
        f"--options={options}",
    )
    return port


def _run(program: Path, *arguments: str) -> None:
    user: dict[str, Any] = {"user": "nobody"} if os.geteuid() == 0 else {}
    # Not with pipes for its output: a server that is started keeps them open.
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            timeout=PATIENCE_S,
            check=False,
            cwd="/",
            **user,
        )
        said.seek(0)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, program.name, stderr=said.read())


def _version(programs: Path) -> str:
    done = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True)
    return done.stdout.split()[2]
