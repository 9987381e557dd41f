"""The command `explain`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from ....actors.handle import from_microseconds
from ....actors.runtime.primitives import SystemClock
from ..options import command, flow_argument
from ..output.documents import FlowDocument, flow_document
from ..output.exit_codes import DONE
from ..output.quantities import zone
from ..output.screen import Screen, StyledText, styled
from ..reports.case import case_of
from ..reports.diagnosis import Finding, diagnose

if TYPE_CHECKING:
    from pathlib import Path

    from ..reports.diagnosis import Case

_ALARMING = {"blocking", "failed", "parked", "no_engine", "suspect", "in_doubt", "retrying", "damaged"}


class Explanation(msgspec.Struct, frozen=True):
    """Why a flow is in its state. `engine_since`: when the process that has the store open opened it."""

    flow: FlowDocument
    engine_since: datetime | None
    findings: list[Finding]


@command("explain", example="persistasaurus explain order-1 --store orders.db")
@flow_argument
def explain(*, flow: str, store: Path, as_json: bool) -> int:
    """Explain why a flow is not running, or what it is doing, and what you can do about it."""
    case = case_of(store, flow, SystemClock().now())
    findings = diagnose(case)
    screen = Screen()
    if as_json:
        opened = None if case.engine_since is None else from_microseconds(case.engine_since)
        screen.json(Explanation(flow_document(case.header), opened, findings))
    else:
        _show(screen, case, findings)
    return DONE


def _show(screen: Screen, case: Case, findings: list[Finding]) -> None:
    header = case.header
    screen.line(
        StyledText(header.stream, "bold"),
        f"  {header.type}  ",
        styled(header.status),
        StyledText(f"  (times in {zone(case.now)})", "dim"),
    )
    for finding in findings:
        screen.line()
        first, *more = finding.text.split("\n")
        screen.line(StyledText(first, "red" if finding.kind in _ALARMING else ""))
        for line in more:
            screen.line("  ", line)
        if finding.line:
            screen.line(StyledText(f"  at {finding.line}", "dim"))
        if finding.todo:
            screen.line("  ", finding.todo)
        if finding.command:
            screen.line("    ", StyledText(finding.command, "cyan"))
