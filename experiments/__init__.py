"""The commands: absl runners around the library and the data pipelines."""

# Importing data_pipelines has set the signal handlers (data_pipelines/commands/starting.py).
from data_pipelines.commands.allocator import share_one_heap

# This must come before any library starts a thread.
share_one_heap()
