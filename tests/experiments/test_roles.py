"""No command works in another's directory; no result replaces one of other settings."""

import json
import re
import shutil

import pytest

from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from experiments import compare, embed, evaluate, export, recommend, replay, sweep, train
from experiments.flags.data_flags import DataLocation
from experiments.runs.restore import restore_run
from tests.experiments.small_runs import contents, run_train, settings_of
from tests.experiments.test_compare import RUN
from tests.experiments.test_sweep import EVENTS, space_file
from tests.experiments.test_sweep import settings_of as sweep_settings_of
from tests.forked import run_forked

FOREIGN = {
    "log": ("manifest.json", "vocabulary.parquet"),
    "run": ("checkpoints/3/config/metadata", "flags.txt"),
    "comparison": ("popularity/cell.json", "compare.json", "flags.txt"),
    "sweep": ("sweep.db", "trials/0000/flags.txt"),
    "cell": ("cell.json", "ranks.parquet"),
    "replay": ("replay_settings.json",),
    "export": ("manifest.json", "weights.safetensors"),
}


def main_of(name, data, workdir, scratch):
    """The main function of a command, in this workdir."""
    settings = {
        "train": lambda: settings_of(data, workdir),
        "compare": lambda: compare.Settings(
            RUN, data.directory, workdir, ["popularity"], [0], Split.TEST, 0, {}
        ),
        "sweep": lambda: sweep_settings_of(data, workdir, space_file(scratch, EVENTS)),
        "evaluate": lambda: evaluate.Settings(
            workdir, Split.TEST, "best", None, DataLocation(), None
        ),
        "embed": lambda: embed.Settings(workdir, scratch / "u.parquet", "best", DataLocation()),
        "recommend": lambda: recommend.Settings(
            workdir, scratch / "r.csv", "best", DataLocation(), None, (), None, 20, False, None
        ),
        "export": lambda: export.Settings(
            workdir, scratch / "X", "best", DataLocation(), users=True, k=100
        ),
        "replay": lambda: replay.Settings(
            data.directory, workdir, "best", (), scratch / "R", 0, 86_400, ()
        ),
    }[name]()
    module = {"train": train, "compare": compare, "sweep": sweep, "evaluate": evaluate,
              "embed": embed, "recommend": recommend, "export": export,
              "replay": replay}[name]  # fmt: skip
    return lambda: module.main(settings)


@pytest.mark.parametrize(
    ("name", "foreign"),
    [
        (name, foreign)
        for name, own in (
            ("train", ("run",)),
            ("compare", ("comparison",)),
            ("sweep", ("sweep",)),
            ("evaluate", ("run", "cell")),
            ("embed", ("run", "cell")),
            ("recommend", ("run", "cell")),
            ("export", ("run", "cell")),
            ("replay", ("run", "cell")),
        )
        for foreign in FOREIGN
        if foreign not in own
    ],
)
def test_a_directory_of_another_command_is_refused_and_unchanged(data, tmp_path, name, foreign):
    workdir, scratch = tmp_path / "W", tmp_path / "scratch"
    scratch.mkdir()
    for file in FOREIGN[foreign]:
        path = workdir / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{foreign}'s")
    before = contents(workdir)
    message = f"^workdir={re.escape(str(workdir))}: is an? .*; name another directory by --workdir$"
    with pytest.raises(DataError, match=message):
        main_of(name, data, workdir, scratch)()
    assert contents(workdir) == before


@pytest.mark.parametrize("inside", ["", "run", "histories/run"])
@pytest.mark.parametrize("name", ["train", "compare", "sweep"])
def test_a_prepared_log_stays_a_prepared_log(data, tmp_path, name, inside):
    log = tmp_path / "D"
    shutil.copytree(data.directory, log)
    before = contents(log)
    with pytest.raises(DataError, match="prepared log"):
        main_of(name, data._replace(directory=log), log / inside, tmp_path)()
    assert contents(log) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("experiments.embed", "--output=D/u.parquet"),
        ("experiments.recommend", "--output=D/r.parquet"),
        ("experiments.evaluate", "--ranks_out=D/histories/ranks.csv"),
        ("experiments.evaluate", "--ranks_out=W/checkpoints/ranks.csv"),
        ("experiments.evaluate", "--ranks_out=W/metrics.jsonl"),
        ("experiments.export", "--output_dir=D/histories/X"),
        ("experiments.replay", "--output_dir=D"),
        ("experiments.replay", "--output_dir=W"),
        ("experiments.sweep", "--emit_flagfiles=D"),
    ],
)
def test_an_output_does_no_harm_where_it_would_go(data, whole, tmp_path, arguments):
    shutil.copytree(data.directory, tmp_path / "D")
    shutil.copytree(whole, tmp_path / "W")
    module, flag = arguments
    flag = re.sub(r"=([DW])\b", rf"={tmp_path}/\1", flag)
    more = {
        "experiments.replay": [f"--data_dir={tmp_path / 'D'}"],
        "experiments.sweep": [
            f"--data_dir={tmp_path / 'D'}",
            f"--space={space_file(tmp_path, EVENTS)}",
            "--sampler=random",
        ],
    }
    workdir = tmp_path / ("S" if module == "experiments.sweep" else "W")
    before = contents(tmp_path)
    done = run_forked(module, f"--workdir={workdir}", flag, *more.get(module, ()))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {flag.removeprefix('--')}: ")
    assert done.stderr.count("\n") == 1
    assert contents(tmp_path) == before


def evaluation_of(workdir, checkpoint="best", mask_seen=None):
    evaluate.main(
        evaluate.Settings(workdir, Split.TEST, checkpoint, None, DataLocation(), mask_seen)
    )


def test_results_of_other_settings_have_names_of_their_own(whole, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    before = {name: (workdir / name).read_bytes() for name in ("test.json", "valid.json")}
    best = restore_run(workdir, "best").step
    *_, other = [step for step in (3, 6, 7, 9, 10) if step != best and is_kept(workdir, step)]

    # The run's own settings, however they are asked for.
    for checkpoint, mask_seen in (("best", None), (str(best), "none")):
        evaluation_of(workdir, checkpoint, mask_seen)
    assert sorted(path.name for path in workdir.glob("test*")) == ["test.json"]
    capsys.readouterr()

    for checkpoint, mask_seen, name in (
        ("best", "user", "test.mask_user.json"),
        (str(other), None, f"test.step_{other}.json"),
        (str(other), "session", f"test.mask_session.step_{other}.json"),
    ):
        evaluation_of(workdir, checkpoint, mask_seen)
        assert f"written to {workdir / name}" in capsys.readouterr().out
        values = json.loads((workdir / name).read_text())
        assert values["mask_seen"] == (mask_seen or "none")
        assert values["checkpoint_step"] == (best if checkpoint == "best" else other)
    assert {name: (workdir / name).read_bytes() for name in before} == before


def is_kept(workdir, step):
    return (workdir / "checkpoints" / str(step)).is_dir()


def test_a_finished_run_that_is_evaluated_otherwise_keeps_its_result(data, whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    before = (workdir / "test.json").read_bytes()
    run_train(data, workdir, "--mask_seen=user")
    assert (workdir / "test.json").read_bytes() == before
    assert json.loads((workdir / "test.mask_user.json").read_text())["mask_seen"] == "user"
