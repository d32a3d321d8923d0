import json

from benchmarks.common import write_report
from benchmarks.loader import measure, measure_all
from data_pipelines.histories.record import Split
from data_pipelines.lanes.loaders import eval_loader
from hiertcn_jax.batch import Bucket
from tests.data_pipelines.lanes import walking


def test_an_evaluation_is_measured_whole():
    source = walking.log(11)
    bucket = Bucket(4, 5, 3)
    loader = eval_loader(source, bucket, split=Split.TEST, prefetch=0)
    events = sum(len(history.item_ids) for history in source)
    batches = len(list(loader))
    figures = measure(loader)
    assert figures["batches"] == batches
    assert figures["useful_slots"] == round(events / (batches * 4 * 5), 5)
    assert figures["events_per_s"] > 0


def test_the_report_names_machine_commit_and_cases(tmp_path):
    source = walking.log(11)
    events = sum(int(history.session_lengths[:-2].sum()) for history in source)
    counts = {"items": 9, "splits": {"train": {"events": {"all": events}}}}
    cases = measure_all(source, counts, Bucket(4, 5, 3), epochs=1, negatives=2)
    write_report(tmp_path / "loader.json", "cases", cases, note="here")
    report = json.loads((tmp_path / "loader.json").read_text())
    assert list(report) == ["machine", "commit", "cases"]
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["note"] == "here"
    assert set(report["cases"]) == {
        *("lanes", "disk", "disk_rows", "evaluation", "lanes_memory", "evaluation_memory")
    }
