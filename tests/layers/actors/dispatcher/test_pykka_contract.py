"""What we rely on in Pykka without its promise. Fails first when a new Pykka changes it."""

from __future__ import annotations

import inspect
from typing import Any

import pykka
import pytest
from persistasaurus.actors.runtime.actor import PooledActor, PooledRef
from persistasaurus.actors.runtime.mailbox import Letter, Park
from pykka import Actor, ThreadingActor
from pykka._envelope import Envelope
from pykka.messages import _ActorStop


class Bare(Actor):
    """Pykka's loop on a scripted inbox."""

    def __init__(self, script: Any) -> None:
        self.script = script
        super().__init__()

    def _create_actor_inbox(self) -> Any:
        return self.script

    @staticmethod
    def _create_future() -> Any:
        return pykka.ThreadingFuture()

    def _start_actor_loop(self) -> Any:
        raise NotImplementedError


class Script:
    def __init__(self, *envelopes: object) -> None:
        self.envelopes = list(envelopes)

    def put(self, envelope: Any) -> None:
        self.envelopes.append(envelope)

    def get(self) -> Any:
        if not self.envelopes:
            raise Park
        return self.envelopes.pop(0)

    def empty(self) -> bool:
        return not self.envelopes


def test_park_unwinds_the_receive_loop_and_the_loop_can_be_entered_again() -> None:
    handled = []
    actor = Bare(Script(Envelope(1), Letter(2)))
    actor.on_receive = handled.append

    with pytest.raises(Park):
        actor._actor_loop_running()
    actor.actor_inbox.put(Envelope(3))
    with pytest.raises(Park):
        actor._actor_loop_running()

    assert handled == [1, 2, 3]
    assert not actor.actor_stopped.is_set()


def test_the_loop_ends_after_the_poison_pill() -> None:
    actor = Bare(Script(Envelope(_ActorStop()), Envelope("left")))

    actor._actor_loop_running()

    assert actor.actor_stopped.is_set()
    assert len(actor.actor_inbox.envelopes) == 1


def test_the_hooks_and_phases_have_the_names_and_parameters_we_override() -> None:
    def parameters(name: Any) -> Any:
        return list(inspect.signature(getattr(Actor, name)).parameters)

    assert parameters("_create_actor_inbox") == []
    assert parameters("_create_future") == []
    assert parameters("_start_actor_loop") == ["self"]
    assert parameters("_actor_loop_setup") == ["self"]
    assert parameters("_actor_loop_running") == ["self"]
    assert parameters("_actor_loop_teardown") == ["self"]
    assert parameters("_handle_receive") == ["self", "message"]
    assert parameters("_handle_failure") == ["self", "exception_type", "exception_value", "traceback"]


def test_our_initialiser_sets_all_that_pykkas_does() -> None:
    theirs, ours = ThreadingActor(), PooledActor()

    assert vars(theirs).keys() == vars(ours).keys()
    assert vars(theirs.actor_ref).keys() == vars(ours.actor_ref).keys()
    assert isinstance(ours.actor_ref, PooledRef)


def test_the_receive_loop_is_pykkas_own() -> None:
    assert PooledActor._actor_loop_running is Actor._actor_loop_running
    assert PooledActor._actor_loop_teardown is Actor._actor_loop_teardown


def test_a_letter_has_all_that_an_envelope_has() -> None:
    assert set(Letter.__struct_fields__) == set(Envelope.__slots__)
    assert (Letter("m").message, Letter("m").reply_to) == (Envelope("m").message, Envelope("m").reply_to)
