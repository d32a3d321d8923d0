import itertools

import numpy as np
import pytest

from data_pipelines.histories.record import Split
from data_pipelines.lanes.distinct_items import ItemRows, to_local_ids
from data_pipelines.lanes.loaders import eval_loader, train_loader
from hiertcn_jax.batch import Bucket, TableItems
from tests.data_pipelines.lanes import walking

BUCKET = Bucket(4, 5, 3)
WEIGHT_V = np.asarray([7, 7, 1, 0, 3, 0, 0, 4, 0], np.float64)


def batches(item_rows, count=3, seed=0, **process):
    loader = train_loader(
        walking.log(11), BUCKET, seed=seed, item_rows=item_rows, prefetch=0, **process
    )
    return list(itertools.islice(loader, count))


def global_negatives(element):
    batch = element.batch
    local = batch.negatives_k if batch.negatives_blk is None else batch.negatives_blk
    return batch.items.distinct_u[local]


@pytest.mark.parametrize("shared, shape", [(True, (6,)), (False, (4, 5, 6))])
@pytest.mark.parametrize("weight_v", [None, WEIGHT_V])
def test_local_ids_lead_back_to_the_global_ones(shared, shape, weight_v):
    for element in batches(ItemRows(9, 6, shared, weight_v)):
        batch, distinct_u = element.batch, element.batch.items.distinct_u
        assert distinct_u.shape == (128,)
        np.testing.assert_array_equal(distinct_u[batch.item_ids_bl], element.info.item_ids_bl)
        negatives = global_negatives(element)
        assert negatives.shape == shape
        assert {batch.item_ids_bl.dtype, negatives.dtype, distinct_u.dtype} == {np.dtype("i4")}
        allowed = range(2, 9) if weight_v is None else np.flatnonzero(weight_v[2:]) + 2
        assert set(negatives.ravel()) <= set(allowed)


def test_distinct_items_are_sorted_after_padding_and_unknown():
    for element in batches(ItemRows(9, 2)):
        distinct_u = element.batch.items.distinct_u
        used = np.union1d([0, 1], element.info.item_ids_bl)
        used = np.union1d(used, global_negatives(element))
        np.testing.assert_array_equal(distinct_u[: len(used)], used)
        assert not distinct_u[len(used) :].any()


def test_the_room_for_distinct_items_is_the_most_that_can_occur_rounded_up():
    assert ItemRows(10_000, 100).distinct_rows(4, 50) == 384  # 2 + 4 * 50 + 100 = 302
    assert ItemRows(10_000, 2, shared=False).distinct_rows(4, 50) == 640  # 2 + 4 * 50 * 3 = 602
    assert ItemRows(130, 100).distinct_rows(4, 50) == 256  # the table itself


def test_with_lists_a_batch_has_the_smallest_of_a_few_rooms():
    assert ItemRows(10_000, 100).rooms(4, 50) == (384,)
    assert ItemRows(10_000, 100, listed=9).rooms(4, 50) == (384, 768, 1536, 2176)
    assert ItemRows(500, 100, listed=9).rooms(4, 50) == (384, 512)  # the table itself
    few, many = np.arange(100, dtype=np.int32), np.arange(101, dtype=np.int32)
    batch = batches(None, 1)[0].batch
    for listed, room in ((few, 100), (many, 200)):
        local, distinct_u = to_local_ids(batch.replace(negatives_k=listed), 500, (100, 200))
        assert distinct_u.shape == (room,)
        np.testing.assert_array_equal(distinct_u[local.item_ids_bl], batch.item_ids_bl)
        np.testing.assert_array_equal(distinct_u[local.negatives_k], listed)


@pytest.mark.parametrize("shared", [True, False])
def test_negatives_are_a_function_of_seed_step_and_lane(shared):
    items = ItemRows(10_000, 3, shared)
    drawn = [global_negatives(element) for element in batches(items)]
    assert not np.array_equal(drawn[0], drawn[1])
    other = [global_negatives(element) for element in batches(items, seed=1)]
    assert not np.array_equal(drawn[0], other[0])
    halves = [batches(items, process_index=index, process_count=2) for index in range(2)]
    for step, expected in enumerate(drawn):
        # With several processes ids stay global: the items of other lanes are not known.
        assert halves[0][step].batch.items == TableItems()
        own = [
            half[step].batch.negatives_k if shared else half[step].batch.negatives_blk
            for half in halves
        ]
        for half in halves:
            element = half[step]
            np.testing.assert_array_equal(element.batch.item_ids_bl, element.info.item_ids_bl)
        if shared:
            np.testing.assert_array_equal(own[0], expected)
            np.testing.assert_array_equal(own[1], expected)
        else:
            np.testing.assert_array_equal(np.concatenate(own), expected)


@pytest.mark.parametrize("weight_v", [None, WEIGHT_V])
def test_negatives_follow_the_weights(weight_v):
    drawn = np.concatenate(
        [global_negatives(element) for element in batches(ItemRows(9, 20_000, True, weight_v), 2)]
    )
    share = np.bincount(drawn, minlength=9) / len(drawn)
    expected = np.append([0, 0], np.full(7, 1 / 7) if weight_v is None else WEIGHT_V[2:] / 8)
    # Five standard deviations of a share of at most 1/2 over 40,000 draws: 5 * 0.5 / 200.
    np.testing.assert_allclose(share, expected, atol=0.0125)


def test_evaluation_has_local_ids_too():
    loader = eval_loader(
        walking.log(5), BUCKET, split=Split.TEST, item_rows=ItemRows(9), prefetch=0
    )
    for element in loader:
        distinct_u, local = element.batch.items.distinct_u, element.batch.item_ids_bl
        np.testing.assert_array_equal(distinct_u[local], element.info.item_ids_bl)


def test_an_item_that_is_no_row_of_the_table_is_an_error():
    element = batches(None, 1)[0]
    with pytest.raises(ValueError, match=r"items 0\.\.8 in a table of 5 rows"):
        to_local_ids(element.batch, table_rows=5, rooms=(128,))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((2,), "table_rows=2: must be > 2"),
        ((9, -1), "negatives=-1: must be >= 0"),
        ((9, 1, True, np.ones(8)), r"weight_v has shape \(8,\), not \(9,\)"),
        ((9, 1, True, -np.ones(9)), "weight_v: must be >= 0 everywhere"),
        ((9, 1, True, np.zeros(9)), "weight_v: must be >= 0 everywhere"),
    ],
)
def test_items_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ItemRows(*arguments)


@pytest.mark.parametrize("shared", [True, False])
def test_impressions_are_distinct_items_and_precede_drawn_negatives(shared):
    source = walking.with_shown(walking.log(11))

    def batches_of(impressions, item_rows):
        loader = train_loader(
            source, BUCKET, seed=0, impressions=impressions, item_rows=item_rows, prefetch=0
        )
        return list(itertools.islice(loader, 3))

    own = batches_of(3, None)
    drawn = batches_of(0, ItemRows(9, 2, shared))
    both = batches_of(3, ItemRows(9, 2, shared, impressions=3))
    assert any(element.batch.negatives_blk.any() for element in own)
    for element, shown, other in zip(both, own, drawn, strict=True):
        batch, distinct_u = element.batch, element.batch.items.distinct_u
        other, others_u = other.batch, other.batch.items.distinct_u
        assert not np.any(distinct_u[batch.negatives_blk[..., :3]] != shown.batch.negatives_blk)
        if shared:
            assert batch.negatives_blk.shape == (4, 5, 3)
            items_k = distinct_u[batch.negatives_k]
            np.testing.assert_array_equal(items_k, others_u[other.negatives_k])
        else:
            np.testing.assert_array_equal(
                distinct_u[batch.negatives_blk[..., 3:]],
                others_u[other.negatives_blk],
            )


def test_there_is_room_for_the_impressions_of_every_event():
    # 2 + 4 * 50 * (1 + 3) + 100 = 902, and 2 + 4 * 50 * (1 + 3 + 2) = 1202.
    assert ItemRows(10_000, 100, impressions=3).distinct_rows(4, 50) == 1024
    assert ItemRows(10_000, 2, shared=False, impressions=3).distinct_rows(4, 50) == 1280
