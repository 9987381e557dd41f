"""A body knows its flow, and logs what it does once, however often it runs."""

import logging

import pytest
from persistasaurus.flows import Flow, current_flow, flow, gather, query, signal, sleep, step
from persistasaurus.flows.authoring.step import StepContext, enter, leave
from persistasaurus.flows.errors import NotInFlowError
from stories import Story


class Errand(Flow):
    @flow(name="errand")
    async def go(self) -> list[str]:
        log = current_flow().logger
        log.info("begins")
        await self.work()
        log.info("has %s", "worked")
        await sleep(10)
        log.info("has slept")
        first, second = await gather(self.branch("a"), self.branch("b"))
        log.info("ends")
        return [current_flow().id, current_flow().type, first, second]

    async def branch(self, name: str) -> str:
        log = current_flow().logger
        await self.work()
        log.info("branch %s is through", name)
        return name

    @step
    def work(self) -> None: ...

    @signal
    def ask(self) -> None: ...

    @query
    def who(self) -> str:
        return current_flow().id


LINES = ["begins", "has worked", "has slept", "branch a is through", "branch b is through", "ends"]


@pytest.fixture(name="lines")
def _lines(caplog):
    caplog.set_level(logging.INFO, logger="persistasaurus.flow")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_body_knows_the_id_and_type_of_its_flow_live_and_replayed() -> None:
    story = Story(Errand.go, flow_id="ada").start().finish()

    assert story.result == ["ada", "errand", "a", "b"]
    story.fork()


def test_a_line_is_logged_once_though_each_restart_runs_the_body_again(lines, caplog) -> None:
    story = Story(Errand.go, flow_id="ada").start()
    for _ in range(40):
        if story.status == "completed":
            break
        story = story.restart()
        if story.turns:
            story.turn(story.turns[0])
        if story.runs:
            story.run(max(story.runs))
        else:
            story.wait()
        assert lines() == sorted(set(lines()), key=lines().index)

    assert sorted(lines()) == sorted(LINES)
    record = caplog.records[1]
    assert (record.name, record.flow_id, record.flow_type) == ("persistasaurus.flow", "ada", "errand")
    assert (record.filename, record.funcName) == ("test_current_flow.py", "go")


def test_looking_at_a_flow_logs_nothing(lines) -> None:
    story = Story(Errand.go).start().finish()
    before = lines()
    for length in story.commits:
        story.fork(length)

    assert lines() == before == LINES


def test_what_a_body_does_after_a_restart_that_came_between_is_logged_then(lines) -> None:
    story = Story(Errand.go).start()
    story.machine.drain()
    story.run()
    assert lines() == ["begins"]

    restarted = story.restart()

    assert lines() == ["begins", "has worked"]
    restarted.restart()
    assert lines() == ["begins", "has worked"]


def test_all_that_came_while_the_system_closed_is_logged_after_the_restart(lines) -> None:
    story = Story(Errand.go).start()
    story.run()
    story.wait()
    story.machine.drain()
    story.run()
    story.run()
    assert lines() == LINES[:3]

    assert story.restart().status == "completed"
    assert lines() == LINES


def test_a_line_between_two_things_that_are_recorded_together_is_logged_once(lines) -> None:
    class Begins(Flow):
        @flow
        async def go(self) -> None:
            await gather(self.branch("a"), self.branch("b"))

        async def branch(self, name: str) -> None:
            current_flow().logger.info("begins %s", name)
            await self.work()

        @step
        def work(self) -> None: ...

    story = Story(Begins.go).start()
    story.restart().finish()

    assert lines() == ["begins a", "begins b"]


def test_a_repaired_flow_logs_what_it_does_anew_and_not_what_it_has_done(lines) -> None:
    class Fragile(Flow):
        is_broken = True

        @flow
        async def go(self) -> None:
            current_flow().logger.info("begins")
            await self.work()
            current_flow().logger.info("goes on")

        @step
        def work(self) -> None:
            if Fragile.is_broken:
                raise OSError

    story = Story(Fragile.go).start().finish()
    Fragile.is_broken = False
    story.repair().finish()

    assert lines() == ["begins", "goes on"]


def test_a_level_that_is_not_logged_costs_no_record(lines, caplog) -> None:
    caplog.set_level(logging.WARNING, logger="persistasaurus.flow")

    Story(Errand.go).start().finish()

    assert lines() == []


def test_a_step_that_was_given_the_logger_may_use_it(lines) -> None:
    loggers = []

    class Lends(Flow):
        @flow
        async def go(self) -> None:
            loggers.append(current_flow().logger)
            await self.work()

        @step
        def work(self) -> None:
            loggers[0].info("from a step")

    Story(Lends.go).start().finish()

    assert lines() == ["from a step"]


def test_outside_of_a_body_there_is_no_current_flow() -> None:
    class Asks(Flow):
        @flow
        async def go(self) -> None:
            await self.work()

        @step
        def work(self) -> str:
            return current_flow().id

    with pytest.raises(NotInFlowError, match=r"current_flow\(\) works inside a running flow only"):
        current_flow()
    story = Story(Errand.go).start()
    with pytest.raises(NotInFlowError):
        story.machine.query(Errand.who().query, (), {})


def test_in_a_step_the_message_names_what_a_step_has() -> None:
    token = enter(StepContext("ada", 1, "work", 1))
    try:
        with pytest.raises(NotInFlowError, match=r"current_step\(\)"):
            current_flow()
    finally:
        leave(token)
