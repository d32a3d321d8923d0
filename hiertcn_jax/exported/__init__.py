"""Reads and runs an exported model without JAX: numpy, numba, safetensors and onnxruntime.

`layout` says what is in the directory, `reading` opens and checks it, `id_table` turns raw ids into
rows and back, `users` holds the users of the log, `onnx_stream` runs the model, and `explaining`
takes its scores apart.

Imports: item_ids, memory, saving, serving, settings.
"""
