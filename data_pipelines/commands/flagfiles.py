"""Reads flagfiles: arguments in files, with errors that name the file and the line.

absl reads them too, but its errors don't name a file that is not UTF-8, and it accepts a file that
includes itself.
"""

import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags

from data_pipelines.local_paths import local_path

_DIRECTIVE = re.compile(r"--?flagfile(=(?P<path>.*))?", re.DOTALL)
_PRESET = re.compile(r"--?preset(=(?P<name>.*))?", re.DOTALL)
_FLAG = re.compile(r"--?\w")
_MOST_FILES = 100
_MOST_BYTES = 1 << 20


def expand_flagfiles(arguments: Sequence[str]) -> list[str]:
    """Replaces each --flagfile by the arguments in it.

    A flagfile has one flag per line; it ignores blank lines and lines that begin with # or //. If a
    flag occurs twice, the later one counts.

    Args:
      arguments: A command line: the program, then its arguments.

    Returns:
      The same without --flagfile.

    Raises:
      flags.IllegalFlagValueError: A flagfile cannot be read, includes itself, or has a line that is
        no flag.
    """
    expanded: list[str] = []
    rest = list(arguments)
    read: list[Path] = []
    while rest:
        argument = rest.pop(0)
        directive, preset = _DIRECTIVE.fullmatch(argument), _PRESET.fullmatch(argument)
        if argument == "--":
            return [*expanded, argument, *rest]
        if preset is not None:
            name = preset["name"] if preset["name"] is not None else "".join(rest[:1])
            rest = rest if preset["name"] is not None else rest[1:]
            expanded += _lines(str(preset_file(name)), (), read)
            continue
        if directive is None:
            expanded.append(argument)
        elif directive["path"] is not None:
            expanded += _lines(directive["path"], (), read)
        elif rest:
            expanded += _lines(rest.pop(0), (), read)
        else:
            raise flags.IllegalFlagValueError("flag --flagfile: expected the name of a file")
    return expanded


def preset_file(name: str) -> Path:
    """The path of a flagfile that comes with the program.

    Raises:
      flags.IllegalFlagValueError: There is none of that name.
    """
    found = importlib.util.find_spec("experiments")
    folder = Path(*(found.submodule_search_locations or []) if found else ()) / "flagfiles"
    names = sorted(path.stem for path in folder.glob("*.flags"))
    if name not in names:
        raise flags.IllegalFlagValueError(
            f"flag --preset={name}: there is no such preset; one of {', '.join(names)}"
        )
    return folder / f"{name}.flags"


def _lines(name: str, within: tuple[Path, ...], read: list[Path]) -> Iterator[str]:
    """The arguments in a flagfile that the files `within` include, outermost first."""
    flag = f"flag --flagfile={name}"
    try:
        local = Path(local_path("flagfile", name))
    except ValueError as error:
        raise flags.IllegalFlagValueError(f"flag --{error}") from error
    try:
        with local.open("rb") as file:
            octets = file.read(_MOST_BYTES + 1)
        text = octets.decode("utf-8-sig")
        path = local.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise flags.IllegalFlagValueError(
            f"{flag}: cannot be read: {reason}; check the path (--preset=NAME reads those that "
            "come with the program)"
        ) from error
    if len(octets) > _MOST_BYTES:
        raise flags.IllegalFlagValueError(
            f"{flag}: has more than {_MOST_BYTES:,} bytes; is it a flagfile?"
        )
    if path in within:
        raise flags.IllegalFlagValueError(f"{flag}: includes itself; remove that line")
    read.append(path)
    if len(read) > _MOST_FILES:
        raise flags.IllegalFlagValueError(
            f"{flag}: more than {_MOST_FILES} files are included; combine them"
        )
    for number, line in enumerate(map(str.strip, text.split("\n")), 1):
        if not line or line.startswith(("#", "//")):
            continue
        directive = _DIRECTIVE.fullmatch(line)
        if not _FLAG.match(line) or "\0" in line or (directive and directive["path"] is None):
            raise flags.IllegalFlagValueError(
                f"{flag}: line {number}: expected --flag=value, got {line[:80]!r}"
            )
        if directive is None:
            yield line
        else:
            yield from _lines(directive["path"], (*within, path), read)
