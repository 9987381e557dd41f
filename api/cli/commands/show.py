"""The command `show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ....actors.runtime.primitives import SystemClock
from ..options import command, flow_argument
from ..output.documents import FlowDocument, StepDocument, flow_document, payload, step_document
from ..output.exit_codes import DONE
from ..output.printable import cut, one_line
from ..output.quantities import ago, duration, local_time, zone
from ..output.screen import Column, Screen, StyledText, styled
from ..reports.case import case_of
from ..reports.diagnosis import diagnose

if TYPE_CHECKING:
    from pathlib import Path

    from ....flows.summary import StepSummary
    from ..reports.diagnosis import Case

_LENGTH = 100
_SECOND = 1_000_000
_STATES = {"completed": "green", "failed": "red", "running": "cyan"}


class ShownFlow(msgspec.Struct, frozen=True):
    flow: FlowDocument
    args: msgspec.Raw
    result: msgspec.Raw
    steps: list[StepDocument]


@command("show", example="persistasaurus show order-1 --store orders.db")
@flow_argument
def show(*, flow: str, store: Path, as_json: bool) -> int:
    """Show the status of a flow, and its steps."""
    case = case_of(store, flow, SystemClock().now())
    screen = Screen()
    if as_json:
        summary = case.summary
        result = summary.completed[0].result if summary.completed is not None else msgspec.Raw(b"null")
        steps = [step_document(step) for step in summary.steps.values()]
        screen.json(ShownFlow(flow_document(case.header), payload(summary.args), result, steps))
    else:
        _show(screen, case)
    return DONE


def _show(screen: Screen, case: Case) -> None:
    header, summary, now = case.header, case.summary, case.now
    screen.line(StyledText(header.stream, "bold"), f"  {header.type}  ", styled(header.status))
    _line(screen, "arguments", _json(summary.args))
    _line(screen, "started", f"{local_time(header.created_at)} ({zone(now)}), {ago(header.created_at, now)}")
    _line(screen, "last event", f"{local_time(header.updated_at)}, number {header.version}")
    if summary.completed is not None:
        _line(screen, "result", _json(bytes(summary.completed[0].result)))
    if summary.steps:
        screen.line()
        columns = (
            Column("step", is_number=True),
            Column("name"),
            Column("state"),
            Column("attempts", is_number=True),
            Column("begun"),
            Column("took", is_number=True),
            Column("outcome", gives_way=True),
        )
        screen.table(columns, [_row(step, now) for step in summary.steps.values()])
    screen.line()
    for finding in diagnose(case):
        first, *more = finding.text.split("\n")
        screen.line(first)
        for line in more:
            screen.line("  ", line)
        if finding.kind == "failed" and finding.line:
            screen.line(StyledText(f"  at {finding.line}", "dim"))
    if not summary.completed:
        screen.line(StyledText(f"What to do: {case.command('explain')}", "dim"))


def _line(screen: Screen, name: str, value: str) -> None:
    screen.line(StyledText(f"{name:<11}", "dim"), value)


def _row(step: StepSummary, now: int) -> list[str | StyledText]:
    took = "" if step.ended_at is None else duration((step.ended_at - step.begun_at) / _SECOND)
    return [
        str(step.number),
        step.name,
        StyledText(step.state, _STATES.get(step.state, "yellow")),
        str(step.attempts),
        ago(step.begun_at, now),
        took,
        _outcome(step),
    ]


def _outcome(step: StepSummary) -> str:
    if step.result is not None:
        return _json(step.result)
    return "" if step.error is None else cut(one_line(f"{step.error.type}: {step.error.message}"), _LENGTH)


def _json(data: bytes) -> str:
    return cut(data.decode(errors="replace"), _LENGTH)
