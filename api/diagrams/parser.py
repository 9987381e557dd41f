"""Reads the part of Mermaid's sequence diagrams that can specify executions."""

from __future__ import annotations

import re
from typing import NamedTuple

from . import lexicon
from .grammar import (
    Choice,
    DiagramError,
    Element,
    ExpectedMessage,
    ExpectedNote,
    Repeat,
    Sequence,
    Shuffle,
    Skip,
)
from .items import Role
from .mermaid import unescaped
from .phrases import clean

_DEPTH_MAX = 50
_TIMES_MAX = 100_000
_BLOCKS = ("loop", "alt", "opt", "par", "rect")
_PARTS = {"else": "alt", "and": "par"}
_IGNORED = re.compile(r"(?:autonumber|title|accTitle|accDescr)\b", re.IGNORECASE)
_PARTICIPANT = re.compile(r"(?:participant|actor)\s+(.+?)(?:\s+as\s+(.+))?", re.IGNORECASE)
_ACTIVATION = re.compile(r"(?:de)?activate\s+(.+)", re.IGNORECASE)
_NOTE = re.compile(r"note\s+(?:over|left\s+of|right\s+of)\s+([^:]+?)\s*:\s*(.*)", re.IGNORECASE)
_MESSAGE = re.compile(
    r"(?!(?:loop|alt|opt|par|rect|else|and|end|note|participant|actor|(?:de)?activate)\s)([^:<>]+?)\s*(-->>|->>)\s*[+-]?\s*([^:]+?)\s*:\s*(.*)",
    re.IGNORECASE,
)
_OTHER_ARROW = re.compile(r"[^:]*?(<<-?->>|--?[>x)]|--?\|?[\\/])")
_TIMES = re.compile(r"(\d+)(?:\s*(?:to|-|\.\.)\s*(\d+))?\s+times\b", re.IGNORECASE)
_AT_LEAST = re.compile(r"at least (\d+|once)\b", re.IGNORECASE)
_GAP = re.compile(r"(\d+) messages,? .*\bnot drawn\b")


class Specification(NamedTuple):
    """A diagram as a specification. `roles` are its participants; `flow` is the name of the flow actor."""

    sequence: Sequence
    roles: dict[str, Role]
    flow: str | None
    tells_of_restarts: bool
    lines: tuple[str, ...]

    @property
    def opening(self) -> ExpectedNote | None:
        """The note with which it begins in the middle of an execution, if it does."""
        first = next(iter(self.sequence.elements), None)
        return first if isinstance(first, ExpectedNote) else None


def parse(text: str) -> Specification:
    """Read a diagram. Raises DiagramError: it contains something unknown; the message names the line."""
    return _Parser(text).specification()


class _Open(NamedTuple):
    """A block that has not ended: its finished branches, and the items before it."""

    line: int
    kind: str
    label: str
    branches: list[Sequence]
    before: list[Element]


class _Parser:
    def __init__(self, text: str) -> None:
        self._lines = tuple(text.splitlines())
        self._number = 0
        self._names: dict[str, str] = {}
        self._places: dict[str, int] = {}
        self._elements: list[Element] = []
        self._open: list[_Open] = []
        self._notes: list[tuple[int, list[str], str]] = []
        self._tells_of_restarts = False

    def specification(self) -> Specification:
        lines = [(number, line.strip()) for number, line in enumerate(self._lines, 1)]
        lines = [(number, line) for number, line in lines if line and not line.startswith("%%")]
        self._number, head = lines.pop(0) if lines else (1, "")
        if head.lower() != "sequencediagram":
            raise self._error("a diagram begins with the line `sequenceDiagram`")
        self._declare(lines)
        for self._number, line in lines:
            self._statement(line)
        if self._open:
            self._number = self._open[-1].line
            raise self._error(f"`{self._open[-1].kind}` has no `end`")
        roles, flow = self._resolved
        return Specification(Sequence(self._elements), roles, flow, self._tells_of_restarts, self._lines)

    # ------------------------------------------------------------------------------------ participants
    def _declare(self, lines: list[tuple[int, str]]) -> None:
        """Find all participants first: which one is the flow actor decides what notes mean."""
        for self._number, line in lines:
            if declared := _PARTICIPANT.fullmatch(line):
                name, alias = declared.groups()
                self._names[name] = _text(alias or name)
                self._places[name] = self._number
            elif message := _MESSAGE.fullmatch(line):
                for name in message.group(1, 3):
                    self._places.setdefault(name, self._number)
        for name in self._places:
            self._names.setdefault(name, name)
        self._resolved = self._resolve()

    def _resolve(self) -> tuple[dict[str, Role], str | None]:
        roles: dict[str, Role] = {}
        for name, number in sorted(self._places.items(), key=lambda item: item[1]):
            self._number = number
            role = self._role(name, roles)
            if role in roles.values():
                raise self._error(f"there are two participants for {role.value}: {', '.join(self._names)}")
            roles[name] = role
        flow = next((self._names[name] for name, role in roles.items() if role is Role.FLOW), None)
        return roles, None if flow == Role.FLOW.value else flow

    def _role(self, name: str, roles: dict[str, Role]) -> Role:
        """Return a name's role. The one name that is not a known role is the flow actor's."""
        known_as = {role.value: role for role in Role}
        for said in (name, self._names[name]):
            if said in known_as:
                return known_as[said]
        others = [other for other, role in roles.items() if role is Role.FLOW]
        if others:
            raise self._error(
                f"{others[0]!r} and {name!r}: at most one participant can be the flow. The others are"
                f" called {', '.join(known_as)}"
            )
        return Role.FLOW

    # -------------------------------------------------------------------------------------- statements
    def _statement(self, line: str) -> None:
        opening, _, rest = line.partition(" ")
        keyword = opening.lower()
        if _PARTICIPANT.fullmatch(line) or _IGNORED.match(line):
            return
        if message := _MESSAGE.fullmatch(line):
            self._message(*message.groups())
        elif note := _NOTE.fullmatch(line):
            self._note(*note.groups())
        elif keyword in _BLOCKS:
            self._begin(keyword, _text(rest))
        elif keyword in _PARTS:
            self._part(keyword)
        elif keyword == "end" and not rest:
            self._end()
        elif activation := _ACTIVATION.fullmatch(line):
            self._known(activation.group(1).strip())
        elif arrow := _OTHER_ARROW.match(line):
            raise self._error(f"the arrow {arrow.group(1)} is not known: calls are ->>, and replies -->>")
        else:
            raise self._error(f"`{clean(line, 60)}` is not known here")

    def _message(self, source: str, arrow: str, target: str, text: str) -> None:
        source, target = self._known(source), self._known(target)
        if source == target:
            return  # what somebody does by himself leaves no event
        said = _text(text)
        if not said:
            raise self._error("a message needs a text; write `...` for any message")
        if said == lexicon.RECOVER[0].text:
            self._tells_of_restarts = True
        self._elements.append(ExpectedMessage(self._number, source, target, arrow == "-->>", said))

    def _note(self, over: str, text: str) -> None:
        names = [self._known(name.strip()) for name in over.split(",")]
        said = _text(text)
        is_about_the_flow = len(names) > 1 or self._resolved[0][names[0]] is Role.FLOW
        gap = _GAP.match(said)
        if gap is not None:
            self._tells_of_restarts |= "restarts" in said
            self._elements.append(Skip(self._number, min(int(gap.group(1)), _TIMES_MAX)))
        elif lexicon.NOTES.match(said) and is_about_the_flow:
            self._tells_of_restarts |= lexicon.tells_of_restart(said)
            self._elements.append(ExpectedNote(self._number, said))

    def _known(self, name: str) -> str:
        if name not in self._names:
            raise self._error(f"there is no participant {name!r}, only {', '.join(self._names) or 'nobody'}")
        return name

    # ------------------------------------------------------------------------------------------ blocks
    def _begin(self, kind: str, label: str) -> None:
        if len(self._open) >= _DEPTH_MAX:
            raise self._error(f"blocks are nested deeper than {_DEPTH_MAX}")
        self._open.append(_Open(self._number, kind, label, [], self._elements))
        self._elements = []

    def _part(self, keyword: str) -> None:
        if not self._open or self._open[-1].kind != _PARTS[keyword]:
            raise self._error(f"`{keyword}` is only allowed inside `{_PARTS[keyword]}`")
        self._open[-1].branches.append(Sequence(self._elements))
        self._elements = []

    def _end(self) -> None:
        if not self._open:
            raise self._error("there is nothing that could `end` here")
        block = self._open.pop()
        branches = (*block.branches, Sequence(self._elements))
        self._elements = block.before
        match block.kind:
            case "rect":
                self._elements += branches[0].elements
            case "alt":
                self._elements.append(Choice(branches if len(branches) > 1 else (*branches, Sequence())))
            case "opt":
                self._elements.append(Choice((*branches, Sequence())))
            case "par":
                self._elements.append(Shuffle(branches))
            case _:
                self._elements.append(self._repeat(branches[0], block))

    def _repeat(self, body: Sequence, block: _Open) -> Repeat:
        """Return a loop: `5 times`, `2 to 4 times`, `at least once`; anything else is any number of times."""
        self._number = block.line
        if times := _TIMES.match(block.label):
            least = int(times.group(1))
            most = int(times.group(2) or least)
            if not least <= most <= _TIMES_MAX:
                raise self._error(
                    f"`loop {clean(block.label)}` cannot be: from low to high, at most {_TIMES_MAX}"
                )
            return Repeat(body, least, most)
        if some := _AT_LEAST.match(block.label):
            least = 1 if some.group(1).lower() == "once" else int(some.group(1))
            return Repeat(body, min(least, _TIMES_MAX), None)
        return Repeat(body, 0, None)

    def _error(self, what: str) -> DiagramError:
        return DiagramError(f"line {self._number}: {what}")


def _text(text: str) -> str:
    return " ".join(unescaped(text).split())
