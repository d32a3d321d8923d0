"""Given embeddings, with impressions as negatives, on several devices and processes."""

import signal

import pytest

from experiments.runs.restore import restore_run
from hiertcn_jax.devices.mesh import MeshError
from tests.experiments.cluster_runs import (
    assert_close,
    ended,
    results,
    start,
    state_of,
    wait_for_step,
)
from tests.experiments.small_runs import checkpoint_steps, journal, run_train
from tests.given_files import write_embeddings

STEPS, VALIDATED = 20, 10
RUN = (
    "--negatives=impressions:3,popularity:16,in_batch:8", "--projection_dim=3", f"--steps={STEPS}",
    "--checkpoint_every_steps=5", "--eval_every_epochs=0.8", "--log_every_steps=5",
)  # fmt: skip


@pytest.fixture(scope="module")
def given(shown_data, tmp_path_factory):
    items = shown_data.vocabulary.item_ids.to_list()
    paths = write_embeddings(tmp_path_factory.mktemp("given"), items, 4, dtype="f2")
    return f"--item_embeddings={paths[0]}", f"--item_embedding_ids={paths[1]}"


@pytest.mark.thorough
def test_two_killed_processes_resume_like_one_device(shown_data, given, tmp_path):
    """They train, validate and are killed; eight devices of one process resume from there."""
    one, several = tmp_path / "one", tmp_path / "several"
    run_train(shown_data, one, *RUN, *given)

    processes = start(shown_data, several, tmp_path, *RUN, *given, "--data_parallelism=4")
    wait_for_step(several, VALIDATED, processes)
    for process in processes:
        process.kill()
    assert [code for code, _, _ in ended(processes)] == [-signal.SIGKILL] * 2
    step = checkpoint_steps(several)[-1]
    assert VALIDATED <= step < STEPS
    run_train(shown_data, several, *RUN, *given, "--data_parallelism=8")

    assert state_of(several, STEPS)["batches"] == state_of(one, STEPS)["batches"]
    lines, alone = journal(several), journal(one)
    assert [line["step"] for line in lines if line["kind"] == "valid"] == [10, 20]
    assert_close(lines, alone, 1e-3)
    for split in ("valid", "test"):
        (counted, measured), (expected, values) = (results(w, split) for w in (several, one))
        assert counted == expected
        assert counted["['shown']['all']['events']"] > 50
        assert_close(measured, values, 1e-3)
    trained, alone = (restore_run(workdir, "last").params for workdir in (several, one))
    assert trained["items"].input_vd.shape == (2, 4)
    assert_close(trained, alone, 1e-3)


def test_there_is_no_table_to_share(shown_data, given, tmp_path):
    with pytest.raises(MeshError, match="model_parallelism=2: must be 1 with given embeddings"):
        run_train(shown_data, tmp_path / "run", *given, "--model_parallelism=2")
