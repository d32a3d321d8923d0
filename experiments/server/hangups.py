"""SIGHUP while a server starts. It imports little, so that it is there once flags are read."""

import signal


class Hangups:
    """Notes SIGHUP while a server starts: without a handler it would end the process.

    Attributes:
      came: Whether one came.
    """

    def __init__(self) -> None:
        """Begins."""
        self.came = False
        # Windows has no such signal.
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._note)

    def _note(self, number: int, frame: object) -> None:
        del number, frame
        self.came = True
