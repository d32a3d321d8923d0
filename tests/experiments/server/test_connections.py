"""Bytes that are no request, slow ones and halves: 4xx with one reason, and the server goes on."""

import json
import random
import socket
import threading

import pytest

from experiments.server import connections
from experiments.server.app import make_app
from experiments.server.engine import Engine
from experiments.server.running import make_server, open_socket
from experiments.server.sqlite_store import SqliteStore
from experiments.server.worker import Worker
from tests.experiments.server.conftest import Clock
from tests.volume import few

GET = b"GET /v1/recommend/a?n=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
KEPT = GET.replace(b"Connection: close\r\n", b"")
BODY = b'{"events": [{"user": "u", "item": "i5", "time": 1700000000}]}'
POST = (
    b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


@pytest.fixture(scope="module")
def guard(export, tmp_path_factory):
    store = SqliteStore(tmp_path_factory.mktemp("store") / "shop.db")
    return make_app(Worker(Engine(export, store, Clock())))


@pytest.fixture(scope="module")
def port(guard):
    """Of a server with sockets, in a thread."""
    server = make_server(guard)
    listening = open_socket("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()
    listening.close()


def talk(port, *parts, ends=False, brief=False):
    """All that the server says to these bytes, until it closes the connection.

    Args:
      port: Of the server.
      *parts: What to send.
      ends: Whether to say that no more comes.
      brief: Whether one whole answer is enough.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        said = b""
        try:
            for part in parts:
                client.sendall(part)
            if ends:
                client.shutdown(socket.SHUT_WR)
            while data := client.recv(65_536):
                said += data
                if brief and said.endswith(b"}"):
                    break
        except (BrokenPipeError, ConnectionResetError):
            pass  # It closed while we were still sending.
        return said


def statuses(said):
    return [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:]]


def check_refused(said, status, reason):
    assert statuses(said) == [status], said
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert reason in json.loads(body)["detail"]


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS.
        b"GET / HTTP/1.1\r\n\r\n",  # No host.
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: odd\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    ],
    ids=range(10),
)
def test_what_is_no_request_gets_one_reason(port, sent):
    said = talk(port, sent)
    # A close with bytes unread may reach the client before the answer.
    if said or len(sent) < 65_536:
        check_refused(said, 400, "this is no HTTP request")


def test_a_head_that_never_ends_is_cut_off(port, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    check_refused(talk(port, b"GET / HT"), 408, "took longer than 0 s")
    check_refused(talk(port, b"GET / HTTP/1.1\r\nHost: x\r\nA:"), 408, "took longer")
    assert talk(port) == b""
    # After a whole request too.
    assert statuses(talk(port, KEPT + b"GET / HT")) == [200, 408]


def test_an_answer_that_nobody_reads_is_given_up(port, monkeypatch):
    """Here: at once, while the body is awaited."""
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.05)
    assert talk(port, POST[:-10]) == b""


@pytest.mark.parametrize("cut", [len(POST) - 1, len(POST) - len(BODY), 30])
def test_half_a_request_changes_nothing(port, cut):
    assert 200 not in statuses(talk(port, POST[:cut], ends=True))
    assert statuses(talk(port, GET.replace(b"recommend/a?n=1", b"users/u"))) == [404]


def test_requests_one_after_another_and_an_upgrade(port):
    upgrade = GET.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert statuses(talk(port, KEPT, KEPT, GET)) == [200, 200, 200]
    assert statuses(talk(port, upgrade)) == [200]
    odd = GET.replace(b"Host", b"X: \xff\xfe\r\nHost")
    assert statuses(talk(port, odd)) == [200]


def test_altered_bytes_are_never_an_error_of_the_server(port, monkeypatch):
    """Bytes changed, left out and doubled in a request; one that waits for more is soon cut off."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)
    seen = set()
    rng = random.Random(0)
    for _ in range(few(60, 2_000)):
        data = bytearray(rng.choice([GET, POST]))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(data))
            data[place : place + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
        found = statuses(talk(port, bytes(data), brief=True))
        seen |= set(found)
        assert all(status < 500 or status == 501 for status in found), bytes(data)
    assert {200, 400, 404} <= seen
    monkeypatch.undo()
    assert statuses(talk(port, GET)) == [200]


def test_a_request_in_parts(port):
    """Events that come in one piece or in several."""
    kept = POST.replace(b"Connection: close\r\n", b"")
    assert statuses(talk(port, kept + KEPT, kept[:-20], kept[-20:], POST)) == [200] * 4


def test_a_busy_server_says_so_before_the_body(port, guard, monkeypatch):
    """The connection stays open for the next request."""
    with monkeypatch.context() as patch:
        patch.setattr(guard, "_is_busy", lambda: True)
        check_refused(talk(port, GET), 429, "too many requests wait")
        said = talk(port, POST.replace(b"Connection: close\r\n", b"")[:-9], ends=True)
        check_refused(said, 429, "too many requests wait")
        assert b"retry-after: 1" in said
        kept = POST.replace(b"Connection: close\r\n", b"")
        health = GET.replace(b"/v1/recommend/a?n=1", b"/healthz")
        assert statuses(talk(port, kept, KEPT, health)) == [429, 429, 200]
    assert statuses(talk(port, GET)) == [200]
