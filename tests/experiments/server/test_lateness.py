"""A loop that comes back late again and again is behind."""

import asyncio

from experiments.server.lateness import Lateness


def test_twice_in_turn_is_late():
    lateness = Lateness(0.1)
    found = []
    for seconds in (0.0, 0.5, 0.0, 0.2, 0.3, 0.4, 0.05, 0.2):
        lateness.note(seconds)
        found.append(lateness.is_late())
    assert found == [False, False, False, False, True, True, False, False]


def test_it_looks_by_itself():
    """Every look notes something; one that is never late enough finds nothing."""
    noted = []

    async def run():
        lateness = Lateness(1e9)
        note, enough = lateness.note, asyncio.Event()

        def counted(seconds):
            noted.append(seconds)
            note(seconds)
            if len(noted) == 3:
                enough.set()

        lateness.note = counted
        lateness.start()
        await enough.wait()
        return lateness.is_late()

    assert not asyncio.run(run())
    assert all(seconds >= 0 for seconds in noted)
