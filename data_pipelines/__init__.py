"""From raw logs to batches: readers, sessions, splits, histories on disk, lanes. No device code."""

from data_pipelines.commands.starting import end_on_signals

# This must come before the libraries are imported.
end_on_signals()
