"""A store in one SQLite file.

The file is in WAL mode, and every write is one transaction that is on disk before it returns. It is
locked for one process. Rows of deleted users are overwritten (`secure_delete`), and the write-ahead
log is emptied.
"""

import contextlib
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.server.sqlite_errors import reason_of, require_types
from experiments.server.store import (
    KEPT_EVENTS,
    Key,
    NewEvent,
    Part,
    StoredEvent,
    StoredUser,
    StoreError,
    WorldEvent,
)

_APPLICATION = 0x4854434E
"""Marks the files of this program ("HTCN")."""
SCHEMA = 1
"""Of the tables; another one means that they are laid out otherwise."""

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE exports (version TEXT PRIMARY KEY, first INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE items (key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
CREATE TABLE users (
  key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version TEXT NOT NULL, state BLOB NOT NULL,
  session TEXT, kept INTEGER NOT NULL, dropped INTEGER NOT NULL);
CREATE TABLE events (
  user INTEGER NOT NULL, time INTEGER NOT NULL, item INTEGER NOT NULL, starts INTEGER NOT NULL,
  number INTEGER NOT NULL, PRIMARY KEY (user, time, item)) WITHOUT ROWID;
CREATE TABLE world (
  number INTEGER PRIMARY KEY AUTOINCREMENT, item INTEGER NOT NULL, time INTEGER NOT NULL,
  counted INTEGER NOT NULL, position INTEGER NOT NULL, before BLOB NOT NULL);
CREATE TABLE forgotten (digest BLOB PRIMARY KEY) WITHOUT ROWID;
"""

_OR_LATER = " OR time > ?"
_PART = 2_000
"""Events of the stream that are read at a time; some may be read between requests."""
_TOGETHER = 64
"""Users that one statement reads."""
_CACHED_ITEMS = 500_000


class SqliteStore:
    """See `Store`.

    Attributes:
      path: The file. The snapshot of the counts is beside it, with `.counts` added to the name.
    """

    shared = False

    def __init__(self, path: str | Path) -> None:
        """Opens the file, or makes it.

        Args:
          path: The file; SQLite's -wal file is beside it while it is open.

        Raises:
          StoreError: It is not ours, of another version, damaged, or used by another process.
        """
        self.path, self.name = Path(path), str(path)
        self._snapshot = self.path.with_name(f"{self.path.name}.counts")
        self._key_of: dict[str, int] = {}
        self._id_of: dict[int, str | None] = {}
        with self._errors():
            self._db = sqlite3.connect(
                self.path, timeout=0, isolation_level=None, check_same_thread=False
            )
        try:
            with self._errors():
                self._open()
        except StoreError:
            self._db.close()
            raise

    def _open(self) -> None:
        db = self._db
        # Nothing is changed before the file is known to be ours.
        marks = [self._value(f"PRAGMA {name}") for name in ("application_id", "user_version")]
        if self._value("SELECT count(*) FROM sqlite_master"):
            if marks[0] != _APPLICATION:
                raise StoreError(f"{self.path}: is no store of this program; name another file")
            if marks[1] != SCHEMA:
                raise StoreError(
                    f"{self.path}: schema {marks[1]}, but this version reads {SCHEMA}; name "
                    "another file, or use the version that wrote it"
                )
        for setting in (
            "locking_mode=EXCLUSIVE",
            "journal_mode=WAL",
            "synchronous=FULL",
            "secure_delete=ON",
            "cache_size=-65536",
        ):
            db.execute(f"PRAGMA {setting}").fetchall()
        with self._transaction():
            if not self._value("SELECT count(*) FROM sqlite_master"):
                for statement in _TABLES.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id={_APPLICATION}")
                db.execute(f"PRAGMA user_version={SCHEMA}")
                db.execute("INSERT INTO meta VALUES ('salt', ?)", (secrets.token_bytes(32),))
        self._salt = self._value("SELECT value FROM meta WHERE name = 'salt'")
        require_types((self._salt,), (bytes,))
        self.identity = hashlib.blake2b(self._salt, digest_size=16).hexdigest()

    def first_number(self, version: str) -> int:
        """See `Store`."""
        with self._errors(), self._transaction():
            newest = self._value("SELECT coalesce(max(number), 0) FROM world")
            self._db.execute("INSERT OR IGNORE INTO exports VALUES (?, ?)", (version, newest))
            first = self._value("SELECT first FROM exports WHERE version = ?", version)
            require_types((first,), (int,))
            return first

    def users(self, ids: Iterable[str]) -> dict[str, StoredUser]:
        """See `Store`."""
        left, found = list(ids), []
        with self._errors():
            while left:
                asked, left = left[:_TOGETHER], left[_TOGETHER:]
                # Few statements, which SQLite compiles once: one for each power of two.
                asked += asked[-1:] * ((1 << (len(asked) - 1).bit_length()) - len(asked))
                marks = ",".join("?" * len(asked))
                found += self._db.execute(
                    "SELECT id, version, state, session, kept, dropped FROM users "
                    f"WHERE id IN ({marks})",
                    asked,
                ).fetchall()
            for row in found:
                require_types(row, (str, str, bytes, str | None, int, int))
        return {row[0]: StoredUser(*row) for row in found}

    def events_of(self, user: str) -> list[StoredEvent]:
        """See `Store`."""
        with self._errors():
            rows = self._db.execute(
                "SELECT items.id, time, starts, number FROM events JOIN items ON items.key = item "
                "WHERE user = (SELECT key FROM users WHERE id = ?) ORDER BY number",
                (user,),
            ).fetchall()
            for row in rows:
                require_types(row, (str, int, int, int))
        return [
            StoredEvent(item, time, bool(starts), number) for item, time, starts, number in rows
        ]

    def held(self, events: Iterable[Key]) -> set[Key]:
        """See `Store`."""
        with self._errors():
            return {
                (user, item, time)
                for user, item, time in events
                if self._value(
                    "SELECT 1 FROM events WHERE user = (SELECT key FROM users WHERE id = ?) "
                    "AND time = ? AND item = (SELECT key FROM items WHERE id = ?)",
                    user,
                    time,
                    item,
                )
            }

    def write(self, users: Sequence[StoredUser], events: Sequence[NewEvent] = ()) -> int:
        """See `Store`."""
        db, touched = self._db, set()
        number: int | None = 0
        with self._errors(), self._transaction():
            db.executemany(
                "INSERT INTO users (id, version, state, session, kept, dropped) "
                "VALUES (?, ?, ?, ?, 0, -1) ON CONFLICT (id) DO UPDATE SET "
                "version = excluded.version, state = excluded.state, session = excluded.session",
                [(one.id, one.version, one.state, one.session) for one in users],
            )
            for event in events:
                world = event.world
                item = self._item(world.item)
                before = [0 if one is None else self._item(one) for one in world.before]
                number = db.execute(
                    "INSERT INTO world (item, time, counted, position, before) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (
                        item,
                        world.time,
                        world.counted,
                        world.position,
                        np.array(before, "<i8").tobytes(),
                    ),
                ).lastrowid
                (user,) = db.execute("SELECT key FROM users WHERE id = ?", (event.user,)).fetchone()
                db.execute(
                    "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
                    (user, world.time, item, event.starts, number),
                )
                db.execute("UPDATE users SET kept = kept + 1 WHERE key = ?", (user,))
                touched.add(user)
            for user in touched:
                self._drop_oldest(user)
        return number or 0

    def _drop_oldest(self, user: int) -> None:
        db = self._db
        more = self._value("SELECT kept FROM users WHERE key = ?", user) - KEPT_EVENTS
        if more <= 0:
            return
        oldest = db.execute(
            "SELECT time, item FROM events WHERE user = ? ORDER BY time, item LIMIT ?", (user, more)
        ).fetchall()
        db.executemany(
            "DELETE FROM events WHERE user = ? AND time = ? AND item = ?",
            [(user, *one) for one in oldest],
        )
        db.execute(
            "UPDATE users SET kept = ?, dropped = max(dropped, ?) WHERE key = ?",
            (KEPT_EVENTS, oldest[-1][0], user),
        )

    def world(self, first: int, newest: int | None = None, after: int = 0) -> Iterator[Part]:
        """See `Store`."""
        with self._errors():
            # Without a condition on times the start is found at once.
            later, values = ("", (first,)) if newest is None else (_OR_LATER, (first, newest))
            values = (*values, after)
            cursor = self._db.execute(
                "SELECT items.id, time, counted, position, before, number FROM world "
                f"JOIN items ON items.key = item WHERE (number > ?{later}) AND number > ? "
                "ORDER BY number",
                values,
            )
            while rows := cursor.fetchmany(_PART):
                for row in rows:
                    require_types(row, (str, int, int, int, bytes, int))
                    if not 0 <= row[3] < 2**31:
                        raise ValueError(f"an event has the position {row[3]}")
                befores = [np.frombuffer(row[4], "<i8").tolist() for row in rows]
                keys = {key for before in befores for key in before}
                ids = {key: self._item_id(key) for key in keys}
                events = [
                    WorldEvent(item, time, counted, position, tuple(ids[key] for key in before))
                    for (item, time, counted, position, *_), before in zip(
                        rows, befores, strict=True
                    )
                ]
                yield Part(rows[-1][5], events)

    def read_snapshot(self, version: str) -> bytes | None:
        """See `Store`."""
        del version
        try:
            return self._snapshot.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self._snapshot}: cannot be read: {error.strerror}") from error

    def write_snapshot(self, version: str, number: int, data: bytes) -> None:
        """See `Store`."""
        del version, number
        unfinished = self._snapshot.with_name(f"{self._snapshot.name}.writing")
        try:
            with unfinished.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._snapshot)
        except OSError as error:
            raise StoreError(f"{self._snapshot}: cannot be written: {error.strerror}") from error

    def forget(self, user: str, known: bool) -> bool:
        """See `Store`."""
        with self._errors():
            with self._transaction():
                key = self._value("SELECT key FROM users WHERE id = ?", user)
                if key is not None:
                    self._db.execute("DELETE FROM events WHERE user = ?", (key,))
                    self._db.execute("DELETE FROM users WHERE key = ?", (key,))
                noted = 0
                if known:
                    noted = self._db.execute(
                        "INSERT OR IGNORE INTO forgotten VALUES (?)", (self._digest(user),)
                    ).rowcount
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return key is not None or noted > 0

    def forgotten(self, users: Iterable[str]) -> set[str]:
        """See `Store`."""
        with self._errors():
            return {
                user
                for user in users
                if self._value("SELECT 1 FROM forgotten WHERE digest = ?", self._digest(user))
            }

    def sizes(self) -> tuple[int, int]:
        """See `Store`."""
        with self._errors():
            users = self._value("SELECT count(*) FROM users")
            return users, self._value("SELECT coalesce(max(number), 0) FROM world")

    def close(self) -> None:
        """See `Store`."""
        with self._errors():
            self._db.close()

    def _digest(self, user: str) -> bytes:
        """Tells a forgotten user again, without the id."""
        return hashlib.blake2b(user.encode(), key=self._salt, digest_size=16).digest()

    def _item(self, item: str) -> int:
        """The key of an item; makes one."""
        key = self._key_of.get(item)
        if key is None:
            self._db.execute("INSERT OR IGNORE INTO items (id) VALUES (?)", (item,))
            key = int(self._value("SELECT key FROM items WHERE id = ?", item))
            if len(self._key_of) >= _CACHED_ITEMS:
                self._key_of.clear()
            self._key_of[item] = key
        return key

    def _item_id(self, key: int) -> str | None:
        if key and key not in self._id_of:
            if len(self._id_of) >= _CACHED_ITEMS:
                self._id_of.clear()
            self._id_of[key] = self._value("SELECT id FROM items WHERE key = ?", key)
        return self._id_of[key] if key else None

    def _value(self, statement: str, *values: object) -> Any:
        row = self._db.execute(statement, values).fetchone()
        return None if row is None else row[0]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # Keys of items that it made are gone with it.
            self._key_of.clear()
            self._id_of.clear()
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
            raise StoreError(f"{self.path}: {reason_of(error)}") from error
