"""The events of one actor's class, as they are stored."""

from __future__ import annotations

from types import UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, Union, cast, get_args, get_origin

import msgspec

from ..errors import ActorDefinitionError, FlowDefinitionError
from ..values.annotations import refuse_unstorable
from ..values.codec import Codec

if TYPE_CHECKING:
    from ..values.codec import PayloadLimits


class RecordedEvent(NamedTuple):
    """An event that a command has recorded: its tag, and its bytes."""

    kind: str
    data: bytes


class EventCodec:
    """Encodes and decodes the events of an actor's class, which are tagged structs."""

    def __init__(self, annotation: Any, actor: str) -> None:
        self._actor = actor
        self._codecs: dict[type, tuple[str, Codec]] = {}
        for kind in _members(annotation):
            tag = self._checked_tag(kind)
            self._codecs[kind] = (tag, Codec(kind, f"event {kind.__name__} of {actor}"))
        try:
            refuse_unstorable(annotation, f"an event of {actor}")
            self._any = Codec(annotation, f"an event of {actor}")
        except FlowDefinitionError as error:
            raise ActorDefinitionError(str(error)) from None

    def _checked_tag(self, kind: Any) -> str:
        shown = getattr(kind, "__name__", None) or repr(kind)
        example = f'class {shown}(msgspec.Struct, tag="{str(shown).lower()}"): ...'
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            raise ActorDefinitionError(
                f"{shown} cannot be an event of {self._actor}: events are tagged structs, {example}"
            )
        tag = kind.__struct_config__.tag
        if not isinstance(tag, str):
            raise ActorDefinitionError(
                f"the event {shown} of {self._actor} has no tag, under which it would be stored: {example}"
            )
        other = next((known for known, (said, _) in self._codecs.items() if said == tag), None)
        if other is not None:
            raise ActorDefinitionError(
                f"the events {other.__name__} and {shown} of {self._actor} have the same tag, {tag!r}"
            )
        return tag

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(tag for tag, _ in self._codecs.values())

    def seal(self, event: Any, limits: PayloadLimits) -> tuple[RecordedEvent, Any]:
        """Encode an event; return what is stored, and the event that every later reader will see.

        Raises:
            TypeError: it is not an event of this class.
            PayloadError: it would not come back equal, or is too large; the message has the path.
        """
        found = self._codecs.get(cast("type[Any]", type(event)))
        if found is None:
            names = ", ".join(kind.__name__ for kind in self._codecs)
            raise TypeError(f"{event!r} is not an event of {self._actor}, which records {names}")
        tag, codec = found
        data, decoded = codec.seal(event, limits)
        return RecordedEvent(tag, data), decoded

    def decode(self, data: bytes) -> Any:
        """Decode a stored event.

        Raises:
            PayloadError: it is none of this class, or does not fit it.
        """
        return self._any.decode(data)


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the only type."""
    annotation = getattr(annotation, "__value__", annotation)  # of a `type` statement
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
