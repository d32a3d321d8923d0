"""Settings: fields say their type, bounds and help; every message is "field=value: why"."""

import dataclasses
import json
import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiertcn_jax.settings import Settings, above, at_least, between, fields_of, one_of, setting


@dataclasses.dataclass(frozen=True)
class Base(Settings):
    count: int = setting(3, "How many.", at_least=1)
    share: float = setting(0.5, "A share.", at_least=0, below=1, flag="the_share")
    kind: str = setting("any", "Which.")


@dataclasses.dataclass(frozen=True)
class Every(Base):
    """A field of each kind; and one of the base's, with words of its own."""

    kind: Literal["one", "two"] = "one"
    switch: bool = setting(False, "On or off.")
    text: str = setting("", "Any text.")
    none: float | None = setting(None, "Perhaps a number.", above=0)
    word: Literal["a", "b"] | None = setting(None, "Perhaps a word.")
    sizes: tuple[int, ...] = setting((1, 2), "Sizes.", at_least=1, filled=True)
    names: tuple[str, ...] = setting((), "Names.", adds_up=True)
    sources: tuple[tuple[str, int], ...] = setting((("x", 1),), "Sources.")
    large: int = setting(0, "A large number.", at_most=2**53)
    open: int | Literal["auto"] = setting("auto", "A number that may be left open.", at_least=1)


WORDS = st.text("ab_é'", min_size=1, max_size=9)

EVERY = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["one", "two"]),
        "count": st.integers(1, 2**31 - 1),
        "share": st.floats(0, 1, exclude_max=True),
        "switch": st.booleans(),
        "text": st.text('aé =,"#', max_size=9),
        "none": st.none() | st.floats(1e-9, 1e9),
        "word": st.none() | st.sampled_from(["a", "b"]),
        "sizes": st.lists(st.integers(1, 99), min_size=1, max_size=3).map(tuple),
        "names": st.lists(WORDS, max_size=3).map(tuple),
        "sources": st.lists(st.tuples(WORDS, st.integers(0, 9)), max_size=2).map(tuple),
        "large": st.integers(0, 2**53),
        "open": st.integers(1, 99) | st.just("auto"),
    }
)


@given(EVERY)
def test_json_gives_back_what_was_saved(values):
    settings = Every(**values)
    assert Every.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"count": 0}, "count=0: must be >= 1"),
        ({"count": True}, "count=True: must be a whole number"),
        ({"count": 1.0}, "count=1.0: must be a whole number"),
        ({"count": 2**31}, "count=2147483648: must be below 2**31"),
        ({"large": 2**53 + 1}, "large=9007199254740993: must be <= 9007199254740992"),
        ({"share": 1}, "share=1.0: must be in [0, 1)"),
        ({"share": math.nan}, "share=nan: must be in [0, 1)"),
        ({"share": math.inf}, "share=inf: must be finite"),
        ({"share": 10**400}, "share=inf: must be finite"),
        ({"share": "0.5"}, "share=0.5: must be a number"),
        ({"share": None}, "share=None: must be a number"),
        ({"kind": "any"}, "kind=any: must be one of one, two"),
        ({"kind": 1}, "kind=1: must be text"),
        ({"switch": 1}, "switch=1: must be true or false"),
        ({"text": ["a", "b"]}, "text=('a', 'b'): must be text"),
        ({"text": None}, "text=None: must be text"),
        ({"none": 0}, "none=0.0: must be > 0"),
        ({"none": "x\ny"}, "none=x y: must be a number or null"),
        ({"word": "c"}, "word=c: must be one of a, b"),
        ({"open": 0}, "open=0: must be >= 1"),
        ({"open": "all"}, "open=all: must be a whole number or auto"),
        ({"open": None}, "open=None: must be a whole number or auto"),
        ({"sizes": []}, "sizes=(): must be one or more numbers >= 1"),
        ({"sizes": [4, 0]}, "sizes=(4, 0): must be one or more numbers >= 1"),
        ({"sizes": [4, "x"]}, "sizes=(4, 'x'): must be a list of whole numbers"),
        ({"sizes": [2**31]}, "sizes=(2147483648,): must be below 2**31"),
        ({"sizes": 4}, "sizes=4: must be a list of whole numbers"),
        ({"names": ["a", 1]}, "names=('a', 1): must be a list of texts"),
        ({"sources": [["a", "b"]]}, "sources=(('a', 'b'),): must be a list of sources with their"),
        ({"cuont": 1}, "cuont=1: unknown to this version"),
        (None, "Every=None: must be fields with their values"),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(ValueError) as caught:
        Every.from_dict(changes)
    assert str(caught.value).startswith(message)
    if changes is not None:
        with pytest.raises(ValueError, match=r"^it\.") as caught:
            Every.from_dict(changes, "it")
        assert str(caught.value).startswith(f"it.{message}")


def test_a_config_is_checked_wherever_it_is_built():
    with pytest.raises(ValueError, match=r"^kind=three: must be one of one, two$"):
        Every(kind="three")
    with pytest.raises(ValueError, match=r"^count=0: must be >= 1$"):
        dataclasses.replace(Every(), count=0)
    assert Every(share=0) == Every(share=0.0)


def test_a_missing_field_has_its_default():
    assert Every.from_dict({}) == Every()
    assert Every.from_dict({"count": 4}) == Every(count=4)


def test_a_field_inherits_its_bases_setting():
    fields = {field.name: field for field in fields_of(Every)}
    assert list(fields)[:3] == ["count", "share", "kind"]
    assert fields["kind"].setting.help == "Which."
    assert fields["kind"].choices == ("one", "two")
    assert fields["kind"].owner is Base and fields["text"].owner is Every
    assert (fields["share"].flag, fields["count"].flag) == ("the_share", "count")


@pytest.mark.parametrize(
    "name, typed, value",
    [
        ("sizes", "8,16", (8, 16)),
        ("sizes", ["8", 16], (8, 16)),
        ("sources", "a:1,b:2", (("a", 1), ("b", 2))),
        ("sources", [], ()),
        ("sources", "", ()),
        ("names", "a,b", ("a", "b")),
        ("share", 1, 1.0),
        ("text", "a,b", "a,b"),
        ("sizes", 8, 8),
    ],
)
def test_lists_are_read_as_they_are_typed(name, typed, value):
    field = next(field for field in fields_of(Every) if field.name == name)
    assert field.from_typed(typed) == value
    if isinstance(value, tuple) and value:
        assert field.from_typed(",".join(field.item_text(item) for item in value)) == value


@pytest.mark.parametrize(
    "name, typed, message",
    [
        ("sizes", "8,x", r"^sizes=8,x: must be whole numbers$"),
        ("sizes", "8,", r"^sizes=8,: must be whole numbers$"),
        ("sizes", [8.5], r"^sizes=8.5: must be whole numbers$"),
        ("sources", "a", r"^sources=a: expected source:count, such as popularity:2048$"),
        ("sources", "a:-1", r"^sources=a:-1: expected source:count"),
    ],
)
def test_an_item_that_cannot_be_read_is_named(name, typed, message):
    field = next(field for field in fields_of(Every) if field.name == name)
    with pytest.raises(ValueError, match=message):
        field.from_typed(typed)


def test_arguments_are_checked_by_the_same_words():
    at_least(1, count=1)
    above(0, share=0.5)
    between(0, 1, share=1)
    one_of(["a"], word="a")
    for check, message in (
        (lambda: at_least(1, count=0), "count=0: must be >= 1"),
        (lambda: above(0, share=0), "share=0: must be > 0"),
        (lambda: above(0, share=math.nan), "share=nan: must be > 0"),
        (lambda: between(0, 1, share=2), "share=2: must be in [0, 1]"),
        (lambda: one_of(["a", "b"], word="c"), "word=c: must be one of a, b"),
    ):
        with pytest.raises(ValueError) as caught:
            check()
        assert str(caught.value) == message
