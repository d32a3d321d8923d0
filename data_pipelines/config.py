"""The settings of `prepare`: what goes together, and what each of its steps reads of them."""

import codecs
import dataclasses
import typing
from typing import Any

from data_pipelines.config_fields import PrepareFields
from data_pipelines.impressions.files import ImpressionColumns
from data_pipelines.impressions.negatives import ImpressionOptions
from data_pipelines.local_paths import local_path
from data_pipelines.raw.columns import Columns
from data_pipelines.raw.conditions import parse_conditions
from data_pipelines.raw.delimited import TextFormat
from data_pipelines.raw.ingest import ReadOptions
from data_pipelines.raw.times import TimeOptions, parse_time, polars_format
from data_pipelines.sessions.filters import FilterOptions
from data_pipelines.sessions.item_titles import ItemColumns
from data_pipelines.sessions.splits import SplitOptions
from data_pipelines.synthetic import SyntheticConfig

DEFAULT_FRACTION = 0.1
"""Default share of valid, and of test."""

_SEPARATOR_NAMES = {"tab": "\t", r"\t": "\t", "comma": ",", "space": " "}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareConfig(PrepareFields):
    """What to prepare, and how. Each flag's help documents its field.

    Raises:
      ValueError: A field is out of range or contradicts another: "field=value: why".
    """

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
            text=TextFormat(
                self._separator(), self.columns, self.encoding, quoted=self.quote == "double"
            ),
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
