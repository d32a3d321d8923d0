"""The load generator sends what was planned, and counts latency from the plan."""

import socketserver
import threading

import numpy as np
import pytest

from benchmarks.open_loop import Sent, get, planned_times, post, send
from benchmarks.serving import Requests, figures, is_event, recovery_seconds


def test_planned_times_are_those_of_a_rate():
    planned_r = planned_times(1_000, 20, seed=3)
    assert np.all(np.diff(planned_r) > 0)
    assert 0 < planned_r[0] < planned_r[-1] < 20
    assert abs(len(planned_r) - 20_000) < 5 * 20_000**0.5
    np.testing.assert_array_equal(planned_r, planned_times(1_000, 20, seed=3))


class Server(socketserver.ThreadingTCPServer):
    """Answers each request with 200, 429 or nothing, by its path, in two parts."""

    daemon_threads = True

    def __init__(self):
        self.seen = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            length = 0
            while (header := self.rfile.readline()) not in (b"\r\n", b""):
                if header.lower().startswith(b"content-length"):
                    length = int(header.split(b":")[1])
            self.server.seen.append((line.split()[1], self.rfile.read(length)))
            if b"broken" in line:
                return
            status = b"429 Busy" if b"busy" in line else b"200 OK"
            self.wfile.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 4\r\n\r\nan")
            self.wfile.flush()
            self.wfile.write(b"sw")


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_request_has_its_answer(server):
    paths = ["/fine", "/busy", "/broken", "/fine"] * 10
    requests = [get(path) for path in paths] + [post("/fine", b"{}")]
    planned_r = np.linspace(0, 0.05, len(requests))
    sent = send(server.server_address[1], requests, planned_r, connections=3)
    expected = {"/fine": 200, "/busy": 429, "/broken": 0}
    assert sent.status_r.tolist() == [*(expected[path] for path in paths), 200]
    np.testing.assert_array_equal(np.isnan(sent.latency_r), sent.status_r == 0)
    assert sorted(path.decode() for path, _ in server.seen) == sorted([*paths, "/fine"])
    assert server.seen[-1][1] == b"{}" or b"{}" in [body for _, body in server.seen]


def test_latency_counts_from_the_planned_time(server):
    """Planned half a second ago, so that much late, however quick the answer is."""
    sent = send(server.server_address[1], [get("/fine")] * 2, np.array([-0.5, -0.4]), 1)
    assert np.all(sent.latency_r > [0.5, 0.4])


def test_figures():
    status_r = np.array([200] * 100 + [429, 503, 0, 500], np.int16)
    latency_r = np.concatenate([np.arange(1, 101) / 1000, np.full(4, np.nan)])
    found = figures(Sent(np.arange(104.0), latency_r, status_r, latency_r))
    assert found["requests"] == 104
    assert [found[name] for name in ("ok", "busy_429", "stopping_503", "unanswered")] == [
        100, 1, 1, 1,
    ]  # fmt: skip
    assert found["other_errors"] == 1
    assert (found["p50_ms"], found["p90_ms"], found["most_ms"]) == (50.5, 90.1, 100)


def test_recovery_is_the_first_second_with_all_answers_in_time():
    planned_r = np.arange(40) / 10
    latency_r, status_r = np.full(40, 0.001), np.full(40, 200, np.int16)
    latency_r[:10] = 0.5  # Slow in the first second, one refused in the second.
    status_r[15] = 429
    sent = Sent(planned_r, latency_r, status_r, latency_r)
    assert recovery_seconds(sent, 7.0) == 2
    assert np.isnan(recovery_seconds(sent, 0.5))


def test_three_recommendations_to_one_event():
    requests = Requests(50, [7, "x"], seed=0)
    made = requests.take(8) + requests.take(4)
    assert [one.startswith(b"POST /v1/events") for one in made] == is_event(12).tolist()
    assert sum(one.startswith(b"GET /v1/recommend/u") for one in made) == 9
    parts = list(Requests(2_500, [7, "x"], seed=0).fill(now=9))
    assert [len(part) for part in parts] == [1_000, 1_000, 500]
    assert len({event["user"] for part in parts for event in part}) == 2_500
