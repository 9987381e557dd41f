# with_litestar.py - flows under /durable/ in a Litestar application, with its own authentication
from contextlib import asynccontextmanager

from litestar import Litestar, asgi
from persistasaurus import FlowSystem
from persistasaurus.api.http.access import Access, Scope
from persistasaurus.api.http.app import asgi_app
from persistasaurus.flows.examples import HelloWorldFlow

KEYS = {b"key-of-ada": Access("ada", frozenset({Scope.READ, Scope.START}))}  # or what your users have


def who_asks(scope):
    return KEYS.get(dict(scope["headers"]).get(b"x-api-key"))


@asynccontextmanager
async def lifespan(app):
    async with FlowSystem("flows.db", flows=[HelloWorldFlow]) as system:
        flows = asgi_app(system, access=who_asks)

        @asgi("/durable", is_mount=True, copy_scope=True)
        async def durable(scope: dict, receive: object, send: object) -> None:
            await flows({**scope, "root_path": "/durable"}, receive, send)

        app.register(durable)
        yield


app = Litestar(lifespan=[lifespan])
