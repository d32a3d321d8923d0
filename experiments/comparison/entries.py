"""The names in a comparison: models, rankers, and variants of them with names of their own.

Settings by name, as in the JSON files:

    {
      "hiertcn": {"dropout": 0.3},
      "hiertcn_nogap": {"model": "hiertcn", "dropout": 0.3, "gap_decay": "none"},
      "stan_causal": {"ranker": "stan", "causal": true}
    }

A name that is no model's is a variant: `model` or `ranker` says of which. Its entry has all of its
settings; it inherits nothing from the entry of that model.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from data_pipelines.errors import DataError
from data_pipelines.histories.prepared_files import read_json
from experiments.flags.own_settings import override_own
from experiments.judging.rankers import ranker_at
from experiments.runs.config import RunConfig
from hiertcn_jax.baselines.registry import RANKERS
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.memory.levels import FITTED, Level
from hiertcn_jax.models import MODELS
from hiertcn_jax.models.budget import fit_to_budget

SettingsByName = dict[str, dict[str, Any]]
"""For each name the flags of a neural model, or the arguments of a ranker, with their values."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""Names of variants are also names of directories."""


class Entry(NamedTuple):
    """The meaning of a name.

    Attributes:
      model: A key of MODELS or RANKERS.
      own: Its flags or arguments.
    """

    model: str
    own: dict[str, Any]

    @property
    def is_ranker(self) -> bool:
        """Whether it is a ranker, which is deterministic and needs no seed."""
        return self.model in RANKERS


def entry_of(name: str, settings: SettingsByName) -> Entry:
    """Looks up a name.

    Raises:
      ValueError: The name is neither a model's nor a variant's.
    """
    own = settings.get(name, {})
    kinds: dict[str, list[str]] = {"model": [*MODELS], "ranker": [*RANKERS]}
    given = [kind for kind in kinds if kind in own]
    if name in MODELS or name in RANKERS:
        for kind in given:
            raise ValueError(
                f"{name}: {kind}={json.dumps(own[kind])}: must not be changed; a variant has a "
                "name of its own"
            )
        return Entry(name, own)
    if not given:
        known = ", ".join([*MODELS, *RANKERS])
        raise ValueError(
            f"models={name}: must be one of {known}, or a variant that --settings has with its "
            "model or ranker"
        )
    if not _NAME.fullmatch(name):
        raise ValueError(f"models={name}: must be at most 100 letters, digits, _ or -")
    if len(given) > 1:
        raise ValueError(f"{name}: model and ranker: must be one of them")
    kind, rest = given[0], dict(own)
    model = rest.pop(kind)
    if not isinstance(model, str) or model not in kinds[kind]:
        raise ValueError(
            f"{name}: {kind}={json.dumps(model)}: must be one of {', '.join(kinds[kind])}"
        )
    return Entry(model, rest)


def entry_config(base: RunConfig, entry: Entry, parameter_budget: int, seed: int) -> RunConfig:
    """The settings of a neural model with one seed.

    Raises:
      ValueError: A flag is unknown or must be equal for all, a value cannot be used, or the model
        cannot be scaled to the budget.
    """
    run = override_own(base, entry.own, model=entry.model, seed=seed)
    if parameter_budget:
        run = run._replace(model=fit_to_budget(run.model, parameter_budget))
    return run


def check_entries(
    run: RunConfig,
    names: Sequence[str],
    seeds: Sequence[int],
    settings: SettingsByName,
    parameter_budget: int,
    levels: Sequence[Level] = (FITTED,),
) -> None:
    """Checks every cell before anything is trained.

    Raises:
      ValueError: There are no names or seeds, one occurs twice, a name is unknown, a model has no
        such flag or argument, a value cannot be used, or the model cannot be scaled to the budget;
        the message names the model.
    """
    for flag, values in (("models", names), ("seeds", seeds)):
        if not values:
            raise ValueError(f"flag --{flag}=: must be one or more")
        for value in values:
            if list(values).count(value) > 1:
                raise ValueError(f"flag --{flag}: {value} occurs twice")
    entries = {name: entry_of(name, settings) for name in [*names, *settings]}
    for name, entry in entries.items():
        try:
            if entry.is_ranker:
                for level in levels:
                    ranker_at(entry.model, FIRST_ITEM_ID, entry.own, level)
            else:
                for seed in seeds:
                    entry_config(run, entry, parameter_budget, seed)
        except (flags.Error, ValueError) as error:
            raise ValueError(f"{name}: {error}") from error


def read_settings_files(paths: Sequence[str]) -> SettingsByName:
    """Reads settings by name; each name's settings come from one file.

    Raises:
      ValueError: A file cannot be read, or two files set one name.
    """
    by_name: SettingsByName = {}
    for path in paths:
        try:
            values = read_json(Path(path))
        except DataError as error:
            raise ValueError(f"flag --settings={error}") from error
        if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
            raise ValueError(f"flag --settings={path}: expected {{model: {{flag: value}}}}")
        twice = sorted(set(values) & set(by_name))
        if twice:
            raise ValueError(f"flag --settings={path}: {twice[0]} is set by an earlier file too")
        by_name |= values
    return by_name
