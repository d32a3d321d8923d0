import dataclasses
import re

import pytest
from absl import flags

from data_pipelines.commands.settings_flags import define_flags, read_settings
from data_pipelines.config import PrepareConfig
from hiertcn_jax.settings import fields_of

LOG = {"output_dir": "D", "input": ("a.csv",)}


def parse(*arguments):
    values = flags.FlagValues()
    define_flags(fields_of(PrepareConfig), values)
    values(["prepare", *arguments])
    return read_settings(PrepareConfig, values)


def test_no_flags_are_the_defaults():
    assert parse("--output_dir=D", "--input=a.csv") == PrepareConfig(**LOG)


def test_every_flag_reaches_its_field():
    config = parse(
        "--output_dir=D", "--input=a.csv,b.tsv", "--time_unit=ms", "--collapse_repeats",
        "--gap_minutes=7.5", "--min_sessions=3", "--split=time", "--valid_after=2020-01-01",
        "--test_after=2000000000", "--separator=tab", "--drop_where=kind=4,kind=5",
    )  # fmt: skip
    assert config.input == ("a.csv", "b.tsv")
    assert config.collapse_repeats
    assert config.gap_minutes == 7.5
    assert config.filter_options().min_sessions == 3
    assert config.split_options().valid_after_ms == 1_577_836_800_000
    assert config.split_options().test_after_ms == 2_000_000_000_000
    assert config.read_options().text.separator == "\t"
    assert config.read_options().columns.times.unit == "ms"
    assert [str(c) for c in config.read_options().drop_where] == ["kind=4", "kind=5"]


def test_lists_of_several_flags_add_up():
    config = parse(
        "--output_dir=D", "--input=a.csv", "--input=b.csv,c.csv", "--impressions=x",
        "--input=d.csv", "--impressions=y,z",
    )  # fmt: skip
    assert config.input == ("a.csv", "b.csv", "c.csv", "d.csv")
    assert config.impressions == ("x", "y", "z")


def test_every_flag_has_its_help():
    values = flags.FlagValues()
    define_flags(fields_of(PrepareConfig), values)
    for field in dataclasses.fields(PrepareConfig):
        assert len(values[field.name].help) > 15


@pytest.mark.parametrize("argument", ["--nothing=1", "--split=days", "--min_sessions=x"])
def test_flags_that_are_none(argument):
    with pytest.raises(flags.Error):
        parse("--output_dir=D", "--input=a.csv", argument)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_dir": ""}, "output_dir=: must be given: the dir"),
        ({"input": ()}, "exactly one of input, tfds and synthetic is required, got none"),
        ({"synthetic": "planted"}, "is required, got input and synthetic"),
        ({"tfds_data_dir": "T"}, "tfds_data_dir=T: has no use without tfds"),
        (
            {"item_column": "user_id"},
            "item_column=user_id: is user_column too; name another column",
        ),
        ({"time_column": "item_id"}, "time_column=item_id: is item_column too"),
        ({"session_column": "timestamp"}, "session_column=timestamp: is time_column too"),
        (
            {"impression_shown_column": "a", "impression_clicked_column": "a"},
            "impression_clicked_column=a: is impression_shown_column too",
        ),
        ({"time_unit": "h"}, "time_unit=h: must be one of auto, s, ms, us, ns, order"),
        ({"time_unit": "order"}, "give session_column, without gap_minutes"),
        (
            {"time_unit": "order", "session_column": "s", "gap_minutes": 5.0},
            "time_unit=order: an order has no idle times that end sessions",
        ),
        ({"time_unit": "s", "time_format": "%Y%m%d"}, "time_unit=s: has no use with time_format"),
        *(
            ({"time_format": text}, f"time_format={text}: must tell year, month and day in the")
            for text in ("", "days", "%m/%d", "%Y", "%H:%M", "%Y-%m-%d %f", "%", "%Y-%m-%d%", "%!")
        ),
        ({"on_bad_row": "stop"}, "on_bad_row=stop: must be one of error, skip"),
        ({"min_item_events": 0}, "min_item_events=0: must be >= 1"),
        ({"min_user_events": 5, "max_user_events": 4}, "max_user_events=4: must be 0 or >= min"),
        ({"max_user_events": -1}, "max_user_events=-1: must be >= 0"),
        ({"gap_minutes": 0.0}, "gap_minutes=0.0: must be > 0"),
        ({"gap_minutes": float("nan")}, "gap_minutes=nan: must be > 0"),
        ({"separator": "ab"}, "separator='ab': must be ASCII characters"),
        ({"encoding": "klingon"}, "encoding=klingon: is no encoding of text"),
        ({"encoding": "rot13"}, "encoding=rot13: is no encoding of text"),
        ({"columns": ("a", "a")}, "columns=a,a: must be names, each once"),
        ({"separator": '"'}, "must be ASCII characters"),
        ({"drop_where": "kind"}, "drop_where=kind: expected 'column sign value'"),
        ({"valid_fraction": 0.2}, "valid_fraction=0.2: has no use with split=last_session"),
        ({"split": "user", "valid_fraction": 0.0}, "valid_fraction=0.0: must be in (0, 1)"),
        ({"split": "user", "test_fraction": 0.9}, "test_fraction=0.9: leaves nothing to train"),
        ({"split": "user", "test_after": "5"}, "test_after=5: has no use with split=user"),
        ({"split": "time", "test_after": "5"}, "valid_after and test_after go together"),
        ({"split": "time", "test_after": "x", "valid_after": "1"}, "test_after=x: must be seconds"),
        ({"split": "time", "test_after": "5", "valid_after": "5"}, "must be later than valid_"),
        (
            {"split": "time", "test_after": "5", "valid_after": "4", "test_fraction": 0.1},
            "valid_after=4: has no use with fractions",
        ),
    ],
)
def test_fields_out_of_range_name_themselves(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PrepareConfig(**{**LOG, **changes})
