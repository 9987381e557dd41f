"""The pages: what is wrong with a link shows nowhere, no text becomes markup, and everybody can read them."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from links.people import ACTIONS, BASE, Post, signals, token_of
from persistasaurus import EventSourcedActor, command
from persistasaurus.api.http.access import Access
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.middleware.hosts import Hosts
from persistasaurus.api.links.keys import KeyRing
from persistasaurus.api.links.links import Links
from persistasaurus.api.links.pages import Wording, ask_page, done_page, later_page, refused_page
from persistasaurus.api.links.routes import link_routes
from persistasaurus.api.links.signed_text import Claim, DonePage
from persistasaurus.flows.entities.actor import definition_of
from system.doubles import DEAD_MAN_S

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

XSS = [
    "<script>alert(1)</script>",
    "</h1><img src=x onerror=alert(1)>",
    '" autofocus onfocus="alert(1)',
    "' onmouseover='alert(1)",
    "</title><svg onload=alert(1)>",
    "</style><script>alert(1)</script>",
    "<!--",
    "]]>",
    "&lt;script&gt;",
    "&#60;b&#62;",
    "${body} $title $$",
    "javascript:alert(1)",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<base href=//evil.test>",
    "<form action=//evil.test><button>",
    "\u2028<x>\u2029",
    "\uff1cscript\uff1e",
    "`-alert(1)-`",
]


class Reader(HTMLParser):
    """What a browser makes of a page: elements with their attributes, and the text of each."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]] = self.texts.get(self._open[-1], "") + data

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]


def pages(text: str, wording: Wording | None = None) -> dict[str, str]:
    """Make each page, with a text in all the places that texts can come to."""
    wording = wording or Wording()
    action = msgspec.structs.replace(ACTIONS[0], title=text, text=text, button=text, done=text)
    claim = Claim(text, "confirm_email_address", 1, "confirm", 1_700_000_000, text)
    return {
        "ask": ask_page(action, claim, "0" * 32, wording),
        "done": done_page(action, DonePage("confirm", 1_700_000_000, 0), wording),
        "refused": refused_page(wording),
        "later": later_page(wording),
    }


def strange(text: str) -> Wording:
    return Wording(**dict.fromkeys(Wording.__struct_fields__, text))


# ------------------------------------------------------------------------- wrong links look the same
class Opened(msgspec.Struct, tag="opened"):
    pass


class AccountState(msgspec.Struct):
    is_open: bool = False


class Account(EventSourcedActor[AccountState, Opened], name="account"):
    def apply(self, state: AccountState, event: Opened) -> None:
        state.is_open = True

    @command
    def open(self) -> None:
        self.record(Opened())


def _expired(post: Post) -> str:
    token = post.token("ada", "confirm")
    post.clock.advance(8 * 24 * 3600)
    return token


def _used(post: Post) -> str:
    with post.client() as client:
        client.post(f"/links/{token_of(post.outbox[0])}")
    return token_of(post.outbox[0])


def _ended(post: Post) -> str:
    _used(post)
    assert post.system is not None
    post.system.flow("ada").result(DEAD_MAN_S)
    return post.token("ada", "confirm", wait=2)


def _actor(post: Post) -> str:
    assert post.system is not None
    post.system._actor_types.add(definition_of(Account))
    post.system.actor(Account, "account-1").ask(Account.open)
    return post.token("account-1", "confirm")


def _altered(post: Post) -> str:
    token = post.token("ada", "confirm")
    return ("w" if token[0] == "v" else "v") + token[1:]


WRONG: dict[str, Callable[[Post], str]] = {
    "nothing like it": lambda post: "x",
    "garbage": lambda post: "v1." + "." * 7,
    "too long": lambda post: post.token("ada", "confirm") + "A" * 4096,
    "altered": _altered,
    "cut off": lambda post: post.token("ada", "confirm")[:-1],
    "of another key": lambda post: token_of(Links(KeyRing.fresh(), BASE, ACTIONS).url("ada", "confirm")),
    "expired": _expired,
    "used": _used,
    "of an ended flow": _ended,
    "of an unknown flow": lambda post: post.token("nobody", "confirm"),
    "of another kind of flow": lambda post: (post.ask(), post.token("order-1", "confirm"))[1],
    "of an actor": _actor,
    "of a later wait": lambda post: post.token("ada", "confirm", wait=2),
    "the token of a page that says done": lambda post: post.links.done_token(ACTIONS[0], post.links.now()),
}


def seen(answer: httpx.Response) -> tuple[int, str, dict[str, str]]:
    return answer.status_code, answer.text, dict(answer.headers)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("kind", WRONG)
def test_whatever_is_wrong_with_a_link_the_answer_is_the_same(post: Post, kind: str, method: str) -> None:
    handle = post.start()
    token = WRONG[kind](post)
    before = dict(signals(handle))

    with post.client() as client:
        answer = client.request(method, f"/links/{token}", follow_redirects=False)
        reference = client.request(method, "/links/" + "v1.x" * 20, follow_redirects=False)

    assert answer.status_code == 404
    assert seen(answer) == seen(reference)
    assert signals(handle) == before


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_whatever_is_wrong_with_a_link_the_same_is_looked_up(
    post: Post, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.start()
    assert post.system is not None
    asked: list[tuple[str, bool]] = []
    for name in ("header", "inbox", "read"):
        real = getattr(post.system.store, name)

        def asking(stream: str, *args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            asked.append((_name, stream == "ada"))
            return _real(stream, *args, **kwargs)

        monkeypatch.setattr(post.system.store, name, asking)
    looked_up = {}
    with post.client() as client:
        for kind in ("garbage", "altered", "cut off", "of another key", "of an unknown flow", "expired"):
            token = WRONG[kind](post)
            asked.clear()
            client.request(method, f"/links/{token}")
            looked_up[kind] = list(asked)

    # Where there is no such stream, `inbox` raises before `read` is come to. So a link that is not genuine,
    # or has expired, takes as long as a genuine one to nowhere, and leads to no flow, not even in passing.
    assert {tuple(found) for found in looked_up.values()} == {(("header", False), ("inbox", False))}


@pytest.mark.parametrize("token", ["x", "d1.a.b.c", "d1." + "." * 5])
def test_a_page_that_says_done_is_only_for_who_comes_from_there(post: Post, token: str) -> None:
    good = post.links.done_token(ACTIONS[0], post.links.now())
    with post.client() as client:
        refused = client.get("/links/x")
        assert client.get(f"/links/done/{good}").status_code == 200
        assert seen(client.get(f"/links/done/{token}")) == seen(refused)
        assert seen(client.get(f"/links/done/{good[:-1]}")) == seen(refused)
        assert seen(client.get(f"/links/done/{post.token('ada', 'confirm')}")) == seen(refused)
        post.clock.advance(601)
        assert seen(client.get(f"/links/done/{good}")) == seen(refused)


def test_the_answer_leads_to_a_page_that_may_be_reloaded_wherever_it_is_mounted(post: Post) -> None:
    post.start("ada")
    post.start("bob")
    with post.client() as client:
        for token, tail in zip(map(token_of, post.outbox), ("", "/"), strict=True):
            answer = client.post(f"/links/{token}{tail}", follow_redirects=False)
            assert answer.status_code == 303
            assert not answer.headers["Location"].startswith(("/", "http"))
            for _ in range(3):
                assert client.get(answer.url.join(answer.headers["Location"])).status_code == 200


# --------------------------------------------------------------------------------------- no way in
def test_each_page_is_sent_with_a_policy_that_lets_nothing_run_or_leak(post: Post) -> None:
    post.start()
    with post.client() as client:
        token = token_of(post.outbox[0])
        answers = [client.get(f"/links/{token}"), client.post(f"/links/{token}"), client.get("/links/x")]
        answers += answers[1].history

    for answer in answers:
        policy = dict(
            part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["form-action"] == "'self'"
        assert "script-src" not in policy
        assert answer.headers["Referrer-Policy"] == "strict-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Robots-Tag"].startswith("noindex")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in answer.headers


def test_the_only_style_that_is_let_in_is_the_one_that_is_there(post: Post) -> None:
    with post.client() as client:
        answer = client.get("/links/x")
    styles = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)

    assert len(styles) == 1
    digest = base64.b64encode(hashlib.sha256(styles[0].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("text", XSS)
def test_a_text_never_becomes_markup(text: str) -> None:
    plain = {kind: Reader(page) for kind, page in pages("plain", strange("plain")).items()}
    for kind, page in pages(text, strange(text)).items():
        reader = Reader(page)
        assert reader.tags == plain[kind].tags
        assert [sorted(attributes) for _, attributes in reader.elements] == [
            sorted(attributes) for _, attributes in plain[kind].elements
        ]
        assert reader.texts["h1"] == text
        assert reader.elements[0] == ("html", {"lang": text})


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_no_text_at_all_becomes_markup(text: str) -> None:
    plain = Reader(pages("plain")["ask"])
    reader = Reader(pages(text)["ask"])

    assert reader.tags == plain.tags
    assert reader.texts["button"] == text.replace("\r\n", "\n").replace("\r", "\n") or "\r" in text


@pytest.mark.parametrize("text", XSS[:10])
def test_what_comes_with_a_link_is_shown_as_text(post: Post, text: str) -> None:
    post.start(f"ada {text}")
    with post.client() as client:
        page = client.get(f"/links/{post.token(f'ada {text}', 'confirm', says=text)}")

    assert page.status_code == 200
    assert text in Reader(page.text).texts["p"]
    assert "script" not in Reader(page.text).tags


def test_no_page_has_a_script_or_loads_anything() -> None:
    for page in pages("plain", Wording(site="Acme")).values():
        for tag, attributes in Reader(page).elements:
            assert tag not in ("script", "iframe", "object", "embed", "img", "base")
            assert not [
                name for name in attributes if name.startswith("on") or name in ("style", "src", "action")
            ]
            assert attributes.get("href") in (None, "data:,")
        assert "http" not in page.replace("http-equiv", "")


def test_a_form_sends_nothing_but_which_visit_it_is(post: Post) -> None:
    post.start()
    with post.client() as client:
        shown = [Reader(client.get(f"/links/{token_of(post.outbox[0])}").text) for _ in range(2)]
    inputs = [dict(attributes) for page in shown for tag, attributes in page.elements if tag == "input"]

    assert [(field["type"], field["name"]) for field in inputs] == [("hidden", "visit")] * 2
    assert inputs[0]["value"] != inputs[1]["value"]


@pytest.mark.parametrize(
    "body",
    [b"", b"visit=", b"visit=" + b"g" * 32, b"confirmed_at=1999", b"{}", b"\xff\x00", b"visit=" + b"0" * 33],
)
def test_what_a_body_says_changes_nothing_about_what_is_sent(post: Post, body: bytes) -> None:
    handle = post.start()
    with post.client() as client:
        answer = client.post(f"/links/{token_of(post.outbox[0])}", content=body)

    assert answer.status_code == 200
    assert list(signals(handle).values()) == [b'{"confirmed_at":"2023-11-14T22:13:20Z"}']


def test_a_body_that_is_no_forms_is_not_read(post: Post) -> None:
    handle = post.start()
    with post.client() as client:
        answer = client.post(f"/links/{token_of(post.outbox[0])}", content=b"x" * 2000)

    assert answer.status_code == 413
    assert signals(handle) == {}


# -------------------------------------------------------------------------------- for everybody
def test_each_page_can_be_read_by_everybody() -> None:
    for page in pages("plain").values():
        reader = Reader(page)
        elements = dict(reader.elements)
        assert page.startswith("<!doctype html>")
        assert elements["html"]["lang"] == "en"
        assert [reader.tags.count(tag) for tag in ("title", "main", "h1")] == [1, 1, 1]
        assert reader.texts["title"] == reader.texts["h1"]
        assert elements["svg"]["aria-hidden"] == "true"
        viewport = next(
            a["content"] for t, a in reader.elements if t == "meta" and a.get("name") == "viewport"
        )
        assert viewport == "width=device-width, initial-scale=1"  # and so may be enlarged


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        ("ink", "card"),
        ("ink", "page"),
        ("soft", "card"),
        ("on", "main"),
        ("on", "over"),
        ("main", "tint"),
        ("ink", "tint"),
        ("good", "mild"),
    ],
)
def test_what_is_written_stands_out_from_what_it_is_written_on(scheme: str, ink: str, ground: str) -> None:
    style = re.findall(r"<style>(.*?)</style>", refused_page(Wording()), re.DOTALL)[0]
    blocks = re.findall(r":root\{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--(\w+):(#[0-9a-f]+)", blocks[0] + (blocks[1] if scheme == "dark" else "")))

    assert len(blocks) == 2
    assert contrast(colours[ink], colours[ground]) >= 4.5


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, as WCAG 2 computes it."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_pages_speak_the_readers_language() -> None:
    german = Wording(
        lang="de", site="Käserei", until="Dieser Link gilt einmal, bis", refused="Dieser Link geht nicht"
    )

    assert Reader(pages("Bestätigen", german)["ask"]).texts["title"] == "Bestätigen | Käserei"
    assert '<html lang="de">' in refused_page(german)
    assert "Dieser Link geht nicht" in refused_page(german)


# --------------------------------------------------------------------------- as part of the application
def test_links_are_open_to_who_has_no_token_and_nothing_else_is(post: Post) -> None:
    post.start()
    assert post.system is not None
    app = asgi_app(
        post.system, access=lambda scope: None, links=post.links, hosts=Hosts(["flows.example.org"])
    )
    path = f"/links/{token_of(post.outbox[0])}"
    # What a browser sends with a form of a page that wants no referrers.
    own_form = {"Origin": "null", "Sec-Fetch-Site": "same-origin"}
    with _client(app) as client:
        assert client.get("/flows").status_code == 401
        assert client.get(path).status_code == client.head(path).status_code == 200
        foreign = client.post(path, headers={"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"})
        assert foreign.status_code == 403
        answer = client.post(path, headers=own_form, data={"visit": "0" * 32})
        assert answer.status_code == 200
        assert "Your address is confirmed" in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "flows.example.org"])
def test_the_button_works_behind_a_proxy_that_sends_another_host(post: Post, host: str) -> None:
    post.start()
    assert post.system is not None
    # What a browser sends that tells no site, and what a proxy makes of the port.
    links = Links(post.links.keys, "http://Flows.example.org:8080/a", ACTIONS, clock=post.links.clock)
    app = asgi_app(
        post.system, access=lambda scope: None, links=links, hosts=Hosts(["127.0.0.1", "flows.example.org"])
    )
    path = f"/links/{token_of(post.outbox[0])}"
    with _client(app) as client:
        for origin, status in (
            ("http://flows.example.org:81", 403),
            ("https://flows.example.org:8080", 403),
            ("http://flows.example.org:8080", 303),
        ):
            answer = client.post(path, headers={"Host": host, "Origin": origin}, follow_redirects=False)
            assert answer.status_code == status
        assert client.post("/flows", headers={"Host": host, "Origin": links.origin}).status_code == 403


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Example.org", "https://example.org"),
        ("https://example.org:443/durable", "https://example.org"),
        ("http://example.org:80", "http://example.org"),
        ("http://example.org:443", "http://example.org:443"),
        ("HTTP://[2001:DB8::1]:8080/x/y", "http://[2001:db8::1]:8080"),
    ],
)
def test_the_origin_of_links_is_what_browsers_call_it(post: Post, url: str, origin: str) -> None:
    assert Links(post.links.keys, url, ACTIONS).origin == origin


def test_who_has_a_token_needs_a_link_all_the_same(post: Post) -> None:
    post.start()
    assert post.system is not None
    app = asgi_app(
        post.system,
        access=lambda scope: Access("ada", frozenset()),
        links=post.links,
        hosts=Hosts(["flows.example.org"]),
    )
    with _client(app) as client:
        assert client.get("/links/x").status_code == 404


def test_each_route_is_declared_open(post: Post) -> None:
    assert post.system is not None
    assert [handler.opt["public"] for handler in link_routes(post.system, post.links)] == [True] * 3


def _client(app: Any) -> Any:
    from litestar.testing import TestClient  # noqa: PLC0415 - it is no Litestar application, for once

    return TestClient(app, base_url=BASE)
