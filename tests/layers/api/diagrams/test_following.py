"""What it takes for a run to follow a diagram."""

from __future__ import annotations

from time import perf_counter

import pytest
from msgspec import Raw
from persistasaurus.api.diagrams import mismatch
from persistasaurus.flows import events

HEAD = "sequenceDiagram\nparticipant F\nparticipant Step\n"
NO_ARGS = Raw(b"{}")


def step(number: int, name: str) -> list[events.AnyEvent]:
    return [
        events.StepStarted(number, name, Raw(b'{"n":7}')),
        events.StepCompleted(number, Raw(b'"seven"')),
    ]


def run(*names: str) -> list[events.AnyEvent]:
    """Return the history of a flow that runs these steps, one after the other."""
    steps = [event for number, name in enumerate(names, 1) for event in step(number, name)]
    return [events.FlowStarted("F", NO_ARGS, 1), *steps]


def spec(text: str) -> str:
    """Write a diagram: `a` is a step's call and its return, anything else is a line."""
    lines = []
    for line in text.split("\n"):
        word = line.strip()
        lines.append(f"F->>Step: {word}\nStep-->>F: returns" if len(word) == 1 else line)
    return HEAD + "\n".join(lines)


def follows(text: str, *names: str) -> bool:
    return mismatch(spec(text), run(*names)) is None


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("a\nb", ["ab"], ["", "a", "ba", "abb", "b", "aa"]),
        ("", [""], ["a"]),
        ("alt x\na\nelse y\nb\nend", ["a", "b"], ["", "ab", "c"]),
        ("alt x\na\nend\nb", ["ab", "b"], ["a", "aab"]),
        ("opt x\na\nend\nb", ["ab", "b"], ["a", "ba"]),
        ("loop\na\nend", ["", "a", "aaaa"], ["b", "ab"]),
        ("loop 2 times\na\nend", ["aa"], ["", "a", "aaa"]),
        ("loop 1 to 3 times\na\nend\nb", ["ab", "aab", "aaab"], ["b", "aaaab"]),
        ("loop at least once\na\nend", ["a", "aaa"], [""]),
        ("loop at least 2\na\nend", ["aa", "aaa"], ["a"]),
        ("loop 2 times\nloop 2 times\na\nend\nb\nend", ["aabaab"], ["aab", "abab"]),
        ("loop 3 times\nopt x\na\nend\nend", ["", "a", "aaa"], ["aaaa"]),
        ("loop\nloop\nopt x\na\nend\nend\nend\nb", ["b", "aaab"], ["a"]),
        ("par x\na\nb\nand y\nc\nend\nd", ["abcd", "acbd", "cabd"], ["bacd", "abd", "dabc"]),
        ("par x\nopt z\na\nend\nand y\nb\nend", ["ab", "ba", "b"], ["a", "aab"]),
        ("par x\nloop\na\nend\nand y\nb\nend", ["b", "aba", "baaa"], ["a", "bb"]),
        ("rect rgb(1, 2, 3)\na\nend\nb", ["ab"], ["b"]),
        (
            "alt x\nalt y\na\nelse z\nb\nend\nelse w\npar p\nc\nand q\nd\nend\nend",
            ["a", "b", "cd", "dc"],
            ["c"],
        ),
    ],
)
def test_blocks_mean_what_they_say(text: str, yes: list[str], no: list[str]) -> None:
    assert [names for names in yes if not follows(text, *names)] == []
    assert [names for names in no if follows(text, *names)] == []


@pytest.mark.parametrize(
    ("line", "follows"),
    [
        ("F->>Step: work", True),
        ("F->>Step: step 1: work", True),
        ("F->>Step: work(n)", True),
        ("F->>Step: work(n=7)", True),
        ("F->>Step: work(...)", True),
        ("F->>Step: wo...", True),
        ("F->>Step: …", True),
        ("F->>Step: step 2: work", False),
        ("F->>Step: work(m)", False),
        ("F->>Step: work(n=8)", False),
        ("F->>Step: Work", False),
        ("F->>Step: work (attempt 1)", False),
        ("F-->>Step: work", False),
        ("Step->>F: work", False),
        ("F->>Client: work", False),
    ],
)
def test_a_message_says_as_much_as_its_author_likes(line: str, follows: bool) -> None:  # noqa: FBT001
    diagram = f"sequenceDiagram\nparticipant F\nparticipant Step\n{line}\nStep-->>F: returns"

    assert (mismatch(diagram, run("work")) is None) is (follows and "Client" not in line)


@pytest.mark.parametrize("line", ["returns", "step 1 returns", 'returns "seven"', 'step 1 returns "s...n"'])
def test_so_does_a_reply(line: str) -> None:
    assert mismatch(f"{HEAD}F->>Step: work\nStep-->>F: {line}", run("work")) is None
    assert mismatch(f"{HEAD}F->>Step: work\nStep-->>F: {line}x", run("work")) is not None


def test_only_those_who_take_part_are_looked_at() -> None:
    history = run("work")

    assert (
        mismatch("sequenceDiagram\nparticipant Client\nClient->>F: start\nF-->>Client: accepted", history)
        is None
    )
    assert mismatch("sequenceDiagram\nClient->>Supervisor: start\nF-->>Client: accepted", history) is not None


# -------------------------------------------------------------------------------------------- notes
def waiting() -> list[events.AnyEvent]:
    return [
        *run("a"),
        events.SignalAwaited("news"),
        events.SignalReceived("news", "k", Raw(b"1")),
        *step(2, "b"),
    ]


def test_a_recorded_note_may_be_left_out_and_a_written_one_must_have_been_recorded() -> None:
    assert mismatch(spec("a\nNote over F: waits for signal news\nb"), waiting()) is None
    assert mismatch(spec("a\nb"), waiting()) is None
    assert mismatch(spec("a\nNote over F: waits for signal other\nb"), waiting()) is not None
    assert mismatch(spec("a\nb\nNote over F: waits for signal news"), waiting()) is not None
    assert mismatch(spec("a\nNote over F: waits for signal news\nb"), run("a", "b")) is not None


def test_a_note_over_somebody_else_or_in_other_words_says_nothing() -> None:
    assert mismatch(spec("a\nNote over Step: waits for signal other\nb"), waiting()) is None
    assert mismatch(spec("a\nNote over F: now it gets exciting\nb"), waiting()) is None


def test_a_diagram_that_begins_with_a_note_begins_there() -> None:
    assert mismatch(spec("Note over F: waits for signal news\nb"), waiting()) is None
    assert mismatch(spec("Note over F: waits for signal news\na"), waiting()) is not None
    found = mismatch(spec("Note over F: waits for signal other\nb"), waiting())
    assert found is not None
    assert found.startswith("The diagram begins with a note, and the run has never been there:\n")
    assert ">    4 | Note over F: waits for signal other" in found


def test_of_several_places_where_it_could_begin_each_one_is_tried() -> None:
    twice = [*waiting(), events.SignalAwaited("news"), *step(3, "c")]

    assert mismatch(spec("Note over F: waits for signal news\nc"), twice) is None
    assert mismatch(spec("Note over F: waits for signal news\nb\nc"), twice) is None
    assert mismatch(spec("Note over F: waits for signal news\nd"), twice) is not None


# ----------------------------------------------------------------------------------------- restarts
def crashed() -> list[events.AnyEvent]:
    begun, done = step(1, "a")
    return [events.FlowStarted("F", NO_ARGS, 1), begun, events.StepAttempted(1, 2), done, *step(2, "b")]


def test_a_diagram_without_restarts_holds_for_a_run_with_one() -> None:
    assert mismatch(spec("a\nb"), crashed()) is None
    assert mismatch(spec("a\nc"), crashed()) is not None


def test_a_diagram_with_a_restart_holds_only_for_a_run_with_one() -> None:
    text = spec("F->>Step: a\nNote over F: the process died\nF->>Step: a\nStep-->>F: returns\nb")
    text = text.replace("the process died", "the process died, and was started again")

    assert mismatch(text, crashed()) is None
    assert mismatch(text, run("a", "b")) is not None


def test_a_replay_is_never_what_was_recorded() -> None:
    head = HEAD.replace("participant Step\n", "participant Step\nparticipant Journal\n")
    work = "F->>Journal: record step started\nJournal-->>F: durable\nF->>Step: a\nStep-->>F: returns\n"
    records = "F->>Journal: record step completed\nJournal-->>F: durable\n"
    text = f"{head}loop 2 times\nalt replay\nJournal-->>F: recorded result\nelse\n{work}{records}end\nend"

    def decided(*names: str) -> list[events.AnyEvent]:
        return [e for n, name in enumerate(names) for e in (events.StepStarted(n, name, NO_ARGS), events.StepCompleted(n, NO_ARGS))]  # fmt: skip  # noqa: E501

    assert mismatch(text, decided("a")) is not None  # not: one was replayed
    assert mismatch(text.replace("2 times", "once, or more"), decided("a")) is None


# ----------------------------------------------------------------------------------- how far it came
def test_a_run_has_to_come_to_the_end_of_the_diagram_unless_part_of_it_will_do() -> None:
    found = mismatch(spec("a\nb"), run("a"))

    assert found is not None
    assert found.startswith("The run ends, or has come no further yet, and the diagram continues:\n")
    assert ">    6 | F->>Step: b" in found
    assert mismatch(spec("a\nb"), run("a"), partial=True) is None
    assert mismatch(spec("a\nb"), run("c"), partial=True) is not None
    assert mismatch(spec("a\nb"), [], partial=True) is None
    assert mismatch(spec("a\nb"), []) is not None


def test_the_message_shows_the_line_that_was_expected_and_what_was_recorded() -> None:
    assert mismatch(spec("a\nb\nc"), run("a", "c", "b")) == (
        "The diagram expects:\n"
        "     4 | F->>Step: a\n"
        "     5 | Step-->>F: returns\n"
        ">    6 | F->>Step: b\n"
        "     7 | Step-->>F: returns\n"
        "     8 | F->>Step: c\n"
        "recorded, with event 4:\n"
        "    F->>Step: step 2: c(n)\n"
        "    after Step-->>F: step 1 returns\n"
        "    after F->>Step: step 1: a(n)"
    )


def test_the_message_shows_every_line_that_would_have_been_right() -> None:
    found = mismatch(spec("alt x\na\nelse y\nb\nend"), run("c"))

    assert found is not None
    assert ">    5 | F->>Step: a" in found
    assert ">    8 | F->>Step: b" in found


def test_a_run_that_goes_on_behind_the_end_says_so() -> None:
    found = mismatch(spec("a"), run("a", "b"))

    assert found is not None
    assert found.startswith("The diagram ends, and the run continues; recorded, with event 4:\n    F->>Step")


@pytest.mark.parametrize(
    "text",
    [
        "loop\nloop\nloop\na\nend\nend\nend\n" * 3,
        "opt x\na\nend\n" * 500,
        "loop\nalt x\na\nelse y\na\nelse z\na\na\nend\nend",
        "loop 0 to 500 times\nopt x\na\nend\nend",
        "par x\nloop\na\nend\nand y\nloop\na\nend\nand z\nloop\na\nend\nend",
    ],
    ids=["loops", "options", "alternatives", "counts", "shuffles"],
)
def test_ambiguous_diagrams_take_no_exponential_time(text: str) -> None:
    started = perf_counter()

    assert not follows(f"{text}\nb", *"a" * 150, "c")

    assert perf_counter() - started < 10
