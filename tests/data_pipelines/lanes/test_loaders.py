import itertools
import json

import numpy as np
import pytest
from grain.experimental import LimitIterDataset, assert_equal_output_after_checkpoint

from data_pipelines.histories.record import Split
from data_pipelines.lanes.distinct_items import ItemRows
from data_pipelines.lanes.loaders import (
    eval_loader,
    merge_states,
    require_state,
    train_loader,
    useful_slots,
)
from hiertcn_jax.batch import UNKNOWN_ID, Bucket
from tests.data_pipelines.lanes import walking

BUCKET = Bucket(4, 5, 3)
ITEMS = ItemRows(9, 6, shared=False, impressions=3)


def loader_of(kind, **arguments):
    source = walking.with_shown(walking.log(11))
    if kind == "train":
        return train_loader(source, BUCKET, seed=0, impressions=3, **arguments)
    return eval_loader(source, BUCKET, split=Split.TEST, **arguments)


def as_dicts(elements):
    return [walking.as_dict(element) for element in elements]


@pytest.mark.parametrize("kind", ["train", "eval"])
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("item_rows", [None, ITEMS])
def test_restores_at_every_step(kind, prefetch, item_rows):
    loader = loader_of(kind, prefetch=prefetch, item_rows=item_rows).map(walking.as_dict)
    assert_equal_output_after_checkpoint(LimitIterDataset(loader, count=9))


def test_an_evaluation_restores_at_every_step_to_its_end():
    assert_equal_output_after_checkpoint(loader_of("eval").map(walking.as_dict))


@pytest.mark.parametrize("kind", ["train", "eval"])
@pytest.mark.parametrize("before, after", [(1, 2), (2, 4), (4, 1)])
def test_restores_on_another_number_of_processes(kind, before, after):
    def processes(count):
        return [
            iter(loader_of(kind, item_rows=ITEMS, process_index=index, process_count=count))
            for index in range(count)
        ]

    iterators = processes(before)
    for iterator in iterators:
        list(itertools.islice(iterator, 3))
    state = merge_states([json.loads(json.dumps(iterator.get_state())) for iterator in iterators])
    expected = [as_dicts(itertools.islice(iterator, 4)) for iterator in iterators]
    restored = []
    for iterator in processes(after):
        iterator.set_state(state)
        restored.append(as_dicts(itertools.islice(iterator, 4)))
    for step in range(len(expected[0])):
        for name in ("global_ids_bl", "user_position_bl", "gap_hours_bs", "starts_user_bs"):
            np.testing.assert_array_equal(
                np.concatenate([part[step][name] for part in restored]),
                np.concatenate([part[step][name] for part in expected]),
            )


def test_states_of_different_steps_do_not_merge():
    iterator = iter(loader_of("train"))
    before = iterator.get_state()
    next(iterator)
    with pytest.raises(ValueError, match="states differ in step"):
        merge_states([before, iterator.get_state()])


@pytest.mark.parametrize("rows", [None, ITEMS])
def test_a_state_of_other_stages_is_refused_by_field(rows):
    iterator = iter(loader_of("train", item_rows=rows))
    like = iterator.get_state()
    list(itertools.islice(iterator, 2))
    state = json.loads(json.dumps(iterator.get_state()))
    require_state(state, like, 2)
    stages, stage, outer = [], state, like
    while True:
        stages.append((stage, outer))
        if "parent" not in stage:
            break
        stage, outer = stage["parent"], outer["parent"]
    assert len(stages) > (rows is not None)
    for stage, outer in stages:
        for name in list(stage):
            value = stage.pop(name)
            with pytest.raises(ValueError, match=f"^batches.'{name}': missing$"):
                require_state(state, like, 2)
            stage[name] = value
        stage["more"] = 3
        with pytest.raises(ValueError, match=r"^batches.'more': unknown$"):
            require_state(state, like, 2)
        del stage["more"]
        for name in {"step", "counter"} & stage.keys():
            for value in (1, 3, -1, True, "2", None, 2.0):
                changed = json.loads(json.dumps(stage)) | {name: value}
                with pytest.raises(ValueError, match=f"^batches.{name}=.*: must be 2$"):
                    require_state(changed, outer, 2)
    for value in (None, [], 3, "state"):
        with pytest.raises(ValueError, match=r"^batches=.*: must be fields"):
            require_state(value, like, 2)


def test_prefetching_changes_nothing():
    ahead = as_dicts(itertools.islice(loader_of("train", prefetch=3), 6))
    np.testing.assert_equal(ahead, as_dicts(itertools.islice(loader_of("train", prefetch=0), 6)))


def test_an_exhausted_iterator_stays_exhausted():
    iterator = iter(loader_of("eval"))
    list(iterator)
    assert list(iterator) == []


def test_each_user_is_trained_on_once_an_epoch():
    source = walking.log(11)
    train_events = sum(record.session_lengths[:-2].sum() for record in source)
    loader = train_loader(source, Bucket(1, 5, 3), seed=0)
    events = walking.lane_events(list(itertools.islice(loader, 200)))[0]
    for epoch in range(2):
        part = events[epoch * train_events : (epoch + 1) * train_events]
        keys = {(event["user"], event["user_position"]) for event in part}
        assert len(keys) == len(part) == train_events
    assert all(event["target"] for event in events)


def test_fit_on_train_valid_adds_the_valid_sessions():
    source = walking.log(3)
    loader = train_loader(source, Bucket(1, 5, 3), seed=0, fit_on="train_valid")
    events = walking.lane_events(list(itertools.islice(loader, 40)))[0]
    sessions = {(event["user"], event["session_in_user"]) for event in events}
    assert sessions == {
        (user, session)
        for user, record in enumerate(source)
        for session in range(len(record.session_lengths) - 1)
    }


@pytest.mark.parametrize("split", [Split.VALID, Split.TEST])
def test_scored_and_unknown_targets_are_the_events_of_the_part(split):
    source = walking.log(11)
    scored = unknown = 0
    for element in eval_loader(source, BUCKET, split=split):
        scored += element.batch.scored_bl.sum()
        unknown += (element.info.target_bl & (element.info.item_ids_bl == UNKNOWN_ID)).sum()
        np.testing.assert_array_equal(element.batch.loss_weight_bl > 0, element.batch.scored_bl)
    lengths = [record.session_lengths[record.session_splits == split].sum() for record in source]
    assert unknown > 0
    assert scored + unknown == sum(lengths)


def test_without_a_split_all_sessions_of_all_users_come_and_none_is_scored():
    source = walking.log(5)
    source.append(walking.history([4], [Split.TRAIN]))
    elements = list(eval_loader(source, BUCKET, split=None))
    events = sum((element.info.item_ids_bl > 0).sum() for element in elements)
    assert events == sum(len(record.item_ids) for record in source)
    assert not any(element.batch.scored_bl.any() for element in elements)


def test_useful_slots_is_the_share_of_events():
    # Sessions of 1 event, 2 of them in a row of 5.
    source = walking.ListSource([walking.history([1] * 10, [0] * 10)])
    assert useful_slots(train_loader(source, Bucket(3, 5, 2), seed=0), 4) == pytest.approx(0.4)


def test_missing_or_misspelt_arguments_are_errors():
    source = walking.ListSource([walking.history([2], [Split.TEST])])
    with pytest.raises(ValueError, match="none of the 1 users has a session in the part train"):
        train_loader(source, BUCKET, seed=0)
    with pytest.raises(ValueError, match="none of the 1 users has a session in the part valid"):
        eval_loader(source, BUCKET, split=Split.VALID)
    with pytest.raises(ValueError, match="fit_on=test: must be one of train, train_valid"):
        train_loader(source, BUCKET, seed=0, fit_on="test")
