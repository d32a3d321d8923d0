"""prepare --previous: what it makes equals preparing everything at once."""

import itertools
import shutil

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.histories.manifest import load_manifest
from data_pipelines.histories.store import open_histories
from data_pipelines.prepare import prepare
from data_pipelines.sessions.vocabulary import Vocabulary
from tests.volume import few

DAY, START = 86_400, 1_600_000_000
COLUMNS = ("user_id", "item_id", "timestamp", "session_id")


def log_of(seed, events=90, days=6, users=9):
    """Users and items that come and go, several events at a time, sessions over midnight."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, days * 24 * 4, events)) * 900
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, users, events) + times // (3 * DAY),
            "item_id": [f"i{item}" for item in rng.geometric(0.2, events) + times // DAY],
            "timestamp": START + times,
            "session_id": times // (DAY // 2) + rng.integers(0, 2, events),
        }
    ).unique(maintain_order=True)


def readable(directory):
    """Everything that a prepared directory says, with ids in place of rows, by user."""
    vocabulary, manifest = Vocabulary.load(directory), load_manifest(directory)
    source = open_histories(directory, vocabulary.size)
    ids = np.array(["", "unknown", *vocabulary.item_ids])
    histories = {
        one.user_id: [
            ids[one.item_ids].tolist(),
            *(
                getattr(one, name).tolist()
                for name in ("times", "session_lengths", "session_splits")
            ),
        ]
        for one in source
    }
    items = zip(
        vocabulary.train_events, vocabulary.valid_events, vocabulary.known_from, strict=True
    )
    order = [one.user_id for one in source]
    assert len(order) == len(histories)
    rest = {
        name: manifest.get(name) for name in ("counts", "merged_sessions", "ids", "log", "cuts")
    }
    rest["drops"] = sorted(map(str, manifest["drops"]))
    # Items of the same number of events are listed in the order of their rows.
    rest["log"]["frequent_items"].sort(key=str)
    fitted = vocabulary.fitted_part().item_ids.to_list()
    return (
        {
            "histories": histories,
            "items": dict(zip(vocabulary.item_ids, map(tuple, items), strict=True)),
            "fitted": sorted(fitted),
            **rest,
        },
        order,
        fitted,
    )


def settings_of(seed):
    """Settings of every kind, by a number."""
    ways = {
        "split": ("time", "last_session", "user")[seed % 3],
        "gap_minutes": (None, 90.0)[seed // 3 % 2],
        "session_column": (None, "session_id")[seed // 6 % 2],
        "min_item_events": (1, 3)[seed // 12 % 2],
        "min_user_events": (1, 3)[seed // 24 % 2],
        "min_sessions": (1, 2)[seed // 48 % 2],
        "collapse_repeats": bool(seed // 96 % 2),
    }
    if ways["split"] != "last_session":
        ways |= {"valid_fraction": 0.3, "test_fraction": 0.3}
    return ways


def in_pieces(directory, frame, cuts, ways):
    """Prepares a log piece by piece; returns the directories."""
    bounds = [frame["timestamp"].min(), *cuts, frame["timestamp"].max() + 1]
    made = []
    for number, (start, end) in enumerate(itertools.pairwise(bounds)):
        path, output = directory / f"{number}.parquet", directory / f"D{number}"
        frame.filter(pl.col("timestamp").is_between(start, end, closed="left")).write_parquet(path)
        own = {"previous": str(made[-1])} if made else ways
        prepare(PrepareConfig(input=(str(path),), output_dir=str(output), **own))
        made.append(output)
    return made


@settings(max_examples=few(3, of=200), deadline=None, phases=[Phase.generate])
@given(st.integers(0, 10_000), st.integers(0, 191), st.lists(st.integers(1, 23), max_size=2))
def test_pieces_equal_the_whole(tmp_path_factory, seed, kind, quarters):
    tmp_path, frame, ways = tmp_path_factory.mktemp("log"), log_of(seed), settings_of(kind)
    frame.write_parquet(tmp_path / "all.parquet")
    every = sorted({START + 3 * DAY, *(START + (12 + quarter) * DAY // 4 for quarter in quarters)})
    # Every piece has an event.
    cuts = [
        cut
        for start, cut in itertools.pairwise([START, *every])
        if frame["timestamp"].is_between(start, cut, closed="left").any()
        and cut <= frame["timestamp"].max()
    ]
    try:
        made = in_pieces(tmp_path, frame, cuts, ways)
        whole = PrepareConfig(
            input=(str(tmp_path / "all.parquet"),), output_dir=str(tmp_path / "D"), **ways
        )
        prepare(whole)
    except DataError as error:
        # Small logs may leave a part empty.
        if "left empty" not in str(error) and "filters" not in str(error):
            raise
        return
    values, order, fitted = readable(made[-1])
    expected, _, _ = readable(tmp_path / "D")
    assert values == expected
    for earlier in made[:-1]:
        _, users, items = readable(earlier)
        assert order[: len(users)] == users
        assert fitted[: len(items)] == items


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pieces")
    ways = {"split": "time", "valid_fraction": 0.2, "test_fraction": 0.2, "min_item_events": 2}
    frame = log_of(1, events=300)
    return frame, in_pieces(directory, frame, [START + 3 * DAY, START + 5 * DAY], ways)


def test_only_changed_histories_are_written(pieces):
    _, made = pieces
    before, after = (
        {one.user_id: one.item_ids.tobytes() for one in open_histories(directory)}
        for directory in made[1:]
    )
    manifest = load_manifest(made[2])
    differing = sum(before.get(user) != items for user, items in after.items())
    assert 0 < differing <= manifest["appended"]["rewritten_histories"] <= len(after)
    assert [one["content_hash"] for one in manifest["ancestors"]] == [
        load_manifest(one)["content_hash"] for one in made[:2]
    ]


def append(previous, tmp_path, frame, **own):
    path = tmp_path / "more.parquet"
    frame.write_parquet(path)
    config = PrepareConfig(
        previous=str(previous), input=(str(path),), output_dir=str(tmp_path / "new"), **own
    )
    return prepare(config)


def changed(frame, **columns):
    return frame.with_columns(**columns)


LATER = pl.DataFrame(
    {"user_id": [1, 99], "item_id": ["i1", "new"], "timestamp": [START + 9 * DAY] * 2}
)

BAD = {
    "the same again": (lambda frame: frame, "nothing to append: {all} of {all} events are in .+"),
    "late": (
        lambda frame: changed(LATER, timestamp=pl.lit(START + DAY + 7, pl.Int64)),
        "2 of 2 new events are earlier than the last one in .+ append in order of time.+",
    ),
    "empty": (lambda frame: LATER[:0], ".+no rows in it.+"),
    "other columns": (lambda frame: LATER.rename({"item_id": "article"}), ".+'item_id'.+"),
    "other unit": (
        lambda frame: changed(LATER, timestamp=pl.col("timestamp") * 1000),
        ".+counts milliseconds by its size, but .+ counts seconds.+",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_days_are_refused_and_change_nothing(pieces, tmp_path, case):
    frame, made = pieces
    make, message = BAD[case]
    message = message.replace("{all}", f"{len(frame):,}")
    with pytest.raises(DataError, match=f"^{message}$"):
        append(made[-1], tmp_path, make(frame))
    assert not (tmp_path / "new").exists()


def test_an_overlap_is_left_out_and_counted(pieces, tmp_path):
    frame, made = pieces
    both = pl.concat([frame[-20:].select(LATER.columns), LATER])
    manifest = append(made[-1], tmp_path, both)
    assert manifest["appended"]["duplicates"] == 20
    assert manifest["appended"]["events"] == 2


def test_late_events_can_be_left_out(pieces, tmp_path):
    late = changed(LATER, timestamp=pl.lit(START + 7, pl.Int64))
    manifest = append(pieces[1][-1], tmp_path, pl.concat([LATER, late]), on_bad_row="skip")
    assert manifest["appended"]["events"] == 2
    assert {"reason": "earlier than the previous log's last event", "events": 2} in [
        {name: drop[name] for name in ("reason", "events")} for drop in manifest["drops"]
    ]


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"gap_minutes": 10.0}, "gap_minutes=10.0: .+ was prepared with gap_minutes=None.+"),
        ({"min_item_events": 5}, "min_item_events=5: .+min_item_events=2.+leave it out.+"),
        (
            {"valid_after": str(START), "test_after": str(START + 9)},
            "valid_after=2020-09-13 12:26:40: .+ has .+ a cut only moves on.+",
        ),
    ],
)
def test_other_settings_are_refused(pieces, tmp_path, own, message):
    with pytest.raises(DataError, match=message):
        append(pieces[1][-1], tmp_path, LATER, **own)


def test_a_flag_at_its_default_counts_as_given(pieces, tmp_path):
    path = tmp_path / "more.parquet"
    LATER.write_parquet(path)
    config = PrepareConfig(
        previous=str(pieces[1][-1]), input=(str(path),), output_dir=str(tmp_path / "new")
    )
    with pytest.raises(
        DataError, match=r"min_item_events=1: .+ was prepared with min_item_events=2"
    ):
        prepare(config, given={"min_item_events"})


def test_cuts_may_move_on(pieces, tmp_path):
    cuts = {"valid_after": START + 6 * DAY, "test_after": START + 8 * DAY}
    later = pl.concat([changed(LATER, timestamp=pl.lit(START + 7 * DAY, pl.Int64)), LATER])
    manifest = append(pieces[1][-1], tmp_path, later, **{n: str(t) for n, t in cuts.items()})
    assert manifest["cuts"] == cuts


def test_directories_that_keep_no_events_are_refused(pieces, tmp_path):
    made = pieces[1][0]
    capped = tmp_path / "capped"
    config = PrepareConfig(
        input=(str(made.parent / "0.parquet"),), output_dir=str(capped), max_user_events=50,
        split="time",
    )  # fmt: skip
    prepare(config)
    with pytest.raises(DataError, match="max_user_events=50; prepare everything at once"):
        append(capped, tmp_path, LATER)
    damaged = tmp_path / "damaged"
    shutil.copytree(made, damaged)
    path = damaged / "log" / "events.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"events\.parquet: has changed"):
        append(damaged, tmp_path, LATER)
    shutil.rmtree(damaged / "log")
    with pytest.raises(DataError, match=r"\.parquet: no such file, but manifest\.json has it"):
        append(damaged, tmp_path, LATER)
