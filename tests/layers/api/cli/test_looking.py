"""Looking at a store: list, show, explain, events, diagram, sql and dead-letters, for people and programs."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from typing import TYPE_CHECKING

import pytest
from persistasaurus import Flow, FlowFailed, FlowSystem, flow, step, wait_for
from persistasaurus.store import SqliteStore
from persistasaurus.store.sqlite import schema
from system.doubles import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Ask = Callable[..., Result]

FLOWS = ["order-1", "confirm-ada", "confirm-bob", "failing-1", "retrying-1", "sum-0", "sum-1", "sum-2"]
LOOKS = [
    ["list"],
    ["show", "failing-1"],
    ["explain", "failing-1"],
    ["events", "failing-1"],
    ["events", "failing-1", "--full"],
    ["follow", "failing-1"],
    ["diagram", "failing-1", "--values"],
    ["diagram", "failing-1", "--text", "--values"],
    ["sql", "SELECT * FROM flows"],
    ["sql", "SELECT * FROM steps"],
    ["dead-letters"],
    ["doctor"],
]


def documents(told: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in told.stdout.splitlines()]


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_nothing_that_is_stored_steers_the_terminal(ask: Ask, words: list[str]) -> None:
    told = ask(*words)

    assert "\x1b" not in told.output
    assert "\u202e" not in told.output


@pytest.mark.parametrize("words", [look for look in LOOKS if "--text" not in look], ids=" ".join)
def test_each_tells_programs_one_document_a_line(ask: Ask, words: list[str]) -> None:
    told = ask(*words, "--json")

    assert all(isinstance(document, dict) for document in documents(told))
    assert "\x1b" not in told.output


# -------------------------------------------------------------------------------------------- list
def test_flows_are_listed_oldest_first_or_newest_first(ask: Ask) -> None:
    assert [one["flow_id"] for one in documents(ask("list", "--json"))] == FLOWS
    assert [one["flow_id"] for one in documents(ask("list", "--json", "--newest"))] == FLOWS[::-1]


@pytest.mark.parametrize("order", [[], ["--newest"]], ids=["oldest", "newest"])
def test_pages_follow_each_other_without_a_gap(ask: Ask, order: list[str]) -> None:
    seen: list[object] = []
    while page := documents(
        ask("list", "--json", "--limit", "3", *order, *(["--after", seen[-1]] if seen else []))
    ):
        seen += [one["flow_id"] for one in page]

    assert seen == (FLOWS[::-1] if order else FLOWS)


def test_flows_are_filtered_by_type_and_status(ask: Ask) -> None:
    assert [one["flow_id"] for one in documents(ask("list", "--json", "--type", "confirm"))] == FLOWS[1:3]
    assert [one["flow_id"] for one in documents(ask("list", "--json", "--status", "failed"))] == ["failing-1"]
    assert documents(ask("list", "--json", "--type", "nonsense")) == []


def test_a_flow_is_listed_with_the_names_of_the_view(ask: Ask) -> None:
    (told,) = documents(ask("list", "--json", "--limit", "1"))
    (viewed,) = documents(ask("sql", "SELECT * FROM flows LIMIT 1", "--json"))

    assert told.keys() <= viewed.keys()
    assert {name: told[name] for name in ("flow_id", "type", "status", "version")} == {
        name: viewed[name] for name in ("flow_id", "type", "status", "version")
    }


def test_people_see_a_table_and_are_told_of_the_next_page(ask: Ask) -> None:
    told = ask("list", "--limit", "2")

    assert told.stdout.splitlines()[0].split() == [
        "FLOW",
        "TYPE",
        "STATUS",
        "EVENTS",
        "STARTED",
        "LAST",
        "EVENT",
        "NEXT",
    ]
    assert told.stdout.splitlines()[1].split()[:4] == ["order-1", "order", "waiting", "4"]
    assert told.stderr == "There are more: --after confirm-ada\n"


def test_that_there_are_no_flows_is_said_beside_the_output(ask: Ask) -> None:
    told = ask("list", "--type", "nonsense")

    assert (told.exit_code, told.stdout, told.stderr) == (0, "", "No flows.\n")


# ------------------------------------------------------------------------- show, events and diagram
def test_a_flow_is_shown_with_its_steps(ask: Ask) -> None:
    (told,) = documents(ask("show", "sum-1", "--json"))

    assert told["result"] == 5
    assert [(step["step"], step["name"], step["status"], step["result"]) for step in told["steps"]] == [
        (1, "more", "completed", 2),
        (2, "more", "completed", 3),
    ]
    shown = ask("show", "sum-1").stdout
    assert "sum-1  sum  completed" in shown
    assert "(UTC)" in shown


def test_events_are_shown_as_they_are_on_record(ask: Ask) -> None:
    told = documents(ask("events", "sum-1", "--json"))

    assert [one["version"] for one in told] == [1, 2, 3, 4, 5, 6]
    assert [one["event"] for one in told][-1] == "flow_completed"
    assert told[-1]["data"] == {"type": "flow_completed", "result": 5}
    assert documents(ask("events", "sum-1", "--json", "--after", "5")) == told[5:]
    assert documents(ask("events", "sum-1", "--json", "--limit", "2")) == told[:2]


def test_people_see_events_with_the_names_of_their_steps(ask: Ask) -> None:
    lines = ask("events", "sum-1").stdout.splitlines()

    assert "TIME (UTC)" in lines[0]
    assert any("step completed  1 more  → 2" in line for line in lines)


def test_tracebacks_are_shown_when_all_is_wanted(ask: Ask) -> None:
    assert "Traceback" not in ask("events", "failing-1").stdout
    assert "raise ConnectionError" in ask("events", "failing-1", "--full").stdout


def test_a_diagram_is_for_mermaid_in_a_pipe_and_text_when_asked_for(ask: Ask, tmp_path: Path) -> None:
    assert ask("diagram", "sum-1").stdout.startswith("sequenceDiagram\n")
    assert "│" in ask("diagram", "sum-1", "--text").stdout
    assert "Store" in ask("diagram", "sum-1", "--level", "store").stdout
    told = ask("diagram", "sum-1", "--svg", tmp_path / "sum.svg")
    assert told.stdout == ""
    assert "<svg" in (tmp_path / "sum.svg").read_text()


# ------------------------------------------------------------------------------------------ explain
def test_what_can_be_done_is_a_command_that_can_be_copied(ask: Ask, store: Path) -> None:
    told = ask("explain", "confirm-ada")

    assert told.exit_code == 0
    assert "It waits for signal 'confirm' since" in told.stdout
    assert f"persistasaurus signal confirm-ada confirm JSON --store {store}" in told.stdout
    assert "No process has the store open" in told.stdout


@pytest.mark.parametrize("command", ["show", "explain"])
def test_a_failed_flow_is_told_with_the_line_of_its_code(ask: Ask, command: str) -> None:
    told = ask(command, "failing-1")

    assert re.search(r"^  at shop\.py:\d+$", told.stdout, re.MULTILINE)


def test_why_a_flow_stands_is_told_to_programs_by_kind(ask: Ask) -> None:
    def kinds(flow: str) -> list[str]:
        (told,) = documents(ask("explain", flow, "--json"))
        assert told["engine_since"] is None
        return [finding["kind"] for finding in told["findings"]]

    assert kinds("order-1") == ["no_engine", "sleeping"]
    assert kinds("confirm-bob") == ["no_engine", "paused", "waiting"]
    assert kinds("retrying-1") == ["no_engine", "retrying"]
    assert kinds("failing-1") == ["failed"]
    assert kinds("sum-0") == ["completed"]


# ---------------------------------------------------------------------------------------------- sql
def test_views_can_be_asked_as_table_json_and_csv(ask: Ask) -> None:
    statement = "SELECT flow_id, result FROM flows WHERE type = 'sum' ORDER BY flow_id"

    assert ask("sql", statement).stdout.splitlines() == [
        "FLOW_ID  RESULT",
        "sum-0    3",
        "sum-1    5",
        "sum-2    7",
    ]
    assert documents(ask("sql", statement, "--json"))[0] == {"flow_id": "sum-0", "result": "3"}
    assert list(csv.reader(io.StringIO(ask("sql", statement, "--csv").stdout)))[:2] == [
        ["flow_id", "result"],
        ["sum-0", "3"],
    ]


def test_a_store_of_an_older_version_has_the_views_as_well(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = schema.ladder()[:1]
    with monkeypatch.context() as then:
        then.setattr(schema, "ladder", lambda: older)
        SqliteStore.open(tmp_path / "older.db", now=lambda: 0).close()

    views = [one["view"] for one in documents(ask("sql", "--json", "--store", tmp_path / "older.db"))]

    assert views[:5] == ["flows", "steps", "signals", "timers", "dead_letters"]


def test_without_a_statement_the_views_are_told(ask: Ask) -> None:
    views = {one["view"]: one["columns"] for one in documents(ask("sql", "--json"))}

    assert list(views)[:5] == ["flows", "steps", "signals", "timers", "dead_letters"]
    assert "status" in views["flows"]


@pytest.mark.parametrize("statement", ["DELETE FROM record", "SELECT nonsense", "SELECT 1; SELECT 2", ""])
def test_what_is_no_question_is_refused_in_one_line(ask: Ask, statement: str) -> None:
    told = ask("sql", statement)

    assert told.exit_code == 1
    assert told.stdout == ""
    assert told.stderr.count("\n") == 1


def test_bytes_are_told_in_hexadecimal_digits(ask: Ask) -> None:
    assert documents(ask("sql", "SELECT x'00ff' AS b, NULL AS n", "--json")) == [{"b": "00ff", "n": None}]


# ------------------------------------------------------------------------------------------ trouble
NEEDING_A_FLOW = ["show", "explain", "events", "follow", "diagram", "pause", "resume", "retry"]


@pytest.mark.parametrize("name", NEEDING_A_FLOW)
def test_a_flow_that_is_not_there_is_exit_code_1_and_one_line(ask: Ask, name: str) -> None:
    told = ask(name, "no\x1bbody")

    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.count("\n") == 1
    assert "\x1b" not in told.stderr


NEEDING_A_STORE = [
    ["list"],
    ["verify"],
    ["sql"],
    ["dead-letters"],
    ["export"],
    ["backup", "copy.db"],
    ["signal", "order-1", "x"],
    *([name, "order-1"] for name in NEEDING_A_FLOW),
]


@pytest.mark.parametrize("words", NEEDING_A_STORE, ids=" ".join)
def test_a_store_that_is_not_there_is_exit_code_3_and_none_is_made(
    ask: Ask, words: list[str], tmp_path: Path
) -> None:
    told = ask(*words, "--store", tmp_path / "nowhere.db")

    assert told.exit_code == 3
    assert "give --store FILE" in told.stderr
    assert not (tmp_path / "nowhere.db").exists()


@pytest.mark.parametrize("words", NEEDING_A_STORE, ids=" ".join)
def test_a_file_that_is_no_store_is_exit_code_3_and_stays_as_it_is(
    ask: Ask, words: list[str], tmp_path: Path
) -> None:
    letter = tmp_path / "letter"
    letter.write_text("Dear Ada, " * 100)

    told = ask(*words, "--store", letter)

    assert told.exit_code == 3
    assert told.stderr.count("\n") == 1
    assert letter.read_text() == "Dear Ada, " * 100
    assert sorted(path.name for path in tmp_path.iterdir() if "letter" in path.name) == ["letter"]


def test_a_limit_of_nothing_is_wrong_usage(ask: Ask) -> None:
    assert ask("list", "--limit", "0").exit_code == 2
    assert ask("list", "--after", "nobody").exit_code == 1


def test_prose_of_several_lines_is_shown_as_lines_or_as_one(ask: Ask, tmp_path: Path) -> None:
    class Moody(Flow):
        extra = False

        @flow(name="moody")
        async def go(self) -> None:
            await self.first()
            if Moody.extra:
                await self.first()
            await wait_for("word", str)

        @step
        def first(self) -> None: ...

    class Wordy(Flow):
        @flow(name="wordy")
        async def go(self) -> None:
            await self.explode()

        @step
        def explode(self) -> None:
            raise ValueError("first line\nsecond line")

    store = tmp_path / "moody.db"
    logging.disable(logging.CRITICAL)
    with FlowSystem(store, flows=[Moody, Wordy]) as system:
        handle = system.start(Moody.go, flow_id="moody")
        wait_until(lambda: handle.status == "waiting")
        with pytest.raises(FlowFailed):
            system.run(Wordy.go, flow_id="wordy")
    Moody.extra = True
    with FlowSystem(store, flows=[Moody, Wordy]) as system:
        system.flow("moody").signal("word", "go on")
        wait_until(lambda: system.flow("moody").status == "parked")
    logging.disable(logging.NOTSET)

    for flow_id in ("moody", "wordy"):
        for words in (["show", flow_id], ["explain", flow_id], ["events", flow_id]):
            told = ask(*words, "--store", store)
            assert told.exit_code == 0
            assert "\\n" not in told.stdout, words
    assert "first line second line" in ask("show", "wordy", "--store", store).stdout
