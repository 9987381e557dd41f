"""A process that serves a store until it is killed: python server_child.py STORE. Says at which URL."""

from __future__ import annotations

import sys
from datetime import timedelta

from persistasaurus import FlowSystem
from persistasaurus.api.examples.routes import EXAMPLE_ROUTES
from persistasaurus.api.http.access import OpenToAll
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.server import serve
from persistasaurus.flows.examples import HelloWorldFlow, signup_flow


def say(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


def main() -> None:
    with FlowSystem(sys.argv[1], flows=[HelloWorldFlow, signup_flow(timedelta(milliseconds=20))]) as system:
        serve(asgi_app(system, routes=EXAMPLE_ROUTES, access=OpenToAll()), port=0, on_bound=say)


if __name__ == "__main__":
    main()
