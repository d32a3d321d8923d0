"""Puts the sections together to one page that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.reporting.markup import Markup, joined, tag

_STYLE = Path(__file__).with_name("page.css")
_SKIP = "skip to the content"
_VIEWPORT = Markup('<meta name="viewport" content="width=device-width, initial-scale=1"/>')


class Section(NamedTuple):
    """A part of the page.

    Attributes:
      anchor: Its id.
      title: Its title.
      content: What is in it.
    """

    anchor: str
    title: str
    content: Sequence[Markup]


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The page as HTML that is also well-formed XML; empty sections are left out.

    Args:
      title: Of the page.
      subtitle: What it is about, in a sentence.
      sections: In order.
    """
    kept = [section for section in sections if section.content]
    links = [tag("li", tag("a", one.title, href=f"#{one.anchor}")) for one in kept]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        _VIEWPORT,
        tag("title", title),
        tag("style", Markup(_STYLE.read_text(encoding="utf-8"))),
    )
    body = tag(
        "body",
        tag("a", _SKIP, href="#content", class_="skip"),
        tag(
            "header",
            tag("h1", title),
            tag("p", subtitle),
            tag("nav", tag("ul", *links), aria_label="sections"),
        ),
        tag(
            "main",
            joined(
                tag("section", tag("h2", one.title), *one.content, id=one.anchor) for one in kept
            ),
            id="content",
        ),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"
