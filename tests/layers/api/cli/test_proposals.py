"""Commands that are shown to be typed next mean what they say, whatever ids and paths others have chosen."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from persistasaurus import FlowSystem
from persistasaurus.api.cli.options import Command
from persistasaurus.api.cli.output.proposal import option, proposed
from persistasaurus.api.cli.program import COMMANDS
from routes.flows import Anything
from system.doubles import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Ask

ODD = [
    "$(touch${IFS}pwned)",
    "--store=/var/tmp/evil.db",
    "-h",
    "--",
    "-",
    "a b",
    "it's",
    "`id`",
    ";id",
    "*",
    "~root",
    "#",
    "ü\U0001f996",
]


def split(line: str) -> list[str]:
    """Take a line apart as a shell does."""
    told = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True, timeout=30
    )
    return told.stdout.split("\0")[:-1]


def understood(line: str) -> dict[str, object]:
    """Tell what the command makes of a line that a shell has taken apart."""
    _, verb, *words = split(line)
    found = COMMANDS[verb].load(verb)
    assert isinstance(found, Command)
    return dict(found.make_context(verb, words, resilient_parsing=True).params)


@pytest.mark.parametrize("odd", ODD)
def test_a_proposed_command_is_understood_as_it_is_meant(odd: str, tmp_path: Path) -> None:
    for store in (tmp_path / "flows.db", f"{odd}.db"):
        told = understood(proposed("signal", odd, "confirm", "JSON", store=store))
        assert (told["flow"], told["name"], str(told["store"])) == (odd, "confirm", str(store))
        told = understood(proposed("retry", odd, store=store, why=odd))
        assert (told["flow"], told["why"], str(told["store"])) == (odd, odd, str(store))


@pytest.mark.parametrize("odd", ODD)
def test_an_option_is_understood_as_it_is_meant(odd: str) -> None:
    assert understood(f"persistasaurus list {option('--after', odd)}")["after"] == odd


def test_ids_that_others_have_chosen_run_nothing_and_choose_no_store(ask: Ask, tmp_path: Path) -> None:
    store = tmp_path / "odd.db"
    with FlowSystem(store, flows=[Anything]) as system:
        for flow_id in ODD:
            handle = system.start(Anything.wait, flow_id=flow_id)
            wait_until(lambda handle=handle: handle.status == "waiting")

    for n, flow_id in enumerate(ODD[:-1], 1):
        said = ask("list", "--limit", n, "--store", store).stderr.removeprefix("There are more: ")
        assert understood(f"persistasaurus list {said}")["after"] == flow_id
    for flow_id in ODD:
        for verb in ("explain", "show"):
            told = ask(verb, f"--store={store}", "--", flow_id).stdout.splitlines()
            lines = [line[line.index("persistasaurus ") :] for line in told if "persistasaurus " in line]
            found = [understood(line) for line in lines if " run MODULE " not in line]
            assert found, told
            for parameters in found:
                assert (parameters["flow"], str(parameters["store"])) == (flow_id, str(store))
