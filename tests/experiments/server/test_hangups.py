"""SIGHUP while a server starts is kept until it serves."""

import os
import signal
from concurrent.futures import Future
from pathlib import Path

import pytest

from experiments.server.hangups import Hangups
from experiments.server.running import swap_on_hangup


@pytest.fixture(autouse=True)
def restored():
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


class Swaps:
    def __init__(self):
        self.seen = []

    def start(self, directory):
        self.seen.append(directory)
        return Future()


@pytest.mark.parametrize("during_start", [False, True])
def test_a_hangup_during_the_start_swaps_when_it_serves(during_start):
    hangups, swaps, directory = Hangups(), Swaps(), Path("exports")
    if during_start:
        os.kill(os.getpid(), signal.SIGHUP)
    assert hangups.came == during_start
    swap_on_hangup(swaps, directory, hangups)
    assert swaps.seen == [directory] * during_start
    os.kill(os.getpid(), signal.SIGHUP)
    assert swaps.seen == [directory] * (during_start + 1)
