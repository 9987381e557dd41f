"""`run`: which flows of a module it takes, what it tells, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli.terminal import COMMAND, run
from persistasaurus.api.cli.flow_modules import ModuleUnusable, flows_of
from persistasaurus.flows.errors import FlowDefinitionError
from persistasaurus.store import StoreReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cli.terminal import Running

    Begin = Callable[..., Running]

SHOP = __file__.replace("test_running.py", "shop.py")
FLOWS = """
from persistasaurus import Flow, flow

class {name}(Flow):
    @flow(name="{flow}")
    async def run(self) -> int:
        return 1
"""


@pytest.fixture(name="module")
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Write a module into the current directory, and forget it at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        return name

    before = set(sys.modules)
    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(*modules: str) -> list[str]:
    return [getattr(found, "__name__", None) or found.name for found in flows_of(modules)]


# ------------------------------------------------------------------------------ flows of a module
def test_all_that_a_module_defines_is_taken(module: Callable[..., str]) -> None:
    text = FLOWS.format(name="First", flow="a") + FLOWS.format(name="Second", flow="b")
    text += "\n@flow\nasync def third() -> int:\n    return 3\n\nclass Helper(Flow): ...\n"

    assert names(module("orders_all", text)) == ["First", "Second", "third"]


def test_what_it_only_imports_is_taken_when_it_is_named_or_listed(module: Callable[..., str]) -> None:
    module("orders_home", FLOWS.format(name="First", flow="a"))
    visitor = "from orders_home import First\n"
    listed = module("orders_listed", f'{visitor}__all__ = ["First"]\n')
    silent = module("orders_silent", visitor)

    assert names(listed) == names(f"{silent}:First") == ["First"]
    with pytest.raises(ModuleUnusable, match="name one, orders_silent:First"):
        flows_of([silent])


def test_one_of_many_can_be_chosen_and_a_path_will_do(module: Callable[..., str], tmp_path: Path) -> None:
    text = FLOWS.format(name="First", flow="a") + FLOWS.format(name="Second", flow="b")
    module("orders_chosen", text)

    assert names("orders_chosen:Second") == ["Second"]
    assert names(f"{tmp_path}/orders_chosen.py:First") == ["First"]
    assert names("orders_chosen", "orders_chosen:First") == ["First", "Second"]


def test_two_flows_of_one_name_are_told_apart_by_nobody(module: Callable[..., str]) -> None:
    text = FLOWS.format(name="First", flow="same") + FLOWS.format(name="Second", flow="same")

    with pytest.raises(FlowDefinitionError, match=r"two flows are named 'same'.*choose one: MODULE:NAME"):
        flows_of([module("orders_twice", text)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nosuchthing", "No module named 'nosuchthing'"),
        ("def broken(:", "SyntaxError"),
        ("import sys\nsys.exit(3)", "if __name__ == '__main__'"),
        ("x = 1", "there are no flows in module 'orders_bad'"),
        ("raise KeyError('\\x1b[31m')", "KeyError"),
        ("raise BaseException('no')", "BaseException: no"),
    ],
)
def test_a_module_that_cannot_be_used_is_told_with_its_own_lines(
    module: Callable[..., str], text: str, said: str
) -> None:
    with pytest.raises(ModuleUnusable) as refused:
        flows_of([module("orders_bad", text)])

    assert said in str(refused.value)
    assert "flow_modules.py" not in str(refused.value)
    assert "importlib" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("orders_nowhere", "there is no module 'orders_nowhere'"),
        ("os.nowhere", "there is no module 'os.nowhere'|cannot be imported"),
        ("nowhere.py", "there is no file nowhere.py"),
        ("./some-name.py", "its name must be that of a module"),
        ("./signal.py", "a module 'signal' already exists"),
        ("no module", "names no module"),
        ("json:dumps", "json:dumps is not a flow"),
        ("json:nowhere", "has no 'nowhere'"),
        ("", "names no module"),
    ],
)
@pytest.mark.usefixtures("module")
def test_what_is_no_module_is_refused(tmp_path: Path, name: str, said: str) -> None:
    for file in ("some-name.py", "signal.py"):
        (tmp_path / file).write_text("x = 1")

    with pytest.raises(ModuleUnusable, match=said):
        flows_of([name])


def test_a_bad_module_makes_no_store(tmp_path: Path) -> None:
    told = run("run", tmp_path / "nowhere.py", "--store", tmp_path / "flows.db")

    assert told.returncode == 1
    assert told.stderr.count("\n") == 1
    assert not (tmp_path / "flows.db").exists()


# --------------------------------------------------------------------------------- while it runs
def test_it_tells_how_flows_begin_and_end_and_what_steps_print(begin: Begin, store: Path) -> None:
    engine = begin("run", SHOP, "--store", store)
    engine.until("Ctrl-C stops it")
    run("retry", "failing-1", "--store", store)
    engine.until("step failed 1")
    engine.until("flow failed")
    engine.interrupt()

    assert engine.end() == 130
    assert "failing-1  repaired" in engine.said
    assert "step attempted" not in engine.said
    assert "Stopping" in engine.said
    assert "\x1b" not in engine.said


def test_for_programs_it_tells_json_alone_and_every_event_if_asked(store: Path) -> None:
    engine = subprocess.Popen(
        [*COMMAND, "run", SHOP, "--store", str(store), "--json", "--verbose"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        run("retry", "failing-1", "--store", store)
        lines: list[dict[str, object]] = []
        assert engine.stdout is not None
        while not lines or lines[-1]["event"] != "flow_failed":
            lines.append(json.loads(engine.stdout.readline()))
        engine.send_signal(signal.SIGTERM)
        rest, _ = engine.communicate(timeout=30)
    finally:
        engine.kill()

    assert engine.returncode == 0
    assert [line["event"] for line in lines] == ["repaired", "step_attempted", "step_failed", "flow_failed"]
    assert rest == ""


def test_ctrl_c_waits_for_running_steps_and_a_second_one_does_not(begin: Begin, store: Path) -> None:
    program = (
        "from persistasaurus import FlowSystem; from cli import shop; import sys\n"
        "with FlowSystem(sys.argv[1], flows=[shop.SlowFlow]) as s:\n"
        "    s.start(shop.SlowFlow.go, flow_id='slow-1'); s.close(0.1)"
    )
    tests = SHOP.removesuffix("cli/shop.py")
    subprocess.run([sys.executable, "-c", program, store], env=os.environ | {"PYTHONPATH": tests}, check=True)
    engine = begin("run", SHOP, "--store", store)
    engine.until("working")
    engine.interrupt()
    engine.until("Repeat it to stop at once")
    engine.interrupt()

    assert engine.end() == 130
    assert "Traceback" not in engine.said
    with StoreReader.open(store) as reader:
        assert reader.owner() is None
        assert reader.verify() == []


def test_nobody_reading_stops_it_in_good_order_and_no_step_fails_of_it(store: Path) -> None:
    ours, theirs = os.pipe()
    engine = subprocess.Popen(
        [*COMMAND, "run", SHOP, "--store", str(store)], stdout=theirs, stderr=subprocess.PIPE, text=True
    )
    os.close(theirs)
    os.close(ours)
    try:
        run("signal", "confirm-ada", "confirm", "true", "--store", store)
        _, said = engine.communicate(timeout=30)
    finally:
        engine.kill()

    assert engine.returncode == 141
    assert "Traceback" not in said
    with StoreReader.open(store) as reader:
        header = reader.header("confirm-ada")
    assert header is not None
    assert header.status == "completed"
