"""Readers under coverage-guided fuzzing, each input checked against the plain second reader.

    python -m tests.hostile.fuzz_readers DIRECTORY -runs=100000 -seed=1

Inputs start from odd but valid files; inputs that reach new code are kept in DIRECTORY/corpus. The
other arguments are libFuzzer's. Prints how often each outcome occurred, and its peak memory.
"""

import json
import re
import sys
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["data_pipelines"]):
    from tests.hostile import test_readers
    from tests.hostile.log_files import log_file
    from tests.hostile.outcomes import Outcomes

# The first byte of an input selects the type of the file in the rest.
TYPES = (("log.csv", ","), ("log.tsv", "\t"), ("log.csv.gz", ","))
CORPUS = 60


def write_corpus(directory: Path) -> None:
    """Valid files to start from."""
    for seed in range(CORPUS):
        log = log_file(Random(seed), bad_rows=0.2)
        kinds = [kind for kind, (name, _) in enumerate(TYPES) if name == log.name]
        if kinds:
            (directory / str(seed)).write_bytes(bytes(kinds) + log.data)


def _peak_mb() -> float:
    """The most memory that this program held."""
    (peak,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak) / 1024


def main() -> None:
    """Fuzzes until the runs are done, or an input is neither read correctly nor refused."""
    program, directory, *arguments = sys.argv
    corpus = Path(directory) / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    write_corpus(corpus)
    outcomes, done = Outcomes(test_readers.KINDS), [0]
    (runs,) = (int(text[6:]) for text in arguments if text.startswith("-runs="))

    def check(data: bytes) -> None:
        name, separator = TYPES[data[0] % len(TYPES)] if data else TYPES[0]
        test_readers.check(Path(directory).absolute() / name, data[1:], separator, outcomes)
        done[0] += 1
        if done[0] == runs:
            said = {"inputs": runs, "outcomes": outcomes.counts, "peak_mb": _peak_mb()}
            print(json.dumps(said), flush=True)

    atheris.Setup([program, *arguments, str(corpus)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
