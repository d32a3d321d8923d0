"""The flags --counts, a level of counts or several, and --catalogue, the items to rank among."""

from collections.abc import Sequence
from typing import get_args

from absl import flags

from experiments.runs.data import Catalogue
from hiertcn_jax.memory.levels import Level, parse

_RANKED = (
    "The items to rank among: those of the fitted part, or live: all that anybody picked before "
    "the event. First picks of an item are then counted as unseen, and not scored."
)


def define_catalogue_flag(help_text: str = _RANKED) -> None:
    """Defines --catalogue."""
    flags.DEFINE_enum("catalogue", "fitted", get_args(Catalogue), help_text)


def read_level(flag: str, text: str) -> Level:
    """The level that a flag names.

    Raises:
      ValueError: It names none.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"flag --{flag}: {error}") from error


def read_levels(flag: str, texts: Sequence[str]) -> tuple[Level, ...]:
    """The levels that a flag lists.

    Raises:
      ValueError: There is none, one is listed twice, or a text names none.
    """
    levels = tuple(read_level(flag, text) for text in texts)
    if not levels:
        raise ValueError(f"flag --{flag}=: must be one or more")
    for level in levels:
        if levels.count(level) > 1:
            raise ValueError(f"flag --{flag}: {level} is there twice")
    return levels
