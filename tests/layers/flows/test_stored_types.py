"""What cannot be stored is refused where it is annotated, before an effect whose result nobody could keep."""

import collections
import collections.abc
import enum
import typing
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, Protocol, TypedDict
from uuid import UUID

import msgspec
import pytest
from persistasaurus.flows import Flow, Registry, flow, gather, signal, step, wait_for
from persistasaurus.flows.errors import FlowDefinitionError, PayloadError
from persistasaurus.flows.values.codec import Codec
from stories import Story


class Plain:
    x: int


class Shape(Protocol):
    x: int


class Text(str):
    __slots__ = ()


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Receipt:
    amount: Decimal
    scan: Path


@dataclass
class Order:
    receipts: list[Receipt]


@dataclass
class Tree:
    leaves: "list[Tree]" = field(default_factory=list)


@dataclass(eq=False)
class Same:
    x: int


class Odd(msgspec.Struct, eq=False):
    x: int


class Optionals(msgspec.Struct):
    x: int | msgspec.UnsetType = msgspec.UNSET


class Pair(NamedTuple):
    a: int
    b: Plain


class Row(TypedDict):
    a: complex


@dataclass
class Unknown:
    x: "NeverHeardOf"  # noqa: F821 - on purpose


def returning(annotation):
    """Make a flow class with a step that returns what is annotated so."""

    class Made(Flow):
        @flow
        async def go(self) -> None: ...

        @step
        def work(self) -> annotation: ...

    return Made


def taking(annotation):
    """Make a flow class with a signal that takes what is annotated so."""

    class Made(Flow):
        @flow
        async def go(self) -> None: ...

        @signal
        def work(self, value: annotation) -> None: ...

    return Made


UNSTORABLE = [
    (Path, "str"),
    (list[Path], "str"),
    (dict[str, Path | None], "str"),
    (complex, "tuple"),
    (Plain, "dataclass"),
    (Shape, "dataclass"),
    (Text, "annotate str"),
    (Exception, "str"),
    (ConnectionError, "str"),
    (collections.OrderedDict, "dict"),
    (collections.OrderedDict[str, int], "dict"),
    (collections.Counter, "dict"),
    (collections.deque[int], "list"),
    (collections.abc.Iterator[int], "list"),
    (collections.abc.Iterable[int], "list"),
    (collections.abc.Callable[[int], int], "by its name"),
    (collections.abc.Coroutine[Any, Any, int], "async def"),
    (typing.Awaitable[int], "async def"),
    (type[int], "by its name"),
    (Order, "Receipt.scan"),
    (tuple[int, Pair], "Pair.b"),
    (Row, "Row.a"),
    (Same, "eq=False"),
    (list[Odd], "eq=False"),
    (set[list[int]], "annotate list"),
    (set[dict[str, int]], "annotate list"),
    (dict[tuple[int, int], str], "pairs"),
    (dict[bool, int], "pairs"),
    (Receipt | Order, "Receipt"),
    (str | bytes, "str"),
    (Plain | int, "Plain"),
    (Unknown, "NeverHeardOf"),
]

STORABLE = [
    None,
    Any,
    object,
    int,
    float | None,
    bytes,
    Decimal,
    datetime,
    UUID,
    Colour,
    Literal["a", "b"],
    Optionals,
    Tree,
    NoReturn,
    collections.abc.Hashable,
    collections.abc.Sequence[int],
    collections.abc.Mapping[str, int],
    list[dict[str, tuple[int, str | None]]],
    dict[int, str],
    dict[date, int],
    frozenset[tuple[int, ...]],
]


@pytest.mark.parametrize(("annotation", "said"), UNSTORABLE, ids=str)
@pytest.mark.parametrize("make", [returning, taking])
def test_what_cannot_be_stored_is_refused_at_the_definition(make, annotation, said) -> None:
    with pytest.raises(FlowDefinitionError) as refused:
        Registry([make(annotation)])

    message = str(refused.value)
    assert said in message
    assert f"{'step' if make is returning else 'signal'} 'work' at test_stored_types.py:" in message
    assert ("its result" if make is returning else "the parameter 'value'") in message


@pytest.mark.parametrize("annotation", STORABLE, ids=str)
def test_what_can_be_stored_is_not_refused(annotation) -> None:
    Registry([returning(annotation), taking(annotation if annotation is not NoReturn else None)][:1])


def test_the_result_of_a_flow_and_the_type_that_is_waited_for_are_looked_at_too() -> None:
    class Gives(Flow):
        @flow
        async def go(self) -> Path: ...

    with pytest.raises(FlowDefinitionError, match=r"flow 'Gives\.go' at test_stored_types\.py.*its result"):
        Registry([Gives])
    with pytest.raises(FlowDefinitionError, match=r"signal 'done'.*Path"):
        wait_for("done", Path)


def test_a_step_of_a_module_is_refused_where_it_is_written() -> None:
    def fetch() -> Path: ...

    def later() -> "Later": ...  # noqa: F821 - on purpose

    with pytest.raises(FlowDefinitionError, match="its result: Path"):
        step(fetch)
    step(later)  # it may still come: it is looked for when the step is called


def test_a_step_of_a_module_whose_types_are_never_known_has_no_effect() -> None:
    effects = []

    @step
    def charge() -> "NeverHeardOf":  # noqa: F821 - on purpose
        effects.append(1)

    @flow
    async def go() -> None:
        await charge()

    story = Story(go).start().finish()

    assert story.error.type == "FlowDefinitionError"
    assert "NeverHeardOf" in story.error.message
    assert not effects


def test_a_name_that_only_type_checkers_know_is_named_with_its_parameter() -> None:
    class Takes(Flow):
        @flow
        async def go(self, order: "list[Hidden]") -> None: ...  # noqa: F821 - on purpose

    with pytest.raises(FlowDefinitionError) as refused:
        Registry([Takes])

    for said in ("test_stored_types.py:", "'order'", "'Hidden'", "TYPE_CHECKING", "inside a function"):
        assert said in str(refused.value)


@pytest.mark.parametrize(
    ("annotation", "default", "said"),
    [(int, None, "| None"), (int, "1", "int"), (float, float("nan"), "nan"), (Any, Plain(), "Plain")],
)
def test_a_default_that_does_not_fit_its_annotation_is_refused(annotation, default, said) -> None:
    class Made(Flow):
        @flow
        async def go(self, amount: annotation = default) -> None: ...

    with pytest.raises(FlowDefinitionError, match="the default of 'amount'") as refused:
        Registry([Made])
    assert said in str(refused.value)


# ------------------------------------------------------------------------------------------- values
@pytest.mark.parametrize(
    ("annotation", "given", "seen"),
    [
        (list[str], ("a", "b"), ["a", "b"]),
        (collections.abc.Sequence[int], (1, 2), [1, 2]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, list[int]], [1, (2, 3)], (1, [2, 3])),
        (dict[str, list[int]], {"a": (1,)}, {"a": [1]}),
        (list[int] | None, (1,), [1]),
        (Tree, Tree((Tree(),)), Tree([Tree()])),
    ],
    ids=str,
)
def test_a_tuple_that_is_annotated_as_a_list_is_one_and_the_other_way_round(annotation, given, seen) -> None:
    data, value = Codec(annotation, "it").seal(given)

    assert value == seen
    assert Codec(annotation, "it").decode(data) == seen


@pytest.mark.parametrize(
    ("annotation", "given"),
    [(Any, (1,)), (list[Any], ((1,),)), (tuple[Any, ...], [(1,)]), (dict, {"a": (1,)})],
)
def test_a_tuple_that_nothing_announces_is_refused(annotation, given) -> None:
    with pytest.raises(PayloadError, match="comes back as"):
        Codec(annotation, "it").seal(given)


def test_what_a_gather_returns_can_be_handed_to_a_step_that_takes_a_list() -> None:
    class Ships(Flow):
        @flow
        async def go(self) -> list[str]:
            return await self.ship(await gather(*[self.pack(n) for n in range(3)]))

        @step
        def pack(self, n: int) -> str:
            return f"parcel {n}"

        @step
        def ship(self, parcels: list[str]) -> list[str]:
            return parcels

    assert Story(Ships.go).start().finish().result == ["parcel 0", "parcel 1", "parcel 2"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("annotation", "wrap", "path"),
    [
        (float, lambda x: x, "$"),
        (Any, lambda x: x, "$"),
        (float | None, lambda x: x, "$"),
        (dict[str, list[float]], lambda x: {"a": [1.0, x]}, "$['a'][1]"),
        (set[float], lambda x: {x}, "$"),
    ],
)
def test_a_number_that_is_none_is_called_by_its_name(number, annotation, wrap, path) -> None:
    with pytest.raises(PayloadError, match=str(number)) as refused:
        Codec(annotation, "it").seal(wrap(number))

    assert refused.value.path == path
    assert "float | None" in refused.value.reason


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (lambda self: self.take(self.other()), "<call of step 'other'; await it>: write `await`"),
        (lambda self: self.take([1, {"a": self.other()}]), "$.x[1]['a']"),
        (lambda self: self.take(self.helper()), "helper(), that was not awaited: write `await`"),
        (lambda self: self.take(type(self).go()), "a flow is started"),
        (lambda self: self.take(self.other), "call"),
        (lambda self: self.take(gather(self.other())), "write `await`"),
        (lambda self: self.take(Plain()), "Plain has no JSON form: use a dataclass"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine.*never awaited:RuntimeWarning")
def test_what_was_to_be_awaited_is_not_stored_and_the_message_says_so(code, said) -> None:
    class Passes(Flow):
        @flow
        async def go(self) -> None:
            await code(self)

        async def helper(self) -> None: ...

        @step
        def take(self, x: object) -> None: ...

        @step
        def other(self) -> int: ...

    error = Story(Passes.go).start().finish().error

    assert error.type == "PayloadError"
    assert "step 'take': the value at $.x" in error.message
    assert said in error.message
