"""Five crashes: a process is killed, and the next one continues.

The processes are real, and so is SIGKILL. They run in lockstep with this one (see `crash_child`), so it
can choose the moment of each kill, and sees every effect.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import IO, TYPE_CHECKING, NamedTuple, cast

import msgspec
from rich.markup import escape
from rich.rule import Rule
from rich.table import Table

from ....actors.runtime.primitives import Event, new_id
from ....flows import events
from ....flows.description import describe
from ....flows.errors import PersistasaurusError
from ..output.narration import event_line
from ..output.screen import output_console
from .crash_child import Report
from .watched_store import WatchedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from rich.console import Console

_DELAY_S = 2.0
_INTO_THE_DELAY_S = 0.5
_PACE_S = 0.08
_TIMEOUT_S = 10.0
_STEPS = 4
_REPORT = msgspec.json.Decoder(Report)


class Kill(NamedTuple):
    """When to kill a process: at the first report that matches, or `after_s` seconds after it."""

    when: str
    fits: Callable[[Report], bool]
    after_s: float = 0.0


def _at(moment: str, step: int) -> Callable[[Report], bool]:
    return lambda report: report.moment == moment and report.step == step


def _recorded(kind: type[events.Event], step: int) -> Callable[[Report], bool]:
    def fits(report: Report) -> bool:
        if report.moment != "recorded":
            return False
        event = _event(report)
        return isinstance(event, kind) and getattr(event, "step", None) == step

    return fits


KILLS = (
    Kill("during step 1, before it has done anything", _at("began", 1)),
    Kill("during the delay", _recorded(events.StepScheduled, 2), _INTO_THE_DELAY_S),
    Kill("when the e-mail is sent, but not yet recorded", _at("did", 2)),
    Kill("while the flow waits for the confirmation", _recorded(events.SignalAwaited, 3)),
    Kill("between step 3 and step 4", _recorded(events.StepCompleted, 3)),
)


class Tally(NamedTuple):
    """How often each step ran and took effect, counted outside the processes."""

    runs: Counter[int]
    effects: Counter[int]


class CrashDemo:
    def __init__(self, path: Path, out: Console) -> None:
        self._path = path
        self._out = out
        self._flow_id = f"crash-{new_id()[:8]}"
        self._names: dict[int, str] = {}
        self._tally = Tally(Counter(), Counter())
        self._kills = 0
        self._pace = Event()

    def run(self) -> int:
        result = ""
        for kill in (*KILLS, None):
            result = self._live(kill)
        return self._sum_up(result)

    def _live(self, kill: Kill | None) -> str:
        """Run a process until it is killed or the flow has ended. Return the flow's result."""
        child = self._spawn()
        try:
            self._out.print(Rule(f"Process {self._kills + 1} (pid {child.pid})", align="left"))
            for report in _reports(child):
                self._show(report)
                if report.moment == "ended":
                    return report.text
                if kill is not None and kill.fits(report):
                    self._kill(child, kill)
                    return ""
        finally:
            child.kill()
            child.communicate()
        raise PersistasaurusError(f"process {child.pid} ended by itself")

    def _spawn(self) -> subprocess.Popen[bytes]:
        module = f"{__package__}.crash_child"
        command = [sys.executable, "-P", "-m", module, str(self._path), self._flow_id, str(_DELAY_S)]
        # A session of its own: Ctrl-C is for this process, which kills the other.
        return subprocess.Popen(  # noqa: S603 - this very interpreter, and a module of ours
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )

    def _kill(self, child: subprocess.Popen[bytes], kill: Kill) -> None:
        if kill.after_s:
            _continue(child)
            self._pace.wait(kill.after_s)
        child.kill()
        child.wait(_TIMEOUT_S)
        self._kills += 1
        self._out.print(f"  [bold red]SIGKILL[/] {kill.when}")

    # ------------------------------------------------------------------------------------- telling
    def _show(self, report: Report) -> None:
        match report.moment:
            case "opened" | "recorded":
                self._show_event(report)
            case "began":
                self._tally.runs[report.step] += 1
                self._out.print(f"  [green]running[/]   step {report.step} {escape(report.name)}")
            case "did":
                self._tally.effects[report.step] += 1
            case "printed":
                self._out.print(f"            {report.text}", markup=False, style="bold")
            case _:
                return
        if self._out.is_terminal:
            self._pace.wait(_PACE_S)

    def _show_event(self, report: Report) -> None:
        event = _event(report)
        words = describe(event)
        if words.step and words.name:
            self._names[words.step] = words.name
        if report.moment == "recorded":
            self._out.print(f"  [cyan]recorded[/]  {escape(str(event_line(words)))}")
        elif isinstance(event, events.StepCompleted):
            said = escape(f"step {event.step} {self._names[event.step]} {event_line(words).detail}")
            self._out.print(f"  [yellow]replayed[/]  {said}  [dim](from the log, not run)[/]")

    # ------------------------------------------------------------------------------------ the proof
    def _sum_up(self, result: str) -> int:
        recorded = self._recorded()
        table = Table(
            "step", "", "recorded", "begun", "done", title="What became of it", title_justify="left"
        )
        for step, name in sorted(self._names.items()):
            runs, effects = self._tally.runs[step], self._tally.effects[step]
            table.add_row(str(step), escape(name), f"{recorded[step]} x", f"{runs} x", f"{effects} x")
        self._out.print(Rule())
        self._out.print(table)
        once = sum(recorded[step] == 1 for step in range(1, _STEPS + 1))
        self._out.print(
            f"Kills: {self._kills}   steps recorded once: {once} of {_STEPS}"
            f"   effects: {self._tally.effects.total()}   result: [bold]{escape(result)}[/]"
        )
        self._out.print(
            "Each step is recorded once. A step that was running when its process died runs again, so it"
            " must tolerate that, or recognise a repetition by its idempotency key."
        )
        return 0 if once == _STEPS and result else 1

    def _recorded(self) -> Counter[int]:
        """Count the recorded completions, once no process writes any more."""
        store = WatchedStore.at(self._path)
        try:
            history = store.history(self._flow_id)
        finally:
            store.close()
        return Counter(event.step for event in history if isinstance(event, events.StepCompleted))


def _reports(child: subprocess.Popen[bytes]) -> Generator[Report]:
    """Yield what a process reports, and let it continue after each report."""
    for line in cast("IO[bytes]", child.stdout):
        yield _REPORT.decode(line)
        _continue(child)


def _continue(child: subprocess.Popen[bytes]) -> None:
    answers = cast("IO[bytes]", child.stdin)
    answers.write(b"\n")
    answers.flush()


def _event(report: Report) -> events.AnyEvent:
    return events.decode(bytes(report.event))


def run(path: Path, *, is_temporary: bool = False) -> int:
    """Run the demo; see `persistasaurus demo crash --help`.

    Raises:
        StoreError: the store cannot be used.
        PersistasaurusError: a process ended by itself.
    """
    out = output_console()
    note = ", removed when the demo ends" if is_temporary else ""
    out.print(f"Store: {path}{note}", markup=False, style="dim")
    WatchedStore.at(path).close()  # if it cannot be opened, the error appears here, not in the child
    return CrashDemo(path, out).run()
