"""The settings of `prepare`: one field a flag, with its default and its help."""

import dataclasses
import typing
from typing import Annotated, Any, Literal

from data_pipelines.impressions.files import ImpressionColumns
from data_pipelines.impressions.negatives import ImpressionJoin, ImpressionOptions
from data_pipelines.local_paths import local_path
from data_pipelines.raw.bad_rows import OnBadRow
from data_pipelines.raw.columns import Columns
from data_pipelines.raw.conditions import parse_conditions
from data_pipelines.raw.ingest import ReadOptions
from data_pipelines.raw.times import TimeOptions, TimeUnit, parse_time, polars_format
from data_pipelines.sessions.filters import FilterOptions
from data_pipelines.sessions.splits import SplitName, SplitOptions
from data_pipelines.synthetic import SyntheticConfig, Variant

DEFAULT_FRACTION = 0.1
"""Share of valid, and of test, where nothing is said."""

_LONGEST_TOLERANCE = 86_400.0

_SEPARATOR_NAMES = {"tab": "\t", r"\t": "\t", "comma": ",", "space": " "}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What to prepare, and how. The help of each flag is the documentation of its field.

    Raises:
      ValueError: A field is out of range or does not go with another: "field=value: why".
    """

    output_dir: Annotated[str, "Directory to make. Must not exist, or be empty."] = ""

    input: Annotated[
        tuple[str, ...],
        "Log files (.csv, .tsv, either .gz, .parquet), patterns, or directories of parts, with "
        "commas between them or by further --input flags. No file may be named twice.",
    ] = ()
    tfds: Annotated[
        str | None, "A prepared TFDS dataset instead of --input, such as movielens/100k-ratings."
    ] = None
    tfds_data_dir: Annotated[str | None, "Where TFDS datasets are kept; default: its own."] = None
    synthetic: Annotated[
        Variant | None,
        "A synthetic log instead of --input: with a planted long-term taste, or without.",
    ] = None
    synthetic_users: Annotated[int, "Users of the synthetic log."] = SyntheticConfig.users
    seed: Annotated[int, "Seed of the synthetic log, and of the sample of long impressions."] = (
        SyntheticConfig.seed
    )

    user_column: Annotated[str, "Column (or feature) of user ids, text or integers."] = "user_id"
    item_column: Annotated[str, "Column of item ids, text or integers."] = "item_id"
    time_column: Annotated[str, "Column of times: numbers since 1970, or ISO 8601."] = "timestamp"
    time_unit: Annotated[
        TimeUnit,
        "What a number of --time_column counts. auto: by its size, of which only one unit lies "
        "between 1995 and now.",
    ] = TimeOptions.unit
    time_format: Annotated[
        str | None,
        "How times are written that are neither: as of strftime, such as %m/%d/%Y or %Y%m%d%H%M%S. "
        "Without a zone they are UTC.",
    ] = None
    allow_odd_times: Annotated[
        bool,
        "Read times before 1995 and in the future too, which are mostly another unit, a date that "
        "is written as a number, or none. Numbers then need --time_unit.",
    ] = False
    separator: Annotated[
        str | None,
        "Between fields of text files: a character, or 'tab'. Default: by the file's name.",
    ] = None
    on_bad_row: Annotated[
        OnBadRow, "At a row that cannot be used: stop, or skip it and count it in the manifest."
    ] = "error"
    drop_where: Annotated[
        str,
        "Drop rows where a comparison holds: column, one of = != < <= > >=, constant. Several are "
        "separated by commas; any of them drops a row. Example: interaction_type=4",
    ] = ""

    runner: Annotated[
        str | None,
        "Prepare --input or --tfds by an Apache Beam pipeline on this runner: DirectRunner, "
        "FlinkRunner, SparkRunner... All its workers must see what is read, and --output_dir.",
    ] = None
    pipeline_options: Annotated[
        str, "Options of the runner, as on a command line: '--parallelism=64 --flink_master=...'"
    ] = ""

    impressions: Annotated[
        tuple[str, ...],
        "Files of what was shown, a row a list: user, time, items shown, items clicked. What was "
        "shown beside an event and not clicked is kept as its negatives.",
    ] = ()
    impression_join: Annotated[
        ImpressionJoin,
        "click: an event gets the list in which its user clicked its item, at the nearest time. "
        "session: all that was shown during its session.",
    ] = "click"
    impression_tolerance: Annotated[
        float, "Seconds between an event (or session) and a list that stands beside it, at most."
    ] = 60.0
    impression_cap: Annotated[int, "The most items kept of an event: a seeded sample."] = 100
    impression_user_column: Annotated[str, "Column of user ids in --impressions."] = "user_id"
    impression_time_column: Annotated[str, "Column of times in --impressions."] = "timestamp"
    impression_shown_column: Annotated[
        str, "Column of items shown: lists, or text with spaces or commas between ids."
    ] = "shown"
    impression_clicked_column: Annotated[str, "Column of items clicked, likewise."] = "clicked"

    session_column: Annotated[
        str | None,
        "Column of session ids, which count within a user. "
        "Sessions of a user that overlap in time become one. Default: sessions by idle gaps.",
    ] = None
    gap_minutes: Annotated[
        float | None,
        "A longer idle time starts a session, with --session_column also within one id. Default: "
        "30; with --session_column no limit.",
    ] = None
    collapse_repeats: Annotated[
        bool, "Keep one event of consecutive events on the same item in a session."
    ] = False

    min_item_events: Annotated[int, "Drop items with fewer events."] = 1
    min_user_events: Annotated[int, "Drop users with fewer events."] = 1
    max_user_events: Annotated[int, "Drop users with more events; 0: no limit."] = 0
    min_sessions: Annotated[int, "Drop users with fewer sessions."] = 1

    catalogue: Annotated[
        str | None,
        "File of item ids (.txt, one a line, or .parquet with a column item_id) that belong to the "
        "catalogue without events in train too; their embeddings have to be given.",
    ] = None
    svd_embeddings: Annotated[
        int,
        "Width of item embeddings to make from what is picked together in train, by a truncated "
        "SVD (item_embeddings.npy, its ids vocabulary.parquet); 0: none.",
    ] = 0

    split: Annotated[
        SplitName,
        "last_session: each user's last session is test, the one before valid. user: users by a "
        "hash of their id. time: sessions by their start.",
    ] = "last_session"
    valid_fraction: Annotated[
        float | None, "Share of users (split=user) or sessions (split=time) in valid. Default: 0.1."
    ] = None
    test_fraction: Annotated[float | None, "The same for test. Default: 0.1."] = None
    valid_after: Annotated[
        str | None,
        "split=time: sessions from then on are valid. Seconds since 1970, or an ISO date.",
    ] = None
    test_after: Annotated[str | None, "split=time: sessions from then on are test."] = None

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_source()
        self._check_roles()
        self._check_ranges()
        self._check_split()
        self._parsed("drop_where", parse_conditions)
        self._parsed("time_format", polars_format)
        if self.time_format is not None and self.time_unit != "auto":
            raise ValueError(f"time_unit={self.time_unit}: has no use with time_format")
        self._check_runner()
        if self.separator is not None and not self._is_separator(self._separator()):
            raise ValueError(
                f"separator={self.separator!r}: must be one ASCII character, no letter or digit"
            )

    def time_options(self) -> TimeOptions:
        """How times are read, those of the log and of impressions."""
        return TimeOptions(self.time_unit, self.time_format, self.allow_odd_times)

    def read_options(self) -> ReadOptions:
        """How the log is read."""
        return ReadOptions(
            columns=Columns(
                user=self.user_column,
                item=self.item_column,
                time=self.time_column,
                times=self.time_options(),
                session=self.session_column,
            ),
            separator=self._separator(),
            on_bad_row=self.on_bad_row,
            drop_where=parse_conditions(self.drop_where),
        )

    def impression_columns(self) -> ImpressionColumns:
        """Which columns of the impressions hold what."""
        return ImpressionColumns(
            user=self.impression_user_column,
            time=self.impression_time_column,
            times=self.time_options(),
            shown=self.impression_shown_column,
            clicked=self.impression_clicked_column,
        )

    def impression_options(self) -> ImpressionOptions:
        """How impressions are joined with events."""
        return ImpressionOptions(
            join=self.impression_join,
            tolerance_ms=round(self.impression_tolerance * 1000),
            cap=self.impression_cap,
            seed=self.seed,
        )

    def filter_options(self) -> FilterOptions:
        """Which items and users stay."""
        return FilterOptions(
            min_item_events=self.min_item_events,
            min_user_events=self.min_user_events,
            max_user_events=self.max_user_events,
            min_sessions=self.min_sessions,
        )

    def split_options(self) -> SplitOptions:
        """How sessions are dealt to train, valid and test."""
        return SplitOptions(
            split=self.split,
            valid_fraction=DEFAULT_FRACTION if self.valid_fraction is None else self.valid_fraction,
            test_fraction=DEFAULT_FRACTION if self.test_fraction is None else self.test_fraction,
            valid_after_ms=None if self.valid_after is None else parse_time(self.valid_after),
            test_after_ms=None if self.test_after is None else parse_time(self.test_after),
        )

    def synthetic_config(self) -> SyntheticConfig:
        """The synthetic log that `synthetic` names."""
        variant = self.synthetic or SyntheticConfig.variant
        return SyntheticConfig(variant=variant, seed=self.seed, users=self.synthetic_users)

    def _check_choices(self) -> None:
        for name, choices in choices_of_fields().items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise ValueError(f"{name}={value}: must be one of {', '.join(choices)}")

    def _check_source(self) -> None:
        if not self.output_dir:
            raise ValueError("output_dir=: is required")
        for name in ("output_dir", "input", "impressions", "catalogue", "tfds_data_dir"):
            value = getattr(self, name) or ()
            for path in (value,) if isinstance(value, str) else value:
                local_path(name, path)
        given = [name for name in ("input", "tfds", "synthetic") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"input={','.join(self.input)}: exactly one of input, tfds and synthetic is "
                f"required, got {' and '.join(given) or 'none'}"
            )
        if self.tfds_data_dir is not None and self.tfds is None:
            raise ValueError(f"tfds_data_dir={self.tfds_data_dir}: has no use without tfds")

    def _check_roles(self) -> None:
        """No column may stand for two things."""
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
                    f"pipeline_options={self.pipeline_options}: has no use without runner"
                )
            return
        if self.synthetic is not None:
            raise ValueError(f"synthetic={self.synthetic}: not with runner: one process draws it")

    def _check_ranges(self) -> None:
        for name, least in (
            ("synthetic_users", 1),
            ("seed", 0),
            ("min_item_events", 1),
            ("min_user_events", 1),
            ("max_user_events", 0),
            ("min_sessions", 1),
            ("svd_embeddings", 0),
            ("impression_cap", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: must be >= {least}")
        if self.gap_minutes is not None and not self.gap_minutes > 0:
            raise ValueError(f"gap_minutes={self.gap_minutes}: must be > 0")
        if not 0 <= self.impression_tolerance <= _LONGEST_TOLERANCE:
            raise ValueError(
                f"impression_tolerance={self.impression_tolerance}: must be from 0 to "
                f"{_LONGEST_TOLERANCE} seconds"
            )
        if 0 < self.max_user_events < self.min_user_events:
            raise ValueError(
                f"max_user_events={self.max_user_events}: must be 0 or >= min_user_events"
            )

    def _check_split(self) -> None:
        for name, splits in (
            ("valid_fraction", ("user", "time")),
            ("test_fraction", ("user", "time")),
            ("valid_after", ("time",)),
            ("test_after", ("time",)),
        ):
            value = getattr(self, name)
            if value is not None and self.split not in splits:
                raise ValueError(f"{name}={value}: has no use with split={self.split}")
            if value is not None and name.endswith("fraction") and not 0 < value < 1:
                raise ValueError(f"{name}={value}: must be in (0, 1)")
        options = (self._parsed("valid_after", parse_time), self._parsed("test_after", parse_time))
        fractions = self.split_options()
        if fractions.valid_fraction + fractions.test_fraction >= 1:
            raise ValueError(f"test_fraction={fractions.test_fraction}: leaves nothing to train on")
        self._check_bounds(*options)

    def _check_bounds(self, valid_after_ms: int | None, test_after_ms: int | None) -> None:
        if (valid_after_ms is None) != (test_after_ms is None):
            raise ValueError(
                f"valid_after={self.valid_after}: valid_after and test_after go together"
            )
        if valid_after_ms is None or test_after_ms is None:
            return
        if valid_after_ms >= test_after_ms:
            raise ValueError(f"test_after={self.test_after}: must be later than valid_after")
        if self.valid_fraction is not None or self.test_fraction is not None:
            raise ValueError(f"valid_after={self.valid_after}: has no use with fractions")

    def _parsed(self, name: str, parse: typing.Callable[[str], Any]) -> Any:
        """`parse` of a field, its error with the field's name in front."""
        value = getattr(self, name)
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise ValueError(f"{name}={value}: {error}") from error

    def _separator(self) -> str | None:
        return _SEPARATOR_NAMES.get(self.separator or "", self.separator)

    @staticmethod
    def _is_separator(text: str | None) -> bool:
        if text is None or len(text) != 1:
            return False
        return text.isascii() and not text.isalnum() and text not in '"\r\n'


def choices_of_fields() -> dict[str, tuple[str, ...]]:
    """The fields of `PrepareConfig` that take one of a few words, each with its words."""
    choices = {}
    for name, hint in typing.get_type_hints(PrepareConfig).items():
        for part in (hint, *typing.get_args(hint)):
            if typing.get_origin(part) is Literal:
                choices[name] = typing.get_args(part)
    return choices
