"""Writes the directory of an exported model; `exported.layout` says what is in it."""

import dataclasses
import json
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import polars as pl
from jaxtyping import PyTree

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.exported import layout
from hiertcn_jax.exporting.functions import (
    Exported,
    best_function,
    flat_weights,
    observe_function,
    score_function,
)
from hiertcn_jax.exporting.onnx_graph import Graph, Tensor, Value
from hiertcn_jax.exporting.onnx_model import External, described, onnx_model
from hiertcn_jax.item_ids import FIRST_ITEM_ID
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.models import build
from hiertcn_jax.saving.checksums import write_checksums
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.keys import item_keys
from hiertcn_jax.serving.frames import Names
from hiertcn_jax.serving.stream import Stream
from hiertcn_jax.serving.user_states import Events

PLATFORMS = ("cpu", "cuda", "tpu")


class TrainedModel(NamedTuple):
    """What is exported, but for the users.

    Attributes:
      config: Its settings.
      params: The model's parameters.
      items: The rows of all items.
      item_ids: Raw ids of the catalogue, in the order of their rows.
      gap_seconds: A pause longer than this ends a session.
      newest: Time of the log's newest event, seconds.
      model_id: Names the weights.
      names: Columns of the log.
      memory: What everybody did so far, for a model with terms of it.
      configs: All settings of the run.
      version: Of this program.
      known_of_items: A row for each item, in their order: item_id, title and other columns; None
        without titles.
    """

    config: ModelConfig
    params: PyTree
    items: ItemTable
    item_ids: list[Any]
    gap_seconds: float
    newest: int
    model_id: str
    names: Names
    memory: Memory | None
    configs: dict[str, Any]
    version: str
    known_of_items: pl.DataFrame | None = None


class UsersToExport(NamedTuple):
    """The users of the log.

    Attributes:
      blocks: Ids and all events of many users at a time.
      users: How many users there are.
      events: How many events they have.
    """

    blocks: Iterable[tuple[list[Any], list[Events]]]
    users: int
    events: int


def write_export(
    directory: Path, trained: TrainedModel, users: UsersToExport | None = None, k: int = 100
) -> None:
    """Writes an export into an empty directory.

    Products are float32, whatever type training used.

    Args:
      directory: Where to write.
      trained: The model.
      users: None leaves them out.
      k: Items that the StableHLO function gives; the ONNX model takes it as an input.
    """
    config = dataclasses.replace(trained.config, dtype="float32")
    model = build(config)
    arrays, rows_name = _weights(trained, config)
    columns = _columns(trained.known_of_items)
    _write_json(directory / layout.ITEMS, {"ids": trained.item_ids} | columns)
    _write_json(directory / layout.CONFIGS, trained.configs)
    _save_tensors(directory / layout.WEIGHTS, arrays)
    named = {**arrays, "items": arrays["items/input"], "item_rows": arrays[rows_name]}
    if "items/bias" in arrays:
        named["item_bias"] = arrays["items/bias"]
    file_names = {"items": "items/input", "item_rows": rows_name, "item_bias": "items/bias"}
    own = [name for name in arrays if name.startswith("model/")]
    k = min(k, len(trained.item_ids))
    score = score_function(
        model,
        _shapes(named, [*own, *(name for name in ("item_rows", "item_bias") if name in named)]),
    )
    functions = {"recommend": best_function(score, k)}
    stream = Stream(model, {"model": trained.params, "items": trained.items}, trained.gap_seconds)
    if stream.start().carry:
        functions["observe"] = observe_function(model, _shapes(named, [*own, "items"]))
    stored = _stored(directory / layout.WEIGHTS, arrays)
    for name, function in functions.items():
        _write_stablehlo(directory / f"{name}.stablehlo", function)
        external = {weight: stored[file_names.get(weight, weight)] for weight in function.weights}
        described_as = score if name == "recommend" else function
        onnx_file = directory / f"{name}.onnx"
        onnx_file.write_bytes(_onnx(described_as, external).SerializeToString())
    np.save(directory / layout.START, layout.as_records(stream.start()), allow_pickle=False)
    if trained.memory is not None:
        _save_tensors(directory / layout.MEMORY, trained.memory.compacted().arrays())
    if users is not None:
        _write_users(directory, stream, users)
    facts = {
        "kind": layout.KIND,
        "schema": layout.SCHEMA,
        "version": trained.version,
        "model_id": trained.model_id,
        "config": config.to_dict(),
        "gap_seconds": trained.gap_seconds,
        "newest": trained.newest,
        "rows": FIRST_ITEM_ID + len(trained.item_ids),
        "memory": trained.memory is not None,
        "memory_sizes": dataclasses.asdict(SIZES),
        "columns": trained.names._asdict(),
        "functions": {
            name: {
                "weights": {weight: file_names.get(weight, weight) for weight in function.weights},
                "inputs": {
                    one: [str(spec.dtype), [_length(length) for length in spec.shape]]
                    for one, spec in function.inputs.items()
                },
                "outputs": list(function.outputs),
            }
            for name, function in functions.items()
        },
        "k": k,
        "platforms": list(PLATFORMS),
    }
    write_checksums(directory, layout.MANIFEST, facts)


def _columns(known_of_items: pl.DataFrame | None) -> dict[str, Any]:
    """What `items.json` says besides the ids: dates are text, NaN is null, bytes are left out."""
    if known_of_items is None:
        return {}
    written = [
        one for one in known_of_items if one.name != "item_id" and "Binary" not in str(one.dtype)
    ]
    rows = json.loads(pl.DataFrame(written).write_json())
    return {"columns": {one.name: [row[one.name] for row in rows] for one in written}}


def _length(length: Any) -> int | str:
    return length if isinstance(length, int) else str(length)


def _weights(trained: TrainedModel, config: ModelConfig) -> tuple[dict[str, np.ndarray], str]:
    """All arrays by name, and the name of the rows that items are scored with."""
    arrays = {name: np.asarray(leaf) for name, leaf in flat_weights(trained.params).items()}
    items = trained.items
    arrays["items/input"] = np.asarray(items.input_vd)
    rows = "items/input"
    if items.output_vd is not None:
        rows = "items/output"
        arrays[rows] = np.asarray(items.output_vd)
    if items.bias_v is not None:
        arrays["items/bias"] = np.asarray(items.bias_v)
    if config.normalize == "both":
        rows = "items/unit"
        arrays[rows] = np.asarray(item_keys(items, config).rows)
    # ascontiguousarray would give a single number an axis.
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}, rows


def _shapes(arrays: dict[str, np.ndarray], names: Iterable[str]) -> dict[str, jax.ShapeDtypeStruct]:
    """In the order in which JAX flattens a dict."""
    return {
        name: jax.ShapeDtypeStruct(arrays[name].shape, arrays[name].dtype) for name in sorted(names)
    }


def _stored(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, External]:
    """Where the file of weights holds each: a header of JSON after its length, then the bytes."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    start = 8 + length
    return {
        name: External(path.name, start + header[name]["data_offsets"][0], array)
        for name, array in arrays.items()
    }


def _write_stablehlo(path: Path, function: Exported) -> None:
    exported = jax.export.export(jax.jit(function.function), platforms=PLATFORMS)(
        function.weights, *function.inputs.values()
    )
    path.write_bytes(exported.serialize())


def _onnx(function: Exported, weights: dict[str, External]) -> Any:
    names = [*function.weights, *function.inputs]
    if function.outputs != ("vectors", "scores"):
        return onnx_model(function.traced(), names, function.outputs, weights)

    def best(graph: Graph, values: list[Value]) -> list[Value]:
        vectors, scores = values
        inputs = [graph.name_of(scores), "k"]
        found, places = graph.add("TopK", inputs, 2, axis=1)
        shape = (scores.shape[0], "k")
        rows = graph.one("Cast", [Tensor(places, shape)], shape, to=6)
        return [rows, Tensor(found, shape), vectors]

    width = function.weights["item_rows"].shape[1]
    return onnx_model(
        function.traced(),
        names,
        function.outputs,
        weights,
        best,
        [described("k", "int64", [1])],
        [
            described("rows", "int32", ["users", "k"]),
            described("scores", "float32", ["users", "k"]),
            described("vectors", "float32", ["users", width]),
        ],
    )


def _write_users(directory: Path, stream: Stream, users: UsersToExport) -> None:
    """Ids, events, and states after them, user by user; nothing of the size of the log is held."""
    (directory / layout.USER_IDS).parent.mkdir()
    record = layout.state_record(stream.start())
    states = _mapped(directory / layout.STATES, record, users.users)
    events = _mapped(directory / layout.EVENTS, layout.EVENT, users.events)
    first_u = np.zeros(users.users + 1, np.int64)
    ids: list[Any] = []
    for block_ids, block in users.blocks:
        # Users with about as many events together, since rows are filled up.
        order_n = np.argsort([len(one.item_rows) for one in block], kind="stable")
        after = stream.observe(stream.start(len(block)), [block[n] for n in order_n])
        place = len(ids)
        states[place + order_n] = layout.as_records(after)
        for number, one in enumerate(block, place):
            start = first_u[number]
            first_u[number + 1] = start + len(one.item_rows)
            part = events[start : first_u[number + 1]]
            part["item"], part["time"], part["start"] = one
        ids.extend(block_ids)
    states.flush(), events.flush()
    np.save(directory / layout.FIRST_EVENTS, first_u, allow_pickle=False)
    _write_json(directory / layout.USER_IDS, {"ids": ids})


def _mapped(path: Path, kind: np.dtype[Any], length: int) -> Any:
    return np.lib.format.open_memmap(path, "w+", kind, (length,))


def _save_tensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    save_file(arrays, path)
    # safetensors lets nobody else read what it writes.
    shutil.copymode(path.with_name(layout.ITEMS), path)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
