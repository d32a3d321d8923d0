"""Reads and runs an exported model without JAX: numpy, numba, safetensors and onnxruntime.

`layout` says what is in the directory, `reading` opens and checks it, `id_table` turns raw ids into
rows and back, `users` holds the users of the log, and `onnx_stream` runs the model.

Imports: item_ids, memory, saving, serving, settings.
"""
