"""Mutants that no test can or has to notice, by module, each with the reason.

A mutant is known by the line that it changes, as it is written, and by what is changed in it.
"""

from __future__ import annotations

from mutation import survivors_actors, survivors_store

_INEXACT = "a microsecond of an inexact comparison"
_OTHER = "a version is that of one event, and this one is another"
_NUMBER = "a number has to be unused, and need not be the next one"
_LIVE = "whoever has an attempt made, or recovers, says right behind it whether it is being made"

_FLOWS: dict[str, dict[str, str]] = {
    "persistasaurus.flows.machine.replay_check": {
        "self._position = 0  # 0 becomes 1": "the first event, which no code has asked for, sets it",
        "if data is not None and self._is_recorded(data):  # IsNot becomes Is": (
            "a short-cut: what is recorded comes back, and is looked at in vain"
        ),
    },
    "persistasaurus.flows.machine.execution": {
        "self._seed = 0  # 0 becomes 1": "the first event brings the seed",
        "self.at = 0  # 0 becomes 1": "the first event brings the instant",
        "self.is_over = True  # True becomes False": (
            "code that was dropped is not run any more, and nobody is told what it has forgotten"
        ),
        'if asyncio is None or not hasattr(asyncio, "_set_running_loop"):  # Or becomes And': (
            "it differs only while another thread is importing asyncio"
        ),
        "self._last_timer += 1  # 1 becomes 2": _NUMBER,
        "self._last_step += 1  # 1 becomes 2": _NUMBER,
        "return False  # False becomes True, at place 2": "a short-cut: nothing is the first of nothing, too",
        "self.timers.clear()  # the call is left out": "a flow that has ended is not asked for its timers",
    },
    "persistasaurus.flows.machine.history": {
        "fatal = [r.version for r in final if r.version < ended.version and _fails(r.event, ended.event.step)][-1:]"
        "  # Lt becomes LtE": _OTHER,
        "late = [r.version for r in final if r.version > ended.version]  # Gt becomes GtE": _OTHER,
    },
    "persistasaurus.flows.machine.machine": {
        "_START = messages.Timestamp(0, 0.0)  # 0 becomes 1": "the moment of a machine that has decided nothing yet",
        "if execution.parked is not None and execution.version >= self.limits.events:  # GtE becomes Gt": (
            "one event more of those that a history may have"
        ),
        "self.history_bytes = 0  # 0 becomes 1": "one byte of fifty million",
        "return self.history_bytes >= self.limits.history_bytes  # GtE becomes Gt": "one byte of fifty million",
        "self._begin(moment)  # the call is left out, at place 2": (
            "a machine that repairs is new: its decision is empty, and all that waits is armed behind this"
        ),
    },
    "persistasaurus.flows.machine.pending": {
        "jumped, end = jumped + by, at - min(by, 0)  # 0 becomes 1": _INEXACT,
        "return jumped, began - _INEXACT <= since <= end + _INEXACT  # Sub becomes Add": (
            "nothing can have begun in the seconds before the process did"
        ),
        "self.due = Due(0, 0)  # 0 becomes 1": "the event that says that it was set brings the instant",
        "self.is_live = False  # False becomes True": _LIVE,
        "self.is_live = False  # False becomes True, at place 2": _LIVE,
        "self.is_doubtful = True  # True becomes False": "the first attempt sets it",
        "if at + max(by, 0) - _INEXACT <= since <= end + _INEXACT:  # 0 becomes 1": _INEXACT,
        'return f"the flow\'s failure with {self.event.error.type}: {storable(self.event.error.message, 200)}"'
        "  # 200 becomes 201": "the length of a text for people",
        "self.approved = False  # False becomes True": "the first attempt, before any doubt, takes it back",
    },
    "persistasaurus.flows.machine.repair": {
        "if since is None or since.version is None or since.version > failed_at:  # Gt becomes GtE": (
            "at the failure itself both ways come to the same event"
        ),
    },
}

EXPLAINED = {**survivors_actors.EXPLAINED, **_FLOWS, **survivors_store.EXPLAINED}
