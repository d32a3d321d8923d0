"""Formats results for people: tables of 80 columns, with a title and a legend."""

from collections.abc import Mapping
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_pipelines.histories.record import Split
from hiertcn_jax.scoring.metric_sums import GROUPS

LEGEND = "first: a session's first event; next: every later one; mrp: mean rank / items"
"""The line below a table of metrics."""

COLUMNS = ("recall@1", "recall@5", "recall@10", "recall@20", "mrr", "ndcg@10", "mrp")
"""The metrics in a table; with a model name of 15 letters they fit 80 columns."""

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


def metrics_table(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """A table with a row for each model and group of events (all, first, next), averaged over
    events.

    With impressions, the same again within the shown lists.

    Args:
      rows: The JSON of evaluations, by model.
    """
    numbers = dict.fromkeys(("events", *COLUMNS), False)
    table = result_table({"model": True, "of": True, **numbers})
    for model, metrics in _with_shown(rows).items():
        for place, group in enumerate(GROUPS):
            values = metrics[group]
            cells = ["-" if values[name] is None else f"{values[name]:.4f}" for name in COLUMNS]
            name = "" if place else model
            table.add_row(name, group, f"{values['events']:,}", *cells)
        table.add_section()
    return table


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
    """Prints the table of metrics with its title, the number of events and the legend.

    Args:
      title: What was scored.
      split: The scored part.
      rows: The JSON of evaluations on the same events, by model.
    """
    print(f"\n{title}\n{scored_line(split, next(iter(rows.values())))}\n")
    print_table(metrics_table(rows))
    print(LEGEND)
