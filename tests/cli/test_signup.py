"""`persistasaurus demo signup`, and `confirm` from another terminal."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from cli.terminal import run
from click.testing import CliRunner
from persistasaurus.api.cli.program import persistasaurus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.terminal import Running

    Begin = Callable[..., Running]

ASKS = "demo confirm signup-ada --store"


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> Path:
    return tmp_path / "flows.db"


# ---------------------------------------------------------------------------------- at the terminal
@pytest.mark.parametrize("keys", ["\n", "y\n", "Yes\n"], ids=["enter", "y", "yes"])
def test_a_person_confirms_at_the_terminal(begin: Begin, temporary: Path, keys: str) -> None:
    demo = begin("demo", "signup", "--delay", "0.1", on_terminal=True)

    demo.until(ASKS)
    demo.type(keys)

    assert demo.end() == 0
    assert "Email confirmed at" in demo.said
    assert "✅ Signup finalized" in demo.said
    assert "Signed up." in demo.said
    assert list(temporary.iterdir()) == []


def test_another_key_confirms_nothing(begin: Begin) -> None:
    demo = begin("demo", "signup", "--delay", "0", on_terminal=True)

    demo.until(ASKS)
    demo.type("no\n")
    demo.until("Press Enter, or type y, to confirm")
    before = demo.said
    demo.type("y\n")

    assert demo.end() == 0
    assert "Email confirmed" not in before


def test_at_the_end_of_input_it_waits_for_the_other_terminal(begin: Begin, store: Path) -> None:
    demo = begin("demo", "signup", "--delay", "0", "--store", store, on_terminal=True)

    demo.until(ASKS)
    demo.type("\x04")
    demo.until("waiting for the other terminal")
    told = run("demo", "confirm", "signup-ada", "--store", store)

    assert told.returncode == 0
    assert demo.end() == 0


def test_the_delay_is_counted_down(begin: Begin) -> None:
    demo = begin("demo", "signup", "--delay", "30", on_terminal=True)

    demo.until("The e-mail goes out in 30 s")
    demo.until("The e-mail goes out in 29 s")
    demo.interrupt()

    assert demo.end() == 130


# ---------------------------------------------------------------------------- stopping and going on
@pytest.mark.parametrize("on_terminal", [True, False], ids=["terminal", "pipe"])
def test_it_goes_on_where_ctrl_c_stopped_it(begin: Begin, store: Path, *, on_terminal: bool) -> None:
    demo = begin("demo", "signup", "--delay", "0", "--store", store, on_terminal=on_terminal)
    demo.until(ASKS)
    demo.interrupt()

    assert demo.end() == 130
    assert "The sign-up waits" in demo.said
    assert f"persistasaurus demo signup --store {store}" in demo.said
    assert "Traceback" not in demo.said

    again = begin("demo", "signup", "--store", store, on_terminal=True)
    again.until(ASKS)
    again.type("\n")
    assert again.end() == 0
    assert "Going on with 'signup-ada'" in again.said
    assert "Created user record:" not in again.said
    assert "Signup finalized" in again.said


def test_it_goes_on_after_it_was_killed(begin: Begin, store: Path) -> None:
    demo = begin("demo", "signup", "--delay", "0", "--store", store)
    demo.until(ASKS)
    demo.kill()

    again = begin("demo", "signup", "--store", store)
    again.until("Going on with 'signup-ada'")
    again.until(ASKS)
    told = run("demo", "confirm", "signup-ada", "--store", store)

    assert told.returncode == 0
    assert again.end() == 0


def test_a_temporary_store_is_kept_while_the_flow_waits(temporary: Path) -> None:
    told = CliRunner().invoke(persistasaurus, ["demo", "signup", "--delay", "0", "--no-wait"])

    assert told.exit_code == 4
    assert "The sign-up waits" in told.output
    assert len(list(temporary.glob("*/demo.db"))) == 1


def test_a_sign_up_that_has_ended_is_told_from_its_record(begin: Begin, store: Path) -> None:
    demo = begin("demo", "signup", "--delay", "0", "--store", store, on_terminal=True)
    demo.until(ASKS)
    demo.type("\n")
    demo.end()

    told = run("demo", "signup", "--store", store)

    assert told.returncode == 0
    assert "Signed up." in told.stdout
    assert "Created user record:" not in told.stdout


def test_two_sign_ups_share_a_store(store: Path) -> None:
    words = ["demo", "signup", "--delay", "0", "--no-wait", "--store", str(store)]

    codes = [CliRunner().invoke(persistasaurus, [*words, "--flow-id", f]).exit_code for f in ("a", "b")]

    assert codes == [4, 4]
    assert run("demo", "confirm", "a", "--store", store).returncode == 0
    assert run("demo", "confirm", "c", "--store", store).returncode == 1


# ----------------------------------------------------------------------------- the other terminal
def test_another_terminal_confirms_when_nobody_is_at_this_one(begin: Begin, store: Path) -> None:
    demo = begin("demo", "signup", "--delay", "0", "--store", store)
    demo.until(ASKS)

    told = run("demo", "confirm", "signup-ada", "--store", store)

    assert (told.returncode, told.stdout) == (0, "Confirmed. The sign-up goes on, over there.\n")
    assert demo.end() == 0
    assert "Signed up." in demo.said


def test_only_the_user_may_confirm_and_no_request_is_left_behind(begin: Begin, store: Path) -> None:
    door = store.with_name("flows.db.spool")
    demo = begin("demo", "signup", "--delay", "0", "--store", store)
    demo.until(ASKS)

    run("demo", "confirm", "signup-ada", "--store", store)
    demo.end()

    assert stat.S_IMODE(door.stat().st_mode) == 0o700
    assert [path for path in door.rglob("*") if path.is_file()] == []


def test_a_confirmation_during_the_delay_is_kept(begin: Begin, store: Path) -> None:
    demo = begin("demo", "signup", "--delay", "1", "--store", store)
    demo.until("step scheduled")

    told = run("demo", "confirm", "signup-ada", "--store", store)

    assert told.returncode == 0
    assert demo.end() == 0


def test_a_confirmation_while_nothing_runs_is_taken_at_the_next_run(store: Path) -> None:
    CliRunner().invoke(persistasaurus, ["demo", "signup", "--delay", "0", "--no-wait", "--store", str(store)])

    told = run("demo", "confirm", "signup-ada", "--store", store)
    again = run("demo", "signup", "--no-wait", "--store", store)

    assert (told.returncode, again.returncode) == (0, 0)
    assert "taken" in told.stdout or "takes it" in told.stdout
    assert "Signup finalized" in again.stdout


def test_a_confirmation_of_an_unknown_flow_is_refused(begin: Begin, store: Path) -> None:
    nowhere = run("demo", "confirm", "signup-ada", "--store", store)
    demo = begin("demo", "signup", "--delay", "0", "--store", store)
    demo.until(ASKS)
    elsewhere = run("demo", "confirm", "nobody", "--store", store)

    assert (nowhere.returncode, elsewhere.returncode) == (1, 1)
    assert not store.with_name("nowhere.db").exists()
    assert "'nobody'" in elsewhere.stderr


def test_a_confirmation_after_the_end_is_refused(begin: Begin, store: Path) -> None:
    demo = begin("demo", "signup", "--delay", "0", "--store", store)
    demo.until(ASKS)
    run("demo", "confirm", "signup-ada", "--store", store)
    demo.end()

    late = run("demo", "confirm", "signup-ada", "--store", store)

    assert late.returncode == 1
    assert "has ended" in late.stderr


def test_a_store_with_a_long_path_can_be_confirmed_too(begin: Begin, tmp_path: Path) -> None:
    store = tmp_path / ("long " * 30) / "flows.db"
    store.parent.mkdir()
    demo = begin("demo", "signup", "--delay", "0", "--store", store)
    demo.until(ASKS)

    assert run("demo", "confirm", "signup-ada", "--store", store).returncode == 0
    assert demo.end() == 0
