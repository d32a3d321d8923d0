"""Programs that measure: each takes `--json=FILE`."""
