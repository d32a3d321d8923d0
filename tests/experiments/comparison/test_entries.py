"""Names in a comparison: models, named variants, and settings that no variant may change."""

import json

import pytest

from experiments.comparison.entries import (
    Entry,
    check_entries,
    entry_config,
    entry_of,
    read_settings_files,
)
from experiments.flags.own_settings import SHARED_FLAGS, override_own
from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig, TrainConfig
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models.hiertcn import HierTCNConfig
from hiertcn_jax.settings import fields_of

RUN = RunConfig(HierTCNConfig(), LossConfig(), OptimizerConfig(), TrainConfig(), EvalConfig())

VARIANTS = {
    "stan": {"neighbours": 7},
    "stan_causal": {"ranker": "stan", "causal": True},
    "hiertcn-nogap": {"model": "hiertcn", "gap_decay": "none", "dropout": 0.5},
}


def refusal(names=("popularity",), settings=None, seeds=(0,), budget=0):
    with pytest.raises(ValueError) as caught:
        check_entries(RUN, names, seeds, settings or {}, budget)
    return str(caught.value)


def test_a_variant_is_its_model_with_settings_of_its_own_alone():
    assert entry_of("stan", VARIANTS) == Entry("stan", {"neighbours": 7})
    assert entry_of("stan_causal", VARIANTS) == Entry("stan", {"causal": True})
    entry = entry_of("hiertcn-nogap", VARIANTS)
    assert entry == Entry("hiertcn", {"gap_decay": "none", "dropout": 0.5})
    assert entry_of("sasrec", VARIANTS) == Entry("sasrec", {})
    check_entries(RUN, ["stan", *VARIANTS][1:], [0, 1], VARIANTS, 0)
    run = entry_config(RUN, entry, 0, seed=3)
    assert (run.model.name, run.model.dropout, run.train.seed) == ("hiertcn", 0.5, 3)


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("a/b", {"ranker": "stan"}, "models=a/b: must be at most 100 letters"),
        ("..", {"ranker": "stan"}, r"models=..: must be at most 100 letters"),
        ("", {"ranker": "stan"}, "models=: must be at most 100 letters"),
        ("x" * 101, {"ranker": "stan"}, "must be at most 100 letters"),
        ("x", {"causal": True}, "models=x: must be one of hiertcn, .*, markov, or a variant"),
        ("x", {"ranker": "hiertcn"}, 'x: ranker="hiertcn": must be one of popularity'),
        ("x", {"model": "stan"}, 'x: model="stan": must be one of hiertcn'),
        ("x", {"model": ["stan"]}, r'x: model=\["stan"\]: must be one of hiertcn'),
        ("x", {"model": "hiertcn", "ranker": "stan"}, "x: model and ranker: must be one of them"),
        ("x", {"model": "hiertcn", "dropout": 2}, "x: dropout=2"),
        ("x", {"ranker": "stan", "neighbors": 2}, "x: neighbors: no such argument of stan"),
        ("max_item", {"item_vectors_vd": "E.npy"}, "max_item: item_vectors_vd: no such argument"),
        ("stan", {"ranker": "vsknn"}, 'stan: ranker="vsknn": must not be changed'),
        ("hiertcn", {"model": "gru_user"}, 'hiertcn: model="gru_user": must not be changed'),
    ],
)
def test_a_variant_that_makes_no_sense_is_named(name, entry, message):
    with pytest.raises(ValueError, match=message):
        check_entries(RUN, ["popularity"], [0], {name: entry}, 0)


def test_common_settings_are_refused_for_one_model():
    values = {
        field.flag: getattr(config, field.name)
        for config in RUN.configs
        for field in fields_of(type(config))
    }
    shared = {
        "model", "seed", "fit_on", "monitor", "eval_every_epochs", "mask_seen", "eval_lanes",
        "eval_events", "eval_sessions", "rank_events", "rank_chunk", "item_embeddings",
        "item_embedding_ids", "embedding_cache_mb", "data_parallelism", "model_parallelism",
    }  # fmt: skip
    assert shared == SHARED_FLAGS & set(values)
    for name, value in values.items():
        if name in shared:
            # Even the value that all have: it would differ once the command's value changes.
            with pytest.raises(ValueError, match=f"{name}={value}: must be equal for all"):
                override_own(RUN, {name: value})
        else:
            typed = [f"{n[0]}:{n[1]}" for n in value] if name == "negatives" else value
            assert override_own(RUN, {name: typed}) == RUN
    for name in ("data_dir", "workdir", "split", "parameter_budget"):
        with pytest.raises(ValueError, match=f"{name}=x: must be equal for all"):
            override_own(RUN, {name: "x"})
    settings = {"hiertcn": {"fit_on": "train_valid"}}
    assert refusal(settings=settings).startswith("hiertcn: fit_on=train_valid: must be equal")
    variant = {"x": {"model": "hiertcn", "seed": 5}}
    assert refusal(settings=variant).startswith("x: seed=5: must be equal")


def test_unknown_missing_and_repeated_names_are_refused_before_anything_runs():
    assert refusal(["popularty"]).startswith("models=popularty: must be one of hiertcn")
    assert refusal([]) == "flag --models=: must be one or more"
    assert refusal(seeds=[]) == "flag --seeds=: must be one or more"
    assert refusal(["stan", "markov", "stan"]) == "flag --models: stan occurs twice"
    assert refusal(seeds=[0, 1, 0]) == "flag --seeds: 0 occurs twice"


def test_settings_of_several_files_are_one_and_no_model_is_in_two(tmp_path):
    paths = []
    for name, values in (("a", {"item_knn": {"shrinkage": 3}}), ("b", {"hiertcn": {}})):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(values))
        paths.append(str(path))
    assert read_settings_files(paths) == {"item_knn": {"shrinkage": 3}, "hiertcn": {}}
    assert read_settings_files([]) == {}
    with pytest.raises(ValueError, match=r"a\.json: item_knn is set by an earlier file"):
        read_settings_files([*paths, paths[0]])
    (tmp_path / "a.json").write_text('{"item_knn": 3}')
    with pytest.raises(ValueError, match=r"a\.json: expected \{model"):
        read_settings_files(paths)
