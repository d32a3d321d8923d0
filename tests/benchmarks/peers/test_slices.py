import io
import json

import pytest

from benchmarks.peers.slices import FIRST_BATCHES, Slices


class Watch:
    """A training loop of batches that take a second each, on a simulated clock."""

    def __init__(self, *commands):
        self.now = 0.0
        self.finished = []
        self.trained = []
        self.replies = io.StringIO()
        self.slices = Slices(
            io.StringIO("".join(json.dumps({"seconds": s}) + "\n" for s in commands)),
            self.replies,
            describe=lambda: {"parameters": 3},
            finish=lambda: self.finished.append(self.now),
            clock=lambda: self.now,
        )

    def train(self, *epochs):
        for epoch in epochs:
            for batch in self.slices.watch(epoch, lambda batch: 10 * batch):
                self.trained.append(batch)
                self.now += 1

    def messages(self):
        return [json.loads(line) for line in self.replies.getvalue().splitlines()]


def test_a_slice_counts_the_labels_between_its_start_and_its_end():
    watch = Watch(3.0, 2.0)
    with pytest.raises(SystemExit) as end:
        watch.train(range(1, 100))
    assert end.value.code == 0
    ready, first, second = watch.messages()
    assert ready == {"ready": {"parameters": 3}}
    start = FIRST_BATCHES + 1
    assert first["batches"] == first["seconds"] == 3
    assert first["labels"] == 10 * (start + start + 1 + start + 2)
    start += 3
    assert second["batches"] == second["seconds"] == 2
    assert second["labels"] == 10 * (start + start + 1)
    # Every batch was trained on, once and in order, and none was drawn ahead of a command.
    assert watch.trained == list(range(1, start + 2))


def test_epochs_are_one_stream():
    one, many = Watch(5.0, 5.0), Watch(5.0, 5.0)
    with pytest.raises(SystemExit):
        one.train(range(100))
    with pytest.raises(SystemExit):
        many.train(*([batch] for batch in range(100)))
    assert one.trained == many.trained
    for name in ("labels", "batches", "seconds"):
        assert [m[name] for m in one.messages()[1:]] == [m[name] for m in many.messages()[1:]]


def test_a_batch_longer_than_the_slice_is_waited_for():
    watch = Watch(0.001)
    with pytest.raises(SystemExit):
        watch.train(range(100))
    assert watch.messages()[1]["batches"] == 1


def test_a_slice_inherits_no_work_from_before():
    watch = Watch(3.0)
    with pytest.raises(SystemExit):
        watch.train(range(100))
    assert watch.finished == [FIRST_BATCHES, FIRST_BATCHES + 3]
