"""The reference in docs/reference is what the code says."""

from tests.reference import pages


def test_the_reference_is_current():
    for path, text in pages().items():
        assert path.exists(), f"{path.name} is missing; run make reference"
        assert path.read_text() == text, f"{path.name} is not current; run make reference"
