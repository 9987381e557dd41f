"""Routes that tell what happens, as it happens: server-sent events, resumable from any of them."""

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
from ..contract.promise import Contract, promise
from ..middleware.identity import Scope
from ..middleware.problem import ProblemError
from .feeds import AllFlowsFeed, EventBatch, FlowFeed, one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .commit_notifier import CommitNotifier, Subscription
    from .feeds import Feed

__all__ = ["FOLLOW_ROUTES"]

ApiRequest = Request[Any, Any, Any]
_TAG: Final = "following"
_EVENT_STREAM: Final = "text/event-stream"
_POSITION_DIGITS: Final = 15
_HEARTBEAT: Final = b": still here\n\n"
_RETRY_MS: Final = 1000


@get(
    "/flows/{flow_id:str}/follow",
    opt=promise(
        Scope.READ,
        Contract(
            tag=_TAG,
            query=FollowRange,
            answers={200: EventView, 204: None},
            problems=(404, 409),
            streams=True,
        ),
        stream=True,
    ),
)
async def follow_flow(request: ApiRequest) -> Response[Any]:
    """Follow a flow: what is in its history, and then what happens, as server-sent events.

    `id` is the event's version; to go on where a connection broke off, send it as `Last-Event-ID`, or as
    `after`. When the flow has ended, an event `end` is the last one; 204, when there is nothing behind
    what was asked for, and there will be nothing: browsers then do not ask again. 409, when what was asked
    for lies beyond the newest event: the store was restored, or is another.

    In the place of an event that is damaged in the store comes an event `problem`: which one it is, and why.
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
    opt=promise(
        Scope.READ,
        Contract(tag=_TAG, query=FollowRange, answers={200: FollowedEvent}, problems=(409,), streams=True),
        stream=True,
    ),
)
async def follow_all(request: ApiRequest) -> Response[Any]:
    """Follow all flows, from now on, as server-sent events.

    `id` is the event's position in the order of all commits; to go on where a connection broke off, send
    it as `Last-Event-ID`, or as `after`. `after=0` begins with the very first event. 409, when what was
    asked for lies beyond the newest event: the store was restored, or is another.

    In the place of an event that is damaged in the store comes an event `problem`: which one it is, and why.
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
        ProblemError: there is no event with that id. Whoever was there has followed another store, or this
            one before it was restored, and would hear nothing until it has caught up with itself.
    """
    first = feed.read(after)
    if after and not first.events and after > (newest := feed.newest()):
        raise ProblemError(
            409,
            f"there is no event {after}: the newest is {newest}. The store was restored, or is"
            " another. Reload what you keep of it, and follow from there, or from the start with after=0",
            code="beyond-the-end",
        )
    return first


def _resumed(request: ApiRequest, query: FollowRange) -> int | None:
    """Return from behind which id to go on. What the client has seen last counts for more than the URL."""
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
    """One client that follows. It holds one batch at a time, and reads on when that has been taken."""

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
        """Wait until there is something new; False: it is time to say that there is not."""
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
