"""Which code made a result."""

import subprocess
from pathlib import Path


def current_commit() -> str | None:
    """The commit of this checkout, "-dirty" behind it if tracked files differ.

    None where it is not known: this is no git checkout, or there is no git.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None
