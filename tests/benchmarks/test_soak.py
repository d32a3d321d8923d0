"""The benchmark of long runs: what it measures, and what makes it fail."""

import json
import mmap
import os
import threading
import time

import pytest

from benchmarks import soak
from benchmarks.soak import GrowthError, Run, Sample, Settings, figures, growth, look, main
from tests.experiments.conftest import prepared

FLAT = {
    "epochs": 20, "resident_spread": 0.02, "files": [8, 9, 8, 8],
    "threads": [95, 96, 95, 96, 95, 96],
    "later_compilations": 0, "stop_s": 30.0,
}  # fmt: skip


def test_a_sample_shows_what_a_process_holds():
    before, stop = look(os.getpid(), 0), threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    kept = bytearray(os.urandom(1 << 20) * 100)
    with open(__file__):
        now = look(os.getpid(), 1)
    stop.set()
    thread.join()
    assert (before.epoch, now.epoch) == (0, 1)
    assert now.files == before.files + 1
    assert now.threads == before.threads + 1
    assert now.resident_bytes - before.resident_bytes == pytest.approx(len(kept), rel=0.05)


def test_the_peak_counts_from_the_previous_sample():
    def growth_of_peak(size):
        before = look(os.getpid(), 0).resident_bytes
        held = mmap.mmap(-1, size)
        held.write(b"x" * size)
        held.close()
        return look(os.getpid(), 0).peak_bytes - before

    assert growth_of_peak(200 << 20) > 190 << 20
    assert growth_of_peak(1 << 20) < 100 << 20


def test_figures_cover_whole_epochs_after_the_first_five():
    # Five epochs of 100 MB; then means of 250, 255 and 252 MB, reached at one moment of each
    # validation; and an epoch that has not ended.
    peaks = [100] * 5 + [240, 260] + [249, 261] + [250, 254] + [500]
    samples = []
    for epoch, peak in enumerate(peaks, 1):
        lasts = 3 + 40 * (epoch % 3)
        for second in range(lasts):
            resident = peak if second == lasts - 1 else min(peak, 200)
            sample = (90 * 10**6, resident * 10**6, 8 + (second > 0), 20 + (epoch > 1))
            samples.append(Sample(len(samples), epoch, *sample))
    assert figures(samples, [-5.0, -1.0, 3.0]) == {
        "epochs": 11,
        "resident_mb": [float(peak) for peak in peaks[:-1]],
        "resident_least_mb": [90.0] * 11,
        "resident_spread": 0.02,
        "files": [8] * 11,
        "threads": [20] + [21] * 10,
        "compilations": 3,
        "later_compilations": 1,
    }


@pytest.mark.parametrize(
    "figure, value",
    [
        ("epochs", 19), ("resident_spread", 0.0201), ("files", [8, 8, 9]),
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


@pytest.mark.thorough
def test_a_run_compiles_nothing_after_its_first_pass_and_ends_on_request(tmp_path):
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
    assert case["validations"] >= case["epochs"] >= 1
    assert case["compilations"] > 5
    assert case["later_compilations"] == 0
    assert case["files"] and case["threads"]


def test_a_run_that_ends_too_early_is_an_error(tmp_path):
    run = Run(tmp_path, "dense", "--nothing_of_that_name")
    run.process.wait()
    with pytest.raises(RuntimeError, match=r"dense: ended: error: .*nothing_of_that_name"):
        run.look()
