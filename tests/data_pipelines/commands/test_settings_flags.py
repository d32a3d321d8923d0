"""Flags from settings and back: for any values, a flagfile of them gives the same values."""

import pytest
from absl import flags
from hypothesis import given

from data_pipelines.commands.settings_flags import define_flags, flag_lines, read_settings
from hiertcn_jax.settings import fields_of
from tests.test_settings import EVERY, Every

_REPEAT = ";\n    repeat this option to specify a list of values"


def parse(*arguments):
    values = flags.FlagValues()
    define_flags(fields_of(Every), values)
    assert values(["program", *arguments]) == ["program"]
    return read_settings(Every, values)


def test_no_flags_are_the_defaults():
    assert parse() == Every()


@given(EVERY)
def test_lines_give_the_settings_again(chosen):
    settings = Every(**chosen)
    assert parse(*flag_lines(settings)) == settings


def test_every_flag_has_its_fields_help_and_is_listed_under_its_class():
    values = flags.FlagValues()
    define_flags(fields_of(Every), values)
    for field in fields_of(Every):
        assert values[field.flag].help.removesuffix(_REPEAT).endswith(field.setting.help)
    assert set(values.flags_by_module_dict()) == {Every.__module__}


def test_a_repeated_list_replaces_the_first_unless_it_adds_up():
    settings = parse("--sizes=1,2", "--names=a,b", "--sizes=3", "--names=c")
    assert (settings.sizes, settings.names) == ((3,), ("a", "b", "c"))


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--count=x", "flag --count=x: "),
        ("--count=0", "flag --count=0: must be >= 1"),
        ("--the_share=1", "flag --the_share=1.0: must be in [0, 1)"),
        ("--kind=three", "flag --kind=three: value should be one of <one|two>"),
        ("--sizes=", "flag --sizes=(): must be one or more numbers >= 1"),
        ("--sizes=1,x", "flag --sizes=1,x: must be whole numbers"),
        ("--sources=x", "flag --sources=x: expected source:count, such as popularity:2048"),
        ("--none=0", "flag --none=0.0: must be > 0"),
        ("--open=0", "flag --open=0: must be >= 1"),
        ("--open=all", "flag --open=all: expected a whole number or auto"),
        ("--nothing=1", "Unknown command line flag 'nothing'"),
    ],
)
def test_errors_name_the_flag(argument, message):
    with pytest.raises(flags.Error) as caught:
        parse(argument)
    assert str(caught.value).startswith(message)
