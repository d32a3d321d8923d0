"""What a score is the sum of, from what memory's features give to each item of a list.

    score = hierarchy + world + followers + own (+ memory_units)

hierarchy is <u, e> + b, what the network and the item's bias give; the others are the sums of
memory's features of each kind times their weights at this moment. The small network on counts that
`memory_units` adds reads all features at once and cannot be divided among them: it is a part of its
own. An item that is not on the event's list has nothing from memory.
"""

from typing import NamedTuple

import numpy as np

from hiertcn_jax.item_ids import PADDING_ID, UNKNOWN_ID
from hiertcn_jax.memory.config import STARTING, WORLD_HALF_LIVES
from hiertcn_jax.memory.phi import COLUMNS, columns_of
from hiertcn_jax.serving.user_states import UserStates


class Parts(NamedTuple):
    """The parts of the scores of k items for each of n users.

    Attributes:
      values: float32 [n, k] by name, in the order of the sum; those that the model has.
      half_life_hours_nk: float32. The half-life of world's counts that adds or takes most; NaN
        where nothing of world is known. None without world.
      followed_nk: int32. Which of the user's last items adds or takes most by its followers;
        PADDING_ID where none does. None without followers.
    """

    values: dict[str, np.ndarray]
    half_life_hours_nk: np.ndarray | None = None
    followed_nk: np.ndarray | None = None


def at_items(values_nm: np.ndarray, ids_nm: np.ndarray, rows_nk: np.ndarray) -> np.ndarray:
    """What a list holds for some items; 0 for those that are not on it.

    Args:
      values_nm: [n, m, ...]. Values of the m items on each user's list.
      ids_nm: int32. The items.
      rows_nk: int32. The items that are asked for.

    Returns:
      [n, k, ...].
    """
    is_it_nkm = rows_nk[:, :, None] == ids_nm[:, None]
    place_nk, listed_nk = is_it_nkm.argmax(-1), is_it_nkm.any(-1)
    taken = values_nm[np.arange(len(rows_nk))[:, None], place_nk]
    return np.where(listed_nk.reshape(listed_nk.shape + (1,) * (taken.ndim - 2)), taken, 0)


def parts_of(
    hierarchy_nk: np.ndarray,
    each_nkw: np.ndarray,
    network_nk: np.ndarray | None,
    followed_nk: np.ndarray | None,
    kinds: tuple[str, ...],
) -> Parts:
    """The parts of scores.

    Args:
      hierarchy_nk: <u, e> + b.
      each_nkw: What each feature gives, of those that these kinds use (`memory.phi.columns_of`).
      network_nk: What the small network gives; None without one.
      followed_nk: See `Parts`.
      kinds: The memories that the model has, of `memory.config.KINDS`.
    """
    values = {"hierarchy": hierarchy_nk}
    for kind in kinds:
        values[kind] = sum_of(kind, each_nkw, kinds)
    if network_nk is not None:
        values["memory_units"] = network_nk
    hours_nk = _half_life_hours(each_nkw) if "world" in kinds else None
    return Parts(values, hours_nk, followed_nk)


def sum_of(kind: str, each: np.ndarray, kinds: tuple[str, ...]) -> np.ndarray:
    """What one kind of memory gives, [...], of what each feature gives, [..., w]."""
    used = [index for index, column in enumerate(columns_of(kinds)) if column in COLUMNS[kind]]
    return each[..., used].sum(-1)


def alone(states: UserStates, source: int) -> UserStates:
    """The states with one of the users' last items left, the others unknown."""
    others = (np.arange(states.own_nm.shape[1]) != source) & (states.own_nm != PADDING_ID)
    return states._replace(own_nm=np.where(others, UNKNOWN_ID, states.own_nm))


def most_followed(given_nks: np.ndarray, own_nm: np.ndarray) -> np.ndarray:
    """int32 [n, k]. The item whose followers give most; PADDING_ID where none gives anything.

    Args:
      given_nks: What followers give if only one of the s last items had some.
      own_nm: int32. The users' last items, the newest first.
    """
    given_nks = np.abs(given_nks)
    item_nk = np.take_along_axis(own_nm, given_nks.argmax(-1), 1)
    return np.where(given_nks.max(-1) > 0, item_nk, PADDING_ID).astype(np.int32)


def _half_life_hours(each_nkw: np.ndarray) -> np.ndarray:
    """Hours [n, k]. World's features come first; those of sessions' starts go with their like."""
    halves = len(WORLD_HALF_LIVES)
    by_half_nkh = each_nkw[..., :halves].copy()
    by_half_nkh[..., list(STARTING)] += each_nkw[..., halves : halves + len(STARTING)]
    hours_h = np.asarray(WORLD_HALF_LIVES, np.float32) / 3600
    hours_nk = hours_h[np.abs(by_half_nkh).argmax(-1)]
    return np.where(by_half_nkh.any(-1), hours_nk, np.nan).astype(np.float32)
