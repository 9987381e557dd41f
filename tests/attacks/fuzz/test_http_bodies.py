"""Whatever is posted is answered, and never with an error of the server's own."""

from __future__ import annotations

import asyncio
import os
from random import Random

import httpx
import pytest
from fuzz.mutation import mutated
from fuzz.targets import FLOWS
from persistasaurus import FlowSystem
from persistasaurus.api.examples.routes import EXAMPLE_ROUTES
from persistasaurus.api.http.access import OpenToAll
from persistasaurus.api.http.app import asgi_app

BODIES = int(os.environ.get("PERSISTASAURUS_INPUTS", "4000")) // 10
SEED = int(os.environ.get("PERSISTASAURUS_SEED", "1"))
CORPUS = [
    b'{"userName":"ada","email":"ada@example.com"}',
    b'{"confirmedAt":"2026-05-17T09:30:00Z"}',
    b'{"user_name":"ada","email":"ada@example.com"}',
    b'{"by":"ada","why":"to look"}',
    b"{}",
]
PATHS = ["/signups", "/signups/ada/confirm", "/flows/SignupFlow", "/flows/ada/pause", "/flows/hello-world"]


@pytest.mark.timeout(0 if BODIES > 10_000 else 120)
def test_no_body_makes_the_server_fail() -> None:
    rng, seen = Random(SEED), set[int]()

    async def post_all() -> None:
        transport = httpx.ASGITransport(asgi_app(system, routes=EXAMPLE_ROUTES, access=OpenToAll()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for number in range(BODIES):
                path = rng.choice(PATHS)
                body = mutated(rng, CORPUS) if rng.random() < 0.8 else rng.choice(CORPUS)
                answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
                seen.add(answer.status_code)
                assert answer.status_code < 500, (
                    f"{number} of PERSISTASAURUS_SEED={SEED}: {path} {body[:300]!r}"
                )

    with FlowSystem(flows=FLOWS) as system:
        asyncio.run(post_all())
        assert system.run(FLOWS[0].say_hello) is not None
    assert {202, 400} <= seen
