"""Prepares a log with Apache Beam: pipeline stages that call the functions of a single machine.

Imports: config, embeddings, errors, hiertcn_jax.batch, histories, impressions, raw, sessions.
"""
