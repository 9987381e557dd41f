"""Mutants that no test can or has to notice, by module, each with the reason.

A mutant is known by the line that it changes, as it is written, and by what is changed in it.
"""

from __future__ import annotations

_REMINDER = "a reminder that comes when the store is open, closed or lost finds nothing to do"

EXPLAINED: dict[str, dict[str, str]] = {
    "persistasaurus.actors.journal": {
        "self._forget_reminder()  # the call is left out": _REMINDER,
        "self._forget_reminder()  # the call is left out, at place 2": _REMINDER,
        "self._forget_reminder()  # the call is left out, at place 3": _REMINDER,
        "self._forget_reminder()  # the call is left out, at place 4": _REMINDER,
    },
    "persistasaurus.flows.execution": {
        "self._last_timer += 1  # 1 becomes 2": "a number has to be unused, and need not be the next one",
        "self._last_step += 1  # 1 becomes 2": "a number has to be unused, and need not be the next one",
        "return False  # False becomes True, at place 2": "a short-cut: nothing is the first of nothing, too",
        "self.timers.clear()  # the call is left out": "a flow that has ended is not asked for its timers",
    },
    "persistasaurus.flows.history": {
        'return text if len(text) <= _ARGUMENTS else text[: _ARGUMENTS - 3] + "..."  # Add becomes Sub': (
            "the length of a text for people"
        ),
    },
    "persistasaurus.flows.machine": {
        "self.history_bytes = 0  # 0 becomes 1": "one byte of fifty million",
        "self._begin(moment)  # the call is left out, at place 2": (
            "a machine that repairs is new: its decision is empty, and all that waits is armed behind this"
        ),
    },
    "persistasaurus.flows.pending": {
        "jumped, end = jumped + by, at - min(by, 0)  # 0 becomes 1": "a microsecond of an inexact comparison",
        "return jumped, began - _INEXACT <= since <= end + _INEXACT  # Sub becomes Add": (
            "nothing can have begun in the seconds before the process did"
        ),
        "self.approved = False  # False becomes True": "the first attempt, before any doubt, takes it back",
    },
    "persistasaurus.flows.repair": {
        "if since is None or since.version is None or since.version > failed_at:  # Gt becomes GtE": (
            "at the failure itself both ways come to the same event"
        ),
    },
}
