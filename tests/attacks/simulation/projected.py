"""Runs of accounts with a projection, whose process dies and whose file fails between any two steps."""

from __future__ import annotations

from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import mock

import msgspec
from persistasaurus import Projection
from persistasaurus.actors import SupervisorRules
from persistasaurus.actors.flows.active_flow import RestartRules
from persistasaurus.actors.projections import projector
from persistasaurus.actors.projections.projector import RebuildProjection
from persistasaurus.actors.runtime.futures import Reply
from persistasaurus.actors.testing.schedule import ProcessDied
from persistasaurus.store import StoreHalted
from persistasaurus.store.sqlite.projection_file import ProjectionFile
from persistasaurus.store.sqlite.projection_place import MemoryPlace, ProjectionPlaces
from simulation.accounts import accounts_of
from simulation.campaign import PACES, Failure
from simulation.disturbance import plan_of
from simulation.reference_flows import Account
from simulation.run import Run, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persistasaurus import FlowSystem, ProjectionDatabase
    from simulation.reference_flows import Deposited

LATE_S = 60.0
REPLAY = "PERSISTASAURUS_SEED={} pytest tests/attacks/simulation/test_projections.py -k one_seed"


class Totals(Projection, name="totals", of=Account):
    """Each event that it was given, in order, and their sum."""

    schema = """
    CREATE TABLE entry (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, key TEXT, amount INT);
    CREATE TABLE total (id TEXT PRIMARY KEY, amount INT);
    """
    run: ClassVar[ProjectedRun]

    def on(self, db: ProjectionDatabase, at: Any, stream: str, event: Deposited) -> None:
        del at
        db.execute("INSERT INTO entry (id, key, amount) VALUES (?, ?, ?)", (stream, event.key, event.amount))
        self.run.perhaps_fail()
        db.execute(
            "INSERT INTO total VALUES (?, ?) ON CONFLICT DO UPDATE SET amount = amount + excluded.amount",
            (stream, event.amount),
        )


class ProjectedRun(Run):
    """A run whose clients are those of accounts, and whose projection is judged as well."""

    def __init__(self, seed: int) -> None:
        rng = Random(f"projected {seed}")
        self._chance = Random(f"projected chance {seed}")
        self.troubles = rng.choice((0, 3, 10))
        self.places = ProjectionPlaces(None)
        self.shown = 0
        # Never parked: there are fewer troubles than that.
        rules = SupervisorRules(restart=RestartRules(max_restarts=100, maximum_s=1.0))
        super().__init__(
            accounts_of(rng),
            seed,
            plan=plan_of(rng),
            pace=rng.choice(PACES),
            rules=rules,
            projections=[Totals],
            projection_places=self.places,
        )
        self.simulation.on_boot.append(self._begin)

    def play(self) -> None:
        Totals.run = self
        with self._failing_files(), mock.patch.object(projector, "_PAGE", self._chance.choice((1, 3, 500))):
            super().play()

    def perhaps_fail(self) -> None:
        """Raise, or die, within a transaction."""
        match self._trouble():
            case 0:
                raise ValueError("not today")
            case 1:
                raise StoreHalted("the file is gone for a while")
            case 2:
                self._die()
            case _:
                pass

    def _trouble(self) -> int | None:
        if not self.troubles or self._chance.random() >= 0.15:
            return None
        self.troubles -= 1
        return self._chance.randrange(3)

    def _die(self) -> None:
        self.simulation.kill()
        raise ProcessDied

    @contextmanager
    def _failing_files(self) -> Iterator[None]:
        """Have each transaction of a file fail, or the process die, before or after it."""
        written, replace = ProjectionFile._written, ProjectionFile.replace_by

        @contextmanager
        def troubled(file: ProjectionFile) -> Iterator[None]:
            self._before_or_after()
            with written(file):
                yield
            self._before_or_after()

        def replaced(file: ProjectionFile, draft: ProjectionFile) -> None:
            self._before_or_after()
            replace(file, draft)
            self._before_or_after()

        with (
            mock.patch.object(ProjectionFile, "_written", troubled),
            mock.patch.object(ProjectionFile, "replace_by", replaced),
        ):
            yield

    def _before_or_after(self) -> None:
        match self._trouble():
            case None:
                pass
            case 2:
                self._die()
            case _:
                raise StoreHalted("the outcome is unknown")

    def _begin(self, system: FlowSystem) -> None:
        self._judge_prefix()
        if self.troubles and self._chance.random() < 0.3:
            system.projection(Totals)._tell(RebuildProjection(Reply()))

    def _settle(self) -> None:
        self.troubles = 0
        super()._settle()
        handle = self.simulation.system.projection(Totals)
        end = self.simulation.system.store.position()
        began = self.simulation.clock.elapsed()
        # At some paces, turns come seconds late.
        while handle.position < end and self.simulation.clock.elapsed() < began + LATE_S:
            self._step()
            self.check()
        self.must(
            (handle.status, handle.position) == ("following", end),
            f"the projection is {handle.status} at {handle.position}, the store at {end}: {handle.reason}",
        )
        entries = self._judge_prefix()
        expected = self._expected()
        self.must(entries == expected, f"the projection has {entries}, and not {expected}")

    def check(self) -> None:
        """Find that readers never see less than before."""
        position = self._shown()
        self.must(position >= self.shown, f"readers saw position {self.shown}, and see {position} now")
        self.shown = position
        super().check()

    def _shown(self) -> int:
        place = self.places.of("totals")
        if not (isinstance(place, MemoryPlace) and place.exists()):
            return 0
        return place._anchor.execute("SELECT position FROM persistasaurus_projection").fetchall()[0][0]

    def _judge_prefix(self) -> list[tuple[Any, ...]]:
        """Find in the file the first events in their order, each once, and their sums."""
        place = self.places.of("totals")
        if not place.exists():
            return []
        connection = place.connect_reader()
        try:
            found = connection.execute("SELECT id, key, amount FROM entry ORDER BY number").fetchall()
            totals = dict(connection.execute("SELECT id, amount FROM total").fetchall())
            ((position,),) = connection.execute("SELECT position FROM persistasaurus_projection").fetchall()
        finally:
            connection.close()
        sums: dict[str, int] = {}
        for stream, _, amount in found:
            sums[stream] = sums.get(stream, 0) + amount
        expected = self._expected(position)
        self.must(found == expected, f"at {position} the projection has {found}, and not {expected}")
        self.must(totals == sums, f"its totals are {totals}, and not {sums}")
        return found

    def _expected(self, position: int | None = None) -> list[tuple[Any, ...]]:
        if self._memory is None:
            return []
        events = [
            (found.stream, msgspec.json.decode(found.record.data))
            for found in self._memory.read_all(limit=100_000)
            if position is None or found.position <= position
        ]
        return [(stream, event["key"], event["amount"]) for stream, event in events]


def play_projected(seed: int) -> Failure | None:
    """Play one run; None: nothing was wrong."""
    run = ProjectedRun(seed)
    try:
        run.play()
    except Violation as violation:
        return Failure(seed, str(violation), str(run.disturbance.plan))
    return None
