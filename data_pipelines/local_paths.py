"""Paths that users give: they are local ones, and `~` is the home directory."""

import os
import re
from typing import Any

from absl import flags

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_SQLITE = "sqlite:///"

_NO_PATHS = frozenset({"separator", "pipeline_options"})
"""Flags whose text is never a path, and may look like one."""


def local_path(name: str, text: str) -> str:
    """The path, with the home directory in place of `~` or `~user`.

    All of a run rests on a file system: locks, directories that appear by a rename, checksums and
    reads at any place of a file. A store of objects has none of them, so its URLs are refused
    instead of being taken for names of local directories.

    Args:
      name: Of the flag or field.
      text: What was given.

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
    except ValueError:  # Such as of a zero byte.
        expanded = text
    if expanded == text:
        user = text[1:].partition("/")[0]
        raise ValueError(
            f"{name}={text}: there is no user {user!r}; a directory of that name is ./{text}"
        )
    return expanded


def expand_paths_of_flags(values: flags.FlagValues) -> None:
    """Replaces `~` in the texts of all flags, alone or in lists; every one may be a path.

    A flag that is new is looked at without being named here. `--storage` is a database's URL; of
    SQLite's the file is a path.

    Raises:
      flags.IllegalFlagValueError: One is no local path.
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
