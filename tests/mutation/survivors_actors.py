"""Mutants of the actors that no test can or has to notice; see `survivors`."""

from __future__ import annotations

_SIZE = "how much is done at a time, or how often something is looked at, is no promise"
_REMINDER = "a reminder that comes when the store is open, closed or lost finds nothing to do"
_HEADER = "a header more is written, which says the same"
_BEGINS = "a second net: an actor that begins looks by itself"
_DOUBT = "a doubt that stays has a flow woken too early or once more, which does no harm"
_TWICE = "the last flow of a page is looked at twice"
_REQUESTS = "a second net: no request that is larger is taken"
_CANCELLED = "how many cancelled alarms are kept for a while is no promise"

EXPLAINED: dict[str, dict[str, str]] = {
    "persistasaurus.actors.runtime.alarms": {
        "_CANCELLED_MIN = 64  # 64 becomes 65": _SIZE,
        "if len(self._entries) >= self._sweep_at:  # the condition is turned round": (
            "swept each time instead, which is slower and nothing else"
        ),
        "if len(self._entries) >= self._sweep_at:  # GtE becomes Gt": _CANCELLED,
        "self._sweep_at = max(_CANCELLED_MIN, 2 * len(self._entries))  # 2 becomes 3": _CANCELLED,
    },
    "persistasaurus.actors.flows.active_flow": {
        "_EXPONENT = 64  # 64 becomes 65": "the longest wait is reached long before",
        "if self.must_wake and self.phase is ActorPhase.LIVE:  # And becomes Or": (
            "an actor that is woken nothing finds nothing, and one that begins looks by itself"
        ),
        "while self._crashes[0] < now - rules.period_s:  # Lt becomes LtE": "an equal bound of a period",
        "self.is_over = False  # False becomes True": (
            "until its actor has recovered, the store says whether a flow is over"
        ),
        "self.must_wake = False  # False becomes True": "woken once more when it has recovered, and finds nothing",
    },
    "persistasaurus.actors.remote.poller": {
        "if self._signals >= _SIGNALS_MAX:  # GtE becomes Gt": "one signal more of those under way",
        "value = future.get(timeout=0)  # 0 becomes 1": "it is done when it is heard of",
        "if self._is_full and self._signals < _SIGNALS_MAX:  # Lt becomes LtE": "it looks again that it is full",
        "put_off = (q for q in self._queues.values() if not q.is_busy and q.not_before <= now)  # LtE becomes Lt": (
            "an equal bound: it goes on at the next look"
        ),
        "self._known.discard(queue.next())  # the call is left out": (
            "what has been answered is gone from the record, and the next line passes over it"
        ),
        "if self._sweep_at <= now:  # LtE becomes Lt": "an equal bound: it sweeps at the next look",
        'checked_id(request.flow_id, "flow id")  # the call is left out': (
            "a second net: there is no flow of such an id, and who asks for it is refused all the same"
        ),
        "alarm.cancel()  # the call is left out": "an alarm that goes off finds its actor stopped",
    },
    "persistasaurus.actors.persistence.journal": {
        "self._forget_reminder()  # the call is left out": _REMINDER,
        "self._forget_reminder()  # the call is left out, at place 2": _REMINDER,
        "self._forget_reminder()  # the call is left out, at place 3": _REMINDER,
        "self._forget_reminder()  # the call is left out, at place 4": _REMINDER,
        "reminder.cancel()  # the call is left out": _REMINDER,
    },
    "persistasaurus.actors.runtime.mailbox": {
        "self._budget = 0  # 0 becomes 1": "each slice begins with a budget of its own",
    },
    "persistasaurus.actors.remote.client": {
        "_LIMITS = PayloadLimits(size=16 << 20, depth=DEPTH_MAX)  # 16 becomes 17": _REQUESTS,
        "_LIMITS = PayloadLimits(size=16 << 20, depth=DEPTH_MAX)  # 20 becomes 21": _REQUESTS,
    },
    "persistasaurus.actors.flows.supervisor": {
        "_PAGE = 100  # 100 becomes 101": _SIZE,
        "self._hear(requests.ResumeRecoverable(page[-1].stream))  # 1 becomes 2": _TWICE,
        "active.must_wake = True  # True becomes False, at place 2": _BEGINS,
        "active.must_wake = True  # True becomes False, at place 3": _BEGINS,
        "_dismiss(active)  # the call is left out": (
            "a second net: whoever recovers when the system finishes has been told so then"
        ),
    },
    "persistasaurus.actors.flows.timers": {
        "_PAGE = 1000  # 1000 becomes 1001": _SIZE,
        "self._ahead = max((self._store.newest_at() or 0) - now, 0)  # 0 becomes 1": (
            "a store with nothing in it is behind any calendar"
        ),
        "at = self._environment.clock.elapsed() + self._horizon_s / 2  # 2 becomes 3": (
            "how often it looks: any time within the horizon will do"
        ),
        "elif known is None or not (is_certain or known <= moment.elapsed + wait):  # LtE becomes Lt": (
            "an instant that is known is not kept again"
        ),
        "self._doubtful.discard(flow_id)  # the call is left out": _DOUBT,
        "if len(page) == _PAGE and page[-1].wake_at is not None:  # 1 becomes 2": "none of them has no instant",
        "self._jumps = 0  # 0 becomes 1": "the first look counts them, before anything is known that could be doubted",
        "flow_id, wait = header.stream, ((header.wake_at or 0) - now) / MICROSECONDS  # 0 becomes 1": (
            "each of those that are due has an instant"
        ),
        "if wait <= 0:  # 0 becomes 1": "woken a second too early, a flow says itself when it is due",
        "self._doubtful.discard(flow_id)  # the call is left out, at place 2": _DOUBT,
        "self._doubtful.discard(flow_id)  # the call is left out, at place 3": _DOUBT,
        "self.actor_ref.tell(LoadDue((page[-1].wake_at, page[-1].stream)))  # 1 becomes 2": _TWICE,
        "self.actor_ref.tell(LoadDue((page[-1].wake_at, page[-1].stream)))  # 1 becomes 2, at place 2": _TWICE,
        "if elapsed > self._environment.clock.elapsed() + self._horizon_s and not self._is_shaken:  # Gt becomes GtE": (
            "an equal bound: what is not kept is found by the next look, before its time"
        ),
        "if at is None or (self._alarm_at is not None and self._alarm_at <= at):  # LtE becomes Lt": (
            "the alarm is set anew for the very same instant"
        ),
    },
    "persistasaurus.actors.persistence.event_sourced": {
        "stale.__cause__ = outcome if isinstance(outcome, Exception) else None  # the condition is turned round": (
            "the text says it as well"
        ),
    },
    "persistasaurus.actors.flows.flow_actor": {
        "_INBOX_PAGE = 1000  # 1000 becomes 1001": _SIZE,
        "_UNKNOWN = -1  # 1 becomes 2": "any instant that no alarm has",
        "self._knows_alarm = True  # True becomes False": _HEADER,
        "if has_mail and not self._knows_alarm:  # And becomes Or": _HEADER,
        "self.context.guard.leave(self.flow_id, self)  # the call is left out, at place 2": (
            "who is stopped from outside, as the system closes, is followed by nobody"
        ),
        "self._knows_alarm = True  # True becomes False, at place 2": _HEADER,
        "is_over = self.machine is None and self._writing is None  # And becomes Or": (
            "who waits for the end of a flow that is not over has the store asked, which says so"
        ),
    },
}
