# with_fastapi.py - flows under /durable/ in a FastAPI application, with its own authentication
from contextlib import asynccontextmanager

from fastapi import FastAPI
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
        app.mount("/durable", asgi_app(system, access=who_asks))
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def index() -> str:
    return "FastAPI's own"
