"""Every format of a comparison is complete; the figures equal those computed here from ranks."""

import csv
import io
import itertools
import json

import numpy as np
import pytest
from rich.console import Console

from experiments.comparison.differences import best_differences
from experiments.comparison.summary import summarize, summary_json
from experiments.comparison.tables import (
    comparison_frame,
    comparison_tables,
    differences_frame,
    markdown,
    rich_table,
)
from hiertcn_jax.scoring.metrics import METRICS
from tests.experiments.fabricated import EVENTS, fabricate, plain_mean

GROUPS, AVERAGES = ("all", "first", "next"), ("events", "users")
LISTS = tuple(name for name, metric in METRICS.items() if metric.needs_lists)
CASES = [
    case
    for case in itertools.product(METRICS, GROUPS, AVERAGES)
    if case[0] != "coverage@20" or case[2] == "events"
]
MODELS = ("first_best", "next_best", "rolling_popularity_250")
HEADER = {
    "split": "test", "events_hash": "abc", "mask_seen": "user", "commits": ["c1-dirty", "unknown"],
}  # fmt: skip


def made_up(scale_first, scale_next, seed):
    """Ranks that are low for first or for next events."""
    rng = np.random.default_rng(seed)
    scale_n = np.array([scale_first if position == 0 else scale_next for *_, position in EVENTS])
    return np.floor(1 + rng.exponential(scale_n)).clip(1, 400)


RANKS = {
    ("first_best", 0): made_up(3, 60, 0),
    ("first_best", 1): made_up(3, 60, 1),
    ("first_best", 2): made_up(3, 60, 2),
    ("next_best", None): made_up(60, 3, 3),
    ("rolling_popularity_250", None): made_up(30, 30, 4),
}
SPEEDS = {
    ("first_best", 0): (1234.0, 10.0),
    ("first_best", 1): (2345.6, 30.0),
    ("first_best", 2): (9999.0, 20.0),
    ("next_best", None): (None, 70_000.0),
    ("rolling_popularity_250", None): (5e6, 400.0),
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cells")
    more = {"first_best": {"parameters": 198_273}, "next_best": {"causal": True}}
    return [
        fabricate(directory, model, seed, rank_n, SPEEDS[model, seed], **more.get(model, {}))
        for (model, seed), rank_n in RANKS.items()
    ]


@pytest.fixture(scope="module")
def rows(cells):
    return summarize(cells)


@pytest.fixture(scope="module")
def differences(cells):
    return best_differences(cells)


def expected(model, metric, group, average):
    """Mean and deviation over the seeds."""
    values = [
        plain_mean(metric, group, average, rank_n)
        for (name, _), rank_n in RANKS.items()
        if name == model
    ]
    return np.mean(values), np.std(values, ddof=1) if len(values) > 1 else None


def as_text(mean, deviation):
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def test_the_json_has_mean_and_deviation_of_every_metric(rows):
    summary = json.loads(json.dumps(summary_json(rows)))
    assert list(summary) == list(MODELS)
    for model, (metric, group, average) in itertools.product(MODELS, CASES):
        groups = summary[model] if average == "events" else summary[model]["per_user"]
        mean, deviation = expected(model, metric, group, average)
        found = groups[group][metric]
        assert found["mean"] == pytest.approx(mean)
        assert found["std"] == (None if deviation is None else pytest.approx(deviation))
    assert summary["first_best"]["train_events_per_s"] == 2345.6
    assert summary["first_best"]["score_events_per_s"] == 20
    assert summary["next_best"]["train_events_per_s"] is None
    assert [summary[model]["seeds"] for model in MODELS] == [3, 1, 1]
    assert [summary[model]["causal"] for model in MODELS] == [False, True, False]
    assert [summary[model]["parameters"] for model in MODELS] == [198_273, None, None]


def test_the_csv_has_a_line_for_every_model_average_and_group(rows):
    lines = list(csv.DictReader(io.StringIO(comparison_frame(rows, "abc").write_csv())))
    assert len(lines) == len(MODELS) * 2 * 3
    for line in lines:
        assert line["events_hash"] == "abc"
        for metric in METRICS:
            if (metric, line["average_over"]) == ("coverage@20", "users"):
                assert line[metric] == line[f"{metric} std"] == ""
                continue
            mean, deviation = expected(line["model"], metric, line["group"], line["average_over"])
            assert float(line[metric]) == pytest.approx(mean)
            found = line[f"{metric} std"]
            assert found == "" if deviation is None else float(found) == pytest.approx(deviation)
    speeds = {line["model"]: (line["train_events_per_s"], line["causal"]) for line in lines}
    assert speeds["first_best"] == ("2345.6", "false")
    assert speeds["next_best"] == ("", "true")


def test_the_csv_of_differences_has_them_all(differences):
    text = differences_frame(differences, "abc").write_csv()
    lines = list(csv.DictReader(io.StringIO(text)))
    assert len(lines) == 3 * 2 * 2
    for line, found in zip(lines, differences, strict=True):
        assert line.pop("events_hash") == "abc"
        assert {name: float(line[name]) for name in ("difference", "low", "high")} == (
            pytest.approx({name: found[name] for name in ("difference", "low", "high")})
        )
    assert len(differences_frame([], "abc")) == 0


def tables_of(text):
    """Title -> {model: {column: text}} of the tables in Markdown."""
    tables = {}
    for part in text.split("\n\n"):
        if part.endswith(":"):
            title = part.removesuffix(":")
        elif part.startswith("|"):
            head, _, *lines = (
                [c.strip() for c in line[2:-2].split(" | ")] for line in part.splitlines()
            )
            tables[title] = {line[0]: dict(zip(head[1:], line[1:], strict=True)) for line in lines}
    return tables


def test_markdown_has_every_figure(rows, differences):
    text = markdown(comparison_tables(rows, differences), HEADER)
    for fact in ("events_hash: abc", "mask_seen: user", "commits: c1-dirty, unknown"):
        assert fact in text
    tables = tables_of(text)
    for metric, group, average in CASES:
        found = tables[f"{group}: averages over {average}"]
        if metric in LISTS:
            if average == "users":
                continue
            found = tables[f"{group}: top 20 of all events"]
        figures = {model: expected(model, metric, group, average) for model in MODELS}
        best = (min if METRICS[metric].lower_is_better else max)(
            mean for mean, _ in figures.values()
        )
        for model, (mean, deviation) in figures.items():
            wanted = as_text(mean, deviation)
            assert found[model][metric] == (f"**{wanted}**" if mean == best else wanted)
    assert tables["Sizes and speed"] == {
        "first_best": {
            "seeds": "3", "causal": "no", "parameters": "198,273",
            "training events/s": "2,346", "scoring events/s": "20",
        },
        "next_best": {
            "seeds": "1", "causal": "yes", "parameters": "-",
            "training events/s": "-", "scoring events/s": "70,000",
        },
        "rolling_popularity_250": {
            "seeds": "1", "causal": "no", "parameters": "-",
            "training events/s": "5,000,000", "scoring events/s": "400",
        },
    }  # fmt: skip
    for line in differences:
        best, group = line["first"], line["group"]
        title = f"{group}: {best} less each other, 95 % interval over users"
        assert tables[title][line["second"]][line["metric"]] == (
            f"{line['difference']:+.4f} ({line['low']:+.4f} to {line['high']:+.4f})"
        )


def test_cells_of_a_version_without_lists_are_in_the_same_tables(cells):
    """Its file has no such metrics; the others' figures stay."""

    def without_lists(cell):
        metrics = json.loads(json.dumps(cell.values["metrics"]))
        for groups in (metrics, metrics["per_user"]):
            for group, metric in itertools.product(GROUPS, LISTS):
                groups[group].pop(metric, None)
        return cell._replace(values={**cell.values, "metrics": metrics})

    old = [without_lists(cell) for cell in cells]
    tables = tables_of(markdown(comparison_tables(summarize(old), []), HEADER))
    assert not [title for title in tables if "top 20" in title]
    assert summary_json(summarize(old))["next_best"]["all"].keys() == METRICS.keys() - set(LISTS)
    mixed = comparison_tables(summarize([*old[:3], *cells[3:]]), [])
    found = tables_of(markdown(mixed, HEADER))["all: top 20 of all events"]
    assert found["first_best"] == dict.fromkeys(LISTS, "-")
    mean, _ = expected("next_best", "coverage@20", "all", "events")
    assert found["next_best"]["coverage@20"].strip("*") == f"{mean:.4f}"


def test_the_terminal_has_the_same_tables_in_80_columns(rows, differences):
    tables = comparison_tables(rows, differences)
    console = Console(width=80, record=True, file=io.StringIO())
    for table in tables:
        console.print(rich_table(table))
    printed = console.export_text()
    words = [line.split() for line in printed.splitlines()]
    for table in tables:
        assert table.title in printed
        for row in table.rows:
            # Deviations stand on the next line; nothing is cut off or wrapped.
            cells = [cell.split(" ± ") for cell in row]
            place = words.index(" ".join(cell[0] for cell in cells).split())
            deviations = [f"±{cell[1]}" for cell in cells if len(cell) > 1]
            assert not deviations or words[place + 1] == deviations


def test_the_best_of_each_group_is_compared_with_every_other(differences):
    best = {line["group"]: line["first"] for line in differences}
    assert (best["first"], best["next"]) == ("first_best", "next_best")
    for group, metric in itertools.product(GROUPS, ("mrr", "recall@20")):
        means = {model: expected(model, metric, group, "events")[0] for model in MODELS}
        mrr = {model: expected(model, "mrr", group, "events")[0] for model in MODELS}
        assert mrr[best[group]] == max(mrr.values())
        lines = [line for line in differences if (line["group"], line["metric"]) == (group, metric)]
        assert [line["second"] for line in lines] == [m for m in MODELS if m != best[group]]
        for line in lines:
            difference = means[line["first"]] - means[line["second"]]
            assert line["difference"] == pytest.approx(difference)
            assert line["low"] < line["difference"] < line["high"]


def test_a_single_model_has_no_differences(cells):
    assert best_differences(cells[:3]) == []
