"""URLs are refused in every flag of every command, and `~` is the home directory."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from data_pipelines.config import PrepareConfig
from data_pipelines.local_paths import PATH_FLAGS, expand_paths_of_flags, local_path

ROOT = Path(__file__).parents[2]
URLS = ("gs://bucket/x", "s3://bucket/a,b", "hdfs://host:9000/x", "file:///x", "HTTPS://x/y")


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_refused_with_what_to_do(url):
    expected = f"workdir={url}: expected a local path, got a URL; mount the store as a directory"
    with pytest.raises(ValueError, match=re.escape(expected)):
        local_path("workdir", url)


@pytest.mark.parametrize("text", ["a/b", "/a", "", "C:/x", "a=gs://b", "x~/~y", ":// "])
def test_other_paths_stay(text):
    assert local_path("workdir", text) == text


def test_a_path_that_is_no_unicode_is_refused(monkeypatch, tmp_path):
    """Libraries cannot open it, and would end in a traceback."""
    expected = r"^workdir=.*: its path has bytes that are not UTF-8, .*; rename it, give a link"
    bad = os.fsdecode(b"b\xe4d")
    for text in (bad, f"{bad}/W", f"/{bad}/W", f"~/{bad}"):
        with pytest.raises(ValueError, match=expected):
            local_path("workdir", text)
    assert local_path("workdir", "bäd") == "bäd"
    (tmp_path / bad).mkdir()
    monkeypatch.chdir(tmp_path / bad)
    with pytest.raises(ValueError, match=expected):
        local_path("workdir", "W")
    assert local_path("workdir", str(tmp_path)) == str(tmp_path)


def test_the_home_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("workdir", "~") == str(tmp_path)
    assert local_path("workdir", "~/a b") == str(tmp_path / "a b")
    for text in ("~nobody-of-this-name/x", "~\0/x"):
        with pytest.raises(ValueError, match=r"there is no user '.*'; a directory of that name is"):
            local_path("workdir", text)


def parse(*arguments):
    values = flags.FlagValues()
    for name in ("workdir", "null_values", "storage"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    flags.DEFINE_string("output", "~/x", "Not given, so not looked at.", flag_values=values)
    flags.DEFINE_list("settings", [], "", flag_values=values)
    flags.DEFINE_multi(
        flags.ListParser(), flags.ListSerializer(","), "input", [], "", flag_values=values
    )
    flags.DEFINE_integer("steps", 3, "", flag_values=values)
    values(["command", *arguments])
    expand_paths_of_flags(values)
    return values


def test_texts_of_path_flags_alone_and_in_lists(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    values = parse(
        "--workdir=~/w", "--settings=a,~/b", "--input=~/c,d", "--input=~/e", "--steps=4",
        "--null_values=~", "--storage=sqlite:///~/s.db",
    )  # fmt: skip
    assert values.workdir == "/home/me/w"
    assert values.settings == ["a", "/home/me/b"]
    assert values.input == [["/home/me/c", "d"], ["/home/me/e"]]
    assert (values.null_values, values.output) == ("~", "~/x")
    assert values.storage == "sqlite:////home/me/s.db"
    assert parse("--storage=postgresql://u@host/d").storage == "postgresql://u@host/d"


@pytest.mark.parametrize(
    "argument", ["--workdir=gs://b", "--settings=a,s3://b", "--input=a,gs://b"]
)
def test_the_flag_is_named(argument):
    name = argument[2:].partition("=")[0]
    with pytest.raises(flags.IllegalFlagValueError, match=rf"^flag --{name}=\w+://b: expected a l"):
        parse(argument)


def test_an_empty_path_is_not_the_current_directory():
    """As --workdir=$W gives it, when a shell's variable is not set."""
    with pytest.raises(flags.IllegalFlagValueError, match=r"^flag --workdir=: is empty; name a pa"):
        parse("--workdir=")
    assert parse("--settings=").settings == []


@pytest.mark.parametrize("name", sorted(PATH_FLAGS))
def test_an_empty_path_is_refused_wherever_it_has_no_meaning(name):
    """--token_file=$T, with T not set, would serve without a token."""
    values = flags.FlagValues()
    flags.DEFINE_string(name, None, "", flag_values=values)
    values(["command", f"--{name}="])
    if name in ("item_embeddings", "item_embedding_ids"):
        expand_paths_of_flags(values)
        return
    with pytest.raises(flags.IllegalFlagValueError, match=f"^flag --{name}=: is empty; name a pa"):
        expand_paths_of_flags(values)


@pytest.mark.parametrize("field", ["output_dir", "catalogue", "tfds_data_dir"])
def test_a_config_refuses_urls_too(field):
    given = {"output_dir": "D", "tfds": "a/b", field: "gs://bucket/x"}
    with pytest.raises(ValueError, match=f"^{field}=gs://bucket/x: expected a local path"):
        PrepareConfig(**given)
    for name in ("input", "impressions"):
        lists = {"output_dir": "D", "input": ("a",), name: ("a.csv", "gs://b/c.csv")}
        with pytest.raises(ValueError, match=f"^{name}=gs://b/c.csv: expected a local path"):
            PrepareConfig(**lists)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("data_pipelines.prepare", ("--input=a.csv", "--output_dir=gs://bucket/x")),
        ("experiments.train", ("--data_dir=D", "--workdir=gs://bucket/x")),
    ],
)
def test_a_command_says_so_in_one_line_and_makes_nothing(command, arguments, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", command, *arguments], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    flag = arguments[1]
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert result.stderr.startswith(f"error: flag {flag}: expected a local path, got a URL; mount")
    assert list(tmp_path.iterdir()) == []
