"""Notices when the event loop is behind: then requests wait where no queue counts them."""

import asyncio

LATE_SECONDS = 0.1
"""A loop that comes back later than this, twice in turn, is behind."""
_EVERY_SECONDS = 0.02


class Lateness:
    """Looks how late the loop comes back. Once may be chance, or another process."""

    def __init__(self, late_seconds: float = LATE_SECONDS) -> None:
        """See the class.

        Args:
          late_seconds: See `LATE_SECONDS`.
        """
        self._most = late_seconds
        self._was_late = self._is_late = False

    def start(self) -> None:
        """Begins, in the loop that runs."""
        loop = asyncio.get_running_loop()
        due = loop.time() + _EVERY_SECONDS
        loop.call_at(due, self._look, loop, due)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.note(loop.time() - due)
        self.start()

    def note(self, seconds: float) -> None:
        """Notes how late the loop came back."""
        self._was_late, self._is_late = self._is_late, seconds > self._most

    def is_late(self) -> bool:
        """Whether the loop is behind."""
        return self._was_late and self._is_late
