"""The scale benchmark on tiny sizes, and the log that it draws while reading."""

import json

import numpy as np
import pytest

from benchmarks.accelerators import Accelerator, projected_hours
from benchmarks.scale import PAPER_EVENTS, PAPER_USERS, Command, kept_bytes, main
from benchmarks.step_rows import Settings
from benchmarks.streamed_users import StreamedUsers
from benchmarks.users import globo_lengths
from data_pipelines.histories.record import find_problem
from hiertcn_jax.batch import FIRST_ITEM_ID, Bucket
from hiertcn_jax.models.hiertcn import HierTCNConfig


def test_a_history_depends_on_its_index_alone():
    source = StreamedUsers(events=10_000, items=50, seed=3)
    together = source.__getitems__([5, 0, 7])
    for index, history in zip([5, 0, 7], together, strict=True):
        alone = source[index]
        assert alone.user_id == history.user_id == str(index)
        for field in ("item_ids", "times", "session_lengths", "session_splits"):
            np.testing.assert_array_equal(getattr(alone, field), getattr(history, field))
    other = StreamedUsers(events=10_000, items=50, seed=4)[5]
    assert other.item_ids.tolist() != together[0].item_ids.tolist()


def test_drawn_histories_are_sound_and_distributed_as_said():
    items = 40
    source = StreamedUsers(events=200_000, items=items, seed=0)
    histories = source.__getitems__(range(len(source)))
    assert find_problem(histories, items + FIRST_ITEM_ID) is None
    sessions, lengths = globo_lengths()
    sessions_n = np.asarray([len(history.session_lengths) for history in histories])
    length_m = np.concatenate([history.session_lengths for history in histories])
    assert sessions_n.mean() == pytest.approx(sessions.mean(), rel=0.03)
    assert length_m.mean() == pytest.approx(lengths.mean(), rel=0.03)
    assert length_m.sum() == pytest.approx(200_000, rel=0.05)
    shares = np.bincount(np.concatenate([history.item_ids for history in histories]) - 2)
    expected = np.log1p(1 / np.arange(1, items + 1)) / np.log(items + 1)
    np.testing.assert_allclose(shares / shares.sum(), expected, atol=5e-3)
    assert all(np.all(np.diff(history.times) > 0) for history in histories)


def test_the_slower_of_products_and_memory_sets_the_pace():
    chip = Accelerator(bfloat16_flops_per_s=1e12, bytes_per_s=1e9, source="")
    # 3.6e9 events of 1e6 FLOPs at 0.5e12 a second; of 1,000 bytes at 0.5e9 a second.
    assert projected_hours(chip, 0.5, 3.6e9, 1e6, 10) == pytest.approx(2)
    assert projected_hours(chip, 0.5, 3.6e9, 1e6, 10_000) == pytest.approx(20)


@pytest.mark.thorough
def test_the_report(tmp_path):
    config = HierTCNConfig(item_dim=16, gru_dim=16, tcn_channels=(16, 16), item_mode="rows")
    settings = Settings(("hiertcn",), Bucket(4, 8, 4), 1, 0, 8, config, 0, 1, 2, 0.0)
    main(Command((200, 2000), settings, 50, str(tmp_path / "scale.json")))
    cases = json.loads((tmp_path / "scale.json").read_text())["cases"]
    small, large = cases["200 events"], cases["2,000 events"]
    assert small["items"] == 2
    assert large["items"] == 20
    assert large["users"] > small["users"]
    assert small["events_read"] >= 200
    assert large["events_read"] >= 2000
    assert small["step_times_first"] == small["loader_times_first"] == 1
    assert small["flops_per_event"] > 0
    paper = {name: case for name, case in cases.items() if name.startswith("paper")}
    at_20, at_40 = (paper[f"paper: A100 at {share}%"] for share in (20, 40))
    assert at_20["hours_an_epoch"] == pytest.approx(2 * at_40["hours_an_epoch"], rel=0.02)
    loader = paper["paper: loader of this machine, one thread"]["hours_an_epoch"]
    assert loader == pytest.approx(PAPER_EVENTS / large["loader_events_per_s"] / 3600, abs=1e-3)
    assert (
        paper["paper: all users"]["kept_bytes"]
        == PAPER_USERS * kept_bytes(config)["per_user_bytes"]
    )


def test_bytes_that_a_user_keeps():
    config = HierTCNConfig(item_dim=16, gru_dim=16, tcn_channels=(16, 16), kernel_size=3)
    # GRU state, pool with its count, last item's channels, and 2 and 4 inputs of the convolutions.
    assert kept_bytes(config) == {
        "per_user_bytes": 4 * (16 + 16 + 1 + 16 + 2 * 16 + 4 * 16),
        "per_learned_item_bytes": 3 * 16 * 4,
        "per_given_item_bytes": 16 * 2,
    }
