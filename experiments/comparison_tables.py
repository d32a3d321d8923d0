"""A comparison as a table for the terminal, as CSV and as Markdown."""

import statistics
from typing import Any, NamedTuple

import polars as pl
from rich.table import Table

from experiments.cells import Cell
from hiertcn_jax.metrics import METRICS

GROUPS = ("all", "first", "next")
AVERAGES = ("events", "users")


class Figure(NamedTuple):
    """A metric over the seeds; the deviation is None where there is one seed."""

    mean: float | None
    deviation: float | None

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        text = f"{self.mean:.4f}"
        return text if self.deviation is None else f"{text} ± {self.deviation:.4f}"


class Row(NamedTuple):
    """A model over its seeds.

    Attributes:
      model: Its name.
      seeds: How many.
      figures: By (average, group, metric).
      parameters: Non-embedding parameters; None for a ranker.
      train_events_per_s: Median over the seeds.
      score_events_per_s: Likewise.
      causal: Whether what it uses of other users lies before the event.
    """

    model: str
    seeds: int
    figures: dict[tuple[str, str, str], Figure]
    parameters: int | None
    train_events_per_s: float
    score_events_per_s: float
    causal: bool


def summarize(cells: list[Cell]) -> list[Row]:
    """One row a model, in the order of the cells."""
    models = list(dict.fromkeys(cell.model for cell in cells))
    return [_row(model, [cell.values for cell in cells if cell.model == model]) for model in models]


def _row(model: str, values: list[dict[str, Any]]) -> Row:
    def groups(cell: dict[str, Any], average: str) -> dict[str, Any]:
        return cell["metrics"] if average == "events" else cell["metrics"]["per_user"]

    figures = {
        (average, group, metric): _figure([groups(v, average)[group][metric] for v in values])
        for average in AVERAGES
        for group in GROUPS
        for metric in METRICS
    }
    return Row(
        model,
        len(values),
        figures,
        values[0]["parameters"],
        statistics.median(v["train_events_per_s"] for v in values),
        statistics.median(v["score_events_per_s"] for v in values),
        values[0]["causal"],
    )


def _figure(values: list[float | None]) -> Figure:
    known = [value for value in values if value is not None]
    if not known:
        return Figure(None, None)
    return Figure(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)


def comparison_table(rows: list[Row], title: str) -> Table:
    """Micro averages of all models by group, the best of each column in bold."""
    table = Table(title=title)
    for column in ("model", "group", *METRICS):
        table.add_column(column, justify="left" if column in ("model", "group") else "right")
    for group in GROUPS:
        best = {metric: _best(rows, group, metric) for metric in METRICS}
        for row in rows:
            cells = []
            for metric in METRICS:
                figure = row.figures["events", group, metric]
                marked = figure.mean is not None and figure.mean == best[metric]
                cells.append(f"[bold]{figure}[/bold]" if marked else str(figure))
            table.add_row(row.model, group, *cells)
        table.add_section()
    return table


def _best(rows: list[Row], group: str, metric: str) -> float | None:
    means = [row.figures["events", group, metric].mean for row in rows]
    known = [mean for mean in means if mean is not None]
    if not known:
        return None
    return min(known) if metric == "mrp" else max(known)


def comparison_frame(rows: list[Row]) -> pl.DataFrame:
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
                    "parameters": row.parameters,
                    "train_events_per_s": row.train_events_per_s,
                    "score_events_per_s": row.score_events_per_s,
                }
                for metric in METRICS:
                    figure = row.figures[average, group, metric]
                    line[metric], line[f"{metric} std"] = figure.mean, figure.deviation
                lines.append(line)
    return pl.DataFrame(lines, infer_schema_length=None)


def comparison_markdown(
    rows: list[Row], differences: list[dict[str, Any]], header: dict[str, Any]
) -> str:
    """The tables with what they were made of: data, split, seeds, commit."""
    parts = [f"{name}: {value}  " for name, value in header.items()]
    for average in AVERAGES:
        parts += ["", f"Averages over {average}:", ""]
        parts += _lines(
            ["model", "group", *METRICS],
            [
                [row.model, group, *(str(row.figures[average, group, m]) for m in METRICS)]
                for group in GROUPS
                for row in rows
            ],
        )
    parts += ["", "Sizes and speed:", ""]
    parts += _lines(
        ["model", "seeds", "causal", "parameters", "training events/s", "scoring events/s"],
        [
            [
                row.model,
                str(row.seeds),
                "yes" if row.causal else "no",
                "-" if row.parameters is None else f"{row.parameters:,}",
                f"{row.train_events_per_s:,.0f}",
                f"{row.score_events_per_s:,.0f}",
            ]
            for row in rows
        ],
    )
    parts += ["", "The best against each other, with the 95 % interval over users:", ""]
    parts += _lines(
        ["first", "second", "group", "metric", "difference", "interval"],
        [
            [
                line["first"],
                line["second"],
                line["group"],
                line["metric"],
                f"{line['difference']:+.4f}",
                f"{line['low']:+.4f} to {line['high']:+.4f}",
            ]
            for line in differences
        ],
    )
    return "\n".join(parts) + "\n"


def _lines(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows)]
