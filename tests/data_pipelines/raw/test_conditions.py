import polars as pl
import pytest

from data_pipelines.raw.conditions import Condition, parse_conditions


def holds(text, values, dtype=None):
    (condition,) = parse_conditions(text)
    frame = pl.DataFrame({"c": pl.Series(values, dtype=dtype)})
    return frame.select(condition.holds()).to_series().to_list()


@pytest.mark.parametrize(
    ("sign", "expected"),
    [
        ("=", [False, True, False, False]),
        ("!=", [True, False, True, False]),
        ("<", [True, False, False, False]),
        ("<=", [True, True, False, False]),
        (">", [False, False, True, False]),
        (">=", [False, True, True, False]),
    ],
)
@pytest.mark.parametrize("values", [[3, 4, 10, None], ["3", "4.0", "10", None]])
def test_numbers_compare_as_numbers_and_null_never_holds(sign, expected, values):
    assert holds(f"c{sign}4", values) == expected


def test_text_compares_as_text():
    assert holds("c = click", ["click", "view", None]) == [True, False, False]
    assert holds("c!=click", ["click", "view", None]) == [False, True, False]


def test_text_is_not_equal_to_a_number():
    assert holds("c=4", ["four"]) == [False]
    assert holds("c!=4", ["four"]) == [True]
    assert holds("c<4", ["four"]) == [False]


def test_several_conditions():
    assert parse_conditions("a=1, b >= 2") == (Condition("a", "=", "1"), Condition("b", ">=", "2"))
    assert parse_conditions("") == ()


@pytest.mark.parametrize(
    "text", ["a", "a=", "=4", "a==4", "a=>4", "a<x", "a=1,", "__import__('os')", "a<>4"]
)
def test_invalid_conditions_are_refused(text):
    with pytest.raises(ValueError, match=r"expected 'column sign value'|needs a number"):
        parse_conditions(text)


def test_whole_numbers_beyond_those_of_floats_are_told_apart():
    ids = ["9007199254740992", "9007199254740993", "9007199254740994"]
    for values in (ids, [int(value) for value in ids]):
        assert holds("c=9007199254740993", values) == [False, True, False]
        assert holds("c>9007199254740993", values) == [False, False, True]


def test_categories_compare_as_their_text():
    assert holds("c=4", ["4", "x", None], pl.Categorical) == [True, False, False]
    assert holds("c!=x", ["4", "x", None], pl.Categorical) == [True, False, False]


def test_nothing_holds_of_an_empty_field():
    assert holds("c!=4", ["", "5"]) == [False, True]
    assert holds("c!=x", ["", "5"]) == [False, True]


def test_nan_is_no_number():
    assert holds("c>4", [float("nan"), float("inf"), 5.0]) == [False, True, True]
