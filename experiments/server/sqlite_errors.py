"""What is wrong with a SQLite file, in words."""

from typing import Any

_FULL = "make room there, or name a file on another disk"
_UNWRITABLE = "set its permissions, or name a file in a folder that can be written"

_REASONS = {
    "SQLITE_BUSY": "another process uses it; stop that, or name another file",
    "SQLITE_CANTOPEN": "cannot be opened; name a file in a folder that exists and can be written",
    "SQLITE_FULL": f"no space left on the disk; {_FULL}",
    "SQLITE_READONLY": f"cannot be written; {_UNWRITABLE}",
    "SQLITE_PERM": f"cannot be written; {_UNWRITABLE}",
    "SQLITE_IOERR": f"cannot be read or written; check the disk: {_FULL}",
}
"""Explanations of SQLite's errors, by the first two words of their names."""


def reason_of(error: Exception) -> str:
    """What an error says of the file, and what to do; any other error comes of damage."""
    name = getattr(error, "sqlite_errorname", "")
    found = _REASONS.get("_".join(name.split("_")[:2]))
    damaged = f"is damaged ({error}); name another file, or a copy of it that is whole"
    return damaged if found is None else found


def require_types(row: tuple[Any, ...], kinds: tuple[Any, ...]) -> None:
    """Checks a row: SQLite keeps a value of any type in any column.

    Raises:
      TypeError: A value is of another type.
    """
    for value, kind in zip(row, kinds, strict=True):
        if not isinstance(value, kind):
            raise TypeError(f"{str(value)[:40]!r} is not of the type of its column")
