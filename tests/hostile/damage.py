"""Damage to bytes, drawn from a seeded generator."""

from random import Random

_TOKENS = (
    b'"', b'""', b",", b"\t", b"\n", b"\r", b"\r\n", b"\x00", b"\xff", b"\xc3", b"\xef\xbb\xbf",
    b"-", b".", b"e", b"9" * 30, b"{", b"}", b"[", b"]", b":", b"null", b"NaN", b"\\", b" ",
)  # fmt: skip


def damaged(rng: Random, data: bytes) -> bytes:
    """The bytes after one to three changes: cut, flipped, inserted, removed, doubled, swapped."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(_CHANGES)(rng, data)
    return data


def truncated(rng: Random, data: bytes) -> bytes:
    """The start of the bytes, never all of them, sometimes none."""
    return data[: rng.randrange(len(data))] if data and rng.random() < 0.9 else b""


def flipped(rng: Random, data: bytes) -> bytes:
    """The bytes with one bit flipped."""
    if not data:
        return data
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def _with_token(rng: Random, data: bytes) -> bytes:
    place = rng.randint(0, len(data))
    return data[:place] + rng.choice(_TOKENS) + data[place:]


def _without_slice(rng: Random, data: bytes) -> bytes:
    start = rng.randint(0, len(data))
    return data[:start] + data[start + rng.randint(1, 20) :]


def _with_slice_doubled(rng: Random, data: bytes) -> bytes:
    start = rng.randint(0, len(data))
    end = start + rng.randint(1, 40)
    return data[:end] + data[start:end] + data[end:]


def _with_garbage(rng: Random, data: bytes) -> bytes:
    start = rng.randint(0, len(data))
    return data[:start] + rng.randbytes(rng.randint(1, 8)) + data[start + rng.randint(0, 8) :]


_CHANGES = (truncated, flipped, _with_token, _without_slice, _with_slice_doubled, _with_garbage)
