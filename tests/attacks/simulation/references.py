"""The reference scenarios: a flow for each thing that a flow can say, its client, and what comes of it.

A new feature joins by adding one here, and a word to `programs.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulation import reference_flows as flows
from simulation.clients import (
    Command,
    CommandInVain,
    Deploy,
    Look,
    Pause,
    Post,
    Query,
    Result,
    Script,
    Send,
    Start,
    Told,
    Until,
    Wait,
)
from simulation.run import Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulation.clients import Order


def scenario(
    name: str, kind: Any, result: Any, *orders: Order, args: tuple[Any, ...] = (1,), **more: Any
) -> Scenario:
    """Make the scenario of one flow, whose id is the name, and which is started first."""
    start = Start(name, kind.main, *args)
    script = Script((start, *orders, Result(name)))
    return Scenario(
        name, more.pop("flows", [kind]), (script, *more.pop("others", ())), {name: result}, **more
    )


def counted(name: str, *times: int) -> Mapping[str, int]:
    """Say how often the steps of a flow have an effect, first to last."""
    return {f"{name}/{number}": count for number, count in enumerate(times, 1)}


def signalled() -> Scenario:
    kind, name = flows.Signalled, "signalled"
    return scenario(
        name,
        kind,
        [10, 2, 30],
        Wait(1),
        Send(name, kind.confirm, 1, key="a"),
        Send(name, "more", "no number", key="x", wrong=True),
        Send(name, kind.confirm, 0, key="w", wrong=True),
        Send(name, "mroe", 2, key="m", wrong=True),
        Send(name, "more", 2, key="b"),
        Send(name, "more", 2.0, key="b"),
        Send(name, kind.confirm, 1, key="a"),
        Send(name, kind.confirm, 3, key="c"),
        args=(),
        effects=counted(name, 1, 1),
    )


def early() -> Scenario:
    kind, name = flows.Early, "early"
    words = [Send(name, "word", n, key=f"word-{n}") for n in (1, 2, 2, 3)]
    confirm = Send(name, kind.confirm, 7, key="confirm")
    again = (Result(name), confirm, words[0])
    return scenario(name, kind, [1, 2, 3, 70], confirm, *words, confirm, *again, args=())


def failed() -> Scenario:
    kind, name = flows.Failed, "failed"
    words = Script(tuple(Send(name, "word", n, key=f"word-{n}") for n in (1, 1, 2, 2, 3)))
    confirm = Script((Post(name, kind.confirm, 7, key="confirm"), Send(name, kind.confirm, 7, key="confirm")))
    return scenario(name, kind, [3, 1, 70, 4, 2], others=(words, confirm))


def posted() -> Scenario:
    kind, name = flows.Signalled, "posted"
    return scenario(
        name,
        kind,
        [10, 2, 30],
        Post(name, kind.confirm, 1, key="a"),
        Post(name, "more", "no number", key="x", wrong=True),
        Post(name, "more", 2, key="b"),
        Post(name, kind.confirm, 1, key="a"),
        Send(name, kind.confirm, 1, key="a"),
        Post(name, kind.confirm, 3, key="c"),
        args=(),
        others=(Script((Wait(0.5), Post(name, kind.confirm, 1, key="a"))),),
        effects=counted(name, 1, 1),
    )


def raced() -> Scenario:
    kind, name = flows.Raced, "raced"

    def is_right(result: Any) -> bool:
        return result in ([5, "answer", 6], [5, "deadline", 6])

    return scenario(name, kind, is_right, Wait(9.9), Send(name, "answer", 5, key="a"), args=())


def paused() -> Scenario:
    kind, name = flows.Paused, "paused"
    orders = (
        Wait(3),
        Pause(name),
        Wait(20),
        Pause(name),
        Pause(name, on=False),
        Pause(name),
        Pause(name, on=False),
    )
    return scenario(name, kind, 5, *orders, effects=counted(name, 1, 1, 1, 1))


def asked() -> Scenario:
    kind, name = flows.Asked, "asked"
    looks = [Query(name, kind.so_far, lambda seen: seen == [2, 3, 4][: len(seen)]) for _ in range(4)]
    orders = [order for look in looks for order in (look, Wait(1))]
    return scenario(name, kind, [2, 3, 4], *orders)


def upgraded() -> Scenario:
    deploy = Deploy([flows.UpgradedWell], orderly=False)
    return scenario("upgraded", flows.Upgraded, 4, Wait(2), deploy)


def upgraded_badly() -> Scenario:
    first = [flows.Upgraded]
    orders = (
        Until("upgraded badly", "timer_set"),
        Deploy([flows.UpgradedBadly], orderly=True),
        Wait(9),
        Deploy(first, orderly=False),
    )
    return scenario("upgraded badly", flows.Upgraded, 4, *orders, flows=first)


def account() -> Scenario:
    kind, name = flows.Account, "actor-1"
    deposits = [Command(kind.deposit, name, f"d{n}", n) for n in (1, 2, 3, 2)]
    in_vain = (CommandInVain(kind.deposit_in_vain, name, "v"), Look(kind.seen, name))
    others = (Command(kind.deposit_twice, name, "e", 10), *in_vain, Told(kind.deposit, name, "t", 10))
    return Scenario("account", [], (Script(tuple(deposits)), Script(others)), {}, {name: 36})


def many() -> Scenario:
    ids = [f"many-{n}" for n in range(8)]
    kinds = (flows.InOrder, flows.Delayed, flows.Gathered, flows.Slept)
    results = (4, 3, [2, 3, 4, 2], 3)
    chosen = {flow_id: number % 4 for number, flow_id in enumerate(ids)}
    scripts = [Script((Start(i, kinds[k].main, 1), Result(i))) for i, k in chosen.items()]
    return Scenario("many", list(kinds), tuple(scripts), {i: results[k] for i, k in chosen.items()})


def references() -> list[Scenario]:
    """Make all of them anew."""
    return [
        scenario("in order", flows.InOrder, 4, effects=counted("in order", 1, 1, 1)),
        scenario("retried", flows.Retried, [2, "ConnectionError", 3], effects=counted("retried", 3, 2, 1)),
        scenario("delayed", flows.Delayed, 3, effects=counted("delayed", 1, 1)),
        scenario("slept", flows.Slept, 3, effects=counted("slept", 1, 1)),
        signalled(),
        early(),
        posted(),
        raced(),
        scenario("gathered", flows.Gathered, [2, 3, 4, 2], effects=counted("gathered", 1, 1, 1, 1)),
        scenario("interleaved", flows.Interleaved, [3, 4, [2, 13]]),
        paused(),
        scenario("parked", flows.Parked, 3, effects=counted("parked", 1, 1)),
        failed(),
        scenario("isolated", flows.Isolated, 4, effects=counted("isolated", 1, 1)),
        scenario("asynchronous", flows.Asynchronous, [3, "StepTimeout"]),
        scenario("reconciled", flows.Reconciled, 3),
        asked(),
        upgraded(),
        upgraded_badly(),
        account(),
        many(),
    ]
