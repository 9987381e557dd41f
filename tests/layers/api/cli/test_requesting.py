"""`signal`, `pause`, `resume` and `retry`, with an engine in another process and without one."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from cli.terminal import Running
from click.testing import CliRunner
from persistasaurus import SignalNotFound
from persistasaurus.actors import RemoteClient
from persistasaurus.actors.runtime.primitives import SystemClock
from persistasaurus.api.cli.program import persistasaurus
from persistasaurus.store import StoreReader
from system.doubles import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli.conftest import Ask
    from click.testing import Result

SHOP = __file__.replace("test_requesting.py", "shop.py")


@pytest.fixture(name="served", scope="module")
def _served(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a store that an engine has open, in another process."""
    store = tmp_path_factory.mktemp("served") / "flows.db"
    shutil.copy(filled, store)
    engine = Running("run", SHOP, "--store", store, on_terminal=False)
    try:
        engine.until("Ctrl-C stops it")
        yield store
    finally:
        engine.close()


def order(store: Path, *words: str, **more: object) -> Result:
    return CliRunner().invoke(persistasaurus, [*words, "--store", str(store)], **more)


def test_each_refusal_has_the_code_that_it_has_in_a_program(served: Path) -> None:
    for words, code in (
        (("retry", "confirm-bob"), "wrong-status"),
        (("pause", "nobody"), "flow-not-found"),
        (("pause", "a\nb"), "other"),
        (("serve", "--host", "0.0.0.0"), "cannot-serve"),
    ):
        assert order(served.with_name("other.db") if words[0] == "serve" else served, *words).stderr.endswith(
            f"[{code}]\n"
        ), words


def test_a_refusal_in_the_past_is_explained(served: Path) -> None:
    with RemoteClient(served) as client:
        pending = client.signal("confirm-bob", "confrim", b"true", by="ada")
    wait_until(lambda: "confrim" in order(served, "explain", "confirm-bob").stdout)
    told = order(served, "explain", "confirm-bob").stdout
    assert "A signal 'confrim' that another process left by ada was refused at" in " ".join(told.split())
    with RemoteClient(served) as client:
        answer = client.response(pending.id, 1)
    assert answer is not None
    with pytest.raises(SignalNotFound) as refused:
        answer.result("confirm-bob")
    assert refused.value.known == ("confirm",)
    assert "confrim" not in order(served, "explain", "confirm-bob").stdout


def events_of(store: Path, flow: str) -> list[str]:
    with StoreReader.open(store) as reader:
        return [record.kind for record in reader.read(flow)]


# ---------------------------------------------------------------------------- beside an engine
def test_the_engine_takes_a_signal_and_answers(served: Path) -> None:
    clock = SystemClock()
    began = clock.elapsed()
    told = order(served, "signal", "confirm-ada", "confirm", "true", "--id", "mail-1", "--json")

    assert clock.elapsed() - began < 1
    document = json.loads(told.stdout)
    assert (document["state"], document["signal_id"], document["duplicate"]) == ("taken", "mail-1", False)
    assert order(served, "follow", "confirm-ada").exit_code == 0
    assert "signal_received" in events_of(served, "confirm-ada")

    again = order(served, "signal", "confirm-ada", "confirm", '{"ok": true}', "--id", "mail-1", "--json")
    assert json.loads(again.stdout) == {**document, "duplicate": True}
    told = order(served, "signal", "confirm-ada", "confirm", "true", "--id", "mail-1")
    assert "the same id is the same signal" in told.stdout


def test_a_signal_that_its_flow_never_waits_for_is_refused(served: Path) -> None:
    before = events_of(served, "confirm-bob")

    told = order(served, "signal", "confirm-bob", "confrim", "true")

    assert told.exit_code != 0
    assert "Did you mean 'confirm'?" in told.stderr
    assert told.stderr.endswith("[signal-not-found]\n")
    assert events_of(served, "confirm-bob") == before


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ('{"ok": "no"}', "$.ok"),
        ('{"ok": true, "more": 1}', "more"),
        ('{"ok": true, "ok": false}', "twice"),
        ("{bad", "at $"),
        ("", "at $"),
        ("[" * 1000 + "]" * 1000, "deep"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_engine_says_why(served: Path, payload: str, said: str) -> None:
    before = events_of(served, "confirm-bob")

    told = order(served, "signal", "confirm-bob", "confirm", payload)

    assert (told.exit_code, told.stdout) == (1, "")
    assert said in told.stderr
    assert told.stderr.count("\n") == 1
    assert "nothing was written" in told.stderr
    assert events_of(served, "confirm-bob") == before


def test_a_flow_is_paused_and_resumed_with_who_and_why_on_record(served: Path) -> None:
    assert order(served, "pause", "order-1", "--by", "ada", "--why", "a fire").stdout == "Paused.\n"
    (finding, *_) = json.loads(order(served, "explain", "order-1", "--json").stdout)["findings"]
    assert (finding["kind"], finding["by"], finding["why"]) == ("paused", "ada", "a fire")

    assert order(served, "resume", "order-1").exit_code == 0
    assert events_of(served, "order-1")[-2:] == ["paused", "resumed"]


def test_a_failed_flow_runs_on(served: Path) -> None:
    told = order(served, "retry", "failing-1", "--why", "the bank is back")

    assert (told.exit_code, told.stdout) == (0, "The flow runs on.\n")
    assert "repaired" in events_of(served, "failing-1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("retry", "order-1"), "nothing to retry"),
        (("pause", "sum-1"), "has ended"),
        (("resume", "sum-1"), "has ended"),
        (("signal", "sum-1", "x"), "has ended"),
        (("signal", "nobody", "x"), "there is no flow 'nobody'"),
        (("signal", "order-1", "\x1b"), "is not a valid name of a signal"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused_at_once(served: Path, words: tuple[str, ...], said: str) -> None:
    told = order(served, *words)

    assert (told.exit_code, told.stdout) == (1, "")
    assert said in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    "words", [["import", "-"], ["run", SHOP], ["demo", "crash"], ["serve"]], ids=lambda words: words[0]
)
def test_what_needs_the_store_for_itself_names_the_engine_that_has_it(served: Path, words: list[str]) -> None:
    told = order(served, *words, input="")

    assert told.exit_code == 3
    assert "is in use by process" in told.stderr


# -------------------------------------------------------------------------- without an engine
def test_without_an_engine_a_signal_is_on_record_and_taken_at_the_next_start(ask: Ask, store: Path) -> None:
    told = ask("signal", "confirm-ada", "confirm", "-", "--json", input="true")

    assert json.loads(told.stdout)["state"] == "recorded"
    assert "at the next start" in ask("pause", "order-1").stdout
    engine = Running("run", SHOP, "--store", store, on_terminal=False)
    try:
        engine.until("flow completed")
    finally:
        engine.close()
    assert "ada: True" in engine.said


def test_what_only_the_engine_can_refuse_is_found_among_the_dead_letters(ask: Ask, store: Path) -> None:
    told = ask("signal", "confirm-ada", "confirm", '"no"', "--id", "mail-1")
    assert told.exit_code == 0
    engine = Running("run", SHOP, "--store", store, on_terminal=False)
    try:
        engine.until("is refused")
        engine.interrupt()
        assert engine.end() == 130
    finally:
        engine.close()

    (letter,) = map(json.loads, ask("dead-letters", "--json").stdout.splitlines())

    assert (letter["id"], letter["flow_id"], letter["name"], letter["key"]) == (
        None,
        "confirm-ada",
        "confirm",
        "mail-1",
    )
    assert letter["payload"] == "no"
    assert "$.ok" in letter["reason"]
    assert "$.ok" in ask("dead-letters").stdout


def test_nobody_is_waited_for_when_that_is_not_wanted(served: Path) -> None:
    told = order(served, "signal", "confirm-bob", "confirm", "true", "--no-wait")

    assert told.exit_code == 0
    assert told.stdout.startswith(("On record. Process", "Taken"))
