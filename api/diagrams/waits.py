"""What a flow waits for, as far as its history shows: signals, and times of steps."""

from __future__ import annotations

from collections import Counter, defaultdict


class Waits:
    """Counts signals and the waits for them, and knows delayed steps.

    Which signal goes to whom does not matter here.
    """

    def __init__(self) -> None:
        self._received: Counter[str] = Counter()
        self._awaited: defaultdict[str, list[int]] = defaultdict(list)
        self._times: set[int] = set()

    def received(self, name: str) -> bool:
        """Take a signal in; tell whether it has come before anybody waits for it."""
        self._received[name] += 1
        return self._received[name] > len(self._awaited[name])

    def awaited(self, name: str, version: int) -> bool:
        """Take a wait in; tell whether its signal has come already."""
        self._awaited[name].append(version)
        return self._received[name] >= len(self._awaited[name])

    def rewind(self, since: int) -> None:
        """Forget who has begun to wait from a version on."""
        for name, versions in self._awaited.items():
            self._awaited[name] = [version for version in versions if version < since]

    def delay(self, step: int) -> None:
        """Note that a step waits for its time."""
        self._times.add(step)

    def has_come(self, step: int) -> bool:
        """Tell whether a step has waited for its time until now, and note that it does not any more."""
        if step in self._times:
            self._times.remove(step)
            return True
        return False
