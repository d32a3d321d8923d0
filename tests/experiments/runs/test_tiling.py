import types

import pytest

from experiments import train
from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig, TrainConfig
from experiments.runs.tiling import tiling_warning
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models import model_config


def run_of(lanes=128, **model):
    configs = (LossConfig(), OptimizerConfig(), TrainConfig(lanes=lanes), EvalConfig())
    return RunConfig(model_config(**model), *configs)


def test_full_tiles_give_no_warning():
    assert tiling_warning(run_of(), "tpu") is None
    assert tiling_warning(run_of(lanes=8, tcn_channels=(256, 128)), "tpu") is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lanes": 100}, "lanes=100 to a multiple of 8"),
        ({"lanes": 24, "dtype": "bfloat16"}, "lanes=24 to a multiple of 16"),
        ({"item_dim": 100}, "item_dim=100 to multiples of 128"),
        ({"projection_dim": 64}, "projection_dim=64 to multiples of 128"),
        ({"tcn_channels": (128, 96)}, "tcn_channels=128,96 to multiples of 128"),
        (
            {"lanes": 9, "gru_dim": 200},
            "lanes=9 to a multiple of 8; gru_dim=200 to multiples of 128",
        ),
        ({"name": "sasrec", "attention_dim": 64}, "attention_dim=64 to multiples of 128"),
    ],
)
def test_every_uneven_flag_is_named_in_one_line(settings, said):
    run = run_of(**settings)
    assert tiling_warning(run, "tpu") == f"warning: a TPU fills up {said}"
    assert tiling_warning(run, "gpu") is tiling_warning(run, "cpu") is None


def test_widths_that_the_model_does_not_read_do_not_matter():
    uneven = {"attention_dim": 8, "attention_heads": 1, "tcn_channels": (8,)}
    assert tiling_warning(run_of(name="gru_user", **uneven), "tpu") is None


@pytest.mark.parametrize(("backend", "lines"), [("tpu", 1), ("cpu", 0)])
def test_a_training_run_warns_at_its_start(backend, lines, tmp_path, monkeypatch, capsys):
    class StartedError(Exception):
        pass

    def start(*_):
        raise StartedError

    def resolved(run, data, continued):
        return types.SimpleNamespace(config=run)

    monkeypatch.setattr(train.jax, "default_backend", lambda: backend)
    monkeypatch.setattr(train, "open_data", lambda _: None)
    monkeypatch.setattr(train, "resolve", resolved)
    monkeypatch.setattr(train, "train", start)
    with pytest.raises(StartedError):
        train.main(
            train.Settings(run_of(gru_dim=100), tmp_path, tmp_path / "run", None, False, None)
        )
    said = capsys.readouterr().err.splitlines()
    assert said == ["warning: a TPU fills up gru_dim=100 to multiples of 128"] * lines
