"""The journal: the only writer of the store. Whatever is queued becomes one commit.

The first entry puts the journal at the end of the queue of all that is ready. So everybody who is ready
decides first, and one commit carries it all.

Nothing that the engine decides leaves it before the journal has answered. The answer is a callback,
made where the journal runs, so it does no more than tell somebody.

After a failed commit the outcome is unknown until the store has been reopened with a synced write.
The journal does that at once, and again with growing patience while it fails; meanwhile it refuses
everything, and its health is told to whoever asked for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from ...flows.errors import StoreUnavailable
from ...store import CommitUnknown, StoreError, StoreFenced
from ...store.contract import Outcome, Write
from ..runtime.actor import BatchingActor, try_tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...store import EventStore
    from ..runtime.environment import Environment
    from ..runtime.mailbox import MessageBatch
    from ..runtime.primitives import AlarmHandle

__all__ = ["Entry", "Journal", "Mend", "Reopen"]

logger = logging.getLogger("persistasaurus")

_PATIENCE_S = (0.05, 30.0)
_SAFE = "You can safely repeat it with the same id"


class PendingEntry(Protocol):
    """A write, and who is told what became of it: an outcome of the store, or an error."""

    @property
    def write(self) -> Write:
        """What is to be written."""
        ...

    @property
    def done(self) -> Callable[[Outcome], None]:
        """Called where the journal runs."""
        ...


class Entry(msgspec.Struct, frozen=True):
    """A write of somebody who is no persistent actor."""

    write: Write
    done: Callable[[Outcome], None]


class Reopen(NamedTuple):
    """Try again to open the store."""


class Mend(NamedTuple):
    """Make the store's indexes anew where they are damaged, if that can be done now, and call back."""

    done: Callable[[], None]


class Journal(BatchingActor):
    """Owns the writing end of the store, which is used by one thread at a time.

    `on_health` is told True when the store takes writes again, False when it does not, and the error
    when it never will: another process owns it now. `on_commit` is called after each commit, once it is
    durable and those who wrote have been answered.
    """

    max_batch = 4096

    def __init__(
        self,
        store: EventStore,
        environment: Environment,
        on_health: Callable[[bool | Exception], None],
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._store = store
        self._environment = environment
        self._on_health = on_health
        self._on_commit = on_commit
        self._refusal: StoreUnavailable | None = None
        self._is_fenced = False
        self._patience_s = _PATIENCE_S[0]
        self._reminder: AlarmHandle | None = None

    def on_receive(self, message: MessageBatch) -> None:
        """Commit a batch."""
        entries: list[PendingEntry] = []
        for envelope in message.envelopes:
            entry = envelope.message
            if type(entry) is Mend:
                self._mend(entry)
            elif type(entry) is Reopen:
                self._try_to_reopen()
            else:
                entries.append(entry)
        if entries:
            self._commit(entries)
        if self._refusal is None and not self.actor_inbox.has_mail():
            self._checkpoint()

    def on_stop(self) -> None:
        """Close the store, on the thread that writes to it."""
        self._forget_reminder()
        self._store.close()

    def _commit(self, entries: list[PendingEntry]) -> None:
        if self._refusal is not None:
            _answer(entries, [self._refusal] * len(entries))
            return
        try:
            outcomes = self._store.commit([entry.write for entry in entries])
        except StoreFenced as error:
            self._give_up(error)
            _answer(entries, [self._refusal] * len(entries))
        except CommitUnknown as error:
            self._resolve(entries, error)
        except StoreError as error:
            self._halt(error)
            _answer(entries, [_unavailable("nothing was written", error)] * len(entries))
        except BaseException as error:  # noqa: BLE001 - nobody may be left without an answer
            self._resolve(entries, error)
        else:
            self._patience_s = _PATIENCE_S[0]
            _answer(entries, outcomes)
            self._on_commit()

    def _mend(self, message: Mend) -> None:
        if self._refusal is None:
            try:
                self._store.mend()
            except Exception as error:  # noqa: BLE001 - nothing was written
                self._halt(error)
        message.done()  # whoever asked goes on with the indexes as they are

    def _checkpoint(self) -> None:
        try:
            self._store.checkpoint(idle=True)
        except Exception as error:  # noqa: BLE001 - all of it is durable already
            self._halt(error)

    # --------------------------------------------------------------------------------- halted store
    def _resolve(self, entries: list[PendingEntry], error: BaseException) -> None:
        """Find out what became of a batch; when that is impossible now, say that it is unknown."""
        self._halt(error)
        found = self._looked_up(entries) if self._reopened() else None
        if found is None:
            unknown = self._refusal if self._is_fenced else _unavailable("the outcome is unknown", error)
            _answer(entries, [unknown] * len(entries))
            return
        lost = _unavailable("nothing was written", error)
        _answer(entries, [lost if outcome is None else outcome for outcome in found])
        self._on_commit()

    def _looked_up(self, entries: list[PendingEntry]) -> list[Outcome | None] | None:
        try:
            return self._store.resolve([entry.write for entry in entries])
        except Exception as error:  # noqa: BLE001 - it is unknown, whatever the reason
            self._halt(error)
            return None

    def _halt(self, error: BaseException) -> None:
        logger.error("The store is halted: %s. Flows wait until it can be reopened.", error)
        self._refusal = _unavailable("the store is halted, nothing was written", error)
        self._on_health(False)
        self._later()

    def _later(self) -> None:
        self._forget_reminder()
        patience, self._patience_s = self._patience_s, min(2 * self._patience_s, _PATIENCE_S[1])
        self._reminder = self._environment.alarms.call_at(
            self._environment.clock.elapsed() + patience, self._remind
        )

    def _remind(self) -> None:
        try_tell(self.actor_ref, Reopen())

    def _forget_reminder(self) -> None:
        reminder, self._reminder = self._reminder, None
        if reminder is not None:
            reminder.cancel()

    def _try_to_reopen(self) -> None:
        if self._refusal is None or self._is_fenced:
            return
        if self._reopened():
            self._on_commit()  # perhaps of what was written without an answer
        else:
            self._later()

    def _reopened(self) -> bool:
        try:
            self._store.reopen()
        except StoreFenced as error:
            self._give_up(error)
            return False
        except Exception as error:  # noqa: BLE001 - it is not open, whatever the reason
            self._refusal = _unavailable("the store cannot be reopened, nothing was written", error)
            return False
        logger.warning("The store is open again.")
        self._forget_reminder()
        self._refusal = None
        self._on_health(True)
        return True

    def _give_up(self, error: StoreFenced) -> None:
        """Stop for good. Every answer from here on could contradict the new owner's."""
        self._forget_reminder()
        self._is_fenced = True
        self._refusal = _unavailable("another process owns the store now, nothing was written", error)
        self._on_health(self._refusal)


def _unavailable(what: str, error: BaseException) -> StoreUnavailable:
    unavailable = StoreUnavailable(f"{what}: {error}. {_SAFE}")
    unavailable.__cause__ = error
    return unavailable


def _answer(entries: list[PendingEntry], outcomes: Sequence[Any]) -> None:
    for entry, outcome in zip(entries, outcomes, strict=True):
        try:
            entry.done(outcome)
        except BaseException:
            logger.exception("A caller could not be notified of the outcome of a write")
