"""Carriers, of which one may take from the queue, work that holds them, and a watchman.

Whatever holds a carrier waits for what others do, as a step does that wants a lock which its caller holds
while it waits for another flow. So nothing gets on unless somebody takes over. And in the end all threads
are gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from model.explorer import Guard, Model
from persistasaurus.actors.runtime.carriers import Carriers
from persistasaurus.actors.runtime.watchman import Watchman

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = 1
SPARE_MAX = 1
BLOCKS, WAITS = "blocks", "waits"
"""One that holds its carrier unseen, and one that says that it waits."""
ACTORS = (BLOCKS, WAITS, "other")
END = "end"


class Thread(NamedTuple):
    phase: str = "idle"
    """idle, asked and late (what it is at; only without a guard), noted, works, waits (and says so),
    over (its work), comes back, aside, gone."""
    work: str = ""
    is_relieved: bool = False
    is_lost: bool = False


class State(NamedTuple):
    unsent: tuple[str, ...] = ACTORS
    queue: tuple[str, ...] = ()
    threads: tuple[Thread, ...] = (Thread(),)
    handled: frozenset[str] = frozenset()
    refusals: int = 1
    """How often the machine grants no thread."""
    is_short: bool = False
    is_closed: bool = False
    watchman: str = "asleep"
    """asleep, awake, looks, relieves (holds the lock), saw none (at work), dozes (is asleep, and is going to
    look once more), ended."""
    seen: tuple[int, ...] = ()
    """Which threads it believes to be stuck."""
    is_told: bool = True
    """It says that it is asleep."""

    @property
    def is_idle(self) -> bool:
        return self.is_closed and len(self.handled) == len(ACTORS)


class Relief(Model):
    guards: ClassVar[dict[str, Guard]] = {
        "note first": Guard(
            "a carrier says what it is at before it asks whether anybody looks",
            Carriers._work_as,
            "carrier.turn += 1\n                for looker in lookers",
        ),
        "look again": Guard(
            "the watchman looks once more when it says that it sleeps",
            Watchman._keep_watch,
            "# Whoever began meanwhile may have taken this to be awake.\n            if any(",
        ),
        "still at it": Guard(
            "nobody is relieved of a turn that is over",
            Carriers.relieve,
            "post.is_relieved = True\n                if post.work is None:",
        ),
        "not lost": Guard(
            "only a carrier that was relieved is lost", Carriers.lose, "or not post.is_relieved or"
        ),
        "comes back": Guard(
            "who is through counts again",
            Carriers._work_as,
            "if carrier.is_relieved and not self._comes_back(carrier)",
        ),
        "steps aside": Guard(
            "one too many does not take from the queue", Carriers._comes_back, "self._spare.append(carrier)"
        ),
        "lost ends": Guard("a carrier that was given up ends", Carriers._comes_back, "if carrier.is_lost:\n"),
        "ask again": Guard(
            "a thread that was refused is asked for again",
            Watchman._watch_until_quiet,
            "if is_short:\n                self._host.ask_again()",
        ),
        "one is told": Guard(
            "who takes from the queue is told to end", Carriers.retire_if_idle, "self._queue.put(None)"
        ),
        "tells the next": Guard(
            "who ends tells the next to end", Carriers._may_retire, "self._queue.put(None)"
        ),
        "spare ones are told": Guard(
            "who has stepped aside is told to end", Carriers.retire_if_idle, "carrier.wake_flag.release()"
        ),
        "late ones end": Guard(
            "nobody steps aside when all is over",
            Carriers._comes_back,
            "if self._is_idle() or len(self._spare)",
        ),
        "rung": Guard("the watchman is woken to end", Watchman.close, "self.wake()"),
    }

    def initial(self) -> State:
        return State()

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        for actor in state.unsent:
            unsent = tuple(other for other in state.unsent if other != actor)
            yield f"{actor!r} is to run", state._replace(unsent=unsent, queue=(*state.queue, actor))
        for number, thread in enumerate(state.threads):
            for name, following in self._thread(state, number, thread):
                yield f"carrier {number} {name}", following
        yield from self._watch(state)
        if not state.unsent and not state.is_closed and state.watchman != "relieves":
            yield "it is closed", self._retired(state._replace(is_closed=True))

    # --------------------------------------------------------------------------------------- threads
    def _thread(self, state: State, number: int, thread: Thread) -> Iterator[tuple[str, State]]:  # noqa: C901 - a case a phase
        def now(phase: str, work: str = thread.work) -> State:
            return _with(state, number, thread._replace(phase=phase, work=work))

        others = len(state.handled - {BLOCKS, WAITS})
        is_locked = state.watchman == "relieves"
        match thread.phase:
            case "idle" if state.queue:
                yield from self._take(state, number, thread, is_locked=is_locked)
            case "asked":
                yield "asks whether anybody looks", _woken(now("late"), is_needed=state.is_told)
            case "late":
                yield "notes what it is at", now("works")
            case "noted":
                yield "asks whether anybody looks", _woken(now("works"), is_needed=state.is_told)
            case "works" if thread.work == WAITS and not is_locked:
                yield (
                    "waits",
                    self._filled(
                        _with(now("waits"), number, thread._replace(phase="waits", is_relieved=True))
                    ),
                )
            case "works" | "waits" if thread.work in (BLOCKS, WAITS) and others:
                if thread.phase == "waits" or thread.work == BLOCKS:
                    yield "is through", self._through(state, number, thread)
            case "works" if thread.work not in (BLOCKS, WAITS):
                yield "is through", self._through(state, number, thread)
            case "over":
                comes_back = thread.is_relieved and self._has["comes back"]
                yield "looks whether it was relieved", now("comes back" if comes_back else "idle")
            case "comes back" if not is_locked:
                yield "comes back", self._come_back(state, number, thread)
            case _:
                pass

    def _take(
        self, state: State, number: int, thread: Thread, *, is_locked: bool
    ) -> Iterator[tuple[str, State]]:
        first, *rest = state.queue
        taken = state._replace(queue=tuple(rest))
        if first != END:
            phase = "noted" if self._has["note first"] else "asked"
            yield f"takes {first!r}", _with(taken, number, thread._replace(phase=phase, work=first))
        elif not is_locked:
            passed_on = state if self._has["tells the next"] else taken
            yield "ends", _with(passed_on, number, thread._replace(phase="gone"))

    def _through(self, state: State, number: int, thread: Thread) -> State:
        """Note that the actor has ended, which may be the last one; then its carrier has no work."""
        over = state._replace(handled=state.handled | {thread.work})
        return _with(self._retired(over), number, thread._replace(phase="over", work=""))

    def _come_back(self, state: State, number: int, thread: Thread) -> State:
        if not thread.is_relieved:
            return _with(state, number, thread._replace(phase="idle"))
        if thread.is_lost and self._has["lost ends"]:
            return _with(state, number, thread._replace(phase="gone"))
        back = _with(state, number, thread._replace(phase="idle", is_relieved=False))
        is_surplus = _taking(back) > WORKERS and self._has["steps aside"]
        spare = sum(one.phase == "aside" for one in state.threads)
        if not is_surplus:
            return back
        is_over = state.is_idle and self._has["late ones end"]
        return _with(back, number, Thread("gone" if is_over or spare >= SPARE_MAX else "aside"))

    def _retired(self, state: State) -> State:
        """Tell all to end, if there is nothing more to do."""
        if not state.is_idle:
            return state
        told = Thread("gone") if self._has["spare ones are told"] else Thread("aside")
        threads = tuple(told if t.phase == "aside" else t for t in state.threads)
        queue = (*state.queue, *(END,) * self._has["one is told"])
        return state._replace(threads=threads, queue=queue)

    # -------------------------------------------------------------------------------------- watchman
    def _watch(self, state: State) -> Iterator[tuple[str, State]]:  # noqa: C901 - a case a phase
        stuck = tuple(n for n, t in enumerate(state.threads) if _is_stuck(t))
        match state.watchman:
            case "awake" if _has_ended(state):
                yield "the watchman ends", state._replace(watchman="ended")
            case "asleep" if _has_ended(state) and self._has["rung"]:
                yield "the watchman is woken to end", state._replace(watchman="ended")
            case "awake":
                if state.is_short and self._has["ask again"]:
                    yield "the watchman asks again", self._filled(state._replace(is_short=False))
                yield "the watchman looks", state._replace(watchman="looks", seen=stuck)
            case "looks" if state.seen:
                yield from self._look_at(state, *state.seen)
            case "relieves":
                yield from self._relieve(state, *state.seen)
            case "looks" if stuck or state.is_short:
                yield "the watchman has seen who works", state._replace(watchman="awake")
            case "looks":
                yield "the watchman has seen nobody", state._replace(watchman="saw none")
            case "saw none":
                yield "the watchman falls asleep", state._replace(watchman="dozes", is_told=True)
            case "dozes":
                is_needed = bool(stuck) and self._has["look again"]
                asleep = state._replace(watchman="asleep")
                yield "the watchman looks once more", _woken(asleep, is_needed=is_needed)
            case _:
                pass

    def _look_at(self, state: State, number: int, *rest: int) -> Iterator[tuple[str, State]]:
        thread = state.threads[number]
        passed = state._replace(seen=rest)
        yield f"{number} gets on, or was relieved", passed
        if not (thread.is_lost or thread.is_relieved):
            shown = _with(state, number, thread._replace(is_relieved=True))
            yield f"{number} is to be relieved", shown._replace(watchman="relieves")
        # The watchdog does so, much later, with a look of its own.
        if thread.is_relieved or not self._has["not lost"]:
            yield f"{number} is lost", _with(passed, number, thread._replace(is_lost=True))

    def _relieve(self, state: State, number: int, *rest: int) -> Iterator[tuple[str, State]]:
        thread = state.threads[number]
        after = state._replace(watchman="looks", seen=rest)
        if thread.work or not self._has["still at it"]:
            yield f"{number} is relieved", self._filled(after)
        else:
            yield f"{number} was through", _with(after, number, thread._replace(is_relieved=False))

    def _filled(self, state: State) -> State:
        """Have as many take from the queue as may: a spare one, a new one, or none if the machine refuses."""
        if _taking(state) >= WORKERS:
            return state
        aside = [number for number, thread in enumerate(state.threads) if thread.phase == "aside"]
        if aside:
            return _with(state, aside[0], Thread())
        if state.refusals:
            return state._replace(refusals=state.refusals - 1, is_short=True)
        return state._replace(threads=(*state.threads, Thread()), is_short=False)

    # ---------------------------------------------------------------------------------------- judging
    def wrong(self, state: State) -> str | None:
        works = any(t.phase == "works" and not t.is_relieved for t in state.threads)
        if works and state.watchman in ("asleep", "ended"):
            return "somebody works, and nobody looks"
        able = sum(t.phase == "idle" or _counts(t) for t in state.threads)
        if able > WORKERS and state.watchman != "relieves":
            return "more carriers than may take from the queue"
        return None

    def is_done(self, state: State) -> bool:
        return state.is_idle and _has_ended(state) and state.watchman == "ended"


def _has_ended(state: State) -> bool:
    return state.is_idle and all(thread.phase == "gone" for thread in state.threads)


def _counts(thread: Thread) -> bool:
    return thread.phase not in ("gone", "aside") and not (thread.is_relieved or thread.is_lost)


def _is_stuck(thread: Thread) -> bool:
    return thread.phase in ("noted", "works") and not (thread.is_relieved or thread.is_lost)


def _taking(state: State) -> int:
    return sum(map(_counts, state.threads))


def _with(state: State, number: int, thread: Thread) -> State:
    return state._replace(threads=tuple(thread if n == number else t for n, t in enumerate(state.threads)))


def _woken(state: State, *, is_needed: bool) -> State:
    """Wake the watchman, which does nothing when it is awake."""
    if not is_needed or state.watchman != "asleep":
        return state
    return state._replace(watchman="awake", is_told=False)
