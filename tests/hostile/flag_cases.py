"""Flags with valid texts and their values, and with invalid texts."""

from typing import Any, NamedTuple


class Case(NamedTuple):
    """A flag: valid texts with their values, and texts that are refused."""

    good: list[tuple[str, Any]]
    bad: list[str]


def whole(*good: int, bad: tuple[str, ...] = ("-1",)) -> Case:
    """A flag of whole numbers."""
    texts = [(str(value), value) for value in good]
    return Case(texts, ["x", "1.5", "1e3", "", "true", "9" * 5000, *bad])


def number(*good: float, bad: tuple[str, ...] = ("-1", "nan")) -> Case:
    """A flag of numbers."""
    texts = [(repr(value), value) for value in good]
    return Case(texts, ["x", "", "1,5", "0x1p3q", *bad])


def choice(*good: str) -> Case:
    """A flag of a few words."""
    return Case([(text, text) for text in good], ["", "X", good[0].upper(), "none?"])


def switch() -> Case:
    """A flag that is true or false."""
    good = [("true", True), ("false", False), ("1", True), ("0", False), ("True", True)]
    return Case(good, ["yes?", "2", "", "tru"])


PREPARE = {
    "user_column": Case([("u", "u"), ("a b", "a b"), ("é", "é"), ("", "")], []),
    "time_unit": choice("auto", "s", "ms", "us", "ns"),
    "allow_odd_times": switch(),
    "on_bad_row": choice("error", "skip"),
    "split": choice("last_session", "user", "time"),
    "separator": Case([("tab", "tab"), (";", ";"), (",", ",")], ["ab", '"', "a", "7", "é", ""]),
    "gap_minutes": number(1.5, 30.0, bad=("-1", "0", "nan")),
    "collapse_repeats": switch(),
    "min_item_events": whole(1, 50, bad=("0", "-3")),
    "min_user_events": whole(1, 2, bad=("0",)),
    "max_user_events": whole(0, 500),
    "min_sessions": whole(1, 3, bad=("0",)),
    "drop_where": Case(
        [("kind=4", "kind=4"), ("a!=b,c>=5", "a!=b,c>=5"), ("", "")],
        ["kind", "=4", "a==4", "a<b", "__import__('os').system('true')", "a=1;b=2,"],
    ),
    "seed": whole(0, 7),
}

TRAIN = {
    "model": choice("hiertcn", "sasrec", "gru_user"),
    "item_dim": whole(1, 64, bad=("0", "-1", str(2**31))),
    "gru_layers": whole(1, 2, bad=("0",)),
    "pooling": choice("mean", "max", "last"),
    "temperature": number(0.5, 2.0, bad=("0", "-1", "nan", "inf")),
    "tcn_channels": Case([("8", (8,)), ("8,16", (8, 16))], ["8,x", "0", "", "8,,8", "1.5"]),
    "dropout": number(0.0, 0.5, bad=("1", "-0.1", "nan", "inf")),
    "residual": switch(),
    "loss": choice("sampled_softmax", "bpr", "l2"),
    "negatives": Case(
        [
            ("uniform:3", (("uniform", 3),)),
            ("uniform:3,in_batch:2", (("uniform", 3), ("in_batch", 2))),
        ],
        ["uniform", "uniform:", "uniform:-1", "hard:3", "uniform:0", "uniform:\u00b2", ":3"],
    ),
    "learning_rate": number(0.001, 1.0, bad=("0", "-1", "nan", "inf")),
    "decay_epochs": Case([("6,12", (6, 12)), ("6", (6,))], ["6,x", "1.5"]),
    "epochs": whole(1, 3, bad=("0", "-1", str(10**20))),
    "seed": whole(0, 5, bad=("-1", str(2**32), str(2**64))),
    "monitor": Case(
        [("all/mrr", "all/mrr"), ("first/mrp", "first/mrp")], ["mrr", "", "a/b"]
    ),
    "eval_every_epochs": number(0.5, 2.0, bad=("0", "nan", "inf")),
    "eval_lanes": whole(1, 16, bad=("0",)),
    "mask_seen": choice("none", "session", "user"),
}  # fmt: skip
