"""Notes of processes: a JAX that keeps them elsewhere is an error that says so."""

import types

import pytest

from experiments.processes import notes


def test_a_jax_without_this_private_name_is_named(monkeypatch):
    monkeypatch.setattr(notes, "jax", types.SimpleNamespace(__version__="9.9"))
    with pytest.raises(RuntimeError, match=r"jax 9\.9 keeps the notes of processes elsewhere"):
        notes.notes_of_jax()


def test_a_process_alone_has_no_notes():
    with pytest.raises(RuntimeError, match="no processes are joined"):
        notes.notes_of_jax()
