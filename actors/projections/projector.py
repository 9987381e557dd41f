"""The projector: follows the total order of events on behalf of one projection.

It reads a page, has `on` write what it changes, and commits that with the new position. While a projection is
built anew, that goes on in another file, a draft, whose content replaces the old one as a whole.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from msgspec import structs

from ...flows.errors import PayloadError, ProjectionParked, SystemClosed
from ...flows.values.text import storable
from ...store import (
    GlobalRecord,
    LoadedStream,
    ProjectionDamaged,
    QueryFailed,
    RecordCorrupt,
    StoreError,
    StoreUnusable,
    Unreadable,
)
from ...store.sqlite.projection_file import FOLLOWING, ProjectionFile, ProjectionState
from ..handle import from_microseconds
from ..persistence.commits import Committed
from ..runtime.actor import PooledActor, try_tell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...store import EventStore
    from ...store.sqlite.projection_database import ProjectionDatabase
    from ...store.sqlite.projection_place import ProjectionPlace
    from ..flows.active_flow import RestartRules
    from ..runtime.environment import Environment
    from ..runtime.futures import Reply
    from ..runtime.primitives import AlarmHandle
    from .projection import ProjectionDefinition

__all__ = [
    "BUILDING",
    "PARKED",
    "RETRYING",
    "STOPPED",
    "Projector",
    "RebuildProjection",
    "RetryProjection",
    "WaitUntil",
]

logger = logging.getLogger("persistasaurus")

BUILDING = "rebuilding"
RETRYING = "retrying"
PARKED = "parked"
STOPPED = "stopped"

_PAGE = 500
_EXPONENT = 64
_TURN_S = 0.05
"""A transaction takes no more events after so long."""
_TYPES_MAX = 50_000
"""So many streams' types are kept in mind."""
_FIRST = "there was none"
_ASKED = "somebody has asked for it"
_CHANGED = "its schema, its version or its actors have changed"
_ANOTHER_STORE = (
    "the store does not have the event that it has come to: it was restored from a backup, or has lost its"
    " last commits"
)


class WaitUntil(NamedTuple):
    """Reply when everything up to a position is visible; None: everything that is durable now."""

    position: int | None
    reply: Reply[None]


class RetryProjection(NamedTuple):
    """Go on after having been parked, or at once instead of after a while."""

    reply: Reply[None]


class RebuildProjection(NamedTuple):
    """Build it anew; reply when that has begun, and would go on after a crash."""

    reply: Reply[None]


class _ReadOn(NamedTuple):
    """Read the next page."""


class _RetryNow(NamedTuple):
    """Try again what has failed."""


class _EventFailure(Exception):
    """What `on` has raised for one event, or its decoder."""

    def __init__(self, place: int, record: GlobalRecord, error: BaseException, *, is_final: bool) -> None:
        super().__init__(place)
        self.place = place
        self.record = record
        self.error = error
        self.is_final = is_final


class Projector(PooledActor):
    """One projection at work. `status`, `reason` and `position` may be read from any thread."""

    def __init__(
        self,
        definition: ProjectionDefinition,
        *,
        store: EventStore,
        places: tuple[ProjectionPlace, ProjectionPlace],
        environment: Environment,
        rules: RestartRules,
    ) -> None:
        super().__init__()
        self.status = FOLLOWING
        self.reason = ""
        self.position = 0
        """Everything up to here is visible."""
        self.is_told = False
        """Whether it hears of a commit soon."""
        self._definition = definition
        self._projection = definition.kind()
        self._store = store
        self._place, self._draft_place = places
        self._environment = environment
        self._rules = rules
        self._random = Random(environment.new_seed())  # noqa: S311 - spreads retries
        self._main: ProjectionFile | None = None
        self._main_state: ProjectionState | None = None
        self._draft: ProjectionFile | None = None
        self._draft_state: ProjectionState | None = None
        self._types: dict[str, Callable[[bytes], Any] | None] = {}
        """What decodes the events of a stream; None: they are not for this projection."""
        self._waiting: list[WaitUntil] = []
        self._failures = 0
        self._alarm: AlarmHandle | None = None
        self._is_going_on = False

    def described(self) -> str:
        """Say who this is."""
        return f"Projection {self._definition.name!r}"

    # -------------------------------------------------------------------------------------- messages
    def on_start(self) -> None:
        """Open the file, and begin to catch up."""
        self._work()

    def on_receive(self, message: Any) -> None:
        """Take a message; work unless there is a reason to wait."""
        match message:
            case Committed():
                self.is_told = False
            case _ReadOn():
                self._is_going_on = False
            case _RetryNow():
                self._alarm = None
            case WaitUntil():
                self._wait(message)
            case RetryProjection(reply):
                self._forgive()
                reply.resolve(None)
            case _:
                self._rebuild(cast("RebuildProjection", message).reply)
        if self.status != PARKED and self._alarm is None and not self._is_going_on:
            self._work()

    def _wait(self, message: WaitUntil) -> None:
        if self.status == PARKED:
            message.reply.fail(self._parked())
            return
        try:
            end = self._store.position() if message.position is None else message.position
        except StoreError as error:
            message.reply.fail(error)
        else:
            self._waiting = [one for one in self._waiting if not one.reply.is_done]
            self._waiting.append(WaitUntil(end, message.reply))

    def _forgive(self) -> None:
        self._failures = 0
        self._drop_alarm()
        if self.status == PARKED:
            self._set_status()

    def _rebuild(self, reply: Reply[None]) -> None:
        self._forgive()
        try:
            self._open()
            self._begin_draft(_ASKED)
        except Exception as error:  # noqa: BLE001 - theirs who asked, and the projection's
            reply.fail(error)
            self._failed(error)
        else:
            reply.resolve(None)

    # -------------------------------------------------------------------------------------- following
    def _work(self) -> None:
        """Take one page of events."""
        try:
            self._open()
            has_more = self._advance()
        except Exception as error:  # noqa: BLE001 - it is recorded
            self._failed(error)
            return
        self._failures = 0
        self._set_status()
        if has_more:
            self._is_going_on = try_tell(self.actor_ref, _ReadOn())

    def _advance(self) -> bool:
        """Take a page, and return whether there may be more."""
        file, state = self._target()
        page = self._store.scan_all(after=state.position, limit=_PAGE)
        if not page:
            return self._arrived(state)
        records = self._checked(page)
        try:
            after = self._apply(file, state, records)
        except _EventFailure as failure:
            if not failure.place:
                raise
            # Those before it are as they should be: so the position shows which event it is.
            self._take(self._apply(file, state, records[: failure.place]))
            return True
        self._take(after)
        return True

    def _apply(
        self, file: ProjectionFile, state: ProjectionState, records: Sequence[GlobalRecord]
    ) -> ProjectionState:
        decoders = self._decoders(records)
        clock = self._environment.clock
        until = clock.elapsed() + _TURN_S

        def work(database: ProjectionDatabase) -> tuple[int, str]:
            for place, record in enumerate(records):
                decode = decoders[record.stream]
                if decode is not None:
                    self._on(database, place, record, decode)
                    if clock.elapsed() >= until:
                        return record.position, _mark(record)
            return records[-1].position, _mark(records[-1])

        return file.apply(work, state, clock.now())

    def _on(
        self, database: ProjectionDatabase, place: int, found: GlobalRecord, decode: Callable[[bytes], Any]
    ) -> None:
        record = found.record
        try:
            event = decode(record.data)
        except PayloadError as error:
            raise _EventFailure(place, found, error, is_final=True) from error
        try:
            self._projection.on(database, from_microseconds(record.at), found.stream, event)
        except BaseException as error:
            raise _EventFailure(place, found, error, is_final=False) from error

    def _take(self, state: ProjectionState) -> None:
        if self._draft is not None:
            self._draft_state = state
        else:
            self._main_state = state
            self._show(state)

    def _arrived(self, state: ProjectionState) -> bool:
        """Do what is due when there are no more events; return whether there may be, after all."""
        if self._draft is not None:
            self._swap(state)
            return True
        if state.status != FOLLOWING:
            cast("ProjectionFile", self._main).note(FOLLOWING, "", self._environment.clock.now())
            self._main_state = structs.replace(state, status=FOLLOWING)
        self._show(state)
        return False

    def _show(self, state: ProjectionState) -> None:
        """Let everybody know how far it is."""
        self.position = state.position
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if cast("int", one.position) <= state.position:
                one.reply.resolve(None)
            else:
                self._waiting.append(one)

    def _checked(self, page: Sequence[GlobalRecord | Unreadable]) -> list[GlobalRecord]:
        """Return the records up to the first damaged one, unless it is none of ours.

        Raises:
            RecordCorrupt: the first of them is damaged.
        """
        records: list[GlobalRecord] = []
        for found in page:
            if isinstance(found, GlobalRecord):
                records.append(found)
            elif found.stream is None or self._decoders([found])[found.stream] is not None:
                if records:
                    break
                raise RecordCorrupt(found.stream or "of an unknown name", found.version, found.reason)
        return records

    def _decoders(
        self, records: Sequence[GlobalRecord | Unreadable]
    ) -> dict[str, Callable[[bytes], Any] | None]:
        """Return what decodes the events of these streams.

        Raises:
            RecordCorrupt: it cannot be known of which type one is.
        """
        if len(self._types) > _TYPES_MAX:
            self._types.clear()
        unknown = list(
            {cast("str", record.stream): None for record in records if record.stream not in self._types}
        )
        for stream, found in zip(unknown, self._store.load(unknown, records=1, signals=1), strict=True):
            if not (isinstance(found, LoadedStream) and found.header.is_sound):
                raise RecordCorrupt(stream, None, f"its header cannot be read ({found!r})")
            self._types[stream] = self._definition.decoders.get(found.header.type)
        return self._types

    # ------------------------------------------------------------------------------------------ files
    def _target(self) -> tuple[ProjectionFile, ProjectionState]:
        if self._draft is not None:
            return self._draft, cast("ProjectionState", self._draft_state)
        return cast("ProjectionFile", self._main), cast("ProjectionState", self._main_state)

    def _open(self) -> None:
        """Open the file, and the draft, if there is one; begin a draft if the file is not what it must be."""
        if self._main is not None:
            return
        try:
            self._open_files()
        except BaseException:
            self._close()
            raise

    def _open_files(self) -> None:
        is_new = True
        try:
            main, state = _opened(self._place)
        except ProjectionDamaged as error:
            self._set_aside(error)
            is_new = False
            main, state = _opened(self._place)
        if state is None and is_new:
            # So that readers find its tables. After damage they rather find none than empty ones.
            state = self._created(main, _FIRST)
        self._main, self._main_state = main, state
        why = _FIRST
        if state is not None:
            why = self._misfit(state)
            self._show(state)
        self._resume_draft()
        if self._draft is None and why:
            self._begin_draft(why)

    def _misfit(self, state: ProjectionState) -> str:
        """Return why a projection must be built anew; "": it need not.

        Raises:
            StoreUnusable: the file is that of another projection.
        """
        if state.name != self._definition.name:
            raise StoreUnusable(f"{self._place} is the file of projection {state.name!r}: choose another one")
        if state.code != self._definition.code:
            return _CHANGED
        if not state.position and state is self._main_state:
            return _FIRST
        return "" if self._is_of_this_store(state) else _ANOTHER_STORE

    def _is_of_this_store(self, state: ProjectionState) -> bool:
        """Tell whether the store has the event that the projection has come to, as it was then."""
        if not state.position:
            return True
        found = self._store.scan_all(after=state.position - 1, limit=1)
        if not found or found[0].position != state.position:
            return False
        return isinstance(found[0], Unreadable) or _mark(found[0]) == state.mark

    def _resume_draft(self) -> None:
        """Go on with a draft that a process before this one has begun, if it is good for anything."""
        if not self._draft_place.exists():
            return
        with suppress(ProjectionDamaged):
            draft, state = _opened(self._draft_place)
            is_done = (
                self._main_state is not None and state is not None and state.build == self._main_state.build
            )
            if state is not None and not is_done and not self._misfit(state):
                self._draft, self._draft_state = draft, state
                return
            draft.close()
        self._draft_place.remove()

    def _begin_draft(self, why: str) -> None:
        if self._draft is not None:
            self._draft.close()
            self._draft = None
        self._draft_place.remove()
        log = logger.warning if why is _ANOTHER_STORE else logger.info
        log("Projection %r is built: %s", self._definition.name, why)
        draft = ProjectionFile.open(self._draft_place)
        self._draft_state = self._created(draft, why)
        self._draft = draft
        if self._main is not None and self._main_state is not None:
            self._main.note(BUILDING, why, self._environment.clock.now())
        self._set_status()

    def _created(self, file: ProjectionFile, why: str) -> ProjectionState:
        definition, environment = self._definition, self._environment
        state = ProjectionState(
            name=definition.name,
            code=definition.code,
            build=environment.new_id(),
            origin=why,
            position=0,
            mark="",
            status=FOLLOWING,
            reason="",
            at=environment.clock.now(),
        )
        file.create(state, definition.schema)
        return state

    def _swap(self, state: ProjectionState) -> None:
        """Have the draft take the place of what readers see."""
        main, draft = cast("ProjectionFile", self._main), cast("ProjectionFile", self._draft)
        main.replace_by(draft)
        self._main_state = state
        self._draft = self._draft_state = None
        draft.close()
        self._draft_place.remove()
        logger.info("Projection %r has been built, up to position %d", self._definition.name, state.position)

    def _close(self) -> None:
        for file in (self._main, self._draft):
            if file is not None:
                file.close()
        self._main = self._main_state = self._draft = self._draft_state = None

    # --------------------------------------------------------------------------------------- failures
    def _failed(self, error: Exception) -> None:
        """Try again later, or park the projection."""
        cause, is_final, is_of_file = error, False, False
        match error:
            case _EventFailure():
                cause, is_final = error.error, error.is_final
            case RecordCorrupt():
                is_final = error.version is not None  # the engine mends headers
            case StoreUnusable():
                is_final = True
            case QueryFailed():
                pass
            case StoreError():
                is_of_file = True
            case _:
                pass
        self._failures += 1
        text = self._told(error)
        if isinstance(error, ProjectionDamaged):
            self._give_up_damaged(error)
        elif is_of_file or isinstance(error, StoreUnusable):
            self._close()
        if is_final or (not is_of_file and self._failures > self._rules.max_restarts):
            self._park(text, cause)
            return
        wait = self._wait_s()
        if text != self.reason:
            logger.warning("%s; it is tried again in %.2g s", text, wait, exc_info=cause)
        self._note(RETRYING, text)
        self._alarm = self._environment.alarms.call_at(
            self._environment.clock.elapsed() + wait, self._on_instant
        )

    def _on_instant(self) -> None:
        try_tell(self.actor_ref, _RetryNow())

    def _give_up_damaged(self, error: ProjectionDamaged) -> None:
        """Have the damaged file made anew by whoever opens it next."""
        is_draft = self._draft is not None
        self._close()
        with suppress(OSError):  # then it is found again
            if is_draft:
                self._draft_place.remove()
            else:
                self._set_aside(error)

    def _set_aside(self, error: ProjectionDamaged) -> None:
        kept = self._place.set_aside(self._environment.clock.now())
        logger.warning(
            "Projection %r is built from the beginning: %s; what is left is kept as %s",
            self._definition.name,
            error,
            kept,
        )

    def _told(self, error: Exception) -> str:
        """Say what went wrong, and where."""
        if isinstance(error, _EventFailure):
            found, cause = error.record, error.error
            where = (
                f" ({self._definition.place}) at event {found.record.version} of {found.stream!r},"
                f" {found.record.kind!r}, position {found.position}"
            )
        else:
            where, cause = "", error
        return storable(f"{self.described()}{where}: {type(cause).__name__}: {cause}")

    def _park(self, text: str, cause: BaseException) -> None:
        logger.error("%s. It is parked, until it is retried or built anew", text, exc_info=cause)
        self._note(PARKED, text)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.reply.fail(self._parked())

    def _parked(self) -> ProjectionParked:
        return ProjectionParked(
            f"{self.reason}. It is parked: when the cause is removed, call retry() or rebuild() on"
            " system.projection(...), or start the system anew"
        )

    def _note(self, status: str, reason: str) -> None:
        """Say how it stands, also in the file, if that works."""
        self.status, self.reason = status, reason
        now = self._environment.clock.now()
        with suppress(StoreError):
            if self._main is not None and self._main_state is not None:
                self._main.note(status, reason, now)
                self._main_state = structs.replace(self._main_state, status=status)
            elif self._draft is not None and self._draft_state is not None:
                self._draft.note(status, reason, now)
                self._draft_state = structs.replace(self._draft_state, status=status)

    def _set_status(self) -> None:
        self.status, self.reason = BUILDING if self._draft is not None else FOLLOWING, ""

    def _wait_s(self) -> float:
        rules = self._rules
        wait = min(rules.maximum_s, rules.initial_s * rules.factor ** min(self._failures - 1, _EXPONENT))
        return wait * (1 + rules.jitter * self._random.random())

    # ----------------------------------------------------------------------------------------- the end
    def on_stop(self) -> None:
        """End with the system."""
        self._leave(SystemClosed("the system is closed: the projection follows no more"))

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """End with an error of the engine's own."""
        del exception_type, traceback  # Pykka logs it
        self.reason = f"{self.described()} has crashed: {exception_value!r}"
        self._leave(self._parked())

    def _leave(self, error: Exception) -> None:
        self.status = STOPPED
        self._drop_alarm()
        self._close()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.reply.fail(error)

    def _drop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


def _opened(place: ProjectionPlace) -> tuple[ProjectionFile, ProjectionState | None]:
    file = ProjectionFile.open(place)
    try:
        return file, file.state()
    except BaseException:
        file.close()
        raise


def _mark(found: GlobalRecord) -> str:
    """Return by what an event is known again, if the store is another one, or has lost its end."""
    record = found.record
    said = repr((found.stream, record.version, record.at, record.kind)).encode()
    return hashlib.blake2b(said + record.data, digest_size=16).hexdigest()
