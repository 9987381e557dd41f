"""Figures as tables, and the part of docs/performance.md that is written by `run.py --write docs`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from charts import Bar, chart
from contenders import CONTENDERS

if TYPE_CHECKING:
    from pathlib import Path

    from results import Results

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
BLOCK = re.compile(f"{BEGIN}.*{END}", re.DOTALL)


class Line(NamedTuple):
    """What is compared: a figure of a workload, in microseconds for an item. `per_s`: shown as a rate."""

    title: str
    workload: str
    figure: str = "us"
    per_s: bool = False

    def key(self, contender: str) -> str:
        """Return the key of a contender's figure."""
        return f"{contender}/{self.workload}/{self.figure}"

    def shown(self, microseconds: float) -> str:
        """Return a value as it is shown."""
        if self.per_s:
            return f"{number(1e6 / microseconds)} /s"
        return f"{number(microseconds / 1e3)} ms"


ONE_AT_A_TIME = (
    Line("a flow of five steps", "alone"),
    Line("a step of a long flow", "long"),
    Line("signal to result", "signal"),
)
MANY_AT_ONCE = (
    Line("steps, 5 a flow", "many", per_s=True),
    Line("steps, 50 a flow", "wide", per_s=True),
    Line("starts into a wait", "start", per_s=True),
    Line("signals acknowledged", "burst", "acknowledged_us", per_s=True),
    Line("signals to results", "burst", per_s=True),
)
CHARTS = {
    "alone": ("One flow of five steps, alone: milliseconds, less is better", ONE_AT_A_TIME[0]),
    "many": ("Flows of five steps, started from 16 threads: steps/s, more is better", MANY_AT_ONCE[0]),
    "signal": ("A signal to a waiting flow, to its result: milliseconds, less is better", ONE_AT_A_TIME[2]),
}
ALONE = (
    ("context switches of a five-step flow, without those of the disk", "counts/flow_switches", ""),
    ("context switches of a step of a long flow, without those of the disk", "counts/step_switches", ""),
    ("200 flows of 50 steps: processor time of a step", "engine/wide/cpu_us", "us"),
    ("200 flows of 50 steps: steps for each fdatasync of the disk", "engine/wide/per_fdatasync", ""),
    (
        "the same beside a thread that computes: share of the speed",
        "beside_spinning/share_left",
        "",
    ),
    ("one flow of five steps beside that thread", "beside_spinning/one_flow_ms", "ms"),
    ("waiting flows", "waiting_flows/flows", ""),
    ("- time to start all of them, in batches", "waiting_flows/start_all_s", "s"),
    ("- memory beyond that of none", "waiting_flows/more_memory_mib", "MiB"),
    ("- disk", "waiting_flows/disk_mib", "MiB"),
    ("- opening their store in a fresh process, to the first result", "waiting_flows/open_to_answer_s", "s"),
    ("- a signal to one of them, to its result, 99th percentile", "waiting_flows/wake_p99_ms", "ms"),
    ("timers due within one second", "timers/flows", ""),
    ("- early", "timers/early", ""),
    ("- all of their flows had ended after", "timers/all_within_s", "s"),
    (
        "a new flow beside timers that are due: 99th percentile, by its usual one",
        "beside_floods/timers_p99_ratio",
        "",
    ),
    ("- beside a burst of signals", "beside_floods/signals_p99_ratio", ""),
    ("- beside a backlog of starts", "beside_floods/starts_p99_ratio", ""),
    ("one event-sourced actor, asked 10,000 times at once: durable asks/s", "actors/hot_per_s", ""),
    ("10,000 event-sourced actors, each asked once: durable asks/s", "actors/many_per_s", ""),
    ("- the same when all of them have to be woken", "actors/woken_per_s", ""),
    ("- memory of each while it lives", "actors/kib_each", "KiB"),
    ("one ask alone, median", "actors/alone_us", "us"),
    ("opening and closing an empty store", "open_close/ms", "ms"),
    ("events of a long history", "long_history/events", ""),
    ("- its replay", "long_history/replay_s", "s"),
    ("- processor time of its next step, in those of a new flow", "long_history/old_to_new", ""),
    ("share of speed that a reader costs which looks 20 times a second", "reader_beside/share_lost", ""),
    ("confirmations over HTTP, by 64 clients", "http_confirm/confirms_per_s", "/s"),
    ("import of the core", "core_import/import_ms", "ms"),
)
"""Figures of the engine alone, as the page tells them."""


def number(value: float) -> str:
    """Return a number with three digits that matter."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def comparison(results: Results) -> list[list[str]]:
    """Return both tables below each other, for a terminal."""
    short = {entry.title: name for name, entry in CONTENDERS.items()}
    rows = [*table(results, ONE_AT_A_TIME), [""], *table(results, MANY_AT_ONCE)]
    return [[short.get(row[0], row[0]), *row[1:]] for row in rows]


def table(results: Results, lines: tuple[Line, ...]) -> list[list[str]]:
    """Return a row for each contender and for the floors, below a row of titles.

    A cell has the value, and how long it took in times that bare SQLite needs for the engine's rows.
    """
    rows = [["", *(line.title for line in lines)]]
    for name, entry in CONTENDERS.items():
        cells = [cell(results, line, name) for line in lines]
        if any(cells):
            rows.append([entry.title, *cells])
    for title, figure in (("the same rows by SQLite alone", "bare_us"), ("fdatasync alone", "fdatasync_us")):
        floors = [line._replace(figure=figure) for line in lines]
        cells = [
            "" if (value := results.median(line.key("engine"))) is None else line.shown(value)
            for line in floors
        ]
        if any(cells):
            rows.append([title, *cells])
    return rows


def cell(results: Results, line: Line, name: str) -> str:
    """Return what a table shows of a contender's figure."""
    value = results.median(line.key(name))
    if value is None:
        return ""
    ratio = results.ratio(line.key(name), line._replace(figure="bare_us").key("engine"))
    return line.shown(value) + ("" if ratio is None else f" ({number(ratio)}x)")


def markdown(rows: list[list[str]], mark: str = "--:") -> str:
    """Return rows as a table of Markdown, titles first."""
    marks = ["---", *(mark for _ in rows[0][1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], marks, *rows[1:]])


def block(results: Results) -> str:
    """Return the part of the page that has the figures."""
    parts = ["; ".join(f"{name}: {value}" for name, value in results.provenance.items()) + "."]
    parts += [f"![{title}](performance/{name}.svg)" for name, (title, _) in CHARTS.items()]
    parts += ["### One at a time", markdown(table(results, ONE_AT_A_TIME))]
    parts += ["### Many at once", markdown(table(results, MANY_AT_ONCE))]
    parts += ["### The engine alone", markdown(engine_alone(results))]
    parts += ["### Settings, durability and versions", markdown(made_of(results), "---")]
    parts += [f"Left out: {name} ({reason})." for name, reason in results.skipped.items()]
    return "\n\n".join([BEGIN, *parts, END])


def engine_alone(results: Results) -> list[list[str]]:
    """Return what was measured of the engine and of nobody else."""
    found = [(text, results.median(key), unit) for text, key, unit in ALONE]
    return [
        ["", "median"],
        *([text, f"{number(value)} {unit}".strip()] for text, value, unit in found if value is not None),
    ]


def made_of(results: Results) -> list[list[str]]:
    """Return how each contender was set up, and what its commits survive."""
    return [
        ["", "settings", "durability", "versions"],
        *(
            [
                CONTENDERS[name].title,
                CONTENDERS[name].settings,
                CONTENDERS[name].durability,
                listed(versions),
            ]
            for name, versions in results.versions.items()
        ),
    ]


def listed(versions: dict[str, str]) -> str:
    """Return versions as one line."""
    return ", ".join(f"{package} {version}" for package, version in versions.items())


def write(results: Results, docs: Path) -> None:
    """Write the page's figures, and its charts beside it."""
    folder = docs / "performance"
    folder.mkdir(exist_ok=True)
    for name, (title, line) in CHARTS.items():
        bars = [
            Bar(
                entry.title, 1e6 / value if line.per_s else value, line.shown(value), who.startswith("engine")
            )
            for who, entry in CONTENDERS.items()
            if (value := results.median(line.key(who))) is not None
        ]
        (folder / f"{name}.svg").write_text(chart(title, bars), encoding="utf-8")
    page = docs / "performance.md"
    text = page.read_text(encoding="utf-8")
    if not BLOCK.search(text):
        raise SystemExit(f"{page} has no place for figures, between {BEGIN!r} and {END!r}")
    page.write_text(BLOCK.sub(lambda _: block(results), text), encoding="utf-8")
