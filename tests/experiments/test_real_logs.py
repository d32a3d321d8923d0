"""The development logs, if they are available: prepare reproduces their published counts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines.histories.manifest import load_manifest
from data_pipelines.histories.store import open_histories
from hiertcn_jax.baselines.registry import RANKERS
from hiertcn_jax.models import MODELS

ROOT = Path(__file__).parents[2]
LOGS = ROOT.parent / "shared" / "data"

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not LOGS.is_dir(), reason=f"no development logs in {LOGS}"),
]


def command(module, *arguments):
    """Runs a command as a user would; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def prepared(tmp_path_factory, name, file):
    directory = tmp_path_factory.mktemp(name) / "data"
    command(
        "data_pipelines.prepare",
        f"--flagfile=experiments/flagfiles/{name}_prepare.flags",
        f"--input={LOGS / name / file}",
        f"--output_dir={directory}",
    )
    return directory


@pytest.fixture(scope="module")
def retailrocket(tmp_path_factory):
    return prepared(tmp_path_factory, "retailrocket", "interactions.csv.gz")


def test_globo_has_the_published_counts(tmp_path_factory):
    directory = prepared(tmp_path_factory, "globo", "clicks.parquet")
    counts = load_manifest(directory)["counts"]
    assert (counts["users"], counts["events"]) == (13_365, 369_434)
    assert len(open_histories(directory)) == 13_365
    test = counts["splits"]["test"]
    known = {g: 1 - test["unknown_items"][g] / test["events"][g] for g in ("all", "first", "next")}
    assert known == pytest.approx({"all": 0.895, "first": 0.921, "next": 0.882}, abs=5e-4)


def test_retailrocket_trains_evaluates_and_embeds(retailrocket, tmp_path):
    workdir = tmp_path / "run"
    tiny = ("--item_dim=8", "--gru_dim=8", "--tcn_channels=8", "--loss=cross_entropy")
    bucket = ("--steps=3", "--lanes=8", "--events=16", "--sessions=8")
    table = command(
        "experiments.train", f"--data_dir={retailrocket}", f"--workdir={workdir}", *tiny, *bucket
    )
    assert "popularity" in table
    assert "hiertcn" in command("experiments.evaluate", f"--workdir={workdir}", "--split=valid")
    users = tmp_path / "users.parquet"
    assert "945 users" in command("experiments.embed", f"--workdir={workdir}", f"--output={users}")


def test_all_models_are_compared_on_retailrocket(retailrocket, tmp_path):
    models = [*MODELS, *RANKERS]
    settings, workdir = tmp_path / "settings.json", tmp_path / "compared"
    settings.write_text(json.dumps({"memory": {"memory": "world,followers,own"}}))
    tiny = ("--item_dim=8", "--gru_dim=8", "--tcn_channels=8,8", "--attention_dim=8")
    bucket = ("--epochs=2", "--lanes=16", "--events=32", "--sessions=16", "--schedule=constant")
    table = command(
        "experiments.compare",
        f"--data_dir={retailrocket}",
        f"--models={','.join(models)}",
        f"--settings={settings}",
        f"--workdir={workdir}",
        "--parameter_budget=10000",
        "--negatives=uniform:64",
        "--learning_rate=0.01",
        "--slices",
        *tiny,
        *bucket,
    )
    compared = json.loads((workdir / "compare.json").read_text())
    assert list(compared["models"]) == models
    cells = [cell for (cell,) in compared["models"].values()]
    # The manifest's 683 test events, minus the 285 on items that training never saw.
    assert {cell["metrics"]["events"] for cell in cells} == {398}
    assert {cell["metrics"]["events_hash"] for cell in cells} == {compared["events_hash"]}
    for model, (cell,) in compared["models"].items():
        assert model in table
        assert (cell["seed"] == 0) == (model in MODELS)
        if model in MODELS:
            # Memory terms alone have no widths to scale.
            assert cell["parameters"] == pytest.approx(10_000, rel=0.2) or model == "memory"
    recall = {name: c["metrics"]["all"]["recall@20"] for name, (c,) in compared["models"].items()}
    # Shoppers return to what they saw, so rankers that use the history beat popularity.
    assert recall["item_knn"] > 5 * recall["popularity"]
    # For all, first and next events, the best against every other, by two metrics.
    assert len(compared["differences"]) == 3 * 2 * (len(models) - 1)
    slices = json.loads((workdir / "test_slices.json").read_text())
    assert list(slices["models"]) == models and slices["events_hash"] == compared["events_hash"]
    # One of the five slices has a single bin, and so no plot.
    assert len(list(workdir.glob("test_slices_*.png"))) == 4
