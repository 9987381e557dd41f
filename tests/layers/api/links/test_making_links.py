"""The making of links and of what they ask: what cannot work is found before anybody gets a link."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from links.people import ACTIONS, BASE, WEEK, DecisionFlow, Post, press, token_of
from persistasaurus.api.links.action import Action
from persistasaurus.api.links.keys import KeyRing
from persistasaurus.api.links.links import Links
from persistasaurus.flows.errors import PayloadError
from persistasaurus.flows.examples import SignupFlow
from system.doubles import wait_until


def test_a_link_is_made_in_a_step_for_the_flow_that_the_step_belongs_to(post: Post) -> None:
    post.start("Ada's ünïcode/..%2F sign-up?#")

    assert post.outbox[0].startswith(f"{BASE}/links/v1.")
    assert post.outbox[0].isascii()
    assert press(post, token_of(post.outbox[0])) == 303


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"action": "delete"}, "there is no action 'delete'; there are approve, confirm, reject"),
        ({"flow_id": ""}, "not a valid flow id"),
        ({"flow_id": "x\n"}, "not a valid flow id"),
        ({"wait": 0}, "counted from 1"),
        ({"wait": 10**7}, "counted from 1"),
        ({"expires_in": timedelta()}, "expires within 366 days"),
        ({"expires_in": timedelta(days=367)}, "expires within 366 days"),
        ({"says": "two\nlines"}, "cannot be shown in one line"),
        ({"says": "pay 10 \u202e 01 yap"}, "cannot be shown in one line"),
        ({"says": "\ud800"}, "cannot be shown in one line"),
        ({"says": "x" * 201}, "200 printable characters"),
    ],
)
def test_a_link_that_makes_no_sense_is_not_made(post: Post, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        post.links.url(**{"flow_id": "ada", "action": "confirm", **given})


def test_names_of_people_may_be_written_as_they_are_written(post: Post) -> None:
    for name in ("علی‌رضا", "👩‍🚒", "Zoë Ångström", "名前"):
        found = post.links.read(post.token("ada", "confirm", says=name))
        assert found is not None
        assert found[0].says == name


def test_the_longest_link_that_can_be_made_can_be_used(post: Post) -> None:
    flow_id = "\U0001f995" * 200
    post.start(flow_id)
    token = post.token(flow_id, "confirm", says="\U0001f995" * 200, expires_in=WEEK)

    assert press(post, token) == 303


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://example.org",
        "https://",
        "https://a.b?c",
        "https://a.b#c",
        "https://u:p@a.b",
        "https://a.b/ü",
    ],
)
def test_a_place_that_nobody_can_reach_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"give https://|leave out"):
        Links(KeyRing.fresh(), url, ACTIONS)


def test_links_lead_to_where_the_application_is_mounted() -> None:
    links = Links(KeyRing.fresh(), "https://example.org/flows/", ACTIONS)

    assert links.url("ada", "confirm").startswith("https://example.org/flows/links/v1.")


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        ({"name": "Confirm"}, ValueError, "not a valid name of an action"),
        ({"name": "a.b"}, ValueError, "not a valid name of an action"),
        ({"title": " "}, ValueError, "needs a title"),
        ({"button": ""}, ValueError, "needs a title, and words"),
        ({"signal": "x" * 181}, ValueError, "180 letters at most"),
        ({"signal": ""}, ValueError, "not a valid name of a signal"),
        ({"signal": DecisionFlow.decide}, TypeError, "Missing required argument 'at'"),
        ({"send": lambda at: at}, TypeError, "let `send` return confirm_email_address"),
        ({"send": lambda at: DecisionFlow.decide(True, at)}, ValueError, "not for 'decide'"),
        ({"send": lambda at: SignupFlow.confirm_email_address("soon")}, PayloadError, "datetime"),  # type: ignore[arg-type]
        ({"signal": "any", "send": lambda at: object()}, PayloadError, "what action 'confirm' sends"),
    ],
)
def test_an_action_that_cannot_work_is_found_before_anybody_gets_a_link(
    action: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"name": "confirm", "signal": SignupFlow.confirm_email_address, "title": "Confirm", **action}
    with pytest.raises(error, match=message):
        Links(KeyRing.fresh(), BASE, [Action(**given)])


def test_two_actions_of_one_name_are_refused() -> None:
    other = Action(name="confirm", signal="other", title="Other", send=lambda at: None)
    with pytest.raises(ValueError, match="two actions 'confirm'"):
        Links(KeyRing.fresh(), BASE, [*ACTIONS, other])


def test_the_mail_of_a_flow_is_out_before_the_flow_waits(post: Post) -> None:
    handle = post.start()
    wait_until(lambda: handle.status == "waiting")
    assert len(post.outbox) == 1
