"""Signals that nobody will ever wait for are refused at every door, and nothing else is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus import (
    Flow,
    FlowEnded,
    FlowFailed,
    FlowHandle,
    FlowNotFound,
    FlowSystem,
    SignalNotFound,
    SignalRejected,
    flow,
    signal,
    wait_for,
)
from persistasaurus.actors.remote.client import RemoteClient
from system.doubles import DEAD_MAN_S, kinds, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Base(Flow):
    @signal
    def cancel(self, why: str) -> str:
        return why


class Order(Base):
    @flow(name="order")
    async def main(self) -> str:
        await wait_for("paid", int)
        return await self.confirm()

    @signal
    def confirm(self, by: str) -> str:
        return by


class Other(Flow):
    @flow(name="other")
    async def main(self) -> str:
        return await self.approve()

    @signal
    def approve(self, by: str) -> str:
        return by


class Anything(Flow):
    @flow(name="anything")
    async def main(self, name: str) -> Any:
        return await wait_for(name)


SENDING: dict[str, Callable[[FlowHandle[Any]], Any]] = {
    "by name": lambda handle: handle.signal("confrim", "ada", signal_id="k"),
    "typed": lambda handle: handle.signal(Other.approve, "ada", signal_id="k"),
    "a call": lambda handle: handle.signal(Other.approve("ada"), signal_id="k"),
    "json": lambda handle: handle.signal_json("confrim", b'"ada"', signal_id="k"),
    "async": lambda handle: asyncio.run(_sent(handle)),
    "json, async": lambda handle: asyncio.run(_sent_json(handle)),
}


async def _sent(handle: FlowHandle[Any]) -> Any:
    return await handle.signal_async("confrim", "ada", signal_id="k")


async def _sent_json(handle: FlowHandle[Any]) -> Any:
    return await handle.signal_json_async("confrim", b'"ada"', signal_id="k")


@pytest.mark.parametrize("send", SENDING.values(), ids=SENDING)
def test_a_name_that_a_flow_never_waits_for_is_refused_and_nothing_is_written(
    make_system: Callable[..., FlowSystem], send: Callable[[FlowHandle[Any]], Any]
) -> None:
    system = make_system(Order)
    handle = system.start(Order.main, flow_id="a")

    with pytest.raises(SignalRejected, match="flow 'a' never waits for a signal") as refused:
        send(handle)

    assert isinstance(refused.value, SignalNotFound)
    assert refused.value.known == ("cancel", "confirm", "paid")
    assert "It takes 'cancel', 'confirm', 'paid'; nothing was written" in str(refused.value)
    assert system.store.inbox("a") == []
    assert not handle.signal("confirm", "eve", signal_id="k").duplicate  # its id is free still
    handle.signal("paid", 3)
    assert handle.result(DEAD_MAN_S) == "eve"
    assert system.store.dead_letters() == []


def test_a_name_that_is_close_to_another_is_told(make_system: Callable[..., FlowSystem]) -> None:
    handle = make_system(Order).start(Order.main)

    with pytest.raises(SignalNotFound, match=r"signal 'piad'\. Did you mean 'paid'\?"):
        handle.signal("piad", 3)
    with pytest.raises(SignalNotFound, match=r"signal 'xyz'\. It takes 'cancel'"):
        handle.signal("xyz", 3)


def test_what_is_declared_or_awaited_somewhere_is_taken_early(make_system: Callable[..., FlowSystem]) -> None:
    handle = make_system(Order).start(Order.main)

    handle.signal(Order.cancel, "no more")
    handle.signal(Order.confirm, "ada")
    handle.signal("paid", 3)

    assert handle.result(DEAD_MAN_S) == "ada"


def test_a_flow_that_may_wait_for_anything_is_sent_anything(make_system: Callable[..., FlowSystem]) -> None:
    handle = make_system(Anything).start(Anything.main, "word")

    handle.signal("sword", "?")
    handle.signal("word", "!")

    assert handle.result(DEAD_MAN_S) == "!"


def test_a_flow_whose_code_is_not_here_is_sent_anything(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    before = make_system(Order, path=path)
    before.start(Order.main, flow_id="a")
    before.close()

    handle = make_system(Other, path=path).flow("a")
    for _ in range(2):  # at rest, and then parked
        handle.signal(Order.confirm, "ada", signal_id="k")
        handle.signal("whatever", [1, 2])
        wait_until(lambda: handle.status == "parked")


def renamed(version: int) -> type[Flow]:
    if version == 1:

        class First(Flow):
            @flow(name="renamed")
            async def main(self) -> Any:
                return await wait_for("old", str)

        return First

    class Second(Flow):
        @flow(name="renamed")
        async def main(self) -> Any:
            return await wait_for("new", str)

    return Second


def test_a_name_that_is_awaited_on_record_is_taken_whatever_the_code_says(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    first, second = renamed(1), renamed(2)
    before = make_system(first, path=path)
    handle = before.start(first.main, flow_id="a")
    wait_until(lambda: "signal_awaited" in kinds(handle))
    before.close()

    with_other_code = make_system(second, path=path)
    handle = with_other_code.flow("a")
    with pytest.raises(SignalNotFound):
        handle.signal("neither", "?")
    handle.signal("old", "it is", signal_id="k")
    wait_until(lambda: handle.status == "parked")
    handle.signal("neither", "parked flows wait for their code", signal_id="n")
    with_other_code.close()

    assert make_system(first, path=path).flow("a").result(DEAD_MAN_S) == "it is"


def test_what_was_taken_before_its_name_was_unknown_is_answered_the_same(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    before = make_system(Anything, path=path)
    handle = before.start(Anything.main, "word", flow_id="a")
    receipt = handle.signal("sword", "?", signal_id="k")
    wait_until(lambda: "signal_received" in kinds(handle))
    before.close()

    class Narrower(Flow):
        @flow(name="anything")
        async def main(self, name: str) -> Any:
            return await wait_for("word")

    handle = make_system(Narrower, path=path).flow("a")
    again = handle.signal("sword", "?", signal_id="k")

    assert (again.at, again.duplicate) == (receipt.at, True)
    with pytest.raises(SignalRejected, match="before, with another name or payload"):
        handle.signal("sword", "other", signal_id="k")
    with pytest.raises(SignalNotFound):
        handle.signal("sword", "?", signal_id="another")


def test_a_flow_that_has_ended_says_that_first_and_one_that_is_not_there_as_well(
    make_system: Callable[..., FlowSystem],
) -> None:
    class Failing(Flow):
        @flow(name="failing")
        async def main(self) -> None:
            raise ValueError

    system = make_system(Failing)
    handle = system.start(Failing.main)
    with pytest.raises(FlowFailed):
        handle.result(DEAD_MAN_S)

    with pytest.raises(FlowEnded):
        handle.signal("whatever")
    with pytest.raises(FlowNotFound):
        FlowHandle(system.client, "nobody", "failing").signal("whatever")


def test_what_was_posted_while_no_engine_ran_is_refused_when_it_is_taken(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    before = make_system(Order, path=path)
    before.start(Order.main, flow_id="a")
    before.close()
    with RemoteClient(path) as client:
        posted = client.signal("a", "confrim", b'"ada"', signal_id="k")
        forgotten = client.signal("a", "cancle", b'"eve"')
        assert posted.wait(0) is None

        system = make_system(Order, path=path)
        wait_until(lambda: client.pending_count() == 0)
        answered = posted.wait(DEAD_MAN_S)
        assert answered is not None
        with pytest.raises(SignalRejected, match="Did you mean 'confirm'"):
            answered.result("a")
        (letter,) = client.refused()
        assert letter.request is not None
        assert msgspec.structs.asdict(letter.request)["signal_id"] == forgotten.signal_id
        assert "Did you mean 'cancel'" in letter.reason
    assert system.store.inbox("a") == []
    assert system.store.dead_letters() == []


def test_who_posts_to_an_engine_that_runs_hears_it_at_once(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    make_system(Order, path=path).start(Order.main, flow_id="a")
    with RemoteClient(path) as client:
        answered = client.signal("a", "confrim", b'"ada"').wait(DEAD_MAN_S)

    assert answered is not None
    with pytest.raises(SignalRejected, match="never waits for a signal 'confrim'"):
        answered.result("a")


def test_an_error_about_the_payload_of_a_signal_calls_it_one(make_system: Callable[..., FlowSystem]) -> None:
    handle: FlowHandle[Any] = make_system(Order).start(Order.main)
    wrong: list[Callable[[], Any]] = [
        lambda: handle.signal(Order.confirm, 3),  # type: ignore[arg-type]
        lambda: handle.signal("confirm", 3),
        lambda: handle.signal_json("confirm", b"3"),
    ]
    for send in wrong:
        with pytest.raises(SignalRejected) as refused:
            send()
        assert str(refused.value).startswith("signal 'confirm': ")
        assert "step" not in str(refused.value)
