"""Formats a comparison as tables: the same ones for the terminal and Markdown, and as CSV."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import polars as pl
from rich.table import Table
from rich.text import Text

from experiments.comparison.summary import AVERAGES, Row, best_mean
from experiments.judging.result_tables import result_table
from hiertcn_jax.scoring.metric_sums import GROUPS
from hiertcn_jax.scoring.metrics import METRICS, TOP

Differences = list[dict[str, Any]]
"""The result of `best_differences`."""


class TextTable(NamedTuple):
    """A table of text; the first column names a model.

    Attributes:
      title: What it shows.
      columns: The first is for names, the others are aligned to the right.
      rows: Texts.
      best: Cells (row, column) with the best value of a column.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    best: frozenset[tuple[int, int]] = frozenset()


def comparison_tables(rows: list[Row], differences: Differences) -> list[TextTable]:
    """Metrics by average and group, then of the top items, sizes and speeds, differences.

    Where all cells are of a version without top items, there is no table of them.
    """
    metrics = [_metrics_table(rows, average, group) for average in AVERAGES for group in GROUPS]
    listed = any(METRICS[metric].needs_lists for row in rows for *_, metric in row.figures)
    lists = [_lists_table(rows, group) for group in GROUPS if listed]
    return [*metrics, *lists, _sizes_table(rows), *_difference_tables(differences)]


def _metrics_table(rows: list[Row], average: str, group: str) -> TextTable:
    """Metrics of ranks."""
    names = [name for name, metric in METRICS.items() if not metric.needs_lists]
    return _figures_table(f"{group}: averages over {average}", rows, (average, group), names)


def _lists_table(rows: list[Row], group: str) -> TextTable:
    """Metrics of the top items."""
    names = [name for name, metric in METRICS.items() if metric.needs_lists]
    return _figures_table(f"{group}: top {TOP} of all events", rows, ("events", group), names)


def _figures_table(
    title: str, rows: list[Row], part: tuple[str, str], names: list[str]
) -> TextTable:
    """A row for each model, and a column for each of these metrics; the best are marked.

    Args:
      title: Above it.
      rows: The models.
      part: Average and group.
      names: Of the metrics.
    """
    best = frozenset(
        (number, column)
        for column, name in enumerate(names, 1)
        for number, row in enumerate(rows)
        if row.figure(*part, name).mean is not None
        and row.figure(*part, name).mean == best_mean(rows, *part, name)
    )
    lines = [[row.model, *(str(row.figure(*part, name)) for name in names)] for row in rows]
    return TextTable(title, ["model", *names], lines, best)


def _sizes_table(rows: list[Row]) -> TextTable:
    columns = ["model", "seeds", "causal", "parameters", "training events/s", "scoring events/s"]
    lines = [
        [
            row.model,
            str(row.seeds),
            _causal(row),
            _whole(row.parameters),
            _whole(row.train_events_per_s),
            _whole(row.score_events_per_s),
        ]
        for row in rows
    ]
    return TextTable("Sizes and speed", columns, lines)


def _causal(row: Row) -> str:
    """Whether a model is causal, and the level of its counts: `no, fitted`."""
    return ("yes" if row.causal else "no") + (f", {row.counts}" if row.counts else "")


def _whole(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"


def _difference_tables(differences: Differences) -> Iterator[TextTable]:
    metrics = list(dict.fromkeys(line["metric"] for line in differences))
    for group in dict.fromkeys(line["group"] for line in differences):
        lines = {
            (line["second"], line["metric"]): line for line in differences if line["group"] == group
        }
        (best,) = {line["first"] for line in lines.values()}
        others = dict.fromkeys(model for model, _ in lines)
        rows = [[other, *(_interval(lines[other, m]) for m in metrics)] for other in others]
        title = f"{group}: {best} less each other, 95 % interval over users"
        yield TextTable(title, [f"{best} less", *metrics], rows)


def _interval(line: dict[str, Any]) -> str:
    return f"{line['difference']:+.4f} ({line['low']:+.4f} to {line['high']:+.4f})"


def rich_table(table: TextTable) -> Table:
    """For a terminal of 80 columns: a deviation is printed below its mean."""
    made = result_table({name: field == 0 for field, name in enumerate(table.columns)}, table.title)
    for at, row in enumerate(table.rows):
        made.add_row(
            *(
                Text(text.replace(" ± ", "\n±"), "bold" if (at, field) in table.best else "")
                for field, text in enumerate(row)
            )
        )
    return made


def markdown(tables: list[TextTable], header: dict[str, Any]) -> str:
    """The tables with their origin: data, split, seeds, commits."""
    parts = [f"{name}: {value}  " for name, value in header_texts(header).items()]
    for table in tables:
        lines = [
            [f"**{text}**" if (at, field) in table.best else text for field, text in enumerate(row)]
            for at, row in enumerate(table.rows)
        ]
        aligned = ["---", *["---:"] * (len(table.columns) - 1)]
        parts += ["", f"{table.title}:", ""]
        parts += ["| " + " | ".join(line) + " |" for line in (table.columns, aligned, *lines)]
    return "\n".join(parts) + "\n"


def header_texts(header: dict[str, Any]) -> dict[str, str]:
    """The header as text."""
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in header.items()
    }


def comparison_frame(rows: list[Row], events_hash: str) -> pl.DataFrame:
    """One line for each model, average and group; metrics as mean and std columns."""
    lines = []
    for row in rows:
        for average in AVERAGES:
            for group in GROUPS:
                line: dict[str, Any] = {
                    "model": row.model,
                    "average_over": average,
                    "group": group,
                    "seeds": row.seeds,
                    "causal": row.causal,
                    "counts": row.counts,
                    "parameters": row.parameters,
                    "train_events_per_s": row.train_events_per_s,
                    "score_events_per_s": row.score_events_per_s,
                }
                for metric in METRICS:
                    figure = row.figure(average, group, metric)
                    line[metric], line[f"{metric} std"] = figure.mean, figure.deviation
                lines.append({**line, "events_hash": events_hash})
    return pl.DataFrame(lines, infer_schema_length=None)


def differences_frame(differences: Differences, events_hash: str) -> pl.DataFrame:
    """One line for each pair, group and metric."""
    names = ("first", "second", "group", "metric")
    schema = {
        **dict.fromkeys(names, pl.String),
        **dict.fromkeys(("difference", "low", "high"), pl.Float64),
    }
    frame = pl.DataFrame(differences, schema=schema)
    return frame.with_columns(events_hash=pl.lit(events_hash))
