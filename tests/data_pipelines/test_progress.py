"""Progress: a bar on a terminal, lines now and then elsewhere, nothing for other processes."""

import io
import sys

import pytest

from data_pipelines.progress import Progress, watched


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    """A clock that stands until it is moved."""
    times = [0.0]

    def read():
        return times[0]

    read.move = lambda seconds: times.__setitem__(0, times[0] + seconds)
    return read


def test_where_there_is_no_terminal_a_line_is_written_now_and_then(clock, capsys):
    with Progress("scoring", "events", 3000, clock=clock) as progress:
        for seconds in (0, 29, 0.9, 0.1, 10, 20):
            clock.move(seconds)
            progress.add(200)
            progress.note("slow")
    assert capsys.readouterr().err.splitlines() == [
        "scoring: 800 of 3,000 events, slow",
        "scoring: 1,200 of 3,000 events, slow",
    ]


def test_work_that_is_short_says_nothing_where_there_is_no_terminal(capsys):
    assert list(watched(range(9), "reading", "rows")) == list(range(9))
    assert capsys.readouterr().err == ""


def test_without_a_total_there_is_none_in_the_line():
    progress = Progress("reading", "rows", done=5)
    progress.add(1000)
    assert progress.line == "reading: 1,005 rows"


def test_a_terminal_gets_a_bar_that_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress("scoring", "events", 4) as progress:
        progress.add(4)
        progress.note("done")
    drawn = sys.stderr.getvalue()
    assert "scoring" in drawn and "4/4" in drawn and "done" in drawn
    assert drawn.endswith("\r") and not drawn.split("\r")[-2].strip()


def test_processes_that_do_not_show_write_nothing(monkeypatch, clock):
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress("scoring", "events", 4, shown=False, clock=clock) as progress:
            clock.move(99)
            progress.add(4)
            progress.note("x")
        assert stream.getvalue() == ""
