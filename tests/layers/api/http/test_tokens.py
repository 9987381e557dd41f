"""Tokens: made once beside the store, for its owner's eyes only; compared as a whole; in one header only."""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from persistasaurus.api.http import tokens as tokens_module
from persistasaurus.api.http.access import Access, Scope
from persistasaurus.api.http.tokens import Tokens, TokensUnusable, new_token, token_path
from persistasaurus.api.private_file import create_once
from serving.doubles import TOKEN, scope_of, tokens

if TYPE_CHECKING:
    from pathlib import Path


def access(of: Tokens, *authorization: str, **more: object) -> Access | None:
    return of(scope_of("GET", "/", [("Authorization", value) for value in authorization], **more))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "flows.db"


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_a_token_is_known_whatever_the_case_of_its_scheme(scheme: str) -> None:
    assert access(tokens(Scope.READ), scheme + TOKEN) == Access("somebody", frozenset({Scope.READ}))


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("",),
        ("Bearer",),
        ("Bearer ",),
        (TOKEN,),
        (f"Basic {TOKEN}",),
        (f"Bearer {TOKEN}x",),
        (f"Bearer {TOKEN[:-1]}",),
        (f"Bearer {TOKEN} {TOKEN}",),
        (f"Bearer {TOKEN}", f"Bearer {TOKEN}"),
        (f"Bearer\t{TOKEN}",),
        (f"Bearer {TOKEN}, Bearer {TOKEN}",),
        ("Bearer " + "x" * 100_000,),
        ("Bearer \xe4\xf6\xfc",),
    ],
)
def test_what_is_not_exactly_one_known_token_is_nobody(given: tuple[str, ...]) -> None:
    assert access(tokens(), *given) is None


@pytest.mark.parametrize("query", ["access_token={}", "token={}", "authorization=Bearer%20{}"])
def test_a_token_in_the_address_is_not_looked_at(query: str) -> None:
    assert access(tokens(), query_string=query.format(TOKEN).encode()) is None


def test_each_request_is_compared_with_all_tokens_whichever_it_carries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def digests(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return compare(left, right)

    compare = hmac.compare_digest
    monkeypatch.setattr(tokens_module.hmac, "compare_digest", digests)
    known = {new_token(): Access(str(n), frozenset({Scope.READ})) for n in range(5)}
    of, first, last = Tokens.of(known), next(iter(known)), list(known)[-1]

    found = []
    for given in (first, last, new_token(), first[:-1] + "x", "x"):
        compared.clear()
        found.append(access(of, f"Bearer {given}"))
        assert len(compared) == 5
        assert {(len(left), len(right)) for left, right in compared} == {(32, 32)}

    assert [one and one.name for one in found] == ["0", "4", None, None, None]


def test_compare_digest_alone_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module.hmac, "compare_digest", lambda _left, _right: False)
    assert access(tokens(), f"Bearer {TOKEN}") is None

    monkeypatch.setattr(tokens_module.hmac, "compare_digest", lambda _left, _right: True)
    assert access(tokens(), "Bearer nonsense") is not None


def test_a_token_is_nowhere_to_be_seen() -> None:
    of = tokens()
    found = access(of, f"Bearer {TOKEN}")

    assert TOKEN not in repr(of) + repr(found) + repr(vars(of))
    assert repr(of) == "Tokens(somebody)"
    entry = tokens_module._NamedToken(frozenset({Scope.READ}), token=TOKEN)
    assert repr(entry) == "_NamedToken(read)"


def test_new_tokens_are_long_and_all_different() -> None:
    made = {new_token() for _ in range(1000)}

    assert len(made) == 1000
    assert {len(token) for token in made} == {4 + 64}


@pytest.mark.parametrize(
    "token", ["", "short", "x" * 31, "x" * 40 + " ", "ü" * 40, "x" * 40 + "\n", "x" * 300]
)
def test_a_weak_token_or_one_that_nobody_could_send_is_refused(token: str) -> None:
    with pytest.raises(TokensUnusable, match="32 characters at least") as raised:
        Tokens.of({token: Access("a", frozenset({Scope.READ}))})

    assert not token.strip() or token not in str(raised.value)


def test_no_tokens_at_all_are_refused() -> None:
    with pytest.raises(TokensUnusable, match="must be at least one token"):
        Tokens.of({})


def test_the_first_start_makes_a_token_that_its_owner_alone_can_read(store: Path) -> None:
    before = os.umask(0)
    try:
        first = Tokens.beside(store)
    finally:
        os.umask(before)
    path = token_path(store)
    token = path.read_text().strip()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert access(first, f"Bearer {token}") == access(Tokens.beside(store), f"Bearer {token}")
    assert access(first, f"Bearer {token}") == Access("owner", frozenset(Scope))
    assert not first.chosen
    assert [file.name for file in store.parent.iterdir()] == ["flows.db.token"]


def test_a_store_behind_a_link_has_one_token(store: Path, tmp_path: Path) -> None:
    store.touch()
    link = tmp_path / "other.db"
    link.symlink_to(store)

    Tokens.beside(link)

    assert token_path(link) == token_path(store)
    assert not (tmp_path / "other.db.token").exists()


def test_processes_that_start_at_once_have_the_same_token(store: Path) -> None:
    code = (
        "import sys\n"
        "from persistasaurus.api.http.tokens import Tokens, token_path\n"
        "print(flush=True); sys.stdin.readline()\n"
        "known = Tokens.beside(sys.argv[1])._known\n"
        "print(known[0][0].hex())\n"
    )
    command = [sys.executable, "-c", code, str(store)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    for child in children:
        child.stdout.readline()
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    digests = {child.communicate(timeout=60)[0].strip() for child in children}

    assert digests == {hashlib.sha256(token_path(store).read_text().strip().encode()).hexdigest()}


def test_a_token_that_is_there_already_is_never_replaced(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As another process makes it between our look and our own.
    path = token_path(store)
    create_once(path, TOKEN)
    monkeypatch.setattr(os.path, "lexists", lambda _path: False)

    create_once(path, "another")

    assert path.read_text() == TOKEN
    assert [file.name for file in store.parent.iterdir()] == ["flows.db.token"]


def test_a_failed_write_leaves_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(TokensUnusable, match="No space left"):
        Tokens.beside(store)

    assert list(store.parent.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666, 0o610])
def test_a_file_that_others_may_open_is_not_believed(store: Path, mode: int) -> None:
    Tokens.beside(store)
    token_path(store).chmod(mode)

    with pytest.raises(TokensUnusable, match=f"others can read it .mode {mode:04o}"):
        Tokens.beside(store)


def test_a_file_of_another_user_is_not_believed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Tokens.beside(store)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)

    with pytest.raises(TokensUnusable, match="belongs to another user"):
        Tokens.beside(store)


def test_a_link_is_not_followed(store: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    create_once(elsewhere, TOKEN)
    token_path(store).symlink_to(elsewhere)

    with pytest.raises(TokensUnusable, match="symbolic link"):
        Tokens.beside(store)


def test_a_link_that_leads_nowhere_creates_nothing(store: Path, tmp_path: Path) -> None:
    token_path(store).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(TokensUnusable, match="symbolic link"):
        Tokens.beside(store)

    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket"])
def test_what_is_not_a_file_is_refused_and_does_not_block(store: Path, kind: str) -> None:
    path = token_path(store)
    if kind == "folder":
        path.mkdir(0o700)
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    else:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))

    with pytest.raises(TokensUnusable, match="cannot use the token"):
        Tokens.beside(store)


def test_a_folder_where_everybody_may_replace_files_is_refused(store: Path) -> None:
    store.parent.chmod(0o777)
    with pytest.raises(TokensUnusable, match="all users may replace files"):
        Tokens.beside(store)
    assert list(store.parent.iterdir()) == []

    # As /tmp is: nobody can replace what belongs to somebody else.
    store.parent.chmod(0o1777)
    Tokens.beside(store)


@pytest.mark.parametrize("content", ["", "\n", "short", "a" * 70_000, "x" * 40 + "\ny"])
def test_a_file_with_something_else_in_it_is_refused_and_not_quoted(store: Path, content: str) -> None:
    create_once(token_path(store), content)

    with pytest.raises(TokensUnusable) as raised:
        Tokens.beside(store)

    assert "xxx" not in str(raised.value)


def test_a_file_that_is_not_text_is_refused(store: Path) -> None:
    create_once(token_path(store), TOKEN)
    token_path(store).write_bytes(b"\xff" * 64)

    with pytest.raises(TokensUnusable, match="not text"):
        Tokens.beside(store)


def test_a_store_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokensUnusable, match="No such file"):
        Tokens.beside(tmp_path / "missing" / "flows.db")


def named(tmp_path: Path, text: str) -> Tokens:
    path = tmp_path / "tokens.toml"
    create_once(path, text)
    return Tokens.read(path)


def test_named_tokens_are_read_from_a_file(tmp_path: Path) -> None:
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    other = new_token()
    of = named(
        tmp_path,
        f'[tokens.grafana]\nscopes = ["read"]\nsha256 = "{digest}"\n'
        f'[tokens.deploy]\nscopes = ["read", "start"]\ntoken = "{other}"\n',
    )

    assert access(of, f"Bearer {TOKEN}") == Access("grafana", frozenset({Scope.READ}))
    assert access(of, f"Bearer {other}") == Access("deploy", frozenset({Scope.READ, Scope.START}))
    assert access(of, f"Bearer {digest}") is None
    assert of.chosen


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "tokens"),
        ("[tokens]", "must be at least one token"),
        ("tokens = ", "not TOML"),
        (f'[tokens.a]\nscopes = ["read"]\ntoken = "{TOKEN}', "not TOML"),
        (f'[tokens.a]\nscopes = ["root"]\ntoken = "{TOKEN}"', "root"),
        (f'[tokens.a]\nscopes = []\ntoken = "{TOKEN}"', "scopes"),
        (f'[tokens.a]\ntoken = "{TOKEN}"', "scopes"),
        ('[tokens.a]\nscopes = ["read"]', "either `sha256` or `token`"),
        (f'[tokens.a]\nscopes = ["read"]\nsecret = "{TOKEN}"', "secret"),
        (f'[tokens.a]\nscopes = ["read"]\nsha256 = "{TOKEN}"', "sha256"),
        (f'[tokens."a b"]\nscopes = ["read"]\ntoken = "{TOKEN}"', "tokens"),
        ('[tokens.a]\nscopes = ["read"]\ntoken = "hunter2"', "32 characters at least"),
        (
            "\n".join(f'[tokens.{name}]\nscopes = ["read"]\ntoken = "{TOKEN}"' for name in "ab"),
            "two names have the same token",
        ),
    ],
)
def test_a_file_of_tokens_that_is_wrong_says_where_and_quotes_no_token(
    tmp_path: Path, text: str, reason: str
) -> None:
    with pytest.raises(TokensUnusable, match=reason) as raised:
        named(tmp_path, text)

    assert TOKEN not in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_file_of_tokens_that_others_may_read_is_not_believed(tmp_path: Path) -> None:
    create_once(tmp_path / "tokens.toml", f'[tokens.a]\nscopes = ["read"]\ntoken = "{TOKEN}"')
    (tmp_path / "tokens.toml").chmod(0o644)

    with pytest.raises(TokensUnusable, match="others can read it"):
        Tokens.read(tmp_path / "tokens.toml")


def test_a_file_of_tokens_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokensUnusable, match="No such file"):
        Tokens.read(tmp_path / "tokens.toml")
