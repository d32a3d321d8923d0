"""Tables of titles, odd and damaged: each item has its title, or one line says why not."""

import csv
import io
import json
from random import Random

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.sessions.item_titles import ItemColumns, read_items, write_items
from data_pipelines.sessions.vocabulary import Vocabulary
from tests.hostile.damage import damaged, flipped, truncated
from tests.hostile.outcomes import Outcomes
from tests.volume import few

CATALOGUE = ("a", "007", "x y", "9", "ü", "12345678901234567890", "-1", "b,c")
KINDS = {
    "no column": r"/.+: no column '.+' \(item_(id|title)_column\), got .*; name it by .+",
    "two columns": r"/.+: column '.+': the result has one of that name too; rename or drop it",
    "unreadable": r"/.+: not readable as .+",
    "empty": r"/.+: the file is empty; expected Parquet",
    "ids": r"/.+: column '.+': expected text or whole numbers.*",
    "type": r"/.+: column '.+': expected text, numbers or times, got .+",
}
TITLES = (
    *("plain", " blanks ", "", "  ", 'quo"te', "com,ma", "tab\tbed", "ümlaut", "new\nline", "日本"),
    None,
)


def table_of(rng):
    """Rows of (id, title, another column), as text; ids may repeat, or be of no item."""
    ids = [*CATALOGUE, "z", "0", "", None]
    return [
        (rng.choice(ids), rng.choice(TITLES), str(rng.randrange(100)))
        for _ in range(rng.randrange(1, 12))
    ]


def expected(rows):
    """The title of each item of the catalogue, by a plain loop."""
    found = {}
    for one, title, _ in rows:
        if one:
            found.setdefault(one, title)
    return [(found.get(one) or "").strip() or None for one in CATALOGUE]


def as_csv(rows, names, separator):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([["" if value is None else value for value in row] for row in rows])
    return out.getvalue().encode()


def as_parquet(rows, names):
    out = io.BytesIO()
    schema = dict.fromkeys(names, pl.String)
    pl.DataFrame(rows, schema, orient="row").write_parquet(out)
    return out.getvalue()


def as_json(rows, names):
    lines = (json.dumps(dict(zip(names, row, strict=True))) for row in rows)
    return ("\n".join(lines) + "\n").encode()


WRITERS = {
    ".csv": lambda rows, names: as_csv(rows, names, ","),
    ".tsv": lambda rows, names: as_csv(rows, names, "\t"),
    ".jsonl": as_json,
    ".parquet": as_parquet,
}


def test_titles_are_those_of_the_table_or_the_file_is_refused(tmp_path):
    counts = np.arange(len(CATALOGUE), 0, -1)
    vocabulary = Vocabulary(pl.Series(CATALOGUE), counts, counts, "string")
    outcomes, inputs = Outcomes(KINDS), few(150, of=4000)
    for seed in range(inputs):
        rng = Random(seed)
        rows, suffix = table_of(rng), rng.choice(list(WRITERS))
        names = rng.choice((("item_id", "title", "more"), ("id", "name", "other"),
                            ("id", "name", "title")))  # fmt: skip
        data, harmed = WRITERS[suffix](rows, names), rng.random() < 0.6
        if harmed:
            data = rng.choice((damaged, flipped, truncated))(rng, data)
        path = tmp_path / f"items{suffix}"
        path.write_bytes(data)
        columns = ItemColumns(names[0], names[1] if rng.random() < 0.95 else "label")
        try:
            write_items(tmp_path, str(path), columns, vocabulary)
            found = read_items(tmp_path, vocabulary)
        except DataError as error:
            outcomes.refused(error)
        except BaseException as error:
            raise AssertionError((seed, suffix, data)) from error
        else:
            assert found["item_id"].to_list() == list(CATALOGUE), seed
            if not harmed:
                assert found["title"].to_list() == expected(rows), (seed, suffix, rows)
            outcomes.right()
    outcomes.require(inputs, never=("type", "ids"))


def test_ids_of_every_type(tmp_path):
    """Numbers that are no whole ones, or larger than any, are refused; others are ids as text."""
    vocabulary = Vocabulary(pl.Series(["1", "2"]), np.array([2, 1]), np.array([0, 0]), "string")
    columns = ItemColumns("item_id", "title")
    path = tmp_path / "items.parquet"
    good = {
        "int8": pl.Series([2, 1], dtype=pl.Int8),
        "uint64": pl.Series([2, 1], dtype=pl.UInt64),
        "whole floats": pl.Series([2.0, 1.0]),
        "decimals": pl.Series(["2", "1"]).cast(pl.Decimal(5, 0)),
        "text": pl.Series(["2", "1"]),
        "categories": pl.Series(["2", "1"], dtype=pl.Categorical),
        "bytes": pl.Series([b"2", b"1"]),
    }
    bad = {
        "fractions": pl.Series([2.0, 1.5]),
        "infinite": pl.Series([2.0, float("inf")]),
        "huge": pl.Series([2.0, 1e300]),
        "truth": pl.Series([True, False]),
        "dates": pl.Series([1, 2]).cast(pl.Date),
        "lists": pl.Series([[1], [2]]),
        "structs": pl.Series([{"a": 1}, {"a": 2}]),
    }
    for name, ids in good.items():
        pl.DataFrame({"item_id": ids, "title": ["two", "one"]}).write_parquet(path)
        write_items(tmp_path, str(path), columns, vocabulary)
        assert read_items(tmp_path, vocabulary)["title"].to_list() == ["one", "two"], name
    for name, ids in bad.items():
        given = tmp_path / "given.parquet"
        pl.DataFrame({"item_id": ids, "title": ["two", "one"]}).write_parquet(given)
        try:
            write_items(tmp_path, str(given), columns, vocabulary)
        except DataError as error:
            assert str(error).startswith(f"{given}: column 'item_id': expected "), (name, error)
        else:
            raise AssertionError(name)
