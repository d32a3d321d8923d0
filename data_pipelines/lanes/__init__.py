"""From histories to batches: endless lanes, their rows, and the loaders.

Imports: embeddings, hashing, hiertcn_jax.batch, hiertcn_jax.memory, histories, sessions.
"""
