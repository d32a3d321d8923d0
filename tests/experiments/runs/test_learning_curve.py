"""The learning curve of a run: what is drawn, and why it is not."""

import json
import shutil

import pytest
from matplotlib.figure import Figure

from experiments.runs import learning_curve
from experiments.runs.learning_curve import FILE, draw_learning_curve

LINES = (
    {"step": 5, "kind": "train", "loss": 7.0},
    {"step": 10, "kind": "train", "loss": None},
    {"step": 10, "kind": "valid", "all/mrr": 0.1, "all/mrp": 0.6},
    {"step": 15, "kind": "train", "loss": 6.0},
    {"step": 20, "kind": "valid", "all/mrr": 0.3, "all/mrp": 0.4},
    {"step": 30, "kind": "valid", "all/mrr": 0.2, "all/mrp": 0.5},
)


def write_lines(workdir, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (workdir / "metrics.jsonl").write_text(text)


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, instead of files."""
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: drawn.append(figure))
    return drawn


@pytest.mark.parametrize(("name", "lower", "best"), [("mrr", False, 0.3), ("mrp", True, 0.4)])
def test_loss_and_monitored_metric_with_its_best(tmp_path, figures, name, lower, best):
    write_lines(tmp_path, LINES)
    assert draw_learning_curve(tmp_path, f"all/{name}", lower) is None
    (figure,) = figures
    above, below = figure.axes
    # A line whose steps were all skipped has no loss.
    assert above.lines[0].get_xydata().tolist() == [[5, 7.0], [15, 6.0]]
    values = [[line["step"], line[f"all/{name}"]] for line in LINES if line["kind"] == "valid"]
    assert below.lines[0].get_xydata().tolist() == values
    assert below.lines[1].get_xydata().tolist() == [[20, best]]
    assert (above.get_ylabel(), below.get_ylabel()) == ("training loss", f"all/{name} on valid")


def test_a_run_without_validation_has_one_panel(tmp_path, figures):
    write_lines(tmp_path, LINES[:2])
    assert draw_learning_curve(tmp_path, "all/mrr", False) is None
    assert len(figures[0].axes) == 1


def test_a_trained_run_has_a_picture(whole, tmp_path):
    assert (whole / FILE).read_bytes().startswith(b"\x89PNG")
    shutil.copy(whole / "metrics.jsonl", tmp_path)
    # Nothing is left beside it.
    assert draw_learning_curve(tmp_path, "all/mrr", False) is None
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", FILE}


def test_why_there_is_no_picture(tmp_path, monkeypatch):
    write_lines(tmp_path, [])
    why = draw_learning_curve(tmp_path, "all/mrr", False)
    assert why == f"{FILE}: not drawn, because no step has reported a loss yet"
    (tmp_path / "metrics.jsonl").unlink()
    why = draw_learning_curve(tmp_path, "all/mrr", False)
    assert why == f"{FILE}: not drawn: No such file or directory"
    monkeypatch.setattr(learning_curve.importlib.util, "find_spec", lambda name: None)
    why = draw_learning_curve(tmp_path, "all/mrr", False)
    assert why.endswith("needs matplotlib: pip install 'hiertcn_jax[plots]'")
    assert list(tmp_path.iterdir()) == []
