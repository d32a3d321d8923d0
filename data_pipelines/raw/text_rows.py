"""Finds the rows of a block of delimited text without parsing them."""

import dataclasses

import numpy as np

_NEWLINE, _QUOTE, _CARRIAGE_RETURN = b'\n"\r'


@dataclasses.dataclass(frozen=True)
class TextRows:
    """Rows of a block of bytes; blank lines are no rows.

    Attributes:
      starts: int64 [n]. Offset of each row's first byte.
      ends: int64 [n]. Offset after its newline.
      fields: int64 [n]. Number of fields of each row.
      lines: int64 [n]. Line of the block on which it starts, from 0.
      misquoted: bool [n]. It has a quote that makes its fields ambiguous, see `find_rows`.
    """

    starts: np.ndarray
    ends: np.ndarray
    fields: np.ndarray
    lines: np.ndarray
    misquoted: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, which: slice | np.ndarray) -> "TextRows":
        """The rows of a slice or a mask."""
        parts = (self.starts, self.ends, self.fields, self.lines, self.misquoted)
        return TextRows(*(part[which] for part in parts))

    def text(self, block: bytes) -> bytes:
        """The bytes of these rows only."""
        changes = np.zeros(len(block) + 1, np.int8)
        changes[self.starts] += 1
        changes[self.ends] -= 1
        return np.frombuffer(block, np.uint8)[np.cumsum(changes[:-1], dtype=np.int8) > 0].tobytes()

    def not_utf8(self, block: bytes) -> np.ndarray:
        """True for each row that holds bytes that are not UTF-8."""
        broken = np.zeros(len(self), bool)
        if is_utf8(block):
            return broken
        # Row by row: resuming after each error would read a Latin-1 file again and again.
        offsets = np.flatnonzero(np.frombuffer(block, np.uint8) >= 128)
        suspects = np.unique(np.searchsorted(self.starts, offsets, "right") - 1)
        for row in suspects.tolist():
            broken[row] = not is_utf8(block[self.starts[row] : self.ends[row]])
        return broken


def is_utf8(octets: bytes) -> bool:
    """Whether bytes are text in UTF-8."""
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def find_rows(block: bytes, separator: str, quoted: bool = True) -> tuple[TextRows, int, int]:
    """Finds the complete rows of a block that starts outside of quotes.

    A quote opens or closes a quoted part, in which newlines and separators are text. A doubled
    quote does both, and so changes nothing. A row is misquoted if text follows a field's closing
    quote, or if a quoted part that does not begin its field holds a newline or a separator:
    programs read those differently. Other quotes within a field are text.

    Args:
      block: Text in any encoding that keeps ASCII, such as UTF-8.
      separator: One ASCII character.
      quoted: Whether fields may be quoted. If not, quotes are text, and no row is misquoted.

    Returns:
      The rows; the number of bytes of the rows and the blank lines between them, which is where
      the next block starts; and the number of lines in them.
    """
    octets = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(octets == _NEWLINE)
    separators = np.flatnonzero(octets == ord(separator))
    row_ends, misquoted = newlines, np.zeros(0, np.int64)
    if quoted and b'"' in block:
        misquoted = _misplaced_quotes(octets, ord(separator))
        # Sums modulo 256 keep their parity, and take an eighth of the memory.
        is_quoted = np.cumsum(octets == _QUOTE, dtype=np.uint8) & 1
        row_ends = newlines[is_quoted[newlines] == 0]
        separators = separators[is_quoted[separators] == 0]
    if not len(row_ends):
        nothing = np.zeros(0, np.int64)
        return TextRows(nothing, nothing, nothing, nothing, nothing.astype(bool)), 0, 0
    starts = np.concatenate([[0], row_ends[:-1] + 1])
    fields = np.searchsorted(separators, row_ends) - np.searchsorted(separators, starts) + 1
    is_misquoted = np.searchsorted(misquoted, row_ends) > np.searchsorted(misquoted, starts)
    lines = np.searchsorted(newlines, starts)
    rows = TextRows(starts, row_ends + 1, fields, lines, is_misquoted)
    lengths = row_ends - starts
    is_blank = (lengths == 0) | ((lengths == 1) & (octets[starts] == _CARRIAGE_RETURN))
    used_lines = int(np.searchsorted(newlines, row_ends[-1])) + 1
    return rows[~is_blank], int(row_ends[-1]) + 1, used_lines


def _misplaced_quotes(octets: np.ndarray, separator: int) -> np.ndarray:
    """Offsets of quotes that make a row misquoted, in order; `octets` is the block, uint8 [n]."""
    quotes = np.flatnonzero(octets == _QUOTE)
    opening, closing = quotes[: len(quotes) // 2 * 2].reshape(-1, 2).T
    if not len(opening):
        return opening
    # Adjacent quoted parts are one, with a doubled quote in it.
    joins = opening[1:] == closing[:-1] + 1
    opening, closing = opening[np.append(True, ~joins)], closing[np.append(~joins, True)]
    borders = (octets == _NEWLINE) | (octets == separator)
    begins_field = (opening == 0) | borders[opening - 1]
    next_one, next_two = (np.minimum(closing + k, len(octets) - 1) for k in (1, 2))
    ends_row = (octets[next_one] == _CARRIAGE_RETURN) & (octets[next_two] == _NEWLINE)
    ends_field = borders[next_one] | ends_row | (closing == len(octets) - 1)
    spans_border = np.diff(np.searchsorted(np.flatnonzero(borders), (opening, closing)), axis=0)[0]
    return opening[np.where(begins_field, ~ends_field, spans_border > 0)]
