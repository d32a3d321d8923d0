"""metrics.jsonl: lines after the step from which a run resumes are dropped."""

import errno
import functools
import json
import os
import re
import struct
import types

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from experiments.runs.journal import Journal, keep_lines_until
from tests.experiments.small_runs import settings_of


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_after_the_step_and_a_cut_off_line_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = [json.dumps({"step": step, "kind": "train", "loss": 0.5}) for step in (5, 10, 10, 15)]
    path.write_text("\n".join(whole) + '\n{"step": 5, "ki')
    keep_lines_until(path, 10)
    assert path.read_text() == "\n".join(whole[:3]) + "\n"
    # A line without its line end may lack digits too.
    path.write_text("\n".join(whole[:2]))
    keep_lines_until(path, 10)
    assert path.read_text() == whole[0] + "\n"
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_missing_journal_is_not_created(tmp_path):
    keep_lines_until(tmp_path / "metrics.jsonl", 10)
    assert list(tmp_path.iterdir()) == []


def test_a_journal_continues_after_its_step(tmp_path):
    journal = Journal(tmp_path, 0)
    for step in (1, 2, 3):
        journal.write(step, "train", {"loss": 1.0 / step, "note": "text"})
    # Lines are on disk at once, so a killed run loses none.
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    journal.close()

    journal = Journal(tmp_path, 2)
    journal.write(3, "valid", {"all/mrr": 0.25})
    journal.close()
    assert lines(tmp_path / "metrics.jsonl") == [
        {"step": 1, "kind": "train", "loss": 1.0, "note": "text"},
        {"step": 2, "kind": "train", "loss": 0.5, "note": "text"},
        {"step": 3, "kind": "valid", "all/mrr": 0.25},
    ]
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_a_fresh_run_starts_an_empty_journal(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "kind": "train"}\n')
    Journal(tmp_path, 0).close()
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_a_validation_that_is_still_to_come_has_no_line_yet(tmp_path):
    path = tmp_path / "metrics.jsonl"
    text = [json.dumps({"step": step, "kind": kind}) for step, kind in (
        (5, "valid"), (10, "train"), (10, "valid"))]  # fmt: skip
    path.write_text("\n".join(text) + "\n")
    keep_lines_until(path, 10)
    assert lines(path)[-1] == {"step": 10, "kind": "valid"}
    keep_lines_until(path, 10, validation_due=True)
    assert path.read_text() == "\n".join(text[:2]) + "\n"


def test_foreign_lines_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'7\n[]\n{"kind": "train"}\n{"step": "x", "kind": 1}\n\xff\x00\n{"step": 1, "kind": "a"}\n'
    )
    keep_lines_until(path, 10)
    assert lines(path) == [{"step": 1, "kind": "a"}]


def test_a_line_that_is_nested_without_end_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("[" * 100_000 + '\n{"step": 1, "kind": "a"}\n')
    keep_lines_until(path, 10)
    assert lines(path) == [{"step": 1, "kind": "a"}]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_an_invalid_journal_is_reported(tmp_path, make):
    path = tmp_path / "metrics.jsonl"
    make(path)
    with pytest.raises(OSError, match=f"^{path}: is no file; remove it$"):
        keep_lines_until(path, 10)


def test_what_cannot_be_written_is_named(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    for where, name in (("_file", "metrics.jsonl"), ("_curves", "tensorboard")):
        journal = Journal(tmp_path, 0)
        broken = types.SimpleNamespace(write=full, add=full, flush=full, fileno=full, close=full)
        whole = getattr(journal, where)
        setattr(journal, where, broken)
        message = re.escape(f"No space left on device: '{tmp_path}/{name}'") + "$"
        write = functools.partial(journal.write, 1, "train", {"loss": 1.0})
        for action in (write, journal.sync, journal.close):
            with pytest.raises(OSError, match=message):
                action()
        setattr(journal, where, whole)
        journal.close()


def test_tensorboard_has_the_settings_of_the_run(tmp_path, data):
    run = settings_of(data, tmp_path / "run", "--tcn_channels=3,4").run
    settings = run.hyperparameters()
    Journal(tmp_path, 0, settings=settings, metrics=("train/loss", "valid/all/mrr")).close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    found = {
        value.tag: value.metadata.plugin_data
        for event in read_events(path)
        for value in event.summary.value
    }
    assert {data.plugin_name for data in found.values()} == {"hparams"}
    row = HParamsPluginData.FromString(found["_hparams_/session_start_info"].content)
    cells = row.session_start_info.hparams
    assert set(cells) == set(settings)
    assert (cells["tcn_channels"].string_value, cells["model"].string_value) == ("3,4", "hiertcn")
    assert cells["negatives"].string_value == "popularity:16"
    assert (cells["item_dim"].number_value, cells["residual"].bool_value) == (4, True)
    table = HParamsPluginData.FromString(found["_hparams_/experiment"].content).experiment
    assert [info.name.tag for info in table.metric_infos] == ["train/loss", "valid/all/mrr"]


def test_curves_equal_the_lines_and_continue_after_the_step(tmp_path):
    for start in (0, 2):
        journal = Journal(tmp_path, start)
        journal.write(start + 1, "train", {"loss": 0.5, "note": "text", "nothing": None})
        journal.sync()
        journal.close()
    # Each start has its own file, even within the same second.
    paths = sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    events = [event for path in paths for event in read_events(path)]
    assert [event.session_log.status for event in events if event.HasField("session_log")]
    points = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]
    assert points == [(1, "train/loss", 0.5), (3, "train/loss", 0.5)]


def read_events(path):
    """The records of an event file: length, its check, the event, its check."""
    content, at = path.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack_from("Q", content, at)
        yield Event.FromString(content[at + 12 : at + 12 + length])
        at += 16 + length
