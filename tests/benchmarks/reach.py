"""What is to be reached, and by how much it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from results import Results

NAIVE = "naive-wal"
DBOS = "dbos-sqlite-wal"
"""The peers at their best settings with the same durability on the same disk."""


class Reach(NamedTuple):
    """A figure, or its ratio to another one, and the bound that its median should keep."""

    text: str
    key: str
    relation: str
    bound: float
    over: str = ""

    def values(self, results: Results) -> list[float]:
        """Return the figure of each round."""
        if self.over:
            return results.ratios(self.key, self.over)
        return list(results.figures.get(self.key, {}).values())

    def is_reached(self, value: float) -> bool:
        """Whether a value keeps the bound."""
        return value <= self.bound if self.relation == "<=" else value >= self.bound


# Rates are compared by what an item takes: to be five times as fast is to take at most a fifth.
REACH = (
    Reach("five-step flow alone / naive's", "engine/alone/us", "<=", 0.55, f"{NAIVE}/alone/us"),
    Reach("step of a long flow / naive's", "engine/long/us", "<=", 1 / 1.4, f"{NAIVE}/long/us"),
    Reach("step of a long flow / (1.2 fdatasync + 120 us)", "engine/long/share_of_allowed", "<=", 1.0),
    Reach("context switches of a five-step flow", "counts/flow_switches", "<=", 14),
    Reach("context switches of a step of a long flow", "counts/step_switches", "<=", 1.5),
    Reach("five-step flows from 16 threads / naive's", "engine/many/us", "<=", 1 / 5, f"{NAIVE}/many/us"),
    Reach("five-step flows from 16 threads / DBOS's", "engine/many/us", "<=", 1 / 45, f"{DBOS}/many/us"),
    Reach("200 flows of 50 steps / DBOS's", "engine/wide/us", "<=", 1 / 90, f"{DBOS}/wide/us"),
    Reach("200 flows of 50 steps: CPU a step, us", "engine/wide/cpu_us", "<=", 50),
    Reach("200 flows of 50 steps: steps per fdatasync", "engine/wide/per_fdatasync", ">=", 3),
    Reach("starts into a wait, from 16 threads, /s", "engine/start/per_s", ">=", 4_000),
    Reach("starts into a wait, in batches, /s", "engine-batched/start/per_s", ">=", 7_500),
    Reach("signal to result, passivated flow / naive's", "engine/signal/us", "<=", 0.8, f"{NAIVE}/signal/us"),
    Reach("signal to receipt / (1.5 fdatasync + 150 us)", "engine/signal/share_of_receipt", "<=", 1.0),
    Reach("burst of signals: acknowledged /s", "engine-batched/burst/acknowledged_per_s", ">=", 8_000),
    Reach("burst of signals: results /s", "engine-batched/burst/per_s", ">=", 2_000),
    # A million starts leave more behind in the allocator than a hundred thousand.
    Reach("waiting flows: memory / 15 MiB, a million: / 64 MiB", "waiting_flows/share_of_memory", "<=", 1),
    Reach("waiting flows: bytes each on disk", "waiting_flows/bytes_each", "<=", 419),
    Reach("waiting flows: starts /s, in batches", "waiting_flows/starts_per_s", ">=", 4_167),
    Reach("waiting flows: threads", "waiting_flows/threads", "<=", 12),
    Reach("waiting flows: signal to result, p99, ms", "waiting_flows/wake_p99_ms", "<=", 20),
    Reach("waiting flows: opening the store, to an answer, s", "waiting_flows/open_to_answer_s", "<=", 1),
    Reach("timers due in one second: early", "timers/early", "<=", 0),
    Reach("timers due in one second: all have ended after, s", "timers/all_within_s", "<=", 60),
    Reach(
        "beside timers that are due: p99 of a new flow / its usual", "beside_floods/timers_p99_ratio", "<=", 3
    ),
    Reach("beside a burst of signals: p99 / its usual", "beside_floods/signals_p99_ratio", "<=", 3),
    Reach("beside a backlog of starts: p99 / its usual", "beside_floods/starts_p99_ratio", "<=", 3),
    Reach("beside a spinning thread: share of speed left", "beside_spinning/share_left", ">=", 0.3),
    Reach("beside a reader at 20 Hz: share of speed lost", "reader_beside/share_lost", "<=", 0.03),
    Reach("open and close of an empty store, ms", "open_close/ms", "<=", 5),
    Reach("an actor's ask alone / (1.2 fdatasync + 250 us)", "actors/share_of_allowed", "<=", 1.0),
    Reach("one actor asked without a pause, asks/s", "actors/hot_per_s", ">=", 4_640),
    Reach("memory of a live actor, KiB", "actors/kib_each", "<=", 4),
    Reach("replay of a long history, s", "long_history/replay_s", "<=", 1.5),
    Reach("a step after that history / a step of a new flow, CPU", "long_history/old_to_new", "<=", 1.2),
    Reach("HTTP: confirmations per fdatasync, 64 clients", "http_confirm/confirms_per_fdatasync", ">=", 0.3),
    Reach("import of the core, ms", "core_import/import_ms", "<=", 150),
)


def derived(figures: dict[str, float]) -> dict[str, float]:
    """Return what follows from the figures of one workload, in one round."""
    disk_us = figures["fdatasync_us"]
    found = {
        "per_s": 1e6 / figures["us"],
        "per_fdatasync": 1e6 / figures["us"] / figures["fdatasync_per_s"],
        "share_of_allowed": figures["us"] / (1.2 * disk_us + 120),
    }
    if "acknowledged_us" in figures:
        found["acknowledged_per_s"] = 1e6 / figures["acknowledged_us"]
        found["share_of_receipt"] = figures["acknowledged_us"] / (1.5 * disk_us + 150)
    return found
