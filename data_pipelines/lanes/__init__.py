"""From histories to batches: lanes without end, rows, loaders.

Imports: embeddings, hiertcn_jax.batch, hiertcn_jax.memory, histories.
"""
