"""A store in Redis, for several servers.

Every write is one Lua script, so that users and the stream of events change together. With
`appendonly yes` and `appendfsync always`, Redis answers when it is on disk. A write is refused if
another server has changed one of the users since they were read.
"""

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import redis

from experiments.server import redis_scripts
from experiments.server.store import (
    KEPT_EVENTS,
    ConflictError,
    Key,
    NewEvent,
    Part,
    StoredEvent,
    StoredUser,
    StoreError,
    WorldEvent,
)

SCHEMA = b"1"
"""Of the keys; another one means that they are laid out otherwise."""
PREFIX = "hiertcn:"
"""Of all keys."""
_PART = 10_000
"""Events of the stream that are read at a time."""
_ANSWER_SECONDS = 5.0
"""After this, Redis counts as out of reach."""
_SNAPSHOT_SECONDS = 30 * 24 * 3600
"""A snapshot that is not renewed, because its export is served no more, goes after this."""


class RedisStore:
    """See `Store`."""

    shared = True

    def __init__(self, url: str) -> None:
        """Connects.

        Args:
          url: Such as redis://host:6379/0; rediss:// for TLS.

        Raises:
          StoreError: There is no Redis, or its keys are of another version.
        """
        self.name = _without_password(url)
        self._forgets = b"0"
        with self._errors():
            self._db: Any = redis.Redis.from_url(
                url, socket_timeout=_ANSWER_SECONDS, socket_connect_timeout=_ANSWER_SECONDS
            )
            self._db.setnx(f"{PREFIX}schema", SCHEMA)
            found = self._db.get(f"{PREFIX}schema")
            if found != SCHEMA:
                raise StoreError(
                    f"{self.name}: schema {found!r}, but this version reads {SCHEMA!r}; name "
                    "another database, or use the version that wrote it"
                )
            self._db.setnx(f"{PREFIX}salt", secrets.token_bytes(32))
            self._salt = _bytes(self._db.get(f"{PREFIX}salt"))
            self._write = self._db.register_script(redis_scripts.WRITE)
            self._forget = self._db.register_script(redis_scripts.FORGET)
            self._snapshot = self._db.register_script(redis_scripts.SNAPSHOT)
        self.identity = hashlib.blake2b(self._salt, digest_size=16).hexdigest()

    def risks(self) -> list[str]:
        """What in Redis' settings can lose accepted events, in words."""
        wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
        try:
            found = {name: self._db.config_get(name).get(name) for name in wanted}
        except redis.ResponseError:
            return ["it does not tell its settings; see that it writes events to disk at once"]
        except redis.RedisError as error:
            raise StoreError(f"{self.name}: {_reason(error)}") from error
        said = {name: _text(value) for name, value in found.items()}
        return [
            f"{name} is {said[name]}, not {value}: accepted events can be lost"
            for name, value in wanted.items()
            if said[name] != value
        ]

    def first_number(self, version: str) -> int:
        """See `Store`."""
        with self._errors():
            number = _number(self._db.get(f"{PREFIX}number") or b"0")
            self._db.hsetnx(f"{PREFIX}exports", version, str(number))
            return _number(self._db.hget(f"{PREFIX}exports", version))

    def users(self, ids: Iterable[str]) -> dict[str, StoredUser]:
        """See `Store`."""
        ids = list(ids)
        with self._errors():
            asked = self._db.pipeline(transaction=False)
            # First: whoever is forgotten later is then noticed at the next write.
            asked.get(f"{PREFIX}forgets")
            for user in ids:
                asked.hgetall(f"{PREFIX}user:{user}")
                asked.hlen(f"{PREFIX}kept:{user}")
            forgets, *answers = asked.execute()
            self._forgets = forgets or b"0"
            return {
                user: StoredUser(
                    user,
                    _text(values[b"version"]),
                    _bytes(values[b"state"]),
                    _text(values[b"session"]) if b"session" in values else None,
                    int(kept),
                    _number(values.get(b"dropped", b"-1")),
                    _number(values[b"revision"]),
                )
                for user, values, kept in zip(ids, answers[::2], answers[1::2], strict=True)
                if values
            }

    def events_of(self, user: str) -> list[StoredEvent]:
        """See `Store`."""
        with self._errors():
            events = []
            for field, value in self._db.hgetall(f"{PREFIX}kept:{user}").items():
                time, _, item = _text(field).partition(" ")
                starts, _, number = _text(value).partition(" ")
                events.append(StoredEvent(item, int(time), starts == "1", int(number)))
        return sorted(events, key=lambda one: one.number)

    def held(self, events: Iterable[Key]) -> set[Key]:
        """See `Store`."""
        events = list(events)
        if not events:
            return set()
        with self._errors():
            asked = self._db.pipeline(transaction=False)
            for user, item, time in events:
                asked.hexists(f"{PREFIX}kept:{user}", f"{time} {item}")
            found = asked.execute()
        return {key for key, is_kept in zip(events, found, strict=True) if is_kept}

    def write(self, users: Sequence[StoredUser], events: Sequence[NewEvent] = ()) -> int:
        """See `Store`."""
        given: list[Any] = [PREFIX, self._forgets, KEPT_EVENTS, len(users)]
        for one in users:
            has_session = int(one.session is not None)
            given += [one.id, one.revision, one.version, one.state, has_session, one.session or ""]
        given.append(len(events))
        for event in events:
            world = event.world
            said = json.dumps(world, ensure_ascii=False, separators=(",", ":"))
            given += [event.user, f"{world.time} {world.item}", int(event.starts), said.encode()]
        with self._errors():
            number = int(self._write(args=given))
        if number < 0:
            raise ConflictError
        return number

    def world(self, first: int, newest: int | None = None, after: int = 0) -> Iterator[Part]:
        """See `Store`."""
        start = max(after, first if newest is None else 0)
        while True:
            with self._errors():
                entries = self._db.xrange(f"{PREFIX}world", min=f"({start}-0", count=_PART)
                if not entries:
                    return
                start = _place(entries[-1][0])
                events = [
                    event
                    for name, values in entries
                    for event in [_world_event(values[b"event"])]
                    if newest is None or _place(name) > first or event.time > newest
                ]
            yield Part(start, events)

    def read_snapshot(self, version: str) -> bytes | None:
        """See `Store`."""
        with self._errors():
            return self._db.hget(f"{PREFIX}counts:{version}", "data")

    def write_snapshot(self, version: str, number: int, data: bytes) -> None:
        """See `Store`."""
        with self._errors():
            self._snapshot(args=[f"{PREFIX}counts:{version}", number, data, _SNAPSHOT_SECONDS])

    def forget(self, user: str, known: bool) -> bool:
        """See `Store`. The append-only file has the user until Redis has rewritten it, which it is
        asked to do.
        """
        with self._errors():
            done = self._forget(args=[PREFIX, user, self._digest(user) if known else b""])
        if done:
            # Some Redis services do not allow it, and rewrite when they choose to.
            with contextlib.suppress(redis.RedisError):
                self._db.bgrewriteaof()
        return bool(done)

    def forgotten(self, users: Iterable[str]) -> set[str]:
        """See `Store`."""
        users = list(users)
        if not users:
            return set()
        with self._errors():
            asked = self._db.pipeline(transaction=False)
            for user in users:
                asked.sismember(f"{PREFIX}forgotten", self._digest(user))
            found = asked.execute()
        return {user for user, is_there in zip(users, found, strict=True) if is_there}

    def sizes(self) -> tuple[int, int]:
        """See `Store`."""
        with self._errors():
            users, events = self._db.mget(f"{PREFIX}users", f"{PREFIX}number")
            return _number(users or b"0"), _number(events or b"0")

    def close(self) -> None:
        """See `Store`."""
        self._db.close()

    def _digest(self, user: str) -> bytes:
        """Tells a forgotten user again, without the id."""
        return hashlib.blake2b(user.encode(), key=self._salt, digest_size=16).digest()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise StoreError(f"{self.name}: {_reason(error)}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{self.name}: holds values that are not of this program ({error}); name another "
                "database"
            ) from error


def _world_event(data: bytes) -> WorldEvent:
    item, time, counted, position, before = json.loads(data)
    numbers = (time, counted, position)
    if type(item) is not str or not all(type(one) is int for one in numbers):
        raise ValueError(f"{data[:40]!r} is no event")
    if not 0 <= position < 2**31 or not all(one is None or type(one) is str for one in before):
        raise ValueError(f"{data[:40]!r} is no event")
    return WorldEvent(item, time, counted, position, tuple(before))


def _place(name: bytes) -> int:
    """The number of an entry of the stream."""
    return int(name.partition(b"-")[0])


def _number(value: Any) -> int:
    return int(_bytes(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _bytes(value).decode()


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"{str(value)[:40]!r} is no bytes")
    return value


def _without_password(url: str) -> str:
    """The URL as messages show it.

    Raises:
      StoreError: It is none.
    """
    try:
        parts = urlsplit(url)
        place = parts.hostname or "localhost"
        return f"{parts.scheme}://{place}:{parts.port or 6379}{parts.path or '/0'}"
    except ValueError as error:
        raise StoreError(f"store: {error}; write it as redis://host:6379/0") from error


def _reason(error: redis.RedisError) -> str:
    """What an error says, and what to do."""
    if isinstance(error, redis.AuthenticationError):
        return "wants another password; write it as redis://:PASSWORD@host:6379/0"
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return "cannot be reached; see that Redis runs there, and that this machine may connect"
    return f"Redis says: {str(error).partition(chr(10))[0]}"
