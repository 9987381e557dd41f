"""The instants in which a wake-up could get lost or doubled, one by one."""

from __future__ import annotations

from typing import Any

import pytest
from persistasaurus.actors.runtime.actor import PooledActor
from persistasaurus.actors.runtime.futures import PooledFuture
from persistasaurus.actors.runtime.mailbox import ActorStop, BatchMailbox, Letter, Mailbox, Park
from pykka import ActorDeadError


class Recording:
    """A scheduler that runs nobody."""

    throughput = 2

    def __init__(self) -> None:
        self.runnable: list[Any] = []
        self.letters: list[Any] = []
        self.ready = self.runnable.append

    def attach(self, mailbox: Any, actor: Any) -> None:
        pass

    def detach(self, mailbox: Any) -> None:
        pass

    def dead_letter(self, recipient: str, message: Any) -> None:
        self.letters.append(message)


class Interrupted:
    """A lock around which something else happens at the worst instant."""

    def __init__(
        self, lock: Any, before_release: Any = lambda: None, after_release: Any = lambda: None
    ) -> None:
        self.lock = lock
        self.before_release, self.after_release = before_release, after_release
        self.locked, self.acquire = lock.locked, lock.acquire

    def release(self) -> None:
        self.before_release()
        self.lock.release()
        self.after_release()


@pytest.fixture(name="scheduler")
def _scheduler() -> Recording:
    return Recording()


@pytest.fixture(name="mailbox", params=[Mailbox, lambda: BatchMailbox(10)], ids=["single", "batch"])
def _mailbox(request: pytest.FixtureRequest, scheduler: Recording) -> Any:
    mailbox = request.param()
    mailbox.attach(PooledActor(), scheduler)
    scheduler.runnable.clear()
    assert mailbox.enter()
    mailbox.open_slice()
    return mailbox


def test_what_is_put_just_before_the_actor_goes_idle_wakes_it(mailbox: Any, scheduler: Recording) -> None:
    mailbox._scheduled = Interrupted(mailbox._scheduled, before_release=lambda: mailbox.put(Letter(1)))

    mailbox.park()

    assert len(scheduler.runnable) == 1
    assert mailbox._scheduled.locked()


def test_what_is_put_just_after_the_actor_went_idle_wakes_it_once(mailbox: Any, scheduler: Recording) -> None:
    mailbox._scheduled = Interrupted(mailbox._scheduled, after_release=lambda: mailbox.put(Letter(1)))

    mailbox.park()

    assert len(scheduler.runnable) == 1


def test_an_idle_actor_is_woken_once_by_many_messages(mailbox: Any, scheduler: Recording) -> None:
    mailbox.park()

    for number in range(3):
        mailbox.put(Letter(number))

    assert len(scheduler.runnable) == 1


def test_an_actor_with_more_to_do_goes_to_the_back_of_the_queue(mailbox: Any, scheduler: Recording) -> None:
    mailbox.put(Letter(1))
    while mailbox.budget:
        mailbox.get()
        mailbox.put(Letter(2))
    with pytest.raises(Park):
        mailbox.get()

    mailbox.park()

    assert len(scheduler.runnable) == 1
    assert mailbox._scheduled.locked()


def test_a_closed_mailbox_answers_for_what_comes_late(mailbox: Any, scheduler: Recording) -> None:
    future = PooledFuture[Any]()
    mailbox.close(None)

    mailbox.put(Letter("late"))
    mailbox.put(Letter("late question", future))

    assert scheduler.letters == ["late"]
    with pytest.raises(ActorDeadError):
        future.get(timeout=0)
    assert mailbox.empty()
    assert scheduler.runnable == []


def test_a_stop_for_an_actor_that_has_ended_is_no_dead_letter(mailbox: Any, scheduler: Recording) -> None:
    asked = PooledFuture[Any]()
    mailbox.close(None)

    mailbox.put(Letter(ActorStop()))
    mailbox.put(Letter(ActorStop(), asked))

    assert scheduler.letters == []
    assert asked.get(timeout=0) is None


class Struck:
    """A lock whose taker is struck by Ctrl-C as soon as it has it."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.locked, self.release = lock.locked, lock.release

    def acquire(self, *args: Any) -> bool:
        self.lock.acquire(*args)
        raise KeyboardInterrupt


def test_a_sender_that_is_struck_when_it_has_to_wake_the_actor_still_does(
    mailbox: Any, scheduler: Recording
) -> None:
    mailbox.park()
    mailbox._scheduled = Struck(mailbox._scheduled)

    with pytest.raises(KeyboardInterrupt):
        mailbox.put(Letter(1))

    assert len(scheduler.runnable) == 1


def test_an_actor_that_was_scheduled_twice_runs_once_at_a_time_and_goes_idle(
    mailbox: Any, scheduler: Recording
) -> None:
    assert not mailbox.enter()
    mailbox.park()
    assert mailbox.enter()
    mailbox.park()

    mailbox.put(Letter(1))

    assert len(scheduler.runnable) == 1


def test_a_sender_that_is_struck_before_the_actor_is_there_leaves_it_alone(scheduler: Recording) -> None:
    mailbox = Mailbox()
    mailbox._scheduled.release()
    mailbox._scheduled = Struck(mailbox._scheduled)

    with pytest.raises(KeyboardInterrupt):
        mailbox.put(Letter(1))

    assert scheduler.runnable == []


def test_a_mailbox_that_others_emptied_a_moment_ago_has_nothing_to_get(mailbox: Any) -> None:
    class Emptied:
        """Looks full, and is empty."""

        def __init__(self, queue: Any) -> None:
            self.get_nowait = queue.get_nowait

        def empty(self) -> bool:
            return False

    mailbox._queue = Emptied(mailbox._queue)

    with pytest.raises(Park):
        mailbox.get()


def test_asks_that_have_been_answered_are_not_kept(scheduler: Recording) -> None:
    mailbox = BatchMailbox(10)
    mailbox.attach(PooledActor(), scheduler)
    for _ in range(3):
        mailbox.open_slice()
        answered: PooledFuture[Any] = PooledFuture()
        mailbox.put(Letter("ask", answered))
        mailbox.get()
        answered.set(1)

    assert mailbox._owed == [answered]


def test_a_sender_does_not_wait_for_another_who_has_just_been_first(
    mailbox: Any, scheduler: Recording
) -> None:
    taken = Interrupted(mailbox._scheduled)
    asked: list[bool] = []
    taken.locked = lambda: False  # a moment ago
    taken.acquire = asked.append
    mailbox._scheduled = taken
    mailbox.put(Letter("tell"))

    assert asked == [False]
    assert scheduler.runnable == []
