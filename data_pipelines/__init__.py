"""From raw logs to batches: readers, sessions, splits, histories on disk, lanes. No device code."""
