"""What a body calls that does not suit it is noticed when its flow is defined: where, and what to write."""

# ruff: noqa: ASYNC210, ASYNC221, ASYNC230, ASYNC251, DTZ005, DTZ011, ICN001, PLC0415, PLC3002, PLW0108
# ruff: noqa: PLW1510, PTH118, PTH123, SIM112 - it is about what not to do

from __future__ import annotations

import datetime as dates
import os
import random
import threading
import time
import uuid
import warnings
from datetime import datetime
from random import choice
from time import time as clock
from typing import TYPE_CHECKING, Any
from uuid import uuid4 as new_id

import persistasaurus
import pytest
from persistasaurus import Flow, NotDurableWarning, flow, now, query, sleep, step, uuid4
from persistasaurus.flows import Registry
from persistasaurus.flows.authoring.impure import impurities

if TYPE_CHECKING:
    from collections.abc import Callable


def found(body: Any, owner: type | None = None) -> list[str]:
    return [each.called for each in impurities(body, owner)]


async def in_module() -> Any:
    return datetime.now(), dates.datetime.now(dates.UTC), dates.date.today(), time.time(), clock()


async def by_chance() -> Any:
    numbers = [random.choice([1]) for _ in range(3)]
    return (
        numbers,
        choice(numbers),
        random.Random(7).random(),
        (lambda: random.random())(),
        uuid.uuid4(),
        new_id(),
    )


async def outside() -> Any:
    threading.Thread(target=print).start()
    with open("file") as file:
        return file.read(), os.urandom(3), os.path.join("a", "b")


async def imports_itself() -> Any:
    import secrets
    import socket
    import urllib.request
    import urllib.request as web
    import xml.dom.minidom as pages
    from subprocess import run
    from time import monotonic
    from time import sleep as rest
    from xml import dom

    dom.getDOMImplementation()
    rest(1)
    socket.socket()
    web.urlopen("x")
    pages.parseString("x")
    return (
        urllib.request.urlopen("x"),
        secrets.token_hex(),
        secrets.compare_digest("a", "b"),
        run("ls"),
        monotonic(),
    )


async def calls_a_helper() -> Any:
    return helper() + unnoticed.__name__


def helper() -> str:
    return str(time.time())


def unnoticed() -> str:
    return str(time.time())


async def is_fine(datetime: Any, random: Any) -> Any:
    time = persistasaurus.now()
    await sleep(1)
    kinds = (threading.Thread, dates.datetime, os.environ.get("a"), isinstance(datetime, uuid.UUID))
    return now(), uuid4(), persistasaurus.random(), random.random(), datetime.now(), time.time(), kinds


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        (in_module, ["datetime.datetime.now"] * 2 + ["datetime.date.today", "time.time", "time.time"]),
        (by_chance, ["random.choice", "uuid.uuid4", "uuid.uuid4", "random.choice", "random.random"]),
        (outside, ["threading.Thread", "open", "os.urandom"]),
        (
            imports_itself,
            [
                *("time.sleep", "socket.socket", "urllib.request.urlopen", "urllib.request.urlopen"),
                *("secrets.token_hex", "subprocess.run", "time.monotonic"),
            ],
        ),
        (calls_a_helper, ["time.time"]),
        (is_fine, []),
    ],
    ids=lambda given: getattr(given, "__name__", None),
)
def test_calls_of_well_known_names_are_found_however_they_were_imported(body: Any, calls: list[str]) -> None:
    assert sorted(found(body)) == sorted(calls)


class Methods(Flow):
    def __init__(self) -> None:
        self.began = time.time()

    @flow(name="methods")
    async def main(self) -> Any:
        self.note()
        return await self.work(self.never_called)

    def note(self) -> None:
        self.at = datetime.now()

    def never_called(self) -> None:
        uuid.uuid4()

    @step
    def work(self, what: Any) -> float:
        return time.time()

    @query
    def age(self) -> float:
        return time.time() - self.began


def test_plain_methods_that_a_body_calls_belong_to_it_and_steps_and_queries_do_not() -> None:
    assert found(Methods.main.function, Methods) == ["time.time", "datetime.datetime.now"]


@pytest.fixture(name="registered")
def _registered() -> Callable[[Any], list[warnings.WarningMessage]]:
    def registered(entry: Any) -> list[warnings.WarningMessage]:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            Registry([entry])
            Registry([entry])
        return told

    return registered


def test_a_warning_names_the_line_and_what_to_write_once(
    registered: Callable[[Any], list[warnings.WarningMessage]],
) -> None:
    class Order(Flow):
        @flow(name="order")
        async def main(self) -> float:
            return time.time()

    (told,) = registered(Order)

    line = Order.main.function.__code__.co_firstlineno + 2
    assert (told.category, told.filename, told.lineno) == (NotDurableWarning, __file__, line)
    assert str(told.message).startswith(
        f"flow 'order' calls time.time() at test_impure_bodies.py:{line}, in its body, which runs again in"
        " each replay: write persistasaurus.now()"
    )
    assert 'filterwarnings("ignore", category=persistasaurus.NotDurableWarning)' in str(told.message)


def test_it_can_be_silenced_for_a_module_and_made_an_error() -> None:
    @flow
    async def timed() -> float:
        return time.time()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NotDurableWarning):
            Registry([timed])

    @flow
    async def timed_too() -> float:
        return time.time()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=NotDurableWarning, module=__name__.replace(".", r"\."))
        Registry([timed_too])


def test_what_cannot_be_read_is_passed_over() -> None:
    class Odd(Flow):
        __init__ = object.__init__

    assert found(print, Odd) == []
