"""Sessions, filters, splits and vocabulary compared with a plain second preparation."""

from random import Random

import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.prepare import prepare
from data_pipelines.raw.log import TYPED_SCHEMA, encode_log
from data_pipelines.raw.log_facts import LogFacts
from data_pipelines.sessions.dataset import build_dataset
from data_pipelines.sessions.filters import FilterOptions, apply_filters
from data_pipelines.sessions.sessionize import to_sessions
from data_pipelines.sessions.splits import SplitOptions, sessions_of, with_cuts
from experiments.runs.data import open_data
from tests.data_pipelines.logs import small_times_config
from tests.hostile.damage import damaged
from tests.hostile.log_files import log_file
from tests.hostile.outcomes import Outcomes
from tests.hostile.plain_dataset import PlainEvent, PlainOptions, prepare_plain
from tests.hostile.plain_reader import merge_floats, read_plain
from tests.volume import few

KINDS = {
    "filters": r"the filters leave nothing: \w+=\d+ dropped \d+ events.*",
    "empty part": r"split=\w+: the (train|valid|test) part is left empty \(\d+ sessions of \d+ .+",
}
# Ids whose order by bytes differs from letters or numbers; times with ties and at both ends.
IDS = ("10", "9", "a", "B", "é", "", "\x00", "🎈", "a\nb", *"cdefghijklm")
TIMES = (0, 1, 60_000, 60_001, 120_000, 86_400_000, 253_402_300_799_999)


def random_log(rng):
    users, items = rng.sample(IDS, rng.randint(1, 12)), rng.sample(IDS, rng.randint(1, 6))
    return [
        PlainEvent(
            rng.choice(users),
            rng.choice(items),
            rng.choice(TIMES) if rng.random() < 0.3 else rng.randrange(10) * 60_000,
            rng.choice("xyz12"),
        )
        for _ in range(rng.randint(1, 60))
    ]


def random_options(rng):
    split = rng.choice(("last_session", "user", "time"))
    by_clock = split == "time" and rng.random() < 0.5
    session_ids = rng.random() < 0.5
    gaps = (0.001, 1, 1.5, 30, 1e9, float("inf"))
    return PlainOptions(
        session_ids=session_ids,
        gap_minutes=rng.choice((None, *gaps) if session_ids else gaps),
        collapse_repeats=rng.random() < 0.3,
        min_item_events=rng.choice((1, 1, 2, 5)),
        min_user_events=rng.choice((1, 1, 1, 3, 9)),
        max_user_events=rng.choice((0, 0, 0, 25)),
        min_sessions=rng.choice((1, 1, 1, 2)),
        split=split,
        valid_fraction=rng.choice((0.1, 0.3, 0.001)),
        test_fraction=rng.choice((0.1, 0.3, 0.001)),
        bounds_ms=tuple(1000 * s for s in sorted(rng.sample(range(600), 2))) if by_clock else None,
    )


def dataset_of(events, options):
    """The histories that the preparation makes of a log."""
    frame = pl.DataFrame(
        {
            "user_id": [event.user for event in events],
            "item_id": [event.item for event in events],
            "time_ms": [event.time_ms for event in events],
            "session_id": [event.session for event in events],
        },
        schema=TYPED_SCHEMA,
    )
    log = encode_log([frame], has_sessions=options.session_ids, facts=LogFacts())
    found = to_sessions(log, options.gap_minutes, options.collapse_repeats).events
    names = ("min_item_events", "min_user_events", "max_user_events", "min_sessions")
    bounds = options.bounds_ms or (None, None)
    asked = SplitOptions(options.split, options.valid_fraction, options.test_fraction, *bounds)
    split = with_cuts(sessions_of(found), asked)
    filters = FilterOptions(*(getattr(options, name) for name in names))
    found, _ = apply_filters(found, filters, split.valid_after_ms)
    return build_dataset(log, found, split, asked=asked)


def histories_of(dataset):
    """The histories from the plain preparation."""
    histories = {}
    for history in dataset:
        pairs = list(zip(history.item_ids.tolist(), history.times.tolist(), strict=True))
        ends = history.session_lengths.cumsum().tolist()
        sessions = [pairs[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        histories[history.user_id] = list(
            zip(history.session_splits.tolist(), sessions, strict=True)
        )
    return histories


def test_random_logs_become_what_the_plain_preparation_makes_of_them():
    outcomes, inputs = Outcomes(KINDS), few(300, of=2000)
    splits = {"last_session": 0, "user": 0, "time": 0}
    for seed in range(inputs):
        rng = Random(seed)
        events, options = random_log(rng), random_options(rng)
        expected = prepare_plain(events, options)
        try:
            dataset = dataset_of(events, options)
        except DataError as error:
            assert outcomes.refused(error) == expected, (seed, options)
            continue
        assert not isinstance(expected, str), (seed, expected, options)
        assert histories_of(dataset.histories()) == expected.histories, (seed, options)
        assert dataset.vocabulary.item_ids.to_list() == expected.vocabulary
        assert dataset.vocabulary.fitted_size == 2 + expected.fitted
        assert dataset.users_too_short == expected.users_too_short
        assert list(expected.histories) == dataset.user_ids.to_list()
        outcomes.right()
        splits[options.split] += 1
    outcomes.require(inputs, least=100)
    assert min(splits.values()) > few(3, of=50), splits


READER_KINDS = {**KINDS, "log": r"/.+/log\.\S+: .+|no rows are left of the log \(.+\); .+"}


def test_damaged_logs_become_whole_directories_or_none(tmp_path):
    """From bytes to histories on disk, compared with both plain programs."""
    outcomes, inputs = Outcomes(READER_KINDS), few(30, of=150)
    for seed in range(inputs):
        rng, room = Random(seed), tmp_path / str(seed)
        log = log_file(rng, bad_rows=0.05, damage=rng.choice((None, None, damaged)), rows=60)
        room.mkdir()
        (room / log.name).write_bytes(log.data)
        plain = read_plain(log.data, gzipped=log.name.endswith(".gz"), separator=log.separator)
        good = merge_floats([row.event for row in plain.rows if row.event])
        events = [PlainEvent(*event, None) for event in good]
        gap_minutes = rng.choice((0.001, 1e5))
        options = PlainOptions(
            False, gap_minutes, False, 1, 1, 0, 1, "last_session", 0.1, 0.1, None
        )
        try:
            manifest = prepare(
                small_times_config(
                    input=(str(room / log.name),),
                    output_dir=str(room / "made" / "D"),
                    gap_minutes=gap_minutes,
                    on_bad_row="skip",
                )
            )
        except DataError as error:
            outcomes.refused(error)
            assert (
                plain.problem or plain.unclosed or isinstance(prepare_plain(events, options), str)
            ), (seed, error)
            assert [path.name for path in room.iterdir()] == [log.name]
        else:
            expected = prepare_plain(events, options)
            for catalogue, histories, items in (
                ("fitted", expected.as_fitted(), expected.vocabulary[: expected.fitted]),
                ("live", expected.histories, expected.vocabulary),
            ):
                data = open_data(room / "made" / "D", catalogue)
                found = data.histories.__getitems__(range(len(data.histories)))
                assert histories_of(found) == histories, seed
                assert data.vocabulary.item_ids.to_list() == items
            assert manifest["counts"]["events"] == len(events)
            assert [path.name for path in (room / "made").iterdir()] == ["D"]
            outcomes.right()
    outcomes.require(inputs, never=("filters",))
