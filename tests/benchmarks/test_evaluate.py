"""The evaluation benchmark on a tiny log."""

import json

from benchmarks.evaluate import Settings, main
from data_pipelines.histories.record import Split
from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig, TrainConfig
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models.hiertcn import HierTCNConfig
from tests.experiments.conftest import prepared

MODEL = HierTCNConfig(item_dim=4, gru_dim=4, tcn_channels=(4,))
EVALUATION = EvalConfig(lanes=4, events=16, sessions=8, rank_events=8)
RUN = RunConfig(MODEL, LossConfig(), OptimizerConfig(), TrainConfig(), EVALUATION)


def test_every_figure_of_an_evaluation(tmp_path):
    data = prepared(tmp_path / "data", users=12)
    main(Settings(RUN, tmp_path / "data", Split.VALID, 2, str(tmp_path / "evaluate.json")))
    report = json.loads((tmp_path / "evaluate.json").read_text())
    assert list(report) == ["machine", "commit", "cases"]
    assert report["machine"]["data_hash"] == data.content_hash
    figures = report["cases"]["hiertcn_valid"]
    assert figures["seconds_lowest"] <= figures["seconds"] <= figures["seconds_highest"]
    assert figures["first_s"] > 0 and figures["scored_events_per_s"] > 0
    splits = data.manifest["counts"]["splits"]
    valid, train = splits["valid"], splits["train"]
    scored = valid["events"]["all"] - valid["unknown_items"]["all"]
    assert figures["scored_events"] == scored
    # Every user of this log has sessions of every part; those of test come after valid.
    assert figures["read_events"] == train["events"]["all"] + valid["events"]["all"]
    assert figures["catalogue_items"] == data.manifest["counts"]["items"]
