"""Checks paths that users give: they must be local, and `~` means the home directory."""

import os
import re
from typing import Any

from absl import flags

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_SQLITE = "sqlite:///"

_NO_PATHS = frozenset({"separator", "pipeline_options"})
"""Flags whose text is never a path, but may look like one."""


def local_path(name: str, text: str) -> str:
    """The path, with `~` or `~user` replaced by the home directory.

    A run needs a file system: locks, directories that appear by a rename, checksums, and reads at
    any position in a file. Object stores have none of these. So their URLs are refused instead of
    being taken for names of local directories.

    Args:
      name: Name of the flag or field.
      text: The given path.

    Raises:
      ValueError: It is a URL, or there is no such user.
    """
    if _URL.match(text):
        raise ValueError(
            f"{name}={text}: expected a local path, got a URL; mount the store as a directory "
            "(gcsfuse for gs://, Mountpoint for s3://) or copy the files, then give the local path"
        )
    if not text.startswith("~"):
        return text
    try:
        expanded = os.path.expanduser(text)
    except ValueError:  # For example a zero byte.
        expanded = text
    if expanded == text:
        user = text[1:].partition("/")[0]
        raise ValueError(
            f"{name}={text}: there is no user {user!r}; a directory of that name is ./{text}"
        )
    return expanded


def expand_paths_of_flags(values: flags.FlagValues) -> None:
    """Replaces `~` in the values of all flags, single or in lists, because any may be a path.

    New flags need no change here. `--storage` is a database URL; only for SQLite it contains a
    path.

    Raises:
      flags.IllegalFlagValueError: A value is no local path.
    """
    for name in values:
        flag = values[name]
        if name in _NO_PATHS or not flag.present:
            continue
        try:
            flag.value = _expanded(name, flag.value)
        except ValueError as error:
            raise flags.IllegalFlagValueError(f"flag --{error}") from error


def _expanded(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_expanded(name, item) for item in value]
    if not isinstance(value, str):
        return value
    if name != "storage":
        return local_path(name, value)
    file = value.removeprefix(_SQLITE)
    return value if file == value else _SQLITE + local_path(name, file)
