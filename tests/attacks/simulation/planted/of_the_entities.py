"""Bugs of event-sourced actors: what is told too early, kept though it was refused, lost, or done by two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from persistasaurus.actors.entities.directory import EntityDirectory
from persistasaurus.actors.entities.entity_actor import EntityActor
from persistasaurus.flows.entities.event_codec import EventCodec
from persistasaurus.flows.entities.incarnation import EntityIncarnation
from simulation.planted.planting import bug, wrap

if TYPE_CHECKING:
    import pytest


# -------------------------------------------------------------------------------------------- replies
@bug
def command_answered_before_record(patch: pytest.MonkeyPatch) -> None:
    """A command is answered when it has been decided."""
    _answer_at_once(patch, commands=True)


@bug
def query_answered_before_record(patch: pytest.MonkeyPatch) -> None:
    """A query is answered at once, though what it has seen is not durable."""
    _answer_at_once(patch, commands=False)


def _answer_at_once(patch: pytest.MonkeyPatch, *, commands: bool) -> None:
    def answer(before: Any, self: Any, answer: Any) -> None:
        if answer.call.handler.is_command is commands:
            self._settle([answer])
        else:
            before(self, answer)

    wrap(patch, EntityActor, "_answer", answer)


@bug
def refusal_told_before_record(patch: pytest.MonkeyPatch) -> None:
    """A refusal is told at once, though what it is about is not durable."""

    def answer(before: Any, self: Any, answer: Any) -> None:
        if answer.error is not None:
            self._settle([answer])
        else:
            before(self, answer)

    wrap(patch, EntityActor, "_answer", answer)


@bug
def answered_with_the_append_before(patch: pytest.MonkeyPatch) -> None:
    """What was decided while an append was under way is answered when that one is durable."""

    def answer(before: Any, self: Any, answer: Any) -> None:
        if self._under_way is not None:
            self._under_way.append(answer)
        else:
            before(self, answer)

    wrap(patch, EntityActor, "_answer", answer)


# ---------------------------------------------------------------------------------------------- state
@bug
def event_applied_as_it_was_given(patch: pytest.MonkeyPatch) -> None:
    """The live state is made of the event that was recorded, and not of what is read of it."""

    def seal(before: Any, self: Any, event: Any, limits: Any) -> Any:
        recorded, _ = before(self, event, limits)
        return recorded, event

    wrap(patch, EventCodec, "seal", seal)


@bug
def refused_command_leaves_its_events(patch: pytest.MonkeyPatch) -> None:
    """What a command has recorded stays in the state, though the command was refused after that."""
    patch.setattr(EntityIncarnation, "_undo", lambda _: None)


@bug
def undone_too_far(patch: pytest.MonkeyPatch) -> None:
    """With a refused command go the events since the state was last kept."""

    def undo(before: Any, self: Any) -> None:
        self._tail.clear()
        before(self)

    wrap(patch, EntityIncarnation, "_undo", undo)


@bug
def state_kept_after_a_failed_commit(patch: pytest.MonkeyPatch) -> None:
    """The state stays what it was, though its last events were not written."""

    def recover(before: Any, self: Any) -> None:
        if self._incarnation is None:
            before(self)

    wrap(patch, EntityActor, "_recover", recover)


@bug
def newest_event_not_seen(patch: pytest.MonkeyPatch) -> None:
    """An event-sourced actor that has recovered takes itself to be one event behind."""

    def recovered(before: Any, self: Any) -> Any:
        found = before(self)
        self._version = max(0, self._version - 1)
        return found

    wrap(patch, EntityActor, "_recovered", recovered)


# ----------------------------------------------------------------------------------------- passivation
@bug
def message_lost_in_passivation(patch: pytest.MonkeyPatch) -> None:
    """An actor rests though a message has just come."""

    def release(_: Any, self: Any, entity: Any) -> bool:
        self._guard.leave(entity.stream, entity)
        self._live.pop(entity.stream, None)
        return True

    wrap(patch, EntityDirectory, "_release", release)


@bug
def two_incarnations(patch: pytest.MonkeyPatch) -> None:
    """A message starts an actor, though there is one."""

    def put(before: Any, self: Any, definition: Any, stream: str, *args: Any, **options: Any) -> bool:
        self._live.pop(stream, None)
        return bool(before(self, definition, stream, *args, **options))

    wrap(patch, EntityDirectory, "_put", put)
