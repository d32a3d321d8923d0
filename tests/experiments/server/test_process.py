"""The command: starts without JAX, survives SIGKILL, ends with SIGTERM, refuses bad files."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.request

import pytest

from data_pipelines.errors import DataError
from experiments.serve import read_token
from experiments.server.sqlite_store import SqliteStore
from experiments.server.store import StoreError
from tests.experiments.server.conftest import seal


class Server:
    """A process that serves an export."""

    def __init__(self, directory, store, *options):
        self.process = subprocess.Popen(
            [
                sys.executable,
                *options,
                "-m",
                "experiments.serve",
                f"--export_dir={directory}",
                f"--store={store}",
                "--port=0",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines, self.errors = [], []
        self._drain = threading.Thread(target=lambda: self.errors.extend(self.process.stderr))
        self._drain.start()
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("serving on "):
                self.url = line.split()[2].rstrip(",")
                return
        self._drain.join()
        raise AssertionError("".join(self.errors))

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def stop(self, number):
        self.process.send_signal(number)
        code = self.process.wait()
        self._drain.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code


def test_kill_restart_and_stop(export, store_file):
    """No accepted event is lost by SIGKILL under writes; SIGHUP takes up the export that a link
    then leads to; SIGTERM ends with 0; JAX is not loaded.
    """
    current, later = store_file.with_name("current"), store_file.with_name("later")
    current.symlink_to(export.directory)
    server = Server(current, store_file)
    accepted, enough = [], threading.Event()

    def write(writer):
        number = 0
        while True:
            event = {"user": f"w{writer}", "item": f"i{2 + number % 9}", "time": 1_000_000 + number}
            try:
                answer = server.ask("/v1/events", {"events": [event]})
            except OSError:
                return
            assert answer["accepted"] == 1
            accepted.append((event["user"], event["time"]))
            number += 1
            if len(accepted) >= 60:
                enough.set()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    assert enough.wait(120)
    server.stop(signal.SIGKILL)
    for writer in writers:
        writer.join()

    server = Server(current, store_file, "-X", "importtime")
    kept = {
        (user, event["time"])
        for user in ("w0", "w1", "w2")
        for event in server.ask(f"/v1/users/{user}")["received"]
    }
    assert set(accepted) <= kept
    assert len(kept) <= len(accepted) + 3
    again = [
        {"user": user, "item": f"i{2 + t % 9}", "time": 1_000_000 + t}
        for user, t in ((user, time - 1_000_000) for user, time in accepted)
    ]
    assert server.ask("/v1/events", {"events": again})["duplicate"] == len(accepted)
    assert len(server.ask("/v1/recommend/w0?n=3")["items"]) == 3
    assert server.ask("/v1/items/i5/similar")["items"]
    shutil.copytree(export.directory, later)
    seal(later, model_id="later")
    current.unlink()
    current.symlink_to(later)
    server.process.send_signal(signal.SIGHUP)
    assert server.process.stdout.readline() == "model later: serves now\n"
    answer = server.ask("/v1/recommend/w0?n=3")
    assert answer["model"] == server.ask("/readyz")["model"] == "later"
    assert answer["known"]
    assert server.stop(signal.SIGTERM) == 0
    imported = {line.rpartition("|")[2].strip() for line in server.errors if "|" in line}
    assert "onnxruntime" in imported
    assert not {name for name in imported if name.split(".")[0] in ("jax", "jaxlib", "flax")}
    assert SqliteStore(store_file).sizes() == (3, len(kept))


def test_a_file_that_is_no_store_is_left_as_it_is(tmp_path):
    text, other, empty = tmp_path / "notes.txt", tmp_path / "other.db", tmp_path / "empty.db"
    text.write_text("These are notes, and not a database at all.\n" * 30)
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    for path, reason in ((text, "is damaged"), (other, "is no store of this program")):
        before = path.read_bytes()
        with pytest.raises(StoreError, match=f"{path}: {reason}"):
            SqliteStore(path)
        assert path.read_bytes() == before
    empty.touch()
    SqliteStore(empty).close()
    with sqlite3.connect(empty) as db:
        db.execute("PRAGMA user_version=2")
    db.close()
    with pytest.raises(StoreError, match="schema 2, but this version reads 1"):
        SqliteStore(empty)
    with pytest.raises(StoreError, match="name a file in a folder that exists"):
        SqliteStore(tmp_path / "none" / "shop.db")


def test_two_servers_cannot_use_one_file(store_file):
    first = SqliteStore(store_file)
    with pytest.raises(StoreError, match="another process uses it"):
        SqliteStore(store_file)
    first.close()
    SqliteStore(store_file).close()


def test_tokens(tmp_path):
    path = tmp_path / "token"
    path.write_text(" secret\n")
    assert read_token(path) == "secret"
    for bad in ("", " \n", "two words", "é"):
        path.write_text(bad)
        with pytest.raises(DataError, match="must hold one word"):
            read_token(path)
