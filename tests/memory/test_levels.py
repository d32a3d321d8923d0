"""Levels of counts: their names, and what they let be known."""

import pytest

from hiertcn_jax.memory.levels import FITTED, Level, parse


@pytest.mark.parametrize(
    ("text", "delay", "counts_held_out", "file_name"),
    [
        ("fitted", 0, False, "fitted"),
        ("live", 0, True, "live"),
        ("static", 0, False, "static"),
        ("delayed:30s", 30, True, "delayed_30s"),
        ("delayed:15m", 900, True, "delayed_15m"),
        ("delayed:6h", 6 * 3600, True, "delayed_6h"),
        ("delayed:2d", 2 * 86_400, True, "delayed_2d"),
    ],
)
def test_a_level_is_what_its_text_says(text, delay, counts_held_out, file_name):
    level = parse(text)
    assert (str(level), level.delay, level.counts_held_out) == (text, delay, counts_held_out)
    assert level.file_name == file_name
    assert (level == FITTED) == (text == "fitted")
    assert parse(text) == level == Level(level.name, level.late)


NO_LEVELS = """
lively delayed delayed: delayed:15 delayed:0m delayed:-1m delayed:1.5h live:15m delayed:15M
delayed:12345678901d
"""


@pytest.mark.parametrize("text", ["", "delayed:15m ", *NO_LEVELS.split()])
def test_what_is_no_level_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match="must be fitted, live, static, or delayed") as caught:
        parse(text)
    assert str(caught.value).startswith(f"counts={text}: ")
    assert "\n" not in str(caught.value)
