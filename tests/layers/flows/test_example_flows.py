"""The diagrams of the example flows, as sequences of events. Step 0 is the flow itself."""

from datetime import UTC, datetime

from persistasaurus.flows import events
from persistasaurus.flows.examples import HelloWorldFlow, SignupFlow
from stories import Story, same_at_every_prefix

CONFIRMED = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def test_hello_world_says_hello_in_five_steps_numbered_from_one() -> None:
    story = Story(HelloWorldFlow.say_hello).start().finish()

    pair = ["step_started", "step_completed"]
    assert story.kinds == ["flow_started", *pair * 5, "flow_completed"]
    assert [e.step for e in story.of(events.StepStarted)] == [1, 2, 3, 4, 5]
    assert {e.name for e in story.of(events.StepStarted)} == {"say"}
    assert story.result == 10
    same_at_every_prefix(story)


def test_each_decision_completes_one_step_and_starts_the_next() -> None:
    story = Story(HelloWorldFlow.say_hello).start()

    assert story.run() == ["step_completed", "step_started"]


def test_a_replay_returns_recorded_results_without_running_a_step(capsys) -> None:
    story = Story(HelloWorldFlow.say_hello).start().finish()
    capsys.readouterr()

    assert story.fork().status == "completed"

    assert "Hello" not in capsys.readouterr().out


def signed_up():
    story = Story(SignupFlow.sign_up, "ada", "ada@example.com").start()
    assert story.run(1) == ["step_completed", "step_scheduled"]
    return story


def test_sign_up_waits_ten_seconds_before_the_second_step() -> None:
    story = signed_up()

    assert story.status == "waiting"
    story.advance(9.99)
    assert story.tick() == []
    story.advance(0.01)
    assert story.tick() == ["step_attempted"]
    assert story.status == "running"
    assert story.run(2) == ["step_completed", "signal_awaited"]


def test_sign_up_waits_for_the_confirmation_as_its_third_step() -> None:
    story = signed_up()
    story.wait()
    story.run(2)

    assert story.machine.alarm is None
    assert story.of(events.SignalAwaited)[0].step == 3
    assert story.status == "waiting"


def test_the_confirmation_runs_as_step_three_and_then_the_flow_ends() -> None:
    story = signed_up()
    story.wait()
    story.run(2)

    assert story.signal(SignupFlow.confirm_email_address(CONFIRMED)) == ["signal_received", "step_started"]
    assert story.run(3) == ["step_completed", "step_started"]
    assert story.run(4) == ["step_completed", "flow_completed"]
    assert [e.step for e in story.of(events.StepStarted)] == [1, 3, 4]
    assert bytes(story.of(events.StepCompleted)[2].result) == b'"2026-01-02T03:04:00Z"'
    same_at_every_prefix(story)


def test_a_confirmation_that_comes_early_is_kept() -> None:
    story = Story(SignupFlow.sign_up, "ada", "ada@example.com").start()

    assert story.signal(SignupFlow.confirm_email_address(CONFIRMED)) == ["signal_received"]
    story.run(1)
    story.wait()
    assert story.run(2) == ["step_completed", "signal_awaited", "step_started"]
    story.finish()
    assert story.status == "completed"
    same_at_every_prefix(story, same_result=False)  # the user id is random
