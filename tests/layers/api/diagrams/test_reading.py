"""Specifications that cannot be read are refused, with the line and what is wrong there."""

from __future__ import annotations

import pytest
from msgspec import Raw
from persistasaurus.api.diagrams import DiagramError, mismatch
from persistasaurus.api.diagrams.parser import parse
from persistasaurus.flows import events

HEAD = "sequenceDiagram\n    participant Client\n    participant F\n    participant Step\n"


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("", 1, "begins with the line `sequenceDiagram`"),
        ("\n%% only a comment\n\n", 1, "begins with"),
        ("flowchart LR\n  A-->B", 1, "begins with"),
        (f"{HEAD}F->Step: work", 5, r"the arrow -> is not known: calls are ->>, and replies -->>"),
        (f"{HEAD}F-->Step: work", 5, "the arrow --> is not known"),
        (f"{HEAD}F-xStep: work", 5, "the arrow -x is not known"),
        (f"{HEAD}F-)Step: work", 5, r"the arrow -\) is not known"),
        (f"{HEAD}F<<->>Step: work", 5, "the arrow <<->> is not known"),
        (f"{HEAD}Jornal->>Step: work", 5, "'F' and 'Jornal': at most one participant can be the flow"),
        (f"{HEAD}participant a as Journal\nparticipant Journal", 6, "there are two participants for"),
        (f"{HEAD}F->>Step:", 5, "a message needs a text; write `...`"),
        (f"{HEAD}\nloop 5 times\nF->>Step: work", 6, "`loop` has no `end`"),
        (f"{HEAD}end", 5, "there is nothing that could `end`"),
        (f"{HEAD}opt x\nelse\nend", 6, "`else` is only allowed inside `alt`"),
        (f"{HEAD}alt x\nand\nend", 6, "`and` is only allowed inside `par`"),
        (f"{HEAD}loop 5 to 2 times\nend", 5, "cannot be: from low to high"),
        (f"{HEAD}loop 999999999 times\nend", 5, "cannot be"),
        (f"{HEAD}critical x\nend", 5, "`critical x` is not known here"),
        (f"{HEAD}box one\nend", 5, "`box one` is not known"),
        (f"{HEAD}wibble", 5, "`wibble` is not known here"),
        (f"{HEAD}activate Nobody", 5, "no participant 'Nobody', only Client, F, Step"),
        (f"{HEAD}Note over Nobody: x", 5, "no participant 'Nobody'"),
        (HEAD + "loop x\n" * 60, 55, "nested deeper than 50"),
        (f"{HEAD}\x1b[2Jwibble", 5, "is not known here"),
    ],
)
def test_what_is_not_known_is_refused_with_its_line(text: str, line: int, complaint: str) -> None:
    with pytest.raises(DiagramError, match=rf"^line {line}: .*{complaint}"):
        parse(text)


def test_an_error_carries_nothing_that_steers_a_terminal() -> None:
    with pytest.raises(DiagramError) as caught:
        parse(f"{HEAD}\x1b[2Jwibble")

    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "%% a comment",
        "autonumber",
        "title What happens: everything",
        "activate F",
        "deactivate F",
        "Note left of Client: whatever",
        "Note right of Step: whatever",
        "Note over Client,Step: whatever",
        "note over F: whatever",
        "F->>F: think",
        "rect rgb(1, 2, 3)\nend",
        "F->>+Step: ...\nStep-->>-F: ...",
        "actor Journal as Journal",
    ],
)
def test_what_mermaid_knows_and_means_no_event_can_be_read(line: str) -> None:
    parse(f"{HEAD}{line}")


def test_participants_may_have_an_alias_and_need_not_be_declared() -> None:
    declared = parse("sequenceDiagram\nparticipant a as Client\nparticipant b as Signup\na->>b: start")
    implied = parse("sequenceDiagram\nClient->>Signup: start")

    assert declared.flow == implied.flow == "Signup"
    assert set(declared.roles.values()) == set(implied.roles.values())


def test_mermaids_way_to_write_special_characters_is_understood() -> None:
    text = "sequenceDiagram\nF->>Step: a#59;b#semi;c#35;1#num;2 #lt;#gt;#amp;#quot; #nonsense; #99999999;"

    element = parse(text).sequence.elements[0]

    assert element.text == 'a;b;c#1#2 <>&" #nonsense; #99999999;'  # type: ignore[union-attr]


def test_a_diagram_about_another_flow_says_so() -> None:
    started = events.FlowStarted("Signup", Raw(b"{}"), 1)

    found = mismatch("sequenceDiagram\nClient->>Hello: start", [started])

    assert found == "The diagram is about Hello, and the run is one of Signup."
