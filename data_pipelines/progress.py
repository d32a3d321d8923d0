"""How far long work is: a bar on a terminal, elsewhere a line now and then; both on stderr."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

_SECONDS = 30.0
"""Between two lines where there is no terminal, and before the first one."""


class Progress:
    """Shows how far some work is.

    Args:
      what: What is done, such as `scoring`.
      unit: Of what it is done, in the plural, such as `events`.
      total: How many there are; None: not known.
      done: How many are done already.
      shown: Whether anything is shown: of several processes, the first one's work is.
      clock: Seconds.
    """

    def __init__(
        self,
        what: str,
        unit: str,
        total: int | None = None,
        done: int = 0,
        shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._unit, self._total = what, unit, total
        self._done, self._note, self._clock = done, "", clock
        self._bar: tqdm | None = None
        self._writes_lines = shown and not sys.stderr.isatty()
        self._said = clock()
        if shown and not self._writes_lines:
            self._bar = tqdm(
                desc=what,
                total=total,
                initial=done,
                unit=f" {unit}",
                leave=False,
                dynamic_ncols=True,
            )

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._writes_lines and self._clock() - self._said >= _SECONDS:
            self._said = self._clock()
            print(self.line, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """What else there is to say, until the next note."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    @property
    def line(self) -> str:
        """How far it is: `scoring: 1,200 of 3,000 events`."""
        of = "" if self._total is None else f" of {self._total:,}"
        note = f", {self._note}" if self._note else ""
        return f"{self._what}: {self._done:,}{of} {self._unit}{note}"

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()


def say(text: str) -> None:
    """Prints a line on stdout without disturbing a bar."""
    tqdm.write(text)
    sys.stdout.flush()


def watched(
    parts: Iterable[T],
    what: str,
    unit: str,
    total: int | None = None,
    size: Callable[[T], int] = lambda part: 1,
) -> Iterator[T]:
    """The parts, with progress shown as they are taken.

    Args:
      parts: Any.
      what: See `Progress`.
      unit: See `Progress`.
      total: See `Progress`.
      size: How many units a part is.
    """
    with Progress(what, unit, total) as progress:
        for part in parts:
            yield part
            progress.add(size(part))
