"""Links for people: the holder may do one thing, once, until it expires, and needs nothing else for that.

A link is made in the step that sends it, before the flow waits for the answer. So it is bound to *the n-th
wait* of one flow for one signal. Following it shows a page, and changes nothing, since mail scanners and
previews follow every link. The button on the page sends the signal.

The signal itself marks the link as used. All links for one wait send it under the same id, so the store
records one of them, even when they come at once, and across restarts; nothing about it is kept in memory.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ...actors.flows.admission import checked_id
from ...actors.handle import from_microseconds
from ...actors.runtime.primitives import SystemClock
from .pages import Wording
from .signed_text import Claim, DonePage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...actors.runtime.primitives import Clock
    from .action import Action
    from .keys import KeyRing

__all__ = ["Links", "link_signal_id"]

_SECOND: Final = 1_000_000
_SAYS_MAX: Final = 200
_LONGEST: Final = timedelta(days=366)
_WAITS_MAX: Final = 1_000_000
_DONE_SHOWN: Final = timedelta(minutes=10)
# Not printable by themselves, and yet parts of names, in Persian as in emoji.
_JOINERS: Final = str.maketrans("", "", "\u200c\u200d")


class Links:
    """Makes links, and reads them. Usable from any thread, in any step.

    Args:
        keys: what they are signed with: `KeyFile.beside("flows.db")`, or a `KeyRing` of your own.
        base_url: where people reach the application that has `link_routes`: `https://example.org`, with the
        path
            that it is mounted under.
        actions: what links may ask.
        clock: the environment's clock, by which they expire.
        wording: what the pages say beside the texts of the actions.

    Raises:
        ValueError: an action, or the URL, cannot work; the message says why.
    """

    def __init__(
        self,
        keys: KeyRing,
        base_url: str,
        actions: Iterable[Action],
        *,
        clock: Clock | None = None,
        wording: Wording | None = None,
    ) -> None:
        self.keys = keys
        self.base_url = _checked_url(base_url)
        self.origin = _origin_of(self.base_url)
        """What a browser calls the place of the pages: scheme, name, and a port that is not the usual one."""
        self.actions: dict[str, Action] = {}
        self.clock = clock or SystemClock()
        self.wording = wording or Wording()
        for action in actions:
            action.check()
            if self.actions.setdefault(action.name, action) is not action:
                raise ValueError(f"there are two actions {action.name!r}")

    def url(
        self,
        flow_id: str,
        action: str,
        *,
        wait: int = 1,
        expires_in: timedelta = timedelta(days=7),
        says: str = "",
    ) -> str:
        """Make a link. Whoever has it can use it: send it to one person, and keep it out of logs and results.

        Args:
            flow_id: in a step, `current_step().flow_id`.
            action: the name of one of the actions.
            wait: which wait of the flow for the action's signal this answers, counted from 1. Several links
            for the
                same wait exclude each other, whatever their actions.
            expires_in: how long it can be used, up to a year.
            says: shown on the page as it is, such as an address or an amount. It cannot be altered, but can
            be read
                in the link.

        Raises:
            ValueError: an argument makes no sense.
            KeysUnusable: the keys cannot be read.
        """
        chosen = self.actions.get(action)
        if chosen is None:
            raise ValueError(f"there is no action {action!r}; there are {', '.join(sorted(self.actions))}")
        if not timedelta() < expires_in <= _LONGEST:
            raise ValueError(f"a link expires within {_LONGEST.days} days, not in {expires_in}")
        if not 1 <= wait <= _WAITS_MAX:
            raise ValueError(f"waits are counted from 1, so there is no wait {wait!r}")
        expires_at = (self.clock.now() + expires_in // timedelta(microseconds=1)) // _SECOND
        flow = checked_id(flow_id, "flow id")
        claim = Claim(flow, chosen.signal_name, wait, action, expires_at, _checked_says(says))
        return f"{self.base_url}/links/{claim.token(self.keys)}"

    def read(self, token: str) -> tuple[Claim, Action] | None:
        """Return what a link asks; None: it is not genuine, has expired, or its action no longer exists.

        Raises:
            KeysUnusable: the keys cannot be read.
        """
        claim = Claim.of(self.keys, token)
        if claim is None or self._is_past(claim.expires_at):
            return None
        action = self.actions.get(claim.action)
        return (claim, action) if action is not None and action.signal_name == claim.signal else None

    def done_token(self, action: Action, at: datetime) -> str:
        """Make the token of a page that says for ten minutes that an action is done. It permits nothing."""
        seconds = int(at.timestamp())
        return DonePage(action.name, seconds, seconds + int(_DONE_SHOWN.total_seconds())).token(self.keys)

    def read_done(self, token: str) -> tuple[DonePage, Action] | None:
        """Return what such a token says; None as in `read`."""
        done = DonePage.of(self.keys, token)
        if done is None or self._is_past(done.expires_at):
            return None
        action = self.actions.get(done.action)
        return None if action is None else (done, action)

    def now(self) -> datetime:
        """Return the time by the clock that links expire by."""
        return from_microseconds(self.clock.now())

    def _is_past(self, seconds: int) -> bool:
        return self.clock.now() >= seconds * _SECOND


def link_signal_id(signal: str, wait: int = 1) -> str:
    """Return the id under which links send a signal for the n-th wait of a flow.

    Anything else that sends it under this id, such as an endpoint of your own, excludes the links, and they
    it.
    """
    return f"link:{wait}:{signal}"


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(
            f"{url!r} is not an address at which people reach this application: give https://example.org/path"
        )
    if parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(
            f"{url!r} cannot be put into a mail as it is: leave out what is not part of an address"
        )
    return url.rstrip("/")


def _origin_of(url: str) -> str:
    scheme, _, rest = url.partition("://")
    authority = rest.partition("/")[0].lower()
    return f"{scheme.lower()}://{authority.removesuffix({'http': ':80', 'https': ':443'}[scheme.lower()])}"


def _checked_says(says: str) -> str:
    if len(says) > _SAYS_MAX or not says.translate(_JOINERS).isprintable():
        raise ValueError(f"{says!r} cannot be shown in one line: {_SAYS_MAX} printable characters at most")
    return says
