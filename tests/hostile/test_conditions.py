"""--drop_where: any text is refused or a condition, which agrees with a plain loop."""

import collections
import fractions
import math
import re

import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_pipelines.raw.conditions import parse_conditions
from tests.hostile.outcomes import Outcomes
from tests.volume import few

KINDS = {
    "no condition": r"expected 'column sign value' with sign in = != < <= > >=, got .+",
    "no number": r"(<|<=|>|>=) needs a number, got .+",
}
NUMBERS = ("4", "+4", "4.0", "-0", "0", "4e0", ".5", "1e400", "9007199254740993", "9" * 30)
TEXTS = ("4 ", "four", "\uff14", "nan", "inf", "1_0", "0x4", "é", "'; drop", "true", "\x00", "")
VALUES = st.sampled_from([*NUMBERS, *TEXTS]) | st.text(max_size=4)
SIGNS = ("=", "!=", "<", "<=", ">", ">=")


def number(text):
    """The exact number that a constant is, or None."""
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text or ""):
        return None
    value = fractions.Fraction(text)
    return None if abs(value) > fractions.Fraction(2) ** 1023 else value


def value_of(text):
    """The same for a value of a column, which may also be infinite."""
    if text.lower().lstrip("+-") in ("inf", "infinity"):
        return -math.inf if text.startswith("-") else math.inf
    return fractions.Fraction(text) if text == "1e400" else number(text)


def plainly_holds(value, sign, constant):
    """The documented meaning, for one row."""
    if value is None or value == "":
        return False
    wanted, got = number(constant), value_of(value)
    if wanted is None:
        return (value == constant) == (sign == "=")
    if got is None:
        return sign == "!="
    return {
        "=": got == wanted, "!=": got != wanted, "<": got < wanted, "<=": got <= wanted,
        ">": got > wanted, ">=": got >= wanted,
    }[sign]  # fmt: skip


def test_conditions_hold_where_a_plain_loop_says_so():
    reached, inputs = collections.Counter(), few(100, of=500)

    @settings(max_examples=inputs, derandomize=True, deadline=None)
    @given(st.lists(VALUES | st.none(), min_size=1, max_size=8), st.sampled_from(SIGNS), VALUES)
    @example(
        ["9007199254740992", "9007199254740993", "9007199254740993.0"], "=", "9007199254740993"
    )
    def check(values, sign, constant):
        constant = constant.strip()
        usable = constant and constant[0] not in "=!<>" and "," not in constant
        if not usable or (sign not in ("=", "!=") and number(constant) is None):
            reached["refused"] += 1
            return
        (condition,) = parse_conditions(f"c{sign}{constant}")
        frame = pl.DataFrame({"c": values}, schema={"c": pl.String})
        held = frame.select(condition.holds()).to_series().to_list()
        expected = [plainly_holds(value, sign, constant) for value in values]
        assert held == expected, (values, sign, constant)
        reached.update(expected)

    check()
    assert min(reached[outcome] for outcome in (True, False, "refused")) > inputs / 5, reached


def test_any_text_is_parsed_or_refused():
    outcomes, inputs = Outcomes(KINDS), few(200, of=1000)
    pieces = ["a", " ", "=", "!", "<", ">", ",", "4", "é", "(", "'", "\n", "__import__"]
    anything = st.lists(st.sampled_from(pieces), max_size=8).map("".join)
    likely = st.tuples(st.sampled_from(["a", " b ", "é"]), st.sampled_from(SIGNS), VALUES)
    several = st.lists(likely.map("".join), min_size=1, max_size=3).map(",".join)

    @settings(max_examples=inputs, derandomize=True, deadline=None)
    @given(anything | several)
    def check(text):
        try:
            conditions = parse_conditions(text)
        except ValueError as error:
            outcomes.refused(error)
            return
        # Such conditions are valid, and named by their meaning.
        assert parse_conditions(",".join(map(str, conditions))) == conditions
        assert len(conditions) == (text.count(",") + 1 if text.strip() else 0)
        for condition in conditions:
            for part in (condition.column, condition.value):
                assert part and part == part.strip()
            assert condition.column in text and condition.value in text
            assert condition.sign in SIGNS and not set(condition.column) & set("=!<>")
        outcomes.right()

    check()
    outcomes.require(inputs, least=100)


def test_long_text_is_parsed_at_once():
    """Reads each character a few times at most, however many there are of a kind."""
    for text in (" " * 200_000, " " * 200_000 + "=", "a " * 100_000, "a" + " " * 200_000 + "= 4"):
        try:
            parse_conditions(text)
        except ValueError as error:
            assert len(str(error)) < 300_000
