"""One flow with a step for each promise, in all kinds that there are: `def`, `async def` and isolated."""

from __future__ import annotations

import functools
import os
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from threading import Lock
from time import sleep as block
from typing import TYPE_CHECKING, Any

import msgspec
from persistasaurus import Done, Flow, Retry, StepError, current_step, flow, now, step
from persistasaurus.flows.authoring.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("def", "async def", "isolated")
SOON = timedelta(milliseconds=1)
LEFT_BEHIND: ContextVar[str] = ContextVar("left_behind", default="nothing")


class Colour(Enum):
    RED = "red"


class Point(msgspec.Struct):
    x: int
    y: int


class Down(ConnectionError):
    """A kind of ConnectionError."""


class Unreadable(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


class Unpicklable(Exception):
    def __init__(self, code: int, lock: Any) -> None:
        super().__init__(f"code {code}")
        self.lock = lock


class InAllKinds:
    """Makes three steps of one function, named after it and the kind."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.function = function
        self.options = options

    def __set_name__(self, owner: type, name: str) -> None:
        function = self.function

        @functools.wraps(function)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        for kind, made in (("def", function), ("async def", asynchronous), ("isolated", function)):
            attribute = f"{name} {kind}"
            step = Step(made, name=attribute, isolated=kind == "isolated", **self.options)
            setattr(owner, attribute, step)
            step.__set_name__(owner, attribute)


def in_all_kinds(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    return lambda function: InAllKinds(function, options)


def attempts(path: str) -> int:
    """Count an attempt, in a file that any process sees."""
    with Path(path).open("a") as file:
        file.write("x")
    return Path(path).stat().st_size


def blame() -> None:
    try:
        {}["the cause"]
    except KeyError as cause:
        error = Down("the line is dead")
        error.add_note("a note of it")
        raise error from cause


async def outcome(call: Any) -> list[str]:
    """Report how a step failed, as the flow sees it."""
    try:
        return ["no error", str(await call)]
    except StepError as error:
        return [error.type, error.message]


class Tariffs(Flow):
    region = "of the base"

    def tariff(self) -> str:
        return "of the base"

    def shared(self) -> str:
        return "shared"

    @in_all_kinds()
    def is_of_the_subclass(self) -> list[str]:
        return [self.region, self.tariff(), type(self).__name__]


class Promised(Tariffs):
    region = "of the subclass"

    def __init__(self) -> None:
        self.stage = "new"

    def tariff(self) -> str:
        return f"of the subclass, {super().shared()}"

    @flow(name="promised")
    async def go(self, promise: str, kind: str, path: str) -> Any:
        """Do what belongs to a promise, with its step of one kind."""
        call = getattr(self, f"{promise} {kind}")
        return await getattr(self, f"_{promise}")(call, path)

    # --------------------------------------------------------------------------------------- what it sees
    async def _sees_state(self, step: Any, _: str) -> Any:
        self.stage, self.items, self.point = "done", ["a", {"b": (1, 2)}], Point(1, 2)
        self.when, self.ids, self.none = datetime(2026, 1, 1, tzinfo=UTC), {1, 2}, None
        self.price, self.colour, self.big, self.raw = Decimal("1.10"), Colour.RED, 1 << 70, b"\x00\xff"
        return await step()

    @in_all_kinds()
    def sees_state(self) -> list[str]:
        kept = (
            self.stage,
            self.items,
            self.point,
            self.when,
            self.ids,
            self.none,
            self.price,
            self.colour,
            self.big,
            self.raw,
        )
        return [repr(value) for value in kept]

    async def _is_of_the_subclass(self, step: Any, _: str) -> Any:
        return await step()

    async def _knows_its_context(self, step: Any, _: str) -> Any:
        return await step()

    @in_all_kinds(retry=Retry(max_attempts=3, initial=SOON))
    def knows_its_context(self) -> list[Any]:
        here = current_step()
        if here.attempt < 3:
            raise OSError("not yet")
        return [here.flow_id, here.step, here.attempt, here.idempotency_key]

    async def _leaves_nothing_behind(self, step: Any, _: str) -> Any:
        return [await step(), await step()]

    @in_all_kinds()
    def leaves_nothing_behind(self) -> str:
        before = LEFT_BEHIND.get()
        LEFT_BEHIND.set("something")
        return before

    # -------------------------------------------------------------------------------- arguments and results
    async def _takes_values_by_their_types(self, step: Any, _: str) -> Any:
        when = datetime(2026, 1, 1, tzinfo=UTC)
        return await step(Point(1, 2), {"a": [Point(3, 4)]}, (1, "b"), {1}, when, colour=Colour.RED)

    @in_all_kinds()
    def takes_values_by_their_types(  # noqa: PLR0913, PLR0917 - that is what it is about
        self,
        point: Point,
        nested: dict[str, list[Point]],
        pair: tuple[int, str],
        numbers: set[int],
        when: datetime,
        times: int = 2,
        *,
        colour: Colour,
    ) -> list[str]:
        return [repr(value) for value in (point, nested, pair, numbers, when, times, colour)]

    async def _returns_values_by_their_types(self, step: Any, _: str) -> Any:
        return repr(await step())

    @in_all_kinds()
    def returns_values_by_their_types(self) -> tuple[Point, dict[str, Point], None]:
        return Point(1, 2), {"a": Point(3, 4)}, None

    async def _returns_nothing(self, step: Any, _: str) -> Any:
        return await step()

    @in_all_kinds()
    def returns_nothing(self) -> None:
        return None

    async def _takes_and_returns_much(self, step: Any, _: str) -> Any:
        return len(await step("x" * 200_000))

    @in_all_kinds()
    def takes_and_returns_much(self, text: str) -> str:
        return text * 4

    async def _gets_its_arguments_anew(self, step: Any, _: str) -> Any:
        mine = [1, 2, 3]
        return [await step(mine), mine]

    @in_all_kinds(retry=Retry(initial=SOON))
    def gets_its_arguments_anew(self, values: list[int]) -> list[int]:
        values.pop()
        if current_step().attempt < 3:
            raise OSError("not yet")
        return values

    # -------------------------------------------------------------------------------------- what is refused
    async def _may_not_assign_to_state(self, step: Any, _: str) -> Any:
        told = await outcome(step())
        return [told[0], told[1].partition(": ")[0], self.stage]

    @in_all_kinds()
    def may_not_assign_to_state(self) -> None:
        self.stage = "changed"

    async def _may_not_change_state_in_place(self, step: Any, path: str) -> Any:
        self.trail = ["new"]
        told = await outcome(step(path))
        return [told[0], told[1].partition(": ")[0], self.trail, attempts(path)]

    @in_all_kinds(retry=Retry(initial=SOON))
    def may_not_change_state_in_place(self, path: str) -> None:
        attempts(path)
        self.trail.append("changed")

    async def _may_not_call_steps(self, step: Any, _: str) -> Any:
        return (await outcome(step()))[0]

    @in_all_kinds()
    def may_not_call_steps(self) -> None:
        getattr(self, "returns_nothing def")()

    async def _may_not_use_the_words_of_flows(self, step: Any, _: str) -> Any:
        return (await outcome(step()))[0]

    @in_all_kinds()
    def may_not_use_the_words_of_flows(self) -> None:
        now()

    async def _has_its_result_checked(self, step: Any, path: str) -> Any:
        told = await outcome(step(path))
        return [told[0], told[1].partition("the value ")[2].partition(" cannot")[0], attempts(path)]

    @in_all_kinds(retry=Retry(initial=SOON))
    def has_its_result_checked(self, path: str) -> Any:
        attempts(path)
        return {"a": [(1, 2)]}

    async def _returns_no_generator(self, step: Any, _: str) -> Any:
        return (await outcome(step()))[0]

    @in_all_kinds()
    def returns_no_generator(self) -> Any:
        return (number for number in range(3))

    async def _is_held_to_the_limits(self, step: Any, _: str) -> Any:
        told = await outcome(step())
        return [told[0], told[1].partition(": ")[2].partition("cannot")[2]]

    @in_all_kinds()
    def is_held_to_the_limits(self) -> str:
        return "x" * 2_000_000

    # --------------------------------------------------------------------------------------- how it fails
    async def _raises_its_error(self, step: Any, _: str) -> Any:
        try:
            await step()
        except StepError as error:
            trace = error.traceback
            return [
                error.type,
                error.message,
                "in raises_its_error" in trace and "in blame" in trace,
                "KeyError: 'the cause'" in trace and "direct cause" in trace,
                "a note of it" in trace,
                "actors/steps/" in trace,
            ]

    @in_all_kinds()
    def raises_its_error(self) -> None:
        blame()

    async def _raises_an_error_of_a_class(self, step: Any, _: str) -> Any:
        try:
            await step()
        except StepError as error:
            kinds = (Down, ConnectionError, OSError, Exception, TimeoutError, Unreadable)
            return [[error.is_a(kind) for kind in kinds], error.line.startswith("promised.py:")]

    @in_all_kinds()
    def raises_an_error_of_a_class(self) -> None:
        raise Down

    async def _raises_what_cannot_be_sent(self, step: Any, _: str) -> Any:
        return [await outcome(step(what)) for what in ("unreadable", "unpicklable", "surrogate", "long")]

    @in_all_kinds()
    def raises_what_cannot_be_sent(self, what: str) -> None:
        match what:
            case "unreadable":
                raise Unreadable
            case "unpicklable":
                raise Unpicklable(7, Lock())
            case "surrogate":
                raise ValueError("\udc80")
            case _:
                raise ValueError("long " * 100_000)

    async def _may_exit(self, step: Any, _: str) -> Any:
        return [await outcome(step(what)) for what in ("SystemExit", "KeyboardInterrupt", "GeneratorExit")]

    @in_all_kinds(retry=Retry(initial=SOON))
    def may_exit(self, what: str) -> None:
        raise {
            "SystemExit": SystemExit,
            "KeyboardInterrupt": KeyboardInterrupt,
            "GeneratorExit": GeneratorExit,
        }[what](3)

    # ---------------------------------------------------------------------------------- how it is retried
    async def _is_retried_on_its_errors(self, step: Any, path: str) -> Any:
        return await step(path)

    @in_all_kinds(retry=Retry(max_attempts=4, initial=SOON, on=(ConnectionError,)))
    def is_retried_on_its_errors(self, path: str) -> int:
        if (number := attempts(path)) < 3:
            raise Down("no")
        return number

    async def _is_not_retried_on_others(self, step: Any, path: str) -> Any:
        return [await outcome(step(path)), attempts(path)]

    @in_all_kinds(retry=Retry(max_attempts=4, initial=SOON, on=(ConnectionError,)))
    def is_not_retried_on_others(self, path: str) -> None:
        attempts(path)
        raise LookupError("no")

    async def _gives_up_on_its_errors(self, step: Any, path: str) -> Any:
        return [await outcome(step(path)), attempts(path)]

    @in_all_kinds(retry=Retry(max_attempts=4, initial=SOON, give_up_on=(OSError,)))
    def gives_up_on_its_errors(self, path: str) -> None:
        attempts(path)
        raise Down("no")

    async def _is_tried_so_often(self, step: Any, path: str) -> Any:
        return [await outcome(step(path)), attempts(path)]

    @in_all_kinds(retry=Retry(max_attempts=3, initial=SOON))
    def is_tried_so_often(self, path: str) -> None:
        attempts(path)
        raise ValueError("no")

    async def _ends_in_time(self, step: Any, _: str) -> Any:
        return (await outcome(step()))[0]

    @in_all_kinds(timeout=timedelta(milliseconds=200))
    def ends_in_time(self) -> None:
        block(1.0)

    # ---------------------------------------------------------------------------- when the process dies
    async def _is_parked_in_doubt(self, step: Any, _: str) -> Any:
        return await step()

    @in_all_kinds(on_crash="park")
    def is_parked_in_doubt(self) -> str:
        return "ran"

    async def _runs_again_in_doubt(self, step: Any, _: str) -> Any:
        return await step()

    @in_all_kinds()
    def runs_again_in_doubt(self) -> str:
        return "ran"

    async def _is_found_out(self, step: Any, path: str) -> Any:
        return len(await step(path))

    def find_out(self, path: str) -> Done:
        return Done("x" * 20_000)

    @in_all_kinds(reconcile=find_out)
    def is_found_out(self, path: str) -> str:
        return "ran"

    # --------------------------------------------------------------------- when only its own process dies
    @flow(name="dies alone")
    async def dies_alone(self, path: str, *, careful: bool) -> list[Any]:
        call = self.dies_and_may_not_run_twice(path) if careful else self.dies_once(path)
        return [(await outcome(call))[0], attempts(path) - 1]

    @step(isolated=True, retry=Retry(initial=SOON))
    def dies_once(self, path: str) -> None:
        if attempts(path) == 1:
            os._exit(1)

    @step(isolated=True, retry=Retry(initial=SOON), on_crash="park")
    def dies_and_may_not_run_twice(self, path: str) -> None:
        if attempts(path) == 1:
            os._exit(1)
