"""Checks that a source has the requested columns, and suggests others if not."""

import difflib
import re
from collections.abc import Sequence

from data_pipelines.errors import DataError

# How much of a header a message shows.
_LISTED_NAMES, _LISTED_CHARACTERS = 30, 60

_SEPARATORS = ("\t", ";", "|", ",", "::")

_KINDS = (
    ("user", "visitor", "customer", "member", "reviewer", "uid"),
    ("item", "product", "article", "movie", "track", "asin", "song", "video", "book"),
    ("time", "date", "created", "ts"),
    ("session",),
)
"""Synonyms in names of columns."""


def require_columns(source: str, found: Sequence[str], needed: Sequence[str]) -> None:
    """Checks that a source has every requested column, once.

    Raises:
      DataError: One is missing or ambiguous.
    """
    for name in needed:
        if found.count(name) != 1:
            problem = "is missing" if name not in found else "occurs more than once"
            hint = "" if name in found else _hint(name, found)
            raise DataError(
                f"{source}: header: column {name!r} {problem}; found {_listed(found)}{hint}"
            )


def _hint(name: str, found: Sequence[str]) -> str:
    """A suggestion of what may be wrong."""
    if len(found) == 1:
        inside = [separator for separator in _SEPARATORS if separator in found[0]]
        if inside:
            shown = "tab" if inside[0] == "\t" else f"'{inside[0]}'"
            return f"; is --separator={shown} meant?"
    if any(re.fullmatch(r"[-+]?[0-9.]+", text) for text in found):
        return "; without a header, --columns=user_id,item_id,... names the columns"
    close = _close(name, found[:1000])
    return f"; did you mean {close[:_LISTED_CHARACTERS]!r}?" if close else ""


def _close(name: str, found: Sequence[str]) -> str | None:
    plain = {_plain(text): text for text in reversed(found)}
    if _plain(name) in plain:
        return plain[_plain(name)]
    words = next((words for words in _KINDS if _plain(name).startswith(words[0])), ())
    for word in words:
        for text in found:
            if _plain(text).startswith(word):
                return text
    close = difflib.get_close_matches(_plain(name), list(plain), n=1, cutoff=0.75)
    return plain[close[0]] if close else None


def _plain(name: str) -> str:
    """A name in lower case, without blanks and signs."""
    return re.sub(r"[^0-9a-z]", "", name[:100].lower())


def _listed(names: Sequence[str]) -> str:
    shown = [name if name.isprintable() else repr(name) for name in names[:_LISTED_NAMES]]
    rest = len(names) - len(shown)
    return ", ".join(name[:_LISTED_CHARACTERS] for name in shown) + (
        f" and {rest} more" if rest else ""
    )
