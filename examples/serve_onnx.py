"""Recommends from an exported run with numpy and onnxruntime alone.

    python serve_onnx.py EXPORT USER [ITEM ...]

prints the best items for a user of the log, or a new one, after clicks on these items a minute
apart. It is for models without terms of memory: those also count what everybody does, which
`hiertcn_jax.exported` does. hiertcn_jax/exported/layout.py describes the directory.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

UNKNOWN = 1  # The row of an item that the catalogue does not have; those of the catalogue follow.


class Model:
    """An exported run."""

    def __init__(self, directory):
        self.directory = directory = Path(directory)
        self.manifest = json.loads((directory / "manifest.json").read_text())
        if self.manifest["memory"]:
            sys.exit(f"{directory}: its model has terms of memory; use hiertcn_jax.exported")
        catalogue = json.loads((directory / "items.json").read_text())
        self.items = catalogue["ids"]
        self.titles = catalogue.get("columns", {}).get("title", [None] * len(self.items))
        self.row_of = {str(item): row for row, item in enumerate(self.items, UNKNOWN + 1)}
        self.observing, self.recommending = (
            onnxruntime.InferenceSession(str(directory / f"{name}.onnx"))
            for name in ("observe", "recommend")
        )
        self.newest = self.manifest["newest"]

    def state_of(self, user):
        """The state of a user of the log after all events, or of somebody new: one record."""
        ids = self.directory / "users" / "ids.json"
        known = json.loads(ids.read_text())["ids"] if ids.exists() else []
        for number, one in enumerate(known):
            if str(one) == user:
                states = np.load(self.directory / "users" / "states.npy", mmap_mode="r")
                return np.array(states[number : number + 1])
        return np.load(self.directory / "start.npy")

    def moment(self, state, time, inputs):
        """What the model reads of an event at a time: its place, the pause, and the state."""
        pause = max(time - state["last_time"][0], 0) if state["events"][0] else 0
        starts = state["events"][0] == 0 or pause > self.manifest["gap_seconds"]
        since = state["last_time"] + pause - state["first_time"] if state["events"][0] else [0]
        feed = {
            "position": np.where(starts, 0, state["position"]).astype(np.int32),
            "user_position": state["events"],
            "seconds": np.minimum(since, 2**31 - 1).astype(np.int32),
            "gap_hours": np.array([pause / 3600 if starts else 0], np.float32),
            **{name: state[name] for name in state.dtype.names if name.startswith("carry_")},
        }
        return {one.name: feed[one.name] for one in inputs if one.name in feed}

    def observe(self, state, item, time):
        """The state after a click."""
        feed = self.moment(state, time, self.observing.get_inputs())
        feed["item"] = np.array([self.row_of.get(str(item), UNKNOWN)], np.int32)
        after, (position,) = state.copy(), feed["position"]
        for number, carry in enumerate(self.observing.run(None, feed)):
            after[f"carry_{number}"] = carry
        after["last_time"] = max(time, state["last_time"][0]) if state["events"][0] else time
        after["first_time"] = state["first_time"] if state["events"][0] else time
        after["position"], after["events"] = position + 1, state["events"] + 1
        after["own"] = np.concatenate([[feed["item"]], state["own"][:, :-1]], 1)
        return after

    def recommend(self, state, time, k=10):
        """The best items for the next click, with their scores and titles."""
        feed = self.moment(state, time, self.recommending.get_inputs())
        feed["excluded"] = np.zeros((1, 1), np.int32)
        feed["allowed"] = np.ones(self.manifest["rows"], bool)
        feed["k"] = np.array([min(k, len(self.items))])
        rows, scores = self.recommending.run(["rows", "scores"], feed)
        places = rows[0] - UNKNOWN - 1
        items, titles = ([known[place] for place in places] for known in (self.items, self.titles))
        return list(zip(items, scores[0].tolist(), titles, strict=True))


if __name__ == "__main__":
    model = Model(sys.argv[1])
    state, time = model.state_of(sys.argv[2]), model.newest
    for item in sys.argv[3:]:
        time += 60
        state = model.observe(state, item, time)
    for item, score, title in model.recommend(state, time):
        print(f"{item}\t{score:.4f}\t{title or ''}")
