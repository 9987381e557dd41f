"""Following: what happens is told as it happens, once, in order, and from wherever the client has been."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import FlowSystem
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.routes.commit_notifier import CommitNotifier
from persistasaurus.api.http.routes.feeds import FlowFeed
from persistasaurus.api.http.routes.follow import _Follower
from persistasaurus.store import StoreError
from routes.client import TOKENS, Client, Frame, stream
from routes.flows import Anything, Questions
from system.doubles import DEAD_MAN_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable


def versions(frames: list[Frame]) -> list[int]:
    return [frame.data["version"] for frame in frames if "version" in frame.get("data", "")]


async def until(holds: Callable[[], Any]) -> None:
    """Wait for what nobody tells, and let everybody else on the loop go on."""
    async with asyncio.timeout(DEAD_MAN_S):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.002)


def start(system: FlowSystem, flow_id: str = "q-1") -> Any:
    return system.start(Questions.ask("cats", most=1000), flow_id=flow_id)


def test_a_flow_is_followed_from_its_start_to_its_end(client: Client, system: FlowSystem) -> None:
    handle = start(system)

    async def scenario() -> list[Frame]:
        async with stream(client, "/flows/q-1/follow") as followed:
            assert (followed.status, followed.headers["content-type"]) == (
                200,
                "text/event-stream; charset=utf-8",
            )
            await followed.until("signal_awaited")
            await handle.signal_async(Questions.answer, "enough")
            return await followed.rest()

    frames = asyncio.run(scenario())

    assert (frames[-1]["event"], frames[-1].data) == ("end", {"flowId": "q-1", "status": "completed"})
    assert versions(frames)[-1] == handle.header().version


def test_nothing_is_told_twice_or_left_out_however_often_the_connection_breaks(
    client: Client, system: FlowSystem
) -> None:
    handle = start(system)
    seen: list[int] = []

    async def some(count: int) -> None:
        last = {"Last-Event-ID": str(seen[-1])} if seen else {}
        async with stream(client, "/flows/q-1/follow", **last) as followed:
            while count and (frame := await followed.next()) is not None:
                seen.extend(versions([frame]))
                count -= 1

    async def scenario() -> None:
        for round_number in range(20):
            await handle.signal_async(Questions.answer, f"text {round_number}")
            await some(3)
        await handle.signal_async(Questions.answer, "enough")
        await some(1000)

    asyncio.run(scenario())

    assert seen == list(range(1, handle.header().version + 1))


def test_who_has_heard_the_end_is_told_not_to_come_again(client: Client, system: FlowSystem) -> None:
    handle = start(system)
    handle.signal(Questions.answer, "enough")
    handle.result(DEAD_MAN_S)
    last = str(handle.header().version)

    assert client.get("/flows/q-1/follow", headers={"Last-Event-ID": last}).status_code == 204
    assert client.get(f"/flows/q-1/follow?after={last}").status_code == 204
    assert versions(
        [*map(frame, client.get(f"/flows/q-1/follow?after={int(last) - 1}").text.split("\n\n"))]
    ) == [int(last)]


def frame(text: str) -> Frame:
    return Frame(line.split(": ", 1) for line in text.split("\n") if ": " in line)


def test_what_the_client_has_seen_counts_for_more_than_the_url(client: Client, system: FlowSystem) -> None:
    start(system)
    wait_until(lambda: system.flow("q-1").header().version == 2)

    text = client.get("/flows/q-1/follow?after=0&seconds=0", headers={"Last-Event-ID": "1"}).text

    assert "id: 2\n" in text
    assert '"version":1' not in text


@pytest.mark.parametrize("last", ["-1", "x", "1.5", "\uff11", "9" * 16, "1, 2"])
def test_an_id_that_no_event_has_is_refused(client: Client, system: FlowSystem, last: str) -> None:
    start(system)

    for path in ("/flows/q-1/follow", "/follow"):
        answer = client.get(path, headers={"Last-Event-ID": last.encode()})
        assert answer.status_code == 400
        assert "Last-Event-ID" in answer.json()["detail"]


def test_all_flows_are_followed_from_now_on_in_the_order_of_their_commits(
    client: Client, system: FlowSystem
) -> None:
    start(system, "before")
    wait_until(lambda: system.flow("before").status == "waiting")

    async def scenario() -> list[dict[str, Any]]:
        async with stream(client, "/follow") as followed:
            assert await followed.next() is not None  # the position to resume from
            await system.start_async(Anything.wait, flow_id="a-1")
            await system.start_async(Anything.wait, flow_id="a-2")
            await system.flow("a-1").signal_async("thing", 1)
            seen: list[dict[str, Any]] = []
            while not seen or seen[-1]["event"]["type"] != "flow_completed":
                frame = await followed.next()
                assert frame is not None
                seen.append(frame.data)
            return seen

    seen = asyncio.run(scenario())

    assert {event["flowId"] for event in seen} == {"a-1", "a-2"}
    positions = [event["position"] for event in seen]
    assert positions == sorted(set(positions))
    whole = [
        frame(text).data
        for text in client.get("/follow?after=0&seconds=0").text.split("\n\n")
        if "data" in text
    ]
    assert whole[0]["flowId"] == "before"
    assert [event["position"] for event in whole if event["position"] >= positions[0]] == positions


def test_a_commit_wakes_followers_and_nobody_polls(system: FlowSystem) -> None:
    handle = start(system)
    client = Client.of(system, heartbeat_s=3600)
    reads: list[str] = []
    read = system.store.read

    def counted(flow_id: str, **options: Any) -> Any:
        reads.append(flow_id)
        return read(flow_id, **options)

    async def scenario() -> None:
        async with stream(client, "/flows/q-1/follow") as followed:
            await followed.until("signal_awaited")
            quiet = len(reads)
            for _ in range(50):
                await asyncio.sleep(0.002)
            assert len(reads) - quiet <= 1
            await handle.signal_async(Questions.answer, "purr")
            await followed.until("signal_received")

    system.store.read = counted  # type: ignore[method-assign]
    asyncio.run(scenario())


def test_what_happens_before_anybody_listens_is_not_missed(system: FlowSystem) -> None:
    handle = start(system)
    wait_until(lambda: handle.status == "waiting")
    feed = FlowFeed(system, "q-1")

    async def scenario() -> bytes:
        follower = _Follower(CommitNotifier(system), feed, heartbeat_s=3600, seconds=None)
        chunks = follower.run(0, feed.read(0))
        await anext(chunks)
        await handle.signal_async(Questions.answer, "enough")
        await asyncio.to_thread(handle.result, DEAD_MAN_S)
        async with asyncio.timeout(DEAD_MAN_S):
            return b"".join([chunk async for chunk in chunks])

    assert b"event: end" in asyncio.run(scenario())


def test_a_client_that_waits_for_nothing_hears_that_the_connection_lives(system: FlowSystem) -> None:
    start(system)
    client = Client.of(system, heartbeat_s=0.01)

    async def scenario() -> None:
        async with stream(client, "/flows/q-1/follow") as followed:
            await followed.until("signal_awaited")
            assert [await followed.next() for _ in range(3)] == [{"": "still here"}] * 3

    asyncio.run(scenario())


def test_a_slow_client_is_sent_no_more_than_it_reads(client: Client, system: FlowSystem) -> None:
    handle = start(system)
    handle.signal(Questions.answer, "purr")

    async def scenario() -> None:
        async with stream(client, "/flows/q-1/follow") as followed:
            for number in range(300):
                await handle.signal_async(Questions.answer, f"{number} " + "x" * 2000)
            sent = followed.sent
            assert sent <= 4, "a message is held for the client, and a batch of events behind it"
            frames: list[Frame] = []
            while len(versions(frames)) < handle.header().version - 1:
                frame = await followed.next()
                assert frame is not None
                frames.append(frame)
            assert versions(frames) == list(range(1, len(versions(frames)) + 1))

    asyncio.run(scenario())


def test_when_nobody_follows_any_more_nobody_listens(client: Client, system: FlowSystem) -> None:
    start(system)

    async def scenario() -> None:
        async with stream(client, "/flows/q-1/follow") as one, stream(client, "/follow?after=0") as other:
            await one.until("signal_awaited")
            await other.until("signal_awaited")
            await until(lambda: len(system._commits._listeners) == 1)
        await until(lambda: not system._commits._listeners)

    asyncio.run(scenario())


def test_a_commit_after_the_event_loop_has_closed_harms_nobody(system: FlowSystem) -> None:
    notifier = CommitNotifier(system)

    async def forgotten() -> Any:
        subscribe = notifier.subscribe()
        subscribe.__enter__()
        return subscribe

    kept = asyncio.run(forgotten())
    start(system)

    wait_until(lambda: system.flow("q-1").status == "waiting")
    with suppress(RuntimeError):
        kept.__exit__(None, None, None)


def test_a_stream_ends_when_the_system_is_closed() -> None:
    async def scenario() -> list[Frame]:
        with FlowSystem(flows=[Questions]) as system:
            start(system)
            client = Client(asgi_app(system, access=TOKENS, heartbeat_s=0.05))
            async with stream(client, "/flows/q-1/follow") as followed:
                await followed.until("signal_awaited")
                await system.close_async()
                return await followed.rest()

    frames = asyncio.run(scenario())

    assert (frames[-1]["event"], frames[-1].data["status"]) == ("problem", 503)


def test_a_stream_ends_after_the_seconds_that_were_asked_for(client: Client, system: FlowSystem) -> None:
    start(system)

    assert "event: end" not in client.get("/flows/q-1/follow?seconds=1").text
    assert client.get("/follow?seconds=0").status_code == 200
    assert client.get("/follow?seconds=-1").status_code == 400


def test_head_does_not_wait_for_the_end_of_a_stream(client: Client, system: FlowSystem) -> None:
    start(system)

    answer = client.ask("HEAD", "/flows/q-1/follow")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_an_unknown_flow_cannot_be_followed(client: Client) -> None:
    answer = client.get("/flows/nobody/follow")

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("state", ["waiting", "completed"])
@pytest.mark.parametrize("path", ["/follow", "/flows/q-1/follow"])
def test_who_was_further_than_the_newest_event_is_told_so(
    client: Client, system: FlowSystem, path: str, state: str
) -> None:
    handle = start(system)
    if state == "completed":
        handle.signal(Questions.answer, "enough")
        handle.result(DEAD_MAN_S)
    wait_until(lambda: handle.status == state)
    newest = handle.header().version
    lost = {"Last-Event-ID": str(newest + 1)}

    for answer in (client.get(path, headers=lost), client.get(f"{path}?after={newest + 1000}")):
        assert answer.status_code == 409
        assert answer.json()["type"] == "urn:persistasaurus:problem:beyond-the-end"
        assert f"the newest is {newest}" in answer.json()["detail"]
    here = client.get(f"{path}?after={newest}&seconds=0")
    assert here.status_code == (204 if state == "completed" and path != "/follow" else 200)
    assert client.get(f"{path}?after=0&seconds=0").status_code == 200


def test_an_empty_store_can_be_followed_from_its_beginning(client: Client) -> None:
    assert client.get("/follow?after=0&seconds=0").status_code == 200
    assert client.get("/follow?after=1&seconds=0").status_code == 409


def test_an_event_is_read_once_however_many_follow(client: Client, system: FlowSystem) -> None:
    read, reads = system.store.read_all, []

    def counted(**options: Any) -> Any:
        reads.append(options)
        return read(**options)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            following = [await stack.enter_async_context(stream(client, "/follow")) for _ in range(12)]
            following += [
                await stack.enter_async_context(stream(client, "/follow?after=0")) for _ in range(3)
            ]
            for one in following:
                assert await one.next() is not None
            await until(lambda: client.app._app._app.state.commit_notifier.position() is not None)  # type: ignore[attr-defined]
            system.store.read_all = counted  # type: ignore[method-assign]
            for number in range(10):
                handle = await system.start_async(Anything.wait, flow_id=f"a-{number}")
                await handle.signal_async("thing", 1)
            seen = [[await one.until("flow_completed") for _ in range(10)] for one in following]
        assert all(frames == seen[0] for frames in seen)
        assert len(reads) < 10 * len(following)

    asyncio.run(scenario())


def test_who_follows_one_flow_does_not_look_when_something_else_happens(system: FlowSystem) -> None:
    start(system)
    wait_until(lambda: system.flow("q-1").status == "waiting")
    client = Client.of(system, heartbeat_s=3600)
    read, reads = system.store.read, []

    def counted(flow_id: str, **options: Any) -> Any:
        reads.append(flow_id)
        return read(flow_id, **options)

    async def scenario() -> None:
        async with stream(client, "/flows/q-1/follow") as one, stream(client, "/follow") as other:
            await one.until("signal_awaited")
            await other.next()
            system.store.read = counted  # type: ignore[method-assign]
            for number in range(20):
                handle = await system.start_async(Anything.wait, flow_id=f"a-{number}")
                await handle.signal_async("thing", 1)
                await other.until("flow_completed")
            assert reads.count("q-1") <= 2
            await system.flow("q-1").signal_async(Questions.answer, "purr")
            await one.until("signal_received")

    asyncio.run(scenario())


def test_who_reads_slowly_catches_up_with_what_is_not_kept_any_more(
    client: Client, system: FlowSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistasaurus.api.http.routes.commit_notifier._KEPT_BYTES", 1)
    monkeypatch.setattr("persistasaurus.api.http.routes.commit_notifier._PACE_S", 0)

    async def scenario() -> list[int]:
        async with stream(client, "/follow?after=0") as slow, stream(client, "/follow?after=0") as fast:
            for number in range(30):
                handle = await system.start_async(Anything.wait, flow_id=f"a-{number}")
                await handle.signal_async("thing", number)
                await fast.until("flow_completed")
            seen: list[int] = []
            while len(seen) < 30 * 4:
                frame = await slow.next()
                assert frame is not None
                seen += [frame.data["position"]] if "data" in frame else []
            return seen

    seen = asyncio.run(scenario())
    assert seen == sorted(set(seen))


def test_what_cannot_be_read_is_told_to_all_who_follow(system: FlowSystem) -> None:
    client = Client.of(system, heartbeat_s=3600)

    def broken(**_: Any) -> Any:
        raise StoreError("no")

    async def scenario() -> list[list[Frame]]:
        async with stream(client, "/follow") as one, stream(client, "/follow?after=0") as other:
            for follower in (one, other):
                await follower.next()
            await until(lambda: client.app._app._app.state.commit_notifier.position() is not None)  # type: ignore[attr-defined]
            system.store.scan_all = broken  # type: ignore[method-assign]
            start(system)
            return [await one.rest(), await other.rest()]

    for frames in asyncio.run(scenario()):
        assert (frames[-1]["event"], frames[-1].data["status"]) == ("problem", 503)
