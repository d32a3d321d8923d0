"""The report: one well-formed page that asks for nothing else, with text for every picture."""

import itertools
import json
import re
import shutil
import xml.etree.ElementTree as ET

import pytest
from absl import flags
from absl.testing import flagsaver

from data_pipelines.errors import DataError
from experiments import report
from experiments.reporting import why_section
from experiments.reporting.results_section import replay_charts
from experiments.reporting.run_files import read_files


def write(output, *workdirs, **more):
    report.main(report.Settings(workdirs, output, **more))
    return output.read_text()


def parsed(text):
    """The page as a tree: it is well formed, so that no browser has to guess."""
    start = "<!DOCTYPE html>\n"
    assert text.startswith(start)
    return ET.fromstring(text.removeprefix(start))


def said(element):
    return " ".join("".join(element.itertext()).split())


@pytest.fixture(scope="module", autouse=True)
def few_users():
    """Reasons are those of events of a few users, so that a page takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(why_section, "_USERS", 8)
        yield


@pytest.fixture(scope="module")
def text(titled_run, tmp_path_factory):
    """The page of a run with memory and titles, beside a copy of it."""
    place = tmp_path_factory.mktemp("report")
    shutil.copytree(titled_run, place / "other")
    return write(place / "report.html", titled_run, place / "other")


def test_the_page_is_one_file_that_asks_for_nothing(text):
    assert len(text) < 3_000_000
    page = parsed(text)
    ids = [one.get("id") for one in page.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    for one in page.iter():
        assert one.tag not in ("script", "link", "img", "iframe", "object")
        assert not {"src", "srcset", "style", "onclick"} & set(one.keys())
        if one.get("href"):
            assert one.get("href").removeprefix("#") in ids
    (style,) = page.iter("style")
    assert not re.search(r"url\(|@import|//", style.text)


def test_every_picture_and_table_has_a_text(text):
    page = parsed(text)
    for one in page.iter("svg"):
        assert one.get("aria-hidden") == "true" or (
            one.get("role") == "img" and one.get("aria-label")
        )
    for one in page.iter("table"):
        assert said(one.find("caption"))
    assert page.get("lang") == "en"
    levels = [int(one.tag[1]) for one in page.iter() if re.fullmatch("h[1-6]", one.tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_page_says_what_the_run_holds(text, titled, titled_run):
    page = parsed(text)
    sections = {one.get("id"): said(one) for one in page.iter("section")}
    test = json.loads((titled_run / "test.json").read_text())
    assert f"{test['all']['mrr']:.4f}" in sections["result"]
    assert f"{test['first']['recall@20']:.4f}" in sections["result"]
    assert f"{titled.manifest['counts']['events']:,}, " in sections["data"]
    assert "title " in sections["users"]
    assert "follows" in sections["users"]
    assert "half-life" in sections["why"]
    assert "hiertcn" in sections["models"]
    assert "step" in sections["learning"]


def test_several_runs_stand_side_by_side(text):
    page = parsed(text)
    users = [one for one in page.iter("details") if one.get("class") == "user"]
    assert len(users) == 6
    shown = [said(one) for one in page.iter("div") if one.get("class") == "shown beside"]
    assert len(shown) % 2 == 0
    for one, same in zip(shown[::2], shown[1::2], strict=True):
        assert one.replace("run would", "") == same.replace("other would", "")


def test_a_run_without_memory_has_no_parts(whole, tmp_path):
    page = parsed(write(tmp_path / "report.html", whole, user_ids=("7", "8")))
    assert [one.get("class") for one in page.iter("details")].count("user") == 2
    assert "why" not in {one.get("id") for one in page.iter("section")}
    assert not [one for one in page.iter("svg") if one.get("class") == "bar"]


def comparison(directory, data, name="stan"):
    directory.mkdir()
    metrics = ("recall@1", "recall@5", "recall@10", "recall@20", "mrr", "ndcg@10")
    figures = {metric: {"mean": 0.25, "std": 0.125} for metric in metrics}
    groups = dict.fromkeys(("all", "first", "next"), figures)
    difference = {"first": "a", "second": "b", "group": "all", "metric": "mrr"}
    difference |= {"difference": 0.5, "low": 0.25, "high": 0.75}
    values = {
        "split": "valid", "data": str(data.directory), "data_hash": data.content_hash,
        "events_hash": "x", "summary": {name: {**groups, "counts": None}},
        "differences": [difference],
    }  # fmt: skip
    (directory / "compare.json").write_text(json.dumps(values))
    bins = [{"bin": label, "events": 2, "mrr": 0.5} for label in ("0", "1")]
    slices = {"position": {"title": "position", "bins": bins}}
    models = {name: [{"seed": None, "slices": slices}]}
    (directory / "valid_slices.json").write_text(json.dumps({"models": models}))
    return directory


def test_a_comparison_shows_deviations_intervals_and_slices(data, tmp_path):
    directory = comparison(tmp_path / "C", data, "<stan>")
    page = parsed(write(tmp_path / "report.html", directory))
    sections = {one.get("id"): said(one) for one in page.iter("section")}
    assert "<stan>" in sections["result"]
    assert "0.2500 ± 0.1250" in sections["result"]
    assert "+0.2500 to +0.7500" in sections["result"]
    assert "By position in the session" in sections["slices"]
    assert "users" not in sections


def test_scores_through_time_are_those_of_the_replay(titled_run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(titled_run, workdir)
    assert replay_charts(read_files(workdir, "run")) == []
    bins = [{"bin": day, "events": 3, "mrr": mrr} for day, mrr in (("1 May", 0.5), ("2 May", 0.25))]
    row = {"slices": {"time": {"title": "start of the period", "bins": bins}}}
    (workdir / "replay").mkdir()
    (workdir / "replay" / "replay.json").write_text(json.dumps({"models": {"hiertcn": row}}))
    (chart,) = replay_charts(read_files(workdir, "run"))
    assert [one.text for one in ET.fromstring(chart).iter("td")] == ["0.5", "0.25"]


def test_bad_input_is_one_line(data, titled, titled_run, tmp_path):
    output = tmp_path / "report.html"
    other = data._replace(manifest={**data.manifest, "content_hash": "sha256:0"})
    with pytest.raises(DataError, match=f"^workdir={data.directory}: is a prepared log"):
        write(output, data.directory)
    with pytest.raises(DataError, match=r"^workdir=.*nowhere: no such directory"):
        write(output, tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"^user_ids=nobody: is not in"):
        write(output, titled_run, user_ids=("nobody",))
    with pytest.raises(DataError, match=r"^workdir=C: was made with another log"):
        write(output, titled_run, comparison(tmp_path / "C", other))
    damaged = tmp_path / "damaged"
    shutil.copytree(titled_run, damaged)
    (damaged / "test.json").write_text("{}")
    with pytest.raises(DataError, match="its results are not as this version writes them"):
        write(output, damaged)
    (damaged / "test.json").unlink()
    (damaged / "metrics.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"metrics.jsonl: has a line that is no JSON"):
        write(output, damaged)
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workdir=a", "--output=report.pdf"), "--output=report.pdf: must end with .html"),
        (("--workdir=a,a", "--output=r.html"), "--workdir=a,a: must name one or more"),
    ],
)
def test_bad_flags(arguments, message):
    with flagsaver.flagsaver():
        report.define_flags()
        flags.FLAGS(["report", *arguments])
        with pytest.raises(ValueError, match=message):
            report.read_settings()
