"""Time, threads, queues and chance come through `actors/runtime/primitives.py`, and from nowhere else."""

from __future__ import annotations

import ast

import pytest
from architecture.sources import Module, Names, module, package_modules, walk_at_run_time

PRIMITIVES = "actors/runtime/primitives.py"

# Modules of which nothing may be used, and single names of others.
MODULES = {
    "_queue",
    "_thread",
    "asyncio",
    "concurrent",
    "multiprocessing",
    "queue",
    "random",
    "sched",
    "secrets",
    "subprocess",
    "threading",
    "time",
}
NAMES = {
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "os.fork",
    "os.getrandom",
    "os.times",
    "os.urandom",
    "signal.alarm",
    "signal.setitimer",
    "uuid.uuid1",
    "uuid.uuid4",
}

ASYNC_STEPS = "`async def` steps are the user's asyncio code, and need the loop that it is written for"
PROCESSES = "isolated steps run in processes that can be killed"
SIMULATED = "a simulation runs `async def` steps, and steps' doubles, on a loop of virtual time"
AWAITED = "a handle can be awaited on the user's own loop"
SERVED = "requests are served on the server's own loop, and end by its clock"

# (module, name or what it begins with) -> why. Nothing else is excused.
ALLOWED = {
    ("flows/machine/execution.py", "random.Random"): "seeded from the flow's history, so a replay repeats it",
    ("actors/flows/restarts.py", "random.Random"): "seeded by the environment, so a simulation repeats it",
    ("actors/projections/projector.py", "random.Random"): "seeded by the environment, as above",
    ("flows/examples/signup.py", "random.randrange"): "in a step, which is user code and is recorded",
    ("actors/steps/loop.py", "asyncio"): ASYNC_STEPS,
    ("actors/steps/processes.py", "multiprocessing"): PROCESSES,
    ("actors/steps/worker.py", "multiprocessing"): PROCESSES,
    ("api/cli/demo/crash.py", "subprocess"): "the demo starts a process in order to kill it",
    ("api/http/connections.py", "asyncio"): SERVED,
    ("api/http/middleware/body.py", "asyncio"): SERVED,
    ("api/http/routes/follow.py", "asyncio"): SERVED,
    ("api/http/middleware/protection.py", "asyncio"): SERVED,
    ("api/http/middleware/rules.py", "asyncio"): SERVED,
    ("api/http/server.py", "asyncio"): SERVED,
    ("api/http/routes/commit_notifier.py", "asyncio"): SERVED,
    ("store/files/forking.py", "threading"): "a fork waits for threads of the host, which no simulation has",
    ("store/sqlite/reader.py", "threading.Lock"): "threads share a reader, outside of any engine",
    ("actors/testing/doubles.py", "asyncio.sleep"): SIMULATED,
    ("actors/testing/simulation.py", "random.Random"): "seeded: all chance of a simulation comes from it",
    ("actors/testing/steps.py", "asyncio"): SIMULATED,
    ("actors/runtime/futures.py", "asyncio"): AWAITED,
    ("actors/handle.py", "asyncio"): AWAITED,
    ("actors/replies.py", "asyncio"): AWAITED,
}


def leaks(source: Module) -> list[tuple[int, str]]:
    """Report, by line and full name, what a module takes from outside."""
    names = Names(source)
    found: set[tuple[int, str]] = set()
    inner = {id(n.value) for n in ast.walk(source.tree) if isinstance(n, ast.Attribute)}
    for node in walk_at_run_time(source.tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            found |= {(node.lineno, f"{node.module}.{alias.name}") for alias in node.names}
        elif isinstance(node, ast.Call) and names.dotted(node.func) == "random.Random" and not node.args:
            found.add((node.lineno, "random.Random()"))
        elif isinstance(node, ast.Name | ast.Attribute) and id(node) not in inner:
            found.add((node.lineno, names.dotted(node) or ""))
    return sorted((line, name) for line, name in found if _is_outside(name))


def _is_outside(name: str) -> bool:
    return name.partition(".")[0] in MODULES or any(_begins(name, known) for known in NAMES)


def _begins(name: str, known: str) -> bool:
    return name == known or name.startswith(f"{known}.")


def unexcused(sources: list[Module]) -> list[str]:
    """Report what passes them by, and every excuse that nothing needs."""
    used: set[tuple[str, str]] = set()
    found: list[str] = []
    for source in sources:
        for line, name in leaks(source) if source.path != PRIMITIVES else []:
            excuses = {key for key in ALLOWED if key[0] == source.path and _begins(name, key[1])}
            used |= excuses
            if not excuses:
                found.append(f"{source.path}:{line}: {name}")
    return found + [f"{path}: needs no excuse for {name}" for path, name in sorted(ALLOWED.keys() - used)]


def test_only_the_primitives_touch_time_threads_queues_and_chance() -> None:
    found = unexcused(package_modules())

    assert not found, "\n".join(found)


def test_every_excuse_says_why() -> None:
    assert [key for key, why in ALLOWED.items() if len(why.split()) < 4] == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import time\ntime.time()", "time.time"),
        ("import time as x\nx.monotonic()", "time.monotonic"),
        ("from time import time as t\nt()", "time.time"),
        ("from time import *", "time.*"),
        ("import time\nread = time\nread.time()", "time"),
        ("import time\nread = getattr(time, 'time')", "time"),
        ("def f():\n    import threading\n    threading.Thread()", "threading.Thread"),
        ("from threading import Lock", "threading.Lock"),
        ("import queue as q\nq.SimpleQueue()", "queue.SimpleQueue"),
        ("import uuid\nuuid.uuid4()", "uuid.uuid4"),
        ("from uuid import uuid4 as new", "uuid.uuid4"),
        ("import secrets\nsecrets.token_hex()", "secrets.token_hex"),
        ("import random\nrandom.random()", "random.random"),
        ("from random import choice", "random.choice"),
        ("import random\nrandom.Random()", "random.Random()"),
        ("from datetime import datetime\ndatetime.now()", "datetime.datetime.now"),
        ("import datetime as d\nd.datetime.utcnow()", "datetime.datetime.utcnow"),
        ("from datetime import date\ntoday = date.today", "datetime.date.today"),
        ("import asyncio\nasync def f():\n    await asyncio.sleep(1)", "asyncio.sleep"),
        ("from asyncio import sleep", "asyncio.sleep"),
        ("import os\nos.urandom(8)", "os.urandom"),
        ("from os import urandom", "os.urandom"),
        (
            "import concurrent.futures\nconcurrent.futures.ThreadPoolExecutor()",
            "concurrent.futures.ThreadPoolExecutor",
        ),
        ("import concurrent.futures as f\nf.ThreadPoolExecutor()", "concurrent.futures.ThreadPoolExecutor"),
        ("from concurrent import futures", "concurrent.futures"),
    ],
)
def test_what_passes_the_primitives_by_is_reported(text: str, name: str) -> None:
    assert name in [found for _, found in leaks(module("flows/x.py", text))]


@pytest.mark.parametrize(
    "text",
    [
        "if TYPE_CHECKING:\n    import random\ndef f(x: random.Random) -> random.Random: ...",
        "import uuid\nuuid.UUID(int=1)",
        "from datetime import datetime\ndatetime.fromtimestamp(0)",
        "def random(): ...\nrandom()",
        "from .primitives import Thread, Lock\nLock()",
        "class C:\n    def f(self): return self.time.time()",
        "import os\nos.path.join('a')",
    ],
)
def test_what_does_not_touch_the_outside_is_fine(text: str) -> None:
    assert leaks(module("flows/x.py", text)) == []


def test_an_excuse_holds_for_its_module_and_its_name_only() -> None:
    text = "import random\nrandom.Random(1)\nrandom.random()"

    excused = [
        line for line in unexcused([module("flows/machine/execution.py", text)]) if "no excuse" not in line
    ]
    elsewhere = [line for line in unexcused([module("flows/other.py", text)]) if "no excuse" not in line]

    assert excused == ["flows/machine/execution.py:3: random.random"]
    assert elsewhere == ["flows/other.py:2: random.Random", "flows/other.py:3: random.random"]


def test_an_excuse_that_nothing_needs_is_reported() -> None:
    assert "actors/steps/loop.py: needs no excuse for asyncio" in unexcused([])
