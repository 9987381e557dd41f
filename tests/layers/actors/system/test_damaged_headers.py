"""A flow whose header is damaged: whoever asks for it is answered, and its log says how it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw
import pytest
from persistasaurus import Flow, FlowFailed, PersistasaurusError, StoreUnavailable, flow, wait_for
from persistasaurus.actors.flows.supervisor import Supervisor
from persistasaurus.store import Header, StoreReader, StreamState
from system.doubles import DEAD_MAN_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from persistasaurus import FlowSystem

WORDS = ("running", "waiting", "paused", "parked", "completed", "failed", "Works.waits")
DAMAGES = (
    *(f"state = {state}" for state in (0, 1, 2, 7, -1)),
    *(f"status = (SELECT id FROM word WHERE word = '{word}')" for word in WORDS),
    "wake_at = 1",
    "version = 99",
)
FLOWS = ("ended", "broken", "waits", "rests")
CALLS_S = 5.0


class Works(Flow):
    @flow
    async def waits(self) -> int:
        number = await wait_for("n", int)
        if number < 0:
            raise ValueError("negative")
        return number


@pytest.fixture
def whole(make_system: Callable[..., FlowSystem], path: Path) -> Path:
    """Make a store with a flow in each state, and all the words that a header can have."""
    system = make_system(Works, path=path)
    for name in FLOWS:
        system.start(Works.waits, flow_id=name)
    system.flow("ended").signal("n", 1)
    system.flow("broken").signal("n", -1)
    assert system.flow("ended").result(DEAD_MAN_S) == 1
    with pytest.raises(FlowFailed, match="negative"):
        system.flow("broken").result(DEAD_MAN_S)
    system.flow("rests").pause(by="ada", why="lunch")
    system.close()
    connection = apsw.Connection(str(path))
    for word in WORDS:
        connection.execute("INSERT OR IGNORE INTO word (word) VALUES (?)", (word,))
    connection.close()
    return path


@pytest.mark.parametrize("damage", DAMAGES)
def test_whoever_asks_for_a_flow_with_a_damaged_header_is_answered(
    damage: str, whole: Path, make_system: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes = crashes_of(monkeypatch)
    spoil(whole, damage)

    system = make_system(Works, path=whole)

    for name in FLOWS:
        told(lambda name=name: ask_all(system, name))
    assert system.flow("ended").result(CALLS_S) == 1
    with pytest.raises(FlowFailed, match="negative"):
        system.flow("broken").result(CALLS_S)
    assert not crashes


@pytest.mark.parametrize("damage", [*DAMAGES, "status = 999", "type = 999", "seal = 1", "created_at = 1"])
def test_a_damaged_header_is_made_anew_from_the_flows_history(
    damage: str,
    whole: Path,
    make_system: Callable[..., FlowSystem],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with StoreReader.open(whole) as reader:
        expected = [standing(header) for header in reader.headers()]
    spoil(whole, damage)
    with StoreReader.open(whole) as reader:
        damaged = {header.stream for header in reader.headers() if header.damage}

    system = make_system(Works, path=whole)
    wait_until(lambda: not any(header.damage for header in system.flows()))
    wait_until(lambda: system.flow("waits").status == "waiting")

    assert [standing(header) for header in system.flows()] == expected
    for name in damaged:
        assert caplog.text.count(f"The header of flow {name!r} is damaged") == 1
    system.flow("waits").signal("n", 3)
    assert system.flow("waits").result(CALLS_S) == 3
    system.flow("rests").resume()
    system.flow("rests").signal("n", 4)
    assert system.flow("rests").result(CALLS_S) == 4
    with StoreReader.open(whole) as reader:
        assert reader.verify() == []


@pytest.mark.parametrize("state", [0, 1, 7])
def test_the_header_of_a_flow_that_is_over_says_so_again(
    state: int, whole: Path, make_system: Callable[..., FlowSystem]
) -> None:
    spoil(whole, f"state = {state}")

    system = make_system(Works, path=whole)
    system.start(Works.waits, flow_id="ended")

    assert system.flow("ended").result(CALLS_S) == 1
    system.close()
    with StoreReader.open(whole) as reader:
        header = reader.header("ended")
        assert isinstance(header, Header)
        assert (header.state, header.status) == (StreamState.ENDED, "completed")
        assert "ended" not in {finding.stream for finding in reader.verify()}


def standing(header: Header) -> tuple[Any, ...]:
    # Of one that waits, closing and opening make it run for a while.
    status = {"running": "waiting"}.get(header.status, header.status)
    return header.stream, header.type, status, header.state, header.version, header.created_at


def spoil(path: Path, damage: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(f"UPDATE stream SET {damage}")
    connection.close()


def crashes_of(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that becomes longer with each crash."""
    crashes: list[Any] = []
    crashed = Supervisor._crashed  # pyright: ignore[reportPrivateUsage]

    def noted(supervisor: Supervisor, message: Any) -> None:
        crashes.append(message.error)
        crashed(supervisor, message)

    monkeypatch.setattr(Supervisor, "_crashed", noted)
    return crashes


def ask_all(system: FlowSystem, name: str) -> None:
    handle = system.start(Works.waits, flow_id=name)
    told(lambda: handle.pause(by="ada", why="to look"))
    told(lambda: handle.resume(by="ada", why="looked"))
    handle.signal("n", 1, signal_id="once", timeout=CALLS_S)


def told(ask: Callable[[], Any]) -> None:
    """Ask; whatever is said will do, and silence will not."""
    try:
        ask()
    except StoreUnavailable:
        raise
    except PersistasaurusError:
        pass
