"""Threads that run actors, one of which blocks, and the watchdog that has others stand in for them.

There are as many as may work and never more for long, somebody looks as long as somebody works, and the one
that blocks keeps nobody from running, whenever its turn ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from model.explorer import Guard, Model
from persistasaurus.actors.runtime.dispatcher import Dispatcher
from persistasaurus.actors.runtime.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = 1
BLOCKS = "blocks"
ACTORS = (BLOCKS, "one", "other")
END = "end"


class Thread(NamedTuple):
    phase: str = "idle"
    """idle, asked and late (what it is at; only without a guard), noted, works, over (its work), gone."""
    work: str = ""
    has_stand_in: bool = False
    is_lost: bool = False

    @property
    def counts(self) -> bool:
        """Whether it is one of those that may work."""
        return self.phase != "gone" and not self.has_stand_in and not self.is_lost


class State(NamedTuple):
    unsent: tuple[str, ...] = ACTORS
    queue: tuple[str, ...] = ()
    threads: tuple[Thread, ...] = (Thread(),)
    handled: frozenset[str] = frozenset()
    watchdog: str = "asleep"
    """asleep, awake, looks, saw none (at work), dozes (is asleep, and is going to look once more)."""
    seen: tuple[int, ...] = ()
    """Of which threads the watchdog believes that they are held."""
    is_told: bool = True
    """It says that it is asleep."""


class StandIn(Model):
    guards: ClassVar[dict[str, Guard]] = {
        "note first": Guard(
            "a thread says what it is at before it asks whether anybody looks",
            Dispatcher._work_at,
            "post.turn += 1\n                if watchdog is not None and watchdog.is_asleep",
        ),
        "look again": Guard(
            "the watchdog looks once more when it says that it sleeps",
            Watchdog._look,
            "# Whoever began meanwhile may have taken it to be awake.\n        if any(",
        ),
        "still at it": Guard(
            "nobody stands in for a turn that is over",
            Dispatcher.stand_in,
            "post.is_lost or post.work is None",
        ),
        "not lost": Guard(
            "a thread whose turn is over is not lost",
            Dispatcher.lose,
            "post.work is None:\n                return",
        ),
        "take back": Guard(
            "who is through counts again",
            Dispatcher._work_at,
            "if post.has_stand_in:\n                    self._take",
        ),
        "surplus": Guard("one too many is told to end", Dispatcher._take_back, "self._queue.put(None)"),
        "lost ends": Guard(
            "a thread that was given up ends",
            Dispatcher._work_at,
            "if post.is_lost:\n                    return",
        ),
    }

    def initial(self) -> State:
        return State()

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        for actor in state.unsent:
            unsent = tuple(other for other in state.unsent if other != actor)
            yield f"{actor!r} is to run", state._replace(unsent=unsent, queue=(*state.queue, actor))
        for number, thread in enumerate(state.threads):
            move = self._thread(state, number, thread)
            if move is not None:
                yield f"thread {number} {move[0]}", move[1]
        yield from self._watch(state)

    # --------------------------------------------------------------------------------------- threads
    def _thread(self, state: State, number: int, thread: Thread) -> tuple[str, State] | None:
        move: tuple[str, State] | None = None
        match thread.phase:
            case "idle" if state.queue:
                move = self._take(state, number, thread)
            case "asked":
                asked = _with(state, number, thread._replace(phase="late"))
                move = "asks whether anybody looks", _woken(asked, is_needed=state.is_told)
            case "late":
                move = "notes what it is at", _with(state, number, thread._replace(phase="works"))
            case "noted":
                noted = _with(state, number, thread._replace(phase="works"))
                move = "asks whether anybody looks", _woken(noted, is_needed=state.is_told)
            case "works" if thread.work != BLOCKS or len(state.handled) == len(ACTORS) - 1:
                over = state._replace(handled=state.handled | {thread.work})
                move = "is through", _with(over, number, thread._replace(phase="over", work=""))
            case "over":
                move = "goes on", self._gone_on(state, number, thread)
            case _:
                pass
        return move

    def _take(self, state: State, number: int, thread: Thread) -> tuple[str, State]:
        first, *rest = state.queue
        taken = state._replace(queue=tuple(rest))
        if first == END:
            is_surplus = _counted(state) > WORKERS
            phase = "gone" if is_surplus else "idle"
            return "is told to end", _with(taken, number, thread._replace(phase=phase))
        phase = "noted" if self._has["note first"] else "asked"
        return f"takes {first!r}", _with(taken, number, thread._replace(phase=phase, work=first))

    def _gone_on(self, state: State, number: int, thread: Thread) -> State:
        phase = "gone" if thread.is_lost and self._has["lost ends"] else "idle"
        if not (thread.has_stand_in and self._has["take back"]):
            return _with(state, number, thread._replace(phase=phase))
        back = _with(state, number, thread._replace(phase=phase, has_stand_in=False))
        if _counted(back) > WORKERS and self._has["surplus"]:
            return back._replace(queue=(*back.queue, END))
        return back

    # -------------------------------------------------------------------------------------- watchdog
    def _watch(self, state: State) -> Iterator[tuple[str, State]]:
        at_work = tuple(
            n for n, t in enumerate(state.threads) if t.phase in ("noted", "works", "over") and t.work
        )
        match state.watchdog:
            case "awake":
                held = tuple(n for n in at_work if not state.threads[n].is_lost)
                yield "the watchdog looks", state._replace(watchdog="looks", seen=held)
            case "looks" if state.seen:
                number, *rest = state.seen
                seen = state._replace(seen=tuple(rest))
                yield f"somebody stands in for {number}", self._stood_in(seen, number)
                yield f"{number} is lost", self._lost(self._stood_in(seen, number), number)
                yield f"{number} was found elsewhere", seen
            case "looks":
                yield (
                    "the watchdog sees who works",
                    state._replace(watchdog="awake" if at_work else "saw none"),
                )
            case "saw none":
                yield "the watchdog falls asleep", state._replace(watchdog="dozes", is_told=True)
            case "dozes":
                is_needed = bool(at_work) and self._has["look again"]
                asleep = state._replace(watchdog="asleep")
                yield "the watchdog looks once more", _woken(asleep, is_needed=is_needed)
            case _:
                pass

    def _stood_in(self, state: State, number: int) -> State:
        thread = state.threads[number]
        if thread.is_lost or (thread.phase in ("idle", "over", "gone") and self._has["still at it"]):
            return state
        if not thread.has_stand_in:
            state = _with(state, number, thread._replace(has_stand_in=True))
        if _counted(state) < WORKERS:
            return state._replace(threads=(*state.threads, Thread()))
        return state

    def _lost(self, state: State, number: int) -> State:
        thread = state.threads[number]
        is_over = thread.phase in ("idle", "over", "gone")
        if self._has["not lost"] and (not thread.has_stand_in or is_over):
            return state
        return _with(state, number, thread._replace(is_lost=True))

    # ---------------------------------------------------------------------------------------- judging
    def wrong(self, state: State) -> str | None:
        works = any(thread.phase == "works" for thread in state.threads)
        if works and state.watchdog == "asleep":
            return "somebody works, and nobody looks"
        able = sum(thread.phase == "idle" or thread.counts for thread in state.threads)
        is_in_between = any(thread.phase == "over" for thread in state.threads)
        if able - state.queue.count(END) > WORKERS and not is_in_between:
            return "more threads than may"
        return None

    def is_done(self, state: State) -> bool:
        is_quiet = all(thread.phase in ("idle", "gone") for thread in state.threads)
        return (
            is_quiet and len(state.handled) == len(ACTORS) and _counted(state) == WORKERS and not state.queue
        )


def _counted(state: State) -> int:
    return sum(thread.counts for thread in state.threads)


def _with(state: State, number: int, thread: Thread) -> State:
    return state._replace(threads=tuple(thread if n == number else t for n, t in enumerate(state.threads)))


def _woken(state: State, *, is_needed: bool) -> State:
    """Wake the watchdog, which does nothing when it is awake."""
    if not is_needed or state.watchdog != "asleep":
        return state
    return state._replace(watchdog="awake", is_told=False)
