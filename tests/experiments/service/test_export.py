"""A run and its export are the same Recommender; what is no export, or damaged, is refused."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

import hiertcn_jax
from data_pipelines.errors import DataError
from experiments import export
from experiments.flags.data_flags import DataLocation
from hiertcn_jax.exported.onnx_stream import OnnxStream
from hiertcn_jax.exported.reading import Export, ExportError
from tests.experiments.small_runs import run_train


def run_export(workdir, output_dir, users=True):
    export.main(export.Settings(workdir, output_dir, "best", DataLocation(None), users, 100))


@pytest.fixture(scope="module")
def workdir(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("exports") / "run"
    run_train(data, workdir, "--memory=world,followers,own", "--loss=cross_entropy", "--steps=4")
    return workdir


@pytest.fixture(scope="module")
def exported(workdir):
    run_export(workdir, workdir.parent / "export")
    return workdir.parent / "export"


@pytest.fixture(scope="module")
def both(workdir, exported):
    return hiertcn_jax.load(workdir), hiertcn_jax.load(exported)


def users_of(data):
    return data.logged_user_ids(np.arange(len(data.histories))).to_list()


def assert_same(one, other):
    assert one.columns == other.columns
    for name in one.columns:
        if name == "score":
            np.testing.assert_allclose(one[name], other[name], rtol=1e-5)
        else:
            assert one[name].to_list() == other[name].to_list()


def test_it_recommends_as_the_run(both, data):
    run, export = both
    users = users_of(data)[:9]
    assert_same(*(rec.recommend(users, k=7) for rec in both))
    assert_same(*(rec.recommend(users[0], k=50, exclude_seen=True) for rec in both))
    item = run.item_embeddings()[0][3]
    assert_same(*(rec.similar(item, k=5) for rec in both))
    assert run.names == export.names
    with pytest.raises(ValueError, match="users='nobody': is not in the log"):
        export.recommend("nobody")


def test_it_counts_as_the_run(both, data):
    """Clicks of anybody, and tables of later events."""
    now = both[0]._past.newest
    items = both[0].item_embeddings()[0]
    rows = [(users_of(data)[0], items[2], now + 5), ("new", items[4], now + 9)]
    frame = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row", strict=False)
    states = [rec.start() for rec in both]
    for rec, state in zip(both, states, strict=True):
        for click in range(9):
            state = rec.observe(state, items[click % 3], now + 60 * click)
        rec.add(frame)
    assert_same(*(rec.recommend([users_of(data)[0]], k=9, at=now + 999) for rec in both))
    assert_same(*(rec.recommend(rec.start(), k=9, at=now + 999) for rec in both))


def test_in_onnxruntime_it_recommends_as_the_run(workdir, exported, data):
    rec, export = hiertcn_jax.load(workdir), Export(exported)
    stream, memory = OnnxStream(export), export.memory()
    for user in users_of(data)[:5]:
        expected = rec.recommend(user, k=8)
        state = export.users.state_of(user)
        best = stream.recommend(state, [export.newest], 8, memory)
        assert export.items.decode(best.rows_nk[0]) == expected["item_id"].to_list()
        np.testing.assert_allclose(best.scores_nk[0], expected["score"], rtol=1e-4)


def test_without_users(workdir, tmp_path):
    run_export(workdir, tmp_path / "x", users=False)
    assert not (tmp_path / "x" / "users").exists()
    rec = hiertcn_jax.load(tmp_path / "x")
    assert rec.recommend(rec.start(), k=3).height == 3
    with pytest.raises(ValueError, match="is not in the log"):
        rec.recommend("user-1")


def change(name, function):
    def damage(folder):
        path = folder / name
        path.write_bytes(function(path.read_bytes()))

    return damage


def manifest(**changes):
    return change("manifest.json", lambda old: json.dumps({**json.loads(old), **changes}).encode())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "observe.onnx").unlink(), "observe.onnx: missing"),
        (change("observe.onnx", lambda old: old[:-1] + b"x"), "its SHA-256 differs; copy"),
        (change("weights.safetensors", lambda old: old[:-4]), "bytes, but [0-9]+ were written"),
        (lambda folder: (folder / "more").touch(), "more: not in manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json: cannot be"),
        (manifest(kind="a log"), "is not of an export"),
        (manifest(schema=2), "schema 2, but this version reads 1; export the run again"),
        (manifest(gap_seconds="long"), "gap_seconds='long' cannot be used"),
        (manifest(config={"name": "none"}), "config cannot be used: "),
    ],
)
def test_what_is_damaged_is_refused(exported, tmp_path, damage, message):
    folder = tmp_path / "x"
    shutil.copytree(exported, folder)
    damage(folder)
    with pytest.raises(ExportError, match=message) as error:
        hiertcn_jax.load(folder)
    assert "\n" not in str(error.value)


def test_a_changed_size_is_noticed_without_hashes(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "x")
    change("items.json", lambda old: old + b" ")(tmp_path / "x")
    with pytest.raises(ExportError, match="bytes, but"):
        Export(tmp_path / "x", check=False)


def test_bad_arguments(workdir, exported, data, tmp_path):
    with pytest.raises(ValueError, match="is an export; it has no other log"):
        hiertcn_jax.load(exported, checkpoint="last")
    with pytest.raises(ExportError, match="is not of an export"):
        hiertcn_jax.load(data.directory)
    with pytest.raises(ExportError, match="missing; name the directory"):
        Export(tmp_path)
    with pytest.raises(DataError, match="is not empty"):
        run_export(workdir, exported)
    with pytest.raises(DataError, match="is inside the export"):
        run_export(workdir, exported / "x")
    with pytest.raises(DataError, match="is inside the prepared log"):
        run_export(workdir, data.directory / "x")
