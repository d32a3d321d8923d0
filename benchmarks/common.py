"""Writes the reports of all benchmarks: the figures, the machine and the commit."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.runs.commit import current_commit

Figures = Mapping[str, Mapping[str, Any]]
"""{case: {figure: value}}. Names of figures contain their unit. Versions and settings of a case may
be among them."""


def write_report(path: Path | str, key: str, figures: Figures, **machine: Any) -> None:
    """Writes {"machine", "commit", key: figures} as JSON.

    Args:
      path: The file to write.
      key: "cases" or "models".
      figures: What was measured.
      **machine: Facts about the machine to add to `describe_machine`.
    """
    report = {
        "machine": describe_machine() | machine,
        "commit": current_commit(),
        key: {name: dict(case) for name, case in figures.items()},
    }
    Path(path).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def print_figures(figures: Figures) -> None:
    """Prints one line of numbers for each case."""
    for name, case in figures.items():
        print(name, *(f"{figure}={value:,}" for figure, value in case.items()))


def require_directory(path: Path | str) -> None:
    """Raises a ValueError if `path` cannot be written: before minutes of work, not after."""
    directory = Path(path).absolute().parent
    if not directory.is_dir():
        raise ValueError(f"json={path}: there is no directory {directory}")


def process_status(pid: int | str = "self") -> dict[str, int]:
    """The numbers that Linux reports for a process, by its names.

    Memory is in bytes: VmRSS is resident now, RssAnon is the part of it that belongs to no file,
    VmHWM is the peak of VmRSS so far.

    Raises:
      OSError: The process has ended.
    """
    status = {}
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        name, value = line.split(":", 1)
        match value.split():
            case [number, "kB"]:
                status[name] = int(number) << 10
            case [number] if number.isdecimal():
                status[name] = int(number)
    return status


def process_cpu_seconds(pid: int | str = "self") -> float:
    """Seconds of processor time that Linux reports for a process, of all its threads.

    Raises:
      OSError: The process has ended.
    """
    # The name of the program may have blanks; user and system time are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def describe_machine() -> dict[str, Any]:
    """The processor, how many cores of it this process may use, and the system."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
