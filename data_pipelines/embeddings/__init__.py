"""Given item embeddings: files of rows, their cache, and the SVD that makes some.

Imports: errors, hiertcn_jax.baselines, hiertcn_jax.batch, histories, raw, sessions.
"""
