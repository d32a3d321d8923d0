"""experiments.recommend: recommendations of all users in a file, and how it is refused."""

import numpy as np
import polars as pl
import pytest
from absl import flags
from absl.testing import flagsaver

import hiertcn_jax
from experiments import recommend


@pytest.fixture(scope="module")
def workdir(whole):
    return whole


@pytest.fixture(scope="module")
def rec(workdir):
    return hiertcn_jax.load(workdir)


def run_flags(output, *more):
    with flagsaver.flagsaver():
        recommend.define_flags()
        flags.FLAGS(["recommend", f"--output={output}", *more])
        recommend.main(recommend.read_settings())


def run(workdir, output, *more):
    run_flags(output, f"--workdir={workdir}", *more)


def all_ids(data):
    histories = data.histories.__getitems__(list(range(len(data.histories))))
    return [int(history.user_id) for history in histories]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_all_users_block_by_block(workdir, data, rec, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("experiments.service.known_users._AT_ONCE", 7)
    path = tmp_path / f"recs.{suffix}"
    run(workdir, path, "--k=3")
    read = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}[suffix]
    table, expected = read(path), rec.recommend(all_ids(data), k=3)
    assert table.columns == expected.columns
    for name in ("user_id", "rank", "item_id"):
        assert table[name].to_list() == expected[name].to_list()
    np.testing.assert_allclose(table["score"], expected["score"], rtol=1e-5)


def test_ids_keep_the_type_of_the_log(workdir, tmp_path):
    run(workdir, tmp_path / "recs.parquet", "--k=1")
    table = pl.read_parquet(tmp_path / "recs.parquet")
    assert table.schema["user_id"] == table.schema["item_id"] == pl.Int64


def test_events_since_then_and_some_users(workdir, data, tmp_path):
    ids = all_ids(data)[:2]
    rec = hiertcn_jax.load(workdir)
    item = int(rec.catalogue.decode(np.asarray([2]))[0])
    later = {"user_id": [ids[1], 10**6], "item_id": [item, item], "timestamp": [1_700_000_000] * 2}
    pl.DataFrame(later).write_csv(tmp_path / "new.csv")
    (tmp_path / "users.txt").write_text(f"{ids[1]}\n1000000\n")
    flags_of = (f"--events={tmp_path / 'new.csv'}", "--k=4", "--exclude_seen")
    run(workdir, tmp_path / "some.csv", *flags_of, f"--users={tmp_path / 'users.txt'}")
    some = pl.read_csv(tmp_path / "some.csv")
    assert some["user_id"].to_list() == [ids[1]] * 4 + [10**6] * 4
    assert item not in some["item_id"]
    rec.add(pl.DataFrame(later))
    expected = rec.recommend([ids[1], 10**6], k=4, exclude_seen=True)
    assert some["item_id"].to_list() == expected["item_id"].to_list()
    run(workdir, tmp_path / "all.csv", *flags_of)
    assert set(pl.read_csv(tmp_path / "all.csv")["user_id"]) == {*all_ids(data), 10**6}


def test_candidates_and_a_time(workdir, rec, tmp_path):
    items = [str(item) for item in rec.catalogue.decode(np.arange(2, 7))]
    (tmp_path / "items.txt").write_text("\n".join(items))
    more = (f"--candidates={tmp_path / 'items.txt'}", "--at=2024-05-31T18:00", "--k=9")
    run(workdir, tmp_path / "recs.csv", *more)
    table = pl.read_csv(tmp_path / "recs.csv")
    assert set(table["item_id"].cast(pl.String)) == set(items)
    assert table["rank"].max() == 5


def assert_same(table, other):
    assert table.columns == other.columns
    for name in table.columns:
        if table[name].dtype.is_float():
            np.testing.assert_allclose(table[name], other[name], rtol=1e-4, atol=1e-5)
        else:
            assert table[name].to_list() == other[name].to_list()


def test_parts_of_scores_and_titles(titled_run, titled, tmp_path):
    run(titled_run, tmp_path / "recs.parquet", "--k=3", "--explain")
    rec = hiertcn_jax.load(titled_run)
    expected = rec.recommend(all_ids(titled), k=3, explain=True)
    assert {"title", "hierarchy", "world", "own", "followers_of_title"} <= set(expected.columns)
    assert_same(pl.read_parquet(tmp_path / "recs.parquet"), expected)


@pytest.mark.parametrize("flag", ["--index", "--data_parallelism=4"])
def test_by_an_index_or_on_several_devices_they_are_the_same(
    titled_run, titled, tmp_path, capfd, flag
):
    """All cells of so few items are searched: the index is exact."""
    run(titled_run, tmp_path / "recs.parquet", "--k=6", "--exclude_seen", flag)
    rec = hiertcn_jax.load(titled_run)
    expected = rec.recommend(all_ids(titled), k=6, exclude_seen=True)
    assert_same(pl.read_parquet(tmp_path / "recs.parquet"), expected)
    if flag == "--index":
        assert "are searched; finds 1.000 of the exact best 100" in capfd.readouterr().out


def test_a_ranker_in_place_of_a_run(titled, tmp_path):
    run_flags(tmp_path / "recs.csv", "--ranker=markov", f"--data_dir={titled.directory}", "--k=4")
    rec = hiertcn_jax.load_ranker("markov", titled.directory)
    expected = rec.recommend(all_ids(titled), k=4)
    assert expected["title"].null_count() < len(expected)
    assert_same(pl.read_csv(tmp_path / "recs.csv"), expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "flag --workdir: give it, or --ranker and --data_dir, not both"),
        (("--workdir=W", "--ranker=stan"), "flag --workdir: give it, or --ranker"),
        (("--ranker=stan",), "flag --ranker=stan: needs --data_dir"),
        (("--ranker=stan", "--data_dir=D", "--index"), "flag --index: a ranker has no embeddings"),
        (("--ranker=stan", "--data_dir=D", "--explain"), "flag --explain: a ranker has no"),
    ],
)
def test_what_recommends_is_said_once(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        run_flags(tmp_path / "recs.csv", *given)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--output=recs.txt",), r"must end with \.parquet"),
        (("--at=noon",), "flag --at=noon: must be seconds"),
        ((f"--at={10**20}",), rf"at={10**20}: must be seconds"),
    ],
)
def test_flags_that_are_refused(workdir, tmp_path, more, message):
    with pytest.raises((flags.Error, ValueError), match=message):
        run(workdir, tmp_path / "recs.csv", *more)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("users", "nobody\n", "int64"),
        (
            "users",
            "77777\n",
            r"users=77777: is not in the log; leave it out of .*ids\.txt, or give",
        ),
        ("users", "", "names no user; leave --users out"),
        ("candidates", "77777\n", r"'77777': is not in the catalogue; leave it out of .*ids\.txt$"),
        ("candidates", "", "names no item"),
        ("events", "user_id,item_id\n1,2\n", "timestamp.*; events are read as the log was prep"),
        ("events", "user_id;item_id;timestamp\n", "found user_id;item_id;timestamp; events are re"),
        (
            "events",
            "user_id,item_id,timestamp\n1,2,16.08.2022 23:12\n",
            r"got '16\.08\.2022 23:12'; events are read .*: write the file in the same form$",
        ),
    ],
)
def test_files_that_are_refused(workdir, tmp_path, file, text, message):
    path = tmp_path / ("new.csv" if file == "events" else "ids.txt")
    path.write_text(text)
    with pytest.raises(recommend.MENDABLE, match=message):
        run(workdir, tmp_path / "recs.csv", f"--{file}={path}")
    assert not (tmp_path / "recs.csv").exists()
