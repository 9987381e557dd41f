"""The demo of the hello world flow."""

from __future__ import annotations

from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from ...actors import FlowSystem
from ...flows.examples import HelloWorldFlow
from ..cli.output.lines import Lines
from ..cli.output.screen import output_console
from .place import WatchedStore
from .shown import table_of

if TYPE_CHECKING:
    from .place import Place

__all__ = ["run"]

_FLOW = "hello"


def run(place: Place) -> int:
    """Run the flow, or find its result, and show both its lines and its record."""
    out = output_console()
    out.print(f"Store: {place}", markup=False, style="dim")
    store = WatchedStore.at(place.store)
    is_known = bool(store.history(_FLOW))
    lines: list[str] = []
    with FlowSystem(store=store, flows=[HelloWorldFlow]) as system:
        with redirect_stdout(Lines(lines.append)):
            handle = system.start(HelloWorldFlow.say_hello, flow_id=_FLOW)
            result = handle.result()
        for line in lines:
            out.print(line, markup=False)
        if is_known and not lines:
            out.print("The flow has ended before: this is its record, and no step was run.")
        out.print()
        out.print(table_of(handle.events(), f"What is on record of flow {_FLOW!r}"))
        out.print(f"Result: [bold]{result}[/]")
    return 0
