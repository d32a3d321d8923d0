import itertools
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from absl import flags

from data_pipelines.commands.settings_flags import define_flags, read_settings
from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.histories.manifest import load_manifest
from data_pipelines.histories.store import open_histories
from data_pipelines.prepare import Asked, main, prepare
from data_pipelines.sessions.vocabulary import Vocabulary
from data_pipelines.synthetic import SyntheticConfig, synthetic_log
from hiertcn_jax.settings import fields_of
from tests.data_pipelines.logs import small_times_config, write_csv
from tests.forked import run_forked
from tests.volume import mostly_thorough

ROOT = Path(__file__).parents[2]
FLAGFILES = ROOT / "experiments" / "flagfiles"
REAL_LOGS = ROOT.parent / "shared" / "data"

ROWS = [
    f"user {user},item {(user + session) % 4},{86_400 * session + user + 10 * event}"
    for user, session, event in itertools.product(range(5), range(3), range(2))
]


SMALL_TIMES = ("--time_unit=s", "--allow_odd_times")


def config_of(tmp_path, **changes):
    if "input" not in changes and "synthetic" not in changes:
        changes["input"] = (write_csv(tmp_path / "log.csv", *ROWS),)
    return small_times_config(**{"output_dir": str(tmp_path / "D"), **changes})


def run(*arguments):
    return run_forked("data_pipelines.prepare", *arguments)


def test_the_whole_way(tmp_path):
    manifest = prepare(config_of(tmp_path))
    output = tmp_path / "D"
    assert load_manifest(output) == manifest
    assert sorted(path.name for path in output.iterdir()) == [
        "histories",
        "log",
        "manifest.json",
        "vocabulary.parquet",
    ]
    assert manifest["counts"]["events"] == 30
    for part in manifest["counts"]["splits"].values():
        assert part["events"] == {"all": 10, "first": 5, "next": 5}
    source, vocabulary = open_histories(output), Vocabulary.load(output)
    assert [history.user_id for history in source] == [f"user {k}" for k in range(5)]
    assert vocabulary.decode(source[1].item_ids) == ["item 1"] * 2 + ["item 2"] * 2 + ["item 3"] * 2
    assert source[1].times.tolist() == [day * 86_400 + 1 + k for day in range(3) for k in (0, 10)]
    assert source[1].session_splits.tolist() == [0, 1, 2]


def test_the_hash_is_of_the_content(tmp_path):
    path = write_csv(tmp_path / "log.csv", *ROWS)
    pl.read_csv(path).write_parquet(tmp_path / "log.parquet")
    other = write_csv(tmp_path / "other.csv", *ROWS[:-1], ROWS[-1] + "0")
    hashes = [
        prepare(config_of(tmp_path, output_dir=str(tmp_path / str(k)), input=(source,)))[
            "content_hash"
        ]
        for k, source in enumerate((path, path, str(tmp_path / "log.parquet"), other))
    ]
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]


def test_the_parts_of_the_manifest_sum_up(tmp_path):
    manifest = prepare(config_of(tmp_path, synthetic="planted", synthetic_users=200, split="time"))
    counts = manifest["counts"]
    frame = synthetic_log(SyntheticConfig(users=200))
    assert counts["events"] == len(frame)
    assert counts["sessions"] == frame["session_id"].n_unique()
    parts = counts["splits"].values()
    assert sum(part["events"]["all"] for part in parts) == counts["events"]
    assert sum(part["sessions"] for part in parts) == counts["sessions"]
    histories = list(open_histories(tmp_path / "D"))
    items = np.concatenate([history.item_ids for history in histories])
    is_later = items >= 2 + counts["items"]
    assert np.sum(is_later) == sum(part["unknown_items"]["all"] for part in parts) > 0
    assert items.min() == 2
    assert items.max() == 1 + counts["items"] + counts["later_items"]


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


def test_users_of_one_event_are_kept_and_counted(tmp_path):
    path = write_csv(tmp_path / "log.csv", *ROWS, "lonely,item 0,7")
    manifest = prepare(config_of(tmp_path, input=(path,)))
    assert manifest["counts"]["users_too_short"] == 1
    assert manifest["counts"]["users"] == 6
    assert open_histories(tmp_path / "D")[0].user_id == "lonely"


def test_a_user_with_100_000_events(tmp_path):
    events = np.arange(100_000)
    pl.DataFrame(
        {"user_id": "all", "item_id": events % 10, "timestamp": events // 100 * 3600}
    ).write_parquet(tmp_path / "log.parquet")
    manifest = prepare(config_of(tmp_path, input=(str(tmp_path / "log.parquet"),)))
    assert manifest["counts"]["sessions"] == 1000
    (history,) = open_histories(tmp_path / "D")
    # A hundred events at each moment keep the order of the input.
    np.testing.assert_array_equal(
        Vocabulary.load(tmp_path / "D").encode([str(k % 10) for k in events]), history.item_ids
    )


def test_drops_are_counted_by_reason(tmp_path):
    path = write_csv(tmp_path / "log.csv", *ROWS, ROWS[-1] + "9", "a,b", "rare,rare,5")
    manifest = prepare(
        config_of(
            tmp_path,
            input=(path,),
            on_bad_row="skip",
            collapse_repeats=True,
            min_item_events=2,
            drop_where="user_id=user 0",
        )
    )
    assert manifest["drops"] == [
        {"reason": "drop_where user_id=user 0", "events": 6, "users": 0, "items": 0},
        {"reason": "too few fields", "events": 1, "users": 0, "items": 0},
        {"reason": "collapse_repeats", "events": 12, "users": 0, "items": 0},
        {"reason": "min_item_events=2", "events": 1, "users": 1, "items": 1},
    ]


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
        result = run(*inputs, f"--output_dir={output}", *SMALL_TIMES)
        assert (result.returncode, result.stderr) == (0, ""), given
        assert load_manifest(output)["counts"]["events"] == 27
        first = open_histories(output)[0]
        assert Vocabulary.load(output).decode(first.item_ids[:3]) == ["a", "b", "c"]
    for given in ([one, one], [f"{one},{one}"], [one, log], [log / "*.csv", ten]):
        inputs = [f"--input={path}" for path in given]
        result = run(*inputs, f"--output_dir={tmp_path / 'D'}", *SMALL_TIMES)
        assert result.returncode == 1, given
        assert re.fullmatch(
            r"error: \S+: this file is named twice.*, so name it once\n", result.stderr
        )
        assert not (tmp_path / "D").exists()


def seconds(user, day, event=0):
    return 1_600_000_000 + day * 86_400 + user + 10 * event


INTEGERS = [
    (user, user % 3 + 10, seconds(user, day, event))
    for user in range(5)
    for day in range(3)
    for event in range(2)
]


def rows_of(events):
    return [",".join(map(str, event)) for event in events]


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


def test_the_summary_fits_80_columns_and_says_what_comes_next(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    directory = tmp_path / "my [red]log"
    main(Asked(PrepareConfig(synthetic="planted", synthetic_users=30, output_dir=str(directory))))
    lines = capsys.readouterr().out.splitlines()
    *summary, command = filter(None, lines)
    assert max(len(line) for line in summary if str(directory) not in line) <= 80
    assert command == f"to train on it: hiertcn train --data_dir='{directory}' --workdir=RUN"
    counts = load_manifest(directory)["counts"]["splits"]
    for name, part in counts.items():
        numbers = [part["users"], part["sessions"], *part["events"].values()]
        row = [name, *(f"{n:,}" for n in (*numbers, part["unknown_items"]["all"]))]
        assert row in [line.split() for line in summary]


@pytest.mark.parametrize("runner", mostly_thorough([None, "DirectRunner"], None))
def test_a_log_given_twice_is_reported(tmp_path, runner, capsys):
    """As CSV and as Parquet, with floats."""
    path = write_csv(tmp_path / "a.csv", *rows_of(INTEGERS))
    other = pl.read_csv(path).with_columns(pl.col("user_id").cast(pl.Float64))
    other.write_parquet(tmp_path / "a.parquet")
    output = tmp_path / "D"
    inputs = (path, str(tmp_path / "a.parquet"))
    main(Asked(PrepareConfig(input=inputs, output_dir=str(output), runner=runner)))
    said = " ".join(capsys.readouterr().out.split())
    assert "identical rows: 30 of 60 are the same as an earlier one in user, item and time" in said
    assert "50%: is a file, or the whole log, in --input twice?" in said
    manifest = load_manifest(output)
    assert manifest["ids"] == {"user": "int64", "item": "int64"}
    assert manifest["counts"]["users"] == 5
    assert (manifest["log"]["rows"], manifest["log"]["identical_rows"]) == (60, 30)


@pytest.mark.parametrize("runner", mostly_thorough([None, "DirectRunner"], None))
def test_null_users_are_no_users(tmp_path, runner):
    """A public log has 7,681 of its 12,391 events by a user NA, all of valid and test."""
    nobody = [("NA", 10, seconds(7, day)) for day in range(90)]
    path = write_csv(tmp_path / "log.csv", *rows_of(INTEGERS + nobody))
    common = {"input": (path,), "runner": runner}
    with pytest.raises(
        DataError, match=r"row 31 .* got 'NA', which means a missing value; --on_bad"
    ):
        prepare(PrepareConfig(output_dir=str(tmp_path / "D"), **common))
    manifest = prepare(PrepareConfig(output_dir=str(tmp_path / "D"), on_bad_row="skip", **common))
    assert manifest["drops"] == [{"reason": "null user_id", "events": 90, "users": 0, "items": 0}]
    assert manifest["ids"] == {"user": "int64", "item": "int64"}
    assert manifest["counts"]["users"] == 5
    manifest = prepare(PrepareConfig(output_dir=str(tmp_path / "E"), null_values=(), **common))
    assert manifest["ids"] == {"user": "string", "item": "int64"}
    assert manifest["log"]["frequent_users"] == [{"id": "NA", "events": 90}]
    assert manifest["log"]["frequent_items"][0] == {"id": 10, "events": 102}


@pytest.mark.parametrize("runner", mostly_thorough([None, "DirectRunner"], None))
def test_ids_keep_their_type_from_file_to_file(tmp_path, runner):
    """One file has integers, one floats, one text: all of them decide the type together."""
    whole = write_csv(tmp_path / "a.csv", *rows_of(INTEGERS[:20]))
    floats = [(float(user), item, time) for user, item, time in INTEGERS[20:]]
    gap = write_csv(tmp_path / "b.csv", *rows_of(floats))
    listed = tmp_path / "ids.txt"
    listed.write_text("99\n10.0\n")
    made = {}
    for name, changes in {
        "integers": {"input": (whole, gap)},
        "listed": {"input": (whole, gap), "catalogue": str(listed)},
        "one of text": {"input": (whole, gap, write_csv(tmp_path / "c.csv", "x,10,1600000000"))},
    }.items():
        output = str(tmp_path / f"{name} {runner}")
        manifest = prepare(PrepareConfig(output_dir=output, runner=runner, **changes))
        users = [history.user_id for history in open_histories(output)]
        item_ids = pl.read_parquet(f"{output}/vocabulary.parquet")["item_id"]
        made[name] = manifest["ids"], users, item_ids.to_list()
    five = ["0", "1", "2", "3", "4"]
    assert made == {
        "integers": ({"user": "int64", "item": "int64"}, five, [10, 11, 12]),
        "listed": ({"user": "int64", "item": "int64"}, five, [10, 11, 12, 99]),
        "one of text": ({"user": "string", "item": "int64"}, [*five, "x"], [10, 11, 12]),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_item_events": 99}, "the filters leave nothing: min_item_events=99 dropped 30"),
        ({"split": "time", "valid_after": "1", "test_after": "2030-01-01"}, "test part is left"),
        ({"user_column": "nobody"}, "column 'nobody' is missing"),
        ({"input": ("missing.csv",)}, "missing.csv: no such file"),
    ],
)
def test_unusable_input_leaves_nothing(tmp_path, changes, message):
    config = config_of(tmp_path, **changes)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=re.escape(message)):
        prepare(config)
    assert sorted(tmp_path.iterdir()) == before


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr("data_pipelines.prepare.save_manifest", fail)
    config = config_of(tmp_path)
    with pytest.raises(OSError, match="disk full"):
        prepare(config)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_an_existing_output_is_kept(tmp_path):
    config = config_of(tmp_path)
    prepare(config)
    with pytest.raises(DataError, match="is not empty"):
        prepare(config)


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
        result = run(f"--input={path}", f"--output_dir={tmp_path / 'D'}", argument, *more)
        assert result.returncode == 1
        if not (more and times[0] == 100):
            assert re.fullmatch(
                rf"error: \S+: row [12] \(line [23]\).*{message}.*\n", result.stderr
            )
        assert not (tmp_path / "D").exists()


def test_a_log_with_an_order_alone_is_prepared_as_the_same_seconds(tmp_path):
    rows = [f"u{n % 2},i{n % 3},{n},s{n // 6}" for n in range(36)]
    path = write_csv(tmp_path / "log.csv", *rows, header="user_id,item_id,timestamp,session")
    asked = [f"--input={path}", "--session_column=session"]
    said = run(*asked, f"--output_dir={tmp_path / 'order'}", "--time_unit=order").stdout
    assert "times: none, an order from 0 to 35; models count its steps where they would" in said
    run(*asked, f"--output_dir={tmp_path / 'seconds'}", *SMALL_TIMES)
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
prepare.define_flags(prepare.fields_of(prepare.PrepareConfig))
run_command(prepare.read_config, prepare.main, ())
"""


def flagfile_config(name, **given):
    values = flags.FlagValues()
    define_flags(fields_of(PrepareConfig), values)
    arguments = [f"--{key}={value}" for key, value in given.items()]
    values(["prepare", f"--flagfile={FLAGFILES / name}", *arguments])
    return read_settings(PrepareConfig, values)


def test_the_layout_of_xing(tmp_path):
    rng = np.random.default_rng(0)
    times = 1_446_000_000 + np.sort(rng.integers(0, 10**6, 4000))
    rows = [
        f"{user}\t{item}\t{kind}\t{time}"
        for user, item, kind, time in zip(
            rng.integers(60, size=4000), rng.integers(20, size=4000), rng.integers(1, 5, 4000),
            times, strict=True,
        )
    ]  # fmt: skip
    header = "user_id\titem_id\tinteraction_type\tcreated_at"
    path = write_csv(tmp_path / "interactions.csv", *rows, header=header)
    output = tmp_path / "D"
    manifest = prepare(flagfile_config("xing_prepare.flags", input=path, output_dir=output))
    deleted = sum(row.split("\t")[2] == "4" for row in rows)
    assert manifest["drops"][0]["reason"] == "drop_where interaction_type=4"
    assert manifest["drops"][0]["events"] == deleted
    assert manifest["counts"]["events"] == 4000 - deleted
    users = [part["users"] for part in manifest["counts"]["splits"].values()]
    assert sum(users) == 60


RETAILROCKET = ("retailrocket", "retailrocket/interactions.csv.gz", 945, 8_177)


@pytest.mark.parametrize(
    ("name", "file", "users", "events"),
    mostly_thorough(
        [
            ("globo", "globo/clicks.parquet", 13_365, 369_434),
            RETAILROCKET,
            ("ebnerd", "ebnerd/interactions.parquet", 930, 180_805),
        ],
        RETAILROCKET,
    ),
)
def test_real_logs(tmp_path, name, file, users, events):
    if not (REAL_LOGS / file).exists():
        pytest.skip(f"{file} is for research only and not part of the repository")
    manifest = prepare(
        flagfile_config(f"{name}_prepare.flags", input=REAL_LOGS / file, output_dir=tmp_path / "D")
    )
    assert manifest["counts"]["users"] == len(open_histories(tmp_path / "D")) == users
    assert manifest["counts"]["events"] == events


@pytest.mark.thorough
def test_a_real_log_with_its_impressions(tmp_path):
    log, lists = (REAL_LOGS / "ebnerd" / f"{n}.parquet" for n in ("interactions", "impressions"))
    if not (log.exists() and lists.exists()):
        pytest.skip("EB-NeRD is for research only and not part of the repository")
    manifest = prepare(
        flagfile_config(
            "ebnerd_prepare.flags",
            input=log,
            impressions=lists,
            output_dir=tmp_path / "D",
        )
    )
    report = manifest["impressions"]
    assert (report["rows"], report["rows_used"], report["drops"]) == (24_817, 22_689, {})
    # The last days of the log contain only clicks in lists.
    assert (
        report["splits"]["test"]["matched"] == manifest["counts"]["splits"]["test"]["events"]["all"]
    )
    for history in open_histories(tmp_path / "D"):
        ends = np.cumsum(history.shown_counts)
        for item, start, end in zip(
            history.item_ids, ends - history.shown_counts, ends, strict=True
        ):
            shown = history.shown_items[start:end]
            assert item not in shown and len(np.unique(shown)) == len(shown)
