"""Routes that tell what happens, as it happens: server-sent events, resumable from any of them."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.concurrency import sync_to_thread
from litestar.response import Stream

from ...flows.errors import PersistasaurusError
from .access import Scope
from .asked import asked_flow, asked_query, system_of
from .contract import Contract, promise
from .feeds import AllFlows, OneFlow
from .problems import Refused, translated
from .shapes import EventView, FollowedEvent, FollowRange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .feeds import Feed, Portion
    from .tidings import Tidings

__all__ = ["FOLLOW_ROUTES"]

Asking = Request[Any, Any, Any]
_TAG: Final = "following"
_EVENT_STREAM: Final = "text/event-stream"
_POSITION_DIGITS: Final = 15
_PACE_S: Final = 0.05
"""Under load, followers look so often at most; when nothing happened for a while, at once."""
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
            problems=(404,),
            streams=True,
        ),
        stream=True,
    ),
)
async def follow_flow(request: Asking) -> Response[Any]:
    """Follow a flow: what is in its history, and then what happens, as server-sent events.

    `id` is the event's version; to go on where a connection broke off, send it as `Last-Event-ID`, or as
    `after`. When the flow has ended, an event `end` is the last one; 204, when there is nothing behind
    what was asked for, and there will be nothing: browsers then do not ask again.
    """
    system, asked = system_of(request), asked_query(request, FollowRange)
    after = _resumed(request, asked)
    feed = OneFlow(system, asked_flow(request))
    first = await sync_to_thread(feed.read, after or 0)
    if after is not None and first.end and not first.events:
        return Response(b"", status_code=204)
    return _stream(request, asked, feed, after or 0, first)


@get(
    "/follow",
    opt=promise(
        Scope.READ,
        Contract(tag=_TAG, query=FollowRange, answers={200: FollowedEvent}, streams=True),
        stream=True,
    ),
)
async def follow_all(request: Asking) -> Response[Any]:
    """Follow all flows, from now on, as server-sent events.

    `id` is the event's position in the order of all commits; to go on where a connection broke off, send
    it as `Last-Event-ID`, or as `after`. `after=0` begins with the very first event.
    """
    system, asked = system_of(request), asked_query(request, FollowRange)
    feed, after = AllFlows(system), _resumed(request, asked)
    if after is None:
        after = await sync_to_thread(feed.newest)
    return _stream(request, asked, feed, after, await sync_to_thread(feed.read, after))


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
        self._read_at = self._clock()

    async def run(self, after: int, first: Portion) -> AsyncIterator[bytes]:
        """Yield what is sent. The id comes first, so that the client can resume even if nothing happens."""
        yield b"retry: %d\nid: %d\n\n" % (_RETRY_MS, after)
        try:
            with self._tidings.heard() as news:
                news.set()  # the first portion was read before anybody listened
                async for chunk in self._chunks(first, news):
                    yield chunk
        except PersistasaurusError as error:
            yield _frame(b"event: problem", msgspec.json.encode(translated(error).problem))

    async def _chunks(self, portion: Portion, news: asyncio.Event) -> AsyncIterator[bytes]:
        while True:
            if portion.events:
                yield b"".join(_frame(b"id: %d" % number, data) for number, data in portion.events)
            if portion.end is not None:
                yield _frame(b"event: end", portion.end)
            if portion.end is not None or self._is_over():
                return
            while not portion.has_more and not await self._hears(news):
                if self._is_over():
                    return
                yield _HEARTBEAT
            self._read_at = self._clock()
            portion = await sync_to_thread(self._feed.read, portion.reached)

    async def _hears(self, news: asyncio.Event) -> bool:
        """Wait until there is something new; False: it is time to say that there is not."""
        try:
            async with asyncio.timeout(min(self._heartbeat_s, self._until - self._clock())):
                await news.wait()
                await asyncio.sleep(self._read_at + _PACE_S - self._clock())
        except TimeoutError:
            return False
        news.clear()
        return True

    def _is_over(self) -> bool:
        return self._clock() >= self._until


def _frame(field: bytes, data: bytes) -> bytes:
    # Line breaks are white space in JSON, and would end the field.
    return b"%b\ndata: %b\n\n" % (field, data.replace(b"\n", b" ").replace(b"\r", b" "))


FOLLOW_ROUTES: Final = [follow_flow, follow_all]
