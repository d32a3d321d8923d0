"""Slices: bins by hand on a tiny log, a partition of the events, and the written files."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from data_pipelines.config import PrepareConfig
from data_pipelines.histories.record import History, Split
from data_pipelines.prepare import prepare
from experiments import compare
from experiments.judging import slice_plots
from experiments.judging.collector import ScoredEvents
from experiments.judging.rankers import evaluate_ranker, fitted_histories
from experiments.judging.slice_report import Scoring, report_comparison, report_evaluation
from experiments.judging.slices import cut, deciles_of_events, slice_metrics
from experiments.runs.data import Data, open_data
from hiertcn_jax.baselines.popularity import Popularity

HOUR = 3600
SCORING = Scoring(Split.TEST, "train", "none")


class Listed(list):
    def __getitems__(self, indices):
        return [self[index] for index in indices]


def history(user_id, items, hours, lengths, splits):
    return History(
        user_id,
        np.array(items, np.int32),
        np.array(np.multiply(hours, HOUR), np.int64),
        np.array(lengths, np.int32),
        np.array(splits, np.uint8),
    )


def tiny_data():
    """Items 2 and 3, of 3 and 1 fitted events."""
    histories = Listed(
        [
            history("a", [2, 2, 3, 2], [0, 0, 30, 31], [1, 1, 2], [0, 0, 2]),
            history("b", [2, 2], [5, 6], [2], [2]),
        ]
    )
    counts_v = np.array([0, 0, 3, 1])
    vocabulary = SimpleNamespace(size=4, counts_v=counts_v, valid_counts_v=0 * counts_v)
    return Data(Path("tiny"), histories, vocabulary, {"content_hash": "0"})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "log"
    prepare(PrepareConfig(synthetic="planted", synthetic_users=40, output_dir=str(directory)))
    return open_data(directory)


@pytest.fixture(scope="module")
def evaluation(data):
    ranker = Popularity(data.vocabulary.size)
    ranker.fit(fitted_histories(data, "train"))
    return evaluate_ranker(ranker, data, Split.TEST)


def test_bins_of_a_tiny_log():
    # The test session of a: two events, 30 hours after its second session; all events of b.
    columns = ([0, 0, 1, 1], [2, 2, 0, 0], [0, 1, 0, 1], [2, 3, 0, 1], [3, 2, 2, 2])
    events = ScoredEvents(np.arange(4), *(np.array(column) for column in columns))
    slices = cut(events, tiny_data(), "train")
    labels = {name: [by.labels[place] for place in by.bin_n] for name, by in slices.items()}
    assert labels == {
        "position": ["0", "1", "0", "1"],
        "gap": ["24-72", "24-72", "first session", "first session"],
        "sessions": ["2", "2", "0", "0"],
        # Item 2 has the first 75 % of the events, whose middle is in the fourth tenth; item 3 the
        # rest, whose middle is 87.5 %.
        "popularity": ["9", "4", "4", "4"],
        "user": ["known", "known", "new", "new"],
    }
    values = slice_metrics(slices, np.array([1.0, 4, 50, 2]), events.user_n)
    by_position = values["position"]["bins"]
    assert by_position[0] == {"bin": "0", "events": 2, "users": 2, "recall@20": 0.5, "mrr": 0.51}
    assert by_position[1] == {"bin": "1", "events": 2, "users": 2, "recall@20": 1, "mrr": 0.375}
    assert by_position[2] == {"bin": "2", "events": 0, "users": 0, "recall@20": None, "mrr": None}


def test_deciles_are_tenths_of_the_events():
    # Ten items of equal count share the middle; a row for padding and one for unknown.
    assert set(deciles_of_events(np.array([0, 0] + [7] * 10))[2:]) == {5}
    # 100 events: 60, 30, and ten items of one.
    deciles_v = deciles_of_events(np.array([0, 0, 30, 60] + [1] * 10))
    assert deciles_v.tolist() == [0, 0, 7, 3] + [9] * 10


def test_every_event_is_in_one_bin_of_each_slice(data, evaluation):
    slices = cut(evaluation.events, data, "train")
    values = slice_metrics(slices, evaluation.rank_n, evaluation.events.user_n)
    for name, of_slice in values.items():
        bins = [b for b in of_slice["bins"] if b["events"]]
        events = [b["events"] for b in bins]
        assert sum(events) == evaluation.metrics["events"], name
        for metric in ("recall@20", "mrr"):
            mean = np.average([b[metric] for b in bins], weights=events)
            assert mean == pytest.approx(evaluation.metrics["all"][metric]), (name, metric)
    first, *rest = values["position"]["bins"]
    assert first["mrr"] == pytest.approx(evaluation.metrics["first"]["mrr"])
    assert sum(b["events"] for b in rest) == evaluation.metrics["next"]["events"]


def test_a_comparison_has_the_slices_of_each_evaluation(data, evaluation, tmp_path):
    alone, compared = tmp_path / "alone", tmp_path / "compared"
    alone.mkdir()
    report_evaluation(evaluation, data, "popularity", SCORING, alone)
    comparison = compare.Comparison(None, data, Split.TEST, compared, 0, {})
    run = SimpleNamespace(
        train=SimpleNamespace(fit_on="train"), evaluation=SimpleNamespace(mask_seen="none")
    )
    cells = [
        cell
        for model in ("popularity", "repeat_last")
        for cell in compare.run_cells(comparison._replace(run=run), model, [0])
    ]
    report_comparison(cells, data, SCORING, compared)
    one, both = (json.loads((d / "test_slices.json").read_text()) for d in (alone, compared))
    assert both["mask_seen"] == one["mask_seen"] == "none"
    assert both["events_hash"] == one["events_hash"] == evaluation.metrics["events_hash"]
    assert both["models"]["popularity"] == one["models"]["popularity"]
    assert both["models"]["repeat_last"] != both["models"]["popularity"]
    for directory in (alone, compared):
        names = {path.name for path in directory.glob("*.png")}
        assert names == {
            f"test_slices_{name}.png"
            for name, of_slice in one["models"]["popularity"][0]["slices"].items()
            if sum(b["events"] > 0 for b in of_slice["bins"]) > 1
        }
        assert len(names) >= 3


def test_models_look_different_and_equal_values_are_drawn_side_by_side(tmp_path, monkeypatch):
    looks = {tuple(sorted(slice_plots.line_of(number).items())) for number in range(130)}
    assert len(looks) == 130
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: figures.append(figure))
    bins = [{"bin": name, "events": 9, "users": 3, "recall@20": 0.5, "mrr": 0.1} for name in "0123"]
    models = {f"model {n}": [{"position": {"title": "t", "bins": bins}}] for n in range(17)}
    slice_plots.plot_slices(models, tmp_path / "p", "title")
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == [*models]
    for axes in figures[0].axes:
        drawn = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == len(bins)]
        places_mb = np.stack(drawn)
        assert len(places_mb) == 17
        # In every bin each at a place of its own, nearer to its bin than to the next.
        assert (np.diff(np.sort(places_mb, axis=0), axis=0) > 0.02).all()
        assert (np.abs(places_mb - np.arange(len(bins))) <= 0.25).all()


def bins_of(**events):
    metrics = {"recall@20": 0.5, "mrr": 0.1}
    return [{"bin": b, "events": n, "users": n, **metrics} for b, n in events.items()]


def test_a_scale_has_no_holes_and_its_lines_break_where_there_are_no_events(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: figures.append(figure))
    bins = bins_of(a=0, b=2, c=3, d=0, e=1, f=0)
    slices = {"popularity": {"title": "t", "bins": bins}}
    slice_plots.plot_slices({"one": [slices]}, tmp_path / "p", "title")
    axes = figures[0].axes[-1]
    labels = [label.get_text().split("\n")[:2] for label in axes.get_xticklabels()]
    assert labels == [["b", "2 events"], ["c", "3 events"], ["d", "0 events"], ["e", "1 events"]]
    (line, *_) = axes.lines
    assert np.array_equal(line.get_ydata(), [0.1, 0.1, np.nan, 0.1], equal_nan=True)


@pytest.mark.parametrize(
    ("bins", "why"),
    [
        (bins_of(new=0, known=7), "all events have user 'known'"),
        (bins_of(new=0, known=0), "no event is scored"),
    ],
)
def test_a_slice_of_one_bin_has_no_plot(tmp_path, capsys, bins, why):
    """Nor does one of an earlier evaluation stay."""
    (tmp_path / "p_user.png").write_bytes(b"old")
    models = {"one": [{"user": {"title": "t", "bins": bins}}]}
    assert slice_plots.plot_slices(models, tmp_path / "p", "title") == []
    assert capsys.readouterr().out == f"p_user.png: not drawn, because {why}\n"
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_there_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(slice_plots.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--slices: plots need matplotlib: .*\[plots\]"):
        slice_plots.require_matplotlib()
