"""`persistasaurus check`: can the flows of a store go on with the code as it is?"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from persistasaurus import Flow, FlowSystem, flow, step
from persistasaurus.actors.flows.replay import Compatible, Diverges, check_history
from persistasaurus.actors.testing import FlowTestKit
from persistasaurus.api.cli.program import persistasaurus
from testing.shop import LotteryFlow, OrderFlow

if TYPE_CHECKING:
    from pathlib import Path

CHANGED = """
from persistasaurus import Flow, flow, step

class OrderFlow(Flow):
    @flow(name="order")
    async def fulfil(self, item: str) -> str:
        return await self.pack(item)

    @step
    def pack(self, item: str) -> str:
        return item
"""


class ChangedFlow(Flow):
    @flow(name="order")
    async def fulfil(self, item: str) -> str:
        return await self.charge(item)

    @step
    def charge(self, item: str) -> str:
        return item


@pytest.fixture(name="store")
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "300")
    store = tmp_path / "orders.db"
    with FlowSystem(store, flows=[OrderFlow, LotteryFlow]) as system:
        system.start(OrderFlow.fulfil, "a book", flow_id="order-1")
        system.run(LotteryFlow.draw, flow_id="ended")
    (tmp_path / "changed_orders.py").write_text(CHANGED)
    return store


def check(store: Path, *words: str) -> Result:
    return CliRunner().invoke(persistasaurus, ["check", str(store), *words])


def test_the_code_that_wrote_them_is_compatible_with_all_that_have_not_ended(store: Path) -> None:
    told = check(store, "--flows", "testing.shop", "--json")

    assert told.exit_code == 0, told.output
    assert [json.loads(line)["flow_id"] for line in told.stdout.splitlines()] == ["order-1"]
    assert "All can continue" in check(store, "--flows", "testing.shop").stdout


def test_other_code_diverges_and_both_lines_are_told(store: Path) -> None:
    changed = str(store.parent / "changed_orders.py")

    told = check(store, "--flows", changed)
    document = json.loads(check(store, "--flows", changed, "--json").stdout)

    assert told.exit_code == 1
    assert "order-1  at event 2" in told.stdout
    assert "recorded:  step 1 'charge' at shop.py:" in told.stdout
    assert "attempted: step 1 'pack' at changed_orders.py:7" in told.stdout
    assert (document["is_compatible"], document["version"]) == (False, 2)
    assert document["attempted_at"] == "changed_orders.py:7"
    assert document["recorded_at"].startswith("shop.py:")


def test_a_flow_whose_code_is_not_there_could_not_go_on(store: Path) -> None:
    told = check(store, "--flows", "testing.shop:LotteryFlow")

    assert told.exit_code == 1
    assert "no flow named 'order'" in told.stdout


def test_a_store_in_use_is_only_looked_at(store: Path) -> None:
    with FlowSystem(store, flows=[OrderFlow, LotteryFlow]):
        assert check(store, "--flows", "testing.shop").exit_code == 0
    before = hashlib.sha256(store.read_bytes()).digest()
    check(store, "--flows", str(store.parent / "changed_orders.py"))
    assert hashlib.sha256(store.read_bytes()).digest() == before


def test_what_cannot_be_checked_is_told_in_one_line(store: Path) -> None:
    assert check(store.parent / "nowhere.db", "--flows", "testing.shop").exit_code == 3
    assert check(store, "--flows", "nonsense").exit_code == 1
    assert check(store).exit_code == 2


def test_code_that_stops_earlier_than_its_history_diverges_and_one_that_goes_further_does_not() -> None:
    kit = FlowTestKit(OrderFlow.fulfil, "x")
    begun = list(kit.history)
    kit.step_succeeds("p")

    assert check_history(ChangedFlow.fulfil, "f", begun) == Compatible("f", 2)
    found = check_history(ChangedFlow.fulfil, "f", kit.history)
    assert isinstance(found, Diverges)
    assert (found.version, found.recorded_at[:8]) == (4, "shop.py:")
