"""python -m data_pipelines.prepare: what it prints, its exit codes, and its end by a signal."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from data_pipelines.commands.settings_flags import define_flags
from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.histories.manifest import load_manifest
from data_pipelines.histories.store import open_histories
from data_pipelines.prepare import main, prepare, read_config
from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.settings import fields_of
from tests.data_pipelines.logs import small_times_config, write_csv
from tests.data_pipelines.prepare_logs import INTEGERS, ROWS, config_of, rows_of
from tests.forked import run_forked

ROOT = Path(__file__).parents[2]
SMALL_TIMES = ("--time_unit=s", "--allow_odd_times")


def run(*arguments):
    return run_forked("data_pipelines.prepare", *arguments)


def run_here(*arguments):
    """Does in this process what the command does; an error is raised."""
    with flagsaver.flagsaver():
        define_flags(fields_of(PrepareConfig))
        flags.FLAGS(["prepare", *map(str, arguments)])
        main(read_config())


def test_overlapping_sessions_become_one_are_counted_and_printed(tmp_path):
    rows = [f"{user},A,c,{day + 100}" for user in "xyz" for day in (0, 86_400, 172_800)]
    rows += [f"{user},B,d,{day + 160}" for user in "xyz" for day in (0, 86_400, 172_800)]
    rows += [f"{user},A,d,{day + 220}" for user in "xyz" for day in (0, 86_400, 172_800)]
    path = write_csv(tmp_path / "log.csv", *rows, header="user_id,session_id,item_id,timestamp")
    result = run(
        f"--input={path}", f"--output_dir={tmp_path / 'D'}", "--session_column=session_id",
        "--gap_minutes=60", *SMALL_TIMES,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    line = "overlapping sessions: 18 of 3 users (27 events) became 9, in order of time"
    assert line in result.stdout
    assert load_manifest(tmp_path / "D")["merged_sessions"] == {
        "users": 3, "sessions": 18, "into": 9, "events": 27,
    }  # fmt: skip
    for history in open_histories(tmp_path / "D"):
        assert (np.diff(history.times) > 0).all()
        assert history.session_lengths.tolist() == [3, 3, 3]
    # Without a gap limit each id lasts for three days, and a user's sessions all merge.
    config = small_times_config(input=(path,), session_column="session_id", output_dir="D")
    with pytest.raises(DataError, match="part is left empty"):
        prepare(config)


def test_inputs_add_up_in_natural_order_and_none_counts_twice(tmp_path):
    """Inputs as a person types them; the second and tenth part have the same moment."""
    log = tmp_path / "log"
    log.mkdir()
    for number, item in ((1, "a"), (2, "b"), (10, "c")):
        rows = [f"u{user},{item},{day * 86_400}" for user in range(3) for day in range(3)]
        write_csv(log / f"part-{number}.csv", *rows)
    (log / "_SUCCESS").touch()
    one, two, ten = (log / f"part-{number}.csv" for number in (1, 2, 10))
    for number, given in enumerate(([f"{one},{two},{ten}"], [one, two, ten], [log], [log / "*"])):
        output = tmp_path / str(number)
        inputs = [f"--input={path}" for path in given]
        run_here(*inputs, f"--output_dir={output}", *SMALL_TIMES)
        assert load_manifest(output)["counts"]["events"] == 27
        first = open_histories(output)[0]
        assert Vocabulary.load(output).decode(first.item_ids[:3]) == ["a", "b", "c"]
    for given in ([one, one], [f"{one},{one}"], [one, log], [log / "*.csv", ten]):
        inputs = [f"--input={path}" for path in given]
        with pytest.raises(DataError) as caught:
            run_here(*inputs, f"--output_dir={tmp_path / 'D'}", *SMALL_TIMES)
        assert re.fullmatch(
            r"\S+: this file is named twice.*, so name it once", str(caught.value)
        ), given
        assert not (tmp_path / "D").exists()


def test_what_was_read_is_printed(tmp_path):
    path = write_csv(tmp_path / "log.csv", *rows_of(INTEGERS))
    result = run(f"--input={path}", f"--output_dir={tmp_path / 'D'}")
    assert (result.returncode, result.stderr) == (0, "")
    said = " ".join(result.stdout.split())
    for line in (
        "times: 2020-09-13 12:26:40 to 2020-09-15 12:26:54 UTC, numbers read as seconds",
        "sessions: 3.0 a user, median 3; 2.0 events a session, median 2",
        "user 0 has 6 events, 20% of all: if it stands for nobody, name it in --null_values",
        "2 more users have over a tenth of all events each",
        "item 10 has 12 events, 40% of all",
    ):
        assert line in said
    assert "identical" not in said
    dates = write_csv(tmp_path / "d.csv", *(f"u,{k},2020-01-0{k + 1}" for k in range(3)))
    result = run(f"--input={dates}", f"--output_dir={tmp_path / 'E'}")
    assert "times: 2020-01-01 00:00:00 to 2020-01-03 00:00:00 UTC\n" in result.stdout


def test_the_program_prints_a_table(tmp_path):
    path = write_csv(tmp_path / "log.csv", *ROWS)
    # rich would take this name for markup, without an opening tag.
    arguments = [f"--input={path}", f"--output_dir={tmp_path / '[/D]'}", *SMALL_TIMES]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "data_pipelines.prepare", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert "5 users, 4 items, 15 sessions, 30 events" in result.stdout


@pytest.mark.parametrize(
    ("row", "arguments", "code", "message"),
    [
        ("1,2,noon", [], 1, "row 31 (line 32), column 'timestamp': expected a number"),
        ("1,2", ["--min_sessions=0"], 2, "min_sessions=0: must be >= 1"),
        ("1,2", ["--what=0"], 2, "flag --what: there is no such flag"),
    ],
)
def test_exit_codes_and_the_one_line(tmp_path, row, arguments, code, message):
    path = write_csv(tmp_path / "log.csv", *ROWS, row)
    result = run(f"--input={path}", f"--output_dir={tmp_path / 'D'}", *SMALL_TIMES, *arguments)
    assert result.returncode == code
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.parametrize(
    ("times", "argument", "message"),
    [
        ((1_506_826_800, 1_506_826_900), "--time_unit=ms", "--time_unit=s reads"),
        ((1_506_826_800, 1_506_826_900_000), "--time_unit=auto", "bring the times of the log to"),
        ((20_180_301, 20_180_302), "--time_unit=s", "--time_format=%Y%m%d reads it"),
        ((20_200_913_122_640, 20_200_913_122_650), "--time_unit=ms", "%Y%m%d%H%M%S reads it"),
        ((100, 160), "--time_unit=s", "--allow_odd_times reads such times too"),
    ],
)
def test_times_that_were_once_misread_are_one_line(tmp_path, times, argument, message):
    path = write_csv(tmp_path / "log.csv", *(f"u,i,{time}" for time in times))
    for more in ([], ["--on_bad_row=skip"]):
        with pytest.raises(DataError) as caught:
            run_here(f"--input={path}", f"--output_dir={tmp_path / 'D'}", argument, *more)
        said = str(caught.value)
        assert "\n" not in said
        if not (more and times[0] == 100):
            assert re.fullmatch(rf"\S+: row [12] \(line [23]\).*{message}.*", said)
        assert not (tmp_path / "D").exists()


def test_a_log_with_an_order_alone_is_prepared_as_the_same_seconds(tmp_path, capsys):
    rows = [f"u{n % 2},i{n % 3},{n},s{n // 6}" for n in range(36)]
    path = write_csv(tmp_path / "log.csv", *rows, header="user_id,item_id,timestamp,session")
    asked = [f"--input={path}", "--session_column=session"]
    run_here(*asked, f"--output_dir={tmp_path / 'order'}", "--time_unit=order")
    said = " ".join(capsys.readouterr().out.split())
    assert "times: none, an order from 0 to 35; models count its steps where they would" in said
    run_here(*asked, f"--output_dir={tmp_path / 'seconds'}", *SMALL_TIMES)
    order, seconds = (load_manifest(tmp_path / name) for name in ("order", "seconds"))
    assert (order["log"]["time_unit"], seconds["log"]["time_unit"]) == ("order", "s")
    assert order["content_hash"] == seconds["content_hash"]


def test_stopped_by_a_signal_it_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", _STOPS_WHILE_WRITING, str(tmp_path / "D")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_killed_it_leaves_no_output_and_the_next_one_cleans_up(tmp_path):
    script = _STOPS_WHILE_WRITING.replace("SIGTERM", "SIGKILL")
    command = [sys.executable, "-c", script, str(tmp_path / "D")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".D.partial-")
    prepare(config_of(tmp_path, synthetic="planted", synthetic_users=50))
    assert [path.name for path in tmp_path.iterdir()] == ["D"]


_STOPS_WHILE_WRITING = """
import os, signal, sys
from absl import flags
from data_pipelines import prepare
from data_pipelines.commands.command import run_command

prepare.save_manifest = lambda *arguments: os.kill(os.getpid(), signal.SIGTERM)
sys.argv[1:] = ["--synthetic=planted", "--synthetic_users=50", "--output_dir=" + sys.argv[1]]
prepare.define_flags()
run_command(prepare.read_config, prepare.main, ())
"""
