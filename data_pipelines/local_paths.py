"""Checks paths that users give: they must be local, and `~` means the home directory."""

import os
import re
from typing import Any

from absl import flags

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_SQLITE = "sqlite:///"

PATH_FLAGS = frozenset(
    {
        "candidates", "catalogue", "continue_from", "data_dir", "emit_flagfiles", "events",
        "export_dir", "impressions", "input", "item_embedding_ids", "item_embeddings", "items",
        "output", "output_dir", "previous", "ranks_out", "settings", "space", "storage", "store",
        "tfds_data_dir", "token_file", "users", "workdir",
    }
)  # fmt: skip
"""Flags of all commands that name files or directories. In others `~` is a character."""

_MAY_BE_EMPTY = frozenset({"item_embedding_ids", "item_embeddings"})
"""Path flags whose empty value means something. Elsewhere it comes from a shell's variable that is
not set, and would stand for the current directory, or for another default than without the flag.
"""


def local_path(name: str, text: str) -> str:
    """The path, with `~` or `~user` replaced by the home directory.

    A run needs a file system: locks, directories that appear by a rename, checksums, and reads at
    any position in a file. Object stores have none of these. So their URLs are refused instead of
    being taken for names of local directories.

    Args:
      name: Name of the flag or field.
      text: The given path.

    Raises:
      ValueError: It is a URL, there is no such user, or it has bytes that are not UTF-8.
    """
    if _URL.match(text):
        raise ValueError(
            f"{name}={text}: expected a local path, got a URL; mount the store as a directory "
            "(gcsfuse for gs://, Mountpoint for s3://) or copy the files, then give the local path"
        )
    _require_unicode(name, text)
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


def _require_unicode(name: str, text: str) -> None:
    """Checks that a path is Unicode: the libraries that write histories and checkpoints need that.

    Raises:
      ValueError: It is not, or the current directory that it starts from.
    """
    try:
        (text if os.path.isabs(text) else os.path.join(os.getcwd(), text)).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name}={text}: its path has bytes that are not UTF-8, or this locale does not read "
            "them so; rename it, give a link of another name, or set LC_ALL=C.UTF-8"
        ) from error
    except FileNotFoundError:  # The current directory was removed.
        return


def expand_paths_of_flags(values: flags.FlagValues) -> None:
    """Replaces `~` in the values of all flags that name paths, single or in lists.

    `--storage` is a database URL; only for SQLite it contains a path. `--store` may be a URL too.

    Raises:
      flags.IllegalFlagValueError: A value is no local path, or is empty.
    """
    for name in PATH_FLAGS.intersection(values):
        flag = values[name]
        if not flag.present:
            continue
        is_empty = flag.value == "" or (name == "workdir" and flag.value == [])
        if is_empty and name not in _MAY_BE_EMPTY:
            raise flags.IllegalFlagValueError(
                f"flag --{name}=: is empty; name a path, such as . for the current directory, or "
                "leave the flag out"
            )
        try:
            flag.value = _expanded(name, flag.value)
        except ValueError as error:
            raise flags.IllegalFlagValueError(f"flag --{error}") from error


def _expanded(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_expanded(name, item) for item in value]
    if not isinstance(value, str):
        return value
    if name == "store" and _URL.match(value):
        return value
    if name != "storage":
        return local_path(name, value)
    file = value.removeprefix(_SQLITE)
    return value if file == value else _SQLITE + local_path(name, file)
