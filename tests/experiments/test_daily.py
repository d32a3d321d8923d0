"""experiments/daily.sh, from the first log to the next export, as real processes."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from data_pipelines.synthetic import SyntheticConfig, synthetic_log
from tests.experiments.small_runs import FLAGS, ROOT

SCRIPT = ROOT / "experiments" / "daily.sh"


@pytest.mark.thorough
def test_a_day(tmp_path):
    log = synthetic_log(SyntheticConfig(users=60)).filter(pl.col("timestamp") < 1_702_000_000)
    moment = pl.from_epoch("timestamp", time_unit="s")
    days = log.group_by(moment.dt.date()).len().sort("timestamp")["timestamp"].to_list()
    day = str(days[len(days) // 2])
    of_day = moment.dt.date().cast(pl.String)
    log.filter(of_day < day).write_parquet(tmp_path / "before.parquet")
    log.filter(of_day == day).write_parquet(tmp_path / "day.parquet")
    hiertcn = f"{sys.executable} -m experiments"
    environment = {
        **os.environ,
        "HIERTCN": hiertcn,
        "EVALUATE": "--catalogue=live",
        "GATE": "12:00",
    }

    def call(*arguments):
        return subprocess.run(
            arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    for command in (
        ["prepare", f"--input={tmp_path / 'before.parquet'}", "--split=time",
         f"--output_dir={tmp_path / 'data' / 'first'}"],
        ["train", f"--data_dir={tmp_path / 'data' / 'first'}", *FLAGS, "--fit_on=train_valid",
         f"--workdir={tmp_path / 'runs' / 'first'}"],
    ):  # fmt: skip
        result = call(*hiertcn.split(), *command)
        assert result.returncode == 0, result.stderr
    (tmp_path / "exports").mkdir()
    for folder in ("data", "runs"):
        (tmp_path / folder / "current").symlink_to("first")
    result = call("bash", str(SCRIPT), str(tmp_path), str(tmp_path / "day.parquet"), day)
    assert result.returncode in (0, 3), result.stderr
    assert "before" in result.stdout
    newest = {name: Path(tmp_path / name / "current").exists() for name in ("data", "exports")}
    assert newest == {"data": True, "exports": result.returncode == 0}
    expected = day if result.returncode == 0 else "first"
    assert os.readlink(tmp_path / "runs" / "current") == expected
