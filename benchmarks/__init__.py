"""Benchmarks. Each is a command that takes `--json=FILE`."""
