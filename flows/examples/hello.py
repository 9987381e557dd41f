"""The smallest flow: five steps and their sum."""

from __future__ import annotations

from ..authoring.flow import Flow, flow
from ..authoring.step import step


class HelloWorldFlow(Flow):
    """Says hello five times. However often the process dies, no `say` is recorded twice."""

    @flow(name="HelloWorldFlow")
    async def say_hello(self) -> int:
        """Return the sum of what the steps returned: 10."""
        total = 0
        for count in range(5):
            total += await self.say("World", count)
        print(f"Sum: {total}")  # noqa: T201 - the seeds print
        return total

    @step
    def say(self, name: str, count: int) -> int:
        """Say hello, and return the count."""
        print(f"Hello, {name} ({count})")  # noqa: T201 - the seeds print
        return count
