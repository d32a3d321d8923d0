"""A server's SQLite file, damaged or with other values: refused in one line, or served from."""

import contextlib
import shutil
import sqlite3
from random import Random

import pytest

from experiments.server.engine import Engine
from experiments.server.requests import Ask, Event
from experiments.server.sqlite_store import SqliteStore
from experiments.server.store import StoreError
from tests.experiments.server.conftest import NOW, Clock, export  # noqa: F401  (a fixture)
from tests.hostile.damage import damaged, flipped, truncated
from tests.hostile.outcomes import Outcomes
from tests.volume import few

KINDS = {
    "foreign": r"/.+: is no store of this program; name another file",
    "schema": r"/.+: schema .+, but this version reads \d+; name another file, or use the .+",
    "damaged": r"/.+: is damaged \(.+\); name another file, or a copy of it that is whole",
}
USERS = ("a", "b", "new", "old")


@pytest.fixture(scope="module")
def whole(export, tmp_path_factory):  # noqa: F811
    """A store with events of users whom the export knows, and of others; one is forgotten."""
    path = tmp_path_factory.mktemp("store") / "shop.db"
    engine = Engine(export, SqliteStore(path), Clock())
    for turn in range(40):
        user = USERS[turn % 3]
        engine.observe([Event(user, f"i{2 + turn % 7}", NOW - 4000 + turn, f"s{turn // 20}")])
    engine.observe([Event("old", "unknown", NOW - 9000)])
    engine.forget("c")
    engine.close()
    return path


def use(export, path):  # noqa: F811
    """Everything that a server does with its store."""
    store = SqliteStore(path)
    try:
        engine = Engine(export, store, Clock())
        engine.observe([Event("a", "i3", NOW - 100), Event("later", "i9", NOW)])
        answers = engine.recommend([Ask(user, n=3, exclude_seen=True) for user in USERS])
        records = [engine.record(user) for user in USERS]
        engine.forget("b")
        return answers, records, store.sizes()
    finally:
        store.close()


def edit_a_value(rng, path):
    """Puts a value of any type into any column of a table."""
    with sqlite3.connect(path) as db:
        tables = ("meta", "exports", "items", "users", "events", "world", "forgotten")
        table = rng.choice(tables)
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        value = rng.choice((0, -1, 2**40, 2**62, -(2**62), 0.5, "x", "", b"", b"x", b"\0" * 64))
        column = rng.choice(columns)
        rows = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        place = rng.randrange(rows)
        key = columns[0]
        one = db.execute(f"SELECT {key} FROM {table} LIMIT 1 OFFSET {place}").fetchone()[0]
        statement = f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {key} = ?"
        if rng.random() < 0.2:
            db.execute(f"DELETE FROM {table} WHERE {key} = ?", (one,))
        else:
            with contextlib.suppress(sqlite3.IntegrityError):  # A key must be an integer.
                db.execute(statement, (value, one))
    db.close()
    return f"{table}.{column} = {value!r}"


def change(rng, path):
    kind = rng.choice(("bytes", "bit", "cut", "value", "value", "value"))
    if kind == "value":
        return edit_a_value(rng, path)
    how = {"bytes": damaged, "bit": flipped, "cut": truncated}[kind]
    path.write_bytes(how(rng, path.read_bytes()))
    return kind


def test_a_changed_store_is_refused_or_served_from(export, whole, tmp_path):  # noqa: F811
    outcomes, inputs = Outcomes(KINDS), few(40, of=1500)
    for seed in range(inputs):
        rng, path = Random(seed), tmp_path / f"{seed}.db"
        shutil.copy(whole, path)
        done = change(rng, path)
        try:
            use(export, path)
        except StoreError as error:
            outcomes.refused(error)
        except Exception as error:
            raise AssertionError((seed, done)) from error
        else:
            outcomes.right()
        for left in tmp_path.glob(f"{seed}.db*"):
            left.unlink()
    outcomes.require(inputs, never=("foreign", "schema"))


def test_a_state_that_is_damaged_is_made_again(export, whole, tmp_path):  # noqa: F811
    path = tmp_path / "shop.db"
    shutil.copy(whole, path)
    expected = use(export, shutil.copy(whole, tmp_path / "same.db"))
    with sqlite3.connect(path) as db:
        (state,) = db.execute("SELECT state FROM users WHERE id = 'a'").fetchone()
        db.execute("UPDATE users SET state = ? WHERE id = 'a'", (state[:-9],))
        db.execute("UPDATE users SET state = ? WHERE id = 'b'", (b"\xff" * len(state),))
    db.close()
    answers, records, sizes = use(export, path)
    assert (records, sizes) == expected[1:]
    for found, other in zip(answers, expected[0], strict=True):
        assert [item for item, _ in found.items] == [item for item, _ in other.items]
