"""Errors of the system: the file, what happened, what to do."""

import errno
import os

import pytest

from data_pipelines.commands.os_errors import os_error_line


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room there, or name a place on another disk"),
        (errno.EROFS, "name a place on a disk that can be written"),
        (errno.EACCES, "set its permissions, or name another place"),
        (errno.ENOTDIR, "a part of the path is a file; check the path"),
        (errno.EFBIG, "raise the limit on the size of files (ulimit -f)"),
    ],
)
def test_the_file_the_reason_and_the_way_out(number, advice):
    error = OSError(number, os.strerror(number), "W/flags.txt")
    assert os_error_line(error) == f"W/flags.txt: {os.strerror(number)}; {advice}"


def test_without_a_file_or_an_advice():
    assert os_error_line(OSError(errno.EPIPE, "Broken pipe")) == (
        "standard output or a file: Broken pipe; whatever read the output has ended"
    )
    assert os_error_line(OSError(errno.EDEADLK, "Deadlock", "x")) == "x: Deadlock"
    assert os_error_line(OSError("W: process 7 trains here")) == "W: process 7 trains here"
