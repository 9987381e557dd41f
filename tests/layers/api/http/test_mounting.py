"""Mounted under a prefix of another application, or owned by a server: links lead back, and it is closed."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from persistasaurus import FlowSystem
from persistasaurus.api.http.access import OpenToAll
from persistasaurus.api.http.app import asgi_app
from persistasaurus.flows.errors import SystemClosed
from persistasaurus.flows.examples import HelloWorldFlow
from serving.doubles import PATIENCE, Heard, ask, scope_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from persistasaurus.api.http.middleware.asgi import ASGIApp

RECIPES = Path(__file__).parents[1] / "routes" / "recipes"
PAGE = Path(__file__).parents[4] / "docs" / "http" / "mounting.md"
NAMES = ("with_litestar", "with_fastapi", "with_django")


# ------------------------------------------------------------------------------------------- a prefix
@pytest.mark.parametrize("is_stripped", [False, True])
@pytest.mark.parametrize("prefix", ["", "/durable", "/a/b", "/flows", "/100%/é x"])
def test_links_lead_back_under_any_prefix(system: FlowSystem, prefix: str, is_stripped: bool) -> None:  # noqa: FBT001
    app = asgi_app(system, access=OpenToAll())
    for flow_id in ("a/b", "flows"):
        system.start(HelloWorldFlow.say_hello, flow_id=flow_id).result(20)

    def at(path: str, query: str = "") -> Heard:
        """Ask as a host does that leaves its prefix in the path, or takes it out."""
        raw = quote(prefix) + path.replace("a/b", "a%2Fb")
        more = {"root_path": prefix, "raw_path": raw.encode(), "query_string": query.encode()}
        return asyncio.run(ask(app, scope_of("GET", path if is_stripped else prefix + path, **more)))

    listed = at("/flows", "limit=1").json()["next"]
    assert listed == f"{quote(prefix)}/flows?after=a%2Fb&limit=1"
    assert at("/flows/a/b").json()["flowId"] == "a/b"
    assert at("/flows/flows").json()["flowId"] == "flows"
    assert at("/flows/a/b/events").json()["events"]
    assert at("/nothing").status == 404
    assert at("/openapi.json").json()["servers"] == [{"url": quote(prefix) or "/"}]


def test_a_server_that_tells_no_raw_path_is_fine(system: FlowSystem) -> None:
    app = asgi_app(system, access=OpenToAll())
    scope = scope_of("GET", "/x/flows/50%", root_path="/x")
    del scope["raw_path"]

    assert "50%" in asyncio.run(ask(app, scope)).json()["detail"]


# ------------------------------------------------------------------------------------------ ownership
@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """Start an application up, and shut it down, as servers do."""
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    outbox: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, inbox.get, outbox.put))  # type: ignore[arg-type]
    async with asyncio.timeout(PATIENCE):
        await inbox.put({"type": "lifespan.startup"})
        assert (await outbox.get())["type"] == "lifespan.startup.complete"
        yield
        await inbox.put({"type": "lifespan.shutdown"})
        assert (await outbox.get())["type"] == "lifespan.shutdown.complete"
        await task


def used(system: FlowSystem, *, is_owner: bool) -> None:
    async def scenario() -> None:
        app = asgi_app(system, access=OpenToAll(), lifespan=is_owner)
        async with lifespan(app):
            assert (await ask(app, scope_of("GET", "/health"))).status == 200

    asyncio.run(scenario())


def test_the_system_outlives_the_application(system: FlowSystem) -> None:
    used(system, is_owner=False)

    assert system.run(HelloWorldFlow.say_hello) == 10


def test_an_application_that_owns_the_system_closes_it() -> None:
    system = FlowSystem(flows=[HelloWorldFlow])

    used(system, is_owner=True)

    with pytest.raises(SystemClosed):
        system.start(HelloWorldFlow.say_hello)


def test_the_application_answers_before_any_lifespan(system: FlowSystem) -> None:
    app = asgi_app(system, access=OpenToAll())

    assert asyncio.run(ask(app, scope_of("GET", "/flows"))).json()["flows"] == []


# -------------------------------------------------------------------------------------------- recipes
def recipe(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    """Run a recipe as it is documented, in a folder of its own."""
    monkeypatch.chdir(folder)
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_recipes_have_at_most_30_lines() -> None:
    assert {name for name in NAMES if len((RECIPES / f"{name}.py").read_text().splitlines()) > 30} == set()


def test_the_documentation_shows_the_recipes_that_are_tested_here() -> None:
    blocks = re.findall(r"```python\n(# with_\w+\.py.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

    assert sorted(blocks) == sorted((RECIPES / f"{name}.py").read_text(encoding="utf-8") for name in NAMES)


@pytest.mark.parametrize("name", ["with_litestar", "with_fastapi"])
def test_a_host_application_lets_in_whom_it_knows(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = recipe(name, monkeypatch, tmp_path).app
    known, unknown = [("X-API-Key", "key-of-ada")], [("X-API-Key", "guessed")]

    async def scenario() -> list[Heard]:
        async with lifespan(app):
            body = b'{"type": "HelloWorldFlow"}'
            json_headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            started = await ask(app, scope_of("POST", "/durable/flows", [*known, *json_headers]), [body])
            place = started.headers["location"]
            return [
                started,
                await ask(app, scope_of("GET", f"{place}/result", known, query_string=b"wait=20")),
                await ask(app, scope_of("GET", "/durable/flows", known, query_string=b"limit=1")),
                await ask(app, scope_of("GET", "/durable/flows", unknown)),
                await ask(app, scope_of("POST", f"{place}/pause", known)),
                await ask(app, scope_of("GET", "/durable/health")),
            ]

    heard = asyncio.run(scenario())

    assert [answer.status for answer in heard] == [202, 200, 200, 401, 403, 200]
    assert heard[1].json()["result"] == 10
    if name == "with_fastapi":
        assert asyncio.run(ask(app, scope_of("GET", "/"))).json() == "FastAPI's own"


# In a process of its own: Django is set up once in a process, and for good.
_DJANGO = """
import asyncio, json, sys
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="of no use", ROOT_URLCONF="urls", ALLOWED_HOSTS=["localhost"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "django.db"}},
)
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth import get_user_model
from django.test import Client
users = get_user_model().objects
cookies = {}
for name, is_staff in (("ada", True), ("eve", False)):
    client = Client()
    client.force_login(users.create_user(name, is_staff=is_staff))
    cookies[name] = client.cookies["sessionid"].value

sys.path[:0] = sys.argv[1:]
from serving.doubles import ask, scope_of
from with_django import application, system

def asked(method, path, name="", body=b""):
    headers = [("Cookie", f"sessionid={cookies[name]}")] if name else []
    if body:
        headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    heard = asyncio.run(ask(application, scope_of(method, path, headers), [body]))
    return heard.status, heard.body.decode()

said = {
    "started": asked("POST", "/durable/flows", "ada", b'{"type": "HelloWorldFlow"}'),
    "listed": asked("GET", "/durable/flows", "ada"),
    "eve": asked("GET", "/durable/flows", "eve"),
    "stranger": asked("GET", "/durable/flows"),
    "django": asked("GET", "/"),
}
system.close()
print(json.dumps(said))
"""


def test_a_django_project_lets_in_its_own_users(tmp_path: Path) -> None:
    (tmp_path / "urls.py").write_text(
        "from django.http import HttpResponse\n"
        "from django.urls import path\n"
        "urlpatterns = [path('', lambda request: HttpResponse('Django''s own'))]\n"
    )
    code = [sys.executable, "-W", "error", "-c", _DJANGO, str(RECIPES), str(RECIPES.parents[1])]

    done = subprocess.run(
        code, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=PATIENCE * 3
    )

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert {who: status for who, (status, _) in said.items()} == {
        "started": 202,
        "listed": 200,
        "eve": 401,
        "stranger": 401,
        "django": 200,
    }
    assert "HelloWorldFlow" in said["listed"][1]
