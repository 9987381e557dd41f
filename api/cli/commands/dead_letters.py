"""The command `dead-letters`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click
import msgspec

from ....actors.handle import from_microseconds, to_microseconds
from ....actors.remote.client import RemoteClient
from ....actors.remote.protocol import SignalRequest, request_kind
from ....actors.runtime.primitives import SystemClock
from ..options import command, limit_option, open_reader
from ..output.documents import payload
from ..output.exit_codes import DONE
from ..output.outcome import notify
from ..output.printable import cut
from ..output.quantities import local_clock, zone
from ..output.screen import Column, Screen, StyledText

if TYPE_CHECKING:
    from pathlib import Path

    from ....actors.remote.client import RefusedRequest
    from ....store import DeadLetter

_LENGTH = 60


class DeadLetterDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A signal that cannot be delivered; without an `id`, a request that was refused."""

    id: int | None
    at: datetime
    flow_id: str
    name: str
    key: str
    reason: str
    payload: msgspec.Raw


@command("dead-letters", example="persistasaurus dead-letters --json | jq -r .reason")
@limit_option
@click.option("--after", metavar="N", type=click.IntRange(min=0), default=0, help="Only those after this id.")
def dead_letters(*, limit: int, after: int, store: Path, as_json: bool) -> int:
    """List acknowledged signals and requests that cannot be delivered, oldest first.

    These are signals that a flow did not read before it ended, or that do not match what it waits for, and
    (last, without an id) requests from other processes that the engine had to refuse.
    """
    with open_reader(store) as reader:
        found = reader.dead_letters(after=after, limit=limit)
    letters = [_letter(letter) for letter in found]
    has_more = len(found) == limit
    if not has_more:
        with RemoteClient(store) as client:
            letters += [_refused(one) for one in client.refused()]
    screen = Screen()
    if as_json:
        for letter in letters:
            screen.json(letter)
    else:
        _show(screen, letters, next_after=found[-1].id if has_more else None)
    return DONE


def _letter(letter: DeadLetter) -> DeadLetterDocument:
    return DeadLetterDocument(
        id=letter.id,
        at=from_microseconds(letter.at),
        flow_id=letter.stream,
        name=letter.name,
        key=letter.key,
        reason=letter.reason,
        payload=payload(letter.data),
    )


def _refused(one: RefusedRequest) -> DeadLetterDocument:
    request = one.request
    is_signal = isinstance(request, SignalRequest)
    kind = "" if request is None else request_kind(request)
    return DeadLetterDocument(
        id=None,
        at=from_microseconds(one.at),
        flow_id="" if request is None else request.flow_id,
        name=request.name if is_signal else kind,
        key=request.signal_id if is_signal else "",
        reason=one.reason,
        payload=request.payload if is_signal else payload(None),
    )


def _show(screen: Screen, letters: list[DeadLetterDocument], *, next_after: int | None) -> None:
    if not letters:
        notify("No dead letters.")
        return
    now = SystemClock().now()
    columns = (
        Column("id", is_number=True),
        Column(f"time ({zone(now)})"),
        Column("flow"),
        Column("signal"),
        Column("payload", gives_way=True),
        Column("reason", gives_way=True),
    )
    screen.table(columns, [_row(letter, now) for letter in letters])
    if next_after is not None:
        screen.flush()
        notify(f"There are more: --after {next_after}")


def _row(letter: DeadLetterDocument, now: int) -> list[str | StyledText]:
    return [
        "" if letter.id is None else str(letter.id),
        StyledText(local_clock(to_microseconds(letter.at), now), "dim"),
        StyledText(letter.flow_id, "bold"),
        letter.name,
        cut(bytes(letter.payload).decode(errors="replace"), _LENGTH),
        letter.reason,
    ]
