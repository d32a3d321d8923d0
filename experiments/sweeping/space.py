"""The search space of a sweep: a JSON file of flags and their possible values.

    {
      "learning_rate": {"low": 1e-3, "high": 1e-2, "log": true},
      "epochs": {"low": 4, "high": 12, "step": 4},
      "tcn_channels": {"choices": ["128,128", "64,64,64"]},
      "gap_decay": {"choices": ["none", "fixed"]},
      "gap_decay_hours": {"low": 1.0, "high": 200.0, "log": true, "when": {"gap_decay": "fixed"}}
    }

`low` and `high` belong to the range. If both are whole numbers, all draws are. `when` makes a flag
conditional: each earlier flag in it must have the given value, or one of a list of values. If the
condition does not hold, the flag keeps the value of the command line. Flags that must be equal for
all trials, such as `fit_on` and `mask_seen`, are refused (experiments.flags.own_settings).
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from data_pipelines.errors import DataError
from data_pipelines.histories.prepared_files import read_json

_RANGE = {"low", "high", "log", "step", "when"}
_CHOICES = {"choices", "when"}


class Dimension(NamedTuple):
    """One flag of a space.

    Attributes:
      name: The flag.
      distribution: Its possible values.
      when: The values that earlier flags must have for it to be drawn.
    """

    name: str
    distribution: BaseDistribution
    when: dict[str, list[Any]]

    def holds(self, drawn: Mapping[str, Any]) -> bool:
        """Whether to draw it, given the flags drawn before it."""
        return all(name in drawn and drawn[name] in values for name, values in self.when.items())

    def probes(self) -> list[Any]:
        """The choices, or both ends of the range: if these are valid, all values are."""
        if isinstance(self.distribution, CategoricalDistribution):
            return list(self.distribution.choices)
        assert isinstance(self.distribution, IntDistribution | FloatDistribution)
        return [self.distribution.low, self.distribution.high]


class Space(NamedTuple):
    """A search space.

    Attributes:
      dimensions: In the file's order.
      values: The file, as JSON values.
    """

    dimensions: tuple[Dimension, ...]
    values: dict[str, Any]

    def suggest(self, trial: Any) -> dict[str, Any]:
        """The drawn flags of an Optuna trial, without those whose condition does not hold."""
        drawn: dict[str, Any] = {}
        for dimension in self.dimensions:
            if dimension.holds(drawn):
                drawn[dimension.name] = _suggest(trial, dimension)
        return drawn


def _suggest(trial: Any, dimension: Dimension) -> Any:
    name, distribution = dimension.name, dimension.distribution
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    suggest = (
        trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    )
    options = {"log": distribution.log, "step": distribution.step}
    return suggest(name, distribution.low, distribution.high, **options)


def read_space(path: Path) -> Space:
    """Reads the space in a JSON file.

    Raises:
      ValueError: It cannot be read, or a flag's entry is invalid; one line that names it.
    """
    try:
        values = read_json(path)
    except DataError as error:
        raise ValueError(f"flag --space={error}") from error
    if not isinstance(values, dict) or not values:
        raise ValueError(
            f"flag --space={path}: expected {{flag: what it may be}} with one or more flags"
        )
    dimensions: list[Dimension] = []
    for name, entry in values.items():
        try:
            dimensions.append(_dimension(name, entry, dimensions))
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"flag --space={path}: {name}: {error}") from error
    return Space(tuple(dimensions), values)


def _dimension(name: str, entry: Any, before: list[Dimension]) -> Dimension:
    if not isinstance(entry, dict):
        raise ValueError(f"{json.dumps(entry)}: expected low and high, or choices")
    allowed = _CHOICES if "choices" in entry else _RANGE
    unknown = sorted(set(entry) - allowed)
    if unknown:
        raise ValueError(f"{unknown[0]}: must be one of {', '.join(sorted(allowed))}")
    distribution = _choices(entry) if "choices" in entry else _range(entry)
    return Dimension(name, distribution, _when(entry.get("when", {}), before))


def _choices(entry: dict[str, Any]) -> BaseDistribution:
    choices = entry["choices"]
    if not isinstance(choices, list) or not choices:
        raise ValueError(f"choices={json.dumps(choices)}: expected a list of one or more")
    for choice in choices:
        if not isinstance(choice, str | int | float):
            raise ValueError(
                f"choices={json.dumps(choice)}: expected text, a number, true or false"
            )
    if len(set(choices)) < len(choices):
        raise ValueError(f"choices={json.dumps(choices)}: one occurs twice")
    return CategoricalDistribution(choices)


def _range(entry: dict[str, Any]) -> BaseDistribution:
    missing = [end for end in ("low", "high") if end not in entry]
    if missing:
        raise ValueError(f"{missing[0]} is missing: expected low and high, or choices")
    for field in ("low", "high", "step"):
        value = entry.get(field, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{field}={json.dumps(value)}: expected a number")
    low, high, step, log = entry["low"], entry["high"], entry.get("step"), entry.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"log={json.dumps(log)}: expected true or false")
    if not low <= high:
        raise ValueError(f"low={low}: must be <= high={high}")
    if step is not None and not step > 0:
        raise ValueError(f"step={step}: must be > 0")
    if log and step is not None:
        raise ValueError(f"step={step}: cannot be combined with log")
    if log and low <= 0:
        raise ValueError(f"low={low}: must be > 0 with log")
    whole = all(isinstance(value, int) for value in (low, high, step or 0))
    with warnings.catch_warnings():
        # Optuna would lower a high that the steps do not hit; such a high is refused here.
        warnings.filterwarnings("ignore", "The distribution is specified by")
        found: IntDistribution | FloatDistribution = (
            IntDistribution(low, high, log=log, step=step or 1)
            if whole
            else FloatDistribution(low, high, log=log, step=step)
        )
    if found.high != high:
        raise ValueError(f"high={high}: steps of {step} from low={low} end at {found.high}")
    return found


def _when(when: Any, before: list[Dimension]) -> dict[str, list[Any]]:
    if not isinstance(when, dict):
        raise ValueError(f"when={json.dumps(when)}: expected {{flag: choice or list of choices}}")
    choices = {
        dimension.name: dimension.distribution.choices
        for dimension in before
        if isinstance(dimension.distribution, CategoricalDistribution)
    }
    conditions = {}
    for name, wanted in when.items():
        if name not in choices:
            raise ValueError(f"when={name}: no such flag with choices comes before it")
        conditions[name] = wanted if isinstance(wanted, list) else [wanted]
        if not conditions[name]:
            raise ValueError(f"when={name}: expected a choice, or a list of one or more")
        for value in conditions[name]:
            if value not in choices[name]:
                raise ValueError(f"when={name}: it is never {json.dumps(value)}")
    return conditions
