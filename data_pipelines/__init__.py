"""From raw logs to batches: readers, sessions, splits, histories on disk, lanes. No device code."""

from data_pipelines.commands.starting import end_on_signals

# Here, for it has to come before the libraries are imported.
end_on_signals()
