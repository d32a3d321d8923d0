"""Logs of the layouts for which there is a flagfile, prepared with it."""

from pathlib import Path

import numpy as np
import pytest
from absl import flags

from data_pipelines.commands.settings_flags import define_flags, read_settings
from data_pipelines.config import PrepareConfig
from data_pipelines.histories.store import open_histories
from data_pipelines.prepare import prepare
from hiertcn_jax.settings import fields_of
from tests.data_pipelines.logs import write_csv
from tests.volume import mostly_thorough

ROOT = Path(__file__).parents[2]
FLAGFILES = ROOT / "experiments" / "flagfiles"
REAL_LOGS = ROOT.parent / "shared" / "data"


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
