"""The loader: reads of the store, for those who must not wait for it: the supervisor and the timers.

A store may lie on another machine, and each of its answers take milliseconds. So flows that are to be woken
are read together, as many as wait for that, by one question. The answers are callbacks, made on the loader's
thread, so they do no more than tell somebody.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from ...store import LoadedStream
from ..runtime.actor import BatchingActor
from .parking import is_flow

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...store import EventStore
    from ..runtime.mailbox import MessageBatch

__all__ = ["Load", "Loader", "Question"]

logger = logging.getLogger("persistasaurus")

_SIGNALS = 1000
_PAGE = 64


class Load(NamedTuple):
    """Read a flow. `done` gets what was found, or the error, and whether it is a flow."""

    flow_id: str
    done: Callable[[LoadedStream | Exception | None, bool], None]


class Question(NamedTuple):
    """Ask the store something else. `done` gets the answer, or the error; questions are asked in order."""

    ask: Callable[[EventStore], Any]
    done: Callable[[Any], None]


class Loader(BatchingActor):
    """Reads; writes nothing, and keeps nothing."""

    max_batch = _PAGE

    def __init__(self, store: EventStore) -> None:
        super().__init__()
        self._store = store

    def on_receive(self, message: MessageBatch) -> None:
        """Read all flows that are waited for by one question, then answer the other ones."""
        loads: list[Load] = []
        questions: list[Question] = []
        for envelope in message.envelopes:
            if type(envelope.message) is Load:
                loads.append(envelope.message)
            else:
                questions.append(envelope.message)
        if loads:
            self._load(loads)
        for question in questions:
            question.done(self._answer(question))

    def _load(self, loads: list[Load]) -> None:
        found: list[LoadedStream | Exception | None]
        try:
            found = self._store.load([load.flow_id for load in loads], signals=_SIGNALS)
        except Exception as error:  # noqa: BLE001 - theirs who asked
            found = [error] * len(loads)
        for load, one in zip(loads, found, strict=True):
            load.done(*self._judged(one))

    def _judged(self, found: LoadedStream | Exception | None) -> tuple[LoadedStream | Exception | None, bool]:
        if not isinstance(found, LoadedStream):
            return found, False
        try:
            return found, is_flow(self._store, found.header)
        except Exception as error:  # noqa: BLE001 - as above
            return error, False

    def _answer(self, question: Question) -> Any:
        try:
            return question.ask(self._store)
        except Exception as error:  # noqa: BLE001 - as above
            return error
