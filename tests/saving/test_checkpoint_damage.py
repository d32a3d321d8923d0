"""What is whole and what is not, before anything is restored."""

import json
import os
import shutil

import pytest

from hiertcn_jax.saving.checkpoint_damage import (
    checkpoint_damage,
    metrics_damage,
    put_back_replaced,
    set_aside,
    step_folders,
    survey,
)
from hiertcn_jax.saving.checksums import find_damage, write_checksums


def make_checkpoint(folder):
    for name, text in (
        ("state/d/0", "numbers"),
        ("config/metadata", '{"schema_version": 2}'),
        ("metrics/metadata", "{}"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    write_checksums(folder)


@pytest.fixture
def directory(tmp_path):
    for step in (8, 9, 10):
        make_checkpoint(tmp_path / str(step))
    (tmp_path / "11.writing").mkdir()
    return tmp_path


def test_steps_are_told_by_their_folders_newest_first(directory):
    (directory / "12").write_text("a file")
    for name in ("013", "\u0661\u0664", "15.old", "-16", "1_7"):
        (directory / name).mkdir()
    assert list(step_folders(directory)) == [10, 9, 8]
    assert step_folders(directory / "none") == {}


def test_what_was_written_is_whole(directory):
    assert survey(directory) == (10, {})
    assert survey(directory / "none") == (None, {})


def test_checksums_are_those_that_other_programs_compute(directory):
    listed = json.loads((directory / "8" / "checksums.json").read_text())["files"]
    # printf numbers | sha256sum
    assert listed["state/d/0"] == {
        "bytes": 7,
        "sha256": "f3c7807d475073ba009bf4801b2d934e9f0126cb96dd19a27dbffcae23a7f5a3",
    }
    assert list(listed) == ["config/metadata", "metrics/metadata", "state/d/0"]


def test_the_newest_whole_one_is_found_behind_damaged_ones(directory):
    (directory / "10" / "state/d/0").write_text("numbXrs")
    (directory / "9" / "config" / "metadata").unlink()
    found = survey(directory)
    assert found.newest_whole == 8
    assert found.damaged == {
        10: f"{directory}/10/state/d/0: changed since it was written: its SHA-256 differs",
        9: f"{directory}/9/config/metadata: missing",
    }


def test_of_those_behind_the_newest_whole_one_only_the_metrics_are_compared(directory):
    (directory / "9" / "state/d/0").write_text("numbXrs")
    (directory / "8" / "metrics" / "metadata").write_text("[]")
    assert checkpoint_damage(directory / "9") is not None
    assert metrics_damage(directory / "9") is None
    found = survey(directory)
    assert found.newest_whole == 10
    assert list(found.damaged) == [8]


def test_the_best_is_compared_too(directory):
    """Though a newer one is whole: damage would only be noticed when the run has ended."""
    for step, value in ((8, 0.3), (9, 0.5), (10, 0.4)):
        (directory / str(step) / "metrics" / "metadata").write_text(f'{{"monitored": {value}}}')
        (directory / str(step) / "checksums.json").unlink()
        write_checksums(directory / str(step))
    for step in (8, 9):
        (directory / str(step) / "state/d/0").write_text("numbXrs")
    found = survey(directory)
    assert (found.newest_whole, list(found.damaged)) == (10, [9])


def test_names_in_the_checksums_lead_nowhere_out_of_the_folder(directory, tmp_path):
    path = directory / "8" / "checksums.json"
    values = json.loads(path.read_text())
    values["files"]["../9/state/d/0"] = values["files"]["state/d/0"]
    path.write_text(json.dumps(values))
    assert find_damage(directory / "8") == f"{directory}/8/../9/state/d/0: missing"


NESTED = "[" * 100_000


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": 3}', '{"files": {"a": 1}}', "\x00", NESTED]
)
def test_checksums_that_are_none_are_one_line(directory, text):
    (directory / "8" / "checksums.json").write_text(text)
    damage = find_damage(directory / "8")
    assert damage.startswith(f"{directory}/8/")
    assert "\n" not in damage


def test_a_checkpoint_from_before_there_were_checksums_says_its_schema(directory):
    (directory / "8" / "checksums.json").unlink()
    assert checkpoint_damage(directory / "8") == f"{directory}/8/checksums.json: missing"
    (directory / "8" / "config" / "metadata").write_text('{"schema_version": 1}')
    assert checkpoint_damage(directory / "8") == (
        f"{directory}/8: schema_version=1: this program reads 2 and 3; use the one that wrote it"
    )
    (directory / "8" / "config" / "metadata").write_text(NESTED)
    assert checkpoint_damage(directory / "8") == f"{directory}/8/checksums.json: missing"


def test_what_was_about_to_be_replaced_gets_its_name_back(directory):
    (directory / "9").rename(directory / "9.replaced")
    shutil.copytree(directory / "8", directory / "8.replaced")
    (directory / "8.replaced" / "checksums.json").unlink()
    put_back_replaced(directory)
    assert survey(directory) == (10, {})
    assert {path.name for path in directory.iterdir()} == {"8", "9", "10", "11.writing"}
    put_back_replaced(directory / "none")


def test_what_is_set_aside_is_kept_whole_and_out_of_the_way(directory):
    for _ in range(2):
        before = {path.name for path in (directory / "10").rglob("*")}
        aside = set_aside(directory, 10)
        assert {path.name for path in aside.rglob("*")} == before
        assert list(step_folders(directory)) == [9, 8]
        # The same step, damaged again.
        shutil.copytree(aside, directory / "10")
    os.stat(directory / "damaged" / "10" / "checksums.json")
