"""Known logs of docs/datasets.md: a small made file of each format, prepared with its flagfile."""

import gzip
import json
import re

import polars as pl
import pytest

from data_pipelines.prepare import prepare
from tests.data_pipelines.test_real_layouts import FLAGFILES, ROOT, flagfile_config

DAY = 86_400
START = 1_600_000_000
EVENTS = [
    (user, (user + day + event) % 4 + 100, START + DAY * 2 * day + 60 * event + user, day)
    for user in range(12)
    for day in range(4)
    for event in range(3)
]
"""User, item, seconds, day: four sessions of three events for each of twelve users."""


def stamp(seconds):
    return pl.Series([seconds * 1000]).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%S")[0]


def lines(head, row, end="\n"):
    return end.join([*head, *(row(*event) for event in EVENTS)]) + end


def a_session(user, day):
    """The number of a session where there are no users."""
    return 10 * user + day


TEXTS = {
    "retailrocket_events": (
        "events.csv",
        lines(
            ["timestamp,visitorid,event,itemid,transactionid", f"{START}000,1,addtocart,101,"],
            lambda user, item, time, _: f"{time}000,{user},view,{item},",
        ),
    ),
    "diginetica": (
        "train-item-views.csv",
        lines(
            ["session_id;user_id;item_id;timeframe;eventdate"],
            # Whole days: users on days of their own, or a cut would find all at one time.
            lambda u, i, t, d: f"{a_session(u, d)};NA;{i};526309;{stamp(t + u * DAY)[:10]}",
        ),
    ),
    "yoochoose": (
        "yoochoose-clicks.dat",
        lines([], lambda u, item, time, day: f"{a_session(u, day)},{stamp(time)}.277Z,{item},0"),
    ),
    "movielens": (
        "ratings.csv",
        lines(["userId,movieId,rating,timestamp"], lambda u, i, time, _: f"{u},{i},3.5,{time}"),
    ),
    "amazon2023": (
        "Video_Games.csv.gz",
        lines(
            ["user_id,parent_asin,rating,timestamp"], lambda u, i, t, _: f"AE{u},B0{i},5.0,{t}000"
        ),
    ),
    "kuairand": (
        "log_standard_4_08_to_4_21_1k.csv",
        lines(
            [
                "user_id,video_id,date,hourmin,time_ms,is_click,is_like,play_time_ms",
                f"1,101,20220408,1500,{START}000,0,0,12",
            ],
            lambda user, item, time, _: f"{user},{item},20220408,1500,{time}000,1,0,900",
        ),
    ),
    "lastfm1k": (
        "userid-timestamp-artid-artname-traid-traname.tsv",
        lines(
            ["user_000001\t2009-05-04T23:08:57Z\t\tNobody\t\tUntitled"],
            lambda user, item, time, _: (
                f'user_{user:06}\t{stamp(time)}Z\t{item}-a\t"The" {item}\t{item}-t\tSong "A'
            ),
        ),
    ),
}


def run_block(heading):
    """Runs the Python of a section of docs/datasets.md in the present folder."""
    text = (ROOT / "docs" / "datasets.md").read_text()
    (block,) = re.findall(rf"^## {re.escape(heading)}\n.*?^```python\n(.*?)^```", text, re.M | re.S)
    exec(compile(block, heading, "exec"), {})


def write_30music(folder):
    """A line of a session: its facts, then its user and its plays, with a space between them."""
    sessions = {}
    for user, item, time, day in EVENTS:
        start = START + DAY * 2 * day
        _, plays = sessions.setdefault((user, day), (start, []))
        plays.append({"type": "track", "id": item, "playstart": time - start, "playtime": 60})
    with (folder / "sessions.idomaar").open("w") as file:
        for (user, day), (start, plays) in sessions.items():
            facts = {"numtracks": len(plays), "playtime": 180}
            linked = {"subjects": [{"type": "user", "id": user}], "objects": plays}
            number = a_session(user, day)
            file.write(
                f"event.session\t{number}\t{start}\t{json.dumps(facts)} {json.dumps(linked)}\n"
            )
    run_block("30Music")
    return folder / "30music.parquet"


def write_otto(folder):
    users = {}
    for user, item, time, _ in EVENTS:
        users.setdefault(user, []).append({"aid": item, "ts": time * 1000, "type": "clicks"})
    users[0].append({"aid": 100, "ts": START * 1000, "type": "carts"})
    rows = [json.dumps({"session": user, "events": events}) for user, events in users.items()]
    (folder / "otto-recsys-train.jsonl").write_text("\n".join(rows) + "\n")
    run_block("OTTO")
    return folder / "otto.parquet"


def write_yambda(folder):
    users, items, times, _ = zip(*EVENTS, strict=True)
    since_start = [(time - START) // 5 * 5 for time in times]
    frame = pl.DataFrame({"uid": users, "timestamp": since_start, "item_id": items})
    path = folder / "listens.parquet"
    frame.cast(pl.UInt32).with_columns(is_organic=pl.lit(1, pl.UInt8)).write_parquet(path)
    return path


WRITERS = {
    "30music": write_30music,
    "otto": write_otto,
    "yambda": write_yambda,
}

WITHOUT_USERS = ("diginetica", "yoochoose")


@pytest.mark.parametrize("name", [*TEXTS, *WRITERS])
def test_a_made_file_of_the_format(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name in WRITERS:
        path = WRITERS[name](tmp_path)
    else:
        file, text = TEXTS[name]
        path = tmp_path / file
        path.write_bytes(gzip.compress(text.encode()) if file.endswith(".gz") else text.encode())
    output = tmp_path / "D"
    manifest = prepare(flagfile_config(f"{name}_prepare.flags", input=path, output_dir=output))
    counts = manifest["counts"]
    assert counts["events"] == len(EVENTS)
    assert counts["users"] == (48 if name in WITHOUT_USERS else 12)
    assert counts["sessions"] == 48
    assert all(part["events"]["all"] > 0 for part in counts["splits"].values())


def test_the_page_names_every_flagfile_that_prepares():
    text = (ROOT / "docs" / "datasets.md").read_text()
    named = set(re.findall(r"`(\w+_prepare)`", text))
    assert named == {path.stem for path in FLAGFILES.glob("*_prepare.flags")}
