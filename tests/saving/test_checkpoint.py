"""Checkpoints: what is kept, what is refused, and one line for whatever cannot be read."""

import hashlib
import json
import os
import re
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.saving import checkpoint
from hiertcn_jax.saving.checkpoint import (
    CheckpointError,
    Checkpoints,
    config_differences,
    unknown_fields,
)
from hiertcn_jax.saving.checkpoint_damage import put_back_replaced
from hiertcn_jax.saving.checksums import write_checksums

CONFIG = {"model": {"item_dim": 4, "tcn_channels": (2, 2)}, "train": {"lanes": 3, "epochs": 5}}
# Large enough to get a file of its own.
STATE = {"w_vd": jnp.arange(1200.0).reshape(40, 30)}


ELSEWHERE = "; use those settings, or another directory"


def save(directory, *steps, lower_is_better=False):
    """Checkpoints at (step, monitored) pairs; the state is STATE + step."""
    checkpoints = Checkpoints(directory)
    for step, monitored in steps:
        state = jax.tree.map(lambda x, step=step: x + step, STATE)
        checkpoints.save(step, state, {"place": [step, 0]}, CONFIG, monitored, lower_is_better)
    checkpoints.close()


def kept(directory):
    checkpoints = Checkpoints(directory, read_only=True)
    found = checkpoints.steps(), checkpoints.latest_step(), checkpoints.best_step()
    checkpoints.close()
    return found


def test_the_best_is_the_lowest_where_lower_is_better(tmp_path):
    save(tmp_path, (1, 0.5), (2, 0.3), (3, 0.6), (4, None), (5, 0.4), lower_is_better=True)
    assert kept(tmp_path) == ([2, 4, 5], 5, 2)


@pytest.mark.parametrize(
    "values, steps, best",
    [
        ([0.5, 0.7, 0.6], [2, 3], 2),
        ([0.5, 0.6, 0.7], [2, 3], 3),
        ([0.7, 0.6, None, 0.5], [1, 3, 4], 1),
        ([None, None, None], [2, 3], 3),
        ([-0.2, None, -0.1], [2, 3], 3),
        ([0.7, 0.7, 0.1, None], [2, 3, 4], 2),
        ([0.5], [1], 1),
    ],
    ids=str,
)
def test_the_newest_two_and_the_best_are_kept(tmp_path, values, steps, best):
    save(tmp_path, *enumerate(values, 1))
    assert kept(tmp_path) == (steps, len(values), best)
    assert {path.name for path in tmp_path.iterdir()} == {str(step) for step in steps}


def test_what_a_killed_run_did_not_come_to_remove_is_removed(tmp_path):
    save(tmp_path, (4, 0.1), (5, 0.2))
    save(tmp_path / "more", (1, 0.9), (2, 0.1), (3, 0.8))
    for step in ("1", "2", "3"):
        if (tmp_path / "more" / step).exists():
            shutil.copytree(tmp_path / "more" / step, tmp_path / step)
    shutil.rmtree(tmp_path / "more")
    # Renamed to be removed, and killed halfway through it.
    (tmp_path / "removed" / "2").mkdir(parents=True)
    (tmp_path / "removed" / "2" / "rest").write_text("x")
    assert kept(tmp_path) == ([1, 2, 3, 4, 5], 5, 1)
    Checkpoints(tmp_path).close()
    assert kept(tmp_path) == ([1, 4, 5], 5, 1)
    assert not (tmp_path / "removed").exists()


def test_a_checkpoint_is_replaced_by_another_of_its_step(tmp_path):
    save(tmp_path, (1, 0.5), (2, None), (2, 0.7))
    assert kept(tmp_path) == ([1, 2], 2, 2)


class KilledError(BaseException):
    """What SIGKILL is to a process, nobody catches here."""


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_while_a_checkpoint_is_replaced_leaves_one_of_its_step(
    tmp_path, monkeypatch, renames
):
    """Of the only checkpoint, killed in front of each of its renames and behind the last."""
    save(tmp_path, (2, None))
    done = []

    def kill_or_rename(source, target=None, **options):
        if len(done) == renames:
            raise KilledError
        os.rename(source, target)
        done.append(target)

    checkpoints = Checkpoints(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "os", types.SimpleNamespace(rename=kill_or_rename))
        patch.setattr(checkpoint, "shutil", types.SimpleNamespace(rmtree=kill_or_rename))
        checkpoints.save(2, STATE, {"place": "new"}, CONFIG, 0.7)
        with pytest.raises(KilledError):
            checkpoints.close()
    assert len(done) == renames
    put_back_replaced(tmp_path)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps() == [2]
    expected = {"place": "new"} if renames == 2 else {"place": [2, 0]}
    assert checkpoints.read(2, "loader") == expected
    checkpoints.close()
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_a_checkpoint_without_its_checksums_gets_no_name(tmp_path, monkeypatch):
    def disk_is_full(folder):
        assert folder.name == "2.writing"
        raise OSError(28, "No space left on device")

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, STATE, {}, CONFIG)
    checkpoints.wait()
    monkeypatch.setattr(checkpoint, "write_checksums", disk_is_full)
    checkpoints.save(2, STATE, {}, CONFIG)
    message = refusal(checkpoints.close)
    assert message.endswith(": [Errno 28] No space left on device; that of step 1 is whole")
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_an_empty_or_missing_directory_has_no_checkpoint(tmp_path):
    assert kept(tmp_path) == ([], None, None)
    assert kept(tmp_path / "missing") == ([], None, None)
    assert not (tmp_path / "missing").exists()


def test_saved_progress_is_restored(tmp_path):
    save(tmp_path, (1, 0.5), (2, 0.4))
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        state = checkpoints.restore(step, STATE)
        np.testing.assert_array_equal(state["w_vd"], STATE["w_vd"] + step)
        assert checkpoints.read(step, "loader") == {"place": [step, 0]}
        assert checkpoints.read(step, "config") == json.loads(json.dumps(CONFIG))
    # Shapes alone are enough to restore into.
    like = jax.eval_shape(lambda: STATE)
    assert checkpoints.restore(1, like)["w_vd"].dtype == jnp.float32
    checkpoints.close()


def refusal(action):
    """The message of a CheckpointError, which must be one line."""
    with pytest.raises(CheckpointError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def restore(directory, like=STATE, config=CONFIG, step=1):
    checkpoints = Checkpoints(directory, read_only=True)
    try:
        state = checkpoints.restore(step, like, lambda saved: config_differences(saved, config))
        return state, checkpoints.read(step, "loader")
    finally:
        checkpoints.close()


def test_other_settings_are_refused_by_the_name_of_each_field(tmp_path):
    save(tmp_path, (1, None))
    wanted = {
        "model": {"item_dim": 8, "tcn_channels": (2, 3), "pooling": "max"},
        "train": {"lanes": 3},
    }
    message = refusal(lambda: restore(tmp_path, config=wanted))
    assert message == (
        f"{tmp_path}/1: made with other settings: "
        "model.item_dim: checkpoint 4, this run 8; "
        "model.pooling: checkpoint None, this run max; "
        "model.tcn_channels: checkpoint [2, 2], this run [2, 3]" + ELSEWHERE
    )


def test_a_field_that_this_program_does_not_know_is_named(tmp_path):
    save(tmp_path, (1, None))
    checkpoints = Checkpoints(tmp_path, read_only=True)

    def restore(known):
        return checkpoints.restore(1, STATE, lambda saved: unknown_fields(saved, known))

    known = {"model": {"item_dim": 8, "tcn_channels": (), "new": 0}, "train": {"lanes": 1}}
    assert refusal(lambda: restore(known)) == (
        f"{tmp_path}/1: made with other settings: "
        "train.epochs: checkpoint 5, unknown to this version" + ELSEWHERE
    )
    assert refusal(lambda: restore({"train": {"lanes": 3, "epochs": 5}})) == (
        f"{tmp_path}/1: made with other settings: model: checkpoint "
        "{'item_dim': 4, 'tcn_channels': [2, 2]}, unknown to this version" + ELSEWHERE
    )
    known["train"]["epochs"] = 1
    restore(known)
    checkpoints.close()


def test_only_what_is_asked_for_must_be_equal():
    saved = {"a": 1, "b": [1, 2], "c": {"d": (3,)}}
    assert config_differences(saved, {"b": (1, 2), "c": {"d": [3]}}) == []
    assert config_differences(saved, {}) == []
    assert config_differences(saved, {"c": 1}) == ["c: checkpoint {'d': (3,)}, this run 1"]
    assert config_differences(saved, {"e": {"f": 0}}) == ["e: checkpoint None, this run {'f': 0}"]


def test_a_missing_step_is_said_with_those_that_are_there(tmp_path):
    save(tmp_path, (1, 0.5), (2, 0.4))
    assert refusal(lambda: restore(tmp_path, step=7)) == (
        f"{tmp_path}: no checkpoint of step 7 (kept: 1, 2)"
    )
    missing = tmp_path / "missing"
    assert refusal(lambda: restore(missing, step=7)) == (
        f"{missing}: no checkpoint of step 7 (kept: none)"
    )


def reseal(folder):
    """As if the files had been written like this."""
    (folder / "checksums.json").unlink()
    write_checksums(folder)


def test_another_schema_is_refused(tmp_path):
    save(tmp_path, (1, None))
    path = tmp_path / "1" / "config" / "metadata"
    values = json.loads(path.read_text())
    for version in (4, True, None):
        path.write_text(json.dumps({**values, "schema_version": version}))
        reseal(tmp_path / "1")
        assert refusal(lambda: restore(tmp_path)) == (
            f"{tmp_path}/1: schema_version={version}: this program reads 2 and 3; "
            "use the one that wrote it"
        )
    # Before there were checksums.
    path.write_text(json.dumps({**values, "schema_version": 1}))
    (tmp_path / "1" / "checksums.json").unlink()
    assert refusal(lambda: restore(tmp_path)) == (
        f"{tmp_path}/1: schema_version=1: this program reads 2 and 3; use the one that wrote it; "
        "no other step is kept"
    )


@pytest.mark.parametrize(
    "value", ['"x"', "[]", "true", "NaN", "-Infinity", '"' + "x\\n" * 99 + '"']
)
def test_what_a_checkpoint_was_worth_is_a_number(whole, tmp_path, value):
    directory = tmp_path / "copy"
    shutil.copytree(whole, directory)
    (directory / "1" / "metrics" / "metadata").write_text(f'{{"monitored": {value}}}')
    reseal(directory / "1")
    # A run that goes on there says it at its start, not when there are checkpoints to remove.
    for action in (lambda: Checkpoints(directory), lambda: kept(directory)):
        message = refusal(action)
        assert message.startswith(f"{directory}/1: metrics: monitored=")
        assert message.endswith(": must be a number or null")


@pytest.mark.parametrize("item", ["config", "loader", "metrics"])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 60 + "1" + "}" * 60])
def test_a_part_that_is_nested_too_deeply_is_one_line(whole, tmp_path, item, text):
    directory = tmp_path / "copy"
    shutil.copytree(whole, directory)
    (directory / "1" / item / "metadata").write_text(text)
    reseal(directory / "1")
    checkpoints = Checkpoints(directory, read_only=True)
    message = refusal(lambda: (checkpoints.read(1, item), checkpoints.best_step()))
    checkpoints.close()
    assert message == f"{directory}/1: {item} cannot be read: nested too deeply"


@pytest.mark.parametrize(
    "like",
    [
        {"w_vd": jnp.zeros((41, 30))},
        {"other": jnp.zeros((40, 30))},
        {**STATE, "b_v": jnp.zeros(40)},
    ],
    ids=["shape", "name", "more"],
)
def test_a_state_of_another_structure_is_refused(tmp_path, like):
    save(tmp_path, (1, None))
    assert "state cannot be read" in refusal(lambda: restore(tmp_path, like=like))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    save(directory, (1, 0.5))
    return directory


def flip(path):
    """One bit, at a place that depends on the name."""
    content = bytearray(path.read_bytes())
    place = int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4]) % len(content)
    content[place] ^= 4
    path.write_bytes(content)


HARMS = {
    "delete": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "more": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "flip": flip,
    "garbage": lambda path: path.write_bytes(hashlib.shake_256(b"").digest(path.stat().st_size)),
    "list": lambda path: path.write_bytes(b"[1, 2]"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_any_damage_to_a_file_names_the_file(whole, tmp_path, harm):
    """Each file in turn: one line that begins with its path, before anything is restored."""
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert len(files) > 15
    for number, file in enumerate(files):
        directory = tmp_path / str(number)
        shutil.copytree(whole, directory)
        HARMS[harm](directory / file)
        if (file.name, harm) == ("checksums.json", "more"):
            restore(directory)  # A blank line says nothing else.
            continue
        message = refusal(lambda directory=directory: restore(directory))
        if (file.name, harm) == ("checksums.json", "flip"):
            assert message.startswith(f"{directory}/1/")  # Some file is not as it says.
        else:
            assert message.startswith(f"{directory / file}: ")


@pytest.mark.parametrize("part", ["state", "config", "loader", "metrics"])
def test_a_part_that_is_gone_is_one_line(whole, tmp_path, part):
    directory = tmp_path / "copy"
    shutil.copytree(whole, directory)
    shutil.rmtree(directory / "1" / part)
    assert re.match(
        rf"{directory}/1/{part}/\S+: missing; no other step is kept$",
        refusal(lambda: restore(directory)),
    )


def test_a_file_that_nobody_wrote_is_named(whole, tmp_path):
    directory = tmp_path / "copy"
    shutil.copytree(whole, directory)
    (directory / "1" / "state" / "more").write_text("")
    assert refusal(lambda: restore(directory)) == (
        f"{directory}/1/state/more: not in checksums.json; no other step is kept"
    )


@pytest.mark.parametrize("name", ["2.writing", "2.writing.orbax-checkpoint-tmp"])
def test_what_was_not_renamed_is_no_checkpoint_and_is_cleaned_up(whole, tmp_path, name):
    directory = tmp_path / "copy"
    shutil.copytree(whole, directory)
    aside = directory / name
    shutil.copytree(directory / "1", aside)
    assert kept(directory) == ([1], 1, 1)
    assert aside.exists()
    save(directory, (3, 0.1))
    assert not aside.exists()
    assert kept(directory) == ([1, 3], 3, 1)


def test_reading_changes_nothing_on_disk(tmp_path):
    save(tmp_path, (1, 0.5), (2, 0.4))

    def contents():
        return {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}

    before = contents()
    kept(tmp_path)
    restore(tmp_path)
    refusal(lambda: restore(tmp_path, step=5))
    assert contents() == before
