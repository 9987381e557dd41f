"""What every step can rely on, whatever its kind: the table of the guide, with what is to come of each."""

from __future__ import annotations

from typing import Any, NamedTuple

ON_THE_REAL_ENGINE = frozenset({"ends_in_time"})
"""In a simulated world a `def` step takes no time."""


class Promise(NamedTuple):
    """A row of the guide's table, and the steps that show it: by name, with what their flow returns."""

    what: str
    of_steps: str
    shown: dict[str, Any]


PROMISES = (
    Promise(
        "state",
        "is as the flow's body has assigned it to `self`, on the flow's own class; a step may not change it",
        {
            "sees_state": [
                "'done'",
                "['a', {'b': (1, 2)}]",
                "Point(x=1, y=2)",
                "datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)",
                "{1, 2}",
                "None",
                "Decimal('1.10')",
                "<Colour.RED: 'red'>",
                "1180591620717411303424",
                "b'\\x00\\xff'",
            ],
            "is_of_the_subclass": ["of the subclass", "of the subclass, shared", "Promised"],
            "may_not_assign_to_state": [
                "FlowStateError",
                "'may_not_assign_to_state KIND' assigned to self.stage",
                "new",
            ],
            "may_not_change_state_in_place": [
                "FlowStateError",
                "'may_not_change_state_in_place KIND' changed self.trail in place",
                ["new"],
                2,
            ],
        },
    ),
    Promise(
        "context",
        "has `current_step()`, and context variables of its own",
        {
            "knows_its_context": ["promise", 1, 3, "promise/1"],
            "leaves_nothing_behind": ["nothing", "nothing"],
            "may_not_call_steps": "NotInFlowError",
            "may_not_use_the_words_of_flows": "NotInFlowError",
        },
    ),
    Promise(
        "arguments and results",
        "get and give values by their annotations, anew for each attempt, as large as `Limits` allow",
        {
            "takes_values_by_their_types": [
                "Point(x=1, y=2)",
                "{'a': [Point(x=3, y=4)]}",
                "(1, 'b')",
                "{1}",
                "datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)",
                "2",
                "<Colour.RED: 'red'>",
            ],
            "returns_values_by_their_types": "(Point(x=1, y=2), {'a': Point(x=3, y=4)}, None)",
            "returns_nothing": None,
            "takes_and_returns_much": 800_000,
            "gets_its_arguments_anew": [[1, 2], [1, 2, 3]],
            "has_its_result_checked": ["PayloadError", "at $['a'][0]", 2],
            "returns_no_generator": "PayloadError",
            "is_held_to_the_limits": [
                "PayloadError",
                " be stored: 2,000,002 bytes exceed the limit of 1,048,576",
            ],
        },
    ),
    Promise(
        "errors",
        "come back with type and classes, message, notes, line and traceback, whatever was raised",
        {
            "raises_its_error": ["Down", "the line is dead", True, True, True, False],
            "raises_an_error_of_a_class": [[True, True, True, True, False, False], True],
            "raises_what_cannot_be_sent": [
                ["Unreadable", "(its message cannot be shown: ValueError)"],
                ["Unpicklable", "code 7"],
                ["ValueError", "\\udc80"],
                ["ValueError", "long " * 800 + "\n...\n" + "long " * 800],
            ],
            "may_exit": [["SystemExit", "3"], ["KeyboardInterrupt", "3"], ["GeneratorExit", "3"]],
        },
    ),
    Promise(
        "attempts",
        "are made again as `retry` says of the exception's class, and end with their `timeout`",
        {
            "is_retried_on_its_errors": 3,
            "is_not_retried_on_others": [["LookupError", "no"], 2],
            "gives_up_on_its_errors": [["Down", "no"], 2],
            "is_tried_so_often": [["ValueError", "no"], 4],
            "ends_in_time": "StepTimeout",
        },
    ),
    Promise(
        "a dead process",
        "leaves it in doubt: `on_crash` and `reconcile` say what then",
        {"runs_again_in_doubt": "ran", "is_parked_in_doubt": "ran", "is_found_out": 3},
    ),
)
