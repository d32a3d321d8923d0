"""The commands: absl runners around the library and the data pipelines."""
