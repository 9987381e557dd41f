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
from ..access import Scope
from ..contract import Contract, promise
from ..feeds import AllFlows, OneFlow, Portion, one_line
from ..models import EventView, FollowedEvent, FollowRange
from ..parsing import asked_flow, asked_query, system_of
from ..problems import Refused, translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..commit_notifier import Ear, Tidings
    from ..feeds import Feed

__all__ = ["FOLLOW_ROUTES"]

Asking = Request[Any, Any, Any]
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
async def follow_flow(request: Asking) -> Response[Any]:
    """Follow a flow: what is in its history, and then what happens, as server-sent events.

    `id` is the event's version; to go on where a connection broke off, send it as `Last-Event-ID`, or as
    `after`. When the flow has ended, an event `end` is the last one; 204, when there is nothing behind
    what was asked for, and there will be nothing: browsers then do not ask again. 409, when what was asked
    for lies beyond the newest event: the store was restored, or is another. In the
    place of an event that is damaged in the store comes an event `problem`: which one it is, and why.
    """
    system, asked = system_of(request), asked_query(request, FollowRange)
    after = _resumed(request, asked)
    feed = OneFlow(system, asked_flow(request))
    first = await sync_to_thread(_first, feed, after or 0)
    if after is not None and first.end and not first.events:
        return Response(b"", status_code=204)
    return _stream(request, asked, feed, after or 0, first)


@get(
    "/follow",
    opt=promise(
        Scope.READ,
        Contract(tag=_TAG, query=FollowRange, answers={200: FollowedEvent}, problems=(409,), streams=True),
        stream=True,
    ),
)
async def follow_all(request: Asking) -> Response[Any]:
    """Follow all flows, from now on, as server-sent events.

    `id` is the event's position in the order of all commits; to go on where a connection broke off, send
    it as `Last-Event-ID`, or as `after`. `after=0` begins with the very first event. 409, when what was
    asked for lies beyond the newest event: the store was restored, or is another.

    In the place of an event that is damaged in the store comes an event `problem`: which one it is, and why.
    """
    system, asked = system_of(request), asked_query(request, FollowRange)
    feed, after = AllFlows(system), _resumed(request, asked)
    if after is None:
        known = request.app.state.tidings.position()
        after = await sync_to_thread(feed.newest) if known is None else known
        first = Portion(after, [], after)
    else:
        first = await sync_to_thread(_first, feed, after)
    return _stream(request, asked, feed, after, first)


def _first(feed: Feed, after: int) -> Portion:
    """Read the first portion.

    Raises:
        Refused: there is nothing that it could be behind. Whoever was there has followed another store, or
            this one before it was restored, and would hear nothing until it has caught up with itself.
    """
    first = feed.read(after)
    if after and not first.events and after > (newest := feed.newest()):
        raise Refused(
            409,
            f"nothing has the id {after} here: the newest event has {newest}. The store was restored, or is"
            " another. Read anew what you keep of it, and follow from there, or with after=0 from the first",
            name="beyond-the-end",
        )
    return first


def _resumed(request: Asking, asked: FollowRange) -> int | None:
    """Return from behind which id to go on. What the client has seen last counts for more than the URL."""
    given = request.headers.getall("last-event-id", [])
    if given in ([], [""]):
        return None if asked.after is msgspec.UNSET else asked.after
    digits = given[0]
    if len(given) > 1 or not (digits.isascii() and digits.isdigit()) or len(digits) > _POSITION_DIGITS:
        raise Refused(400, "Last-Event-ID must be the id of an event, once")
    return int(digits)


def _stream(request: Asking, asked: FollowRange, feed: Feed, after: int, first: Portion) -> Stream:
    state = request.app.state
    seconds = None if asked.seconds is msgspec.UNSET else asked.seconds
    follower = _Follower(state.tidings, feed, state.heartbeat_s, seconds)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Stream(follower.run(after, first), media_type=_EVENT_STREAM, headers=headers)


class _Follower:
    """One client that follows. It holds one portion at a time, and reads on when that has been taken."""

    def __init__(self, tidings: Tidings, feed: Feed, heartbeat_s: float, seconds: int | None) -> None:
        self._tidings = tidings
        self._feed = feed
        self._heartbeat_s = heartbeat_s
        self._clock = asyncio.get_running_loop().time
        self._until = inf if seconds is None else self._clock() + seconds

    async def run(self, after: int, first: Portion) -> AsyncIterator[bytes]:
        """Yield what is sent. The id comes first, so that the client can resume even if nothing happens."""
        yield b"retry: %d\nid: %d\n\n" % (_RETRY_MS, after)
        try:
            with self._tidings.heard(self._feed.flow_id) as ear:
                async for chunk in self._chunks(first, ear):
                    yield chunk
        except PersistasaurusError as error:
            yield _said(b"problem", msgspec.json.encode(translated(error).problem))

    async def _chunks(self, portion: Portion, ear: Ear) -> AsyncIterator[bytes]:
        while True:
            if portion.events:
                yield portion.message()
            if portion.end is not None:
                yield _said(b"end", portion.end)
            if portion.end is not None or self._is_over():
                return
            while not portion.has_more and not await self._hears(ear.news):
                if self._is_over():
                    return
                self._tidings.check()
                yield _HEARTBEAT
            shared = ear.portion(portion.reached) if self._feed.flow_id is None else None
            portion = shared or await sync_to_thread(self._feed.read, portion.reached)

    async def _hears(self, news: asyncio.Event) -> bool:
        """Wait until there is something new; False: it is time to say that there is not."""
        try:
            async with asyncio.timeout(min(self._heartbeat_s, self._until - self._clock())):
                await news.wait()
        except TimeoutError:
            return False
        news.clear()
        return True

    def _is_over(self) -> bool:
        return self._clock() >= self._until


def _said(event: bytes, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event, one_line(data))


FOLLOW_ROUTES: Final = [follow_flow, follow_all]
