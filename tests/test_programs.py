"""Compiled programs are shared: whole files, which started commands read and do not write."""

import os
import random
import subprocess
import sys
from pathlib import Path

import jax
from etils import epath

from tests import programs

PROGRAM = """
import jax
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
jax.jit(lambda x: x * 3 + {number})(1.5)
print(sum(name.endswith("cache_hits") for name in hits))
"""


def test_a_file_has_its_name_when_it_is_whole(tmp_path, monkeypatch):
    path = epath.Path(f"whole://{tmp_path}") / "program"
    seen = []
    replace = os.replace

    def replace_and_look(source, target):
        seen.append((Path(source).read_bytes(), Path(target).exists()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_and_look)
    path.write_bytes(b"all of it")
    assert seen == [(b"all of it", False)]
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"all of it", [tmp_path / "program"])


def test_what_was_not_used_for_long_is_removed(tmp_path):
    for name in ("old", "used", "new"):
        (tmp_path / name).write_bytes(b"program")
    for name in ("old", "used"):
        os.utime(tmp_path / name, (0, 0))
    (epath.Path(f"whole://{tmp_path}") / "used").read_bytes()
    programs._remove_unused(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "used"]


def hits_of_a_command(number):
    command = [sys.executable, "-c", PROGRAM.format(number=number)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_command_reads_the_programs_and_writes_none():
    jax.jit(lambda x: x * 3 + 1)(1.5)
    assert hits_of_a_command(1) == 1
    # No earlier run has compiled this one.
    number = random.random()
    assert [hits_of_a_command(number), hits_of_a_command(number)] == [0, 0]
