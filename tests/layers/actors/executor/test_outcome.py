from __future__ import annotations

from typing import TYPE_CHECKING, Any

from persistasaurus.actors.steps.executor import StepExecutor, StepTask
from persistasaurus.actors.steps.task import TRACEBACK_BYTES_MAX, StepOutcome, traceback_text
from persistasaurus.flows.errors import SystemClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.doubles import Reports, Submit
    from persistasaurus.actors.runtime.environment import Environment


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause  # noqa: TRY301
    except BaseException as caught:  # noqa: BLE001
        return caught


def caught_from(call: Callable[[], None]) -> BaseException:
    try:
        call()
    except BaseException as caught:  # noqa: BLE001
        return caught
    raise AssertionError("nothing was raised")


def test_the_traceback_shows_the_users_frames_and_not_the_engines(submit: Submit, done: Reports) -> None:
    def charge() -> None:
        raise ValueError("no such card")

    text = done.wait_for(submit(charge)).traceback

    assert text.startswith("Traceback (most recent call last):\n")
    assert "in charge\n" in text
    assert "steps_" not in text
    assert text.endswith("ValueError: no such card\n")


def test_the_traceback_tells_the_cause_too() -> None:
    text = traceback_text(raised(ValueError("effect"), raised(KeyError("cause"))))

    assert text.index("KeyError: 'cause'") < text.index("direct cause") < text.index("ValueError: effect")


def test_the_engines_frames_are_left_out_of_causes_too(
    submit: Submit, done: Reports, executor: StepExecutor, environment: Environment
) -> None:
    def closed() -> None:
        executor.close(environment.clock.elapsed())
        executor.submit(StepTask(key=1, mode="thread", name="x"), done)

    def charge() -> None:
        try:
            closed()
        except SystemClosed as error:
            raise ValueError("effect") from error

    text = traceback_text(caught_from(charge))

    assert "in closed\n" in text
    assert "executor.py" not in text.replace(__file__, "")


def test_the_traceback_is_cut_and_ends_with_what_was_raised() -> None:
    text = traceback_text(raised(ValueError("é" * 50_000 + " the end")))

    assert len(text.encode()) <= TRACEBACK_BYTES_MAX
    assert text.startswith("Traceback")
    assert text.endswith("the end\n")


def test_a_traceback_can_always_be_encoded() -> None:
    assert b"lone \\udc80 surrogate" in traceback_text(raised(ValueError("lone \udc80 surrogate"))).encode()


def test_an_error_that_cannot_be_shown_is_named_at_least() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise SystemExit("from __str__")

    assert "Hostile" in traceback_text(raised(Hostile()))


def test_endless_recursion_is_told_in_short(submit: Submit, done: Reports) -> None:
    def deeper(n: int) -> Any:
        return deeper(n + 1)

    outcome = done.wait_for(submit(lambda: deeper(0)))

    assert isinstance(outcome.error, RecursionError)
    assert len(outcome.traceback.encode()) <= TRACEBACK_BYTES_MAX


def test_success_has_no_traceback() -> None:
    assert StepOutcome(value=1).traceback == ""
