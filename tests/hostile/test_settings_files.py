"""--settings of a comparison: JSON of flags and arguments by model, good, bad and damaged."""

import json
from random import Random

from absl import flags
from absl.testing import flagsaver

from data_pipelines.commands.command import one_line
from data_pipelines.commands.flagfiles import expand_flagfiles
from experiments import compare
from tests.hostile.damage import damaged
from tests.hostile.outcomes import Outcomes
from tests.volume import few

KINDS = {
    "JSON": r"flag --settings=/.+: (no such file; check the path|not readable as JSON: .+)",
    "form": r"flag --settings=/.+: expected \{model: \{flag: value\}\}",
    "model": r"models=.*: must be one of .+",
    "name": r"models=.*: must be at most 100 letters, digits, _ or -",
    "argument": r"\w+: .*: no such argument of \w+: .+",
    "value": r"\w+: (flag --)?.*=.*: (must|expected|not|there is|\w+ has no).+",
    "together": r"\w+: \w+=.*: a batch has some rows of the table.*",
}
GOOD = {
    "hiertcn": {
        "dropout": [0, 0.5],
        "tcn_channels": [[8], [8, 16], "8,16"],
        "negatives": [["uniform:3"], "uniform:3,in_batch:2"],
        "pooling": ["max"],
        "residual": [True, False],
        "epochs": [3],
    },
    "sasrec": {"attention_dim": [8], "attention_heads": [2], "temperature": [1, 2.5]},
    "item_knn": {"neighbours": [5], "balance": [0, 1, 0.5], "remind": [True]},
    "stan": {"neighbours": [7]},
    "popularity": {},
}
BAD = {
    "value": [
        ("hiertcn", "dropout", 2), ("hiertcn", "dropout", "0.1"), ("hiertcn", "dropout", None),
        ("hiertcn", "epochs", 1.5), ("hiertcn", "epochs", True), ("hiertcn", "epochs", 10**20),
        ("hiertcn", "pooling", ["mean"]), ("hiertcn", "tcn_channels", 8), ("hiertcn", "model", "x"),
        ("hiertcn", "tcn_channels", [8.5]), ("hiertcn", "tcn_channels", {"a": 1}),
        ("hiertcn", "negatives", ["uniform"]), ("hiertcn", "negatives", [["uniform", 3]]),
        ("hiertcn", "no_such_flag", 1), ("hiertcn", "__class__", 1), ("hiertcn", "workdir", "/"),
        ("sasrec", "gap_decay_hours", 1),
        ("item_knn", "neighbours", "5"), ("item_knn", "balance", 7), ("item_knn", "remind", 1),
        ("hiertcn", "seed", 5), ("hiertcn", "fit_on", "train_valid"), ("sasrec", "eval_lanes", 8),
        ("item_knn", "ranker", "stan"), ("mine", "model", 3), ("mine", "ranker", "hiertcn"),
        ("item_knn", "neighbours", None), ("item_knn", "neighbours", [5]),
    ],
    "argument": [("item_knn", "rows", 3), ("popularity", "self", 1), ("stan", "", 1)],
    "model": [("HierTCN", "dropout", 0.1), ("", "x", 1), ("__init__", "x", 1), ("mine", "x", 1)],
    "name": [("../x", "ranker", "stan"), ("a b", "model", "hiertcn"), ("", "ranker", "stan")],
    "together": [("hiertcn", "item_mode", "rows")],
}  # fmt: skip


def written(rng):
    """Settings, and the kind of what is wrong with them, if anything."""
    settings = {
        model: {name: rng.choice(values) for name, values in flag.items() if rng.random() < 0.4}
        for model, flag in GOOD.items()
        if rng.random() < 0.5
    }
    if rng.random() < 0.5:
        return settings, None
    if rng.random() < 0.2:
        return rng.choice(([settings], 3, None, {"hiertcn": [1]}, {"hiertcn": None})), "form"
    kind = rng.choice(sorted(BAD))
    model, name, value = rng.choice(BAD[kind])
    return settings | {model: {name: value}}, kind


def test_settings_are_read_or_refused(tmp_path):
    outcomes, inputs = Outcomes(KINDS), few(150, of=600)
    path = tmp_path / "settings.json"
    with flagsaver.flagsaver():
        compare.define_flags()
        command = ["compare", "--data_dir=D", "--workdir=W", "--models=hiertcn,popularity"]
        command += ["--loss=cross_entropy", f"--settings={path}"]
        flags.FLAGS(expand_flagfiles(command))
        for seed in range(inputs):
            rng = Random(seed)
            settings, wrong = written(rng)
            data = json.dumps(settings).encode()
            if is_damaged := rng.random() < 0.4:
                data = damaged(rng, data)
            path.write_bytes(data)
            try:
                got = compare.read_settings().settings
            except (flags.Error, ValueError) as error:
                kind = outcomes.refused(ValueError(one_line(str(error))))
                assert is_damaged or kind == wrong, (seed, wrong, error)
            else:
                assert is_damaged or wrong is None, (seed, wrong, settings)
                assert got == json.loads(data), seed
                outcomes.right()
    outcomes.require(inputs, least=5)
