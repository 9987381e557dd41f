"""The demo of the sign-up: what happens is shown as it happens, and a person makes it go on."""

from __future__ import annotations

import os
import selectors
import sys
from contextlib import ExitStack, redirect_stdout
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.markup import escape
from rich.text import Text

from ...actors import FlowSystem
from ...actors.handle import from_microseconds
from ...actors.remote.client import Postbox
from ...actors.runtime.seam import Event, QueueEmpty, SimpleQueue, SystemClock
from ...flows import events
from ...flows.errors import PersistasaurusError
from ...flows.examples import SignupFlow, signup_flow
from ..cli.output.lines import Lines
from ..cli.output.phrases import phrase_of
from ..cli.output.screen import output_console
from ..cli.wake_pipe import Bell
from .place import WatchedStore

if TYPE_CHECKING:
    from datetime import timedelta

    from ...actors import FlowHandle
    from .place import Place

__all__ = ["run"]

_DONE, _FAILED, _WAITS = 0, 1, 4
_STEP_S = 0.2
_LOOK_S, _LOOKS = 0.02, 100
_MICROSECONDS = 1_000_000
_END = events.FlowCompleted | events.FlowFailed | events.Parked


class Feed:
    """What other threads have to tell, for a thread that selects."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[str | events.AnyEvent] = SimpleQueue()
        self._bell = Bell()

    def put(self, item: str | events.AnyEvent) -> None:
        """Tell, from any thread."""
        self._queue.put(item)
        self._bell.ring()

    def take(self) -> list[str | events.AnyEvent]:
        """Take all that was told."""
        self._bell.still()
        taken: list[str | events.AnyEvent] = []
        while True:
            try:
                taken.append(self._queue.get_nowait())
            except QueueEmpty:
                return taken

    def fileno(self) -> int:
        """Return what to select on."""
        return self._bell.fileno()

    def close(self) -> None:
        """Close the bell; nobody is to tell anything any more."""
        self._bell.close()


class Story:
    """How far the sign-up has come, from its events."""

    def __init__(self) -> None:
        self.due: int | None = None
        self.is_awaiting = False
        self.end: events.AnyEvent | None = None

    def hear(self, event: events.AnyEvent) -> None:
        """Take the next event in."""
        match event:
            case events.StepScheduled():
                self.due = event.due
            case events.StepAttempted():
                self.due = None
            case events.SignalAwaited():
                self.is_awaiting = True
            case events.SignalReceived() | events.StepStarted():
                self.is_awaiting = False
            case events.FlowCompleted() | events.FlowFailed() | events.Parked():
                self.end = event
            case _:
                pass


class SignupDemo:
    """One run of the demo: a loop over what the flow, the keyboard and other terminals have to say."""

    def __init__(self, place: Place, flow_id: str, *, wait: bool) -> None:
        self._place = place
        self._flow_id = flow_id
        self._wait = wait
        self._out = output_console()
        self._story = Story()
        self._feed = Feed()
        self._clock = SystemClock()
        self._selector = selectors.PollSelector()
        self._selector.register(self._feed, selectors.EVENT_READ, self._show_news)
        self._reads_keys = False
        self._has_asked = False

    def run(self, delay: timedelta) -> int:
        """Run until the flow has ended, or needs a person whom nobody waits for."""
        self._out.print(f"Store: {self._place}", markup=False, style="dim")
        with ExitStack() as stack:
            stack.callback(self._feed.close)
            store = WatchedStore.at(self._place.store)
            self._recall(store)
            store.on_event = self._hear
            stack.enter_context(redirect_stdout(Lines(self._feed.put)))
            flow = signup_flow(delay)
            system = stack.enter_context(FlowSystem(store=store, flows=[flow]))
            self._handle: FlowHandle[Any] = system.start(
                flow.sign_up, "Ada", "ada@example.com", flow_id=self._flow_id
            )
            self._await_requests(store)
            # Its own redirection would take the place of ours, and let a step fail for want of a reader.
            live = Live(console=self._out, transient=True, redirect_stdout=False, redirect_stderr=False)
            stack.callback(live.stop)
            return self._loop(live)

    def _recall(self, store: WatchedStore) -> None:
        """Show what is on record from an earlier run."""
        known = store.history(self._flow_id)
        for event in known:
            self._story.hear(event)
            self._print_event(event, "on record")
        if known:
            self._out.print(f"[bold]Going on with {self._flow_id!r}[/] where its record ends.")

    def _await_requests(self, store: WatchedStore) -> None:
        """Have taken what was left for this flow while nothing ran: it may be confirmed already."""
        nobody = Event()
        with Postbox(self._place.store) as postbox:
            for _ in range(_LOOKS):
                if not self._story.is_awaiting or not postbox.waiting():
                    break
                nobody.wait(_LOOK_S)
        known = store.history(self._flow_id)
        if store.inbox(self._flow_id) or any(isinstance(e, events.SignalReceived) for e in known):
            self._story.is_awaiting = False

    def _hear(self, flow_id: str, event: events.AnyEvent) -> None:
        if flow_id == self._flow_id:
            self._feed.put(event)

    # ------------------------------------------------------------------------------------- the loop
    def _loop(self, live: Live) -> int:
        while self._story.end is None:
            if self._story.is_awaiting and not self._has_asked:
                self._has_asked = True
                if not self._wait:
                    return self._leave()
                self._ask()
            for key, _ in self._selector.select(self._count_down(live)):
                key.data()
        return self._finish(self._story.end)

    def _count_down(self, live: Live) -> float | None:
        """Show on a terminal what is left of the delay; return when to look again."""
        due = self._story.due
        if due is None or not self._out.is_terminal:
            live.stop()
            return None
        left = max(0.0, (due - self._clock.now()) / _MICROSECONDS)
        live.update(Text(f"The e-mail goes out in {left:.0f} s. Ctrl-C, and it waits for the next run."))
        live.start()
        return _STEP_S

    def _show_news(self) -> None:
        for item in self._feed.take():
            if isinstance(item, str):
                self._out.print(f"  {item}", markup=False, style="bold")
            else:
                self._story.hear(item)
                self._print_event(item, "recorded")

    def _print_event(self, event: events.AnyEvent, when: str) -> None:
        self._out.print(f"[dim]{when:>9}[/]  [cyan]{escape(str(phrase_of(event)))}[/]")

    # ----------------------------------------------------------------------------- the confirmation
    def _ask(self) -> None:
        if sys.stdin.isatty():
            self._reads_keys = True
            self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._read_keys)
            self._out.print("[bold]Did the e-mail arrive?[/] Press Enter to confirm, or in another terminal:")
        else:
            self._out.print("Nobody is at this terminal. To confirm, in another one:")
        self._out.print(f"  {self._place.command('confirm', self._flow_id)}", markup=False)

    def _read_keys(self) -> None:
        typed = os.read(sys.stdin.fileno(), 4096)
        if not typed:
            self._selector.unregister(sys.stdin.fileno())
            self._out.print("No more input here: waiting for the other terminal.")
        elif typed.strip().lower() in (b"", b"y", b"yes"):
            self._confirm()
        else:
            self._out.print("Press Enter, or type y, to confirm; Ctrl-C to leave.")

    def _confirm(self) -> None:
        """Send the signal. It is durable when this returns, unless it says why not."""
        now = from_microseconds(self._clock.now())
        try:
            self._handle.signal(SignupFlow.confirm_email_address, now)
        except PersistasaurusError as error:
            self._out.print(str(error), markup=False)

    # ---------------------------------------------------------------------------------- the outcome
    def _finish(self, end: events.AnyEvent) -> int:
        self._show_news()
        if isinstance(end, events.FlowCompleted):
            self._out.print(f"[bold green]Signed up.[/] The user's id is {self._handle.result()}.")
            return _DONE
        self._place.is_kept = True
        self._out.print(f"The sign-up needs help: {phrase_of(end)}", markup=False)
        return _FAILED

    def _leave(self) -> int:
        self._show_news()
        self.tell_how_to_go_on()
        return _WAITS

    def tell_how_to_go_on(self) -> None:
        """Say that nothing is lost, and what to type."""
        self._place.is_kept = True
        self._out.print("The sign-up waits, also while nothing runs. Confirm it, or go on with it:")
        self._out.print(f"  {self._place.command('confirm', self._flow_id)}", markup=False)
        again = ("signup",) if self._flow_id == "signup-ada" else ("signup", "--flow-id", self._flow_id)
        self._out.print(f"  {self._place.command(*again)}", markup=False)


def run(place: Place, delay: timedelta, flow_id: str, *, wait: bool) -> int:
    """Run the demo; see `persistasaurus demo signup --help`.

    Raises:
        StoreError: the store cannot be used.
        PersistasaurusError: the flow's id belongs to another flow.
        KeyboardInterrupt: somebody pressed Ctrl-C; how to go on was told.
    """
    demo = SignupDemo(place, flow_id, wait=wait)
    try:
        return demo.run(delay)
    except KeyboardInterrupt:
        demo.tell_how_to_go_on()
        raise
