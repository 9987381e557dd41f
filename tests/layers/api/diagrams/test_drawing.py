"""What is drawn: the form of the example flows' diagrams, and everything that a history shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from diagrams.arbitrary import KINDS
from diagrams.wandering import Wandering
from msgspec import Raw
from persistasaurus.api.diagrams import LEVELS, draw
from persistasaurus.flows import Flow, Retry, events, flow, gather, sleep, sleep_until, step
from persistasaurus.flows.examples import HelloWorldFlow, SignupFlow
from persistasaurus.flows.machine.history import Recorded
from persistasaurus.flows.machine.messages import Interrupt, PauseRequested, ResumeRequested
from stories import Story

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
HELLO_API = """\
sequenceDiagram
    participant Client
    participant HelloWorldFlow
    participant Step
    Client->>HelloWorldFlow: start HelloWorldFlow()
    activate HelloWorldFlow
    HelloWorldFlow-->>Client: accepted
    loop 5 times
        HelloWorldFlow->>Step: say(name, count)
        activate Step
        Step-->>HelloWorldFlow: returns
        deactivate Step
    end
    HelloWorldFlow-->>Client: result
    deactivate HelloWorldFlow
"""

EXAMPLES = {
    events.FlowStarted: events.FlowStarted("f", Raw(b"{}"), 1),
    events.StepCompleted: events.StepCompleted(1, Raw(b"1")),
    events.StepFailed: events.StepFailed(1, 1, events.Failure("ValueError", "no")),
    events.StepAttempted: events.StepAttempted(1, 2),
    events.StepInterrupted: events.StepInterrupted(1),
    events.TimerFired: events.TimerFired(1),
    events.SignalReceived: events.SignalReceived("news", "k", Raw(b"1")),
    events.Paused: events.Paused(),
    events.Resumed: events.Resumed(),
    events.Parked: events.Parked("crashing", "often"),
    events.Repaired: events.Repaired(),
    events.StepStarted: events.StepStarted(1, "work", Raw(b"{}")),
    events.StepScheduled: events.StepScheduled(1, "work", Raw(b"{}"), 10),
    events.TimerSet: events.TimerSet(1, 10),
    events.SignalAwaited: events.SignalAwaited("news"),
    events.FlowCompleted: events.FlowCompleted(Raw(b"1")),
    events.FlowFailed: events.FlowFailed(events.Failure("ValueError", "no")),
}


class Small(Flow):
    @flow(name="small")
    async def at_once(self) -> int:
        return sum(await gather(*(self.work(n) for n in range(3))))

    @flow(name="tried")
    async def tried(self) -> None:
        await self.flaky()

    @flow(name="sleeping")
    async def sleeping(self) -> None:
        await sleep(timedelta(minutes=2, seconds=30))
        await sleep_until(NOON.replace(year=2099))

    @step
    def work(self, n: int) -> int:
        return n

    @step(retry=Retry(max_attempts=2))
    def flaky(self) -> None:
        raise OSError("no answer from 10.0.0.1")


def drawn(story: Story, **options: object) -> list[str]:
    """Return the lines of a diagram, without their indentation."""
    return [line.strip() for line in draw(story.log, **options).mermaid().splitlines()]


def in_order(lines: list[str], *expected: str) -> None:
    """See that some lines come in this order, whatever is in between."""
    rest = iter(lines)
    for line in expected:
        assert line in rest, f"{line!r} is missing, or too late, in:\n" + "\n".join(lines)


def signed_up() -> Story:
    story = Story(SignupFlow.sign_up, "ada", "ada@example.com").start()
    story.run(1)
    return story


def confirmed(story: Story) -> None:
    story.signal(SignupFlow.confirm_email_address(NOON))


# ---------------------------------------------------------------------------------------- the form
def test_a_flow_is_drawn_in_the_form_of_the_seeds() -> None:
    story = Story(HelloWorldFlow.say_hello).start().finish()

    assert draw(story.log, level="api").mermaid() == HELLO_API


def test_the_same_history_gives_the_same_text_and_so_does_the_same_run() -> None:
    one, other = (Story(HelloWorldFlow.say_hello, flow_id=name).start().finish() for name in "ab")
    other.log = [r._replace(at=r.at + 12_345) for r in other.log]

    for level in LEVELS:
        assert len({draw(log, level=level).mermaid() for log in (one.log, one.log, other.log)}) == 1


@pytest.mark.parametrize(
    ("level", "participants"),
    [
        ("api", ["Client", "HelloWorldFlow", "Step"]),
        ("actors", ["Client", "Supervisor", "HelloWorldFlow", "Journal", "Step"]),
        ("store", ["Client", "Supervisor", "HelloWorldFlow", "Journal", "Store", "Step"]),
    ],
)
def test_a_level_says_who_takes_part(level: str, participants: list[str]) -> None:
    lines = drawn(Story(HelloWorldFlow.say_hello).start(), level=level)

    assert [line.split()[1] for line in lines if line.startswith("participant")] == participants


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'disk'.*api, actors, store"):
        draw([], level="disk")  # type: ignore[arg-type]


def test_what_is_recorded_together_is_durable_once_and_then_acted_upon() -> None:
    lines = drawn(signed_up(), level="store")

    start = lines.index("SignupFlow->>Journal: record step 1 completed")
    assert lines[start : start + 6] == [
        "SignupFlow->>Journal: record step 1 completed",
        "SignupFlow->>Journal: record step 2 scheduled: send_welcome_email",
        "Journal->>Store: commit",
        "Store-->>Journal: committed",
        "Journal-->>SignupFlow: durable",
        "Note over SignupFlow: waits 10 s before step 2",
    ]


def test_values_and_times_are_shown_only_when_asked_for() -> None:
    story = signed_up()
    plain = draw(story.log).mermaid()
    full = draw(story.log, values=True, times=True).mermaid()

    assert not [word for word in ("ada", "example.com", "2023", "T22:") if word in plain]
    assert 'create_user_record(user_name="ada", email="ada@example.com")' in full
    assert "Note over SignupFlow: 2023-11-14T22:13:20.000Z" in full


def test_an_instant_that_no_calendar_has_is_shown_as_the_last_one() -> None:
    started = Recorded(1, 10**18, EXAMPLES[events.FlowStarted])
    assert "9999-12-31T23:59:59.999Z" in draw([started], times=True).mermaid()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("level", LEVELS)
def test_every_kind_of_event_is_drawn(kind: type, level: str) -> None:
    empty = draw([], level=level).mermaid()  # type: ignore[arg-type]

    assert draw([EXAMPLES[kind]], level=level).mermaid().count("\n") > empty.count("\n")  # type: ignore[arg-type]


def test_events_without_a_place_can_be_drawn_too() -> None:
    story = Story(HelloWorldFlow.say_hello).start().finish()

    assert draw([r.event for r in story.log], level="api").mermaid() == HELLO_API


# --------------------------------------------------------------------------------- what has happened
def test_a_confirmation_goes_through_the_journal_and_wakes_the_flow() -> None:
    story = signed_up()
    story.wait()
    story.run(2)
    confirmed(story)

    in_order(
        drawn(story),
        "Note over SignupFlow: waits for signal confirm_email_address as step 3",
        "deactivate SignupFlow",
        "Client->>Journal: signal confirm_email_address(confirmed_at)",
        "Journal-->>Client: receipt",
        "Supervisor->>SignupFlow: signal confirm_email_address(confirmed_at)",
        "activate SignupFlow",
        "SignupFlow->>Journal: record signal confirm_email_address received",
    )


def test_a_signal_that_comes_early_is_kept_and_taken() -> None:
    story = signed_up()
    confirmed(story)
    story.wait()
    story.run(2)

    in_order(
        drawn(story),
        "Note over SignupFlow: keeps signal confirm_email_address until it is awaited",
        "Note over SignupFlow: signal confirm_email_address has come early as step 3",
        "SignupFlow->>Step: step 3: confirm_email_address(confirmed_at)",
    )


def test_steps_that_start_at_once_are_drawn_at_once() -> None:
    lines = drawn(Story(Small.at_once).start().finish(), level="api")

    in_order(
        lines,
        "par step 1",
        "small->>Step: step 1: work(n)",
        "and step 2",
        "and step 3",
        "end",
        "loop 3 times",
        "Step-->>small: returns",
    )


def test_a_failure_and_its_retry_are_drawn_and_no_message_of_an_error_is_told() -> None:
    lines = drawn(Story(Small.tried).start().finish())

    in_order(
        lines,
        "Step-->>tried: step 1 raises OSError",
        "tried->>Journal: record step 1 failed",
        "Note over tried: waits before step 1 is tried again",
        "Note over tried: wait before step 1 is over",
        "tried->>Step: step 1: flaky() (attempt 2)",
        "tried-->>Supervisor: fails with StepError",
    )
    assert "10.0.0.1" not in "".join(lines)


def test_sleeps_say_how_long_and_dates_do_not() -> None:
    in_order(
        drawn(Story(Small.sleeping).start().finish(), level="api"),
        "Note over sleeping: sleeps 2 min 30 s",
        "Note over sleeping: sleep 1 is over",
        "Note over sleeping: sleeps until a date",
    )


def test_a_pause_is_drawn_with_who_and_why_only_when_asked_for() -> None:
    story = Story(HelloWorldFlow.say_hello).start()
    story.tell(PauseRequested("ada", "lunch"))
    story.tell(ResumeRequested("ada", "coffee"))

    in_order(
        drawn(story, level="api"),
        "Client->>HelloWorldFlow: pause",
        "HelloWorldFlow-->>Client: paused",
        "HelloWorldFlow-->>Client: resumed",
    )
    assert "Client->>HelloWorldFlow: pause by ada: lunch" in drawn(story, level="api", values=True)


# ----------------------------------------------------------------------------------------- restarts
def test_a_crash_in_a_step_is_drawn_with_what_is_replayed_and_what_is_not() -> None:
    story = Story(HelloWorldFlow.say_hello).start()
    story.run(1)

    in_order(
        drawn(story.restart()),
        "HelloWorldFlow->>Step: step 2: say(name, count)",
        "Note over Client,Step: the process died, and was started again",
        "Supervisor->>HelloWorldFlow: recover",
        "HelloWorldFlow->>Journal: read the history",
        "alt step already complete (replay)",
        "Journal-->>HelloWorldFlow: recorded result",
        "else step not complete",
        "HelloWorldFlow->>Journal: record step 2 attempted",
        "HelloWorldFlow->>Step: step 2: say(name, count) (attempt 2)",
        "end",
    )


def test_one_crash_of_three_steps_is_one_crash() -> None:
    story = Story(Small.at_once).start().restart()
    again = story.restart().finish()

    assert drawn(story).count("Note over Client,Step: the process died, and was started again") == 1
    assert drawn(again).count("Note over Client,Step: the process died, and was started again") == 2


def test_a_crash_that_interrupted_nothing_cannot_be_seen() -> None:
    story = signed_up()

    assert draw(story.restart().log).mermaid() == draw(story.log).mermaid()


def test_a_shutdown_that_does_not_wait_for_a_step_is_no_crash() -> None:
    story = Story(HelloWorldFlow.say_hello).start()
    story.tell(Interrupt())
    lines = drawn(story.restart())

    in_order(
        lines,
        "Note over HelloWorldFlow: shutdown does not wait for step 1",
        "Note over Client,Step: the system was closed, and opened again",
        "HelloWorldFlow->>Step: step 1: say(name, count) (attempt 2)",
    )
    assert "the process died" not in "".join(lines)


def test_a_flow_that_is_parked_in_doubt_tells_of_the_crash_and_of_its_repair() -> None:
    story = Story(Wandering.go, 2).start()  # a, b, and c, which is not to run twice
    story = story.restart()
    assert story.status == "parked"

    in_order(
        drawn(story.repair()),
        "Note over Client,Step: the process died, and was started again",
        "Wandering->>Journal: record parked: in_doubt",
        "Note over Wandering: parked: in_doubt",
        "Client->>Supervisor: retry",
        "Wandering-->>Client: repaired",
        "Wandering->>Step: step 3: once(what) (attempt 2)",
    )


def test_a_failed_flow_that_is_retried_tells_what_is_done_anew() -> None:
    story = Story(Wandering.go, 4).start().finish()
    assert story.status == "failed"

    in_order(
        drawn(story.repair()),
        "Supervisor-->>Client: fails with StepError",
        "Client->>Supervisor: retry",
        "Note over Wandering: what the code did since event 6 is done anew",
    )


def test_a_failed_step_that_is_retried_by_a_person_tells_of_no_death() -> None:
    lines = drawn(Story(Small.tried).start().finish().repair())

    in_order(lines, "Client->>Supervisor: retry", "tried->>Step: step 1: flaky() (attempt 3)")
    assert "the process died" not in "".join(lines)


def test_a_signal_that_a_void_wait_has_taken_is_there_for_the_next_one() -> None:
    taken = [
        events.FlowStarted("f", Raw(b"{}"), 1),
        events.SignalAwaited("news"),
        events.SignalReceived("news", "k", Raw(b"1")),
        events.FlowFailed(events.Failure("ValueError", "no")),
        events.Repaired(2),
        events.SignalAwaited("news"),
    ]

    assert "Note over f: signal news has come early\n" in draw(taken, level="api").mermaid()
