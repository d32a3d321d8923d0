"""HTML and SVG as text that is well formed: everything is escaped unless it is `Markup` already.

>>> tag("p", "1 < 2, ", tag("b", "so"), class_="note")
'<p class="note">1 &lt; 2, <b>so</b></p>'
"""

import html
from collections.abc import Iterable, Mapping
from typing import Any

_EMPTY = ("br", "circle", "line", "meta", "path", "polyline", "rect", "use")
"""Elements without content."""


class Markup(str):
    """Text that is HTML."""


def escaped(text: str) -> Markup:
    """The text as HTML; characters that no page may hold become U+FFFD."""
    shown = "".join(
        c if c.isprintable() or c in " \n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    return Markup(html.escape(shown))


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """An element.

    Args:
      name: Its name.
      *children: Markup, or what becomes text; None is left out.
      **attributes: `class_` is class, `aria_label` is aria-label; None is left out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def joined(parts: Iterable[Any]) -> Markup:
    """The parts one after another, escaped unless they are Markup."""
    return Markup(
        "".join(
            part if isinstance(part, Markup) else escaped(_text(part))
            for part in parts
            if part is not None
        )
    )


def _text(value: Any) -> str:
    """Coordinates need no more than a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def table(
    caption: str, heading: Iterable[Any], rows: Iterable[Iterable[Any]], words: int = 1
) -> Markup:
    """A table that scrolls sideways where it is wider than the screen.

    Args:
      caption: What it shows.
      heading: Names of the columns.
      rows: Their cells; the first of a row is its heading.
      words: How many columns, from the left, hold words rather than numbers.
    """

    def cells(row: Iterable[Any], name: str) -> Markup:
        return joined(
            tag(
                "th" if name == "th" or not place else "td",
                cell,
                class_=None if place < words else "number",
                scope="col" if name == "th" else None if place else "row",
            )
            for place, cell in enumerate(row)
        )

    head = tag("thead", tag("tr", cells(heading, "th")))
    body = tag("tbody", joined(tag("tr", cells(row, "td")) for row in rows))
    whole = tag("table", tag("caption", caption), head, body)
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def facts(said: Mapping[str, Any]) -> Markup:
    """Names and what they are."""
    pairs = (tag("div", tag("dt", name), tag("dd", value)) for name, value in said.items())
    return tag("dl", *pairs, class_="facts")


def folded(summary: Any, *content: Any, is_open: bool = False, **attributes: Any) -> Markup:
    """Content that opens on a click or by the keyboard."""
    return tag(
        "details",
        tag("summary", summary),
        *content,
        open="open" if is_open else None,
        **attributes,
    )
