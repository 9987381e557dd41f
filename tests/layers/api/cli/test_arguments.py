"""Whatever is typed, a command says in a line what is wrong with it: odd words and bytes that are no text."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from cli.terminal import run
from persistasaurus.api.cli.output import exit_codes as codes
from persistasaurus.api.cli.program import COMMANDS

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Ask
    from click.testing import Result

# These wait for somebody, or run what they are given.
BOUNDED = sorted(COMMANDS.keys() - {"run", "serve", "follow", "demo"})
KNOWN = {codes.DONE, codes.FAILED, codes.USAGE, codes.UNUSABLE}
NO_TEXT = os.fsdecode(b"\xff")
WORDS = [
    *(
        "order-1",
        "confirm-ada",
        "confirm_email_address",
        "sum",
        "waiting",
        "-",
        "--",
        "-h",
        "--help",
        "--json",
    ),
    *("--limit", "--after", "--wait", "--no-wait", "--why", "--by", "--id", "--type", "--status", "--full"),
    *("--level", "--svg", "--values", "--times", "--force", "-o", "--newest", "--skip-damaged", "--csv"),
    *("0", "1", "-1", "1e400", "nan", "9" * 30, "{}", "[", '"\\ud800"', "SELECT 1", "DELETE FROM stream"),
    *(
        "",
        " ",
        NO_TEXT,
        f"a{NO_TEXT}b",
        f'"{NO_TEXT}"',
        "\udcc3(",
        "ü",
        "\U0001f996",
        "\x1b[31m",
        "a\nb",
        "%s",
        "~",
    ),
]


def told(result: Result) -> str:
    """Return what was said, once it is certain that it was meant to be."""
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in KNOWN
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize("name", BOUNDED)
def test_whatever_is_typed_is_answered(
    ask: Ask, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    seed = 11
    chance = random.Random(f"{seed} {name}")
    for _ in range(20):
        words = chance.choices(WORDS, k=chance.randrange(5))
        try:
            told(ask(name, *words, input=b""))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {name} {words!r}: {error}") from error


@pytest.mark.parametrize(
    "words",
    [
        ["show", NO_TEXT],
        ["explain", NO_TEXT],
        ["events", f"order{NO_TEXT}"],
        ["diagram", NO_TEXT],
        ["follow", NO_TEXT],
        ["pause", NO_TEXT],
        ["pause", "order-1", "--why", NO_TEXT],
        ["resume", "order-1", "--by", NO_TEXT],
        ["signal", "confirm-ada", NO_TEXT],
        ["signal", "confirm-ada", "confirm", "--id", NO_TEXT],
        ["export", "order-1", NO_TEXT],
        ["sql", NO_TEXT],
        ["list", "--type", NO_TEXT],
        ["list", "--after", NO_TEXT],
        ["run", NO_TEXT],
        ["serve", "--host", NO_TEXT],
    ],
)
def test_an_argument_that_is_no_text_is_wrong_usage(ask: Ask, words: list[str]) -> None:
    result = ask(*words)

    assert "is not UTF-8" in told(result)
    assert result.exit_code == codes.USAGE


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_an_argument_is_utf_8_whatever_the_locale(ask: Ask, encoding: str) -> None:
    given = "signal-\xfc".encode().decode(encoding, "surrogateescape")

    assert "there is no flow 'signal-\xfc'" in told(ask("show", given))
    assert "there is no flow 'signal-\xfc'" in told(ask("export", given))


@pytest.mark.parametrize(
    "payload", [f'"{NO_TEXT}"', f'{{"a": "{NO_TEXT}", "b": 1}}', '"\\ud800"', "nonsense"]
)
def test_a_payload_that_is_no_json_is_refused_before_anything_is_written(
    ask: Ask, store: Path, payload: str
) -> None:
    result = ask("signal", "confirm-ada", "confirm", payload)

    assert "nothing was written" in told(result)
    assert result.exit_code == codes.FAILED
    assert not list(store.parent.glob("*-requests*"))


def test_a_file_may_have_any_name_and_a_store_one_that_is_text(ask: Ask, store: Path) -> None:
    odd = os.fsdecode(os.fsencode(store.parent) + b"/\xff")

    assert ask("export", "-o", odd).exit_code == codes.DONE
    assert ask("import", odd, "--json").exit_code == codes.DONE
    assert told(ask("list", "--store", f"{odd}.db")).startswith("persistasaurus: there is no store at")
    for words in (["backup", f"{odd}.db"], ["import", odd, "--store", f"{odd}.db"], ["list", "--store", odd]):
        result = ask(*words)
        assert "UTF-8" in told(result) or "utf-8" in result.stderr
        assert result.exit_code == codes.UNUSABLE
    assert [path.name for path in store.parent.iterdir() if path.name.startswith("\udcff")] == ["\udcff"]


def test_bytes_that_are_no_text_come_through_a_shell_as_they_are(store: Path) -> None:
    result = run("show", NO_TEXT, "--store", store)

    assert (result.returncode, result.stdout) == (codes.USAGE, "")
    assert "Traceback" not in result.stderr
