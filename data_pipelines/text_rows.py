"""The rows of a block of delimited text, found without parsing them."""

import dataclasses

import numpy as np

_NEWLINE, _QUOTE, _CARRIAGE_RETURN = b'\n"\r'


@dataclasses.dataclass(frozen=True)
class TextRows:
    """Rows of a block of bytes; blank lines are no rows.

    Attributes:
      starts: int64 [n]. Place of each row's first byte.
      ends: int64 [n]. Place behind its newline.
      fields: int64 [n]. Fields of each row.
      lines: int64 [n]. Line of the block on which it starts, from 0.
    """

    starts: np.ndarray
    ends: np.ndarray
    fields: np.ndarray
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, which: slice | np.ndarray) -> "TextRows":
        """The rows of a slice or a mask."""
        parts = (self.starts, self.ends, self.fields, self.lines)
        return TextRows(*(part[which] for part in parts))

    def text(self, block: bytes) -> bytes:
        """The bytes of these rows alone."""
        changes = np.zeros(len(block) + 1, np.int8)
        changes[self.starts] += 1
        changes[self.ends] -= 1
        return np.frombuffer(block, np.uint8)[np.cumsum(changes[:-1], dtype=np.int8) > 0].tobytes()

    def not_utf8(self, block: bytes) -> np.ndarray:
        """True for each row that holds bytes that are not UTF-8."""
        broken = np.zeros(len(self), bool)
        place = 0
        while place < len(block):
            try:
                block[place:].decode("utf-8")
            except UnicodeDecodeError as error:
                row = np.searchsorted(self.starts, place + error.start, "right") - 1
                broken[row] = True
                place = int(self.ends[row])
            else:
                break
        return broken


def find_rows(block: bytes, separator: str) -> tuple[TextRows, int, int]:
    """Finds the complete rows of a block that starts outside of quotes.

    A quote opens or closes a quoted part, in which newlines and separators are text. A doubled
    one does both, and so changes nothing.

    Args:
      block: Text in any encoding that keeps ASCII, such as UTF-8.
      separator: One character of ASCII.

    Returns:
      The rows; the bytes that they and the blank lines between them take up, which is where the
      next block starts; and the lines of the file therein.
    """
    octets = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(octets == _NEWLINE)
    separators = np.flatnonzero(octets == ord(separator))
    row_ends = newlines
    if b'"' in block:
        # Sums modulo 256 keep their parity, in an eighth of the memory.
        quoted = np.cumsum(octets == _QUOTE, dtype=np.uint8) & 1
        row_ends = newlines[quoted[newlines] == 0]
        separators = separators[quoted[separators] == 0]
    if not len(row_ends):
        nothing = np.zeros(0, np.int64)
        return TextRows(nothing, nothing, nothing, nothing), 0, 0
    starts = np.concatenate([[0], row_ends[:-1] + 1])
    fields = np.searchsorted(separators, row_ends) - np.searchsorted(separators, starts) + 1
    rows = TextRows(starts, row_ends + 1, fields, np.searchsorted(newlines, starts))
    lengths = row_ends - starts
    is_blank = (lengths == 0) | ((lengths == 1) & (octets[starts] == _CARRIAGE_RETURN))
    lines = int(np.searchsorted(newlines, row_ends[-1])) + 1
    return rows[~is_blank], int(row_ends[-1]) + 1, lines
