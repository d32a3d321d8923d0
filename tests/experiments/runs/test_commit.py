"""The commit recorded with a result, in a temporary checkout."""

import subprocess

import pytest

from experiments.runs import commit


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    monkeypatch.setattr(commit, "__file__", str(tmp_path / "commit.py"))
    # Ignores the machine's git configuration, and any repository around.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return git


def test_a_commit_is_named_and_a_changed_tree_marked(checkout, tmp_path):
    checkout("init", "-q")
    (tmp_path / "a").write_text("1")
    checkout("add", "a")
    checkout("commit", "-q", "-m", "one")
    head = checkout("rev-parse", "HEAD")
    assert commit.current_commit() == head
    (tmp_path / "a").write_text("2")
    assert commit.current_commit() == f"{head}-dirty"


def test_no_checkout_and_no_git_have_no_commit(checkout, tmp_path, monkeypatch):
    assert commit.current_commit() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit.current_commit() is None
