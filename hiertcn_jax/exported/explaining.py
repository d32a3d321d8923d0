"""What each part of an exported model contributes to a score, in numpy."""

from typing import Any

import numpy as np

from hiertcn_jax.exported.reading import Export, ExportError
from hiertcn_jax.memory.clock import clock, session_progress
from hiertcn_jax.memory.config import KINDS, SIZES
from hiertcn_jax.memory.memory import Lists, Memory
from hiertcn_jax.memory.phi import logarithms
from hiertcn_jax.serving.event_rows import memory_lists, next_event
from hiertcn_jax.serving.parts import Parts, alone, at_items, most_followed, parts_of, sum_of
from hiertcn_jax.serving.user_states import UserStates, joined

_TERMS = "model/terms/"
"""Before the names of the weights of memory's terms (`memory.terms`)."""


class ExportedExplainer:
    """Takes the scores of an exported model apart; `serving.explain` does it for a run."""

    def __init__(self, export: Export) -> None:
        """Reads the weights that it needs.

        Raises:
          ExportError: They cannot be read, or are others than this version's.
        """
        self._gap_seconds = export.gap_seconds
        arrays = export.weights()
        try:
            names = export.manifest["functions"]["recommend"]["weights"]
            self._rows_vd = arrays[names["item_rows"]]
            self._bias_v = arrays[names["item_bias"]] if "item_bias" in names else None
            self._kinds: tuple[str, ...] = ()
            if export.manifest["memory"]:
                self._kinds = tuple(export.manifest["config"]["memory"])
                self._terms = _Terms(arrays, self._kinds)
        except (KeyError, TypeError, ValueError) as error:
            raise ExportError(
                f"{export.directory}: cannot explain scores: {type(error).__name__} {error}; "
                "export the run again with this version"
            ) from error

    def __call__(
        self,
        states: UserStates,
        time_n: np.ndarray,
        memory: Memory | None,
        rows_nk: np.ndarray,
        vectors_nd: np.ndarray,
    ) -> Parts:
        """The parts of the scores of items.

        Args:
          states: Of n users.
          time_n: int64. When the events would happen, seconds.
          memory: What everybody did so far, for a model with terms of it.
          rows_nk: int32. Rows of the items.
          vectors_nd: float32. The users' vectors at these times, as `OnnxStream.recommend` gives.
        """
        hierarchy_nk = np.einsum("nd,nkd->nk", vectors_nd, self._rows_vd[rows_nk])
        if self._bias_v is not None:
            hierarchy_nk = hierarchy_nk + self._bias_v[rows_nk]
        if not self._kinds:
            return Parts({"hierarchy": hierarchy_nk})
        if memory is None:
            raise ValueError("memory: must be given for a model with terms of memory")
        moments = next_event(states, time_n, self._gap_seconds)
        now_n = np.maximum(time_n, states.last_time_n)
        known_n = [session_progress(moments.position_n, moments.gap_hours_n), clock(now_n)]
        z_nz = self._terms.known(np.concatenate([*known_n, vectors_nd], axis=1))
        lists = memory_lists(states, now_n, moments.position_n, memory)
        each_nmw = self._terms.each(lists, z_nz)
        network_nk = None
        if self._terms.has_network:
            network_nm = self._terms.network(lists, z_nz)
            network_nk = at_items(network_nm, lists.item_ids_nk, rows_nk)
        followed_nk = None
        if "followers" in self._kinds:
            sources = range(SIZES.sources)
            copies = joined([alone(states, source) for source in sources])
            times, positions = (np.tile(a, len(sources)) for a in (now_n, moments.position_n))
            lists_of_each = memory_lists(copies, times, positions, memory)
            each = self._terms.each(lists_of_each, np.tile(z_nz, (len(sources), 1)))
            given = at_items(
                sum_of("followers", each, self._kinds),
                lists_of_each.item_ids_nk,
                np.tile(rows_nk, (len(sources), 1)),
            )
            given_nks = np.stack(np.split(given, len(sources)), -1)
            followed_nk = most_followed(given_nks, states.own_nm)
        each_nkw = at_items(each_nmw, lists.item_ids_nk, rows_nk)
        return parts_of(hierarchy_nk, each_nkw, network_nk, followed_nk, self._kinds)


class _Terms:
    """`memory.terms.Terms` in numpy, with exported weights."""

    def __init__(self, arrays: dict[str, np.ndarray], kinds: tuple[str, ...]) -> None:
        if not kinds or not set(kinds) <= set(KINDS):
            raise ValueError(f"memory={kinds}: must be of {', '.join(KINDS)}")
        self._kinds = kinds
        self._weights_w = arrays[_TERMS + "weights"]
        self._by_moment_zw = arrays[_TERMS + "by_moment/kernel"]
        self.has_network = _TERMS + "out" in arrays
        if self.has_network:
            self._of_moment_zh = arrays[_TERMS + "units_of_moment/kernel"]
            self._bias_h = arrays[_TERMS + "units_of_moment/bias"]
            self._of_counts_wh = arrays[_TERMS + "units_of_counts/kernel"]
            self._out_h = arrays[_TERMS + "out"]

    def known(self, known_nz: np.ndarray) -> np.ndarray:
        """Z of what is known: the model `memory` reads the moment and leaves out the vectors."""
        return known_nz[:, : len(self._by_moment_zw)].astype(np.float32)

    def each(self, lists: Lists, z_nz: np.ndarray) -> np.ndarray:
        """float32 [n, m, w]. w_f phi_f of each listed item."""
        weights_nw = self._weights_w + z_nz @ self._by_moment_zw
        return logarithms(lists.features_nkf, self._kinds) * weights_nw[:, None]

    def network(self, lists: Lists, z_nz: np.ndarray) -> np.ndarray:
        """float32 [n, m]. What the small network adds to each listed item."""
        at_z: Any = (z_nz @ self._of_moment_zh + self._bias_h)[:, None]
        at_phi = logarithms(lists.features_nkf, self._kinds) @ self._of_counts_wh
        hidden = np.maximum(at_phi + at_z, 0) - np.maximum(at_z, 0)
        return hidden @ self._out_h
