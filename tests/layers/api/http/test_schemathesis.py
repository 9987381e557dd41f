"""Schemathesis holds the API to its own document: all phases, all checks, no 5xx and no deviation.

A long run, from another seed:
PERSISTASAURUS_SCHEMATHESIS=500,17 pytest tests/layers/api/http/test_schemathesis.py
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from persistasaurus import FlowSystem
from persistasaurus.api.examples.routes import EXAMPLE_ROUTES
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.middleware.limits import ServerLimits
from persistasaurus.flows.examples import HelloWorldFlow, signup_flow
from routes.client import BEARER, TOKENS
from routes.flows import Anything, Questions
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

SWITCH = "PERSISTASAURUS_SCHEMATHESIS"
EXAMPLES, SEED = (int(part) for part in os.environ.get(SWITCH, "12,20260517").split(","))
PHASES = ("examples", "coverage", "fuzzing", "stateful")
MOST = 1_000_000_000
UNLIMITED = ServerLimits(
    caller_rate=MOST,
    caller_burst=MOST,
    stranger_rate=MOST,
    stranger_burst=MOST,
    flow_signal_rate=MOST,
    flow_signal_burst=MOST,
)
# Every request has one: without it, the server would not know that it is meant.
HEADERS = {**BEARER, "Host": "localhost"}


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Wait no longer than it takes to see that something waits: what is valid stays so, and what is not."""
    query, path = case.query, case.operation.path
    if not isinstance(query, dict):
        return
    if path.endswith("/result") and _is_number(query.get("wait"), 30):
        query["wait"] = min(int(query["wait"]), 1)
    if path.endswith("/follow") and ("seconds" not in query or _is_number(query["seconds"], 86_400)):
        query["seconds"] = 0


def _is_number(value: Any, most: int) -> bool:
    return str(value).isdecimal() and int(value) <= most


def configuration() -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "headers": HEADERS,
            "generation": {"max-examples": EXAMPLES, "database": "none"},
            "phases": {phase: {"enabled": True} for phase in PHASES},
            "continue-on-failure": True,
            "suppress-health-check": ["all"],
        }
    )


def findings(event: Any) -> list[str]:
    """Tell what an event of a run complains about, with the request that shows it."""
    if isinstance(event, events.NonFatalError):
        return [f"{event.label}: {event.value}"]
    if isinstance(event, events.FatalError):
        return [f"{event.exception!r}"]
    if not isinstance(event, events.ScenarioFinished):
        return []
    return [
        f"{event.label}: {check.failure_info.failure.title}: {check.failure_info.failure.message}\n"
        f"{check.failure_info.code_sample}"
        for checks in event.recorder.checks.values()
        for check in checks
        if check.failure_info is not None
    ]


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.timeout(300 if EXAMPLES <= 12 else 3600)
def test_the_api_does_what_its_document_says() -> None:
    flows = [HelloWorldFlow, signup_flow(timedelta(0)), Questions, Anything]
    found: list[str] = []
    finished: dict[str, str] = {}
    with FlowSystem(flows=flows) as system:
        app = asgi_app(system, routes=EXAMPLE_ROUTES, access=TOKENS, limits=UNLIMITED)
        schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=configuration(), headers=HEADERS)
        for event in from_schema(schema).execute():
            found += findings(event)
            if isinstance(event, events.PhaseFinished):
                finished[event.phase.name.value.lower()] = event.status.value
        started = len(system.flows(limit=1000))

    assert not found, f"{SWITCH}={EXAMPLES},{SEED}\n" + "\n\n".join(dict.fromkeys(found))
    assert started > 20, "hardly anything was accepted"
    assert sum(status == "success" for status in finished.values()) >= len(PHASES), finished
