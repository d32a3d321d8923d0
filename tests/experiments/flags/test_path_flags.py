"""Which flags of all commands are paths, in which `~` is the home directory."""

import importlib
import re

import pytest
from absl import flags
from absl.testing import flagsaver

from data_pipelines.commands import settings_flags
from data_pipelines.config import PrepareConfig
from data_pipelines.local_paths import PATH_FLAGS, expand_paths_of_flags
from experiments.__main__ import COMMANDS
from experiments.flags.continuing_flags import define_continuing_flags
from experiments.flags.run_flags import define_train_flags
from hiertcn_jax.settings import fields_of

_SAYS_SO = re.compile(
    r"(JSON |Log )?(file|files|directory)\b|prepared directory|file of|database url"
    r"|only write the trials",
    re.IGNORECASE,
)
"""How the help of a flag begins that names a file or a directory."""


def prepare_flags():
    settings_flags.define_flags(fields_of(PrepareConfig))


def train_flags():
    define_train_flags()
    define_continuing_flags()


def flags_of(command):
    """The function that defines a command's flags."""
    module = importlib.import_module(COMMANDS[command])
    special = {"prepare": prepare_flags, "train": train_flags, "doctor": lambda: None}
    return special.get(command) or module.define_flags


def texts_of(define):
    """The flags of a command whose values are text, and their help."""
    with flagsaver.flagsaver():
        others = set(flags.FLAGS)
        define()
        own = [flags.FLAGS[name] for name in set(flags.FLAGS) - others]
        words = (flags.EnumFlag, flags.BooleanFlag)
        return {flag.name: flag.help for flag in own if not isinstance(flag, words)}


def test_path_flags_are_those_whose_help_says_so():
    """A flag that is missing in the list would make a directory named `~`."""
    texts = {}
    for command in COMMANDS:
        texts |= texts_of(flags_of(command))
    said = {name for name, text in texts.items() if _SAYS_SO.match(text)}
    # The help of these says something else in another command.
    assert said | {"events", "item_embedding_ids"} == PATH_FLAGS
    assert {"item_dim", "models", "study"} <= texts.keys() - PATH_FLAGS


@pytest.mark.parametrize(
    "name", ["null_values", "columns", "drop_where", "time_format", "user_column", "separator"]
)
def test_a_tilde_that_is_no_path_stays(name):
    with flagsaver.flagsaver():
        prepare_flags()
        flags.FLAGS(["prepare", "--input=~/a.csv", "--output_dir=D", f"--{name}=~"])
        expand_paths_of_flags(flags.FLAGS)
        assert "~" in str(flags.FLAGS[name].value)
        assert "~" not in str(flags.FLAGS["input"].value)
