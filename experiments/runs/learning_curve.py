"""Draws the learning curve of a run: the loss, and the monitored metric on valid."""

import importlib.util
from pathlib import Path
from typing import Any

from experiments.runs.files import whole_file
from hiertcn_jax.saving.json_files import parse_json

FILE = "learning_curve.png"

_COLOR, _BEST = "C0", "C3"


def draw_learning_curve(workdir: Path, monitor: str, lower_is_better: bool) -> str | None:
    """Draws W/learning_curve.png from W/metrics.jsonl.

    Args:
      workdir: The run's directory.
      monitor: The monitored metric, as group/metric.
      lower_is_better: Whether its lowest value is the best.

    Returns:
      A line that says why there is no picture; None if there is one.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return f"{FILE}: not drawn, because it needs matplotlib: pip install 'hiertcn_jax[plots]'"
    try:
        lines = read_journal(workdir / "metrics.jsonl")
        losses = points_of(lines, "train", "loss")
        values = points_of(lines, "valid", monitor)
        if not losses:
            return f"{FILE}: not drawn, because no step has reported a loss yet"
        with whole_file(workdir / FILE) as aside:
            _draw(losses, values, monitor, lower_is_better, workdir.name, aside)
    except OSError as error:
        return f"{FILE}: not drawn: {error.strerror or error}"
    return None


def read_journal(journal: Path) -> list[dict[str, Any]]:
    """The lines of a journal.

    Raises:
      OSError: It cannot be read.
      ValueError: A line is no JSON.
    """
    text = journal.read_text(encoding="utf-8")
    return [parse_json(line) for line in text.splitlines()]


def points_of(lines: list[dict[str, Any]], kind: str, name: str) -> list[tuple[int, float]]:
    """Step and value of each line that has this one."""
    return [
        (line["step"], line[name])
        for line in lines
        if line["kind"] == kind and line.get(name) is not None
    ]


def _draw(
    losses: list[tuple[int, float]],
    values: list[tuple[int, float]],
    monitor: str,
    lower_is_better: bool,
    title: str,
    path: Path,
) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 6), layout="constrained")
    panels = figure.subplots(2 if values else 1, 1, sharex=True, squeeze=False)[:, 0]
    panels[0].plot(*zip(*losses, strict=True), color=_COLOR, marker=_marker(losses), markersize=4)
    panels[0].set_ylabel("training loss")
    panels[0].set_title(title)
    if values:
        panels[1].plot(*zip(*values, strict=True), color=_COLOR, marker="o", markersize=4)
        # Of equal values the newest checkpoint is the best.
        sign = -1 if lower_is_better else 1
        step, best = max(values, key=lambda point: (sign * point[1], point[0]))
        panels[1].plot([step], [best], color=_BEST, marker="o", linestyle="none")
        panels[1].axvline(step, color=_BEST, linestyle=":", alpha=0.6)
        panels[1].set_title(f"best: {best:.4f} at step {step:,}", fontsize="medium", color=_BEST)
        panels[1].set_ylabel(f"{monitor} on valid")
    for axes in panels:
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("step")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    # Its name does not end in .png before it is whole.
    figure.savefig(path, dpi=100, format="png")


def _marker(points: list[tuple[int, float]]) -> str:
    """Few points are marked; one alone would not be seen as a line."""
    return "o" if len(points) < 50 else ""
