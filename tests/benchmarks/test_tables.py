"""What the benchmarks make of figures: ratios, tables, charts, and a page."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from charts import NAMES, OTHERS, OURS, TEXT, Bar, chart
from contenders import ALL, CONTENDERS, contender
from contenders.contender import CannotStart
from page import ALONE, BEGIN, BLOCK, CHARTS, END, MANY_AT_ONCE, ONE_AT_A_TIME, comparison, table, write
from reach import REACH, derived
from results import Results
from run import MEASURES, MISSED, read, report, tasks
from workloads import WORKLOADS

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
WIDE_LETTER = 9
"""Pixels of a letter of the charts' text, on average, in a wide font."""
LIGHT, DARK = "#ffffff", "#131416"


def some() -> Results:
    """Return figures of two rounds, as a run finds them: everybody takes 100 us and more for an item."""
    results = Results()
    results.provenance = {"date": "2026-11-30", "rounds": "2"}
    results.skipped = {"dbos-postgres": "dbos is not installed"}
    for place, (name, entry) in enumerate(CONTENDERS.items()):
        if name in results.skipped:
            continue
        results.versions[name] = {"a": "1.0"}
        for workload in entry.workloads:
            for number in range(2):
                us = 100.0 * (place + 1) * (number + 1)
                figures = {"us": us, "acknowledged_us": us / 2, "fdatasync_us": 50.0, "fdatasync_per_s": 2e4}
                figures |= {"bare_us": 25.0 * (number + 1), "cpu_us": 9.0} if name == "engine" else {}
                results.add(f"{name}/{workload}", number, figures | derived(figures))
    for _, key, _ in ALONE:
        if key not in results.figures:
            results.add(key.rpartition("/")[0], 0, {key.rpartition("/")[2]: 5.0})
    return results


def test_everything_is_measured_unless_something_is_named() -> None:
    everything = tasks([], quick=False)

    assert {task.name for task in everything} == CONTENDERS.keys() | MEASURES.keys()
    assert {workload for task in everything for workload in task.workloads} == set(ALL) == WORKLOADS.keys()
    assert [task.name for task in tasks(["timers"], quick=False)] == ["timers"]
    assert tasks(["engine", "long"], quick=True) == [("engine", ("long",), 1)]


def test_what_nobody_can_measure_is_refused() -> None:
    assert read(["alone", "--rounds", "9"]).what == ["alone"]
    with pytest.raises(SystemExit):
        read(["one_flew"])


def test_a_peer_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "dbos", None)
    monkeypatch.delitem(sys.modules, "contenders.dbos_transact", raising=False)

    with pytest.raises(CannotStart, match="dbos is not installed"):
        contender("dbos-sqlite", tmp_path)


def test_contenders_take_turns_at_a_workload() -> None:
    alone = [task.name for task in tasks([], quick=False) if task.workloads == ("alone",)]

    assert alone == ["engine", "engine-relaxed", "naive", "naive-wal"]


def test_a_ratio_is_taken_within_a_round() -> None:
    results = Results()
    for number, (ours, theirs) in enumerate([(1.0, 2.0), (10.0, 20.0), (6.0, 10.0)]):
        results.add("a", number, {"us": ours})
        results.add("b", number, {"us": theirs})
    results.add("a", 3, {"us": 100.0})

    assert results.ratio("a/us", "b/us") == 0.5
    assert results.median("a/us") == 8.0
    assert results.ratio("a/us", "c/us") is None


def test_what_is_reached_can_be_measured() -> None:
    known = some().figures.keys()

    assert {key for reach in REACH for key in (reach.key, reach.over or reach.key)} - known == {
        "actors/share_of_allowed",
        "waiting_flows/bytes_each",
        "waiting_flows/share_of_memory",
        "waiting_flows/starts_per_s",
        "waiting_flows/threads",
        "http_confirm/confirms_per_fdatasync",
    }, "these are of measures whose other figures are in the table"


def test_a_table_has_values_and_how_often_the_floor_fits_in() -> None:
    rows = {row[0]: row[1:] for row in table(some(), ONE_AT_A_TIME)}

    assert rows["Persistasaurus"][0] == "0.15 ms (4x)"
    assert rows["the same rows by SQLite alone"][0] == "0.0375 ms"
    assert rows["fdatasync alone"][0] == "0.05 ms"
    assert rows["Persistasaurus, relaxed"][2] == "", "it does not take part in that"
    assert "DBOS on PostgreSQL" not in rows


def test_the_report_tells_what_was_left_out_and_whether_a_bound_was_missed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(some()) == MISSED

    told = capsys.readouterr().out
    assert "left out: dbos-postgres: dbos is not installed" in told
    assert "MISSED" in told
    assert all(name in told for name in CONTENDERS)


def test_figures_can_be_kept_and_read_again(tmp_path: Path) -> None:
    some().save(tmp_path / "figures.json")

    assert comparison(Results.load(tmp_path / "figures.json")) == comparison(some())


def test_the_page_gets_figures_and_charts_and_keeps_everything_else(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (tmp_path / "performance.md").write_text(text, encoding="utf-8")

    write(some(), tmp_path)
    write(some(), tmp_path)

    written = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert BLOCK.sub("", written) == BLOCK.sub("", text)
    assert written.count(BEGIN) == written.count(END) == 1
    assert all(line.title in written for line in (*ONE_AT_A_TIME, *MANY_AT_ONCE))
    assert {path.stem for path in (tmp_path / "performance").iterdir()} == CHARTS.keys()
    assert all((tmp_path / found).is_file() for found in re.findall(r"!\[.*\]\((.*)\)", written))


def test_a_page_without_a_place_for_figures_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("# Performance\n", encoding="utf-8")

    with pytest.raises(SystemExit):
        write(some(), tmp_path)

    assert page.read_text(encoding="utf-8") == "# Performance\n"


def test_a_chart_says_everything_in_words_too_and_nothing_is_drawn_outside() -> None:
    bars = [Bar("we & us", 1.0, "1 ms", is_ours=True), Bar("they", 50.0, "50 ms", is_ours=False)]

    drawn = ET.fromstring(chart("How <fast>", bars))

    assert drawn.attrib["aria-label"] == "How <fast>: we & us, 1 ms; they, 50 ms"
    width, height = map(float, drawn.attrib["viewBox"].split()[2:])
    for bar in drawn.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(bar.attrib["x"]) + float(bar.attrib["width"]) <= width - 60, "its label has no room"
        assert float(bar.attrib["y"]) + float(bar.attrib["height"]) <= height


@pytest.mark.parametrize("title", [entry.title for entry in CONTENDERS.values()])
def test_the_names_of_contenders_fit_beside_their_bars(title: str) -> None:
    assert len(title) * WIDE_LETTER <= NAMES - 10


def luminance(colour: str) -> float:
    """Return how bright a colour is, as WCAG defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("background", [LIGHT, DARK])
@pytest.mark.parametrize(("colour", "least"), [(TEXT, 4.0), (OURS, 3.0), (OTHERS, 3.0)])
def test_charts_can_be_read_in_light_and_dark(colour: str, least: float, background: str) -> None:
    brighter, darker = sorted((luminance(colour), luminance(background)), reverse=True)

    assert (brighter + 0.05) / (darker + 0.05) >= least
