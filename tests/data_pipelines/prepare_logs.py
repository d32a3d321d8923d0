"""Rows of small logs for the tests of prepare, and a config of one."""

import itertools

from tests.data_pipelines.logs import small_times_config, write_csv

ROWS = [
    f"user {user},item {(user + session) % 4},{86_400 * session + user + 10 * event}"
    for user, session, event in itertools.product(range(5), range(3), range(2))
]


def config_of(tmp_path, **changes):
    if "input" not in changes and "synthetic" not in changes:
        changes["input"] = (write_csv(tmp_path / "log.csv", *ROWS),)
    return small_times_config(**{"output_dir": str(tmp_path / "D"), **changes})


def seconds(user, day, event=0):
    return 1_600_000_000 + day * 86_400 + user + 10 * event


INTEGERS = [
    (user, user % 3 + 10, seconds(user, day, event))
    for user in range(5)
    for day in range(3)
    for event in range(2)
]


def rows_of(events):
    return [",".join(map(str, event)) for event in events]
