"""Models of pydantic are values as others are: they come back equal, or the definition is refused."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec
import pydantic.v1
import pytest
from persistasaurus.flows import Flow, Registry, flow, gather, signal, step, wait_for
from persistasaurus.flows.errors import FlowDefinitionError, PayloadError
from persistasaurus.flows.values.codec import Codec
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr, computed_field
from stories import Story, same_at_every_prefix

T = TypeVar("T")


class Item(BaseModel):
    name: str
    price: Decimal


class Order(BaseModel):
    id: int
    placed: datetime
    items: list[Item] = []
    tags: set[str] = set()
    before: "Order | None" = None
    total: Decimal = Field(Decimal(0), alias="Total")

    @computed_field
    @property
    def count(self) -> int:
        return len(self.items)


class Special(Item):
    discount: int = 0


class Names(RootModel[list[str]]):
    pass


class Box(BaseModel, Generic[T]):
    content: T


@dataclass
class Parcel:
    order: Order
    label: str


class Shipment(msgspec.Struct):
    parcels: list[Parcel]
    first: Item | None = None


WHEN = datetime(2026, 11, 30, 12, tzinfo=UTC)
TEA = Item(name="tea", price=Decimal("1.10"))
ORDER = Order(
    id=2**70, placed=WHEN, items=[TEA], tags={"a"}, before=Order(id=1, placed=WHEN), Total=Decimal("1.1")
)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Item, TEA),
        (Order, ORDER),
        (Order | None, ORDER),
        (Order | None, None),
        (list[Item], [TEA, TEA]),
        (dict[str, Item], {"a": TEA}),
        (tuple[Item, int], (TEA, 1)),
        (Names, Names(["a"])),
        (Box[Item], Box[Item](content=TEA)),
        (Parcel, Parcel(ORDER, "x")),
        (Shipment, Shipment([Parcel(ORDER, "x")], TEA)),
    ],
    ids=str,
)
def test_a_model_comes_back_equal_wherever_it_stands(annotation, value) -> None:
    codec = Codec(annotation, "it")

    data, seen = codec.seal(value)

    assert seen == value == codec.decode(data)
    assert seen is not value or value is None
    assert data == msgspec.json.encode(msgspec.json.decode(data))


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (Item, Special(name="x", price=Decimal(1), discount=3), "comes back as"),
        (Any, TEA, "annotate its type"),
        (list[Any], [TEA], "annotate its type"),
        (Box[float], Box[float](content=float("nan")), "nan"),
        (Item, Item.model_construct(name=3, price=Decimal(1)), "name"),
        (Item, "tea", "Item"),
    ],
    ids=str,
)
def test_a_model_that_would_not_come_back_equal_is_refused_at_the_call(annotation, value, said) -> None:
    with pytest.raises(PayloadError, match=said):
        Codec(annotation, "it").seal(value)


def test_what_a_model_refuses_is_said_in_one_line_with_its_path() -> None:
    with pytest.raises(PayloadError) as refused:
        Codec(list[Item], "it").decode(b'[{"name":"tea","price":"1"},{"name":3}]')

    assert refused.value.path == "$[1]"
    assert "name: " in refused.value.reason
    assert "price: " in refused.value.reason
    assert "\n" not in str(refused.value)
    assert "http" not in str(refused.value)


class Old(pydantic.v1.BaseModel):
    x: int


class OfTwoNames(BaseModel):
    x: int = Field(validation_alias="in", serialization_alias="out")


class Outer(BaseModel):
    inner: list[OfTwoNames]


class Excluding(BaseModel):
    x: int = Field(1, exclude=True)


class Hiding(BaseModel):
    password: SecretStr


class Calling(BaseModel):
    call: Callable[[int], int]


class Holding(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    thing: Old.__class__.__mro__[0]


class Unresolved(BaseModel):
    x: "NeverHeardOf"  # noqa: F821 - on purpose


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (Old, "pydantic 1"),
        (list[Old], "pydantic 1"),
        (BaseModel, "name the model"),
        (OfTwoNames, "alias"),
        (Outer, "OfTwoNames"),
        (Excluding, "exclude"),
        (Hiding, "password"),
        (Calling, "Calling"),
        (Holding, "Holding"),
        (Unresolved, "NeverHeardOf"),
        (Item | Order, "Item"),
        (Item | int, "Item"),
        (dict[Item, int], "keys"),
    ],
    ids=str,
)
def test_a_model_whose_values_could_not_be_stored_is_refused_at_the_definition(annotation, said) -> None:
    class Made(Flow):
        @flow
        async def go(self) -> None: ...

        @step
        def work(self) -> annotation: ...

    with pytest.raises(FlowDefinitionError, match=said) as refused:
        Registry([Made])
    assert "step 'work' at test_pydantic_models.py:" in str(refused.value)


def test_a_model_that_cannot_be_described_and_reads_what_it_writes_is_taken() -> None:
    class Described(BaseModel):
        x: Decimal

        @classmethod
        def model_json_schema(cls, *args, mode="validation", **kwargs):
            if mode == "validation":
                raise TypeError("no words")
            return super().model_json_schema(*args, mode=mode, **kwargs)

    class Made(Flow):
        @flow
        async def go(self, x: Described) -> None: ...

    Registry([Made])


def test_a_flow_works_with_models_live_and_in_each_replay() -> None:
    class Sells(Flow):
        @flow
        async def go(self, order: Order) -> Order:
            first, second = await gather(self.price(order.items[0]), self.price(TEA))
            asked = await self.ask()
            more = await wait_for("more", Item)
            return order.model_copy(update={"items": [first, second, asked, more]})

        @step
        def price(self, item: Item) -> Item:
            return item.model_copy(update={"price": item.price * 2})

        @signal
        def ask(self, item: Item) -> Item:
            return item

    story = Story(Sells.go, ORDER).start()
    story.run()
    story.run()
    story.signal(Sells.ask(TEA))
    story.finish()
    story.send("more", {"name": "milk", "price": "3"})

    items = Codec(Order, "it").decode(story.machine.ended.result).items
    assert [item.price for item in items] == [Decimal("2.20"), Decimal("2.20"), Decimal("1.10"), Decimal(3)]
    same_at_every_prefix(story, ends=False)


def test_pydantic_is_not_imported_by_the_engine() -> None:
    code = "import sys, persistasaurus; sys.exit('pydantic' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
