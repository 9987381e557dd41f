"""A file is opened: a store, an older one, a newer one, or none. The process may be killed meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from model.explorer import Guard, Model
from persistasaurus.store.sqlite import schema
from persistasaurus.store.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = 2
STATEMENTS = 2
NEWER = STEPS + 1
CRASHES = 2
# What a file is before: its version (None: somebody else's database).
FILES = (0, 1, STEPS, NEWER, None)


class State(NamedTuple):
    found: int | None = -1
    version: int | None = 0
    tables: tuple[int, ...] = ()
    """How many statements of each step are in the file; more than there are: one has run twice."""
    is_touched: bool = False
    is_in: bool = False
    """Within a transaction, which a crash takes back."""
    step: int = 0
    done: int = 0
    """The step that is being taken, and how many of its statements have run."""
    phase: str = "closed"
    saved: tuple[int | None, tuple[int, ...]] = (0, ())
    crashes: int = 0


class Migration(Model):
    guards: ClassVar[dict[str, Guard]] = {
        "transaction": Guard(
            "all steps are whole or none is", schema.migrate, "with transaction(connection)"
        ),
        "version within": Guard(
            "the version changes with the steps",
            schema.migrate,
            '        connection.pragma("user_version", len(steps))',
        ),
        "not newer": Guard("a newer store is refused", schema.check, "version > len(steps)"),
        "not foreign": Guard("what is no store is refused", schema.check, "application != APPLICATION_ID"),
        "check first": Guard(
            "nothing is written before the check",
            SqliteStore._connect,
            "version = schema.check(connection, steps)\n            has_leftovers",
        ),
        "from where it stands": Guard(
            "steps that were taken are not taken again",
            schema.migrate,
            "steps[version:]",
        ),
    }

    def initial(self) -> State:
        return State()

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        if state.found == -1:
            for version in FILES:
                steps = min(version or 0, STEPS)
                tables = (STATEMENTS,) * steps + (0,) * (STEPS - steps)
                yield f"a file of version {version}", State(found=version, version=version, tables=tables)
            return
        if state.phase == "closed":
            yield "it is opened", self._checked(state)
        elif state.phase == "migrating":
            yield from self._migrates(state)
        if state.phase in ("migrating", "opened") and state.crashes < CRASHES:
            version, tables = state.saved if state.is_in else (state.version, state.tables)
            yield (
                "the process is killed",
                state._replace(
                    version=version,
                    tables=tables,
                    is_in=False,
                    phase="closed",
                    step=0,
                    done=0,
                    crashes=state.crashes + 1,
                ),
            )

    def _checked(self, state: State) -> State:
        version = state.version
        touched = state._replace(is_touched=state.is_touched or not self._has["check first"])
        if version is None:
            if self._has["not foreign"]:
                return touched._replace(phase="refused")
            version = 0
        if version > STEPS and self._has["not newer"]:
            return touched._replace(phase="refused")
        # What it writes first, for every file that it takes: the mode of its log, the epoch.
        at = version if self._has["from where it stands"] else 0
        return touched._replace(phase="migrating", version=at, step=at, is_touched=True)

    def _migrates(self, state: State) -> Iterator[tuple[str, State]]:
        if (state.version or 0) >= STEPS:
            yield "it is open", state._replace(phase="opened")
        elif state.step < STEPS:
            begun = state
            if self._has["transaction"] and not state.is_in:
                begun = state._replace(is_in=True, saved=(state.version, state.tables))
            tables = list(begun.tables)
            tables[state.step] += 1
            done = state.done + 1
            step, done = (state.step + 1, 0) if done == STATEMENTS else (state.step, done)
            yield (
                f"a statement of step {state.step + 1}",
                begun._replace(tables=tuple(tables), step=step, done=done),
            )
        elif not self._has["version within"] and state.is_in:
            yield "the commit", state._replace(is_in=False)
        else:
            yield "the commit, and the version", state._replace(version=STEPS, is_in=False)

    def wrong(self, state: State) -> str | None:
        if state.is_touched and (state.found is None or state.found == NEWER):
            return "a file was written to that is not for this code"
        if any(count > STATEMENTS for count in state.tables):
            return "a statement has run twice"
        if state.phase == "opened" and state.tables != (STATEMENTS,) * STEPS:
            return "a store was opened that is not whole"
        return None

    def is_done(self, state: State) -> bool:
        return state.phase in ("opened", "refused")
