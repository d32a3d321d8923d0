"""The settings of `prepare`: one field per flag, with its default and its help."""

import codecs
import dataclasses
import typing
from typing import Any

from data_pipelines.impressions.files import ImpressionColumns
from data_pipelines.impressions.negatives import ImpressionJoin, ImpressionOptions
from data_pipelines.local_paths import local_path
from data_pipelines.raw.bad_rows import OnBadRow
from data_pipelines.raw.columns import Columns
from data_pipelines.raw.conditions import parse_conditions
from data_pipelines.raw.delimited import TextFormat
from data_pipelines.raw.ingest import ReadOptions
from data_pipelines.raw.row_checker import NULL_VALUES
from data_pipelines.raw.times import TimeOptions, TimeUnit, parse_time, polars_format
from data_pipelines.sessions.filters import FilterOptions
from data_pipelines.sessions.item_titles import ItemColumns
from data_pipelines.sessions.splits import SplitName, SplitOptions
from data_pipelines.synthetic import SyntheticConfig, Variant
from hiertcn_jax.settings import Settings, setting

HELP_TOPIC = "preparation"

DEFAULT_FRACTION = 0.1
"""Default share of valid, and of test."""

_LONGEST_TOLERANCE = 86_400.0

_SEPARATOR_NAMES = {"tab": "\t", r"\t": "\t", "comma": ",", "space": " "}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareConfig(Settings):
    """What to prepare, and how. Each flag's help documents its field.

    Raises:
      ValueError: A field is out of range or contradicts another: "field=value: why".
    """

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

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_source()
        self._check_roles()
        self._check_split()
        self._parsed("drop_where", parse_conditions)
        self._parsed("time_format", polars_format)
        if self.time_format is not None and self.time_unit != "auto":
            raise ValueError(
                f"time_unit={self.time_unit}: has no use with time_format; leave one of them out"
            )
        if self.time_unit == "order" and (self.session_column is None or self.gap_minutes):
            raise ValueError(
                "time_unit=order: an order has no idle times that end sessions; give "
                "session_column, without gap_minutes"
            )
        self._check_runner()
        if 0 < self.max_user_events < self.min_user_events:
            raise ValueError(
                f"max_user_events={self.max_user_events}: must be 0 or >= min_user_events"
            )
        if self.separator is not None and not self._is_separator(self._separator()):
            raise ValueError(
                f"separator={self.separator!r}: must be ASCII characters, no letters or digits"
            )
        self._parsed("encoding", _require_text_encoding)
        if len(set(self.columns)) < len(self.columns) or "" in self.columns:
            raise ValueError(f"columns={','.join(self.columns)}: must be names, each once")

    def time_options(self) -> TimeOptions:
        """How to read times, those of the log and of impressions."""
        allow_odd = self.allow_odd_times or self.time_unit == "order"
        return TimeOptions(self.time_unit, self.time_format, allow_odd)

    def read_options(self) -> ReadOptions:
        """How to read the log."""
        return ReadOptions(
            columns=Columns(
                user=self.user_column,
                item=self.item_column,
                time=self.time_column,
                times=self.time_options(),
                session=self.session_column,
            ),
            text=TextFormat(self._separator(), self.columns, self.encoding),
            on_bad_row=self.on_bad_row,
            null_values=self.null_values,
            drop_where=parse_conditions(self.drop_where),
        )

    def impression_columns(self) -> ImpressionColumns:
        """Which columns of the impressions to read."""
        return ImpressionColumns(
            user=self.impression_user_column,
            time=self.impression_time_column,
            times=self.time_options(),
            shown=self.impression_shown_column,
            clicked=self.impression_clicked_column,
        )

    def impression_options(self) -> ImpressionOptions:
        """How to join impressions with events."""
        return ImpressionOptions(
            join=self.impression_join,
            tolerance_ms=round(self.impression_tolerance * 1000),
            cap=self.impression_cap,
            seed=self.seed,
        )

    def filter_options(self) -> FilterOptions:
        """Which items and users to keep."""
        return FilterOptions(
            min_item_events=self.min_item_events,
            min_user_events=self.min_user_events,
            max_user_events=self.max_user_events,
            min_sessions=self.min_sessions,
        )

    def split_options(self) -> SplitOptions:
        """How to assign sessions to train, valid and test."""
        return SplitOptions(
            split=self.split,
            valid_fraction=DEFAULT_FRACTION if self.valid_fraction is None else self.valid_fraction,
            test_fraction=DEFAULT_FRACTION if self.test_fraction is None else self.test_fraction,
            valid_after_ms=self._cut(self.valid_after),
            test_after_ms=self._cut(self.test_after),
        )

    @staticmethod
    def _cut(text: str | None) -> int | None:
        """A cut in milliseconds, at a whole second, because histories hold whole seconds."""
        return None if text is None else parse_time(text) // 1000 * 1000

    def synthetic_config(self) -> SyntheticConfig:
        """The synthetic log that `synthetic` names."""
        variant = self.synthetic or SyntheticConfig.variant
        return SyntheticConfig(variant=variant, seed=self.seed, users=self.synthetic_users)

    def _check_source(self) -> None:
        if not self.output_dir:
            raise ValueError("output_dir=: must be given: the directory to create")
        for name in (
            "output_dir", "input", "previous", "impressions", "catalogue", "items", "tfds_data_dir"
        ):  # fmt: skip
            value = getattr(self, name) or ()
            for path in (value,) if isinstance(value, str) else value:
                local_path(name, path)
        given = [name for name in ("input", "tfds", "synthetic") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"input={','.join(self.input)}: exactly one of input, tfds and synthetic is "
                f"required, got {' and '.join(given) or 'none'}"
            )
        if self.previous is not None and not self.input:
            raise ValueError(
                f"previous={self.previous}: needs input, the files of the later events"
            )
        if self.tfds_data_dir is not None and self.tfds is None:
            raise ValueError(
                f"tfds_data_dir={self.tfds_data_dir}: has no use without tfds; leave it out"
            )

    def item_columns(self) -> ItemColumns:
        """Which columns of `items` to read."""
        return ItemColumns(self.item_id_column or self.item_column, self.item_title_column)

    def _check_roles(self) -> None:
        """Checks that no column has two roles."""
        columns = self.item_columns()
        if self.items is not None and columns.item == columns.title:
            raise ValueError(
                f"item_title_column={columns.title}: is the column of ids too; name another column"
            )
        if self.items is None and self.item_id_column is not None:
            raise ValueError(
                f"item_id_column={self.item_id_column}: has no use without items; leave it out"
            )
        for names in (
            ("user_column", "item_column", "time_column", "session_column"),
            (
                "impression_user_column",
                "impression_time_column",
                "impression_shown_column",
                "impression_clicked_column",
            ),
        ):
            role_of: dict[str, str] = {}
            for name in names:
                column = getattr(self, name)
                if column in role_of:
                    raise ValueError(
                        f"{name}={column}: is {role_of[column]} too; name another column"
                    )
                if column is not None:
                    role_of[column] = name

    def _check_runner(self) -> None:
        if self.runner is None:
            if self.pipeline_options:
                raise ValueError(
                    f"pipeline_options={self.pipeline_options}: has no use without runner; "
                    "leave it out"
                )
            return
        if self.synthetic is not None:
            raise ValueError(
                f"synthetic={self.synthetic}: not with runner: one process draws it; "
                "leave runner out"
            )

    def _check_split(self) -> None:
        for name, splits in (
            ("valid_fraction", ("user", "time")),
            ("test_fraction", ("user", "time")),
            ("valid_after", ("time",)),
            ("test_after", ("time",)),
        ):
            value = getattr(self, name)
            # With `previous` the split is that of the earlier log.
            if value is not None and self.split not in splits and self.previous is None:
                raise ValueError(
                    f"{name}={value}: has no use with split={self.split}; leave it out"
                )
        options = (self._parsed("valid_after", parse_time), self._parsed("test_after", parse_time))
        fractions = self.split_options()
        if fractions.valid_fraction + fractions.test_fraction >= 1:
            raise ValueError(
                f"test_fraction={fractions.test_fraction}: leaves nothing to train on; "
                "lower it or valid_fraction"
            )
        self._check_bounds(*options)

    def _check_bounds(self, valid_after_ms: int | None, test_after_ms: int | None) -> None:
        if (valid_after_ms is None) != (test_after_ms is None):
            raise ValueError(
                f"valid_after={self.valid_after}: valid_after and test_after go together; set both"
            )
        if valid_after_ms is None or test_after_ms is None:
            return
        if valid_after_ms >= test_after_ms:
            raise ValueError(f"test_after={self.test_after}: must be later than valid_after")
        if self.valid_fraction is not None or self.test_fraction is not None:
            raise ValueError(
                f"valid_after={self.valid_after}: has no use with fractions; leave them out"
            )

    def _parsed(self, name: str, parse: typing.Callable[[str], Any]) -> Any:
        """Parses a field; an error starts with the field's name."""
        value = getattr(self, name)
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise ValueError(f"{name}={value}: {error}") from error

    def _separator(self) -> str | None:
        return _SEPARATOR_NAMES.get(self.separator or "", self.separator)

    @staticmethod
    def _is_separator(text: str | None) -> bool:
        if not text or len(text) > 8:
            return False
        return text.isascii() and not any(one.isalnum() or one in '"\r\n\0' for one in text)


def _require_text_encoding(name: str) -> None:
    """Checks that Python has an encoding of text by this name.

    Raises:
      ValueError: It has none.
    """
    try:
        if not codecs.lookup(name)._is_text_encoding:
            raise LookupError
        "".encode(name)
    except (LookupError, UnicodeError):
        raise ValueError("is no encoding of text, such as utf-8, latin-1 or utf-16") from None
