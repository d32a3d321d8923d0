"""Several models on the same events: cells, tables, leakage audit. Imports judging, runs."""
