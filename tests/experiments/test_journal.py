"""metrics.jsonl: what stands behind the step that a run goes on from is dropped."""

import json

from experiments.journal import Journal, keep_lines_until


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_behind_the_step_and_a_line_cut_off_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = [json.dumps({"step": step, "kind": "train", "loss": 0.5}) for step in (5, 10, 10, 15)]
    path.write_text("\n".join(whole) + '\n{"step": 5, "ki')
    keep_lines_until(path, 10)
    assert path.read_text() == "\n".join(whole[:3]) + "\n"
    # A line that lacks nothing but its end may lack digits too.
    path.write_text("\n".join(whole[:2]))
    keep_lines_until(path, 10)
    assert path.read_text() == whole[0] + "\n"
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_nothing_is_made_of_a_journal_that_is_missing(tmp_path):
    keep_lines_until(tmp_path / "metrics.jsonl", 10)
    assert list(tmp_path.iterdir()) == []


def test_a_journal_goes_on_behind_its_step(tmp_path):
    journal = Journal(tmp_path, 0)
    for step in (1, 2, 3):
        journal.write(step, "train", {"loss": 1.0 / step, "note": "text"})
    # On disk at once: a killed run has lost no line.
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
