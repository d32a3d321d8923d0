"""How up to date counts are: which events count at a time t, the level of a result.

    fitted         events of the fitted part before t
    live           all events before t, other users' held-out ones too: as a running service has
    delayed:15m    live, but every event is known 15 minutes late (s, m, h or d)
    static         the fitted part, frozen at its end: later, the clock stands where it ended

At each of them counts hold nothing of time t itself or later. A user's own events are of no level:
they come with the request, so they are known at once.
"""

import dataclasses
import re
from typing import Literal

Name = Literal["fitted", "live", "delayed", "static"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclasses.dataclass(frozen=True)
class Level:
    """A level of counts; `str` gives the text that `parse` reads.

    Attributes:
      name: See the module.
      late: How late events are known if `delayed`, as text such as 15m; else empty.
    """

    name: Name = "fitted"
    late: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.late}" if self.late else self.name

    @property
    def file_name(self) -> str:
        """For names of files: delayed_15m."""
        return str(self).replace(":", "_")

    @property
    def delay(self) -> int:
        """Seconds by which events are known late."""
        return int(self.late[:-1]) * _UNITS[self.late[-1]] if self.late else 0

    @property
    def counts_held_out(self) -> bool:
        """Whether events that are not fitted count too, once they have happened."""
        return self.name in ("live", "delayed")


FITTED = Level()
"""What models are trained with."""


def parse(text: str) -> Level:
    """The level that a text names.

    Raises:
      ValueError: It names none.

    >>> parse("delayed:15m").delay
    900
    """
    if text in ("fitted", "live", "static"):
        return Level(text)  # type: ignore[arg-type]
    found = re.fullmatch(r"delayed:([1-9]\d{0,8}[smhd])", text)
    if found is None:
        raise ValueError(
            f"counts={text}: must be fitted, live, static, or delayed by a time, such as "
            "delayed:15m (s, m, h or d)"
        )
    return Level("delayed", found[1])


def end_of(last_time: int) -> int:
    """When the clock of `static` counts stops: an instant after the last event, which counts."""
    return last_time + 1
