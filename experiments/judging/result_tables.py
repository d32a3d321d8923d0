"""Formats results for people: tables of 80 columns, with a title and a legend."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_pipelines.histories.record import Split
from hiertcn_jax.scoring.metric_sums import GROUPS
from hiertcn_jax.scoring.metrics import METRICS, TOP

LEGEND = "first: a session's first event; next: every later one; mrp: mean rank / items"
"""The line below a table of metrics."""

LISTS_LEGEND = f"log_popularity: mean of ln(1 + training events) over the top {TOP} of each event"
"""The line below a table of metrics of the top items."""

COLUMNS = tuple(name for name, metric in METRICS.items() if not metric.needs_lists)
"""The metrics of ranks: with a name of 15 letters they fit 80 columns."""

LISTS_COLUMNS = tuple(name for name, metric in METRICS.items() if metric.needs_lists)
"""The metrics of the top items, in a table of their own."""

_WIDTH = 80


def result_table(columns: Mapping[str, bool], title: str | None = None) -> Table:
    """An empty table without lines between its columns.

    Args:
      columns: Their names, and whether each holds words; numbers are aligned to the right.
      title: Printed above the table.
    """
    # A title contains a path, which may look like markup.
    text = None if title is None else Text(title)
    table = Table(title=text, box=box.SIMPLE, padding=0, show_edge=False, title_justify="left")
    for name, is_words in columns.items():
        # The widest column wraps first: a long name rather than a number.
        justify: Literal["left", "right"] = "left" if is_words else "right"
        heading = name if is_words else name.replace("@", "\n@").replace(" ", "\n")
        table.add_column(heading, justify=justify, overflow="fold")
    return table


def metrics_table(rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> Table:
    """A line for each model and group of events (all, first, next), averages over events.

    If there are impressions, the metrics of ranks once more within what was shown.

    Args:
      rows: The JSON of evaluations, by model.
      columns: `COLUMNS` or `LISTS_COLUMNS`.
    """
    numbers = dict.fromkeys(("events", *columns), False)
    table = result_table({"model": True, "of": True, **numbers})
    for model, metrics in (_with_shown(rows) if columns == COLUMNS else rows).items():
        for number, group in enumerate(GROUPS):
            values = metrics[group]
            cells = [_text(values.get(name)) for name in columns]
            name = "" if number else model
            table.add_row(name, group, f"{values['events']:,}", *cells)
        table.add_section()
    return table


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _with_shown(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    shown = {
        f"{model} (shown)": values["shown"] for model, values in rows.items() if "shown" in values
    }
    return {**rows, **shown}


def scored_line(split: Split, metrics: Mapping[str, Any]) -> str:
    """A line with the number of scored events of a split, and of the others.

    Args:
      split: The scored part.
      metrics: The JSON of its evaluation.
    """
    scored, unknown = metrics["events"], metrics["unknown_targets"]
    name = split.name.lower()
    if unseen := metrics.get("unseen"):
        return (
            f"{scored:,} of {scored + unseen + unknown:,} {name} events, in the live catalogue; "
            f"{unseen:,} are the first of their item"
        )
    if not unknown:
        return f"all {scored:,} {name} events"
    return (
        f"{scored:,} of {scored + unknown:,} {name} events; "
        f"{unknown:,} are of items not seen in training"
    )


def print_table(table: Table) -> None:
    """Prints a complete table; in 80 columns if the terminal is narrow or unknown."""
    console = Console()
    console.width = max(console.width, _WIDTH)
    console.print(table)


def print_results(title: str, split: Split, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints the tables of metrics with their title, the number of events and legends.

    Args:
      title: What was scored.
      split: The scored part.
      rows: The JSON of evaluations on the same events, by model.
    """
    print(f"\n{title}\n{scored_line(split, next(iter(rows.values())))}\n")
    print_table(metrics_table(rows))
    print(f"{LEGEND}\n")
    print_table(metrics_table(rows, LISTS_COLUMNS))
    print(LISTS_LEGEND)


def report_line(workdir: Path) -> str:
    """The command that shows a trained run, or a comparison, as a page."""
    return f"look at it: hiertcn report --workdir={shlex.quote(str(workdir))} --output=report.html"
