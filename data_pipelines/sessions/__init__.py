"""Turns columns into sessions: filters, splits, the vocabulary.

Imports: config, errors, hiertcn_jax.batch, histories, raw.
"""
