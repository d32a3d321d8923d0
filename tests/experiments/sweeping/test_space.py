"""Search spaces: what a file may contain, and what is drawn from it."""

import json

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from experiments.sweeping.space import read_space
from experiments.sweeping.study import SAMPLERS, SeededByTrial

SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "epochs": {"low": 4, "high": 12, "step": 4},
    "lanes": {"low": 1, "high": 64, "log": True},
    "dropout": {"low": 0, "high": 0.5},
    "gap_decay": {"choices": ["none", "fixed", "learned"]},
    "pooling": {"choices": ["mean", "max"], "when": {"gap_decay": "none"}},
    "gap_decay_hours": {"low": 1.0, "high": 9.0, "when": {"gap_decay": ["fixed", "learned"]}},
    "item_bias": {"choices": [True, False], "when": {"gap_decay": "none", "pooling": "max"}},
}


def space_of(tmp_path, values):
    path = tmp_path / "space.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return read_space(path)


def draws(space, kind="random", seed=0, count=60):
    """The drawn flags of trials; each gets a value, so that TPE has something to learn from."""
    study = optuna.create_study(sampler=SeededByTrial(kind, seed), direction="maximize")
    drawn = []
    for _ in range(count):
        trial = study.ask()
        drawn.append(space.suggest(trial))
        study.tell(trial, drawn[-1]["learning_rate"])
    return drawn


def test_each_kind_of_entry_becomes_its_distribution(tmp_path):
    space = space_of(tmp_path, SPACE)
    assert {d.name: d.distribution for d in space.dimensions} == {
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "epochs": IntDistribution(4, 12, step=4),
        "lanes": IntDistribution(1, 64, log=True),
        "dropout": FloatDistribution(0, 0.5),
        "gap_decay": CategoricalDistribution(["none", "fixed", "learned"]),
        "pooling": CategoricalDistribution(["mean", "max"]),
        "gap_decay_hours": FloatDistribution(1, 9),
        "item_bias": CategoricalDistribution([True, False]),
    }
    assert space.values == SPACE


@pytest.mark.parametrize("kind", SAMPLERS)
def test_draws_are_in_the_space_and_meet_its_conditions(tmp_path, kind):
    drawn = draws(space_of(tmp_path, SPACE), kind)
    always = {"learning_rate", "epochs", "lanes", "dropout", "gap_decay"}
    for flags in drawn:
        expected = set(always)
        if flags["gap_decay"] == "none":
            expected.add("pooling")
            if flags["pooling"] == "max":
                expected.add("item_bias")
        else:
            expected.add("gap_decay_hours")
        assert set(flags) == expected
        assert 1e-4 <= flags["learning_rate"] <= 1e-1
        assert flags["epochs"] in (4, 8, 12)
        assert isinstance(flags["lanes"], int)
        assert 1 <= flags["lanes"] <= 64
    kinds = {(f["gap_decay"], f.get("pooling"), f.get("item_bias")) for f in drawn}
    if kind == "random":
        assert len(kinds) == 5


@pytest.mark.parametrize("kind", SAMPLERS)
def test_draws_depend_only_on_seed_number_and_earlier_trials(tmp_path, kind):
    space = space_of(tmp_path, SPACE)
    assert draws(space, kind, count=12) == draws(space, kind, count=12)
    assert draws(space, kind, count=1) != draws(space, kind, seed=1, count=1)
    # Two workers with the same seed draw different trials.
    first = draws(space, kind, count=12)
    assert len({flags["learning_rate"] for flags in first}) == 12


def test_tpe_goes_where_values_are_high(tmp_path):
    space = space_of(tmp_path, {"learning_rate": {"low": 0.0, "high": 1.0}})
    late = [flags["learning_rate"] for flags in draws(space, "tpe", count=40)[20:]]
    assert sum(late) / len(late) > 0.8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{", "not readable as JSON"),
        ("", "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON: maximum recursion depth"),
        ('{"a": {"low": 1, "low": 2, "high": 3}}', "the key 'low' occurs twice"),
        ([1], "expected {flag: what it may be}"),
        ({}, "with one or more flags"),
        ({"a": 3}, "a: 3: expected low and high, or choices"),
        ({"a": {"low": 1}}, "a: high is missing"),
        ({"a": {}}, "a: low is missing"),
        ({"a": {"low": "x", "high": 2}}, 'a: low="x": expected a number'),
        ({"a": {"low": True, "high": 2}}, "a: low=true: expected a number"),
        ({"a": {"distribution": "normal"}}, "a: distribution: must be one of high, log, low, step"),
        ({"a": {"low": float("nan"), "high": 2}}, "a: low=nan: must be <= high=2"),
        ({"a": {"low": 0.5, "high": 10**400}}, "a: int too large to convert to float"),
        ({"a": {"low": 1, "high": 4, "step": 2}}, "a: high=4: steps of 2 from low=1 end at 3"),
        ({"a": {"low": 0, "high": 0.5, "step": 0.2}}, r"high=0\.5: steps of 0\.2 .* end at 0\.4"),
        ({"a": {"low": 3, "high": 2}}, "a: low=3: must be <= high=2"),
        ({"a": {"low": 0, "high": 2, "log": True}}, "a: low=0: must be > 0 with log"),
        ({"a": {"low": 1, "high": 2, "log": 1}}, "a: log=1: expected true or false"),
        ({"a": {"low": 1, "high": 2, "step": 0}}, "a: step=0: must be > 0"),
        (
            {"a": {"low": 1, "high": 2, "step": 1, "log": True}},
            "a: step=1: cannot be combined with log",
        ),
        ({"a": {"low": 1, "high": 2, "steps": 1}}, "a: steps: must be one of high, log, low, step"),
        ({"a": {"choices": [1], "low": 1}}, "a: low: must be one of choices, when"),
        ({"a": {"choices": []}}, r"a: choices=\[\]: expected a list of one or more"),
        ({"a": {"choices": "xy"}}, 'a: choices="xy": expected a list'),
        ({"a": {"choices": [[1, 2]]}}, r"a: choices=\[1, 2\]: expected text, a number"),
        ({"a": {"choices": ["x", "x"]}}, "a: choices=.*: one occurs twice"),
        ({"a": {"low": 1, "high": 2, "when": 3}}, "a: when=3: expected"),
        ({"a": {"low": 1, "high": 2, "when": {"b": 1}}}, "a: when=b: no such flag with choices"),
        (
            {"b": {"choices": [1]}, "a": {"low": 1, "high": 2, "when": {"b": [1, 2]}}},
            "a: when=b: it is never 2",
        ),
        (
            {"b": {"choices": [1]}, "a": {"low": 1, "high": 2, "when": {"b": []}}},
            "a: when=b: expected a choice, or a list of one or more",
        ),
    ],
)
def test_an_entry_that_makes_no_sense_is_named(tmp_path, values, message):
    with pytest.raises(ValueError, match=message) as raised:
        space_of(tmp_path, values)
    assert str(tmp_path / "space.json") in str(raised.value)


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"flag --space=.*nowhere\.json: no such file"):
        read_space(tmp_path / "nowhere.json")
    with pytest.raises(ValueError, match=rf"flag --space={tmp_path}: is a directory"):
        read_space(tmp_path)
