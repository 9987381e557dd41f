"""A program that records events, and has a projection of them, until it is killed."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
from persistasaurus import EventSourcedActor, FlowSystem, Projection, command


class Drawn(msgspec.Struct, tag="drawn"):
    number: int


class Sum(msgspec.Struct):
    value: int = 0


class Drawer(EventSourcedActor[Sum, Drawn], name="drawer"):
    def apply(self, state: Sum, event: Drawn) -> None:
        state.value += event.number

    @command
    def draw(self, number: int) -> int:
        self.record(Drawn(number))
        return self.state.value


class Entries(Projection, name="entries", of=Drawer):
    schema = """
    CREATE TABLE entry (place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, number INT NOT NULL);
    CREATE TABLE total (id TEXT PRIMARY KEY, value INT NOT NULL);
    """

    def on(self, db: Any, at: Any, stream: str, event: Drawn) -> None:
        del at
        db.execute("INSERT INTO entry (id, number) VALUES (?, ?)", (stream, event.number))
        db.execute(
            "INSERT INTO total VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET value = value + excluded.value",
            (stream, event.number),
        )


async def _draw(system: FlowSystem) -> None:
    drawers = [system.actor(Drawer, f"drawer-{number}") for number in range(7)]
    for number in range(1_000_000):
        await asyncio.gather(*(drawer.ask_async(Drawer.draw, number % 100) for drawer in drawers))
        if number == 5:
            sys.stdout.write("at work\n")
            sys.stdout.flush()


def work(path: str, *, rebuilds: bool) -> None:
    """Record events for ever."""
    with FlowSystem(path, actors=[Drawer], projections=[Entries]) as system:
        if rebuilds:
            system.projection(Entries).rebuild()
        asyncio.run(_draw(system))


if __name__ == "__main__":
    work(sys.argv[1], rebuilds=sys.argv[2] == "rebuild")
