"""Tables of results: 80 columns, nothing cut off, and the events that are not scored."""

import pytest

from data_pipelines.histories.record import Split
from experiments.judging.result_tables import (
    COLUMNS,
    LEGEND,
    LISTS_COLUMNS,
    LISTS_LEGEND,
    metrics_table,
    print_results,
    print_table,
    result_table,
    scored_line,
)

GROUPS = ("all", "first", "next")


def evaluation(events=690, unknown=305, value=0.12344, **more):
    """The JSON of an evaluation, all of its metrics equal."""
    metrics = {group: {"events": events, **dict.fromkeys(COLUMNS, value)} for group in GROUPS}
    return {"events": events - unknown, "unknown_targets": unknown, **metrics, **more}


def printed(capsys, table):
    print_table(table)
    return capsys.readouterr().out.splitlines()


@pytest.fixture(params=["40", "80", "200"], autouse=True)
def columns(request, monkeypatch):
    """The width of the terminal."""
    monkeypatch.setenv("COLUMNS", request.param)


def test_a_table_of_large_numbers_fits_80_columns(capsys):
    shown = evaluation(events=1_234_567)
    rows = {"hiertcn": evaluation(events=1_234_567, shown=shown), "popularity": evaluation()}
    lines = printed(capsys, metrics_table(rows))
    assert max(map(len, lines)) <= 80
    words = [line.split() for line in lines]
    for model in (["hiertcn"], ["popularity"], ["hiertcn", "(shown)"]):
        (place,) = (
            at for at, line in enumerate(words) if line[: -len(COLUMNS) - 1] == [*model, "all"]
        )
        for line, group in zip(words[place : place + 3], GROUPS, strict=True):
            assert line[-len(COLUMNS) - 2] == group and line[-len(COLUMNS) :] == ["0.1234"] * len(
                COLUMNS
            )


def test_a_long_name_is_wrapped_and_no_number_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(capsys, metrics_table({"rolling_popularity_" * 4: evaluation()}))
    assert max(map(len, lines)) <= 80
    assert "".join(line[:20].split(" ")[0] for line in lines).count("rolling_popularity_") == 4
    assert sum(line.count("0.1234") for line in lines) == 3 * len(COLUMNS)


def test_a_table_that_needs_more_is_not_cut_off(capsys):
    table = result_table(dict.fromkeys("abcdefghijklmnopqrst", False), "[red]runs/a")
    table.add_row(*["123456"] * 20)
    lines = printed(capsys, table)
    assert lines[0].strip() == "[red]runs/a"
    assert sum(line.count(digit) for line in lines for digit in "123456") == 120


def test_a_metric_without_a_value_is_a_dash(capsys):
    (line,) = printed(capsys, metrics_table({"m": evaluation(events=0, value=None)}))[-3:-2]
    assert line.split() == ["m", "all", "0", *["-"] * len(COLUMNS)]


def test_the_events_that_are_not_scored_are_explained():
    assert scored_line(Split.TEST, {"events": 385, "unknown_targets": 305}) == (
        "385 of 690 test events; 305 are of items not seen in training"
    )
    assert scored_line(Split.VALID, {"events": 1385, "unknown_targets": 0}) == (
        "all 1,385 valid events"
    )


def test_results_have_a_title_the_events_and_a_legend(capsys):
    print_results("runs/a, checkpoint of step 3", Split.TEST, {"hiertcn": evaluation()})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == [
        "runs/a, checkpoint of step 3",
        "385 of 690 test events; 305 are of items not seen in training",
    ]
    assert LEGEND in lines and lines[-1] == LISTS_LEGEND
    assert max(map(len, (LEGEND, LISTS_LEGEND))) <= 80


def test_top_items_have_a_table_of_their_own_and_older_files_a_dash_in_it(capsys):
    new = evaluation(shown=evaluation())
    for group in GROUPS:
        new[group] |= {"coverage@20": 0.25, "log_popularity@20": 3.5}
    lines = printed(capsys, metrics_table({"new": new, "old": evaluation()}, LISTS_COLUMNS))
    assert max(map(len, lines)) <= 80
    words = [line.split() for line in lines]
    assert ["new", "all", "690", "0.2500", "3.5000"] in words
    assert ["old", "all", "690", "-", "-"] in words
    assert not any("(shown)" in line for line in lines)
