"""One training run: data, assembly, loop, journal, restore. Imports flags, processes, judging."""
