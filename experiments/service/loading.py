"""Makes the Recommender of a run, or of a ranker over a prepared log."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
import polars as pl

from data_pipelines.histories.record import Split
from data_pipelines.lanes.live_counts import count_live
from data_pipelines.lanes.memory_lists import remember
from data_pipelines.lanes.open_catalogue import OpenCatalogue
from data_pipelines.progress import say
from data_pipelines.raw.times import PER_SECOND
from data_pipelines.sessions.item_titles import read_items
from experiments.flags.data_flags import DataLocation
from experiments.judging.rankers import (
    evaluate_ranker,
    fit_ranker,
    fitted_histories,
    ranker_for,
)
from experiments.runs.data import Catalogue, Data, open_data
from experiments.runs.restore import Restored, open_run_data, restore_run
from experiments.runs.run_results import result_values, score
from experiments.service.known_users import LoggedUsers, session_starts
from hiertcn_jax.baselines.registry import RANKERS
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.memory.levels import Level
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.keys import item_keys
from hiertcn_jax.scoring.scores import Keys
from hiertcn_jax.serving.frames import Names
from hiertcn_jax.serving.item_index import RECALL_AT, ItemIndex
from hiertcn_jax.serving.live_catalogue import LiveCatalogue
from hiertcn_jax.serving.live_keys import LiveKeys
from hiertcn_jax.serving.model_id import model_id
from hiertcn_jax.serving.ranker_scorer import RankerScorer
from hiertcn_jax.serving.recommender import Recommender
from hiertcn_jax.serving.scorer import ModelScorer
from hiertcn_jax.serving.stream import USERS, Stream
from hiertcn_jax.serving.user_states import Events


def load(
    workdir: str | Path,
    data_dir: str | Path | None = None,
    checkpoint: str = "best",
    index: bool = False,
    catalogue: Catalogue = "fitted",
) -> Recommender:
    """The Recommender of a trained run; see `hiertcn_jax.load`."""
    workdir = Path(workdir)
    _require_catalogue(catalogue)
    if index and catalogue == "live":
        raise ValueError(
            "index=True: holds the fitted items alone; leave it out, or catalogue='live'"
        )
    restored = restore_run(workdir, checkpoint)
    location = DataLocation(None if data_dir is None else str(data_dir))
    data = open_run_data(restored, location, catalogue)
    return recommender_of(restored, data, workdir.name, index=index)


def _require_catalogue(catalogue: str) -> None:
    if catalogue not in get_args(Catalogue):
        raise ValueError(f"catalogue={catalogue!r}: must be {' or '.join(get_args(Catalogue))}")


def load_ranker(
    name: str,
    data_dir: str | Path,
    settings: Mapping[str, Any] | None = None,
    catalogue: Catalogue = "fitted",
) -> Recommender:
    """The Recommender of a ranker; see `hiertcn_jax.load_ranker`."""
    _require_catalogue(catalogue)
    if name not in RANKERS:
        raise ValueError(f"ranker={name!r}: must be one of {', '.join(RANKERS)}")
    return ranker_recommender(name, open_data(data_dir, catalogue), settings or {})


class Parts(NamedTuple):
    """What a Recommender is made of.

    Attributes:
      params: The model's parameters; `items` holds the rows of all items, given ones too.
      model_id: Names them.
      known: The users of the log.
      gap_seconds: A pause longer than this ends a session.
      memory: What everybody did so far, for a model with terms of it.
      names: Columns of the log.
      items: What is known of the items besides their ids; None without titles.
    """

    params: dict[str, Any]
    model_id: str
    known: LoggedUsers
    gap_seconds: float
    memory: Memory | None
    names: Names
    items: pl.DataFrame | None


def parts_of(restored: Restored, data: Data, name: str, live: bool = False) -> Parts:
    """What a Recommender over a restored model and its log is made of; see `recommender_of`."""
    known = known_users(data)
    memory = None
    if restored.config.memory:
        if live:
            memory = count_live(data.histories, data.vocabulary.size, Split.TEST)
        else:
            memory = remember(data.histories, data.vocabulary.size, Split.TEST).memory
    params = {**restored.params, "items": _whole_table(restored, data)}
    return Parts(
        params,
        model_id(f"{name}@{restored.step}", params),
        known,
        _gap(data, known),
        memory,
        _names(data),
        read_items(data.directory, data.vocabulary),
    )


def scorer_of(
    restored: Restored,
    parts: Parts,
    indexed: Data | None = None,
    catalogue: LiveCatalogue | None = None,
) -> ModelScorer:
    """The scorer of a restored model.

    Args:
      restored: The model.
      parts: From `parts_of`.
      indexed: Its log, to find items by an index, whose recall is printed; None: no index.
      catalogue: The items, if the catalogue is live.

    Raises:
      ValueError: The catalogue is live, and an index is asked for.
    """
    items, live, rows = parts.params["items"], None, None
    if catalogue is not None:
        rows = catalogue.model_rows
        live = LiveKeys(items, restored.config, catalogue, parts.known.newest)
    stream = Stream(restored.model, parts.params, parts.gap_seconds, restored.layout, rows)
    keys = item_keys(items, restored.config)
    found = None if indexed is None else _index(stream, keys, indexed)
    return ModelScorer(stream, keys, restored.config.memory, found, live)


def live_catalogue(data: Data) -> LiveCatalogue | None:
    """The items of a log, to which more are added; None if the fitted ones stay as they are."""
    if data.catalogue != "live":
        return None
    opened = OpenCatalogue.of(data.vocabulary, knows_all=data.embeddings is not None)
    return LiveCatalogue(data.vocabulary, opened.known_from_v, opened.model_rows)


def recommender_of(
    restored: Restored,
    data: Data,
    name: str,
    index: bool = False,
    live: bool = False,
) -> Recommender:
    """A Recommender over a restored model and its log.

    Args:
      restored: The model.
      data: Its log. If its catalogue is live, so is the Recommender's.
      name: Of the run.
      index: Whether to find items by an index; its recall is printed.
      live: What everybody did is known from the end of the log on, not at any time; it then takes
        no memory that grows with the log.
    """
    parts, catalogue = parts_of(restored, data, name, live), live_catalogue(data)

    def judge(split: str) -> dict[str, Any]:
        part = Split[split.upper()]
        return result_values(restored, part, score(restored, data, part))

    return Recommender(
        scorer_of(restored, parts, data if index else None, catalogue),
        catalogue or data.vocabulary,
        parts.known,
        parts.model_id,
        parts.memory,
        parts.names,
        parts.items,
        judge,
    )


def ranker_recommender(name: str, data: Data, settings: Mapping[str, Any]) -> Recommender:
    """A Recommender over a ranker that learns from all events of a log.

    Args:
      name: One of RANKERS.
      data: The log.
      settings: Arguments of the ranker.

    Raises:
      ValueError: An argument does not exist or is out of range.
      DataError: The ranker cannot be fitted on the log.
    """
    ranker = ranker_for(name, data, settings)
    fit_ranker(name, ranker, fitted_histories(data, "train_valid", Level("live")))
    known = known_users(data)
    known_from_v = data.vocabulary.known_from_v if data.catalogue == "live" else None

    def judge(split: str) -> dict[str, Any]:
        judged = ranker_for(name, data, settings)
        fit_ranker(name, judged, fitted_histories(data, "train"))
        metrics = evaluate_ranker(judged, data, Split[split.upper()], name=name).metrics
        return {"split": split, "mask_seen": "none", **metrics}

    return Recommender(
        RankerScorer(name, ranker, _gap(data, known), known_from_v),
        data.vocabulary,
        known,
        f"{name}@{data.content_hash}",
        names=_names(data),
        items=read_items(data.directory, data.vocabulary),
        judge=judge,
    )


def known_users(data: Data) -> LoggedUsers:
    """The users of a log."""
    return LoggedUsers(data.histories, data.manifest.get("ids", {"user": "string"})["user"])


def _index(stream: Stream, keys: Keys, data: Data) -> ItemIndex:
    """An index of the items, with a line about it."""
    users = np.linspace(0, len(data.histories) - 1, min(USERS[-1], len(data.histories)))
    histories = data.histories.__getitems__(np.unique(users.astype(int)).tolist())
    events = [Events(one.item_ids, one.times, session_starts(one)) for one in histories]
    states = stream.observe(stream.start(len(events)), events)
    found = ItemIndex(keys, stream.predict(states, states.last_time_n))
    say(
        f"index: {data.vocabulary.size - FIRST_ITEM_ID:,} items in {found.cells:,} cells, of which "
        f"{found.searched:,} are searched; finds {found.recall:.3f} of the exact best {RECALL_AT}"
    )
    return found


def _gap(data: Data, known: LoggedUsers) -> float:
    """Seconds of the pause that ends a session."""
    minutes = data.manifest["flags"].get("gap_minutes")
    return known.pause if minutes is None else 60 * minutes


def _names(data: Data) -> Names:
    """The columns of the log, and its unit of time."""
    flags = data.manifest["flags"]
    names = (flags.get(f"{role}_column", getattr(Names(), role)) for role in Names._fields[:3])
    unit = data.manifest.get("log", {}).get("time_unit")
    return Names(*names, per_second=PER_SECOND[unit or "s"])


def _whole_table(restored: Restored, data: Data) -> ItemTable:
    """The rows of all items, also where they are given."""
    items = restored.params["items"]
    if data.embeddings is None:
        return items
    rows = data.embeddings.rows(np.arange(FIRST_ITEM_ID, data.vocabulary.size))
    return items._replace(
        input_vd=jnp.concatenate([items.input_vd, jnp.asarray(rows, jnp.float32)])
    )
