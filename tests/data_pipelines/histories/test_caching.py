from data_pipelines.histories.caching import CachedHistories
from tests.data_pipelines.lanes import walking


class Reads(walking.ListSource):
    def __init__(self, histories):
        super().__init__(histories)
        self.read = []

    def __getitems__(self, indices):
        self.read += indices
        return super().__getitems__(indices)


def test_each_history_is_read_once():
    source = Reads(walking.log(5))
    cached = CachedHistories(source, max_bytes=1 << 20)
    assert len(cached) == 5
    for indices in ([3, 1], [1, 2, 3], [0, 0, 4, 2]):
        histories = cached.__getitems__(indices)
        assert all(
            history is source[index] for history, index in zip(histories, indices, strict=True)
        )
    assert source.read == [3, 1, 2, 0, 0, 4]


def test_histories_that_do_not_fit_are_read_again():
    source = Reads(walking.log(3))
    cached = CachedHistories(source, max_bytes=2_500)
    for _ in range(3):
        assert cached.__getitems__([0, 1, 2]) == list(source)
    assert source.read == [0, 1, 2, 2, 2]
