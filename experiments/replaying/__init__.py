"""Walks a model through time: what it scores at each moment, and how that changes.

Imports: comparison, data_pipelines.errors, data_pipelines.histories, data_pipelines.raw,
data_pipelines.sessions, hiertcn_jax.baselines, hiertcn_jax.batch, hiertcn_jax.exported,
hiertcn_jax.item_ids, hiertcn_jax.memory, hiertcn_jax.scoring, judging, runs, server.
"""
