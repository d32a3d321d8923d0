"""Plots slices: one PNG per slice, a panel per metric, a line per model."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.judging.slices import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_APART = ("first session", "new")
"""Bins that are not on the scale of the bins beside them; lines do not connect them."""

_COLORS = 10
_MARKERS = "osD^v<>pPX*dH"
_LINES = ("-", "--", "-.", ":")
"""Colours and markers repeat after 10 and 13 models, so that 130 models all look different."""

_SPREAD = 0.5
"""Horizontal shift between models, as a share of the distance between bins, so that none hides."""


def require_matplotlib() -> None:
    """Checks that plots can be made, before anything is computed.

    Raises:
      ValueError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            "flag --slices: plots need matplotlib: python -m pip install 'hiertcn_jax[plots]'"
        )


def plot_slices(models: Mapping[str, list[dict[str, Any]]], prefix: Path, title: str) -> list[Path]:
    """Writes one plot per slice, to `<prefix>_<slice>.png`.

    Args:
      models: By model, the slices (`slice_metrics`) of each seed; lines are means over seeds.
      prefix: Directory and start of the files' names.
      title: Title of each plot: the data and the split.

    Returns:
      The plots. A slice with all events in one bin has none, as its figures are those of the whole;
      that is printed, and an older plot removed.
    """
    paths = []
    for name, first in next(iter(models.values()))[0].items():
        path = prefix.with_name(f"{prefix.name}_{name}.png")
        filled = [b["bin"] for b in first["bins"] if b["events"]]
        if len(filled) > 1:
            _plot(name, models, path, title)
            paths.append(path)
            continue
        why = f"all events have {name} {filled[0]!r}" if filled else "no event is scored"
        print(f"{path.name}: not drawn, because {why}")
        path.unlink(missing_ok=True)
    return paths


def _shown_bins(bins: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The bins from the first to the last that holds events, so that the scale has no holes."""
    filled = [bin_number for bin_number, b in enumerate(bins) if b["events"]]
    return bins[filled[0] : filled[-1] + 1]


def _plot(name: str, models: Mapping[str, list[dict[str, Any]]], path: Path, title: str) -> None:
    from matplotlib.figure import Figure

    first = next(iter(models.values()))[0][name]
    bins = _shown_bins(first["bins"])
    figure = Figure(figsize=(4 + 1.4 * max(len(bins), 4), 9), layout="constrained")
    panels = figure.subplots(len(METRICS), 1, sharex=True)
    for metric, axes in zip(METRICS, panels, strict=True):
        for number, (model, seeds) in enumerate(models.items()):
            shift = _SPREAD * ((number + 0.5) / len(models) - 0.5)
            values = [_values(seed[name], metric) for seed in seeds]
            _draw(axes, values, shift, {**line_of(number), "label": model})
        axes.set_ylabel(f"{metric} (mean over events)")
        axes.set_ylim(0, max(1.05 * axes.get_ylim()[1], 1e-3))
        axes.grid(axis="y", alpha=0.3)
        apart = [bin_number for bin_number, b in enumerate(bins) if b["bin"] in _APART]
        for bin_number in apart[: len(bins) - 1]:
            axes.axvline(bin_number + 0.5, color="0.7", linestyle=":")
    events = sum(b["events"] for b in bins)
    most = max(len(runs) for runs in models.values())
    over = f", mean over {most} seeds" if most > 1 else ""
    panels[0].set_title(f"{title}: {events:,} events{over}", fontsize="medium")
    panels[-1].set_xticks(
        range(len(bins)),
        [f"{b['bin']}\n{b['events']:,} events\n{b['users']:,} users" for b in bins],
        fontsize="small",
    )
    panels[-1].set_xlim(-0.5, len(bins) - 0.5)
    panels[-1].set_xlabel(first["title"])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", handlelength=4.5)
    figure.savefig(path, dpi=120)


def _values(of_slice: dict[str, Any], metric: str) -> list[tuple[str, float]]:
    """Label and value of the bins that are shown; NaN, where a line breaks, for empty ones."""
    bins = _shown_bins(of_slice["bins"])
    return [(b["bin"], b[metric] if b["events"] else np.nan) for b in bins]


def line_of(number: int) -> dict[str, Any]:
    """The style of a model's line, by its index among the models."""
    return {
        "color": f"C{number % _COLORS}",
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _LINES[number % len(_LINES)],
        "markersize": 6,
        "alpha": 0.75,
    }


def _draw(
    axes: "Axes", seeds: list[list[tuple[str, float]]], shift: float, line: dict[str, Any]
) -> None:
    """Draws a model's line, the mean over its seeds, broken after a bin off the scale."""
    labels = [label for label, _ in seeds[0]]
    means = np.mean([[value for _, value in seed] for seed in seeds], axis=0)
    apart = 1 if labels[0] in _APART else 0
    x = np.arange(len(labels)) + shift
    axes.plot(x[apart:], means[apart:], **line)
    axes.plot(x[:apart], means[:apart], **{**line, "label": None})
