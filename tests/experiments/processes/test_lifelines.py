"""A process that is killed is noticed; one that ends in order is not reported."""

import queue
import socket
import subprocess
import sys

import pytest

from experiments.processes.lifelines import Lifeline, Lifelines
from tests.experiments.small_runs import ROOT


@pytest.fixture
def listening():
    """What listens, and the processes that it reports."""
    gone = queue.Queue()
    lifelines = Lifelines(gone.put)
    yield lifelines, gone
    lifelines.close()


_WAITS = """
import sys
from experiments.processes.lifelines import Lifeline
line = Lifeline("localhost", int(sys.argv[1]), 2)
print("connected", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_is_reported(listening):
    lifelines, gone = listening
    process = subprocess.Popen(
        [sys.executable, "-c", _WAITS, str(lifelines.port)],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "connected\n"
    assert gone.empty()
    process.kill()
    assert gone.get(timeout=60) == 2
    process.communicate()


def test_one_that_ends_in_order_is_not_reported(listening):
    lifelines, gone = listening
    lines = [Lifeline("localhost", lifelines.port, index) for index in (1, 2, 3)]
    # A stranger says nothing that counts.
    with socket.create_connection(("localhost", lifelines.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    lines[1].close()
    lines[0]._connection.close()
    assert gone.get(timeout=60) == 1
    lines[2].close()
    lifelines.close()
    assert gone.empty()


def test_without_a_way_to_the_first_process_there_is_no_lifeline():
    lifelines = Lifelines(print)
    lifelines.close()
    with pytest.raises(OSError):
        Lifeline("localhost", lifelines.port, 1)
