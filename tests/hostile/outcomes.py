"""What became of each of many inputs."""

import collections
import re
from collections.abc import Iterable, Mapping

RIGHT = "right"


class Outcomes:
    """Counts outcomes, and insists that a refusal is one line of a known kind.

    Args:
      kinds: For each kind of refusal a regular expression of its whole line. The first that
        matches counts.
    """

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self._kinds = {kind: re.compile(pattern, re.DOTALL) for kind, pattern in kinds.items()}
        self.counts: collections.Counter[str] = collections.Counter()

    def right(self) -> None:
        """Counts an input that was accepted, and what came of it checked."""
        self.counts[RIGHT] += 1

    def refused(self, error: BaseException) -> str:
        """Counts a refusal; its kind."""
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
        """Checks that so many inputs were counted, and each outcome at least `least` times.

        Args:
          inputs: How many outcomes there must be, or more.
          least: How often each must have come.
          never: Kinds that are known but not for this test.
        """
        assert self.counts.total() >= inputs, self.counts
        for outcome in {RIGHT, *self._kinds} - set(never):
            assert self.counts[outcome] >= least, f"{outcome}: {self.counts}"
