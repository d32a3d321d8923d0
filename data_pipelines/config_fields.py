"""The fields of the settings of `prepare`: one per flag, with its default and its help."""

import dataclasses

from data_pipelines.impressions.negatives import ImpressionJoin
from data_pipelines.raw.bad_rows import OnBadRow
from data_pipelines.raw.delimited import Quote
from data_pipelines.raw.row_checker import NULL_VALUES
from data_pipelines.raw.times import TimeOptions, TimeUnit
from data_pipelines.sessions.splits import SplitName
from data_pipelines.synthetic import SyntheticConfig, Variant
from hiertcn_jax.settings import Settings, setting

HELP_TOPIC = "preparation"

_LONGEST_TOLERANCE = 86_400.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareFields(Settings):
    """What to prepare, and how, before `PrepareConfig` checks that the fields go together."""

    output_dir: str = setting("", "Directory to create. Must not exist, or must be empty.")

    input: tuple[str, ...] = setting(
        (),
        "Log files (.csv, .tsv, .jsonl, RecBole's .inter, other text with --separator, each also "
        "as .gz, .bz2, .xz, .zst or .zip; .parquet), patterns, or directories of parts. Separate "
        "several by commas or repeat --input. Naming a file twice is an error.",
        adds_up=True,
    )
    previous: str | None = setting(
        None,
        "Prepared directory to which --input adds later events. It stays as it is, and all "
        "settings are those of it. Only --items, --on_bad_row and later cuts (--valid_after, "
        "--test_after) may be given. Events that it has already are left out.",
    )
    tfds: str | None = setting(
        None,
        "A prepared TFDS dataset instead of --input, such as movielens/100k-ratings.",
    )
    tfds_data_dir: str | None = setting(
        None, "Directory that holds TFDS datasets. Default: that of TFDS."
    )
    synthetic: Variant | None = setting(
        None,
        "A synthetic log instead of --input: planted (users have a lasting taste) or control "
        "(every session has its own).",
    )
    synthetic_users: int = setting(SyntheticConfig.users, "Users of the synthetic log.", at_least=1)
    seed: int = setting(
        SyntheticConfig.seed,
        "Seed of the synthetic log, and of the sample kept of long impressions.",
        at_least=0,
    )

    user_column: str = setting(
        "user_id", "Column (or feature) with user ids: text or whole numbers."
    )
    item_column: str = setting(
        "item_id", "Column (or feature) with item ids: text or whole numbers."
    )
    time_column: str = setting(
        "timestamp", "Column (or feature) with times: numbers since 1970, or ISO 8601."
    )
    time_unit: TimeUnit = setting(
        TimeOptions.unit,
        "Unit of the numbers in --time_column. auto: the only unit with which they lie between "
        "1995 and now. order: no times; numbers from 0 that only say what came first.",
    )
    time_format: str | None = setting(
        None,
        "Format of times that are neither numbers since 1970 nor ISO 8601, as for strftime: "
        "%m/%d/%Y or %Y%m%d%H%M%S. Times without a zone are UTC.",
    )
    allow_odd_times: bool = setting(
        False,
        "Also accept times before 1995 and in the future. They usually mean a wrong unit, a date "
        "written as a number, or no time at all. Numbers then need --time_unit.",
    )
    separator: str | None = setting(
        None,
        "Separator of fields in text files: characters, or 'tab'. Default: comma in .csv, tab in "
        ".tsv and .inter. With it, files with other endings (.txt, .dat, none) are read as text.",
    )
    columns: tuple[str, ...] = setting(
        (),
        "Names of the columns of --input, for text files without a header: user_id,item_id,...",
    )
    encoding: str = setting(
        "utf-8",
        "Encoding of text files: utf-8, latin-1, utf-16, cp1252 or another that Python has.",
    )
    quote: Quote = setting(
        "double",
        'What quotes (") in text files mean. double: a field that they enclose may hold separators '
        "and line ends, and two of them mean one. none: nothing, they are text.",
    )
    on_bad_row: OnBadRow = setting(
        "error",
        "For an unusable row: stop, or skip it and count it in the manifest.",
    )
    null_values: tuple[str, ...] = setting(
        NULL_VALUES,
        "Words that mean a missing value, as blanks do. A row whose id or time is missing is bad. "
        f"Default: {' '.join(NULL_VALUES)}. --null_values= means no words.",
        adds_up=True,
    )
    drop_where: str = setting(
        "",
        "Drop rows that meet a condition: a column, one of = != < <= > >=, and a constant. "
        "Separate several by commas; one is enough to drop a row. Example: interaction_type=4.",
    )

    runner: str | None = setting(
        None,
        "Prepare --input or --tfds with an Apache Beam pipeline on this runner: DirectRunner, "
        "FlinkRunner, SparkRunner... All workers must be able to read the input and --output_dir.",
    )
    pipeline_options: str = setting(
        "",
        "Options of --runner, as on a command line: '--parallelism=64 --flink_master=...'.",
    )

    impressions: tuple[str, ...] = setting(
        (),
        "Files of what users were shown. A row is a list: user, time, items shown, items clicked. "
        "An event keeps what its user was shown then and did not click, as its negatives.",
        adds_up=True,
    )
    impression_join: ImpressionJoin = setting(
        "click",
        "How to join --impressions with events. click: the list in which the user clicked the "
        "event's item, nearest in time. session: everything shown during the event's session.",
    )
    impression_tolerance: float = setting(
        60.0,
        "Most seconds between an event (or session) and a list of --impressions that joins it.",
        at_least=0,
        at_most=_LONGEST_TOLERANCE,
    )
    impression_cap: int = setting(
        100,
        "Most impressions kept for an event: a seeded sample.",
        at_least=1,
    )
    impression_user_column: str = setting("user_id", "Column of --impressions with user ids.")
    impression_time_column: str = setting("timestamp", "Column of --impressions with times.")
    impression_shown_column: str = setting(
        "shown",
        "Column of --impressions with the items shown: lists, or ids split by spaces or commas.",
    )
    impression_clicked_column: str = setting(
        "clicked", "Column of --impressions with the items clicked: lists, or ids as text."
    )

    session_column: str | None = setting(
        None,
        "Column with session ids, unique within a user. Sessions of a user that overlap in time "
        "are merged. Default: sessions are separated by idle gaps.",
    )
    gap_minutes: float | None = setting(
        None,
        "A longer idle time starts a new session, also within one id of --session_column. "
        "Default: 30; with --session_column no limit.",
        above=0,
    )
    collapse_repeats: bool = setting(
        False,
        "Of consecutive events on the same item in a session, keep the first.",
    )

    min_item_events: int = setting(1, "Drop items with fewer events.", at_least=1)
    min_user_events: int = setting(1, "Drop users with fewer events.", at_least=1)
    max_user_events: int = setting(0, "Drop users with more events. 0: no limit.", at_least=0)
    min_sessions: int = setting(1, "Drop users with fewer sessions.", at_least=1)

    catalogue: str | None = setting(
        None,
        "File of item ids (.txt, one per line, or .parquet with a column item_id) to add to the "
        "catalogue even if they have no event in train. Such items need given embeddings.",
    )
    items: str | None = setting(
        None,
        "File with a table of the items (.parquet, .csv, .tsv or .jsonl) and their titles, which "
        "are shown wherever items are. Its other columns are kept in items.parquet.",
    )
    item_title_column: str = setting("title", "Column of --items with titles.")
    item_id_column: str | None = setting(
        None, "Column of --items with item ids. Default: that of --item_column."
    )
    svd_embeddings: int = setting(
        0,
        "Width of item embeddings to compute by a truncated SVD of which items sessions of train "
        "share. Writes item_embeddings.npy; its ids are vocabulary.parquet. 0: none.",
        at_least=0,
    )

    split: SplitName = setting(
        "last_session",
        "How to split. last_session: each user's last session is test, the one before it valid. "
        "user: users by a hash of their id. time: sessions by their start.",
    )
    valid_fraction: float | None = setting(
        None,
        "Share of users (--split=user) or sessions (--split=time) in valid. Default: 0.1.",
        above=0,
        below=1,
    )
    test_fraction: float | None = setting(
        None,
        "Share of users (--split=user) or sessions (--split=time) in test. Default: 0.1.",
        above=0,
        below=1,
    )
    valid_after: str | None = setting(
        None,
        "With --split=time: sessions that start from this time on are valid. Seconds since 1970, "
        "or an ISO 8601 date.",
    )
    test_after: str | None = setting(
        None,
        "With --split=time: sessions that start from this time on are test. Seconds since 1970, "
        "or an ISO 8601 date.",
    )
