"""The pages that a link leads to: plain HTML, one small stylesheet, and no script.

Every text in a page is escaped. In case one is not, the policy that goes with each page lets a browser run,
load and embed nothing.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from html import escape
from string import Template
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from .action import Action
    from .signed_text import Claim, DonePage


class Wording(msgspec.Struct, frozen=True, kw_only=True):
    """What the pages say beside an action's own texts; `site` names the sender in the reader's words."""

    lang: str = "en"
    site: str = ""
    until: str = "This link works once, until"
    done_at: str = "Recorded on"
    close: str = "You can close this page."
    refused: str = "This link does not work"
    refused_why: str = (
        "It may have been used already, it may have expired, or part of it may have been lost on the way."
        " If you have just used it, all is well: there is nothing more for you to do."
    )
    refused_hint: str = "Otherwise, please ask the sender for a new one."
    later: str = "Not just now"
    later_why: str = "We could not record your answer at this moment. Your link stays as it is."
    later_hint: str = "Please wait a minute, then reload this page."


class _Html(str):
    """Text that is HTML already."""

    __slots__ = ()

    def __add__(self, other: str) -> _Html:
        return _Html(str(self) + (other if isinstance(other, _Html) else escape(other)))


_STYLE: Final = """
:root{color-scheme:light dark;--page:#f3f4f7;--card:#fff;--ink:#181b22;--soft:#535b6b;--line:#dfe2e9;
--main:#2451c4;--over:#1b3f9c;--on:#fff;--tint:#e8edfb;--good:#146c3c;--mild:#e3f3ea}
@media(prefers-color-scheme:dark){:root{--page:#101216;--card:#1a1d24;--ink:#eceef3;--soft:#a9b1c1;
--line:#313644;--main:#93b0ff;--over:#b4c8ff;--on:#0d1a40;--tint:#252e4a;--good:#7fd3a3;--mild:#1b3a2a}}
*{box-sizing:border-box}
html{font:100%/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
body{margin:0;min-height:100vh;min-height:100dvh;display:grid;place-items:center;padding:1rem;
background:var(--page);color:var(--ink)}
main{width:100%;max-width:29rem;background:var(--card);border:1px solid var(--line);border-radius:1rem;
padding:2.25rem 2rem;box-shadow:0 1px 2px #0001,0 12px 32px #0000000f;overflow-wrap:anywhere}
header{margin:0 0 1.5rem;color:var(--soft);font-size:.9375rem;font-weight:600}
svg{display:block;width:3rem;height:3rem;padding:.7rem;border-radius:50%;margin:0 0 1.25rem;fill:none;
stroke:currentColor;stroke-width:2;stroke-linecap:round;stroke-linejoin:round;
color:var(--main);background:var(--tint)}
svg.good{color:var(--good);background:var(--mild)}
svg.mute{color:var(--soft);background:var(--page)}
h1{margin:0 0 .75rem;font-size:1.5rem;line-height:1.25;letter-spacing:-.01em;text-wrap:balance}
p{margin:0 0 .75rem}
main>:last-child{margin-bottom:0}
.says{margin:1.25rem 0;padding:.75rem 1rem;border-inline-start:4px solid var(--main);border-radius:.25rem;
background:var(--tint);font-weight:600}
small{display:block;margin:1.25rem 0 0;font-size:.875rem;color:var(--soft)}
time{white-space:nowrap}
button{width:100%;min-height:3rem;margin:1rem 0 0;padding:.75rem 1.25rem;font:inherit;font-weight:600;
color:var(--on);background:var(--main);border:1px solid #0000;border-radius:.625rem;cursor:pointer}
button:hover{background:var(--over)}
button:active{transform:translateY(1px)}
button:focus-visible{outline:3px solid var(--main);outline-offset:3px}
@media(max-width:26rem){main{padding:1.75rem 1.25rem;border-radius:.75rem}}
"""

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With `no-referrer` a browser would send the page's own form with `Origin: null`, as if from elsewhere.
    "Referrer-Policy": "strict-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
}
"""What each page is sent with."""

_PAGE: Final = Template("""<!doctype html>
<html lang="$lang">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow">
<meta name="format-detection" content="telephone=no, date=no, address=no, email=no">
<title>$title</title>
<link rel="icon" href="data:,">
<style>$style</style>
</head>
<body>
<main>
$site<svg class="$mood" viewBox="0 0 24 24" aria-hidden="true"><path d="$icon"/></svg>
<h1 dir="auto">$heading</h1>
$body</main>
</body>
</html>
""")
_PARAGRAPH: Final = Template('<p dir="auto">$text</p>\n')
_SITE: Final = Template('<header dir="auto">$text</header>\n')
_SAYS: Final = Template('<p class="says" dir="auto">$text</p>\n')
_SMALL: Final = Template("<small>$text $at</small>\n")
_TIME: Final = Template('<time datetime="$machine">$human</time>')
# Without an action, a form is sent to where it came from: whatever the application is mounted under.
_FORM: Final = Template("""<form method="post">
<input type="hidden" name="visit" value="$visit">
<button type="submit">$button</button>
</form>
""")

_SHEET: Final = (
    "M9 4h6v3H9zM15 5.5h2.5A1.5 1.5 0 0 1 19 7v12.5a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 5 19.5V7a1.5 1.5"
    " 0 0 1 1.5-1.5H9M9 14l2 2 4-4"
)
_CHECK: Final = "M5 12.5l4.5 4.5L19 7.5"
_BROKEN: Final = "M9 17H7a5 5 0 0 1 0-10h2M15 7h2a5 5 0 0 1 4 8M3 3l18 18"
_CLOCK: Final = "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 7.5V12l3 2"


def ask_page(action: Action, claim: Claim, visit: str, wording: Wording) -> str:
    """Ask for the confirmation, and show the button. `visit` identifies the page, not the click."""
    body = _optional(_PARAGRAPH, action.text) + _optional(_SAYS, claim.says)
    body += _fill(_FORM, visit=visit, button=action.button)
    body += _fill(_SMALL, text=wording.until, at=_time(claim.expires_at))
    return _page(wording, action.title, _SHEET, body)


def done_page(action: Action, done: DonePage, wording: Wording) -> str:
    """Say that it is recorded."""
    body = _fill(_PARAGRAPH, text=wording.close) + _fill(_SMALL, text=wording.done_at, at=_time(done.at))
    return _page(wording, action.done, _CHECK, body, "good")


def refused_page(wording: Wording) -> str:
    """Say that the link does not work, whatever the reason."""
    body = _fill(_PARAGRAPH, text=wording.refused_why) + _fill(_PARAGRAPH, text=wording.refused_hint)
    return _page(wording, wording.refused, _BROKEN, body, "mute")


def later_page(wording: Wording) -> str:
    """Say that nothing could be recorded now, and that the link is still valid."""
    body = _fill(_PARAGRAPH, text=wording.later_why) + _fill(_PARAGRAPH, text=wording.later_hint)
    return _page(wording, wording.later, _CLOCK, body, "mute")


def _page(wording: Wording, heading: str, icon: str, body: _Html, mood: str = "") -> str:
    title = f"{heading} | {wording.site}" if wording.site else heading
    return _fill(
        _PAGE,
        lang=wording.lang,
        title=title,
        style=_Html(_STYLE),
        site=_optional(_SITE, wording.site),
        mood=mood,
        icon=icon,
        heading=heading,
        body=body,
    )


def _fill(template: Template, **texts: str) -> _Html:
    safe = {name: text if isinstance(text, _Html) else escape(text) for name, text in texts.items()}
    return _Html(template.substitute(safe))


def _optional(template: Template, text: str) -> _Html:
    return _fill(template, text=text) if text else _Html()


def _time(seconds: int) -> _Html:
    """Write an instant in a form that all languages read."""
    at = datetime.fromtimestamp(seconds, UTC)
    return _fill(_TIME, machine=f"{at:%Y-%m-%dT%H:%M:%SZ}", human=f"{at:%Y-%m-%d %H:%M} UTC")
