"""Checks of settings, where they are given."""

from collections.abc import Iterable


def at_least(low: float, **settings: float) -> None:
    """Raises ValueError for a setting below `low`."""
    for name, value in settings.items():
        if not value >= low:
            raise ValueError(f"{name}={value}: must be >= {low}")


def above(low: float, **settings: float) -> None:
    """Raises ValueError for a setting that is not above `low`."""
    for name, value in settings.items():
        if not value > low:
            raise ValueError(f"{name}={value}: must be > {low}")


def between(low: float, high: float, **settings: float) -> None:
    """Raises ValueError for a setting outside [low, high]."""
    for name, value in settings.items():
        if not low <= value <= high:
            raise ValueError(f"{name}={value}: must be in [{low}, {high}]")


def one_of(choices: Iterable[str], **settings: str) -> None:
    """Raises ValueError for a setting that is none of `choices`, a collection of names."""
    names = tuple(choices)
    for name, value in settings.items():
        if value not in names:
            raise ValueError(f"{name}={value}: must be one of {', '.join(names)}")
