"""Dispatchers that must end with their test, and actors that keep what they got."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus.actors.runtime.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(name="make_dispatcher")
def _make_dispatcher() -> Iterator[Callable[..., Dispatcher]]:
    made: list[Dispatcher] = []

    def make(name: str = "test", **settings: Any) -> Dispatcher:
        dispatcher = Dispatcher(name, **settings)
        made.append(dispatcher)
        return dispatcher

    yield make
    ended = [dispatcher.close(timeout=30) for dispatcher in made]

    assert all(ended)
    assert [dispatcher.live_threads for dispatcher in made] == [0] * len(made)


@pytest.fixture(name="dispatcher")
def _dispatcher(make_dispatcher: Callable[..., Dispatcher]) -> Dispatcher:
    return make_dispatcher()
