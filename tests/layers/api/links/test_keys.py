"""The keys of links: made once, seen by nobody else, exchanged without breaking what was sent."""

from __future__ import annotations

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from persistasaurus.api.links.keys import KeyFile, KeyRing, KeysUnusable, SigningKey

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flows.db.keys"


def test_the_keys_of_a_store_lie_beside_it_for_its_owner_alone(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        keys = KeyFile.beside(tmp_path / "flows.db")
    finally:
        os.umask(umask)

    assert keys.path == tmp_path / "flows.db.keys"
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert [len(key.secret) for key in keys.keys] == [32]
    assert [file.name for file in tmp_path.iterdir()] == ["flows.db.keys"]


def test_a_store_has_the_same_keys_by_whichever_link_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "there" / "flows.db")

    assert KeyFile.beside(tmp_path / "link.db").path == tmp_path / "there" / "flows.db.keys"


def test_a_store_in_memory_has_no_file_beside_it() -> None:
    with pytest.raises(KeysUnusable, match=r"KeyRing\.fresh"):
        KeyFile.beside(":memory:")


def test_the_same_keys_are_found_at_the_next_start(path: Path) -> None:
    assert KeyFile(path).keys[0].secret == KeyFile(path).keys[0].secret


def test_processes_that_start_at_once_make_one_key(path: Path) -> None:
    ready = Barrier(8)

    def start(_: int) -> bytes:
        ready.wait(10)
        return KeyFile(path).keys[0].secret

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(8)))) == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_new_key_is_put_in_front_and_the_old_one_stays(path: Path) -> None:
    keys = KeyFile(path)
    old = keys.keys[0]

    new = keys.rotate()

    assert [key.id for key in keys.keys] == [new.id, old.id]
    assert [key.secret for key in KeyFile(path).keys] == [new.secret, old.secret]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_removed_key_is_found_no_more_also_where_it_was_read_before(path: Path) -> None:
    here, elsewhere = KeyFile(path), KeyFile(path)
    old = here.keys[0]
    new = here.rotate()
    assert elsewhere.find(new.id) is not None

    here.remove(old.id)

    assert elsewhere.find(old.id) is None
    assert [key.id for key in elsewhere.keys] == [new.id]


def test_a_key_whose_line_an_editor_deletes_is_gone_at_once(path: Path) -> None:
    keys = KeyFile(path)
    new = keys.rotate()

    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")

    assert [key.id for key in keys.keys] == [new.id]


def test_the_last_key_stays(path: Path) -> None:
    keys = KeyFile(path)

    with pytest.raises(KeysUnusable, match="rotate first"):
        keys.remove(keys.keys[0].id)
    with pytest.raises(KeysUnusable, match="no key 'abcd'"):
        keys.remove("abcd")
    assert len(keys.keys) == 1


def test_no_rotation_is_lost_to_another(path: Path) -> None:
    KeyFile(path)
    ready = Barrier(8)

    def rotate(_: int) -> set[str]:
        keys = KeyFile(path)
        ready.wait(10)
        return {keys.rotate().id for _ in range(10)}

    with ThreadPoolExecutor(8) as pool:
        made = set[str]().union(*pool.map(rotate, range(8)))
    assert made < {key.id for key in KeyFile(path).keys}
    assert len(KeyFile(path).keys) == 81


def test_old_keys_have_to_go_before_there_are_too_many(path: Path) -> None:
    path.write_text("".join(f"{_line(SigningKey.fresh())}\n" for _ in range(100)), encoding="utf-8")
    path.chmod(0o600)

    with pytest.raises(KeysUnusable, match="remove old ones first"):
        KeyFile(path).rotate()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_keys_that_others_may_know_are_not_used(path: Path, mode: int) -> None:
    keys = KeyFile(path)
    path.chmod(mode)

    with pytest.raises(KeysUnusable, match="others can read it"):
        KeyFile(path)
    with pytest.raises(KeysUnusable, match="others can read it"):
        _ = keys.keys


def test_a_link_in_the_place_of_the_keys_is_not_followed(path: Path) -> None:
    KeyFile(path.with_name("other"))
    path.symlink_to("other")

    with pytest.raises(KeysUnusable, match="cannot use the keys"):
        KeyFile(path)


def test_what_is_no_file_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path, 0o600)

    with pytest.raises(KeysUnusable, match="not a file"):
        KeyFile(path)


def test_keys_that_disappear_are_not_made_anew_behind_the_back_of_who_holds_links(path: Path) -> None:
    keys = KeyFile(path)
    path.unlink()

    with pytest.raises(KeysUnusable, match="No such file"):
        _ = keys.keys
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no key in"),
        ("\n \n", "there is no key in"),
        ("hello\n", "line 1: not an id and a key"),
        ("\n12345678 c2hvcnQ\n", "line 2: not an id and a key"),
        ("12345678 " + "é" * 43, "line 1: not an id and a key"),
        ("12345678 " + "A" * 43, "line 1: the key is damaged"),
        ("x" * 70_000, "larger than"),
    ],
)
def test_a_file_with_something_else_in_it_is_refused_by_line(path: Path, text: str, message: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)

    with pytest.raises(KeysUnusable, match=message):
        KeyFile(path)


def test_nothing_that_is_shown_of_keys_tells_them(path: Path) -> None:
    keys = KeyFile(path)
    secret = _line(keys.keys[0]).split()[1]
    path.write_text(f"00000000 {secret}\n", encoding="utf-8")

    with pytest.raises(KeysUnusable) as refused:
        _ = keys.keys

    shown = f"{keys!r} {KeyRing.fresh()!r} {refused.value!r} {refused.value.__cause__!r}"
    assert secret not in shown
    assert secret[:8] not in shown


@pytest.mark.parametrize("secret", [b"", b"short", b"x" * 31, b"x" * 33])
def test_a_program_cannot_sign_with_less_than_a_key(secret: bytes) -> None:
    with pytest.raises(KeysUnusable, match="32 random bytes"):
        KeyRing(secret)


def test_a_ring_without_a_key_is_refused() -> None:
    with pytest.raises(KeysUnusable, match="needs a key"):
        KeyRing()


def _line(key: SigningKey) -> str:
    return f"{key.id} {base64.urlsafe_b64encode(key.secret).decode().rstrip('=')}"
