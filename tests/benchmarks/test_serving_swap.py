"""What is said of requests while a model is replaced."""

from benchmarks.serving_swap import Asked, figures


def test_figures_are_of_the_requests_of_a_span():
    asked = [Asked(at, 0.001 * (1 + at), at != 3) for at in range(10)]
    assert figures(asked, 2, 5) == {
        "requests": 3,
        "failed": 1,
        "p50_ms": 4.0,
        "p99_ms": 5.0,
        "most_ms": 5.0,
        "seconds": 3,
    }
    assert figures([], 0, 1)["requests"] == 0
