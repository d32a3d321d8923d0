"""benchmarks.all_users: every user gets recommendations, and figures have their units."""

import pytest

from benchmarks.all_users import measure


@pytest.mark.thorough
def test_all_users_of_a_small_log():
    found = measure(users=12, items=40, width=4)
    assert found["users"] == 12
    assert found["peak_bytes"] > 1 << 20
    assert set(found) == {"users", "count_s", "recommend_s", "users_per_s", "peak_bytes"}
