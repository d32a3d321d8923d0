"""What the report shows is what the Recommender says, and its ranks are those of `evaluate`."""

import numpy as np
import pytest

import hiertcn_jax
from data_pipelines.histories.record import Split
from experiments.flags.data_flags import DataLocation
from experiments.reporting.chosen_users import choose
from experiments.reporting.loaded import load_run
from experiments.reporting.walking import moments_of, shown_before
from experiments.runs.run_results import score
from hiertcn_jax.batch import FIRST_ITEM_ID


@pytest.fixture(scope="module")
def walked(titled_run):
    run = load_run(titled_run, "run", DataLocation())
    users = choose(run.data.histories, 2)
    moments = moments_of(users)
    return run, users, moments, shown_before(run.scorer, run.memory, users, moments)


def test_it_shows_what_the_recommender_would(walked, titled_run):
    run, users, moments, shown = walked
    rec = hiertcn_jax.load(titled_run)
    decode = run.data.vocabulary.decode
    for user, history in enumerate(users):
        state = rec.start()
        for at, one in enumerate(moments):
            if one.user != user:
                continue
            if one.event % 9 == 0:
                table = rec.recommend(state, k=3, at=one.time, explain=True)
                assert decode(shown.rows_nk[at, :3]) == table["item_id"].to_list()
                for name, part_nk in shown.parts.items():
                    np.testing.assert_allclose(part_nk[at, :3], table[name], atol=1e-4)
            known = one.row >= FIRST_ITEM_ID
            item = decode(np.array([one.row]))[0] if known else "unknown"
            starts = one.position == 0
            state = rec.observe(state, item, one.time, new_session=starts, count=False)
        assert state.events_n[0] == len(history.times)


def test_some_events_are_shown_as_among_all(walked):
    run, users, moments, shown = walked
    some = [at for at, one in enumerate(moments) if one.session % 2 and one.position < 3]
    found = shown_before(run.scorer, run.memory, users, [moments[at] for at in some])
    np.testing.assert_array_equal(found.rank_n, shown.rank_n[some])
    np.testing.assert_array_equal(found.rows_nk[:, :5], shown.rows_nk[some, :5])


def test_relative_parts_tell_items_apart(walked):
    _, _, _, shown = walked
    for part_nk in shown.relative.values():
        np.testing.assert_allclose(part_nk.mean(1), 0, atol=1e-4)
    total_nk = sum(shown.parts.values())
    relative_nk = sum(shown.relative.values())
    gaps_nk = total_nk - total_nk.mean(1, keepdims=True)
    np.testing.assert_allclose(relative_nk, gaps_nk, atol=1e-4)


def test_ranks_are_those_of_evaluate(whole):
    """Without memory a rank does not depend on what others do meanwhile."""
    run = load_run(whole, "run", DataLocation())
    evaluation = score(run.restored, run.data, Split.TEST)
    events = evaluation.events
    rank_of = dict(
        zip(
            zip(events.user_n, events.session_n, events.position_n, strict=True),
            evaluation.rank_n,
            strict=True,
        )
    )
    users = list(range(6))
    histories = run.data.histories.__getitems__(users)
    moments = [m for m in moments_of(histories) if (m.user, m.session, m.position) in rank_of]
    shown = shown_before(run.scorer, run.memory, histories, moments)
    for rank, one in zip(shown.rank_n, moments, strict=True):
        expected = rank_of[one.user, one.session, one.position]
        assert rank == expected or (not rank and expected > 100)
