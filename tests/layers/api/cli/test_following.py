"""`follow`: live, from a place, beyond the end of an engine; and Ctrl-C."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cli.terminal import Running, run
from persistasaurus.store import StoreReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.conftest import Ask

    Begin = Callable[..., Running]

SHOP = __file__.replace("test_following.py", "shop.py")


def live(store: Path) -> Running:
    engine = Running("run", SHOP, "--store", store, on_terminal=False)
    engine.until("Ctrl-C stops it")
    return engine


def test_a_flow_is_followed_to_its_end_over_two_lives_of_the_engine(begin: Begin, store: Path) -> None:
    following = begin("follow", "confirm-ada", "--store", store, "--json")
    following.until('"signal_awaited"')
    first = live(store)
    run("pause", "confirm-ada", "--store", store)
    following.until('"paused"')
    first.kill()
    first.close()
    run("signal", "confirm-ada", "confirm", "true", "--store", store)
    run("resume", "confirm-ada", "--store", store)
    second = live(store)
    try:
        assert following.end() == 0
    finally:
        second.close()
    told = [json.loads(line) for line in following.said.splitlines()]
    assert [one["version"] for one in told] == list(range(1, len(told) + 1))
    assert told[-1]["event"] == "flow_completed"


def test_all_flows_are_followed_from_now_on_until_ctrl_c(begin: Begin, store: Path) -> None:
    following = begin("follow", "--store", store, on_terminal=True)
    engine = live(store)
    try:
        while "order-1" not in following.said:
            run("pause", "order-1", "--store", store)
            run("resume", "order-1", "--store", store)
            following.until("order-1")
        following.interrupt()
        assert following.end() == 130
    finally:
        engine.close()
    assert "Traceback" not in following.said
    assert "flow started" not in following.said


def test_now_is_behind_all_that_is_on_record_also_of_an_engine_that_was_killed(
    begin: Begin, store: Path
) -> None:
    engine = live(store)
    run("pause", "order-1", "--store", store)
    engine.kill()
    engine.close()
    with StoreReader.open(store) as reader:
        known = reader.position()
        assert known == reader.read_all(limit=1000)[-1].position

    following = begin("follow", "--store", store, "--json")
    second = live(store)
    try:
        while "order-1" not in following.said:
            run("resume", "order-1", "--store", store)
            run("pause", "order-1", "--store", store)
            following.until("order-1")
    finally:
        second.close()
    assert json.loads(following.said.splitlines()[0])["position"] > known


def test_following_goes_on_behind_what_was_seen(ask: Ask, store: Path) -> None:
    def told(*words: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in ask("follow", *words, "--json").stdout.splitlines()]

    whole = told("sum-1")
    assert told("sum-1", "--after", "4") == whole[4:]
    assert told("sum-1", "--after", "6") == []
    assert [one["event"] for one in told("sum-1", "--brief")] == ["flow_started", "flow_completed"]


def test_how_a_flow_has_ended_is_the_exit_code(ask: Ask) -> None:
    assert ask("follow", "sum-1").exit_code == 0
    assert ask("follow", "failing-1").exit_code == 1


@pytest.mark.parametrize("words", [[], ["order-1"]], ids=["all flows", "one flow"])
def test_who_was_further_than_the_newest_event_is_told_so(ask: Ask, words: list[str]) -> None:
    told = ask("follow", *words, "--after", 1000)

    assert told.exit_code == 1
    assert told.stdout == ""
    assert told.stderr.startswith("persistasaurus: there is no event 1000: the newest is ")
