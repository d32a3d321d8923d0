"""Given item embeddings: files of rows, a cache for them, and an SVD that computes some.

Imports: errors, hiertcn_jax.baselines, hiertcn_jax.batch, histories, raw, sessions.
"""
