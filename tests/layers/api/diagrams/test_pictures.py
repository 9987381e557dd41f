"""Diagrams as pictures and in notebooks: text stays text there, too."""

from __future__ import annotations

import base64
import re
import sys
from random import Random
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from diagrams.arbitrary import HOSTILE
from diagrams.test_hostile_text import history_of
from diagrams.test_long_histories import all_different
from diagrams.wandering import wander
from persistasaurus import Flow, flow, step
from persistasaurus.api.diagrams import LEVELS, draw, svg
from persistasaurus.flows.errors import PersistasaurusError
from persistasaurus.flows.examples import HelloWorldFlow
from scenario.world import DEAD_MAN_S

if TYPE_CHECKING:
    from diagrams.reference import Reference
    from scenario.world import World

ACTIVE = {"script", "foreignObject", "iframe", "image", "animate", "set", "a", "use"}
EVIL = '<img src=x onerror=alert(1)>|`"</pre><script>alert(1)</script>'


class Evil(Flow):
    @flow(name=EVIL)
    async def go(self, text: str) -> str:
        return await self.echo(text)

    @step(name=EVIL)
    def echo(self, text: str) -> str:
        return text


def is_inert(picture: str) -> bool:
    """Tell whether there is nothing in a picture that could run, or that is fetched from somewhere."""
    elements = list(ET.fromstring(picture).iter())
    tags = {element.tag.rpartition("}")[2] for element in elements}
    attributes = [(name.rpartition("}")[2].lower(), v) for e in elements for name, v in e.attrib.items()]
    return not tags & ACTIVE and not [
        1 for name, value in attributes if name.startswith("on") or name == "href" or "javascript:" in value
    ]


def texts(picture: str) -> str:
    return " ".join("".join(element.itertext()) for element in ET.fromstring(picture).iter() if element.text)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("level", LEVELS)
def test_every_diagram_can_be_rendered(seed: int, level: Any) -> None:
    picture = svg(draw(wander(seed, Random(seed)).log, level=level).mermaid())

    assert is_inert(picture)
    assert "record flow started" in texts(picture) or level == "api"


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_anybody_is_text_in_a_picture(text: str) -> None:
    assert is_inert(svg(draw(history_of(text), level="store", values=True).mermaid()))


def test_a_picture_shows_the_text_as_it_was() -> None:
    picture = svg(draw(history_of("<script>a; b</script>"), level="api").mermaid())

    assert "<script>a; b</script>" in texts(picture)


def test_a_shortened_diagram_can_be_rendered() -> None:
    assert is_inert(svg(draw(all_different(), level="api").mermaid()))


def test_what_is_no_diagram_is_refused() -> None:
    with pytest.raises(PersistasaurusError, match="the diagram cannot be rendered: "):
        svg("sequenceDiagram\n  this is none")


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmdr", None)

    with pytest.raises(ImportError, match=r"pip install 'persistasaurus\[diagram\]'"):
        svg("sequenceDiagram")


# ---------------------------------------------------------------------------------------- notebooks
def bundle(world: World) -> dict[str, str]:
    handle = world.open(HelloWorldFlow).start(HelloWorldFlow.say_hello, flow_id="hello")
    handle.result(DEAD_MAN_S)
    return handle._repr_mimebundle_()


def test_a_notebook_shows_a_handle_as_a_table_and_a_diagram(world: World) -> None:
    shown = bundle(world)

    assert set(shown) == {"text/plain", "text/html", "text/markdown"}
    assert shown["text/plain"].startswith("<FlowHandle 'hello'> completed\nClient ")
    assert shown["text/html"].count("<tr>") == 13
    assert "<td>step completed</td>" in shown["text/html"]
    assert "\n```mermaid\nsequenceDiagram\n" in shown["text/markdown"]
    assert "| 2 | " in shown["text/markdown"]
    picture = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', shown["text/html"])
    assert picture is not None
    assert "say" in texts(base64.b64decode(picture.group(1)).decode())


def test_without_the_extra_it_shows_text(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmdr", None)

    assert "<pre>Client " in bundle(world)["text/html"]


def test_a_notebook_shows_the_text_of_anybody_as_text(
    world: World, monkeypatch: pytest.MonkeyPatch, reference: Reference
) -> None:
    handle = world.open(Evil).start(Evil.go, EVIL, flow_id=EVIL.replace("/", ""))
    handle.result(DEAD_MAN_S)
    with_picture = handle._repr_mimebundle_()
    monkeypatch.setitem(sys.modules, "mmdr", None)
    with_text = handle._repr_mimebundle_()

    for html in (with_picture["text/html"], with_text["text/html"]):
        assert set(re.findall(r"<(\w+)", html)) <= {"table", "caption", "tr", "th", "td", "pre", "img"}
        assert html.count("<img") == html.count("<img alt=")
        assert "script" not in re.findall(r"<(\w+)", html)
    markdown = with_text["text/markdown"]
    head, _, diagram = markdown.partition("```mermaid\n")
    assert "<" not in head
    assert head.count("|") == 6 * (2 + len(handle.events()))
    assert diagram.count("```") == 1
    assert reference.complaints([diagram.removesuffix("```\n")]) == []


def test_a_long_history_is_a_short_table(world: World) -> None:
    handle = world.open(Many).start(Many.go, flow_id="many")
    handle.result(DEAD_MAN_S)
    shown = handle._repr_mimebundle_()

    assert shown["text/html"].count("<tr>") == 62
    assert "<td>142 more</td>" in shown["text/html"]


class Many(Flow):
    @flow(name="many")
    async def go(self) -> None:
        for number in range(100):
            await self.work(number)

    @step
    def work(self, number: int) -> None: ...


def test_what_cannot_be_read_is_shown_softly(world: World) -> None:
    handle = world.open(HelloWorldFlow).start(HelloWorldFlow.say_hello, flow_id="hello")
    world.close()

    assert handle._repr_mimebundle_() == {"text/plain": "<FlowHandle 'hello'> (SystemClosed)"}


def test_a_handle_can_be_drawn(world: World) -> None:
    handle = world.open(HelloWorldFlow).start(HelloWorldFlow.say_hello, flow_id="hello")
    handle.result(DEAD_MAN_S)

    assert draw(handle, level="api").mermaid() == draw(handle.events(), level="api").mermaid()
