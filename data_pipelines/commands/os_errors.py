"""Errors of the operating system in one line: which file, what happened, what to do."""

import errno

_ROOM = "make room there, or name a place on another disk"
_LEAVE = "set its permissions, or name another place"

_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "name a place on a disk that can be written",
    errno.EACCES: _LEAVE,
    errno.EPERM: _LEAVE,
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file; check the path",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.EIO: "check the disk, or name a place on another one",
    errno.EPIPE: "whatever read the output has ended",
}
"""What to do about it, by number of the error."""


def os_error_line(error: OSError) -> str:
    """What to say of an error; one that has no number says all of it already."""
    if error.errno is None or error.strerror is None:
        return str(error)
    path = "standard output or a file" if error.filename is None else error.filename
    return f"{path}: {error.strerror}{advice_about(error)}"


def advice_about(error: OSError) -> str:
    """What to do about an error, after a semicolon; nothing if that is unknown."""
    advice = _ADVICE.get(error.errno or 0)
    return "" if advice is None else f"; {advice}"
