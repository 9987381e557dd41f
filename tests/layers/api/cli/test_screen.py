"""What is shown: fit for a terminal, whatever it is; plain in a pipe; and the same in JSON."""

from __future__ import annotations

import io
import json
import re
import unicodedata

import pytest
from persistasaurus.actors.handle import from_microseconds
from persistasaurus.api.cli.output.printable import cut, json_line, printable, printable_lines
from persistasaurus.api.cli.output.quantities import ago, counted, duration, local_clock, size
from persistasaurus.api.cli.output.screen import Column, Screen, StyledText, width_of

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND

STEERING = ["\x1b[2J", "\x07", "\x9b31m", "\r", "\x00", "\x7f", "\u202e", "\u2028", "\ud800", "\ufeff"]


@pytest.mark.parametrize("text", STEERING, ids=ascii)
def test_what_would_steer_a_terminal_is_shown_instead(text: str) -> None:
    shown = printable(f"before{text}after")

    assert shown.isprintable()
    assert "\\" in shown
    assert shown.startswith("before")
    assert shown.endswith("after")


@pytest.mark.parametrize("text", ["plain", "Grüße", "日本", "✉️", "👩\u200d💻", "[bold]x[/]", "\\n"])
def test_what_is_only_to_be_read_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_lines_stay_lines_where_they_are_wanted() -> None:
    assert printable("a\nb") == "a\\nb"
    assert printable_lines("a\n\tb\x1b") == "a\n    b\\x1b"


def test_json_is_fit_for_a_terminal_and_means_the_same() -> None:
    text = "".join(c for c in map(chr, [*range(0x300), 0x202E, 0x2028, 0x1F600, 0xE0001]))

    line = json_line({"text": text})

    assert json.loads(line) == {"text": text}
    assert not [c for c in line if unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp"}]
    assert "\n" not in line
    assert "😀" in line


def test_a_text_that_is_cut_says_so() -> None:
    assert cut("x" * 10, 10) == "x" * 10
    assert cut("x" * 11, 10) == "x" * 9 + "…"
    assert len(cut("\x1b" * 1000, 10)) == 10


def test_in_a_pipe_a_table_is_as_wide_as_it_is_and_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (Column("flow"), Column("n", is_number=True), Column("what", gives_way=True))

    Screen().table(columns, [[StyledText("日本", "red"), "7", "x" * 500], ["a\x1b[31m", "12", ""]])

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "FLOW        N  WHAT"
    assert lines[1] == "日本        7  " + "x" * 500
    assert lines[2] == "a\\x1b[31m  12"


def test_on_a_terminal_a_table_fits_into_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = _terminal(monkeypatch, columns="40")
    columns = (Column("flow"), Column("what", gives_way=True))
    rows = [["order-1", "x" * 500]]

    Screen().table(columns, rows)

    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert len(lines) == 2
    assert all(len(line) <= 40 for line in lines)
    assert "order-1" in lines[1]
    assert "…" in lines[1]
    assert width_of(columns, rows) == 509


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colours_where_they_are_not_wanted(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    coloured = _terminal(monkeypatch)
    Screen().line(StyledText("text", "red"))
    monkeypatch.setenv(name, value)
    plain = _terminal(monkeypatch)
    Screen().line(StyledText("text", "red"))

    assert "\x1b[31m" in coloured.getvalue()
    assert "\x1b[31m" not in plain.getvalue()


def _terminal(monkeypatch: pytest.MonkeyPatch, *, columns: str = "80") -> io.StringIO:
    out = io.StringIO()
    out.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("COLUMNS", columns)
    return out


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (1, "1 s"),
        (89, "89 s"),
        (91, "2 min"),
        (3600, "60 min"),
        (7199, "2 h"),
        (35 * 3600, "35 h"),
        (3 * 86_400, "3 d"),
    ],
)
def test_durations_are_said_in_one_unit(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_instants_are_said_from_here() -> None:
    assert ago(NOW - 180 * SECOND, NOW) == "3 min ago"
    assert ago(NOW + 7200 * SECOND, NOW) == "in 2 h"
    assert ago(NOW, NOW) == "now"
    assert local_clock(NOW, NOW) == f"{from_microseconds(NOW):%H:%M:%S}.000"
    assert (
        local_clock(NOW - 86_400 * SECOND, NOW)
        == f"{from_microseconds(NOW - 86_400 * SECOND):%Y-%m-%d %H:%M:%S}.000"
    )


def test_sizes_and_counts_are_said_in_round_figures() -> None:
    assert [size(n) for n in (0, 1023, 1024, 1536 * 1024, 20 << 30, 5 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "1.5 MiB",
        "20 GiB",
        "5.0 TiB",
    ]
    assert [counted(n, "flow") for n in (0, 1, 1000)] == ["0 flows", "1 flow", "1,000 flows"]
