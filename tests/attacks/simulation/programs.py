"""Random flow programs: everything that a flow can say, in any order, interpreted by one flow class.

What comes of a program is known beforehand (`foreseen`), whatever the order in which its branches go on:
each kind of step has its result, and of signals with the same name the first sent is the first taken.
"""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from persistasaurus import (
    Retry,
    StepError,
    flow,
    gather,
    now,
    query,
    random,
    sleep,
    sleep_until,
    step,
    uuid4,
    wait_for,
)
from simulation.clients import (
    Pause,
    Post,
    Query,
    Result,
    Script,
    Send,
    Start,
    StartAnother,
    StartToEnd,
    Wait,
)
from simulation.outside import world
from simulation.reference_flows import SOON, Steps
from simulation.run import Scenario

if TYPE_CHECKING:
    from simulation.clients import Order


class Call(msgspec.Struct, tag="call", frozen=True):
    """Run a step of some kind."""

    kind: str
    n: int


class Sleep(msgspec.Struct, tag="sleep", frozen=True):
    """Sleep, for seconds or until an instant so far away."""

    seconds: float
    until: bool = False


class Take(msgspec.Struct, tag="take", frozen=True):
    """Wait for a signal by name; "confirm" is a declared one."""

    name: str


class Draw(msgspec.Struct, tag="draw", frozen=True):
    """Hand time and chance to a step, so that a replay shows whether they are the same."""


class Fork(msgspec.Struct, tag="fork", frozen=True):
    """Do several things at once; `lenient`: with errors returned."""

    branches: list[list[Part]]
    lenient: bool = False


Part: TypeAlias = Call | Sleep | Take | Draw | Fork
Program: TypeAlias = list[Part]

GOOD = (
    "add",
    "add_async",
    "add_isolated",
    "add_later",
    "add_at_third",
    "add_at_most_once",
    "add_once",
    "fast",
)
BAD = ("never", "too_slow")
NAMES = ("red", "green", "confirm")


_following: ContextVar[int] = ContextVar("following", default=0)


class Programmed(Steps):
    def __init__(self) -> None:
        self.taken: dict[str, list[int]] = {}
        self.done: list[str] = []
        self.followed = 0

    @flow(name="programmed")
    async def main(self, program: Program) -> dict[str, Any]:
        trail = await self.follow(program)
        confirmed = sorted(self.taken.pop("confirm", []))
        return {"trail": trail, "taken": self.taken, "confirmed": confirmed, "done": len(self.done)}

    async def follow(self, program: Program) -> list[Any]:
        trail: list[Any] = []
        self.followed = mine = self.followed + 1
        _following.set(mine)
        for part in program:
            found = await self.do(part)
            if _following.get() != mine:
                raise AssertionError(f"branch {mine} has the context of branch {_following.get()}")
            self.done.append(type(part).__name__)
            if found is not None:
                trail.append(found)
        return trail

    async def do(self, part: Part) -> Any:
        match part:
            case Call(kind, n):
                return await self.call(kind, n)
            case Sleep(seconds, until):
                due = now() + timedelta(seconds=seconds) if until else None
                await (sleep(seconds) if due is None else sleep_until(due))
            case Take(name):
                value = await (self.confirm() if name == "confirm" else wait_for(name, int))
                self.taken[name] = [*self.taken.get(name, []), value]
            case Draw():
                await self.stamp(now().isoformat(), random(), str(uuid4()))
                await self.try_to_change()
            case Fork(branches, lenient):
                found = await gather(*(self.follow(b) for b in branches), return_exceptions=lenient)
                return [f"{type(f).__name__}" if isinstance(f, BaseException) else f for f in found]
        return None

    async def call(self, kind: str, n: int) -> Any:
        if kind == "add_when_mended":
            return await self.add_when_mended(n)
        try:
            if kind in BAD:
                return await getattr(self, kind)()
            return await self.work(kind, n)
        except StepError as error:
            return error.type

    async def work(self, kind: str, n: int) -> Any:
        match kind:
            case "add_once":
                return await self.add_once(n, str(uuid4()))
            case "add_at_third":
                return await self.drain_at_third([n])
            case "fast":
                found = await self.fast([n])
                found.append(1)  # in place: what it got is its own
                return sum(found)
            case _:
                return await getattr(self, kind)(n)

    @step
    def fast(self, items: list[int]) -> list[int]:
        world().touch()
        return [items.pop()]

    @step(retry=Retry(max_attempts=4, initial=SOON))
    def drain_at_third(self, items: list[int]) -> int:
        n = items.pop()
        if world().touch() < 3:
            raise ConnectionError("not yet")
        return n + 1

    async def try_to_change(self) -> None:
        """Have a step do what none may."""
        try:
            await self.change()
        except StepError as error:
            if error.type == "FlowStateError":
                return
        raise AssertionError("a step has changed the flow")

    @step
    def change(self) -> None:
        world().touch()
        self.done.append("a step")

    @step
    def stamp(self, at: str, chance: float, name: str) -> None:
        world().touch()

    @query
    def how_far(self) -> list[str]:
        return self.done


def _spoil(answer: list[str]) -> bool:
    """Look at an answer, and change it: it is the asker's own."""
    is_right = "from outside" not in answer
    answer.append("from outside")
    return is_right


def length(program: Program) -> int:
    """Count the parts of a program, those of its branches included."""
    return sum(1 + sum(map(length, part.branches if isinstance(part, Fork) else ())) for part in program)


def foreseen(program: Program) -> list[Any]:
    """Tell the trail that a program leaves."""
    trail: list[Any] = []
    for part in program:
        match part:
            case Call(kind, n):
                trail.append({"never": "ConnectionError", "too_slow": "StepTimeout"}.get(kind, n + 1))
            case Fork(branches):
                trail.append([foreseen(branch) for branch in branches])
            case _:
                pass
    return trail


def takes(program: Program) -> Counter[str]:
    """Count how many signals of each name a program takes."""
    found: Counter[str] = Counter()
    for part in program:
        match part:
            case Take(name):
                found[name] += 1
            case Fork(branches):
                for branch in branches:
                    found += takes(branch)
            case _:
                pass
    return found


# ------------------------------------------------------------------------------------- at random
def parts(rng: Random, budget: int, depth: int = 0) -> Program:
    """Make up a program of about so many parts."""
    made: Program = []
    while budget > 0:
        budget -= 1
        kind = rng.random()
        if kind < 0.45:
            made.append(Call(rng.choice(GOOD), rng.randrange(100)))
        elif kind < 0.5:
            made.append(Call(rng.choice(BAD), 0))
        elif kind < 0.62:
            made.append(Sleep(rng.choice((0.0, 0.1, 1.0, 5.0, 45.0)), until=rng.random() < 0.3))
        elif kind < 0.78:
            made.append(Take(rng.choice(NAMES)))
        elif kind < 0.86:
            made.append(Draw())
        elif depth < 3 and budget > 1:
            sizes = [rng.randrange(1, 4) for _ in range(rng.choice((2, 2, 3)))]
            branches = [parts(rng, size, depth + 1) for size in sizes]
            made.append(Fork(branches, lenient=rng.random() < 0.3))
            budget -= sum(sizes)
    return made


def program_of(rng: Random) -> Scenario:
    """Make up flows with programs, and the clients that bring them to their ends."""
    scripts: list[Script] = []
    results: dict[str, Any] = {}
    for number in range(rng.choice((1, 1, 1, 2, 3))):
        flow_id = f"p{number}"
        program = parts(rng, rng.choice((2, 4, 7, 10)))
        if rng.random() < 0.15:
            program.insert(rng.randrange(len(program) + 1), Call("add_when_mended", 1))
        scripts += _clients(rng, flow_id, program)
        results[flow_id] = _expected(program)
    return Scenario("programs", [Programmed], tuple(scripts), results)


def _expected(program: Program) -> Any:
    wanted = takes(program)
    confirmed = sorted(n * 10 for n in range(wanted.pop("confirm", 0)))
    taken = {name: list(range(count)) for name, count in wanted.items()}
    return {"trail": foreseen(program), "taken": taken, "confirmed": confirmed, "done": length(program)}


def _clients(rng: Random, flow_id: str, program: Program) -> list[Script]:
    start = Start(flow_id, Programmed.main, program)
    scripts = [Script((start, Result(flow_id)))]
    if (chance := Random(repr(program)).random()) < 0.2:
        other = StartAnother(flow_id, Programmed.main, [*program, Call("add", 1)])
        to_end = StartToEnd(flow_id, Programmed.main, program)
        scripts = [
            Script((to_end, Result(flow_id))),
            Script((start, Wait(chance * 20), other, to_end, other)),
        ]
    if rng.random() < 0.3:
        scripts.append(Script((Wait(rng.random()), start, start)))
    is_posted = rng.random() < 0.15
    scripts += [
        Script(tuple(_signals(rng, flow_id, name, count, is_posted=is_posted)))
        for name, count in takes(program).items()
    ]
    if rng.random() < 0.3:
        scripts.append(Script(tuple(_control(rng, flow_id))))
    if rng.random() < 0.3:
        look = Query(flow_id, Programmed.how_far, _spoil)
        scripts.append(Script((Wait(rng.random() * 3), look, look)))
    return scripts


def _signals(rng: Random, flow_id: str, name: str, count: int, *, is_posted: bool) -> list[Order]:
    """Send what is taken, in order; and some of it twice, and some that fit nothing, and one too many.

    `is_posted`: some of it is left as requests of another process.
    """
    orders: list[Order] = []
    for n in range(count + (rng.random() < 0.2)):
        if rng.random() < 0.6:
            orders.append(Wait(rng.choice((0.01, 0.5, 3.0, 20.0)) * rng.random()))
        if rng.random() < 0.1:
            key = f"{name}-odd-{n}"
            odd = name == "confirm"
            orders.append(
                Send(flow_id, Programmed.confirm, 0, key=key, wrong=True)
                if odd
                else Send(flow_id, name, "odd", key=key, odd=True)
            )
        door = Post if is_posted and rng.random() < 0.5 else Send
        send = door(flow_id, Programmed.confirm if name == "confirm" else name, n, key=f"{name}-{n}")
        orders += [send] * rng.choice((1, 1, 1, 2))
        if rng.random() < 0.1:
            orders.append(orders[0])
    return orders


def _control(rng: Random, flow_id: str) -> list[Order]:
    orders: list[Order] = []
    for _ in range(rng.choice((1, 1, 2))):
        orders += [Wait(rng.random() * 4), Pause(flow_id), Wait(rng.random() * 10), Pause(flow_id, on=False)]
    return orders
