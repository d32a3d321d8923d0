"""A run and its export are the same Recommender; what is no export, or damaged, is refused."""

import dataclasses
import json
import shutil

import numpy as np
import polars as pl
import pytest

import hiertcn_jax
from data_pipelines.errors import DataError
from experiments import export
from experiments.flags.data_flags import DataLocation
from hiertcn_jax.exported.layout import ITEMS, MANIFEST, START
from hiertcn_jax.exported.onnx_stream import OnnxStream
from hiertcn_jax.exported.reading import Export, ExportError
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.saving.checksums import write_checksums
from tests.experiments.small_runs import REMEMBERING, run_train


def run_export(workdir, output_dir, users=True):
    export.main(export.Settings(workdir, output_dir, "best", DataLocation(None), users, 100))


@pytest.fixture(scope="module")
def exported(titled_run, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("exports") / "export"
    run_export(titled_run, output_dir)
    return output_dir


@pytest.fixture(scope="module")
def both(titled_run, exported):
    return hiertcn_jax.load(titled_run), hiertcn_jax.load(exported)


def users_of(log):
    return log.logged_user_ids(np.arange(len(log.histories))).to_list()


def assert_same(one, other):
    assert one.columns == other.columns
    for name in one.columns:
        if name == "score":
            np.testing.assert_allclose(one[name], other[name], rtol=1e-5)
        else:
            assert one[name].to_list() == other[name].to_list()


def test_it_recommends_as_the_run(both, titled):
    run, export = both
    users = users_of(titled)[:9]
    assert_same(*(rec.recommend(users, k=7) for rec in both))
    assert_same(*(rec.recommend(users[0], k=50, exclude_seen=True) for rec in both))
    item = run.item_embeddings()[0][3]
    assert_same(*(rec.similar(item, k=5) for rec in both))
    assert run.names == export.names
    assert run.items.equals(export.items)
    assert run.model_id == export.model_id
    with pytest.raises(ValueError, match="users='nobody': is not in the log"):
        export.recommend("nobody")


def test_it_counts_as_the_run(both, titled):
    """Clicks of anybody, and tables of later events."""
    now = both[0]._past.newest
    items = both[0].item_embeddings()[0]
    rows = [(users_of(titled)[0], items[2], now + 5), ("new", items[4], now + 9)]
    frame = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row", strict=False)
    states = [rec.start() for rec in both]
    for rec, state in zip(both, states, strict=True):
        for click in range(9):
            state = rec.observe(state, items[click % 3], now + 60 * click)
        rec.add(frame)
    assert_same(*(rec.recommend([users_of(titled)[0]], k=9, at=now + 999) for rec in both))
    assert_same(*(rec.recommend(rec.start(), k=9, at=now + 999) for rec in both))


def test_in_onnxruntime_it_recommends_as_the_run(titled_run, exported, titled):
    rec, export = hiertcn_jax.load(titled_run), Export(exported)
    stream, memory = OnnxStream(export), export.memory()
    for user in users_of(titled)[:5]:
        expected = rec.recommend(user, k=8)
        state = export.users.state_of(user)
        best = stream.recommend(state, [export.newest], 8, memory)
        assert export.items.decode(best.rows_nk[0]) == expected["item_id"].to_list()
        np.testing.assert_allclose(best.scores_nk[0], expected["score"], rtol=1e-4)


def test_without_users(titled_run, tmp_path):
    run_export(titled_run, tmp_path / "x", users=False)
    assert not (tmp_path / "x" / "users").exists()
    rec = hiertcn_jax.load(tmp_path / "x")
    assert rec.recommend(rec.start(), k=3).height == 3
    with pytest.raises(ValueError, match="is not in the log"):
        rec.recommend("user-1")


def test_an_export_of_an_earlier_version(exported, titled, tmp_path):
    """Without titles, and without the sizes of memory."""
    folder = tmp_path / "x"
    shutil.copytree(exported, folder)
    items = json.loads((folder / ITEMS).read_text())
    (folder / ITEMS).write_text(json.dumps({"ids": items["ids"]}))
    write_manifest(folder, without=("files", "memory_sizes"))
    rec = hiertcn_jax.load(folder)
    assert rec.items is None
    table = rec.recommend(users_of(titled)[:2], k=3)
    assert table.columns == ["user_id", "rank", "item_id", "score"]
    state = np.load(folder / START)
    shorter = [(name, state.dtype[name]) for name in state.dtype.names if name != "own"]
    np.save(folder / START, np.zeros(1, [*shorter, ("own", np.int32, (64,))]))
    write_manifest(folder, without=("files", "memory_sizes"))
    with pytest.raises(ExportError, match=r"start\.npy: is no state of this version; export"):
        OnnxStream(Export(folder))


def write_manifest(folder, without):
    """Writes the manifest again, for files that were changed."""
    facts = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).unlink()
    write_checksums(folder, MANIFEST, {name: facts[name] for name in facts if name not in without})


def test_states_of_other_weights_are_refused(both, titled, tmp_path):
    """Of the same name and step; those of the run are those of its export."""
    rec = both[0]
    state = rec.observe(rec.start(), rec.items["item_id"][0], 1_700_000_000, count=False)
    assert_same(*(one.recommend(one.from_bytes(rec.to_bytes(state)), k=3) for one in both))
    run_train(titled, tmp_path / "run", *REMEMBERING, "--seed=1")
    other = hiertcn_jax.load(tmp_path / "run")
    assert other.model_id.split("-")[0] == rec.model_id.split("-")[0] == "run@4"
    for data in (rec.to_bytes(state), state.to_bytes("run@4")):
        with pytest.raises(ValueError, match=r"^state: of model run@4.*, not run@4-[0-9a-f]{12};"):
            other.from_bytes(data)


def test_an_export_has_no_log_to_evaluate_on(both):
    with pytest.raises(ValueError, match="an export has no log to evaluate on; load the run's"):
        both[1].evaluate("test")


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
        (
            manifest(memory_sizes={**dataclasses.asdict(SIZES), "own_events": 64}),
            "memory_sizes: own_events=64, but this version has 128; export the run again",
        ),
        (manifest(memory_sizes=5), "memory_sizes: candidates=None, but this version has"),
        (manifest(gap_seconds="long"), "gap_seconds=long: cannot be used; export"),
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


def test_bad_arguments(titled_run, exported, titled, tmp_path):
    with pytest.raises(ValueError, match="is an export; it has no other log"):
        hiertcn_jax.load(exported, checkpoint="last")
    with pytest.raises(ExportError, match="is not of an export"):
        hiertcn_jax.load(titled.directory)
    with pytest.raises(ExportError, match="missing; name the directory"):
        Export(tmp_path)
    with pytest.raises(DataError, match="is not empty"):
        run_export(titled_run, exported)
    with pytest.raises(DataError, match="is inside the export"):
        run_export(titled_run, exported / "x")
    with pytest.raises(DataError, match="is inside the prepared log"):
        run_export(titled_run, titled.directory / "x")
