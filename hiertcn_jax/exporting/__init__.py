"""Writes a trained model so that it runs elsewhere: as StableHLO, as ONNX, and as arrays.

`functions` are the two functions that are exported. `onnx_model` turns what JAX traces of them into
ONNX; `directory` writes everything, and `loading` makes a Recommender of it again.

Imports: batch, config, exported, item_ids, memory, models, saving, scoring, serving.
"""
