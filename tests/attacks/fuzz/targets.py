"""All that reads bytes which somebody else may have written: what it reads, and how it may refuse them."""

from __future__ import annotations

import io
import random
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from persistasaurus.actors.remote.protocol import (
    PauseRequest,
    RetryRequest,
    SignalRequest,
    decode_request,
    decode_response,
    encode,
)
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.api.diagrams.grammar import DiagramError
from persistasaurus.api.diagrams.parser import parse
from persistasaurus.api.links.action import Action
from persistasaurus.api.links.keys import KeyRing
from persistasaurus.api.links.links import Links
from persistasaurus.flows import Limits, examples
from persistasaurus.flows import events as flow_events
from persistasaurus.flows.errors import PayloadError
from persistasaurus.flows.examples import HelloWorldFlow, SignupFlow, signup_flow
from persistasaurus.flows.values.codec import Codec, check
from persistasaurus.store import Durability, NotAnExport, SqliteStore
from persistasaurus.store.tools.export import export
from persistasaurus.store.tools.transcript_reader import DEFAULT_LIMITS, TranscriptReader

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from persistasaurus import FlowSystem
    from persistasaurus.actors.runtime.primitives import ManualClock

WAIT_S = 20.0
SIGNUP = signup_flow(timedelta(0))
FLOWS = [HelloWorldFlow, SIGNUP]


class Target(NamedTuple):
    corpus: list[bytes]
    read: Callable[[bytes], Any]
    may_raise: type[Exception] | tuple[type[Exception], ...]


@contextmanager
def simulated(path: Path) -> Generator[FlowSystem]:
    """Run flows in a file so that the same is in it each time, byte for byte: a seed finds the same again."""
    before = random.getstate()
    random.seed(1)  # the example draws the numbers of its users
    try:
        with closing_stores(path) as open_store, Simulation(FLOWS, store=open_store) as simulation:
            yield simulation.system
    finally:
        random.setstate(before)


@contextmanager
def closing_stores(path: Path) -> Generator[Callable[[ManualClock], SqliteStore]]:
    """Open a store for a simulation, which takes it for one that outlives its processes."""
    with ExitStack() as stack:

        def open_store(clock: ManualClock) -> SqliteStore:
            lasting = Durability.MAY_LOSE_LAST_COMMITS
            store = SqliteStore.open(path, now=clock.now, durability=lasting)
            stack.callback(store.close)
            return store

        yield open_store


def make_store(path: Path) -> None:
    """Make a store with a few flows in it, which have ended, wait, and were given up."""
    with simulated(path) as system:
        for number in range(4):
            handle = system.start(SIGNUP.sign_up, f"ada-{number}", "ada@example.com", flow_id=f"ada-{number}")
            if number % 2:
                handle.signal_json(
                    "confirm_email_address", b'{"confirmed_at":"2026-05-17T00:00:00Z"}', signal_id="c"
                )
                handle.result(WAIT_S)
            else:
                handle.pause(by="ada", why="to look")
                handle.signal_json(
                    "confirm_email_address", b'{"confirmed_at":"2026-05-17T00:00:00Z"}', signal_id="u"
                )
        system.run(HelloWorldFlow.say_hello)


def targets(folder: Path) -> dict[str, Target]:
    path = folder / "corpus.db"
    make_store(path)
    store = SqliteStore.open(path, now=lambda: 0, durability=Durability.MAY_LOSE_LAST_COMMITS)
    found = [record.record.data for record in store.read_all()]
    store.close()
    exported: list[bytes] = []
    export(path, exported.append)
    arguments = SignupFlow.sign_up.parameters
    anything = Codec(Any, "a signal's payload")
    confirm = SignupFlow.confirm_email_address.step.parameters
    signals = [b'{"confirmed_at":"2026-05-17T00:00:00Z"}', b"null", b"[1,2]", b'"text"', b"1.5"]
    requests = [
        encode(
            SignalRequest("ada", "me", 5, name="go", signal_id="s", payload=msgspec.Raw(b'{"a":[1]}'), at=1)
        ),
        encode(PauseRequest("ada", "me", why="why")),
        encode(RetryRequest("ada", "me", why="why", version=7)),
    ]
    links = Links(KeyRing.fresh(), "https://example.com", [Action(name="confirm", signal="go", title="Go?")])
    tokens = [links.url("ada", "confirm", says="é").rpartition("/")[2].encode() for _ in range(3)]
    drawn = Path(examples.__file__).parent / "diagrams"

    def signal(data: bytes) -> None:
        check(data, "the signal", Limits().payload)
        confirm.codec.decode(data)

    def plain(data: bytes) -> None:
        check(data, "the signal", Limits().payload)
        anything.decode(data)

    def arguments_of(data: bytes) -> None:
        check(data, "the arguments", Limits().payload)
        arguments.seal_json(data, Limits().payload)

    def token(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        if links.read(text) is not None:
            assert data in tokens, "a token that was not made here is believed"
        assert links.read_done(text) is None

    return {
        "events": Target(found, flow_events.decode, msgspec.MsgspecError),
        "arguments": Target([b'{"user_name":"ada","email":"a@b.c"}'], arguments_of, PayloadError),
        "signals": Target(signals[:1], signal, PayloadError),
        "payloads": Target([*signals, *found], plain, PayloadError),
        "requests": Target(requests, decode_request, PayloadError),
        "responses": Target(
            [b"{}", b'{"kind":"FlowEnded","status":"completed"}'], decode_response, msgspec.MsgspecError
        ),
        "tokens": Target(tokens, token, ()),
        "exports": Target(
            [b"".join(exported)],
            lambda d: list(TranscriptReader(io.BytesIO(d), DEFAULT_LIMITS).flows()),
            NotAnExport,
        ),
        "diagrams": Target(
            [f.read_bytes() for f in drawn.glob("*.mmd")],
            lambda d: parse(d.decode("utf-8", "replace")),
            DiagramError,
        ),
    }
