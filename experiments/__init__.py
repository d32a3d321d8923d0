"""The commands: absl runners around the library and the data pipelines."""

# Importing data_pipelines has set the handlers of signals (data_pipelines/commands/starting.py).
from data_pipelines.commands.allocator import share_one_heap

# Here, for it has to come before any library starts a thread.
share_one_heap()
