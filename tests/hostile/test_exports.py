"""Exports with files damaged, missing or made to mislead: refused in one line, or read right."""

import json
import shutil
from random import Random

import numpy as np
import pytest

from hiertcn_jax.exported import layout
from hiertcn_jax.exported.onnx_stream import OnnxStream
from hiertcn_jax.exported.reading import Export, ExportError
from hiertcn_jax.exporting.directory import UsersToExport
from hiertcn_jax.saving.checksums import write_checksums
from hiertcn_jax.saving.json_files import parse_json
from hiertcn_jax.serving.user_states import Events, from_bytes
from tests.exporting.test_directory import WITH_MEMORY, exported
from tests.hostile.damage import damaged, flipped, truncated
from tests.hostile.outcomes import Outcomes
from tests.volume import few

ONE_AGAIN = "; export the run again with this version"
KINDS = {
    "manifest": r".+/manifest\.json: .+",
    "size": r".+: \d+ bytes, but .+ were written; copy the export again, or make it again",
    "hash": r".+: changed since it was written: its SHA-256 differs; copy the export again, .+",
    "missing": r".+: missing; copy the export again, or make it again",
    "foreign": r".+: not in manifest\.json; copy the export again, or make it again",
}
SIGNED = {
    "manifest": r".+/manifest\.json: .+",
    "ids": r".+\.json: (is not a list of ids|must hold text or whole numbers, each once).*",
    "length": r".+: \d+ entries, must be \d+" + ONE_AGAIN,
    "unreadable": r".+: cannot be read: .+",
    "another array": r".+: is not the array that an export has there" + ONE_AGAIN,
    "no state": r".+: (is no state of this version|holds impossible values)" + ONE_AGAIN,
    "events": r".+/(first|events)\.npy: .*must (rise|be rows) .+" + ONE_AGAIN,
    "counts": r".+/memory\.safetensors: .+" + ONE_AGAIN,
    "weights": r".+/weights\.safetensors: items/input must have \d+ rows" + ONE_AGAIN,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An export with counts and users; opened, its start state is read."""
    times = 1_700_000_000 - 60 * np.arange(6)[::-1]
    events = [Events(np.array([2, 3, 1], np.int32), times[:3], times[:3] == times[0])] * 3
    users = UsersToExport([(["a", "b", "c"], events)], 3, 9)
    return exported(tmp_path_factory.mktemp("whole"), WITH_MEMORY, users)[2]


def read_all(directory):
    """All that an export holds but its models, and what memory lists."""
    export = Export(directory)
    memory = export.memory()
    states = [export.users.state_of(user) for user in export.users.ids.ids]
    for state in (export.start, *states):
        now = np.maximum(state.last_time_n, memory.known_from)
        memory.lists(now, state.own_nm, state.position_n)
    events = export.users.events_of(export.users.ids.ids)
    arrays = {**export.weights(), **memory.arrays()}
    return [export.items.ids, export.users.ids.ids, states, events, arrays, export.manifest]


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return np.array_equal(one, other)


def damage_a_file(rng, directory):
    """Damages a file in some way; returns a description."""
    path = rng.choice(sorted(path for path in directory.rglob("*") if path.is_file()))
    kind = rng.choice(("bytes", "bit", "cut", "gone", "foreign", "folder", "moved", "nothing"))
    if kind in ("bytes", "bit", "cut"):
        change = {"bytes": damaged, "bit": flipped, "cut": truncated}[kind]
        path.write_bytes(change(rng, path.read_bytes()))
    elif kind == "foreign":
        (path.parent / rng.choice(("notes.txt", "x.npy", ".hidden"))).write_text("x")
    elif kind != "nothing":
        path.rename(path.with_name(path.name + ".old")) if kind == "moved" else path.unlink()
        if kind == "folder":
            path.mkdir()
    return f"{kind} {path.name}"


def test_a_damaged_export_is_refused_or_holds_what_it_held(whole, tmp_path):
    expected, inputs = read_all(whole.directory), few(30, of=600)
    outcomes = Outcomes(KINDS)
    for seed in range(inputs):
        rng, directory = Random(seed), shutil.copytree(whole.directory, tmp_path / "X")
        done = damage_a_file(rng, directory)
        try:
            found = read_all(directory)
        except ExportError as error:
            outcomes.refused(error)
        else:
            # Facts of the manifest alone have no checksum.
            assert same(found[:-1], expected[:-1]), (seed, done)
            outcomes.right()
        shutil.rmtree(directory)
    outcomes.require(inputs)


def sign(directory):
    """Updates the manifest's checksums to the files as they now are."""
    path = directory / layout.MANIFEST
    facts = parse_json(path.read_text())
    path.unlink()
    write_checksums(directory, layout.MANIFEST, facts)


def edit(rng, directory):
    """Changes an array, a list of ids, or any bytes of a file that holds data."""
    names = (layout.ITEMS, layout.USER_IDS, layout.START, layout.STATES, layout.EVENTS,
             layout.FIRST_EVENTS, layout.MEMORY, layout.WEIGHTS)  # fmt: skip
    path = directory / rng.choice(names)
    if path.suffix == ".npy" and rng.random() < 0.7:
        array = np.load(path)
        change = rng.choice(("longer", "shorter", "type", "axes", "values"))
        if change == "values":
            octets = array.view(np.uint8)
            octets[rng.randrange(len(octets))] ^= rng.randrange(1, 256)
        elif change == "type":
            array = array.view(np.uint8)
        elif change == "axes":
            array = array[None]
        else:
            array = np.concatenate([array, array]) if change == "longer" else array[:-1]
        np.save(path, array)
        return f"{change} {path.name}"
    path.write_bytes(damaged(rng, path.read_bytes()))
    return f"bytes {path.name}"


def test_wrong_files_with_valid_checksums_are_refused_or_usable(whole, tmp_path):
    outcomes, inputs = Outcomes(SIGNED), few(50, of=2000)
    for seed in range(inputs):
        rng, directory = Random(seed), shutil.copytree(whole.directory, tmp_path / "X")
        done = edit(rng, directory)
        sign(directory)
        try:
            read_all(directory)
        except ExportError as error:
            outcomes.refused(error)
        except Exception as error:
            raise AssertionError((seed, done)) from error
        else:
            outcomes.right()
        shutil.rmtree(directory)
    outcomes.require(inputs, never=("manifest", "weights"))


FACTS = ("kind", "schema", "model_id", "gap_seconds", "newest", "rows", "memory", "config",
         "columns", "functions", "files")  # fmt: skip
VALUES = (None, True, -1, 10**30, 0.5, float("nan"), "x" * 10_000, [], {}, [[]], "\x1b[2J")


@pytest.mark.parametrize("name", FACTS)
def test_other_facts_of_the_manifest_are_refused_in_one_line(whole, tmp_path, name):
    directory = shutil.copytree(whole.directory, tmp_path / "X")
    path = directory / layout.MANIFEST
    facts, refused = parse_json(path.read_text()), 0
    for value in VALUES:
        path.write_text(json.dumps({**facts, name: value}))
        try:
            read_all(directory)
        except ExportError as error:
            line = str(error)
            assert "\n" not in line and len(line) < 1000 and str(directory) in line
            refused += 1
    assert refused >= 5


STATES = {
    "no state": r"state: these bytes are no state of a user",
    "header": r"state: its header is damaged; observe its events again",
    "schema": r"state: schema .+, this version reads \d+; observe its events again",
    "model": r"state: of model .+, not m; observe its events again",
    "length": r"state: \d+ bytes, must be \d+; observe its events again",
    "changed": r"state: its bytes have changed; observe its events again",
}


def test_a_damaged_state_is_refused_or_the_same(whole):
    stream, outcomes, inputs = OnnxStream(whole), Outcomes(STATES), few(400, of=5000)
    state = whole.users.state_of("a")
    data, rows = state.to_bytes("m"), whole.items.size
    for seed in range(inputs):
        rng = Random(seed)
        # Mostly where the header is: it is short.
        broken = damaged(rng, data[:90]) + data[90:] if seed % 2 else damaged(rng, data)
        try:
            found = from_bytes(broken, stream.start(), "m", rows)
        except ValueError as error:
            outcomes.refused(error)
        else:
            assert same(list(found.arrays), list(state.arrays)), seed
            outcomes.right()
    outcomes.require(inputs)


@pytest.mark.parametrize(
    ("field", "value"),
    [("own_nm", -1), ("own_nm", 10**6), ("position_n", -1), ("position_n", 99),
     ("first_time_n", 2**40)],
)  # fmt: skip
def test_a_state_of_impossible_values_is_refused(whole, field, value):
    """Compiled code would read, and write, at these rows."""
    state = whole.users.state_of("a")
    wrong = state._replace(**{field: np.full_like(getattr(state, field), value)})
    with pytest.raises(ValueError, match="state: holds impossible values; observe its events"):
        from_bytes(wrong.to_bytes("m"), OnnxStream(whole).start(), "m", whole.items.size)
