"""Every route says who may use it; what says nothing is denied, when it is built and when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from litestar import Litestar, asgi, get
from litestar.exceptions import ImproperlyConfiguredException
from persistasaurus.api.http.access import Access, Guarding, OpenToAll, Scope, access_of, guard
from persistasaurus.api.http.middleware.protection import protected
from serving.doubles import BEARER, Effects, application, asked, protected_application, tokens

if TYPE_CHECKING:
    from persistasaurus.api.http.middleware.asgi import ASGIScope, Receive, Send


def handler(**opt: Any) -> Any:
    @get("/x", opt=opt)
    async def x() -> str:
        return "served"

    return x


@pytest.mark.parametrize(
    "opt",
    [
        {},
        {"scope": "read"},
        {"public": False},
        {"public": 1},
        {"scope": Scope.READ, "public": True},
        {"scope": None},
    ],
)
def test_an_application_with_a_route_that_declares_nothing_is_not_built(opt: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=r"x \(/x\) must declare"):
        Litestar([handler(**opt)], plugins=[Guarding()], openapi_config=None)


def test_a_route_that_is_added_later_must_declare_too() -> None:
    app = application()

    with pytest.raises(ImproperlyConfiguredException, match="must declare"):
        app.register(handler())

    assert asked(protected(app, access=tokens(), guarded=True), "GET", "/x", BEARER).status in (403, 404)


def test_a_mounted_application_must_declare_too() -> None:
    @asgi("/mounted", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None: ...

    with pytest.raises(ImproperlyConfiguredException, match="mounted"):
        Litestar([mounted], plugins=[Guarding()], openapi_config=None)


def test_a_route_that_got_in_undeclared_is_denied_when_it_is_called() -> None:
    app = Litestar([handler()], guards=[guard], openapi_config=None, logging_config=None)

    heard = asked(protected(app, access=OpenToAll(), guarded=True), "GET", "/x")

    assert heard.status == 403
    assert b"served" not in heard.body


def test_an_application_that_lost_its_protection_denies_everything() -> None:
    assert asked(application(), "GET", "/flows", BEARER).status == 403
    assert asked(application(), "GET", "/health").status == 403


def test_an_application_without_a_guard_hears_nothing_of_strangers() -> None:
    effects = Effects()

    async def unguarded(scope: ASGIScope, receive: Receive, send: Send) -> None:
        effects.done.append(scope["path"])

    assert asked(protected(unguarded, access=tokens()), "POST", "/flows").status == 401
    assert effects.done == []


def test_nobody_learns_which_routes_there_are() -> None:
    app = protected_application()
    answers = [
        asked(app, method, path)
        for method, path in [
            ("GET", "/flows"),
            ("GET", "/nowhere"),
            ("DELETE", "/flows"),
            ("OPTIONS", "/flows"),
            ("GET", "/broken"),
            ("OPTIONS", "/health"),
        ]
    ]

    assert {(heard.status, heard.body) for heard in answers} == {(401, answers[0].body)}
    assert {heard.headers["www-authenticate"] for heard in answers} == {'Bearer realm="persistasaurus"'}


def test_what_is_denied_does_not_happen() -> None:
    effects = Effects()
    app = protected_application(effects, access=tokens(Scope.READ))

    assert asked(app, "POST", "/flows", BEARER, b"{}").status == 403
    assert asked(app, "POST", "/flows/a/signals", BEARER).status == 403
    assert asked(app, "POST", "/flows/a/pause").status == 401
    assert effects.done == []


def test_no_scope_includes_another() -> None:
    app = protected_application(access=tokens(Scope.ADMIN))

    assert asked(app, "POST", "/flows/a/pause", BEARER).status == 201
    assert asked(app, "GET", "/flows", BEARER).status == 403
    assert asked(app, "POST", "/flows/a/signals", BEARER).status == 403


def test_everybody_reaches_a_public_route_and_a_token_does_no_harm() -> None:
    app = protected_application(access=tokens(Scope.ADMIN))

    assert asked(app, "GET", "/health").status == 200
    assert asked(app, "GET", "/health", BEARER).status == 200
    assert asked(app, "GET", "/health", {"Authorization": "Basic abc"}).status == 200


@pytest.mark.parametrize("waiting", [False, True])
def test_a_host_application_brings_its_own_authentication(*, waiting: bool) -> None:
    def check(scope: ASGIScope) -> Access | None:
        known = (b"cookie", b"session=ada") in scope["headers"]
        return Access("ada", frozenset({Scope.READ})) if known else None

    async def wait_and_check(scope: ASGIScope) -> Access | None:
        return check(scope)

    app = protected_application(access=wait_and_check if waiting else check)

    assert asked(app, "GET", "/flows", {"Cookie": "session=ada"}).status == 200
    assert asked(app, "POST", "/flows", {"Cookie": "session=ada"}, b"{}").status == 403
    assert asked(app, "GET", "/flows", {"Cookie": "session=eve"}).status == 401


@pytest.mark.parametrize("answer", [True, "ada", RuntimeError("the directory is down")])
def test_an_authentication_that_fails_lets_nobody_in(answer: Any) -> None:
    def check(_scope: ASGIScope) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    heard = asked(protected_application(access=check), "GET", "/flows", BEARER)

    assert heard.status == 500
    assert b"directory" not in heard.body


def test_a_handler_can_tell_who_asks() -> None:
    seen: list[Access | None] = []

    async def app(scope: ASGIScope, receive: Receive, send: Send) -> None:
        seen.append(access_of(scope))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    asked(protected(app, access=tokens(name="ada")), "GET", "/", BEARER)

    assert seen == [Access("ada", frozenset(Scope))]


def test_a_websocket_is_refused() -> None:
    sent = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    protection = protected_application()({"type": "websocket", "path": "/", "headers": []}, receive, send)
    with pytest.raises(StopIteration):
        protection.send(None)  # type: ignore[attr-defined]

    assert sent == [{"type": "websocket.close", "code": 1008}]
