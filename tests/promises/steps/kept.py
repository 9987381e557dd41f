"""A flow whose isolated steps ask for what is not in their process. A module that any process finds."""

from __future__ import annotations

from threading import Lock
from typing import Any

from persistasaurus import Flow, StepError, flow, step

SYSTEMS: list[Any] = []


class Kept(Flow):
    inherited = "of the class"

    @flow(name="kept")
    async def go(self, what: str) -> str:
        self.inherited = SYSTEMS[0] if what == "system" else Lock()
        return await self.ask()

    @step(isolated=True)
    def ask(self) -> str:
        return f"got {self.inherited}"

    @flow(name="miss")
    async def miss(self) -> str:
        try:
            return await self.use_the_system()
        except StepError as error:
            return error.traceback

    @step(isolated=True)
    def use_the_system(self) -> str:
        return system.run(Kept.go)  # type: ignore[name-defined]  # noqa: F821
