"""Makes flags from the fields of settings, and settings from flags, for all commands."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from absl import flags

from hiertcn_jax.settings import Field, Settings, fields_of

SettingsT = TypeVar("SettingsT", bound=Settings)


class _Number(flags.ArgumentParser):
    """A parser whose error says what it expected.

    Args:
      kind: Type of the number.
      expected: What a value has to be, in words.
      words: Words that may stand in place of a number.
    """

    def __init__(self, kind: type, expected: str, words: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._kind, self._expected, self._words = kind, expected, words

    def parse(self, argument: Any) -> Any:
        """The number, or the word.

        Raises:
          ValueError: The text is neither.
        """
        if argument in self._words:
            return argument
        try:
            return self._kind(argument)
        except (ValueError, TypeError):
            raise ValueError(f"expected {self._expected}") from None


_PARSERS: dict[type, flags.ArgumentParser] = {
    int: _Number(int, "a whole number"),
    float: _Number(float, "a number"),
    str: flags.ArgumentParser(),
}


def define_flags(fields: Iterable[Field], values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag for each field; `--helpfull` lists them by the module of their class."""
    for field in fields:
        flags.DEFINE_flag(_flag_of(field), values, field.owner.__module__)


def read_settings(kind: type[SettingsT], values: flags.FlagValues = flags.FLAGS) -> SettingsT:
    """The settings that the parsed flags give.

    Raises:
      flags.IllegalFlagValueError: A value is out of range, or contradicts another.
    """
    return flagged(kind, read_fields(fields_of(kind), values))


def read_fields(fields: Iterable[Field], values: flags.FlagValues = flags.FLAGS) -> dict[str, Any]:
    """The parsed flags of these fields, by the names of the fields, without checks.

    Raises:
      flags.IllegalFlagValueError: An item of a list cannot be read.
    """
    return {field.name: _read(field, values[field.flag].value) for field in fields}


def flagged(kind: type[SettingsT], given: Mapping[str, Any]) -> SettingsT:
    """Builds settings from values; an error names the flag.

    Raises:
      flags.IllegalFlagValueError: A value is out of range, or contradicts another.
    """
    try:
        return kind(**given)
    except ValueError as error:
        field, _, rest = str(error).partition("=")
        names = {field.name: field.flag for field in fields_of(kind)}
        raise flags.IllegalFlagValueError(f"flag --{names.get(field, field)}={rest}") from error


def flag_lines(settings: Settings) -> list[str]:
    """Lines of a flagfile that give every field its value; a field that is None gets no line."""
    lines = []
    for field in fields_of(type(settings)):
        flag, value = _flag_of(field), getattr(settings, field.name)
        if isinstance(value, tuple):
            value = [field.item_text(item) for item in value]
            value = [value] if value and field.setting.adds_up else value
        flag.value = value
        if value is not None and flag.serialize():
            lines.append(flag.serialize())
    return lines


def _flag_of(field: Field) -> flags.Flag:
    name, default, text = field.flag, field.default, field.setting.help
    if field.kind.item is not None:
        default = [field.item_text(item) for item in default]
        words, serializer = flags.ListParser(), flags.CsvListSerializer(",")
        if not field.setting.adds_up:
            return flags.Flag(words, serializer, name, default, text)
        return flags.MultiFlag(words, serializer, name, [default] if default else [], text)
    if field.choices:
        return flags.EnumFlag(name, default, text, field.choices)
    if field.kind.type is bool:
        return flags.BooleanFlag(name, default, text)
    parser = _PARSERS[field.kind.type]
    if field.words:
        parser = _Number(field.kind.type, field.expected, field.words)
    return flags.Flag(parser, flags.ArgumentSerializer(), name, default, text)


def _read(field: Field, value: Any) -> Any:
    if field.kind.item is None:
        return value
    if field.setting.adds_up:
        value = [text for texts in value for text in texts]
    try:
        return field.from_typed(value)
    except ValueError as error:
        _, _, rest = str(error).partition("=")
        raise flags.IllegalFlagValueError(f"flag --{field.flag}={rest}") from error
