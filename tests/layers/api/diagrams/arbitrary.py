"""Events of every kind, in any order, with any text: no history that a flow would write."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from hypothesis import strategies as st
from persistasaurus.flows import events

KINDS: tuple[type[Any], ...] = tuple(
    kind for side in (events.InputEvent, events.CommandEvent) for kind in get_args(side)
)

HOSTILE = [
    "<script>alert(1)</script>",
    "end",
    "a; Client->>Step: smuggled",
    "x\n    Client->>Step: smuggled",
    "x\r\nNote over Client: smuggled",
    "#quot;#59;#35;#60;b",
    "%%{init: {'theme': 'dark'}}%%",
    "%% comment",
    "#60;script#62;alert(1)#60;/script#62;",
    "$$\\frac{1}{2}$$",
    "wrap:x",
    "nowrap: x",
    ":x: y",
    "loop forever",
    "]]>--><svg onload=alert(1)>",
    "javascript:alert(1)",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egnirts desrever",
    "\u2028\u2029\x85\x0b\x0c\x00",
    "```\n# heading",
    "日本語テキスト",
    "naïve ✉️ 👩‍🚀",
    "\ufffe\uffff",
    "...",
    "as b",
    "x" * 5000,
    "",
    " ",
]

texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30))
numbers = st.integers(1, 4)
raws = st.one_of(
    texts.map(lambda text: msgspec.Raw(msgspec.json.encode(text))),
    st.dictionaries(texts, st.one_of(texts, st.integers()), max_size=3).map(
        lambda values: msgspec.Raw(msgspec.json.encode(values))
    ),
    st.sampled_from([msgspec.Raw(b""), msgspec.Raw(b"{"), msgspec.Raw(b"\xff\xfe"), msgspec.Raw(b"null")]),
)
failures = st.builds(events.Failure, texts, texts)
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "args": raws,
    "result": raws,
    "error": failures,
    "step": numbers,
    "timer": numbers,
    "attempt": numbers,
    "seed": numbers,
    "due": st.integers(0, 10**16),
    "retry_at": st.none() | st.integers(0, 10**16),
    "since": st.none() | st.integers(1, 20),
    "retried": st.just(()),
    "until": st.booleans(),
    "begun": st.booleans(),
    "reason": st.sampled_from(["poisoned", "in_doubt", "crashing"]) | texts,
}


def an_event(kind: type[Any], text: st.SearchStrategy[str] = texts) -> st.SearchStrategy[Any]:
    """Return events of one kind. All other fields are text."""
    fields = {name: _FIELDS.get(name, text) for name in kind.__struct_fields__}
    return st.builds(kind, **fields)


histories = st.lists(st.one_of([an_event(kind) for kind in KINDS]), max_size=25)
