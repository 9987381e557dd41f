"""What a link carries: it comes back as it was made, and in no other spelling and from no other hand."""

from __future__ import annotations

import base64
import hmac
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from persistasaurus.api.links.keys import KeyRing, SigningKey
from persistasaurus.api.links.signed_text import LENGTH_MAX, Claim, DonePage, sign, verify

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
RING = KeyRing(NEW, OLD)
ALPHABET = string.ascii_letters + string.digits + "-_."

texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=60)
claims = st.builds(
    Claim,
    flow_id=texts,
    signal=texts,
    wait=st.integers(1, 1_000_000),
    action=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,59}", fullmatch=True),
    expires_at=st.integers(0, 10**11),
    says=st.one_of(st.just(""), texts),
)


@given(claims)
def test_what_was_signed_is_read_as_it_was(claim: Claim) -> None:
    token = claim.token(RING)

    assert Claim.of(RING, token) == claim
    assert set(token) <= set(ALPHABET)
    assert len(token) <= LENGTH_MAX


@given(claims, st.data())
def test_no_character_of_a_token_can_be_another(claim: Claim, data: st.DataObject) -> None:
    token = claim.token(RING)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(
        st.one_of(st.sampled_from(ALPHABET), st.characters()).filter(lambda c: c != token[place])
    )

    assert Claim.of(RING, token[:place] + other + token[place + 1 :]) is None


@given(claims, st.data())
def test_nothing_can_be_added_to_a_token_or_left_out(claim: Claim, data: st.DataObject) -> None:
    token = claim.token(RING)
    place = data.draw(st.integers(0, len(token) - 1))
    more = data.draw(st.one_of(st.sampled_from([*ALPHABET, "=", "%", " ", "\n"]), st.characters()))

    assert Claim.of(RING, token[:place] + token[place + 1 :]) is None
    assert Claim.of(RING, token[:place] + more + token[place:]) is None
    assert Claim.of(RING, token + more) is None


@given(claims)
def test_each_token_has_one_spelling(claim: Claim) -> None:
    token = claim.token(RING)
    body, _, mac = token.rpartition(".")
    same_bytes = [
        mac[:-1] + last for last in ALPHABET if last != "." and _bytes(mac[:-1] + last) == _bytes(mac)
    ]

    # 43 letters of base64 hold two bits more than 32 bytes: four spellings, of which one is the token's.
    assert len(same_bytes) == 4
    assert [last for last in same_bytes if Claim.of(RING, f"{body}.{last}")] == [mac]
    assert Claim.of(RING, f"{token}=") is None


@given(st.text(max_size=200))
def test_what_nobody_has_signed_is_nothing(text: str) -> None:
    assert Claim.of(RING, text) is None
    assert DonePage.of(RING, text) is None


@settings(max_examples=30)
@given(st.lists(st.text("abc.", max_size=5), max_size=12))
def test_what_has_the_form_of_a_token_is_still_nothing(parts: list[str]) -> None:
    text = ".".join(["v1", RING.keys[0].id, *parts])

    assert Claim.of(RING, text) is None


def test_two_tokens_for_the_same_differ() -> None:
    claim = Claim("ada", "confirm", 1, "confirm", 5)

    assert claim.token(RING) != claim.token(RING)


def test_the_newest_key_signs_and_the_older_ones_are_accepted_until_they_are_removed() -> None:
    claim = Claim("ada", "confirm", 1, "confirm", 5)
    before, now = claim.token(KeyRing(OLD)), claim.token(RING)

    assert before.split(".")[1] == SigningKey(OLD).id
    assert now.split(".")[1] == SigningKey(NEW).id
    assert Claim.of(RING, before) == Claim.of(RING, now) == claim
    assert Claim.of(KeyRing(NEW), before) is None
    assert Claim.of(KeyRing(OLD), now) is None


def test_the_key_that_a_token_names_is_the_one_that_it_is_held_against() -> None:
    version, _, *rest = Claim("ada", "confirm", 1, "confirm", 5).token(RING).split(".")

    assert Claim.of(RING, ".".join([version, SigningKey(OLD).id, *rest])) is None


def test_a_key_that_nobody_knows_is_not_taken_for_the_newest() -> None:
    version, _, *rest = Claim("ada", "confirm", 1, "confirm", 5).token(RING).split(".")[:-1]
    body = ".".join([version, "00000000", *rest])
    mac = base64.urlsafe_b64encode(hmac.digest(NEW, body.encode(), "sha256")).decode().rstrip("=")

    assert Claim.of(RING, f"{body}.{mac}") is None


def test_what_another_version_has_signed_is_not_taken_for_a_link_of_this_one() -> None:
    parts = Claim("ada", "confirm", 1, "confirm", 5).token(RING).split(".")[2:-1]

    assert Claim.of(RING, sign(RING, "v1", parts)) is not None
    assert Claim.of(RING, sign(RING, "v2", parts)) is None


def test_a_page_that_says_done_cannot_be_turned_into_a_link_or_the_other_way() -> None:
    done = DonePage("confirm", 1, 2)
    link = Claim("ada", "confirm", 1, "confirm", 5)

    assert DonePage.of(RING, done.token(RING)) == done
    assert Claim.of(RING, done.token(RING)) is None
    assert DonePage.of(RING, link.token(RING)) is None


def test_what_is_too_long_is_refused_before_it_is_looked_at() -> None:
    fits = sign(RING, "v1", ["x" * (LENGTH_MAX - 56)])
    over = sign(RING, "v1", ["x" * (LENGTH_MAX - 55)])

    assert (len(fits), len(over)) == (LENGTH_MAX, LENGTH_MAX + 1)
    assert verify(RING, "v1", fits) != []
    assert verify(RING, "v1", over) == []


def test_what_would_be_too_long_is_not_signed() -> None:
    with pytest.raises(ValueError, match="the limit is 4096"):
        Claim("\U0001f995" * 1000, "confirm", 1, "confirm", 5).token(RING)


@pytest.mark.parametrize(
    "parts", [[], ["a"] * 5, ["a"] * 7, ["!", "MTpj", "a", "1", "n", ""], ["_w", "MTpj", "a", "1", "n", ""]]
)
def test_a_genuine_seal_around_something_else_is_no_link(parts: list[str]) -> None:
    assert Claim.of(RING, sign(RING, "v1", parts)) is None


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=")
