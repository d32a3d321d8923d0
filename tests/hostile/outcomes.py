"""Counts the outcomes of many inputs."""

import collections
import re
from collections.abc import Iterable, Mapping

from tests.volume import is_thorough

RIGHT = "right"


class Outcomes:
    """Counts outcomes, and requires that a refusal is one line of a known kind.

    Args:
      kinds: For each kind of refusal a regular expression of its whole line. The first that
        matches counts.
    """

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self._kinds = {kind: re.compile(pattern, re.DOTALL) for kind, pattern in kinds.items()}
        self.counts: collections.Counter[str] = collections.Counter()

    def right(self) -> None:
        """Counts an accepted input whose result was checked."""
        self.counts[RIGHT] += 1

    def refused(self, error: BaseException) -> str:
        """Counts a refusal; returns its kind."""
        message = str(error)
        assert message.strip(), repr(error)
        assert "\n" not in message, message
        assert len(message) < 4000, message
        for kind, pattern in self._kinds.items():
            if pattern.fullmatch(message):
                self.counts[kind] += 1
                return kind
        raise AssertionError(f"a refusal of no known kind: {message}")

    def require(self, inputs: int, least: int = 1, never: Iterable[str] = ()) -> None:
        """Checks the number of inputs, and that their outcomes are not all alike.

        With `--thorough` each outcome must have occurred at least `least` times. The few inputs of
        `make test` do not reach the rare ones: there most outcomes must occur once, and "right".

        Args:
          inputs: How many outcomes there must be, or more.
          least: How often each must occur, over all inputs.
          never: Kinds that are known but not for this test.
        """
        assert self.counts.total() >= inputs, self.counts
        outcomes = {RIGHT, *self._kinds} - set(never)
        if is_thorough():
            for outcome in outcomes:
                assert self.counts[outcome] >= least, f"{outcome}: {self.counts}"
        assert self.counts[RIGHT]
        reached = [outcome for outcome in outcomes if self.counts[outcome]]
        assert len(reached) > len(outcomes) / 2, self.counts
