"""Logs of one item, of one user, and without a scored event: a result, or one line of advice."""

import itertools

import pytest

from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from data_pipelines.prepare import prepare
from experiments import compare, evaluate
from experiments.comparison.audit import AuditError
from experiments.flags.data_flags import DataLocation
from experiments.runs.data import open_data, require_monitored
from hiertcn_jax.baselines.registry import RANKERS
from tests.experiments.small_runs import run_train, settings_of
from tests.experiments.test_sweep import ranker_sweep
from tests.volume import mostly_thorough

_SECONDS, _DAY = 1_600_000_000, 86_400


def log(directory, users, item_of):
    """Users of five sessions of two events; the last two sessions are valid and test."""
    rows = [
        f"{user},{item_of(user, session, event)},{_SECONDS + session * _DAY + user * 60 + event}"
        for user, session, event in itertools.product(range(users), range(5), range(2))
    ]
    path = directory / "log.csv"
    path.write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    prepare(PrepareConfig(input=(str(path),), output_dir=str(directory / "D")))
    return open_data(directory / "D")


@pytest.fixture(scope="module")
def one_item(tmp_path_factory):
    return log(tmp_path_factory.mktemp("one_item"), 4, lambda user, session, event: 7)


@pytest.fixture(scope="module")
def one_user(tmp_path_factory):
    directory = tmp_path_factory.mktemp("one_user")
    return log(directory, 1, lambda user, session, event: session % 2 + event)


@pytest.fixture(scope="module")
def unknown(tmp_path_factory):
    """Items of test are of test alone; so is the last of valid."""
    directory = tmp_path_factory.mktemp("unknown")
    return log(directory, 4, lambda u, session, event: (u + event) % 3 if session < 4 else 90 + u)


def compared(data, workdir, *models, **changes):
    run = settings_of(data, workdir).run
    given = {"split": Split.TEST, "parameter_budget": 0, "settings": {}, **changes}
    with pytest.MonkeyPatch.context() as patch:
        # Flags are those of this process, which has parsed none.
        patch.setattr(compare.flags_lib, "save_flags", lambda path: path.write_text(""))
        compare.main(compare.Settings(run, data.directory, workdir, list(models), [0], **given))


WITHOUT_SVD = [name for name in RANKERS if name not in ("moving_average", "max_item")]


@pytest.mark.parametrize("kind", ["one_item", "one_user", "unknown"])
def test_every_ranker_is_compared_and_sliced(kind, request, tmp_path, capsys):
    data = request.getfixturevalue(kind)
    compared(data, tmp_path / "C", *WITHOUT_SVD, slices=True)
    said = capsys.readouterr().out
    assert all(f"{name}: done" in said for name in WITHOUT_SVD)
    assert ("not drawn, because no event is scored" in said) == (kind == "unknown")
    assert (tmp_path / "C" / "test_slices.json").is_file()


@pytest.mark.parametrize("kind", mostly_thorough(["one_item", "unknown"], "one_item"))
def test_a_model_is_trained_and_evaluated(kind, request, tmp_path):
    data, workdir = request.getfixturevalue(kind), tmp_path / "W"
    run_train(data, workdir, "--steps=2")
    settings = evaluate.Settings(
        workdir, Split.TEST, "best", workdir / "ranks.csv", DataLocation(), None, slices=True
    )
    evaluate.main(settings)
    lines = (workdir / "ranks.csv").read_text().splitlines()
    assert len(lines) == 1 + (0 if kind == "unknown" else 8)


@pytest.mark.parametrize("name", ["moving_average", "max_item"])
def test_vectors_wider_than_the_catalogue_are_refused_with_the_way_out(one_user, tmp_path, name):
    expected = rf"^{name}: dim=64: must be below the number of items, 3; change that setting of"
    with pytest.raises(DataError, match=expected):
        compared(one_user, tmp_path / "C", "popularity", name)
    compared(one_user, tmp_path / "C", "popularity", name, settings={name: {"dim": 2}})


def test_an_audit_needs_an_event(unknown, tmp_path):
    with pytest.raises(AuditError, match=r"so there is nothing to audit; leave --audit out$"):
        compared(unknown, tmp_path / "C", "popularity", audit=True)


def test_a_sweep_needs_something_to_monitor(tmp_path):
    (tmp_path / "log").mkdir()
    data = log(tmp_path / "log", 4, lambda u, session, event: event if session < 3 else 90 + u)
    expected = "valid has no events on items that train has, so monitor=all/mrr has no value; prep"
    with pytest.raises(DataError, match=expected):
        ranker_sweep(data, tmp_path)
    with pytest.raises(DataError, match="has no value; monitor another group, such as all/mrr, or"):
        require_monitored(data, "next/mrr")
