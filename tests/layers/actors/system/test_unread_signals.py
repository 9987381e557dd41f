"""Signals that nobody has taken: they are kept while their flow can go on, and shown as what they are."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import (
    Flow,
    FlowEnded,
    FlowFailed,
    FlowHandle,
    FlowSystem,
    StepError,
    flow,
    gather,
    signal,
    step,
    wait_for,
)
from persistasaurus.store import StoreReader, StreamState
from system.doubles import DEAD_MAN_S, kinds, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Payment(Flow):
    is_broken = True
    during: Callable[[], Any] | None = None

    @flow(name="payment")
    async def pay(self) -> list[Any]:
        await self.charge()
        return [await wait_for("paid", str), await self.confirm()]

    @step
    def charge(self) -> None:
        if Payment.during is not None:
            Payment.during()
        if Payment.is_broken:
            raise TimeoutError("the bank does not answer")

    @signal
    def confirm(self, by: str) -> str:
        return by


@pytest.fixture(autouse=True)
def broken() -> None:
    Payment.is_broken, Payment.during = True, None


def signals(path: Path, flow_id: str = "a") -> dict[str, tuple[str, str | None]]:
    """Tell what the views say of a flow's signals: status, and reason."""
    with StoreReader.open(path) as reader:
        told = """
            SELECT key, status, s.reason, d.reason
            FROM signals s LEFT JOIN dead_letters d USING (flow_id, key)
            WHERE flow_id = ? AND key IS NOT NULL
        """
        found = list(reader.query(told, (flow_id,)))
    assert all(
        reason == dead and (status == "refused") == (dead is not None) for _, status, reason, dead in found
    )
    return {key: (status, reason) for key, status, reason, _ in found}


def failed(system: FlowSystem, *, send: tuple[tuple[str, str], ...] = ()) -> FlowHandle[Any]:
    """Have a flow fail, and signals come while its last step runs."""

    def during() -> None:
        for name, key in send:
            system.flow("a").signal(name, key, signal_id=key)

    Payment.during = during
    handle = system.start(Payment.pay, flow_id="a")
    with pytest.raises(FlowFailed):
        handle.result(DEAD_MAN_S)
    return handle


def test_signals_that_came_before_a_failure_are_delivered_after_the_retry(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    system = make_system(Payment, path=path)
    handle = failed(system, send=(("paid", "one"), ("confirm", "two")))
    assert {status for status, _ in signals(path).values()} == {"unread"}

    receipts = [
        handle.signal("paid", "one", signal_id="one"),
        handle.signal("confirm", "two", signal_id="two"),
    ]
    Payment.is_broken, Payment.during = False, None
    handle.retry()

    assert [receipt.duplicate for receipt in receipts] == [True, True]
    assert handle.result(DEAD_MAN_S) == ["one", "two"]
    assert handle.signal("paid", "one", signal_id="one") == receipts[0]
    assert signals(path) == {"one": ("consumed", None), "two": ("consumed", None)}
    assert system.store.dead_letters() == []


@pytest.mark.parametrize("end", ["killed", "closed"])
def test_a_failed_flow_keeps_its_signals_from_process_to_process(
    make_system: Callable[..., FlowSystem], path: Path, killed: Callable[[Path], Path], end: str
) -> None:
    before = make_system(Payment, path=path)
    failed(before, send=(("paid", "one"), ("confirm", "two")))
    copy = killed(path)
    before.close()
    Payment.is_broken, Payment.during = False, None

    after = make_system(Payment, path=copy if end == "killed" else path)
    handle = after.flow("a")
    assert handle.status == "failed"
    assert handle.header().state is StreamState.FAILED
    handle.retry()

    assert handle.result(DEAD_MAN_S) == ["one", "two"]


def test_a_flow_that_has_failed_takes_no_new_signals_until_it_is_let_run_on(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    system = make_system(Payment, path=path)
    handle = failed(system)
    for refused in (lambda: handle.signal("paid", "new", signal_id="new"), handle.pause):
        with pytest.raises(FlowEnded):
            refused()
    assert signals(path) == {}

    Payment.is_broken, Payment.during = False, None
    handle.retry()
    assert not handle.signal("paid", "new", signal_id="new").duplicate
    handle.signal("confirm", "late")
    assert handle.result(DEAD_MAN_S) == ["new", "late"]


def test_a_flow_that_fails_again_and_again_keeps_its_signals(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    system = make_system(Payment, path=path)
    handle = failed(system, send=(("paid", "one"),))
    Payment.during = None
    for _ in range(3):
        with suppress(FlowFailed):
            handle.retry()
            handle.result(DEAD_MAN_S)
        assert handle.status == "failed"
        assert signals(path) == {"one": ("unread", None)}

    Payment.is_broken = False
    handle.retry()
    handle.signal("confirm", "two")
    assert handle.result(DEAD_MAN_S) == ["one", "two"]


class Selective(Flow):
    """It fails after it has read one of two, and reads what is left when it is let run on."""

    is_broken = True

    @flow(name="selective")
    async def main(self) -> list[str]:
        first = await wait_for("word", str)
        await self.check()
        return [first, await wait_for("word", str)]

    @step
    def check(self) -> None:
        if Selective.is_broken:
            raise ValueError("not yet")


def test_what_came_early_is_unread_until_it_is_awaited_also_over_a_failure(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    Selective.is_broken = True
    system = make_system(Selective, path=path)
    handle = system.start(Selective.main, flow_id="a")
    handle.pause()
    for key in ("one", "two", "three"):
        handle.signal("word", key, signal_id=key)
    wait_until(lambda: kinds(handle).count("signal_received") == 3)
    assert [signals(path)[key][0] for key in ("one", "two", "three")] == ["consumed", "unread", "unread"]

    handle.resume()
    with pytest.raises(FlowFailed):
        handle.result(DEAD_MAN_S)
    assert [signals(path)[key][0] for key in ("one", "two", "three")] == ["consumed", "unread", "unread"]
    assert system.store.dead_letters() == []

    Selective.is_broken = False
    handle.retry()
    assert handle.result(DEAD_MAN_S) == ["one", "two"]
    assert signals(path) == {
        "one": ("consumed", None),
        "two": ("consumed", None),
        "three": ("refused", "unread when the flow ended (completed)"),
    }


class Recovering(Flow):
    """What it waits for in its `except` block is void when it is let run on."""

    is_broken = True

    @flow(name="recovering")
    async def main(self) -> str:
        try:
            await self.work()
        except StepError:
            await wait_for("advice", str)
            raise
        return await wait_for("advice", str)

    @step
    def work(self) -> None:
        if Recovering.is_broken:
            raise ValueError("not yet")


def test_a_signal_whose_wait_a_repair_has_undone_is_there_for_the_next_one(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    Recovering.is_broken = True
    system = make_system(Recovering, path=path)
    handle = system.start(Recovering.main, flow_id="a")
    handle.signal("advice", "patience", signal_id="one")
    with pytest.raises(FlowFailed):
        handle.result(DEAD_MAN_S)
    assert signals(path) == {"one": ("consumed", None)}

    Recovering.is_broken = False
    handle.retry()

    assert handle.result(DEAD_MAN_S) == "patience"
    assert signals(path) == {"one": ("consumed", None)}


class Typed(Flow):
    kind = int  # its code does not tell which, before it comes there

    @flow(name="typed")
    async def main(self) -> int:
        await wait_for("go")
        return await wait_for("number", self.kind)


def test_what_came_early_and_does_not_fit_is_a_dead_letter_once_that_is_known(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    system = make_system(Typed, path=path)
    handle = system.start(Typed.main, flow_id="a")
    handle.signal("number", "many", signal_id="odd")
    wait_until(lambda: "signal_received" in kinds(handle))
    assert signals(path)["odd"] == ("unread", None)

    handle.signal("go", signal_id="go")
    wait_until(lambda: signals(path)["odd"][0] == "refused")
    assert "Expected `int`, got `str`" in str(signals(path)["odd"][1])
    handle.signal("number", 7, signal_id="even")

    assert handle.result(DEAD_MAN_S) == 7
    assert signals(path)["even"] == ("consumed", None)
    assert [letter.key for letter in system.store.dead_letters()] == ["odd"]


def test_what_came_while_the_code_stood_still_and_does_not_fit_is_a_dead_letter_as_well(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    before = make_system(Typed, path=path)
    handle = before.start(Typed.main, flow_id="a")
    handle.pause()
    handle.signal("number", "many", signal_id="odd")
    handle.signal("go", signal_id="go")
    wait_until(lambda: kinds(handle).count("signal_received") == 2)
    before.close()

    after = make_system(Typed, path=path).flow("a")
    assert signals(path)["odd"] == ("unread", None)
    after.resume()
    wait_until(lambda: signals(path)["odd"][0] == "refused")
    after.signal("number", 7)

    assert after.result(DEAD_MAN_S) == 7


class Hasty(Flow):
    @flow(name="hasty")
    async def main(self) -> str:
        await gather(wait_for("go"), self.work())
        return "done"

    @step
    def work(self) -> None: ...

    @signal
    def never(self, why: str) -> str:
        return why


def test_what_is_unread_when_its_flow_completes_is_a_dead_letter_with_a_reason(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    system = make_system(Hasty, path=path)
    handle = system.start(Hasty.main, flow_id="a")
    handle.signal(Hasty.never, "so", signal_id="never")
    wait_until(lambda: "signal_received" in kinds(handle))
    assert signals(path) == {"never": ("unread", None)}
    handle.signal("go", signal_id="go")

    assert handle.result(DEAD_MAN_S) == "done"
    assert signals(path) == {
        "go": ("consumed", None),
        "never": ("refused", "unread when the flow ended (completed)"),
    }
    assert handle.signal(Hasty.never, "so", signal_id="never").duplicate
    assert system.store.verify() == []
