"""The base class of projections, as users write them, and what such a class says."""

from __future__ import annotations

import hashlib
import inspect
import sys
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

from ...flows.entities.actor import definition_of
from ...flows.errors import ActorDefinitionError, ProjectionDefinitionError
from ...flows.values.location import Location, defined_at
from ...flows.values.settings import check_count
from ...store import QueryFailed
from ...store.sqlite.projection_database import check_schema
from ...store.sqlite.projection_place import PROJECTION_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from ...store.sqlite.projection_database import ProjectionDatabase

__all__ = ["EventSource", "Projection", "ProjectionDefinition", "projection_of"]

_EXAMPLE = 'class Balances(Projection, name="balances", of=Account): ...'
_SIGNATURE = "def on(self, db, at, stream, event): ..."


class EventSource(NamedTuple):
    """Streams of one type, and what makes events of the bodies of their records."""

    stream_type: str
    decode: Callable[[bytes], Any]


class Projection:
    """Base of projections: tables that follow the events of actors.

        class Balances(Projection, name="balances", of=Account):
            schema = "CREATE TABLE balance (id TEXT PRIMARY KEY, amount INT, at TEXT)"

            def on(self, db, at, stream, event): ...

    `name` is a part of the name of its file, `STORE-projection-NAME`; `of` is a class of actors, or several.
    `FlowSystem(projections=[Balances])` keeps it up to date; `system.projection(Balances)` is its handle.
    When `schema`, `version` or `of` has changed, it is built anew, and readers see the old one meanwhile.

    Raises:
        ProjectionDefinitionError: when the class is defined, if it cannot work.
    """

    schema: ClassVar[str]
    """SQL that defines its tables, indexes, views and triggers. Run once for each file."""
    version: ClassVar[int] = 1
    """Raise it when `on` makes something else of the same events: the projection is then built anew."""
    file: ClassVar[str | None] = None
    """Where it is kept instead of beside the store: a path, relative to the store's folder."""

    _definition: ClassVar[ProjectionDefinition]

    def __init_subclass__(cls, *, name: Any = None, of: Any = None, **options: Any) -> None:
        super().__init_subclass__()
        frame = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - nothing else knows the line
        location = Location(frame.f_code.co_filename, frame.f_lineno)
        cls._definition = ProjectionDefinition(cls, name, of, options, location)

    def on(self, db: ProjectionDatabase, at: datetime, stream: str, event: Any) -> None:
        """Write what an event changes. Events come in the total order of the store, each once.

        It runs on the projection's own thread, in a transaction of many events. If it raises, that is rolled
        back. So it should depend on nothing but its arguments and its tables, and do nothing else.

        Args:
            db: the projection's tables.
            at: when the event was recorded, in UTC.
            stream: the id of the actor.
            event: the event, decoded anew.
        """
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"self.{name} of projection {type(self).__name__} was assigned to: what it knows is in tables,"
            " which a failure rolls back"
        )


class ProjectionDefinition:
    """What a projection's class says, checked when the class is made."""

    def __init__(
        self, kind: type[Projection], name: Any, of: Any, options: dict[str, Any], location: Location
    ) -> None:
        self.kind = kind
        self.location = location
        try:
            self.name = _checked_name(name, options)
            self.sources = _sources(of)
            self._check_on()
            check_count(kind.__name__, "version", kind.version)
            _check_file(kind.file)
            self.schema = _checked_schema(self.name, getattr(kind, "schema", None))
        except (TypeError, ValueError, ActorDefinitionError, QueryFailed) as error:
            raise ProjectionDefinitionError(f"class {kind.__name__} at {location}: {error}") from error
        types = sorted(source.stream_type for source in self.sources)
        said = repr((self.schema, kind.version, types)).encode()
        self.code = hashlib.blake2b(said, digest_size=16).hexdigest()
        """Stands for all that decides about what is in the tables."""
        self.decoders = {source.stream_type: source.decode for source in self.sources}

    @property
    def file(self) -> str | None:
        return self.kind.file

    @property
    def place(self) -> str:
        """Where `on` is, for messages."""
        return f"{self.kind.__name__}.on at {defined_at(self.kind.on)}"

    def __repr__(self) -> str:
        return f"<projection {self.name!r}>"

    def _check_on(self) -> None:
        on = self.kind.on
        if on is Projection.on:
            raise TypeError(f"it has no on(), which takes the events: {_SIGNATURE}")
        at = f"on at {defined_at(on)}"
        if not inspect.isfunction(inspect.getattr_static(self.kind, "on")):
            raise TypeError(f"{at} must be a plain method: {_SIGNATURE}")
        if (
            inspect.iscoroutinefunction(on)
            or inspect.isgeneratorfunction(on)
            or inspect.isasyncgenfunction(on)
        ):
            raise TypeError(f"{at} must be a plain method, without `async` and `yield`: {_SIGNATURE}")
        try:
            inspect.signature(on).bind(None, None, None, None, None)
        except TypeError:
            raise TypeError(f"{at} must take db, at, stream and event: {_SIGNATURE}") from None
        if self.kind.__init__ is not Projection.__init__:
            raise TypeError("it has __init__(): a projection keeps nothing but its tables")


def projection_of(kind: Any) -> ProjectionDefinition:
    """Return the definition of a projection's class.

    Raises:
        ProjectionDefinitionError: it is not one.
    """
    if isinstance(kind, type) and issubclass(kind, Projection) and kind is not Projection:
        return kind._definition  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - it has no public name, which users could need
    raise ProjectionDefinitionError(f"{kind!r} is not a class that derives from Projection: {_EXAMPLE}")


def _checked_name(name: Any, options: dict[str, Any]) -> str:
    if options:
        odd = next(iter(options))
        raise TypeError(f"it takes no {odd}=: write {odd} = {options[odd]!r} in the class, or see {_EXAMPLE}")
    if name is None:
        raise TypeError(f"it needs a name, which its file has, even if the class is renamed: {_EXAMPLE}")
    if not isinstance(name, str) or PROJECTION_NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} cannot be its name, which is a part of the name of its file: give 1 to 64 letters,"
            " digits and underscores, a letter first"
        )
    return name


def _sources(of: Any) -> tuple[EventSource, ...]:
    if of is None:
        raise TypeError(f"it does not say of which actors it is: {_EXAMPLE}")
    kinds: list[Any] = (
        list(cast("Iterable[Any]", of)) if isinstance(of, (list, tuple, set, frozenset)) else [of]
    )
    if not kinds:
        raise TypeError(f"it is of no actors at all: {_EXAMPLE}")
    sources: dict[str, EventSource] = {}
    for kind in kinds:
        definition = definition_of(kind)
        if definition.name in sources:
            raise TypeError(f"of= has two classes of actors that are named {definition.name!r}")
        sources[definition.name] = EventSource(definition.name, definition.events.decode)
    return tuple(sources.values())


def _check_file(file: Any) -> None:
    if file is not None and (not isinstance(file, str) or not file):
        raise TypeError(f"file = {file!r}: give the path of a file as text, or None")


def _checked_schema(name: str, schema: Any) -> str:
    if schema is None:
        raise TypeError('it has no schema, which defines its tables: schema = "CREATE TABLE ..."')
    if not isinstance(schema, str):
        raise TypeError(f"schema = {schema!r}: give SQL as text")
    check_schema(name, schema)
    return schema
