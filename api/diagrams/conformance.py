"""Whether a recorded execution is a path through a diagram, and if not, where it leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .grammar import ExpectedMessage, ExpectedNote, Skip
from .items import Block, Item, Message, Move, Note, Role
from .parser import Specification, parse
from .paths import Leaf, Paths, Position
from .phrases import drawn, says
from .scenario import scenario_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

    from .timeline import Drawable

_EXPECTED_MAX = 5
_CONTEXT = 2


def assert_matches_diagram(run: Drawable, path: str | PathLike[str], *, partial: bool = False) -> None:
    """Assert that a recorded execution is a path through a Mermaid `sequenceDiagram`, to its last line.

    The participants are `Client`, `Supervisor`, `Journal`, `Store`, `Step`, and one more, which is the flow
    and has its name. Messages between participants that the diagram does not have are ignored, so a diagram
    may be as coarse or as fine as you like:

    - `Client->>Supervisor: start`, `Supervisor->>SignupFlow: start`, and without a supervisor
      `Client->>SignupFlow: start`; likewise `pause`, `resume` and `retry`. The answers are
      `SignupFlow-->>Client: accepted`, `paused`, `resumed` and `repaired`.
    - `Client->>Journal: signal confirm`, `Journal-->>Client: receipt`, and then
      `Supervisor->>SignupFlow: signal confirm`; without a journal the client signals the flow, and the flow
      gives the receipt.
    - `SignupFlow->>Journal: record step started: send_mail`, for each event: flow started, completed, failed;
      step started, scheduled, attempted, completed, failed, interrupted; signal NAME awaited, received;
      sleep set, over; paused, resumed, parked, repaired. What was decided together is recorded together,
      followed by one `Journal-->>SignupFlow: durable`; before that, if there is a store,
      `Journal->>Store: commit` and `Store-->>Journal: committed`.
    - `SignupFlow->>Step: send_mail`, `Step-->>SignupFlow: returns`, `Step-->>SignupFlow: raises ValueError`.
    - `SignupFlow-->>Supervisor: result`, `Supervisor-->>Client: result`, or `fails with ValueError`.

    Details are optional: the number (`step 1: send_mail`, `record step 1 started`), arguments
    (`send_mail(user_id)` or `send_mail(user_id=7)`), values (`returns 7`, `result 7`), attempts
    (`send_mail (attempt 2)`). `...` stands for anything. Whatever `draw` writes is valid.

    Notes over the flow count when they begin with `waits 10 s before step`, `waits for signal NAME`,
    `wait before step ... is over`, `sleeps`, `sleep ... is over`, `signal NAME has come early`,
    `keeps signal`, `parked`, `what the code did since`, `shutdown`, `the process died` or `the system was
    closed`. The diagram may omit such a note, but one that it has must have been recorded. All other notes,
    messages of a participant to itself, `activate`, `rect`, `title` and comments are ignored. A diagram whose
    first line is a note that counts begins there: what was recorded before is not compared.

    `alt` is one of its branches, or, without `else`, none; `opt` is there or not; `par` is any interleaving.
    `loop 5 times`, `loop 2 to 4 times` and `loop at least once` mean that; any other loop is any number of
    times.

    A diagram without restarts (no `recover`, none of the last three notes) matches whether or not there were
    any: attempts in doubt and interruptions are then ignored. `Journal-->>SignupFlow: recorded result` is a
    replay, which leaves no event: a branch with it is never the one that was recorded.

    `partial`: the run need not have reached the diagram's end. Otherwise it must have, be that the flow's end
    or a wait.

    Raises:
        AssertionError: it is not such a path; the message shows the expected lines, and what was recorded.
        DiagramError: the diagram cannot be read as a specification; the message names the line.
        OSError: the file cannot be read.
    """
    __tracebackhide__ = True
    difference = mismatch(Path(path).read_text(encoding="utf-8"), run, partial=partial)
    if difference is not None:
        raise AssertionError(f"the run does not follow {Path(path).name}. {difference}")


def mismatch(diagram: str, run: Drawable, *, partial: bool = False) -> str | None:
    """Return how an execution differs from a diagram; None: it is a path through it.

    `partial`: it need not have reached the diagram's end.

    Raises:
        DiagramError: the diagram cannot be read as a specification.
    """
    specification = parse(diagram)
    scenario = scenario_of(
        run, set(specification.roles.values()), with_restarts=specification.tells_of_restarts
    )
    if None not in (scenario.flow, specification.flow) and scenario.flow != specification.flow:
        return f"The diagram is about {specification.flow}, and the run is one of {scenario.flow}."
    return _Comparison(specification, list(_moves(scenario.items))).difference(partial=partial)


def _moves(items: Sequence[Item]) -> Iterator[Move]:
    """Yield what has been recorded, without remarks and replays."""
    for item in items:
        if isinstance(item, Block):
            for branch in item.branches:
                yield from _moves(branch.items)
        elif isinstance(item, Note) or (isinstance(item, Message) and not item.is_replay):
            yield item


class _Stop(NamedTuple):
    """Where a run could not continue: the places in the diagram, and the number of the move."""

    places: set[Position]
    at: int


class _Whereabouts(NamedTuple):
    """Where in the diagram the run may be; `likely` are the places that matched the notes, too."""

    places: set[Position]
    likely: set[Position]

    @classmethod
    def at(cls, places: set[Position]) -> _Whereabouts:
        return cls(places, places)

    def or_at(self, place: Position) -> _Whereabouts:
        return _Whereabouts(self.places | {place}, self.likely | {place})


class _Comparison:
    def __init__(self, specification: Specification, moves: list[Move]) -> None:
        self._specification = specification
        self._moves = moves
        self._paths = Paths(specification.sequence)

    def difference(self, *, partial: bool) -> str | None:
        opening = self._specification.opening
        here = _Whereabouts.at(set() if opening else {self._paths.start})
        stop: _Stop | None = None
        for number, move in enumerate(self._moves):
            if opening is not None and self._fits(opening, move):
                here = here.or_at(self._paths.start)
            before, here = here, self._follow(here, move)
            if before.places and not here.places:
                stop = _Stop(before.likely, number)
                if opening is None:
                    break
        if here.places:
            if partial or self._paths.ahead(here.places).may_end:
                return None
            expected = self._expected(here.likely)
            return f"The run ends, or has come no further yet, and the diagram continues:\n{expected}"
        return self._never_began() if stop is None else self._left(stop)

    def _follow(self, here: _Whereabouts, move: Move) -> _Whereabouts:
        following = self._paths.step(here.places, lambda leaf: self._fits(leaf, move))
        if not isinstance(move, Note):
            return _Whereabouts.at(following)
        # A note that has been recorded need not be in the diagram.
        return _Whereabouts(following | here.places, following or here.likely)

    # ------------------------------------------------------------------------------------- one by one
    def _fits(self, leaf: Leaf, move: Move) -> bool:
        match leaf, move:
            case Skip(), Message():
                return True
            case ExpectedNote(), Note():
                return says(move.phrase, leaf.text)
            case ExpectedMessage(), Message():
                roles = self._specification.roles
                ends = (roles[leaf.source], roles[leaf.target], leaf.is_reply)
                return ends == (move.source, move.target, move.is_reply) and says(move.phrase, leaf.text)
            case _:
                return False

    # --------------------------------------------------------------------------------------- in words
    def _never_began(self) -> str:
        opening = self._specification.opening
        if opening is None:
            return "Nothing is recorded."
        return (
            "The diagram begins with a note, and the run has never been there:\n"
            f"{self._excerpt([opening.line])}"
        )

    def _left(self, stop: _Stop) -> str:
        move = self._moves[stop.at]
        recorded = f"recorded, with event {move.version}:\n    {self._said(move)}"
        before = [self._said(m) for m in self._moves[max(stop.at - _CONTEXT, 0) : stop.at]]
        after = "".join(f"\n    after {said}" for said in reversed(before))
        if self._paths.ahead(stop.places).may_end:
            return f"The diagram ends, and the run continues; {recorded}{after}"
        return f"The diagram expects:\n{self._expected(stop.places)}\n{recorded}{after}"

    def _expected(self, places: set[Position]) -> str:
        lines = {leaf.line for leaf, _ in self._paths.ahead(places).leaves}
        return self._excerpt(sorted(lines)[:_EXPECTED_MAX])

    def _excerpt(self, marked: list[int]) -> str:
        lines = self._specification.lines
        near = {line + by for line in marked for by in range(-_CONTEXT, _CONTEXT + 1)}
        shown = [number for number in sorted(near) if 1 <= number <= len(lines)]
        return "\n".join(f"{'>' if n in marked else ' '} {n:>4} | {lines[n - 1].rstrip()}" for n in shown)

    def _said(self, move: Move) -> str:
        if isinstance(move, Note):
            return f"Note over {self._name(Role.FLOW)}: {drawn(move.phrase)}"
        arrow = "-->>" if move.is_reply else "->>"
        return f"{self._name(move.source)}{arrow}{self._name(move.target)}: {drawn(move.phrase)}"

    def _name(self, role: Role) -> str:
        names = (name for name, its_role in self._specification.roles.items() if its_role is role)
        return next(names, role.value)
