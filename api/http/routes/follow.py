"""Routes that follow events as they happen: server-sent events, resumable after any event."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.concurrency import sync_to_thread
from litestar.response import Stream

from ....flows.errors import PersistasaurusError
from ..contract.models import EventView, FollowedEvent, FollowRange
from ..contract.parsing import flow_id_of, read_query, system_of
from ..contract.problems import problem_of
from ..contract.promise import Contract
from ..middleware.identity import Scope
from ..middleware.problem import ProblemError
from .feeds import AllFlowsFeed, EventBatch, FlowFeed, one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .commit_notifier import CommitNotifier, Subscription
    from .feeds import Feed

ApiRequest = Request[Any, Any, Any]
_TAG: Final = "following"
_EVENT_STREAM: Final = "text/event-stream"
_POSITION_DIGITS: Final = 15
_HEARTBEAT: Final = b": still here\n\n"
_RETRY_MS: Final = 1000


@get(
    "/flows/{flow_id:str}/follow",
    opt=Contract(
        scope=Scope.READ,
        tag=_TAG,
        query=FollowRange,
        answers={200: EventView, 204: None},
        problems=(404, 409),
        streams=True,
    ).opt,
)
async def follow_flow(request: ApiRequest) -> Response[Any]:
    """Follow a flow as server-sent events: first its history, then what happens.

    `id` is the event's version; to continue after a lost connection, send it as `Last-Event-ID`, or as
    `after`. When the flow has ended, the last event is named `end`; 204 if nothing follows what was asked
    for, and nothing will: browsers then do not reconnect. 409 if it lies beyond the newest event: the store
    was restored, or is a different one.

    In the place of a damaged event comes an event named `problem`, which says which one it is, and why.
    """
    system, query = system_of(request), read_query(request, FollowRange)
    after = _resumed(request, query)
    feed = FlowFeed(system, flow_id_of(request))
    first = await sync_to_thread(_first, feed, after or 0)
    if after is not None and first.end and not first.events:
        return Response(b"", status_code=204)
    return _stream(request, query, feed, after or 0, first)


@get(
    "/follow",
    opt=Contract(
        scope=Scope.READ,
        tag=_TAG,
        query=FollowRange,
        answers={200: FollowedEvent},
        problems=(409,),
        streams=True,
    ).opt,
)
async def follow_all(request: ApiRequest) -> Response[Any]:
    """Follow all flows, from now on, as server-sent events.

    `id` is the event's position in the order of all commits; to continue after a lost connection, send it as
    `Last-Event-ID`, or as `after`. `after=0` begins with the very first event. 409 if it lies beyond the
    newest event: the store was restored, or is a different one.

    In the place of a damaged event comes an event named `problem`, which says which one it is, and why.
    """
    system, query = system_of(request), read_query(request, FollowRange)
    feed, after = AllFlowsFeed(system), _resumed(request, query)
    if after is None:
        known = request.app.state.commit_notifier.position()
        after = await sync_to_thread(feed.newest) if known is None else known
        first = EventBatch(after, [], after)
    else:
        first = await sync_to_thread(_first, feed, after)
    return _stream(request, query, feed, after, first)


def _first(feed: Feed, after: int) -> EventBatch:
    """Read the first batch.

    Raises:
        ProblemError: there is no event with that id. The client has followed another store, or this one
        before it
            was restored, and would hear nothing until the store has grown that far.
    """
    first = feed.read(after)
    if after and not first.events and after > (newest := feed.newest()):
        raise ProblemError(
            409,
            f"there is no event {after}: the newest is {newest}. The store was restored, or is a"
            " different one. Reload your copy of its data and follow from there, or start with after=0",
            code="beyond-the-end",
        )
    return first


def _resumed(request: ApiRequest, query: FollowRange) -> int | None:
    """Return after which id to continue. What the client has seen last overrides the URL."""
    given = request.headers.getall("last-event-id", [])
    if given in ([], [""]):
        return None if query.after is msgspec.UNSET else query.after
    digits = given[0]
    if len(given) > 1 or not (digits.isascii() and digits.isdigit()) or len(digits) > _POSITION_DIGITS:
        raise ProblemError(400, "Last-Event-ID must be the id of an event, once")
    return int(digits)


def _stream(request: ApiRequest, query: FollowRange, feed: Feed, after: int, first: EventBatch) -> Stream:
    state = request.app.state
    seconds = None if query.seconds is msgspec.UNSET else query.seconds
    follower = _Follower(state.commit_notifier, feed, state.heartbeat_s, seconds)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Stream(follower.run(after, first), media_type=_EVENT_STREAM, headers=headers)


class _Follower:
    """One client that follows. It holds one batch at a time, and reads on once that was sent."""

    def __init__(self, notifier: CommitNotifier, feed: Feed, heartbeat_s: float, seconds: int | None) -> None:
        self._commits = notifier
        self._feed = feed
        self._heartbeat_s = heartbeat_s
        self._clock = asyncio.get_running_loop().time
        self._until = inf if seconds is None else self._clock() + seconds

    async def run(self, after: int, first: EventBatch) -> AsyncIterator[bytes]:
        """Yield what is sent. The id comes first, so that the client can resume even if nothing happens."""
        yield b"retry: %d\nid: %d\n\n" % (_RETRY_MS, after)
        try:
            with self._commits.subscribe(self._feed.flow_id) as subscription:
                async for chunk in self._chunks(first, subscription):
                    yield chunk
        except PersistasaurusError as error:
            yield _event(b"problem", msgspec.json.encode(problem_of(error).problem))

    async def _chunks(self, batch: EventBatch, subscription: Subscription) -> AsyncIterator[bytes]:
        while True:
            if batch.events:
                yield batch.message()
            if batch.end is not None:
                yield _event(b"end", batch.end)
            if batch.end is not None or self._is_over():
                return
            while not batch.has_more and not await self._has_news(subscription.has_news):
                if self._is_over():
                    return
                self._commits.check()
                yield _HEARTBEAT
            shared = subscription.batch(batch.reached) if self._feed.flow_id is None else None
            batch = shared or await sync_to_thread(self._feed.read, batch.reached)

    async def _has_news(self, has_news: asyncio.Event) -> bool:
        """Wait for something new; False: it is time for a heartbeat."""
        try:
            async with asyncio.timeout(min(self._heartbeat_s, self._until - self._clock())):
                await has_news.wait()
        except TimeoutError:
            return False
        has_news.clear()
        return True

    def _is_over(self) -> bool:
        return self._clock() >= self._until


def _event(event: bytes, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event, one_line(data))


FOLLOW_ROUTES: Final = [follow_flow, follow_all]
