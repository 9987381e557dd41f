"""An engine at a terminal: a `FlowSystem` whose events are shown while it runs."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import TYPE_CHECKING, NamedTuple

from ...actors import FlowSystem
from ...actors.runtime.primitives import Event, Lock, SystemClock, start_thread
from ...store import StoreReader
from .output.lines import Lines
from .output.narration import Narrator
from .output.outcome import give_up_output
from .output.screen import Screen
from .wake_pipe import WakePipe
from .watch import NOTABLE, LogWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path
    from typing import Self

    from .flow_modules import FlowSource

_PAUSE_S = 0.05
_TIMEOUT_S = 5.0


class Verbosity(NamedTuple):
    """How much is shown: how flows begin and end and what goes wrong, or every event, or nothing."""

    as_json: bool
    verbose: bool
    quiet: bool

    @property
    def kinds(self) -> frozenset[str] | None:
        return None if self.verbose else NOTABLE


class Engine:
    """Runs flows on a store. A thread of its own shows what is recorded.

    What steps print is shown too, in whole lines; with JSON output it goes to standard error. When the reader
    of the output goes away, no step fails because of it: `on_unread` is called, once. Raises StoreError: the
    store cannot be used. Raises FlowDefinitionError: a flow's definition cannot work.
    """

    def __init__(
        self, flows: Sequence[FlowSource], store: Path, verbosity: Verbosity, on_unread: Callable[[], None]
    ) -> None:
        self._flows = flows
        self._store = store
        self._verbosity = verbosity
        self._on_unread = on_unread
        self._wake_pipe = WakePipe()
        self._lock = Lock()
        self._out = sys.stdout
        self._is_over = False
        self.is_unread = False
        """Whether the reader of the output has gone."""

    def __enter__(self) -> Self:
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
        with ExitStack() as stack:
            stack.callback(self._wake_pipe.close)
            watch_screen = Screen()
            stack.enter_context(redirect_stdout(Lines(self._show_line)))
            self.system = FlowSystem(self._store, flows=self._flows)
            stack.callback(self.system.close)
            if not self._verbosity.quiet:
                self._start_watching(stack, watch_screen)
            self._left = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        # First, so that what this records is shown as well.
        self.system.close()
        self._left.close()

    def _start_watching(self, stack: ExitStack, screen: Screen) -> None:
        reader = stack.enter_context(StoreReader.open(self._store))
        as_json = self._verbosity.as_json
        narrator = Narrator(screen, as_json=as_json, now=SystemClock().now())
        watch = LogWatch(
            reader,
            narrator,
            after=reader.position(),
            kinds=self._verbosity.kinds,
            sums_up=None if as_json else screen,
        )
        self.system.on_commit(self._wake_pipe.wake)
        thread = start_thread(lambda: self._watch(watch), "persistasaurus-watch", daemon=True)
        stack.callback(thread.join, _TIMEOUT_S)
        stack.callback(self._end)

    def _end(self) -> None:
        self._is_over = True
        self._wake_pipe.wake()

    def _watch(self, watch: LogWatch) -> None:
        """Show what is recorded, until all is shown and nothing more can come."""
        pace = Event()
        is_last = False
        while not is_last and not self.is_unread:
            self._wake_pipe.wait()
            is_last = self._is_over
            with self._guarded():
                watch.show_news()
                self._out.flush()
            pace.wait(0 if is_last else _PAUSE_S)

    def _show_line(self, line: str) -> None:
        with self._guarded():
            where = sys.stderr if self._verbosity.as_json else self._out
            where.write(f"{line}\n")
            where.flush()

    @contextmanager
    def _guarded(self) -> Generator[None]:
        """Write alone, and notice when the reader has gone."""
        with self._lock:
            try:
                yield
            except BrokenPipeError:
                give_up_output(self._out)
                is_first, self.is_unread = not self.is_unread, True
                if is_first:
                    self._on_unread()
