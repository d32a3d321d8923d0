"""The benchmark of long runs: what it sees, and what it holds against a run."""

import json
import os
import threading
import time

import pytest

from benchmarks import soak
from benchmarks.soak import GrowthError, Run, Sample, Settings, figures, growth, look, main
from tests.experiments.conftest import prepared

FLAT = {
    "anonymous_spread": 0.02, "anonymous_most_mb": [410.0, 405.0, 409.5],
    "files": [8, 9, 8, 8], "threads": [95, 96, 95, 96, 95, 96],
    "later_compilations": 0, "stop_s": 30.0,
}  # fmt: skip


def test_what_a_process_holds_is_seen():
    before, stop = look(os.getpid()), threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    kept = bytearray(os.urandom(1 << 20) * 100)
    with open(__file__):
        now = look(os.getpid())
    stop.set()
    thread.join()
    assert now.files == before.files + 1
    assert now.threads == before.threads + 1
    for got, was in (
        (now.anonymous_bytes, before.anonymous_bytes),
        (now.resident_bytes, before.resident_bytes),
    ):
        assert got - was == pytest.approx(len(kept), rel=0.05)


def test_figures_are_of_whole_minutes_and_memory_may_settle_for_five():
    # Five minutes of 300 MB, but for every tenth second; 100 MB, 103 MB; half a minute of more.
    def anonymous(second):
        minute = second // 60
        megabytes = (
            300 + 80 * (second % 10 == 0) if minute < 5 else {5: 100, 6: 103, 7: 200}[minute]
        )
        return megabytes * 10**6

    samples = [
        Sample(second, anonymous(second), 2 * 10**8, 8 + (second % 7 == 0), 20 + (second >= 60))
        for second in range(450)
    ]
    assert figures(samples, [-5.0, -1.0, 3.0]) == {
        "anonymous_mb": [300.0] * 5 + [100.0, 103.0],
        "anonymous_most_mb": [380.0] * 5 + [100.0, 103.0],
        "anonymous_spread": 0.03,
        "resident_mb": [200.0] * 7,
        "files": [8] * 7,
        "threads": [20] + [21] * 6,
        "compilations": 3,
        "later_compilations": 1,
    }


@pytest.mark.parametrize(
    "figure, value",
    [
        ("anonymous_spread", 0.0201), ("anonymous_most_mb", [410.0, 405.0, 410.1]),
        ("files", [8, 8, 9]),
        ("threads", [95, 96, 95, 97, 97, 98]),
        ("later_compilations", 1), ("stop_s", 30.1),
    ],
)  # fmt: skip
def test_growth_of_each_kind_fails(tmp_path, monkeypatch, figure, value):
    assert growth(FLAT) == []
    monkeypatch.setattr(soak, "soak", lambda minutes: {"rows": FLAT | {figure: value}})
    with pytest.raises(GrowthError) as caught:
        main(Settings(str(tmp_path / "soak.json"), 1.0))
    assert str(caught.value) == f"rows: {figure}={value}"
    report = json.loads((tmp_path / "soak.json").read_text())
    assert report["cases"]["rows"][figure] == value


def test_a_run_compiles_nothing_behind_its_first_pass_and_ends_when_asked_to(tmp_path):
    prepared(tmp_path / "log", users=40)
    flags = ("--item_dim=4", "--gru_dim=4", "--tcn_channels=4", "--lanes=8", "--eval_lanes=8")
    run = Run(tmp_path, "rows", *flags)
    try:
        while len(run.samples) < 3:
            run.look()
            time.sleep(0.05)
        case = run.stop()
    finally:
        run.process.kill()
    assert case["validations"] >= 1
    assert case["compilations"] > 5
    assert case["later_compilations"] == 0
    assert case["files"] and case["threads"]


def test_a_run_that_ends_too_early_is_an_error(tmp_path):
    run = Run(tmp_path, "dense", "--nothing_of_that_name")
    run.process.wait()
    with pytest.raises(RuntimeError, match=r"dense: ended: error: .*nothing_of_that_name"):
        run.look()
