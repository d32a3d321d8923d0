"""Flags of `prepare`, made from the fields of its config."""

import dataclasses
import typing
from typing import Any

from absl import flags

from data_pipelines.config import PrepareConfig, choices_of_fields


def define_flags(values: flags.FlagValues) -> None:
    """Defines a flag for each field of `PrepareConfig`.

    Only the program does so: whoever imports `prepare` keeps these names for flags of their own.
    """
    hints = typing.get_type_hints(PrepareConfig, include_extras=True)
    choices = choices_of_fields()
    for field in dataclasses.fields(PrepareConfig):
        name, default = field.name, typing.cast(Any, field.default)
        kind, text = typing.get_args(hints[name])
        kinds = {kind, *typing.get_args(kind)}
        if name in choices:
            flags.DEFINE_enum(name, default, choices[name], text, flag_values=values)
        elif isinstance(default, tuple):
            _define_list(name, default, text, values)
        elif bool in kinds:
            flags.DEFINE_boolean(name, default, text, flag_values=values)
        elif int in kinds:
            flags.DEFINE_integer(name, default, text, flag_values=values)
        elif float in kinds:
            flags.DEFINE_float(name, default, text, flag_values=values)
        else:
            flags.DEFINE_string(name, default, text, flag_values=values)


def config_from_flags(values: flags.FlagValues) -> PrepareConfig:
    """The config that parsed flags describe.

    Raises:
      ValueError: A flag is out of range or does not go with another.
    """
    fields = dataclasses.fields(PrepareConfig)
    given: dict[str, Any] = {field.name: getattr(values, field.name) for field in fields}
    lists = {
        name: tuple(text for texts in value for text in texts)
        for name, value in given.items()
        if isinstance(value, list)
    }
    return PrepareConfig(**{**given, **lists})


def _define_list(name: str, default: tuple[str, ...], text: str, values: flags.FlagValues) -> None:
    """A flag of texts with commas between them, which may come several times and then adds up."""
    parser = flags.ListParser()
    serializer: flags.ArgumentSerializer = flags.ListSerializer(",")
    given = [list(default)] if default else []
    flags.DEFINE_multi(parser, serializer, name, given, text, flag_values=values)
