"""The model changes while requests come: none fails, and nothing that was accepted is lost."""

import json
import shutil
import threading

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import save_file
from starlette.testclient import TestClient

from experiments.server.app import make_app
from experiments.server.engine import Engine
from experiments.server.opening import open_store
from experiments.server.requests import Ask, Event
from experiments.server.swapping import Swapper
from experiments.server.worker import Worker
from hiertcn_jax.exported.layout import ITEMS, MANIFEST, MEMORY
from hiertcn_jax.exported.onnx_stream import OnnxStream
from hiertcn_jax.exported.reading import Export, ExportError
from hiertcn_jax.memory.memory import Memory
from tests.experiments.server.conftest import NEWEST, NOW, seal


@pytest.fixture(scope="module")
def models(export, tmp_path_factory):
    """A folder with the export, and another one of a log that ends a day later."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("first", "second"):
        shutil.copytree(export.directory, folder / name)
    memory, later = Memory(export.items.size), NEWEST + 86_400
    for item in (9, 10, 9):
        nothing = np.zeros((1, 8), np.int32)
        memory.observe(np.array([item], np.int32), np.array([later]), nothing, np.array([0]))
    save_file(memory.compacted().arrays(), folder / "second" / MEMORY)
    items = json.loads((folder / "second" / ITEMS).read_text())
    items["columns"]["title"] = [f"second title of {one}" for one in items["ids"]]
    (folder / "second" / ITEMS).write_text(json.dumps(items))
    seal(folder / "second", model_id="second", newest=later)
    return folder


@pytest.fixture
def worker(models, place, clock):
    """Serves the first export."""
    worker = Worker(Engine(Export(models / "first"), open_store(place)[0], clock))
    yield worker
    if worker.running:
        worker.close()


def swapped(worker, directory):
    """Swaps, and waits until the states of active users are made again."""
    engine = Swapper(worker).start(directory).result(60)
    for thread in threading.enumerate():
        if thread.name == "swap":
            thread.join()
    return engine


def best(engine, user):
    (answer,) = engine.recommend([Ask(user, n=9)])
    return [item for item, _ in answer.items], [score for _, score in answer.items]


def test_a_swap_under_requests(worker, models):
    """Every request is answered, by one of the two models, and knows the event before it."""
    swapper = Swapper(worker, models)
    accepted, seen, wrong = [], set(), []
    stop, many = threading.Event(), threading.Event()

    def use(client, user):
        number = 0
        while not stop.is_set():
            event = {"user": user, "item": f"i{2 + number % 9}", "time": NOW - 9_000 + number}
            taken = client.post("/v1/events", json={"events": [event]})
            answer = client.get(f"/v1/recommend/{user}?n=10&exclude_seen=true&explain=true")
            if taken.status_code != 200 or answer.status_code != 200:
                wrong.append((taken.text, answer.text))
                break
            accepted.append((user, event["time"]))
            found = answer.json()
            seen.add(found["model"])
            if event["item"] in {one["item"] for one in found["items"]}:
                wrong.append((event, found))
            prefix = {"m": "title", "second": "second title"}[found["model"]]
            if any(
                one["title"] not in (None, f"{prefix} of {one['item']}") for one in found["items"]
            ):
                wrong.append(found)
            number += 1
            if len(accepted) > 20:
                many.set()

    with TestClient(make_app(worker, None, swapper), raise_server_exceptions=False) as client:
        users = [threading.Thread(target=use, args=(client, name)) for name in ("a", "x", "y")]
        for user in users:
            user.start()
        assert many.wait(60)
        for name in ("second", "first", "second"):
            answer = client.post("/v1/model", json={"export_dir": name})
            assert answer.status_code == 200, answer.text
            model = {"first": "m", "second": "second"}[name]
            assert answer.json()["model"] == client.get("/readyz").json()["model"] == model
            many.clear()
            assert many.wait(60)
        stop.set()
        for user in users:
            user.join()
        assert not wrong
        assert seen == {"m", "second"}
        kept = {
            (user, one["time"])
            for user in ("a", "x", "y")
            for one in client.get(f"/v1/users/{user}").json()["received"]
        }
        newest = {user: sorted(t for u, t in accepted if u == user)[-200:] for user in "axy"}
        assert {(user, t) for user, times in newest.items() for t in times} <= kept
        assert 'hiertcn_model_info{model="second"' in client.get("/metrics").text
        assert client.get("/v1/items/i5/similar").json()["model"] == "second"


def test_a_swap_is_as_a_restart(worker, models, place, clock):
    """The same states, counts and answers; those who were active are known already."""
    events = [
        Event(user, f"i{2 + n % 9}", NOW - 900 * (40 - n)) for n in range(40) for user in ("a", "x")
    ]
    worker.observe(events).result(60)
    engine = swapped(worker, models / "second")
    stored = worker.call(lambda one: one._store.users(["a", "x"])).result(60)
    assert {one.version for one in stored.values()} == {engine.version}
    answers = {user: worker.call(lambda e, u=user: best(e, u)).result(60) for user in "axb"}
    worker.close()
    again = Engine(Export(models / "second"), open_store(place)[0], clock)
    for name, array in again.counts.memory.arrays().items():
        np.testing.assert_array_equal(array, engine.counts.memory.arrays()[name], name)
    assert (again.counts.number, again.counts.events) == (
        engine.counts.number,
        engine.counts.events,
    )
    for user, (items, scores) in answers.items():
        found = best(again, user)
        assert found[0] == items
        np.testing.assert_allclose(found[1], scores, rtol=1e-5)
    again.close()


def test_prepared_states_follow_what_comes_later(worker, models):
    """Later events, and users who were forgotten and came back."""
    export = Export(models / "second")

    def events(start, users):
        return [Event(user, f"i{2 + n % 9}", NOW - 9_000 + n) for n in start for user in users]

    worker.observe(events(range(20), "axy")).result(60)
    users = worker.call(lambda engine: engine.users_of(export, OnnxStream(export))).result(60)
    users.prepare(worker.call(lambda _: users.kept_of(["a", "x", "y", "z"])).result(60))
    assert sorted(users.prepared) == ["a", "x", "y"]
    worker.call(lambda engine: engine.forget("x")).result(60)
    worker.observe(events(range(20, 25), "ax")).result(60)
    fresh = worker.call(lambda engine: engine.users_of(export, OnnxStream(export))).result(60)
    found, expected = (
        worker.call(lambda _, one=one: one.find(["a", "x", "y", "z"])).result(60)
        for one in (users, fresh)
    )
    for array, same in zip(found.states.arrays, expected.states.arrays, strict=True):
        np.testing.assert_allclose(array, same, rtol=1e-5, atol=1e-6)
    assert not users.prepared


def damaged(folder):
    file = folder / "observe.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"?")


def without_manifest(folder):
    (folder / MANIFEST).unlink()


def no_model(folder):
    (folder / "recommend.onnx").write_bytes(b"no model")
    seal(folder)


def no_numbers(folder):
    path = folder / "recommend.onnx"
    model = onnx.load(path, load_external_data=False)
    (rows,) = [one for one in model.graph.initializer if one.name == "item_rows"]
    rows.CopyFrom(numpy_helper.from_array(np.full(tuple(rows.dims), np.nan, np.float32), rows.name))
    onnx.save(model, path)
    seal(folder)


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        (damaged, "observe.onnx: changed since it was written"),
        (without_manifest, "manifest.json: missing"),
        (no_model, "recommend.onnx: onnxruntime cannot run it"),
        (no_numbers, "recommendations have scores that are no numbers"),
    ],
)
@pytest.mark.parametrize("place", ["file"], indirect=True)
def test_a_broken_export_is_refused(worker, models, tmp_path, breaks, reason):
    shutil.copytree(models / "second", tmp_path / "broken")
    breaks(tmp_path / "broken")
    before, engine = worker.call(lambda engine: best(engine, "a")).result(60), worker.engine
    with pytest.raises(ExportError, match=reason):
        swapped(worker, tmp_path / "broken")
    assert worker.engine is engine
    assert worker.call(lambda engine: best(engine, "a")).result(60) == before


@pytest.mark.parametrize("place", ["file"], indirect=True)
def test_what_clients_may_name(worker, models, tmp_path):
    (models / "link").symlink_to(tmp_path)
    swapper = Swapper(worker, models)
    with TestClient(make_app(worker, None, swapper)) as client:

        def asked(name):
            answer = client.post("/v1/model", json={"export_dir": name})
            return answer.status_code, answer.json().get("detail", answer.json().get("model"))

        for name in ("../elsewhere", "link", str(tmp_path), ".", "/"):
            assert asked(name) == (422, f"export_dir: {name!r} is not below --models_dir")
        assert asked("a\0b")[0] == 422
        assert asked("missing")[0] == 422
        assert asked(str(models / "first")) == (200, "m")
        with swapper._running:
            assert asked("second")[0] == 409
    (models / "link").unlink()


def test_without_a_folder_of_models_clients_may_name_nothing(engine):
    with TestClient(make_app(Worker(engine))) as client:
        answer = client.post("/v1/model", json={"export_dir": "x"})
        assert answer.status_code == 403
        assert "started without --models_dir" in answer.json()["detail"]
